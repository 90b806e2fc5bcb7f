"""Two real processes that talk to each other, against one."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vrtool.dataset.cache import Cache, open_cache
from vrtool.errors import CheckpointError, JobError, RecipeError, SaidElsewhereError, VrtoolError
from vrtool.model import ModelConfig
from vrtool.model.checkpoint import Checkpoint, load_checkpoint
from vrtool.training.bad_steps import read_bad_step
from vrtool.training.distributed import World, joined_world, require_fair_shares
from vrtool.training.losses import TrainingLoss, Truth
from vrtool.training.norms import merge_norms
from vrtool.training.run_folder import RunFolder
from vrtool.training.setup import TrainingSetup
from vrtool.training.trainer import train

MakeSetup = Callable[..., TrainingSetup]
InTwo = Callable[..., list[Any]]
NETWORK: dict[str, Any] = {
    "n_fft": 256,
    "channels": 2,
    "num_bands": 2,
    "feedforward_dim": 16,
    "num_decoders": 1,
    "dropout": 0.1,
}


@pytest.fixture(scope="module")
def in_two_processes() -> Iterator[Callable[..., list[Any]]]:
    """`in_two_processes(work, ...)` returns what `work(world, ...)` does in each of two that have joined, by rank."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:

        def run(work: Callable[..., Any], *arguments: Any) -> list[Any]:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            futures = [pool.submit(_joined, rank, port, work, arguments) for rank in range(2)]
            return [future.result(timeout=300) for future in futures]

        yield run


def _joined(rank: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with joined_world(torch.device("cpu")) as world:
        return work(world, *arguments)


def a_checkpoint(stft: Any) -> Checkpoint:
    weights = {"matrix": torch.arange(6.0).reshape(2, 3).t(), "count": torch.tensor(7), "none": torch.zeros(0)}
    return Checkpoint(weights=weights, model=ModelConfig(), stft=stft, training_state={"half": torch.ones(3).half()})


def talk(world: World, stft: Any) -> dict[str, Any]:
    """Try every way of talking, and return what this process has heard."""
    heard: dict[str, Any] = {"rank": world.rank, "own": [list(world.own_share(count)) for count in (2, 3, 5)]}
    heard["sum"] = world.sum(torch.tensor([1.0, float(world.rank)])).tolist()
    heard["largest"] = world.largest([0.5, float(world.rank)])
    heard["gathered"] = world.gather({"from": world.rank})
    heard["shared"] = world.share(lambda: f"made by {world.rank}")
    heard["none"] = world.share_checkpoint(lambda: None)

    def load() -> tuple[Path, Checkpoint]:
        assert world.is_main
        return Path("a.safetensors"), a_checkpoint(stft)

    heard["checkpoint"] = world.share_checkpoint(load)
    for name, fails in (
        ("error", lambda: world.share(refuse)),
        ("facts", lambda: world.require_same([world.rank], "x")),
    ):
        try:
            fails()  # type: ignore[no-untyped-call]
        except VrtoolError as error:
            heard[name] = (type(error), str(error), error.exit_code)
    world.require_same([1, "same"], "x")
    return heard


def refuse() -> None:
    raise CheckpointError("no such thing")


def test_processes_hear_the_same_and_share_what_is_to_do(in_two_processes: InTwo, tiny_stft: Any) -> None:
    first, second = in_two_processes(talk, tiny_stft)
    assert [first.pop("rank"), second.pop("rank")] == [0, 1]
    shares = zip(first.pop("own"), second.pop("own"), strict=True)
    assert [ours + theirs for ours, theirs in shares] == [[0, 1], [0, 1, 2], [0, 1, 2, 3, 4]]
    checkpoints = [heard.pop("checkpoint") for heard in (first, second)]
    errors = [heard.pop("error") for heard in (first, second)]
    assert errors[0] == (CheckpointError, "no such thing", 2)
    assert (errors[1][0], errors[1][2]) == (SaidElsewhereError, 2)
    assert first == second
    assert first["sum"] == [2.0, 1.0]
    assert first["largest"] == [0.5, 1.0]
    assert first["gathered"] == [{"from": 0}, {"from": 1}]
    assert first["shared"] == "made by 0"
    assert first["none"] is None
    assert "process 1 of 2 has another x than process 0" in first["facts"][1]
    expected = a_checkpoint(tiny_stft)
    for path, found in checkpoints:
        assert path == Path("a.safetensors")
        assert found.stft == tiny_stft
        assert found.weights.keys() == expected.weights.keys()
        assert all(torch.equal(found.weights[name], expected.weights[name]) for name in expected.weights)
        assert torch.equal(found.training_state["half"], torch.ones(3).half())


def pass_norms(world: World, passes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Let a network of norms see this process's share of passes, and return its statistics once merged."""
    network = nn.Sequential(nn.BatchNorm2d(3, momentum=0.1), nn.BatchNorm2d(3, momentum=0.5), nn.BatchNorm2d(3))
    network[2].eval()  # frozen
    for _ in range(2):
        before = [buffer.clone() for buffer in network.buffers()]
        for number in world.own_share(len(passes)):
            network(passes[number])
        merge_norms(network, before, len(passes), world)
    return network.state_dict()


def test_norms_have_the_statistics_of_one_process_after_an_uneven_number_of_passes(in_two_processes: InTwo) -> None:
    passes = torch.randn(3, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    alone = pass_norms(World(), passes)
    assert alone["0.num_batches_tracked"] == 6
    for merged in in_two_processes(pass_norms, passes):
        assert merged.keys() == alone.keys()
        for name in alone:
            torch.testing.assert_close(merged[name], alone[name], rtol=1e-6, atol=1e-7)


def train_here(world: World, setup: TrainingSetup, cache: Path, run: Path) -> None:
    train(setup, open_cache(cache), RunFolder(path=run), world=world)


# As the two processes: with another number of threads sums round otherwise, and a ReLU may tip over.
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("model", "training"),
    [
        ({"architecture": "frame_transformer", "num_encoders": 1}, {"recompute_activations": True}),
        ({"architecture": "autoregressive", "crop_frames": 8, "look_ahead_frames": 2}, {"freeze": ("output.0.*",)}),
    ],
)
def test_every_network_learns_the_same_in_two_processes(
    in_two_processes: InTwo,
    divided_cache: Cache,
    tmp_path: Path,
    make_setup: MakeSetup,
    model: dict[str, Any],
    training: dict[str, Any],
) -> None:
    config = ModelConfig(**NETWORK, **model)
    setup = replace(
        make_setup(num_steps=1, accumulate_batches=3, losses={"l1": 1.0, "waveform": 0.1}, **training), model=config
    )
    train_here(World(), setup, divided_cache.path, tmp_path / "one")
    in_two_processes(train_here, setup, divided_cache.path, tmp_path / "two")
    one, two = (
        load_checkpoint(tmp_path / name / "last.safetensors", with_training_state=True) for name in ("one", "two")
    )
    assert one.progress["step"] == two.progress["step"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in one.weights.values())
    # Adam's first moments, which are in proportion to the gradients. The weights tell less: Adam's first steps are as
    # large for gradients that are nothing but rounding errors.
    gradients, others = (
        {name: tensor for name, tensor in checkpoint.training_state.items() if name.endswith("exp_avg")}
        for checkpoint in (one, two)
    )
    assert gradients.keys() == others.keys()
    largest = max(gradient.abs().max() for gradient in gradients.values())
    assert largest > 0
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, others[name], rtol=1e-4, atol=1e-5 * largest.item(), msg=name)


def train_poisoned(world: World, setup: TrainingSetup, cache: Path, run: Path) -> str:
    """Train until the second process's passes are not numbers any more, and return the error's message."""
    compute, counted = TrainingLoss.__call__, itertools.count()

    def spoiled(loss: TrainingLoss, mask: torch.Tensor, truth: Truth) -> tuple[torch.Tensor, torch.Tensor]:
        total, values = compute(loss, mask, truth)
        return total * (float("nan") if next(counted) >= 2 and not world.is_main else 1.0), values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLoss, "__call__", spoiled)
        with pytest.raises(JobError) as raised:
            train_here(world, setup, cache, run)
    return str(raised.value)


def test_what_is_not_finite_in_one_process_ends_all_of_them_with_the_plans_of_every_pass(
    in_two_processes: InTwo, divided_cache: Cache, tmp_path: Path, make_setup: MakeSetup
) -> None:
    setup = make_setup(num_steps=9, accumulate_batches=2, checkpoint_every_steps=9, validate_every_steps=9)
    messages = in_two_processes(train_poisoned, setup, divided_cache.path, tmp_path)
    assert all("step 5: no finite gradients 3 times in a row" in message for message in messages)
    assert [path.name for path in sorted(tmp_path.glob("step-*"))] == ["step-00000002.safetensors"]
    bad = read_bad_step(tmp_path / "bad-steps/step-00000003.json")
    assert [batch.number for batch in bad.batches] == [4, 5]
    first, second = (batch.loss for batch in bad.batches)
    assert first is not None
    assert math.isfinite(first)
    assert second is not None
    assert math.isnan(second)


def test_a_step_has_a_pass_for_every_process() -> None:
    require_fair_shares(World(rank=1, size=4), 4)
    with pytest.raises(RecipeError, match="accumulate_batches = 3 passes of a step cannot be shared by 4 processes"):
        require_fair_shares(World(rank=1, size=4), 3)
