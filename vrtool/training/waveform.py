"""From spectrograms to sound and back in torch, with gradients: what losses listen through."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from vrtool.audio.spectrogram import StftSpec, hann_window


def inverse_stft(spectrogram: Tensor, spec: StftSpec) -> Tensor:
    """Return the signal of a complex spectrogram (..., bin, frame): shape (..., (frame - 1) * hop_length).

    It is `vrtool.audio.spectrogram.istft`, from the first frame's centre to the last one's. A crop from the middle of a
    song is inverted exactly as well: the sum of squared windows divides by what the crop's own frames contribute. Two
    frames or more; fastest with the bins last in memory, as batches have them.
    """
    num_frames, hop = spectrogram.shape[-1], spec.hop_length
    # torch.istft would compute the divisor anew in every call, and wait for the GPU to look at its smallest value.
    window, divisor = _window_and_divisor(spec, num_frames, spectrogram.device, spectrogram.real.dtype)
    frames = torch.fft.irfft(spectrogram.transpose(-1, -2), spec.n_fft) * window
    # As in OverlapAdd, hop by hop: part k of frame t is added to row t + k.
    num_parts = -(-spec.n_fft // hop)
    padded = functional.pad(frames, (0, num_parts * hop - spec.n_fft))
    parts = padded.view(*padded.shape[:-1], num_parts, hop)
    rows = torch.zeros_like(parts[..., 0, :])
    rows = functional.pad(rows, (0, 0, 0, num_parts - 1))
    for part in range(num_parts):
        rows[..., part : part + num_frames, :] += parts[..., part, :]
    first = spec.n_fft // 2  # of frame 0, which begins half a window before the signal
    return rows.flatten(-2)[..., first : first + divisor.numel()] / divisor


def stft(signal: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Return the time-major spectrogram (..., frame, bin) of a signal (..., sample).

    All windows lie within the signal, which has n_fft samples or more.
    """
    frames = signal.unfold(-1, n_fft, hop_length)
    spectrogram: Tensor = torch.fft.rfft(frames * _window(n_fft, signal.device, signal.dtype))
    return spectrogram


@lru_cache(maxsize=16)
def _window(n_fft: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(hann_window(n_fft)).to(device, dtype)


@lru_cache(maxsize=16)
def _window_and_divisor(
    spec: StftSpec, num_frames: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the window and what the sum of windowed frames is divided by: (n_fft,) and ((num_frames - 1) * hop,)."""
    window = torch.tensor(hann_window(spec.n_fft), dtype=torch.float64)
    first, hop = spec.n_fft // 2, spec.hop_length
    squares = torch.zeros((num_frames - 1) * hop + spec.n_fft, dtype=torch.float64)
    for frame in range(num_frames):
        squares[frame * hop : frame * hop + spec.n_fft] += window.square()
    divisor = squares[first : first + (num_frames - 1) * hop]
    return window.to(device, dtype), divisor.to(device, dtype)
