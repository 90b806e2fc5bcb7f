"""A network trained on short crops separates in long chunks, and is no worse for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vrtool.audio.distortion import nsdr
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.model import ModelConfig, Network, build_model
from vrtool.model.config import Position
from vrtool.model.masking import estimate_instrumental, masked_l1_loss
from vrtool.model.position import RelativePosition
from vrtool.separation.separator import Separator

CROP_FRAMES = 256
CHUNK_FRAMES = 2048
SONG_FRAMES = 2500
STFT = StftSpec(sample_rate=8000, n_fft=64, hop_length=32)

# Two networks that learned the same from different draws differ by a decibel and more; this is what rounding, other
# borders between chunks and other shares of the frames in view make of one.
TOLERANCE_DB = 0.1


def song(seed: int, num_frames: int) -> tuple[FloatArray, FloatArray]:
    """Return magnitudes (1, 33, num_frames) of a made-up mixture and its instrumental.

    Music fills the high bins and the singer the low ones, or the other way round, all of it noise. Which of the two it
    is, only a cue tells that the music plays for 6 frames every 160: more than convolutions reach, so that most frames
    must look for it by attention.
    """
    rng = np.random.default_rng(seed)
    mixture = rng.random((1, STFT.num_bins, num_frames), np.float32)
    mixture[:, 14:18] = 0.0
    sings_high = seed % 2 == 1
    cue_bins = slice(16, 18) if sings_high else slice(14, 16)
    for start in range(int(rng.integers(160)), num_frames, 160):
        mixture[:, cue_bins, start : start + 6] = 1.0
    instrumental = mixture.copy()
    instrumental[:, slice(18, None) if sings_high else slice(14)] = 0.0
    return mixture, instrumental


def trained(position: Position) -> Network:
    """A tiny frame transformer after 120 steps on crops of 256 frames."""
    torch.manual_seed(0)
    network = build_model(
        ModelConfig(
            num_channels=1,
            n_fft=STFT.n_fft,
            channels=2,
            num_bands=2,
            feedforward_dim=32,
            num_encoders=1,
            num_decoders=0,
            crop_frames=CROP_FRAMES,
            dropout=0.0,
            position=position,
            compression=1.0,
        )
    )
    num_steps, rate = 120, 8e-3
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, fused=True)
    for step in range(num_steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10) * (1.0 - step / num_steps)
        crops = [song(1000 + 2 * step + index, CROP_FRAMES) for index in range(2)]
        mixture, instrumental = (torch.from_numpy(np.stack(parts)) for parts in zip(*crops, strict=True))
        optimiser.zero_grad()
        masked_l1_loss(network(mixture), mixture, instrumental).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network


def separated_nsdr_db(network: Network, chunk_frames: int) -> list[float]:
    """Return the instrumental's nSDR of an unseen song with the singer low, then of one with the singer high."""
    separator = Separator(
        network,
        STFT,
        num_channels=1,
        device="cpu",
        chunk_frames=chunk_frames,
        batch_size=CHUNK_FRAMES // chunk_frames,
    )
    ratios = []
    for seed in (2, 1):
        mixture, instrumental = song(seed, SONG_FRAMES)
        ratio = nsdr(instrumental, estimate_instrumental(separator.mask(mixture), mixture))
        assert ratio is not None
        ratios.append(ratio)
    return ratios


def forget_to_clip(network: Network) -> None:
    """Give the network a row of its own for every distance in a long chunk, those beyond its crops never trained."""
    for rule in network.modules():
        if isinstance(rule, RelativePosition):
            table = 10.0 * torch.randn(2 * CHUNK_FRAMES - 1, rule.table.shape[1])
            table[CHUNK_FRAMES - CROP_FRAMES : CHUNK_FRAMES + CROP_FRAMES - 1] = rule.table
            rule.table, rule.furthest = torch.nn.Parameter(table), CHUNK_FRAMES - 1


@pytest.mark.usefixtures("one_thread")  # sums of threads depend on how many there are
@pytest.mark.parametrize("position", ["rotary", "relative"])
def test_a_network_trained_at_256_frames_is_no_worse_in_chunks_of_2048(position: Position) -> None:
    network = trained(position)
    short, as_trained, long = (separated_nsdr_db(network, frames) for frames in (16, CROP_FRAMES, CHUNK_FRAMES))
    # The songs are such that a network which cannot look far does badly: it takes one kind for the other.
    assert min(short) < min(as_trained) - 3.0
    assert min(as_trained) > 8.0
    assert all(ratio > trained_ratio - TOLERANCE_DB for ratio, trained_ratio in zip(long, as_trained, strict=True))
    if position == "relative":
        # The measure notices what happens where distances are not clipped.
        with torch.no_grad():
            forget_to_clip(network)
        assert min(separated_nsdr_db(network, CHUNK_FRAMES)) < min(as_trained) - 5 * TOLERANCE_DB
