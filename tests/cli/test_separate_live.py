"""`vrtool separate --live` through its entry point and as a process between pipes."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from vrtool.audio.pcm import PcmFormat, decode_pcm, encode_pcm
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.model import ModelConfig, Network
from vrtool.model.network import MaskStream
from vrtool.separation.live import LiveSeparator

STFT = StftSpec(sample_rate=8000, n_fft=256, hop_length=128)
LOOK_AHEAD_FRAMES = 2
LATENCY = 256 + LOOK_AHEAD_FRAMES * 128

Command = Callable[..., CompletedProcess[str]]
Live = Callable[..., tuple[int, bytes, str]]


class LowVocals(Network):
    """Gives the lower half of the bins to the vocals, as late as its look-ahead allows."""

    settings = frozenset()
    look_ahead_frames = LOOK_AHEAD_FRAMES

    def forward(self, magnitude: Tensor) -> Tensor:
        mask = torch.ones_like(magnitude)
        mask[:, :, :65] = 0
        return mask

    def open_stream(self) -> MaskStream:
        return LateStream(self)


class LateStream(MaskStream):
    def __init__(self, network: LowVocals) -> None:
        self.network = network
        self.waiting = torch.zeros(1, 2, 129, 0)

    def push(self, magnitude: Tensor) -> Tensor:
        self.waiting = torch.cat((self.waiting, magnitude), dim=3)
        return self.take(max(0, self.waiting.shape[3] - LOOK_AHEAD_FRAMES))

    def finish(self) -> Tensor:
        return self.take(self.waiting.shape[3])

    def take(self, count: int) -> Tensor:
        known, self.waiting = self.waiting[..., :count], self.waiting[..., count:]
        return self.network(known)


@pytest.fixture
def live(vrtool: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Live:
    """Runs the command in this process on bytes; gives its exit code, what it wrote and what it said.

    The model called `low` costs no time to load.
    """
    load = LiveSeparator.from_checkpoint

    def from_checkpoint(path: Path, **options: Any) -> LiveSeparator:
        network = LowVocals(ModelConfig(n_fft=256))
        return LiveSeparator(network, STFT, **options) if path == Path("low") else load(path, **options)

    monkeypatch.setattr(LiveSeparator, "from_checkpoint", from_checkpoint)

    def run(data: bytes, *words: object, model: Path | str = "low") -> tuple[int, bytes, str]:
        source, sink = tmp_path / "in.pcm", tmp_path / "out.pcm"
        source.write_bytes(data)
        with source.open() as stdin, sink.open("w") as stdout, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(sys, "stdout", stdout)
            done = vrtool("separate", "--live", "--device", "cpu", "--model", model, *words)
        return done.returncode, sink.read_bytes(), done.stderr

    return run


def song(num_samples: int, num_channels: int = 2, level: float = 0.3) -> FloatArray:
    samples = np.random.default_rng(0).uniform(-level, level, (num_channels, num_samples))
    return samples.astype(np.float32)


def integers(data: bytes) -> npt.NDArray[np.int64]:
    return np.frombuffer(data, "<i2").astype(np.int64)


@pytest.mark.parametrize("num_samples", [0, 1, 129, 5000])
@pytest.mark.parametrize("options", [(), ("--channels", 1), ("--sample-rate", 11025)])
def test_16_bit_stems_are_as_long_as_the_mixture_and_sum_to_it_within_a_step(
    live: Live, num_samples: int, options: tuple[object, ...]
) -> None:
    data, _ = encode_pcm(song(num_samples), "s16le")
    stems = [live(data, "--stem", stem, *options) for stem in ("vocals", "instrumental")]
    assert [code for code, _, _ in stems] == [0, 0]
    vocals, instrumental = (integers(written) for _, written, _ in stems)
    mixture = integers(data)
    assert vocals.shape == instrumental.shape == mixture.shape
    assert np.abs(vocals + instrumental - mixture).max(initial=0) <= 1
    if num_samples == 5000:
        assert np.abs(vocals).max() > 1000


@pytest.mark.parametrize("pcm", ["s24le", "s32le", "f32le"])
def test_all_formats_say_the_same(live: Live, pcm: PcmFormat) -> None:
    mixture = decode_pcm(encode_pcm(song(1000), "s16le")[0], "s16le", 2)
    _, expected, _ = live(encode_pcm(mixture, "f32le")[0], "--pcm", "f32le")
    code, found, _ = live(encode_pcm(mixture, pcm)[0], "--pcm", pcm)
    assert code == 0
    np.testing.assert_allclose(decode_pcm(found, pcm, 2), decode_pcm(expected, "f32le", 2), rtol=0, atol=2.0**-23)


def test_the_latency_and_the_measured_times_are_said_and_nothing_but_pcm_is_written(live: Live) -> None:
    code, written, said = live(bytes(4 * 4000))
    assert code == 0
    assert written == bytes(4 * 4000)
    assert "latency 64.0 ms: window 32.0, look-ahead 32.0, resampling 0.0" in said
    assert "0.5 s of audio in" in said
    assert "times real time" in said


def test_a_network_that_is_too_slow_is_told_in_words(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrtool.separation.live_latency.FrameTimes.mean_seconds", 1.0)
    _, _, said = live(bytes(4 * 4000))
    assert "cannot keep up with real time" in said


def test_clipped_samples_are_counted_unless_they_are_floats(live: Live) -> None:
    # What is left of a square wave at full scale without its harmonics swings beyond it.
    square = np.sign(np.sin(np.arange(4000) / 5) + 1e-3).astype(np.float32)
    data, _ = encode_pcm(np.stack((square, square)), "s16le")
    code, written, said = live(data, "--stem", "vocals")
    assert code == 0
    num_at_full_scale = int(np.isin(integers(written), (-32768, 32767)).sum())
    match = re.search(r"(\d+) samples beyond full scale were clipped; --pcm f32le keeps them", said)
    assert match is not None
    assert 100 < int(match[1]) <= num_at_full_scale
    data, _ = encode_pcm(np.stack((square, square)), "f32le")
    assert "clipped" not in live(data, "--stem", "vocals", "--pcm", "f32le")[2]


def test_a_last_sample_frame_that_is_cut_short_is_an_error_after_the_whole_ones(live: Live) -> None:
    data, _ = encode_pcm(song(1000), "s16le")
    code, written, said = live(data[:-1])
    assert code == 1
    assert written == live(data[:-4])[1]
    assert "ends 3 bytes into a sample frame of 4 (2 x s16le)" in said
    assert "times real time" in said


def test_a_broken_float_is_an_error_after_what_was_before_it(live: Live) -> None:
    mixture = song(1000)
    mixture[0, 777] = np.nan
    code, written, said = live(encode_pcm(mixture, "f32le")[0], "--pcm", "f32le")
    assert code == 1
    assert len(written) == 777 * 8
    assert "sample 777 (0.097 s) is nan" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("song.wav",), "INPUT: only for songs in files"),
        (("--output", "stems"), "--output: only for songs in files"),
        (("--overwrite", "--format", "flac"), "--format, --overwrite: only for songs in files"),
        (("--channels", 3), "1 or 2 channels, found 3"),
        (("--sample-rate", 0), "found 0"),
    ],
)
def test_impossible_options_are_the_users_mistake(live: Live, words: tuple[object, ...], message: str) -> None:
    code, written, said = live(b"", *words)
    assert (code, written) == (2, b"")
    assert message in said


def test_a_network_that_cannot_be_streamed_is_refused_with_one_that_can(
    live: Live, save_network: Callable[..., Path], tmp_path: Path
) -> None:
    config = ModelConfig(n_fft=256, channels=1, num_bands=4, feedforward_dim=8, num_encoders=0, num_decoders=0)
    code, _, said = live(b"", model=save_network(tmp_path / "whole.safetensors", config))
    assert code == 2
    assert 'architecture = "autoregressive"' in said


@pytest.mark.parametrize(("name", "example"), [("stdin", "ffmpeg -i song.mp3"), ("stdout", "| aplay -f cd")])
def test_a_terminal_is_refused_with_a_pipe_to_use(
    vrtool: Command, monkeypatch: pytest.MonkeyPatch, name: str, example: str
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with Path(os.devnull).open() as nothing, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", nothing)
        patch.setattr(sys, "stdout", nothing)
        patch.setattr(sys, name, Terminal())
        done = vrtool("separate", "--live", "--model", "nowhere")
    assert done.returncode == 2
    assert "found a terminal" in done.stderr
    assert example in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a.wav", "--output", "stems", "--stem", "vocals", "--channels", "1"), "--channels: only for --live"),
        (("--output", "stems"), "INPUT... [--output DIR]; or --live"),
    ],
)
def test_files_need_their_own_options_and_no_others(vrtool: Command, words: tuple[str, ...], message: str) -> None:
    done = vrtool("separate", *words)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, save_network: Callable[..., Path]) -> Path:
    config = ModelConfig(
        architecture="autoregressive",
        n_fft=256,
        channels=1,
        num_bands=2,
        feedforward_dim=8,
        num_decoders=1,
        crop_frames=8,
        look_ahead_frames=LOOK_AHEAD_FRAMES,
    )
    return save_network(tmp_path_factory.mktemp("network") / "run.safetensors", config)


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(network: Path) -> Iterator[Start]:
    """Starts the command as a process between pipes."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(*words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "vrtool", "separate", "--live", "--device", "cpu", "-m", str(network), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def send(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)


def receive(process: subprocess.Popen[bytes], num_bytes: int) -> bytes:
    """Read exactly so many bytes, which hangs if they are not written."""
    assert process.stdout is not None
    data = b""
    while len(data) < num_bytes:
        piece = process.stdout.read(num_bytes - len(data))
        assert piece, "the stem ended early"
        data += piece
    return data


def end(process: subprocess.Popen[bytes], written: bytes, *, exit_code: int) -> tuple[bytes, str]:
    """Return all that a process wrote, given what was read of it, and all that it said."""
    assert process.stdout is not None
    assert process.stderr is not None
    written += process.stdout.read()
    said = process.stderr.read().decode()
    assert process.wait() == exit_code, said
    return written, said


def test_a_process_between_pipes_writes_the_stem_as_the_mixture_comes(start: Start) -> None:
    data, _ = encode_pcm(song(2000), "s16le")
    process = start("--stem", "vocals")
    written = b""
    # Each piece is answered, long before the mixture ends, by all that is older than the latency.
    for sent in range(1000, 2001, 250):
        send(process, data[4 * (sent - 250 if sent > 1000 else 0) : 4 * sent])
        written += receive(process, 4 * (sent - LATENCY) - len(written))
    assert process.stdin is not None
    process.stdin.close()
    written, said = end(process, written, exit_code=0)
    assert len(written) == len(data)
    assert np.abs(integers(written)).max() > 100
    assert "latency 64.0 ms" in said
    assert "times real time" in said


def test_ctrl_c_finishes_what_was_read_and_says_so(start: Start) -> None:
    data, _ = encode_pcm(song(1000), "s16le")
    process = start()
    send(process, data)
    written = receive(process, 4 * (1000 - LATENCY))
    process.send_signal(signal.SIGINT)
    written, said = end(process, written, exit_code=1)
    assert len(written) == len(data)
    assert "interrupted" in said
    assert "Traceback" not in said


def test_a_listener_that_has_gone_ends_it_without_a_word(start: Start) -> None:
    data, _ = encode_pcm(song(1000), "s16le")
    process = start()
    send(process, data)
    receive(process, 4)
    assert process.stdout is not None
    process.stdout.close()
    send(process, data)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert process.wait() == 141
    assert said.splitlines()[-1].startswith("latency")
