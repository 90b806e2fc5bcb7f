"""The part of a report to listen to: songs with players and spectrograms, all within the page itself. HTML texts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from vrtool.audio.snippet import mp3_bytes
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import Waveform
from vrtool.drawing.picture import DYNAMIC_RANGE_DB, ByteArray, frequency_share, png, row_edges_hz
from vrtool.watching.excerpts import Separated
from vrtool.watching.words import decibels

MARKS_HZ = {100: "100 Hz", 1000: "1 kHz", 10000: "10 kHz"}


def listening(songs: Sequence[Separated]) -> str:
    """Return a player and a picture of each signal of the songs; nothing without songs."""
    if not songs:
        return ""
    seconds = songs[0].excerpt.mixture.duration_seconds
    return (
        "<h2>Listen</h2>"
        f'<p class="explanation">{seconds:.0f} seconds of songs kept for validation, separated by the best network. '
        f"The pictures show time across and frequency upward, in octaves; black is {DYNAMIC_RANGE_DB:.0f} dB below "
        "the mixture's loudest point.</p>"
        f"{''.join(_song(song) for song in songs)}"
    )


def _song(song: Separated) -> str:
    mixed = ", mixed with voices of other tracks" if song.excerpt.kind == "instrumental" else ""
    scores = (
        f"nSDR here: vocals {decibels(song.vocals_nsdr_db)} dB, "
        f"instrumental {decibels(song.instrumental_nsdr_db)} dB{mixed}"
    )
    name = song.excerpt.name
    signals = "".join(_signal(name, part, song.signals[part], song.pictures[part], song.stft) for part in song.signals)
    return (
        f'<section class="song"><h3>{escape(name)}</h3><p class="explanation">{scores}</p>'
        f'<div class="signals">{signals}</div></section>'
    )


def _signal(song: str, part: str, waveform: Waveform, levels: ByteArray, spec: StftSpec) -> str:
    label = escape(f"{part} of {song}")
    highest_hz = row_edges_hz(spec)[-1]
    marks = "".join(
        f'<span style="bottom:{100 * frequency_share(frequency, spec):.1f}%">{text}</span>'
        for frequency, text in MARKS_HZ.items()
        if frequency < 0.9 * highest_hz
    )
    return (
        f'<figure class="signal"><figcaption>{part}</figcaption><div class="spectrogram">'
        f'<img alt="Spectrogram: {label}" src="{data_uri("image/png", png(levels))}">{marks}</div>'
        f'<audio controls preload="none" aria-label="{label}" src="{data_uri("audio/mpeg", mp3_bytes(waveform))}">'
        "</audio></figure>"
    )


def data_uri(media_type: str, data: bytes) -> str:
    """Return `data` as an address that holds it."""
    return f"data:{media_type};base64,{b64encode(data).decode('ascii')}"
