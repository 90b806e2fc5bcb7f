"""The frame transformer's forward pass and training step beside plain matrix products, and the memory of a step.

    python recipes/benchmarks/model.py [--recipe RECIPE] [--frames N] [--rounds N] [--device cpu|cuda] [--compile]

With the sizes of recipes/ancestor.toml unless told otherwise. The limit is the time that products of 2048 x 2048
float32 matrices take for the same FLOPs in the same run: those of the ancestor's matrix products and convolutions,
three times as many for a training step (forward and backward). The network that vrtool descends from took 3.7 and 4.1
times as long as that, and 8.3 GB. bfloat16 is timed where the processor has instructions for it. Memory is that of a
process that does one training step and nothing else; on a GPU, what torch allocated there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from measure import measure, verdict
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vrtool.model import ModelConfig, Network, build_model
from vrtool.model.acceleration import has_bfloat16
from vrtool.model.masking import masked_l1_loss
from vrtool.model.memory import keep_freed_memory
from vrtool.recipe import load_recipe

ANCESTOR_GB = 8.3
PRODUCT_SIZE = 2048
PRODUCT_FLOPS = 2 * PRODUCT_SIZE**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is measured: a network's settings, frames per crop, and where."""

    config: ModelConfig
    num_frames: int
    device: str
    compiled: bool = False
    recomputes: bool = False


def main() -> None:
    """Print times, ratios and memory, each beside what is wanted."""
    keep_freed_memory()
    job, num_rounds = _job_from_command_line()
    flops = _forward_flops(job)
    num_products = max(1, round(flops / PRODUCT_FLOPS))
    print(f"{job.num_frames} frames: {flops / 1e9:.0f} GFLOP forward, {3 * flops / 1e9:.0f} GFLOP per training step")

    ways = {"products": partial(_products, num_products, job.device)} | _passes(job, "float32", torch.float32)
    times_bfloat16 = has_bfloat16(torch.device(job.device))
    if times_bfloat16:
        ways |= _passes(job, "bfloat16", torch.bfloat16)
    seconds = measure({name: partial(_finished, run, job.device) for name, run in ways.items()}, num_rounds)
    for name, taken in seconds.items():
        print(f"{name:20} {taken:8.3f} s")
    limit = seconds["products"] * flops / (num_products * PRODUCT_FLOPS)
    print(f"{'limit, forward':20} {limit:8.3f} s, {flops / limit / 1e9:.0f} GFLOPS")
    print(_at_most("forward / limit", seconds["forward float32"] / limit, 1.6))
    print(_at_most("training step / (3 x limit)", seconds["step float32"] / (3 * limit), 1.8))
    if times_bfloat16:
        for name in ("forward", "step"):
            gain = seconds[f"{name} float32"] / seconds[f"{name} bfloat16"]
            print(verdict(f"{name}: float32 / bfloat16", gain, 1.8))
    else:
        print(f"bfloat16 is not timed: this {job.device} has no bfloat16 instructions")
    for recomputes in (False, True):
        claim = "GB of a training step" + (", blocks recomputed" if recomputes else "")
        print(_at_most(claim, _step_gigabytes(job, recomputes=recomputes), ANCESTOR_GB / 2))


def _job_from_command_line() -> tuple[Job, int]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parents[1] / "ancestor.toml"
    parser.add_argument("--recipe", type=Path, default=default, help="of the frame transformer to measure")
    parser.add_argument("--frames", type=int, help="frames per crop (the recipe's crop_frames)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="measure the network compiled by torch.compile")
    options = parser.parse_args()
    overrides = [f"training.crop_frames={options.frames}"] if options.frames else []
    recipe = load_recipe(options.recipe, overrides)
    if recipe.model.architecture != "frame_transformer":
        parser.error("expected the recipe of a frame transformer")
    num_frames = recipe.training.crop_frames
    job = Job(config=recipe.model, num_frames=num_frames, device=options.device, compiled=options.compile)
    return job, options.rounds


def _magnitude(job: Job) -> Tensor:
    return torch.rand(1, job.config.num_channels, job.config.num_bins, job.num_frames).to(job.device)


def _network(job: Job) -> Network:
    torch.manual_seed(0)
    network = build_model(job.config).to(job.device)
    if job.compiled:
        network.compile(fullgraph=True)
    return network


def _forward_flops(job: Job) -> int:
    """Return the FLOPs of a forward pass as the ancestor does it.

    Its position term is a product of its own; ours doubles the width of a product instead and also that of its values,
    which are zeros there and not counted.
    """
    config = job.config
    with torch.device("meta"):
        network, magnitude = (
            build_model(config).eval(),
            torch.rand(1, config.num_channels, config.num_bins, job.num_frames),
        )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(magnitude)
    total = int(counter.get_total_flops())
    if config.position == "ancestor":
        total -= _padding_flops(config, job.num_frames)
    return total


def _padding_flops(config: ModelConfig, num_frames: int) -> int:
    num_layers = config.num_encoders + 4 * config.num_decoders
    num_bins = sum(config.n_fft // 2 >> level for level in range(5))
    return 2 * num_frames**2 * num_bins * num_layers


def _products(num_products: int, device: str) -> None:
    matrix = torch.ones(PRODUCT_SIZE, PRODUCT_SIZE, device=device)
    result = torch.empty_like(matrix)
    for _ in range(num_products):
        torch.mm(matrix, matrix, out=result)


def _passes(job: Job, name: str, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    magnitude, trained = _magnitude(job), _network(job)
    separating = _network(job).eval()
    return {
        f"forward {name}": partial(_forward, separating, magnitude, dtype),
        f"step {name}": partial(_step, trained, magnitude, dtype),
    }


@torch.inference_mode()
def _forward(network: Network, magnitude: Tensor, dtype: torch.dtype) -> None:
    with torch.autocast(magnitude.device.type, dtype=dtype, enabled=dtype != torch.float32):
        network(magnitude)


def _step(network: Network, magnitude: Tensor, dtype: torch.dtype) -> None:
    network.zero_grad(set_to_none=True)
    with torch.autocast(magnitude.device.type, dtype=dtype, enabled=dtype != torch.float32):
        mask = network(magnitude)
    masked_l1_loss(mask.float(), magnitude, magnitude / 2).backward()  # type: ignore[no-untyped-call]


def _finished(run: Callable[[], object], device: str) -> None:
    run()
    if device == "cuda":
        torch.cuda.synchronize()


def _step_gigabytes(job: Job, *, recomputes: bool) -> float:
    """Return the largest memory that a process held which did one training step and nothing else, in GB."""
    job = replace(job, recomputes=recomputes, compiled=job.compiled and not recomputes)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_gigabytes, (job,))


def _peak_gigabytes(job: Job) -> float:
    keep_freed_memory()
    network = _network(job)
    if job.recomputes:
        network.recompute_activations()
    _step(network, _magnitude(job), torch.float32)
    if job.device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        # Linux lets a child's ru_maxrss begin at what its parent held.
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def _at_most(claim: str, found: float, wanted: float) -> str:
    return f"{claim:60} {found:8.2f}   wanted at most {wanted:g}: {'reached' if found <= wanted else 'MISSED'}"


if __name__ == "__main__":
    main()
