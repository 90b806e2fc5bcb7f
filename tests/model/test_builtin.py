"""The weights that come with vrtool: small, described, and ready to be used and trained further."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch

from vrtool.model import build_model
from vrtool.model.checkpoint import BUILTIN, BUILTIN_FILE, find_checkpoint, load_checkpoint, load_model
from vrtool.model.fitting import describe_misfits
from vrtool.recipe import load_recipe, parse_recipe

SMALL = Path(__file__).parents[2] / "recipes" / "small.toml"


def test_they_are_halves_of_at_most_25_megabytes() -> None:
    assert BUILTIN_FILE.stat().st_size <= 25_000_000
    weights = load_checkpoint(BUILTIN_FILE).weights.values()
    assert {weight.dtype for weight in weights if weight.is_floating_point()} == {torch.float16}


def test_their_card_tells_what_people_should_know() -> None:
    checkpoint = load_checkpoint(find_checkpoint(Path(BUILTIN)))
    for entry in ("name", "licence", "data", "training", "scores", "weaknesses"):
        text = checkpoint.card[entry]
        assert isinstance(text, str)
        assert len(text) > 20
        assert "@@" not in text
    recipe = parse_recipe(checkpoint.recipe, origin="the recipe that the weights carry")
    assert recipe.model == checkpoint.model == load_recipe(SMALL).model
    assert 0 < cast(int, checkpoint.progress["step"]) <= recipe.training.num_steps


def test_what_lies_about_under_that_name_is_never_taken_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / BUILTIN).mkdir()
    (tmp_path / BUILTIN / "best.safetensors").write_bytes(b"another")
    assert find_checkpoint(Path(BUILTIN)) == BUILTIN_FILE
    assert load_model().config == load_checkpoint(BUILTIN_FILE).model


def test_the_network_computes_in_float32() -> None:
    network = load_model()
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    mask = network(torch.rand(1, 2, network.config.num_bins, 8, generator=torch.Generator().manual_seed(0)))
    assert mask.dtype == torch.float32
    assert mask.isfinite().all()
    assert mask.std() > 0.01


def test_a_run_can_begin_with_them() -> None:
    checkpoint = load_checkpoint(find_checkpoint(Path(BUILTIN)))
    network = build_model(checkpoint.model)
    assert describe_misfits(checkpoint.weights, network) == ""
    network.load_state_dict(checkpoint.weights)
    mask = network(torch.rand(2, 2, checkpoint.model.num_bins, 8))
    mask.mean().backward()  # type: ignore[no-untyped-call]
    assert all(weight.dtype == torch.float32 and weight.grad is not None for weight in network.parameters())
