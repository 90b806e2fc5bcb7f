"""`vrtool separate --live`: raw PCM on standard input, a stem on standard output, every message on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from vrtool.cli.console import errors
from vrtool.cli.interrupts import interrupts_to
from vrtool.cli.network import print_device
from vrtool.errors import AudioError, InputError, InterruptedRunError

if TYPE_CHECKING:
    from vrtool.audio.pcm import PcmFormat
    from vrtool.audio.waveform import FloatArray
    from vrtool.separation.live import LiveSeparator, Stem

READ_BYTES = 65536
"""The most that is read at once, a Linux pipe's size; what is there is taken without waiting for more."""

LATE_SHARE = 0.95
"""Of the times of frames, the share that the summary gives the longest of."""

LISTENER_GONE = 128 + 13
"""What a shell says of a program that SIGPIPE ended, the signal of writing to a pipe that nobody reads any more."""


def separate_live(
    *, model: Path, device: str, stem: Stem, pcm: PcmFormat, sample_rate: int | None, num_channels: int
) -> None:
    """Separate a stream until its end; Ctrl-C ends it after what was read, a listener that has gone ends it quietly."""
    source = _descriptor(
        sys.stdin, "reads raw PCM from standard input", "ffmpeg -i song.mp3 -f s16le -ac 2 -ar 44100 - |"
    )
    sink = _descriptor(sys.stdout, "writes raw PCM to standard output", "| aplay -f cd")
    from vrtool.separation.live import LiveSeparator

    output = _PcmOutput(sink, pcm)
    with _one_thread():
        separator = LiveSeparator.from_checkpoint(
            model, stem=stem, sample_rate=sample_rate, num_channels=num_channels, device=device
        )
        _print_start(separator, pcm)
        _carry_and_tell(source, separator, output)


def _carry_and_tell(source: int, separator: LiveSeparator, output: _PcmOutput) -> None:
    """Carry PCM until an end of any kind, and say what came of it; a listener that has gone has no interest in that."""
    try:
        _carry(source, separator, output)
    except BrokenPipeError as error:
        raise typer.Exit(LISTENER_GONE) from error
    except (AudioError, KeyboardInterrupt) as error:
        _print_end(separator, output)
        if isinstance(error, AudioError):
            raise
        raise InterruptedRunError("interrupted; the stem ends here") from error
    _print_end(separator, output)


class _PcmOutput:
    """A file descriptor that takes samples, each block written as soon as it comes: the listener is waiting for it."""

    def __init__(self, descriptor: int, pcm: PcmFormat) -> None:
        self._descriptor = descriptor
        self.pcm = pcm
        self.num_samples = 0
        self.num_clipped = 0

    def write(self, samples: FloatArray) -> None:
        """Write samples (channel, sample) and count them."""
        from vrtool.audio.pcm import encode_pcm

        data, num_clipped = encode_pcm(samples, self.pcm)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self.num_samples += samples.shape[1]
        self.num_clipped += num_clipped


def _carry(source: int, separator: LiveSeparator, output: _PcmOutput) -> None:
    """Carry PCM from a descriptor through the separator to the output until the source ends."""
    from vrtool.audio.pcm import decode_pcm_stream
    from vrtool.separation.live import separate_stream

    with _interruptible_pieces(source) as pieces:
        for samples in separate_stream(separator, decode_pcm_stream(pieces, output.pcm, separator.num_channels)):
            output.write(samples)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in one thread while the block runs, unless OMP_NUM_THREADS says how many.

    Frames come one by one and each is little work: threads that meet after every layer wait for one another longer than
    they compute as soon as a player or a decoder runs beside. On two busy cores a frame of a network of 14 M parameters
    took 33 ms in one thread and 620 ms in two.
    """
    import torch

    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _descriptor(stream: TextIO | None, does: str, example: str) -> int:
    """Return a standard stream's file descriptor; InputError if there is none or a terminal is at its other end."""
    if stream is None or stream.isatty():
        found = "none" if stream is None else "a terminal"
        raise InputError(f"--live {does}, found {found}; pipe it, for example {example}")
    return stream.fileno()


@contextmanager
def _interruptible_pieces(source: int) -> Iterator[Iterator[bytes]]:
    """Give the bytes of `source` as they come, which Ctrl-C or a request to terminate ends with KeyboardInterrupt.

    Only the wait for input is interrupted, so that what was read can be finished; a second Ctrl-C interrupts at once.
    """
    asked = False
    is_waiting = False

    def ask() -> None:
        nonlocal asked
        if asked or is_waiting:
            asked = True
            raise KeyboardInterrupt
        asked = True

    def read() -> bytes:
        nonlocal is_waiting
        is_waiting = True
        try:
            if asked:
                raise KeyboardInterrupt
            return os.read(source, READ_BYTES)
        finally:
            is_waiting = False

    def pieces() -> Iterator[bytes]:
        while piece := read():
            yield piece

    with interrupts_to(ask):
        yield pieces()


def _say(sentence: str) -> None:
    errors.print(sentence, markup=False, soft_wrap=True)


def _print_start(separator: LiveSeparator, pcm: PcmFormat) -> None:
    """Say what is done where, and by how much the stem will be late."""
    latency = separator.latency
    sides = "mono" if separator.num_channels == 1 else "stereo"
    print_device(separator.device, "float32")
    _say(f"{separator.stem} of {pcm} at {separator.sample_rate} Hz, {sides}")
    _say(
        f"latency {1000 * latency.total_seconds:.1f} ms: window {1000 * latency.window_seconds:.1f}, look-ahead "
        f"{1000 * latency.look_ahead_seconds:.1f}, resampling {1000 * latency.resampling_seconds:.1f}; computing comes "
        "on top"
    )


def _print_end(separator: LiveSeparator, output: _PcmOutput) -> None:
    """Say what came of it, and whether it can be listened to as it comes."""
    times = separator.times
    if output.num_clipped:
        _say(f"{output.num_clipped} samples beyond full scale were clipped; --pcm f32le keeps them")
    seconds = output.num_samples / separator.sample_rate
    frame_seconds = separator.stft.hop_seconds
    late_seconds = times.quantile_seconds(LATE_SHARE)
    _say(
        f"{seconds:.1f} s of audio in {times.total_seconds:.1f} s of computing, "
        f"{seconds / times.total_seconds:.1f} times real time; a frame lasts {1000 * frame_seconds:.1f} ms and took "
        f"{1000 * times.mean_seconds:.1f} ms on average, {LATE_SHARE:.0%} at most {1000 * late_seconds:.1f} ms, "
        f"the worst {1000 * times.worst_seconds:.1f} ms; {times.frames_at_once:.1f} were computed at once"
    )
    if times.mean_seconds > frame_seconds:
        _say(
            "This machine cannot keep up with real time: frames take longer to compute than they last. Take a smaller "
            "network or a GPU (--device)."
        )
    elif late_seconds > frame_seconds:
        _say("This machine keeps up with real time on average only: let the player buffer some more.")
