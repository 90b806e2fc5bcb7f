"""What training minimises: a weighted sum of terms that the recipe names, each one function here.

Terms are commensurate, so that weights say what they look like: all are in units of the example's largest magnitude,
and for stems of noise an error has about the same size in each. (Music is sparser in frequency than in time: there a
mask of 0.5 was seen to have 2.6 times as much `stft` as `l1`, and 4.6 times as much `waveform`.) `l1` alone takes
nothing but magnitudes; the others judge the sound that the mask makes of the complex mixture, and examples then come
with their phases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.examples import Content
from vrtool.errors import RecipeError
from vrtool.model.masking import estimate_instrumental, masked_l1_loss
from vrtool.training.waveform import inverse_stft, stft

HOPS_PER_WINDOW = 4
"""Of the `stft` term's spectrograms: the least at which squared Hann windows add up to a constant is 3."""
AUDIBLE_SHARE = 1e-4
"""-80 dB: what lies deeper below a sine of the example's largest magnitude counts as silence to logarithms."""
FAINT_STEM_SHARE = 0.1
"""-20 dB: a stem counts as no fainter below its mixture than this where errors are divided by the stem's norm."""


class Truth:
    """A batch (2 targets, B, C, F, T) of magnitudes or complex spectrograms: what a mask is made from and judged by."""

    def __init__(self, batch: Tensor) -> None:
        self.spectrograms = batch if batch.is_complex() else None
        # Rounding may have taken the largest beyond 1.
        magnitudes = batch.abs().clamp_(max=1.0) if batch.is_complex() else batch
        self.mixture, self.instrumental = magnitudes


class Judgement:
    """A mask (B, C, F, T) beside the truth, and the sound of both, which is made when the first term asks for it."""

    def __init__(self, mask: Tensor, truth: Truth, spec: StftSpec, resolutions: Sequence[int]) -> None:
        self.mask, self.truth, self.spec, self.resolutions = mask, truth, spec, resolutions

    @cached_property
    def sound(self) -> tuple[Tensor, Tensor]:
        """The mixture and the true instrumental, (B, C, sample) each: 4 / n_fft is a sine of magnitude 1."""
        assert self.truth.spectrograms is not None, "terms that listen need batches with phases"
        mixture, instrumental = inverse_stft(self.truth.spectrograms, self.spec)
        return mixture, instrumental

    @cached_property
    def error(self) -> Tensor:
        """The estimated instrumental less the true one, (B, C, sample), with gradients; the vocals' is the opposite."""
        assert self.truth.spectrograms is not None, "terms that listen need batches with phases"
        mixture, instrumental = self.truth.spectrograms
        # The inverse STFT is linear: that of the difference is enough.
        return inverse_stft(estimate_instrumental(self.mask, mixture) - instrumental, self.spec)


def magnitude_l1(judgement: Judgement) -> Tensor:
    """Return the mean absolute error of the instrumental's magnitudes, 1.0 being the example's largest."""
    return masked_l1_loss(judgement.mask, judgement.truth.mixture, judgement.truth.instrumental)


def waveform_l1(judgement: Judgement) -> Tensor:
    """Return the mean absolute error of the samples, which is the same for both stems as they sum to the mixture.

    In units in which white noise has the same mean square as its magnitudes: a sample times the window's norm.
    """
    # E|X|^2 = sum(window^2) E(x^2) for white noise, and the periodic Hann window's squares sum to 3/8 n_fft.
    return judgement.error.abs().mean() * math.sqrt(3.0 / 8.0 * judgement.spec.n_fft)


def multi_resolution_stft(judgement: Judgement) -> Tensor:
    """Return how far the stems' spectrograms are from the true ones: a mean over stems and resolutions.

    Spectral convergence plus the mean distance of log magnitudes (in nepers: 8.7 dB), as in Yamamoto et al. 2020,
    "Parallel WaveGAN", section 2.2, for each example, times the mean magnitude of its mixture, which gives the ratios
    the unit of the other terms and silence no say. All windows lie within the crop.
    """
    mixture, instrumental = judgement.sound
    total = judgement.error.new_zeros(len(judgement.mask))
    for n_fft in judgement.resolutions:
        hop = n_fft // HOPS_PER_WINDOW
        # The STFT is linear too: one with gradients serves both stems.
        spectrograms = (stft(sound, n_fft, hop) for sound in (judgement.error, mixture, instrumental))
        floor = AUDIBLE_SHARE * n_fft / judgement.spec.n_fft
        total = total + _StemDistances.apply(*spectrograms, floor)  # type: ignore[no-untyped-call]
    mean_magnitude = judgement.truth.mixture.mean(dim=(1, 2, 3))
    return torch.mean(mean_magnitude * total) / (2 * len(judgement.resolutions))


class _StemDistances(torch.autograd.Function):
    """The `stft` term's distances of both stems, summed, and their gradient, made while all it takes is at hand.

    Torch's own gradients would keep and read some twenty arrays for what is one here: 4 times as slow.
    """

    @staticmethod
    def forward(ctx: Any, error: Tensor, mixture: Tensor, instrumental: Tensor, floor: float) -> Tensor:
        """Return (B,) from time-major spectrograms (B, C, frame, bin); magnitudes count as `floor` or more."""
        # A complex norm would take roots first.
        mixture_norm = torch.linalg.vector_norm(torch.view_as_real(mixture), dim=(1, 2, 3, 4))
        voice = mixture - instrumental
        # What the mask makes of the mixture.
        music, singing = instrumental + error, voice - error
        music_distance, music_slope = _distance(instrumental, music, floor, mixture_norm)
        voice_distance, voice_slope = _distance(voice, singing, floor, mixture_norm)
        ctx.save_for_backward(music.mul_(music_slope).sub_(singing.mul_(voice_slope)))
        return music_distance + voice_distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * weights[:, None, None, None], None, None, None


def _distance(truth: Tensor, estimate: Tensor, floor: float, mixture_norm: Tensor) -> tuple[Tensor, Tensor]:
    """Return each example's distance (B,), and what times the estimate is its gradient (B, C, frame, bin)."""
    true_magnitude = _power(truth).clamp_(min=floor**2).sqrt_()
    power = _power(estimate)
    is_silent = power <= floor**2
    magnitude = power.clamp_(min=floor**2).sqrt()
    difference = magnitude - true_magnitude
    distance = torch.linalg.vector_norm(difference, dim=(1, 2, 3))
    norm = torch.linalg.vector_norm(true_magnitude, dim=(1, 2, 3)).maximum(FAINT_STEM_SHARE * mixture_norm)
    log_distance = true_magnitude.div_(magnitude).log_().abs_().mean(dim=(1, 2, 3))
    # By the magnitude m, the slope of |m - true| / norm, a Euclidean distance, is (m - true) / (distance norm), that of
    # the mean |log(m / true)| is sign(m - true) / (count m); and m has the slope estimate / m.
    factor = 1.0 / (distance * norm).clamp(min=torch.finfo(norm.dtype).tiny)
    slope = magnitude.mul_(difference).mul_(factor[:, None, None, None])
    slope.add_(difference.sign_(), alpha=len(slope) / slope.numel()).div_(power).masked_fill_(is_silent, 0.0)
    return distance / norm + log_distance, slope


def _power(spectrogram: Tensor) -> Tensor:
    return spectrogram.real.square().addcmul_(spectrogram.imag, spectrogram.imag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A loss: what makes a scalar, >= 0 and a mean over examples, from a judgement; and what batches must hold."""

    value: Callable[[Judgement], Tensor]
    content: Content


TERMS: dict[str, Term] = {
    "l1": Term(value=magnitude_l1, content="magnitudes"),
    "stft": Term(value=multi_resolution_stft, content="spectrograms"),
    "waveform": Term(value=waveform_l1, content="spectrograms"),
}
"""The losses that recipes can name."""


def require_weights(weights: Mapping[str, float]) -> None:
    """Raise RecipeError unless these are weights, 0 or more, of losses that exist, one of them above 0."""
    for name, weight in weights.items():
        if name not in TERMS:
            raise RecipeError(f"[training] losses has no {name!r}; known are {', '.join(TERMS)}")
        if not 0.0 <= weight < math.inf:
            raise RecipeError(f"[training] losses: the weight of {name} must be 0 or more, found {weight}")
    if not any(weights.values()):
        raise RecipeError("[training] losses must have a weight above 0, such as { l1 = 1.0 }; found none")


class TrainingLoss:
    """The weighted sum of a recipe's terms; those of weight 0 are not computed."""

    def __init__(self, weights: Mapping[str, float], spec: StftSpec, resolutions: Sequence[int]) -> None:
        self._weights = {name: weight for name, weight in weights.items() if weight > 0.0}
        self._spec, self._resolutions = spec, resolutions

    @property
    def names(self) -> tuple[str, ...]:
        """The terms, in the order of their values."""
        return tuple(self._weights)

    @property
    def content(self) -> Content:
        """What batches must hold."""
        phases_wanted = any(TERMS[name].content == "spectrograms" for name in self._weights)
        return "spectrograms" if phases_wanted else "magnitudes"

    def require_crop(self, num_frames: int) -> None:
        """Raise RecipeError if crops of so many frames are too short for a term."""
        if self.content == "magnitudes":
            return
        num_samples = (num_frames - 1) * self._spec.hop_length
        longest = max(self._resolutions) if "stft" in self._weights else 1
        if num_samples < longest:
            raise RecipeError(
                f"[training] crops of {num_frames} frames give the losses {num_samples} samples to hear, expected "
                f"{longest} or more; take longer crops, or shorter windows with stft_loss_n_fft"
            )

    def __call__(self, mask: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
        """Return the sum, a scalar with gradients, and each term's value before it was weighted: (term,), without."""
        judgement = Judgement(mask, truth, self._spec, self._resolutions)
        values = [TERMS[name].value(judgement) for name in self._weights]
        total, *others = (weight * value for weight, value in zip(self._weights.values(), values, strict=True))
        for other in others:
            total = total + other
        return total, torch.stack([value.detach() for value in values])
