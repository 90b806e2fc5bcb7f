"""The `[training]` section of a recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from vrtool.errors import RecipeError
from vrtool.model.acceleration import Precision
from vrtool.training.losses import require_weights

MAX_SEED = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How long, how fast and on what crops a network is trained; a step is one update of the weights."""

    num_steps: int = 160_000
    batch_size: int = 1
    """Examples per pass through the network."""
    accumulate_batches: int = 4
    """Passes whose gradients are averaged for one step; where there are several processes, they share them."""
    crop_frames: int = 1024
    crop_stages: tuple[tuple[int, int], ...] = ()
    """Shorter crops first: [[10, 256], [20, 512]] is 10 epochs with crops of 256 frames, then 20 with 512."""
    epoch_examples: int = 0
    """Examples per epoch, rounded up to whole steps; 0 counts one for every track that examples start from."""
    seed: int = 0

    optimiser: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-7
    warmup_steps: int = 32_000
    decay_steps: int = 128_000
    """Steps from the end of the warm-up until the final rate is reached, which then stays."""
    decay: Literal["polynomial", "cosine"] = "polynomial"
    """Along (share of the decay that remains) ** decay_power, or along half a cosine wave."""
    decay_power: float = 1.0
    clip_gradient_norm: float = 0.5
    """Largest Euclidean norm of all gradients together; 0 leaves them as they are."""
    ema_decay: float = 0.0
    """Share of the weights' moving average that a step leaves of it, such as 0.999; 0 takes the newest weights."""
    freeze: tuple[str, ...] = ()
    """Patterns of names of parameters that stay as they are, such as "encoders.*"."""

    losses: dict[str, float] = field(default_factory=lambda: {"l1": 1.0})
    """What training minimises, weighted: `l1` of magnitudes, and of the sound that they make `stft` and `waveform`."""
    stft_loss_n_fft: tuple[int, ...] = (1024, 4096)
    """Windows of the `stft` loss in samples, beside the network's own; their hops are a quarter of that."""

    validate_every_steps: int = 1000
    num_validation_examples: int = 64
    patience: int = 0
    """Validations in a row without a lower loss that end the run; 0 goes on to the last step."""
    checkpoint_every_steps: int = 1000
    keep_checkpoints: int = 3
    """Newest checkpoints that are kept beside the best."""
    num_loader_workers: int = 2
    """Processes that build examples, for each that trains; 0 builds them between the steps."""

    precision: Precision = "float32"
    """bfloat16 and float16 are faster on hardware that has them; weights and losses stay in float32.

    The gradients of float16 are scaled up on the way, as far as they bear it.
    """
    compile: bool = False
    """Whether torch compiles the network first, which takes a compiler and some minutes."""
    recompute_activations: bool = False
    """Whether blocks are computed again on the way back rather than kept: less memory, a third more time."""

    def __post_init__(self) -> None:
        whole = (
            "num_steps",
            "batch_size",
            "accumulate_batches",
            "crop_frames",
            "decay_steps",
            "validate_every_steps",
            "checkpoint_every_steps",
            "keep_checkpoints",
        )
        for name in whole:
            if getattr(self, name) < 1:
                raise RecipeError(f"[training] {name} must be 1 or more, found {getattr(self, name)}")
        not_negative = (
            "epoch_examples",
            "seed",
            "weight_decay",
            "final_learning_rate",
            "warmup_steps",
            "clip_gradient_norm",
            "ema_decay",
            "num_validation_examples",
            "patience",
            "num_loader_workers",
        )
        for name in not_negative:
            if not 0 <= getattr(self, name) < math.inf:
                raise RecipeError(f"[training] {name} must be 0 or more, found {getattr(self, name)}")
        if self.compile and self.recompute_activations:
            raise RecipeError("[training] compile chooses by itself what to keep; leave recompute_activations out")
        if self.ema_decay >= 1:
            raise RecipeError(f"[training] ema_decay must be below 1, such as 0.999, found {self.ema_decay}")
        if self.decay == "cosine" and self.decay_power != 1.0:
            raise RecipeError("[training] decay_power is that of the polynomial decay; leave it out with cosine")
        if self.patience and not self.num_validation_examples:
            raise RecipeError("[training] patience counts validations, so num_validation_examples must not be 0")
        if any(number < 1 for stage in self.crop_stages for number in stage):
            raise RecipeError(f"[training] crop_stages must be pairs of 1 or more, found {list(self.crop_stages)}")
        require_weights(self.losses)
        if not self.stft_loss_n_fft or any(n_fft < 16 or n_fft % 4 for n_fft in self.stft_loss_n_fft):
            raise RecipeError(
                "[training] stft_loss_n_fft must be one or more multiples of 4 samples, 16 or more, found "
                f"{list(self.stft_loss_n_fft)}; [1024, 4096] is usual at 44,100 Hz"
            )
        if self.seed >= MAX_SEED:
            raise RecipeError(f"[training] seed must be below {MAX_SEED}, found {self.seed}")
        for name in ("learning_rate", "decay_power"):
            if not 0 < getattr(self, name) < math.inf:
                raise RecipeError(f"[training] {name} must be above 0, found {getattr(self, name)}")

    @property
    def examples_per_step(self) -> int:
        """Examples that one update of the weights has seen."""
        return self.batch_size * self.accumulate_batches

    @property
    def crop_lengths(self) -> set[int]:
        """All numbers of frames that crops have in the course of a run."""
        return {self.crop_frames, *(num_frames for _, num_frames in self.crop_stages)}
