"""Judges a network on fixed examples from the tracks kept for validation, which training never draws from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vrtool.audio.distortion import nsdr
from vrtool.audio.spectrogram import ComplexArray
from vrtool.dataset.augmentation import NO_AUGMENTATION, CropSchedule, ExamplePlan, PlanDrawer
from vrtool.dataset.cache import Cache
from vrtool.dataset.examples import ExampleBuilder
from vrtool.dataset.pools import FAINT_VOCALS_DB, make_pools
from vrtool.errors import InputError
from vrtool.model.masking import estimate_instrumental, masked_l1_loss

VALIDATION_SEED = 20_000_000
"""Apart from any seed a person would choose, and the same for every run, so that runs can be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """Means over the validation examples: the training loss, and nSDR in dB (None where no example has a say)."""

    loss: float
    vocals_nsdr_db: float | None
    instrumental_nsdr_db: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationSet:
    """Fixed plans and what builds them."""

    plans: tuple[ExamplePlan, ...]
    builder: ExampleBuilder
    batch_size: int = 1
    """Examples judged together: a network that goes frame by frame gains by it."""

    @torch.inference_mode()
    def judge(self, network: torch.nn.Module, device: torch.device) -> ValidationResult | None:
        """Return how well the network does, in evaluation mode, or None for an empty set; leaves its mode as it was."""
        if not self.plans:
            return None
        was_training = network.training
        network.eval()
        results = [
            result
            for start in range(0, len(self.plans), self.batch_size)
            for result in self._judge_batch(network, device, self.plans[start : start + self.batch_size])
        ]
        network.train(was_training)
        losses, vocals, instrumental = zip(*results, strict=True)
        return ValidationResult(
            loss=float(np.mean(losses)), vocals_nsdr_db=_mean(vocals), instrumental_nsdr_db=_mean(instrumental)
        )

    def _judge_batch(
        self, network: torch.nn.Module, device: torch.device, plans: Sequence[ExamplePlan]
    ) -> Iterator[tuple[float, float | None, float | None]]:
        """Yield loss and nSDR of each example, the latter of its complex spectrogram, which stands for the audio."""
        examples = [self.builder.build(plan) for plan in plans]
        magnitudes = torch.from_numpy(np.stack([example.mixture for example in examples])).to(device)
        targets = torch.from_numpy(np.stack([example.instrumental for example in examples])).to(device)
        masks = network(magnitudes).float()
        for plan, mask, magnitude, target in zip(plans, masks, magnitudes, targets, strict=True):
            loss = float(masked_l1_loss(mask, magnitude, target))
            mixture, instrumental = self.builder.build_complex(plan)
            estimate = estimate_instrumental(mask.cpu().numpy(), mixture)
            vocals, error = mixture - instrumental, instrumental - estimate
            yield loss, _audible_nsdr(vocals, error, mixture), _audible_nsdr(instrumental, error, mixture)


def _audible_nsdr(reference: ComplexArray, error: ComplexArray, mixture: ComplexArray) -> float | None:
    """Return the nSDR of an estimate with this error, None where the reference is next to nothing of the mixture."""
    below_mixture_db = nsdr(mixture, mixture - reference)
    if below_mixture_db is None or below_mixture_db > -FAINT_VOCALS_DB:
        return None
    return nsdr(reference, reference - error)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if known else None


def validation_set(
    cache: Cache, builder: ExampleBuilder, *, crop_frames: int, num_examples: int, batch_size: int = 1
) -> ValidationSet:
    """Return the validation examples of a cache: the same for the same tracks, whatever the recipe's augmentation."""
    pools = make_pools([track for track in cache.tracks if track.split == "validation"], {})
    if num_examples == 0:
        return ValidationSet(plans=(), builder=builder)
    if not pools.can_make_examples:
        raise InputError(
            f"{cache.path}: validation needs pairs, or instrumentals and vocals, that are kept for it, found none; "
            "run vrtool prepare with --validation 0.1, or set training.num_validation_examples=0"
        )
    crops = CropSchedule(num_frames=crop_frames)
    drawer = PlanDrawer(config=NO_AUGMENTATION, pools=pools, crops=crops, seed=VALIDATION_SEED)
    plans = tuple(drawer.draw(0, index) for index in range(num_examples))
    return ValidationSet(plans=plans, builder=builder, batch_size=batch_size)
