"""Find the songs that the ancestor's patches make up: which there are, and of which kind.

The ancestor (carperbr/vocal-remover-frame-transformer, later kingoomieiii/frame-transformer, lib/dataset.py) cuts a
song's spectrogram from its first frame on into patches of equal length, by default without overlap, the last one filled
up with zero frames, and saves patch j as `{song}_p{j}.npz`, j from 0, in a folder such as
`cs2048_sr44100_hl1024_nf2048_of0`. Of vocals it leaves out every patch that is silent throughout: what is missing there
is silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vrtool.audio.formats import AUDIO_SUFFIXES
from vrtool.dataset.folders import first_names, printable_name, scan_folders
from vrtool.dataset.npz_patch import PatchHeader, has_magnitude_above, read_patch_header
from vrtool.dataset.patch_names import EXPECTED, number_of, overlap_by_name, song_of
from vrtool.dataset.song_folder import subtracted
from vrtool.dataset.track import Discovery, Kind, Problem, Role, Source, Track
from vrtool.errors import AudioError, InputError

CONSIDERED_SUFFIXES = AUDIO_SUFFIXES | {".npz", ".npy"}
"""What may have been meant to be imported, and is a problem where its name is not a patch's."""
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
    tracks: list[Track] = []
    problems: list[Problem] = []
    tree = scan_folders(root, lambda path: path.suffix.lower() in CONSIDERED_SUFFIXES, problems, expected=EXPECTED)
    unread = {problem.path for problem in problems}
    num_songs = 0
    for folder in tree.all_folders():
        if str(folder.path) in unread:
            continue  # patches that nobody could see would pass for silence
        songs, others = _grouped(folder.files)
        num_songs += len(songs)
        if others:
            problems.append(_unknown_files(folder.path, others))
        if songs and overlap_by_name(folder.path):
            problems.append(_overlapping(folder.path))
            continue
        for song, patches in songs.items():
            name = printable_name((folder.path / song).relative_to(root).as_posix())
            found = _track(name, song, patches)
            if isinstance(found, Track):
                tracks.append(found)
            else:
                problems += found
    if num_songs == 0:
        reason = problems[0].reason if problems else f"expected {EXPECTED}"
        raise InputError(f"no patches in {root}; {reason}")
    return Discovery(tracks=sorted(tracks, key=lambda track: track.name), problems=problems)


def _grouped(files: Sequence[Path]) -> tuple[dict[str, list[Path]], list[Path]]:
    """Return each song's patches in their order, and the files of other names."""
    songs: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in files:
        song = song_of(path)
        if song is None:
            others.append(path)
        else:
            songs.setdefault(song, []).append(path)
    return {song: sorted(patches, key=number_of) for song, patches in songs.items()}, others


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
    numbers = [number_of(path) for path in patches]
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
    return Problem(
        path=str(folder),
        reason=f"expected {EXPECTED}, found {len(files)} files of other names ({first_names(files)}); move them away",
    )


def _overlapping(folder: Path) -> Problem:
    return Problem(
        path=str(folder),
        reason="expected patches without overlap (a folder named ..._of0), found ones that overlap by its name; "
        "prepare the audio they were made from",
    )
