"""The whole job in a few minutes, on songs made up on the spot: prepare, inspect, train, separate, evaluate.

    python3 recipes/quickstart.py [FOLDER]

FOLDER (default: quickstart) receives the songs, the cache, the trained network and the stems.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from environment import PROJECT, environment_python

RECIPE = PROJECT / "recipes" / "tiny.toml"


def main() -> None:
    """Run each command of the job, showing it as a person would type it."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart")
    started = time.monotonic()
    python = environment_python()
    songs, cache, trained, stems = (folder / name for name in ("songs", "cache", "run", "stems"))
    mark = folder / "made-by-quickstart"
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        sys.exit(f"{folder} holds other files; name a folder that is new or empty")
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    for leftover in (trained, stems):
        shutil.rmtree(leftover, ignore_errors=True)

    step("Make a little library of synthetic songs")
    call([python, PROJECT / "recipes" / "synthetic_songs.py", songs])
    step("Turn it into a spectrogram cache")
    library: list[Path | str] = [
        "--instrumentals",
        songs / "instrumentals",
        "--vocals",
        songs / "vocals",
        "--pairs",
        songs / "pairs",
    ]
    vrtool(python, "prepare", *library, "--output", cache)
    step("See what is in it")
    vrtool(python, "inspect-dataset", cache, "--verify")
    step("Train a tiny network on it")
    vrtool(python, "train", RECIPE, "--cache", cache, "--output", trained)
    step("Separate a song it has not seen")
    unseen = songs / "unseen"
    vrtool(python, "separate", unseen / "song" / "mixture.wav", "--model", trained, "--output", stems)
    step("Judge the result")
    vrtool(python, "evaluate", unseen, "--model", trained)

    print(f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes. Listen to")
    for name in ("vocals.wav", "instrumental.wav"):
        print(f"  {stems / 'mixture' / name}")
    print(f"made from {unseen / 'song' / 'mixture.wav'}. How it learned: {trained / 'report.html'}")


def step(title: str) -> None:
    """Announce the next part."""
    print(f"\n== {title}", flush=True)


def vrtool(python: Path, *arguments: Path | str) -> None:
    """Show and run one vrtool command."""
    print(" ".join(["$ vrtool", *map(str, arguments)]), flush=True)
    call([python, "-m", "vrtool", *arguments])


def call(command: list[Path | str]) -> None:
    """Run a command where the user stands; leave with its exit code if it fails."""
    code = subprocess.run([str(part) for part in command], check=False).returncode
    if code != 0:
        sys.exit(code)


if __name__ == "__main__":
    main()
