"""What each loss costs beside the network: forward and backward, relative to a training step with the L1 alone.

    python recipes/benchmarks/losses.py [--recipe RECIPE] [--rounds N] [--device cpu|cuda]

With the sizes of recipes/small.toml unless told otherwise, on batches of noise, one thread on the CPU. The step is
network and L1, forward and backward, without optimiser and loader. A term that listens is timed with all that it adds:
magnitudes from the complex batch, and the sound of estimate and truth.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from measure import measure
from torch import Tensor

from vrtool.audio.spectrogram import StftSpec
from vrtool.model import Network, build_model
from vrtool.model.memory import keep_freed_memory
from vrtool.recipe import Recipe, load_recipe
from vrtool.training.losses import TERMS, TrainingLoss, Truth

WANTED_AT_MOST = {"l1": 0.02, "waveform": 0.05, "stft": 0.25}


def main() -> None:
    """Print the time of a step, and each loss's beside it."""
    keep_freed_memory()
    recipe, num_rounds, device = _from_command_line()
    torch.manual_seed(0)
    network = build_model(recipe.model).to(device).train()
    spectrograms = _noise(recipe).to(device)
    magnitudes = Truth(spectrograms).mixture.expand(2, *spectrograms.shape[1:])
    mask = torch.rand_like(magnitudes[0]).requires_grad_()
    spec, config = (
        recipe.stft or StftSpec(n_fft=recipe.model.n_fft, hop_length=recipe.model.n_fft // 2),
        recipe.training,
    )
    losses = {name: TrainingLoss({name: 1.0}, spec, config.stft_loss_n_fft) for name in TERMS}

    ways: dict[str, Callable[[], object]] = {"step with l1": partial(_step, network, losses["l1"], magnitudes)}
    for name, loss in losses.items():
        batch = spectrograms if loss.content == "spectrograms" else magnitudes
        ways[name] = partial(_judge, loss, mask, batch)
    seconds = measure({name: partial(_finished, run, device) for name, run in ways.items()}, num_rounds)
    step = seconds.pop("step with l1")
    print(f"{config.batch_size} x {config.crop_frames} frames, stft_loss_n_fft {list(config.stft_loss_n_fft)}")
    print(f"{'step with l1':20} {step * 1e3:8.1f} ms")
    for name, taken in seconds.items():
        share, wanted = taken / step, WANTED_AT_MOST[name]
        result = "reached" if share <= wanted else "MISSED"
        print(f"{name:20} {taken * 1e3:8.1f} ms   {share:6.1%} of the step   wanted at most {wanted:.0%}: {result}")


def _from_command_line() -> tuple[Recipe, int, str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parents[1] / "small.toml")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    return load_recipe(options.recipe), options.rounds, options.device


def _noise(recipe: Recipe) -> Tensor:
    """Return a batch (2 targets, B, C, F, T) of complex noise, bins last in memory as the loader's."""
    model, training = recipe.model, recipe.training
    shape = (2, training.batch_size, model.num_channels, training.crop_frames, model.num_bins)
    noise = torch.randn(shape, dtype=torch.complex64)
    return (noise / noise.abs().max()).transpose(-1, -2)


def _step(network: Network, loss: TrainingLoss, batch: Tensor) -> None:
    network.zero_grad(set_to_none=True)
    truth = Truth(batch)
    total, _ = loss(network.training_mask(truth.mixture, truth.instrumental), truth)
    total.backward()  # type: ignore[no-untyped-call]


def _judge(loss: TrainingLoss, mask: Tensor, batch: Tensor) -> None:
    mask.grad = None
    total, _ = loss(mask, Truth(batch))
    total.backward()  # type: ignore[no-untyped-call]


def _finished(run: Callable[[], object], device: str) -> None:
    run()
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
