"""The formats that audio is written in, and what each can hold."""

from __future__ import annotations

from dataclasses import dataclass

from vrtool.audio.formats import Subtype
from vrtool.errors import AudioError, InputError

# The sample rates of the MPEG-1, MPEG-2 and MPEG-2.5 layer III standards; LAME would resample from any other.
MP3_SAMPLE_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """How one output format is written, and what it can hold.

    `subtypes` maps our names of sample formats to libsndfile's, the default first; it is empty where there is
    no choice. `compression` is libsndfile's number from 0 (best quality, largest file) to 1 for lossy
    formats.
    """

    name: str
    subtypes: dict[Subtype, str]
    max_channels: int
    sample_rates: tuple[int, ...] | range
    compression: float | None = None


OUTPUT_FORMATS: dict[str, OutputFormat] = {
    "wav": OutputFormat(
        name="WAV",
        subtypes={"32f": "FLOAT", "16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "8": "PCM_U8"},
        max_channels=1024,
        sample_rates=range(1, 1 << 31),
    ),
    "flac": OutputFormat(
        name="FLAC",
        subtypes={"24": "PCM_24", "16": "PCM_16", "8": "PCM_S8"},
        max_channels=8,
        sample_rates=range(1, 655351),
    ),
    # Vorbis quality 8 of 10, about 256 kbit/s for stereo: stems are summed and processed further. libsndfile
    # crashes above 200 kHz, libvorbis' own limit.
    "ogg": OutputFormat(name="OGG", subtypes={}, max_channels=255, sample_rates=range(1, 200001), compression=0.2),
    # LAME's V0, variable, about 245 kbit/s for stereo.
    "mp3": OutputFormat(name="MP3", subtypes={}, max_channels=2, sample_rates=MP3_SAMPLE_RATES, compression=0.0),
}


def choose_subtype(output: OutputFormat, subtype: Subtype | None, origin: str) -> Subtype | None:
    """Return the subtype to write: the one asked for, or the format's default; None where the format has none.

    Raises InputError, which begins with `origin`, if the format does not have the one asked for.
    """
    if subtype is None:
        return next(iter(output.subtypes), None)
    if subtype not in output.subtypes:
        choice = f"one of {', '.join(output.subtypes)}" if output.subtypes else "no subtype"
        raise InputError(f"{origin}: {output.name.lower()} takes {choice}, found {subtype}")
    return subtype


def faithful_subtype(output: OutputFormat, found: Subtype | None) -> Subtype | None:
    """Return the subtype that keeps what a file with samples of `found` holds, or the format's most exact one."""
    return found if found in output.subtypes else next(iter(output.subtypes), None)


def refuse_unsuitable(origin: str, output: OutputFormat, num_channels: int, sample_rate: int) -> None:
    """Raise AudioError, which begins with `origin`, if the format cannot hold the channels or the sample rate."""
    name = output.name.lower()
    if num_channels > output.max_channels:
        raise AudioError(
            f"{origin}: {name} holds at most {output.max_channels} channels, found {num_channels}; use wav"
        )
    if sample_rate not in output.sample_rates:
        rates = output.sample_rates
        known = f"up to {rates[-1]}" if isinstance(rates, range) else ", ".join(map(str, rates))
        raise AudioError(f"{origin}: {name} takes sample rates {known} Hz, found {sample_rate}; use wav")
