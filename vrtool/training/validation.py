"""Judges a network on fixed examples from the tracks kept for validation, which training never draws from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from vrtool.audio.distortion import nsdr
from vrtool.audio.spectrogram import ComplexArray
from vrtool.dataset.augmentation import NO_AUGMENTATION
from vrtool.dataset.cache import Cache
from vrtool.dataset.drawer import CropSchedule, PlanDrawer
from vrtool.dataset.examples import ExampleBuilder
from vrtool.dataset.plan import ExamplePlan
from vrtool.dataset.pools import FAINT_VOCALS_DB, make_pools
from vrtool.dataset.track import Kind
from vrtool.errors import InputError
from vrtool.model.masking import estimate_instrumental, masked_l1_loss
from vrtool.training.distributed import World

VALIDATION_SEED = 20_000_000
"""Apart from any seed a person would choose, and the same for every run, so that runs can be compared."""


NsdrField = Literal["vocals_nsdr_db", "instrumental_nsdr_db", "mixture_vocals_nsdr_db", "mixture_instrumental_nsdr_db"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SongResult:
    """Means over the examples that start from one track, in dB (None where no example has a say).

    A track of `kind` "instrumental" has got vocals of other tracks. The `mixture_...` scores are those of the mixture
    taken for the stem as it is.
    """

    name: str
    kind: Kind
    num_examples: int
    vocals_nsdr_db: float | None
    instrumental_nsdr_db: float | None
    mixture_vocals_nsdr_db: float | None
    mixture_instrumental_nsdr_db: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """Means over the validation examples: the masked L1, and nSDR in dB (None where no example has a say).

    `loss` is the L1 of magnitudes whatever losses a run is trained with, so that runs can be compared. `songs` has the
    scores of each track that examples start from, by kind and name.
    """

    loss: float
    vocals_nsdr_db: float | None
    instrumental_nsdr_db: float | None
    songs: tuple[SongResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ExampleResult:
    """One example's training loss and scores."""

    loss: float
    vocals_nsdr_db: float | None
    instrumental_nsdr_db: float | None
    mixture_vocals_nsdr_db: float | None
    mixture_instrumental_nsdr_db: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationSet:
    """Fixed plans and what builds them."""

    plans: tuple[ExamplePlan, ...]
    builder: ExampleBuilder
    batch_size: int = 1
    """Examples judged together: a network that goes frame by frame gains by it."""

    @torch.inference_mode()
    def judge(self, network: torch.nn.Module, world: World) -> ValidationResult | None:
        """Return how well the network does, in evaluation mode, or None for an empty set; leaves its mode as it was.

        Each process of `world` judges some of the batches, and all return what one alone would have found, exactly:
        batches are the same whoever judges them, and their results are put in order before they are summed.
        """
        if not self.plans:
            return None
        was_training = network.training
        network.eval()
        starts = range(0, len(self.plans), self.batch_size)
        own = [
            result
            for number in world.own_share(len(starts))
            for result in self._judge_batch(network, world.device, self.plans[starts[number] :][: self.batch_size])
        ]
        results = [result for of_process in world.gather(own) for result in of_process]
        network.train(was_training)
        return ValidationResult(
            loss=float(np.mean([result.loss for result in results])),
            vocals_nsdr_db=_mean(results, "vocals_nsdr_db"),
            instrumental_nsdr_db=_mean(results, "instrumental_nsdr_db"),
            songs=tuple(self._by_song(results)),
        )

    def _judge_batch(
        self, network: torch.nn.Module, device: torch.device, plans: Sequence[ExamplePlan]
    ) -> Iterator[_ExampleResult]:
        """Yield the result of each example, nSDR being that of its complex spectrogram, which stands for the audio."""
        examples = [self.builder.build(plan) for plan in plans]
        magnitudes = torch.from_numpy(np.stack([example.mixture for example in examples])).to(device)
        targets = torch.from_numpy(np.stack([example.instrumental for example in examples])).to(device)
        masks = network(magnitudes).float()
        for plan, mask, magnitude, target in zip(plans, masks, magnitudes, targets, strict=True):
            loss = float(masked_l1_loss(mask, magnitude, target))
            mixture, instrumental = self.builder.build_complex(plan)
            estimate = estimate_instrumental(mask.cpu().numpy(), mixture)
            yield _score(loss, mixture, instrumental, estimate)

    def _by_song(self, results: Sequence[_ExampleResult]) -> Iterator[SongResult]:
        """Yield the means over the examples of each track, whose order is that of the plans."""
        by_track: dict[str, list[_ExampleResult]] = {}
        for plan, result in zip(self.plans, results, strict=True):
            by_track.setdefault(plan.start_track, []).append(result)
        for key, of_track in sorted(by_track.items()):
            header = self.builder.tracks[key].header
            yield SongResult(
                name=header.name,
                kind=header.kind,
                num_examples=len(of_track),
                vocals_nsdr_db=_mean(of_track, "vocals_nsdr_db"),
                instrumental_nsdr_db=_mean(of_track, "instrumental_nsdr_db"),
                mixture_vocals_nsdr_db=_mean(of_track, "mixture_vocals_nsdr_db"),
                mixture_instrumental_nsdr_db=_mean(of_track, "mixture_instrumental_nsdr_db"),
            )


def _score(loss: float, mixture: ComplexArray, instrumental: ComplexArray, estimate: ComplexArray) -> _ExampleResult:
    vocals, error = mixture - instrumental, instrumental - estimate
    # Of the mixture taken for a stem, the other stem is the error.
    voice_below_db, music_below_db = nsdr(mixture, instrumental), nsdr(mixture, vocals)
    has_voice, has_music = _is_audible(voice_below_db), _is_audible(music_below_db)
    return _ExampleResult(
        loss=loss,
        vocals_nsdr_db=nsdr(vocals, vocals - error) if has_voice else None,
        instrumental_nsdr_db=nsdr(instrumental, estimate) if has_music else None,
        mixture_vocals_nsdr_db=_difference(music_below_db, voice_below_db) if has_voice else None,
        mixture_instrumental_nsdr_db=_difference(voice_below_db, music_below_db) if has_music else None,
    )


def _is_audible(below_mixture_db: float | None) -> bool:
    """Tell whether a stem that is so far below the mixture is more than next to nothing of it."""
    return below_mixture_db is not None and below_mixture_db <= -FAINT_VOCALS_DB


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _mean(results: Sequence[_ExampleResult], name: NsdrField) -> float | None:
    """Return the mean of a score over the results that have one."""
    known = [value for value in (getattr(result, name) for result in results) if value is not None]
    finite = [value for value in known if math.isfinite(value)]
    return float(np.mean(finite)) if finite else None


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
