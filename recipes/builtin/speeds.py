"""Copies of a library's songs at other speeds, and so at other pitches: more voices from the few there are.

    python recipes/builtin/speeds.py LIBRARY FOLDER --speeds 0.89 1.12 [--leave-out NAME ...]

Every audio file of the library, which may hold songs or song folders, is written again as flac whose sample rate is
that of the file times the speed; `vrtool prepare` then resamples. Songs and song folders get names that end in `_x0.89`
and so on. Songs kept for validation or for judging are to be left out, by their names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from vrtool.atomic import atomic_path
from vrtool.audio.formats import AUDIO_SUFFIXES
from vrtool.audio.waveform import read_audio


def main() -> None:
    """Read the command line and write the copies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--speeds", nargs="+", type=float, required=True)
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="NAME")
    arguments = parser.parse_args()
    for song in sorted(arguments.library.iterdir()):
        if song.stem in arguments.leave_out:
            continue
        for speed in arguments.speeds:
            copy = arguments.folder / f"{song.stem}_x{speed:g}"
            if song.is_dir():
                copy.mkdir(parents=True, exist_ok=True)
                for file in filter(is_audio, song.iterdir()):
                    write_copy(file, copy / f"{file.stem}.flac", speed)
            elif is_audio(song):
                write_copy(song, copy.with_name(f"{copy.name}.flac"), speed)


def is_audio(path: Path) -> bool:
    """Return whether the file's name is that of audio."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def write_copy(source: Path, destination: Path, speed: float) -> None:
    """Write a file's samples under another sample rate."""
    audio = read_audio(source)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(destination) as temporary:
        soundfile.write(temporary, np.clip(audio.samples.T, -1.0, 1.0), round(audio.sample_rate * speed))


if __name__ == "__main__":
    main()
