"""Copies of a library's songs at other speeds, and so at other pitches: more voices from the few there are.

    python recipes/builtin/speeds.py LIBRARY FOLDER --speeds 0.89 1.12 [--leave-out NAME ...]

A library holds songs, or song folders with the files of a pair. Each file is written again as flac whose sample rate is
that of the file times the speed, to the nearest ten, as flac wants high rates to be; `vrtool prepare` resamples them.
Songs and song folders get names that end in `_x0.89` and so on; those that have such names already are no originals and
are passed over. Songs kept for validation or for judging are to be left out, by their names.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np

from vrtool.audio.formats import AUDIO_SUFFIXES
from vrtool.audio.waveform import Waveform, read_audio, write_audio


def main() -> None:
    """Read the command line and write the copies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--speeds", nargs="+", type=float, required=True)
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="NAME")
    arguments = parser.parse_args()
    songs = {name: song for song in sorted(arguments.library.iterdir()) if (name := name_of(song)) is not None}
    if unknown := set(arguments.leave_out) - songs.keys():
        print(f"{arguments.library}: has none of {', '.join(sorted(unknown))}", file=sys.stderr)
    for name in sorted(songs.keys() - set(arguments.leave_out)):
        copy_song(songs[name], name, arguments.folder, arguments.speeds)


def name_of(song: Path) -> str | None:
    """Return the name of a song or song folder; None for what is hidden, a copy or no audio."""
    if song.is_dir():
        if any(path.is_dir() for path in song.iterdir()):
            sys.exit(f"{song}: expected a song folder, found one with folders; give it as a library of its own")
        name = song.name
    elif song.suffix.lower() in AUDIO_SUFFIXES:
        name = song.stem
    else:
        return None
    return None if name.startswith(".") or re.search(r"_x[0-9.]+$", name) else name


def copy_song(song: Path, name: str, folder: Path, speeds: list[float]) -> None:
    """Write a song's files at other speeds, all with the one gain that leaves none beyond full scale."""
    files = sorted(song.iterdir()) if song.is_dir() else [song]
    audio = {file.stem: read_audio(file) for file in files if file.suffix.lower() in AUDIO_SUFFIXES}
    largest = max((float(np.abs(each.samples).max(initial=0.0)) for each in audio.values()), default=0.0)
    for speed in speeds:
        copy = folder / f"{name}_x{speed:g}"
        (copy if song.is_dir() else folder).mkdir(parents=True, exist_ok=True)
        for stem, each in audio.items():
            path = copy / f"{stem}.flac" if song.is_dir() else folder / f"{copy.name}.flac"
            rate = round(each.sample_rate * speed / 10) * 10
            write_audio(path, Waveform(samples=each.samples / max(largest, 1.0), sample_rate=rate))


if __name__ == "__main__":
    main()
