"""The precision that a network computes in."""

from __future__ import annotations

import pytest
import torch

from vrtool.model.acceleration import pick_precision


@pytest.mark.parametrize(
    ("device", "has_bfloat16", "expected"),
    [("cuda", True, "bfloat16"), ("cuda", False, "float32"), ("cpu", True, "float32"), ("mps", True, "float32")],
)
def test_auto_takes_bfloat16_only_on_a_cuda_gpu_that_has_it(
    monkeypatch: pytest.MonkeyPatch, device: str, has_bfloat16: bool, expected: str
) -> None:
    monkeypatch.setattr("vrtool.model.acceleration.has_bfloat16", lambda _: has_bfloat16)
    picked = pick_precision("auto", torch.device(device))
    assert picked.precision == expected
    assert picked.reason


def test_a_precision_that_was_asked_for_is_taken() -> None:
    assert pick_precision("float16", torch.device("cpu")).precision == "float16"
