"""For all tests: synthetic audio, libraries and caches, small, seeded, with an STFT so short that they are fast.

Also the command line in this process, a network's checkpoint, a disk that is full, and torch in one thread.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray, Waveform, write_audio
from vrtool.cli import main
from vrtool.dataset.cache import Cache, open_cache
from vrtool.dataset.rows import Precision
from vrtool.preparation import Library, PreparationReport, PreparationSettings, plan_preparation, prepare

if TYPE_CHECKING:
    from vrtool.model import ModelConfig

SAMPLE_RATE = 8000


def _signal(
    seed: int, *, seconds: float = 2.0, num_channels: int = 2, sample_rate: int = SAMPLE_RATE, level: float = 0.1
) -> FloatArray:
    """Return (channel, sample): a chord that fades in and out over noise, other in each channel."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    pitches_hz = rng.uniform(80.0, 0.4 * sample_rate, (num_channels, 3, 1))
    chord = np.sin(2 * np.pi * pitches_hz * time).sum(axis=1) * np.sin(2 * np.pi * rng.uniform(0.3, 1.0) * time)
    samples: FloatArray = (level * (chord + 0.3 * rng.standard_normal(chord.shape))).astype(np.float32)
    return samples


def _write(path: Path, samples: FloatArray, sample_rate: int = SAMPLE_RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, Waveform(samples=samples, sample_rate=sample_rate))
    return path


def _prepare(
    output: Path,
    *,
    instrumentals: Sequence[Path] = (),
    vocals: Sequence[Path] = (),
    pairs: Sequence[Path] = (),
    npz: Sequence[Path] = (),
    **settings: Any,
) -> PreparationReport:
    libraries = [
        *(Library(kind="instrumental", root=root) for root in instrumentals),
        *(Library(kind="vocal", root=root) for root in vocals),
        *(Library(kind="pair", root=root) for root in pairs),
        *(Library(kind="npz", root=root) for root in npz),
    ]
    plan = plan_preparation(
        libraries, PreparationSettings(**{"output": output, "validation": "0", "minimum_seconds": 0.5, **settings})
    )
    with ThreadPoolExecutor(1) as executor:
        return prepare(plan, executor)


@pytest.fixture(scope="session")
def tiny_stft() -> StftSpec:
    """The STFT of all small caches: 62.5 frames a second, 129 bins."""
    return StftSpec(sample_rate=SAMPLE_RATE, n_fft=256, hop_length=128)


@pytest.fixture(scope="session")
def make_signal() -> Callable[..., FloatArray]:
    """`make_signal(seed, seconds=, num_channels=, sample_rate=, level=)` gives samples (channel, sample)."""
    return _signal


@pytest.fixture(scope="session")
def write_sound() -> Callable[..., Path]:
    """`write_sound(path, samples, sample_rate)` writes a file of 32-bit floats, its folders too."""
    return _write


@pytest.fixture(scope="session")
def run_prepare() -> Callable[..., PreparationReport]:
    """`run_prepare(output, vocals=[...], pairs=[...], stft=..., prune=True, ...)` prepares in this process."""
    return _prepare


@pytest.fixture(scope="session")
def small_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders instrumentals, vocals and pairs with stereo, mono and short tracks. Not to be changed."""
    root = tmp_path_factory.mktemp("library")
    _write(root / "instrumentals/stereo.wav", _signal(1, seconds=3.0))
    _write(root / "instrumentals/mono.wav", _signal(2, seconds=2.5, num_channels=1))
    _write(root / "instrumentals/short.wav", _signal(3, seconds=0.6))
    _write(root / "vocals/stereo.wav", _signal(4, seconds=2.0))
    _write(root / "vocals/mono.wav", _signal(5, seconds=3.0, num_channels=1))
    _write(root / "vocals/short.wav", _signal(6, seconds=0.7))
    instrumental = _signal(7, seconds=2.5)
    _write(root / "pairs/stereo/instrumental.wav", instrumental)
    _write(root / "pairs/stereo/mixture.wav", instrumental + _signal(8, seconds=2.5))
    _write(root / "pairs/mono/instrumental.wav", _signal(9, seconds=2.0, num_channels=1))
    _write(root / "pairs/mono/vocals.wav", _signal(10, seconds=2.0, num_channels=1))
    return root


def _cache_of(library: Path, output: Path, stft: StftSpec, precision: Precision) -> Cache:
    _prepare(
        output,
        instrumentals=[library / "instrumentals"],
        vocals=[library / "vocals"],
        pairs=[library / "pairs"],
        stft=stft,
        precision=precision,
    )
    return open_cache(output)


@pytest.fixture(scope="session")
def small_cache(small_library: Path, tiny_stft: StftSpec, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """The cache of `small_library`, all of it for training. Not to be changed."""
    return _cache_of(small_library, tmp_path_factory.mktemp("prepared") / "cache", tiny_stft, "int16")


@pytest.fixture(scope="session")
def float_cache(small_library: Path, tiny_stft: StftSpec, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """The same as `small_cache`, in float32. Not to be changed."""
    return _cache_of(small_library, tmp_path_factory.mktemp("prepared") / "floats", tiny_stft, "float32")


@pytest.fixture
def vrtool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., CompletedProcess[str]]:
    """Runs the command line in this process, with a thread in place of worker processes, which take long to start."""
    monkeypatch.setattr("vrtool.preparation.executors.process_pool", lambda _: ThreadPoolExecutor(1))

    def run(*words: object) -> CompletedProcess[str]:
        arguments = ["vrtool", *map(str, words)]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return CompletedProcess(arguments, left.value.code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def save_network(tiny_stft: StftSpec) -> Callable[..., Path]:
    """`save_network(path, config)` writes the checkpoint of an untrained network, always the same one."""
    # Not at the top: most tests do without torch, which takes seconds to import.
    import torch

    from vrtool.model import build_model
    from vrtool.model.checkpoint import Checkpoint, save_checkpoint

    def save(path: Path, config: ModelConfig) -> Path:
        torch.manual_seed(0)
        save_checkpoint(path, Checkpoint(weights=build_model(config).state_dict(), model=config, stft=tiny_stft))
        return path

    return save


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    """`limit_file_size(num_bytes)` makes the kernel refuse what a file would get beyond, as when a disk is full."""
    resource = pytest.importorskip("resource", reason="Windows has no limit of a file's size")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda num_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Lets torch compute in one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
