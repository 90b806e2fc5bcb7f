"""Join the ancestor's patches into songs: which there are, of which kind, how long, and their frames.

The ancestor (carperbr/vocal-remover-frame-transformer, later kingoomieiii/frame-transformer, lib/dataset.py) cuts a
song's spectrogram from its first frame on into patches of equal length, by default without overlap, the last one filled
up with zero frames, and saves patch j as `{song}_p{j}.npz`, j from 0, in a folder such as
`cs2048_sr44100_hl1024_nf2048_of0`. Of vocals it leaves out every patch that is silent throughout: what is missing there
is silence.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from vrtool.audio.formats import AUDIO_SUFFIXES
from vrtool.audio.spectrogram import BLOCK_FRAMES, ComplexArray, StftSpec
from vrtool.dataset.folders import printable_name
from vrtool.dataset.npz_patch import PatchHeader, Signal, has_magnitude_above, read_patch_header, read_signal
from vrtool.dataset.song_folder import subtracted
from vrtool.dataset.track import Discovery, Kind, Problem, Role, Source, Track
from vrtool.errors import AudioError, InputError

# As the ancestor writes it, without leading zeros: no two names have one number. A title may have a _p1 in it, too.
PATCH_NAME = re.compile(r"(?P<song>.+)_p(?P<number>0|[1-9][0-9]{0,5})\.npz", re.DOTALL)
EXPECTED = "patches named {song}_p0.npz, {song}_p1.npz and so on"

# What the ancestor calls its folders: patch length, sample rate, hop, n_fft and overlap, then what is in them.
FOLDER_NAME = re.compile(
    r"cs[0-9]+_sr(?P<sample_rate>[0-9]+)_hl(?P<hop_length>[0-9]+)_nf(?P<n_fft>[0-9]+)_of(?P<overlap>[0-9]+)"
)

LARGEST_WAVEFORM_PEAK = 8.0
"""A larger c was measured on a spectrogram: decoded audio stays far below, even where it exceeds full scale."""
ROUNDING = 1.01
"""How far a magnitude has to lie above c to say that c is not the largest one."""
LONGEST_SILENCE_FRAMES = 155_040
"""An hour at the ancestor's 44.1 kHz and hop of 1024: a longer gap is no pause but a wrong number."""


def find_patches(root: Path) -> Discovery:
    """Return a track for every song whose patches lie in a folder or below it, and what could not be used.

    Each role's sources are the song's patches in their order, to be joined in time; a pair's mixture and instrumental
    have the same ones. Raises InputError unless `root` is a folder with at least one patch in it.

    A patch with Y is a pair's. Otherwise c tells the kind, as the ancestor measured it on an instrumental's
    spectrogram but on the waveform of vocals. A c above any waveform's peak is an instrumental's. With a smaller one,
    vocals are what has a magnitude above c: an instrumental has none by definition, but vocals many, as hundreds of
    samples add up in a magnitude. Only then are samples read, and only up to the first such magnitude.
    """
    if not root.exists():
        raise InputError(f"{root}: expected a folder of {EXPECTED}, found nothing of that name")
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder of {EXPECTED}, found a file; give the folder it lies in")
    tracks: list[Track] = []
    problems: list[Problem] = []
    num_songs = 0
    for folder, files in _walk(root, problems):
        songs, others = _grouped(files)
        num_songs += len(songs)
        if others:
            problems.append(_unknown_files(folder, others))
        if songs and _overlaps(folder):
            problems.append(_overlapping(folder))
            continue
        for song, patches in songs.items():
            name = printable_name((folder / song).relative_to(root).as_posix())
            found = _track(name, song, patches)
            if isinstance(found, Track):
                tracks.append(found)
            else:
                problems += found
    if num_songs == 0:
        reason = problems[0].reason if problems else f"expected {EXPECTED}"
        raise InputError(f"no patches in {root}; {reason}")
    return Discovery(tracks=sorted(tracks, key=lambda track: track.name), problems=problems)


def patch_bins(path: Path) -> int:
    """Return the number of bins of a patch: half of n_fft, and one. Raises AudioError if it is damaged."""
    return read_patch_header(path).num_bins


def named_stft(path: Path) -> StftSpec | None:
    """Return the STFT that the name of a patch's folder tells, None if it has none of the ancestor's names.

    Raises InputError if vrtool has no such STFT.
    """
    parameters = _folder_parameters(path.absolute().parent)
    if parameters is None:
        return None
    return StftSpec(**{name: parameters[name] for name in ("sample_rate", "n_fft", "hop_length")})


def num_patch_frames(paths: Sequence[Path]) -> int:
    """Return how many frames a song has: up to the last that is not zero in all of its signals, at least 1.

    Reads the first patch's headers and the last one's samples (and those of the one before while all are zero). Raises
    AudioError if a patch is damaged.
    """
    header = read_patch_header(paths[0])
    for path in reversed(paths):
        num_frames = max(_num_frames_with_sound(path, signal) for signal in header.signals)
        if num_frames:
            return _number(path) * header.num_frames + num_frames
    return 1


def read_patch_frames(paths: Sequence[Path], role: Role, num_frames: int) -> Iterator[ComplexArray]:
    """Yield the first `num_frames` frames of a song's signal, piece by piece, time-major and in order.

    The patches are all there are of a song (as `find_patches` gives them), `num_frames` is what `num_patch_frames` told
    of them. Each block is a complex64 (channel, frame, bin) of its own with at most BLOCK_FRAMES frames, as those of
    `stft_blocks`. Memory: one signal of one patch. A pair's vocals are for the caller to subtract. Raises AudioError if
    a patch is damaged, has values that are not finite, or does not fit the first one.
    """
    header = read_patch_header(paths[0])
    assert not (header.is_pair and role == "vocals")
    signal: Signal = "Y" if header.is_pair and role == "instrumental" else "X"
    position = 0
    for path in paths:
        start = min(_number(path) * header.num_frames, num_frames)
        for first in range(position, start, BLOCK_FRAMES):
            count = min(BLOCK_FRAMES, start - first)
            yield np.zeros((header.num_channels, count, header.num_bins), np.complex64)
        # The last patch may have another length, if somebody has cut off its padding.
        position = num_frames if path == paths[-1] else min(start + header.num_frames, num_frames)
        if position > start:
            yield from _blocks(path, signal, header, position - start)


def _blocks(path: Path, signal: Signal, first: PatchHeader, num_frames: int) -> Iterator[ComplexArray]:
    """Yield the first `num_frames` frames of one patch; its array is released before the next patch is read."""
    array = read_signal(path, signal)
    expected = (first.num_channels, first.num_bins)
    if array.shape[:2] != expected or array.shape[2] < num_frames:
        raise AudioError(
            f"{path}: expected {signal} of {expected[0]} channels, {expected[1]} bins and {num_frames} frames, found "
            f"the shape {array.shape}; run vrtool prepare again"
        )
    for start in range(0, num_frames, BLOCK_FRAMES):
        block = array[:, :, start : min(start + BLOCK_FRAMES, num_frames)]
        yield np.array(block.transpose(0, 2, 1), order="C")  # a copy: a view would keep the whole patch


def _num_frames_with_sound(path: Path, signal: Signal) -> int:
    """Return the number of a patch's frames up to the last that is not zero."""
    sounds = read_signal(path, signal).any(axis=(0, 1))
    return int(np.flatnonzero(sounds)[-1]) + 1 if sounds.any() else 0


def _walk(root: Path, problems: list[Problem]) -> Iterator[tuple[Path, list[Path]]]:
    """Yield every folder with its files, sorted; hidden ones are left out, links followed, each folder entered once."""

    def refuse(error: OSError) -> None:
        problems.append(Problem(path=str(error.filename), reason=f"the folder cannot be read ({error.strerror})"))

    entered: set[tuple[int, int]] = set()
    for name, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        status = Path(name).stat()
        is_new = (status.st_dev, status.st_ino) not in entered
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(filter(_is_visible, folders)) if is_new else []
        if is_new:
            yield Path(name), [Path(name) / file for file in sorted(filter(_is_visible, files))]


def _is_visible(name: str) -> bool:
    # As in the other libraries, two dots or more begin a title.
    return not name.startswith(".") or name.startswith("..")


def _grouped(files: Sequence[Path]) -> tuple[dict[str, list[Path]], list[Path]]:
    """Return each song's patches in their order, and the files that may have been meant to be imported."""
    songs: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in files:
        match = PATCH_NAME.fullmatch(path.name)
        if match is not None:
            songs.setdefault(match["song"], []).append(path)
        elif path.suffix.lower() in {".npz", ".npy", *AUDIO_SUFFIXES}:
            others.append(path)
    return {song: sorted(patches, key=_number) for song, patches in songs.items()}, others


def _number(path: Path) -> int:
    match = PATCH_NAME.fullmatch(path.name)
    assert match is not None
    return int(match["number"])


def _folder_parameters(folder: Path) -> Mapping[str, int] | None:
    """Return what the name of a folder, or of the nearest one around it, tells of the patches in it."""
    for name in (folder.name, *(parent.name for parent in folder.parents)):
        if match := FOLDER_NAME.search(name):
            return {key: int(value) for key, value in match.groupdict().items()}
    return None


def _overlaps(folder: Path) -> bool:
    parameters = _folder_parameters(folder.absolute())
    return parameters is not None and parameters["overlap"] > 0


def _track(name: str, song: str, patches: Sequence[Path]) -> Track | list[Problem]:
    """Return a song's track, or all that is wrong with its patches."""
    headers: dict[Path, PatchHeader] = {}
    problems: list[Problem] = []
    for path in patches:
        try:
            headers[path] = read_patch_header(path)
        except AudioError as error:
            problems.append(_problem(path, error))
    if problems:
        return problems
    for path, header in headers.items():
        reason = _difference(patches[0], headers[patches[0]], header, is_last=path == patches[-1])
        if reason is not None:
            return [Problem(path=str(path), reason=reason)]
    kind = _kind(headers)
    if isinstance(kind, Problem):
        return [kind]
    reason = _gap(patches, kind, headers[patches[0]].num_frames)
    if reason is not None:
        return [Problem(path=str(patches[0].parent / song), reason=reason)]
    return Track(name=name, kind=kind, sources=_sources(kind, patches))


def _difference(first_path: Path, first: PatchHeader, header: PatchHeader, *, is_last: bool) -> str | None:
    """Return why a patch cannot be of the same song as the first one, or None."""
    expected, found = _description(first, is_last=is_last), _description(header, is_last=is_last)
    if found != expected:
        return f"expected {expected} as in {first_path.name}, found {found}; make the song's patches again"
    if first.peak is None or header.peak is None or math.isclose(first.peak, header.peak, rel_tol=1e-3):
        return None
    # Two songs of one name, the longer one's last patches behind the shorter one: the ancestor overwrites nothing.
    return (
        f"expected c = {first.peak:g} as in {first_path.name}, found {header.peak:g}: a patch of another song of this "
        "name; prepare the audio they were made from"
    )


def _description(header: PatchHeader, *, is_last: bool) -> str:
    arrays = " and ".join((*header.signals, *(("vocals",) if header.is_marked_vocals else ())))
    length = "" if is_last else f" and {header.num_frames} frames"
    return f"{arrays} with {header.num_channels} channels, {header.num_bins} bins{length}"


def _kind(headers: Mapping[Path, PatchHeader]) -> Kind | Problem:
    """Return what a song is (see `find_patches`), or why it cannot be told."""
    path, header = next(iter(headers.items()))
    if header.is_pair:
        return "pair"
    if header.is_marked_vocals:
        return "vocal"
    if header.peak is None:
        reason = (
            "expected a peak c, which tells vocals from instrumentals, found none; prepare the audio it was made from"
        )
        return Problem(path=str(path), reason=reason)
    if header.peak > LARGEST_WAVEFORM_PEAK:
        return "instrumental"
    for path in headers:
        try:
            if has_magnitude_above(path, ROUNDING * header.peak):
                return "vocal"
        except AudioError as error:
            return _problem(path, error)
    return "instrumental"


def _gap(patches: Sequence[Path], kind: Kind, num_frames: int) -> str | None:
    """Return why patches are missing that should not be, or None: of vocals only silent ones are."""
    numbers = [_number(path) for path in patches]
    gaps = [range(before + 1, after) for before, after in zip([-1, *numbers], numbers, strict=False)]
    longest = max(gaps, key=len)
    if kind == "vocal":
        if len(longest) * num_frames <= LONGEST_SILENCE_FRAMES:
            return None
        return (
            f"expected patches without a gap of more than an hour, found none from p{longest[0]} to p{longest[-1]}; "
            "move away what does not belong to the song"
        )
    if not longest:
        return None
    missing = ", ".join(f"p{gap[0]}" if len(gap) == 1 else f"p{gap[0]} to p{gap[-1]}" for gap in gaps if gap)
    return f"expected patches p0 to p{numbers[-1]}, found no {missing}; copy or make them again"


def _sources(kind: Kind, patches: Sequence[Path]) -> dict[Role, tuple[Source, ...]]:
    sources = tuple(Source(path=path) for path in patches)
    if kind == "pair":
        return {"mixture": sources, "instrumental": sources, "vocals": sources + subtracted(sources)}
    return {"instrumental" if kind == "instrumental" else "vocals": sources}


def _problem(path: Path, error: AudioError) -> Problem:
    return Problem(path=str(path), reason=str(error).removeprefix(f"{path}: "))


def _unknown_files(folder: Path, files: Sequence[Path]) -> Problem:
    names = ", ".join(path.name for path in files[:3]) + (", ..." if len(files) > 3 else "")
    return Problem(
        path=str(folder),
        reason=f"expected {EXPECTED}, found {len(files)} files of other names ({names}); move them away",
    )


def _overlapping(folder: Path) -> Problem:
    return Problem(
        path=str(folder),
        reason="expected patches without overlap (a folder named ..._of0), found ones that overlap by its name; "
        "prepare the audio they were made from",
    )
