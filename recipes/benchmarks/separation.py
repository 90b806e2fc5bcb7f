"""How fast `vrtool separate` goes and how much memory it takes, for songs from a minute to hours.

    python recipes/benchmarks/separation.py RUN [--minutes 1 10 30 180] [--threads 2]

RUN is a trained network. For each length made-up stereo music is written as 16-bit flac at 44.1 kHz and separated into
two wav files as the command does it, in a process of its own, decode to encode, loading left out. Told are the seconds
that it took and those that all cores worked for it, which other work on the machine changes less, times real time by
either, and the highest memory of the process. Beside it stand the baseline, one chunk at a time by torch's default
threads together, and the limit, the network's forward passes over the same chunks alone, by so many threads with a pass
each. Wanted: memory flat, time linear, faster than the baseline, 30 times real time on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 44100

# What runs in a process of its own: prints the seconds taken and the highest memory in bytes.
SEPARATE = """
import json, resource, sys, time, torch
from pathlib import Path
from vrtool.model.memory import keep_freed_memory
from vrtool.separation.separator import Separator
run, song, output, num_threads, together = sys.argv[1:]
keep_freed_memory()
# The threads that a separator begins with are those of its workers, those that follow are the calling thread's.
torch.set_num_threads(1 if together == "together" else int(num_threads))
separator = Separator.from_checkpoint(run, device="cpu")
torch.set_num_threads(int(num_threads))
began, work_began = time.perf_counter(), time.process_time()
separator.separate_file(song, output)
seconds, work = time.perf_counter() - began, time.process_time() - work_began
print(json.dumps([seconds, work, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""

FORWARD = """
import json, sys, time, torch
from vrtool.model.memory import keep_freed_memory
from vrtool.separation.passes import PassPool
from vrtool.separation.separator import Separator
from vrtool.separation.trained import load_trained
run, num_threads = sys.argv[1:]
keep_freed_memory()
separator = Separator.from_checkpoint(run, device="cpu")
network, frames = load_trained(run, "cpu")[0].eval(), separator.chunk_frames
x = torch.rand(1, separator.num_channels, separator.stft.num_bins, frames)
pool = PassPool(int(num_threads))

@torch.inference_mode()
def forward(x):
    return network(x)

times = []
for _ in range(4):
    began, work_began = time.perf_counter(), time.process_time()
    for masks in [pool.submit(forward, x) for _ in range(2 * pool.num_workers)]:
        masks.result()
    taken, worked = time.perf_counter() - began, time.process_time() - work_began
    times.append((taken / (2 * pool.num_workers), worked / (2 * pool.num_workers)))
chunk_seconds = frames * (1 - separator.overlap) * separator.stft.hop_seconds
print(json.dumps([chunk_seconds / min(taken) for taken in zip(*times)]))
"""


def main() -> None:
    """Measure every length and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run of vrtool train, or a checkpoint")
    parser.add_argument("--minutes", nargs="+", type=float, default=[1, 10, 30, 180], help="lengths of the songs")
    parser.add_argument("--threads", type=int, default=2, help="threads of the network")
    arguments = parser.parse_args()
    limit, work_limit = json.loads(_output(FORWARD, arguments.run, arguments.threads))
    print("times real time by seconds taken, by seconds worked, and the latter's share of the limit's\n")
    print(f"limit, the network's forward passes alone {limit:17.1f} {work_limit:10.1f}\n")
    print(" minutes   seconds  worked   by taken  by worked  / limit  peak memory MB   baseline by taken  by worked")
    for minutes in arguments.minutes:
        with tempfile.TemporaryDirectory() as folder:
            song = made_up_song(Path(folder) / "song.flac", minutes * 60)
            seconds, work, peak_bytes = _separate(arguments.run, song, folder, arguments.threads, "each")
            base_seconds, base_work, _ = _separate(arguments.run, song, f"{folder}/b", arguments.threads, "together")
        print(
            f"{minutes:8g}  {seconds:8.1f}  {work:6.1f}  {minutes * 60 / seconds:9.1f}  {minutes * 60 / work:9.1f}  "
            f"{minutes * 60 / work / work_limit:7.2f}  {peak_bytes / 1e6:14.0f}  {minutes * 60 / base_seconds:18.1f}  "
            f"{minutes * 60 / base_work:9.1f}",
            flush=True,
        )


def _separate(run: Path, song: Path, output: object, num_threads: int, how: str) -> tuple[float, float, float]:
    """Return the seconds taken, those worked and the highest memory in bytes of a process that separates a song."""
    seconds, work, peak_bytes = json.loads(_output(SEPARATE, run, song, output, num_threads, how))
    return seconds, work, peak_bytes


def made_up_song(path: Path, seconds: float) -> Path:
    """Write tones over noise, minute by minute, as loud as music is."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", samplerate=SAMPLE_RATE, channels=2, subtype="PCM_16") as file:
        for start in np.arange(0, seconds, 60):
            time_seconds = np.arange(round(min(60, seconds - start) * SAMPLE_RATE)) / SAMPLE_RATE
            tones = sum(np.sin(2 * np.pi * 110 * number * time_seconds) / number for number in range(1, 9))
            swell = 0.55 + 0.45 * np.sin(2 * np.pi * time_seconds / 4)
            sides = [0.1 * tones + 0.02 * rng.normal(size=time_seconds.size) for _ in range(2)]
            file.write((np.stack(sides, axis=1) * swell[:, None]).astype(np.float32))
    return path


def _output(program: str, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    return done.stdout


if __name__ == "__main__":
    main()
