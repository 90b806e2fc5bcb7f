import pytest
import torch

from vrtool.errors import InputError
from vrtool.model.device import pick_device


def _have(monkeypatch: pytest.MonkeyPatch, *, num_cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _index: "H100")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("num_cuda", "mps", "expected"), [(2, True, "cuda:0"), (1, False, "cuda:0"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_cuda_before_mps_before_the_cpu(
    monkeypatch: pytest.MonkeyPatch, num_cuda: int, mps: bool, expected: str
) -> None:
    _have(monkeypatch, num_cuda=num_cuda, mps=mps)
    picked = pick_device("auto")
    assert str(picked.device) == expected
    assert picked.reason


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_missing_device_that_was_asked_for_is_an_error_and_not_the_cpu(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _have(monkeypatch)
    with pytest.raises(InputError, match=rf"--device {name}.*--device cpu"):
        pick_device(name)


@pytest.mark.parametrize(
    ("name", "expected"), [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("mps", "mps"), ("cpu", "cpu")]
)
def test_a_device_that_is_there_is_taken_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, expected: str) -> None:
    _have(monkeypatch, num_cuda=2, mps=True)
    assert str(pick_device(name).device) == expected


def test_a_gpu_number_beyond_the_last_is_refused_with_the_numbers_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    _have(monkeypatch, num_cuda=2)
    with pytest.raises(InputError, match="cuda:0 to cuda:1"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_of_several_processes_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _have(monkeypatch, num_cuda=2)
    assert [str(pick_device(name, gpu=gpu).device) for gpu in range(2)] == ["cuda:0", "cuda:1"]
    with pytest.raises(InputError, match=r"found no cuda:2, .* or start no more processes than that"):
        pick_device(name, gpu=2)
    with pytest.raises(InputError, match="processes take a GPU each, say --device cuda for all of them"):
        pick_device("cuda:1", gpu=0)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "", "CPU"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match="auto, cpu, cuda, cuda:N or mps"):
        pick_device(name)
