"""Music without vocals from Debian's game packages, 45 seconds of each piece: a pool of instrumentals for training.

    python recipes/builtin/game_music.py FOLDER --leave-out NAME ... [--leave-out-songs-of FOLDER ...]

Needs apt-get and dpkg of a Debian or Ubuntu whose packages have these names, some 3 GB for what is downloaded, and
1.2 GB for the 298 flac files that were made of it in November 2026. `--leave-out` names pieces by a part of their
names (letters and digits alone count), `--leave-out-songs-of` folders whose files are other copies of pieces: those
that are kept for judging must be in neither training nor validation. What is sung was left out as far as a network
trained before heard it: see LOG.md.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from vrtool.atomic import atomic_path

PACKAGES = (
    "asc-music", "colobot-common-sounds", "drascula-music", "extremetuxracer-data", "freedroidrpg-data",
    "fretsonfire-songs-muldjord", "fretsonfire-songs-sectoid", "frozen-bubble-data", "hedgewars-data",
    "hyperrogue-music", "megaglest-data", "naev-data", "planetblupi-music-ogg", "pushover-data", "redeclipse-data",
    "singularity-music", "supertux-data", "supertuxkart-data", "torcs-data", "warzone2100-music", "wesnoth-1.16-music",
    "widelands-data", "zaz-data",
)  # fmt: skip
SUFFIXES = {".ogg", ".mp3", ".flac", ".wav", ".opus"}
# Shorter ones are jingles and noises.
MINIMUM_SECONDS = 45.0
CUT_SECONDS = 45.0
# An introduction may be one held note: cuts begin after a quarter of the piece.
CUT_START = 0.25
SILENCE = 1e-3


def main() -> None:
    """Read the command line and fill the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--leave-out-songs-of", nargs="*", default=[], type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    # Files of the folders are called package__piece.
    copies = {plain(path.stem.split("__")[-1]) for folder in arguments.leave_out_songs_of for path in folder.iterdir()}
    parts = [plain(name) for name in arguments.leave_out]
    written = 0
    with tempfile.TemporaryDirectory() as scratch:
        for package in PACKAGES:
            for source in unpacked_audio(package, Path(scratch)):
                piece = plain(source.stem if source.stem not in ("song", "guitar", "rhythm") else source.parent.name)
                destination = arguments.folder / f"{package.split('-')[0]}__{piece}.flac"
                if piece in copies or any(part in piece for part in parts) or destination.exists():
                    continue
                written += cut(source, destination)
    print(f"{arguments.folder}: {written} pieces")


def plain(name: str) -> str:
    """Return a name's first 60 letters and digits, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())[:60]


def program(name: str) -> str:
    """Return where a program is; exits if there is none."""
    return shutil.which(name) or sys.exit(f"{name} is not to be found: this needs a Debian or one of its kind")


def unpacked_audio(package: str, scratch: Path) -> list[Path]:
    """Return the audio files of a package, once it is downloaded and unpacked."""
    subprocess.run([program("apt-get"), "download", package], cwd=scratch, check=True, stdout=sys.stderr)
    (archive,) = scratch.glob(f"{package}_*.deb")
    folder = scratch / package
    subprocess.run([program("dpkg"), "-x", str(archive), str(folder)], check=True)
    archive.unlink()
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def cut(source: Path, destination: Path) -> bool:
    """Write a cut of a piece, unless it is too short, silent, of more than two channels or cannot be read."""
    try:
        with soundfile.SoundFile(source) as file:
            seconds = file.frames / file.samplerate
            if seconds < MINIMUM_SECONDS or file.channels > 2:
                return False
            file.seek(int(min(CUT_START * seconds, seconds - CUT_SECONDS) * file.samplerate))
            samples = file.read(int(CUT_SECONDS * file.samplerate), dtype="float32")
            rate = file.samplerate
    except soundfile.LibsndfileError as error:
        print(f"{source}: {error}", file=sys.stderr)
        return False
    if np.sqrt(np.mean(np.square(samples))) < SILENCE:
        return False
    with atomic_path(destination) as temporary:
        soundfile.write(temporary, np.clip(samples, -1.0, 1.0), rate)
    return True


if __name__ == "__main__":
    main()
