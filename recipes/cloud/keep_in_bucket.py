"""Runs a training on a machine that may vanish: its folder is brought from a mounted bucket and kept there.

    python recipes/cloud/keep_in_bucket.py --run RUN --bucket KEPT -- torchrun ... -m vrtool train ... --output RUN

First the files in KEPT, if there are any, are copied to RUN, a folder on the machine's own disk. Then the command runs.
Every two minutes (`--every SECONDS`), and once more when it has ended, what is new in RUN is copied to KEPT, and what
RUN has no more is removed there. SIGTERM and SIGINT are passed on to the command; its exit code is the exit code.

Why RUN is not simply in the bucket: a training writes to a temporary name and renames, gives the newest checkpoint a
second name by a hard link, and appends to metrics.jsonl. A bucket has none of this. Here it only sees whole files, each
written once from beginning to end under its final name. last.safetensors stays out: it is the newest checkpoint again.
If the machine goes amid a copy, at worst the newest checkpoint is cut off there: `vrtool train` finds that by its
checksum and goes on from the one before it.

On several machines run it on each. Which of them has the process that writes RUN, torchrun decides; the others have
nothing new to copy.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path

LEFT_OUT = "last.safetensors"
Stamp = tuple[int, int, int]
"""Size, time and inode of a file: a file that replaces another differs in one of them."""


def main() -> int:
    """Bring the folder, run the command, keep what it writes; return the exit code."""
    arguments = _parser().parse_args()
    run, bucket = arguments.run, arguments.bucket
    bucket.mkdir(parents=True, exist_ok=True)
    run.mkdir(parents=True, exist_ok=True)
    kept = bring(bucket, run)
    asked: list[int] = []  # for what there is no process yet
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        signal.signal(number, lambda received, _: asked.append(received))
    process = subprocess.Popen(arguments.command)
    for number in numbers:
        signal.signal(number, lambda received, _: process.send_signal(received))
    for early in asked:
        process.send_signal(early)
    code = None
    while code is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout=arguments.every)
        kept = keep(run, bucket, kept)
    is_complete = kept == files_of(run)
    if not is_complete:
        print(f"{bucket} lacks what was last written to {run}", file=sys.stderr)
    return code or int(not is_complete)


def files_of(folder: Path) -> dict[Path, Stamp]:
    """Return the finished files of a folder by their names in it."""
    found: dict[Path, Stamp] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if name.name == LEFT_OUT or any(part.startswith(".") for part in name.parts):
            continue
        # An old checkpoint may be removed in this moment.
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found[name] = stamp_of(path)
    return found


def stamp_of(path: Path) -> Stamp:
    """Return what tells a file from one that replaces it."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def keep(run: Path, bucket: Path, kept: dict[Path, Stamp]) -> dict[Path, Stamp]:
    """Make the bucket like the run, which it was when the run was as in `kept`; return what it is like now.

    What cannot be written is told and tried again the next time; before that, nothing is removed.
    """
    found = files_of(run)
    now = dict(kept)
    is_complete = True
    # Checkpoints come last: the metrics must reach as far as they.
    for name in sorted(found, key=lambda name: (name.name.startswith("step-"), name)):
        if kept.get(name) == found[name]:
            continue
        try:
            copy(run / name, bucket / name)
        except OSError as error:
            print(f"{bucket / name}: {error}; trying again later", file=sys.stderr)
            is_complete = False
        else:
            now[name] = found[name]
    for name in kept.keys() - found.keys() if is_complete else ():
        try:
            (bucket / name).unlink(missing_ok=True)
        except OSError as error:
            print(f"{bucket / name}: {error}; removing it later", file=sys.stderr)
        else:
            del now[name]
    return now


def bring(bucket: Path, run: Path) -> dict[Path, Stamp]:
    """Copy what the bucket has to the run, but for what is there in a newer state; return what both have alike.

    A machine that was not lost has its files still, and they may go further than those that were kept.
    """
    newer = files_of(run)
    alike = {}
    for name, (_, kept_ns, _) in files_of(bucket).items():
        if name not in newer or newer[name][1] < kept_ns:
            copy(bucket / name, run / name)
            alike[name] = stamp_of(run / name)
    return alike


def copy(source: Path, destination: Path) -> None:
    """Write a whole file from beginning to end."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, destination)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run a command and keep the folder that it writes in a bucket.")
    parser.add_argument("--run", type=Path, required=True, help="folder on the machine's own disk")
    parser.add_argument("--bucket", type=Path, required=True, help="folder in a mounted bucket")
    parser.add_argument("--every", type=float, default=120, metavar="SECONDS", help="between two copies (120)")
    parser.add_argument("command", nargs="+", help="after --, the command")
    return parser


if __name__ == "__main__":
    sys.exit(main())
