"""What the names of the ancestor's patches and of their folders tell: the song, the place in it, the STFT.

See `ancestor_patches` for what the ancestor writes where.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from vrtool.audio.spectrogram import StftSpec

# As the ancestor writes it, without leading zeros: no two names have one number. A title may have a _p1 in it, too.
PATCH_NAME = re.compile(r"(?P<song>.+)_p(?P<number>0|[1-9][0-9]{0,5})\.npz", re.DOTALL)
EXPECTED = "patches named {song}_p0.npz, {song}_p1.npz and so on"

# What the ancestor calls its folders: patch length, sample rate, hop, n_fft and overlap, then what is in them.
FOLDER_NAME = re.compile(
    r"cs[0-9]+_sr(?P<sample_rate>[0-9]+)_hl(?P<hop_length>[0-9]+)_nf(?P<n_fft>[0-9]+)_of(?P<overlap>[0-9]+)"
)


def song_of(path: Path) -> str | None:
    """Return the name of the song that a patch is of, None if the file's name is not a patch's."""
    match = PATCH_NAME.fullmatch(path.name)
    return None if match is None else match["song"]


def number_of(path: Path) -> int:
    """Return which of its song's patches a patch is, counted from 0."""
    match = PATCH_NAME.fullmatch(path.name)
    assert match is not None
    return int(match["number"])


def named_stft(path: Path) -> StftSpec | None:
    """Return the STFT that the name of a patch's folder tells, None if it has none of the ancestor's names.

    Raises InputError if vrtool has no such STFT.
    """
    parameters = _folder_parameters(path.absolute().parent)
    if parameters is None:
        return None
    return StftSpec(**{name: parameters[name] for name in ("sample_rate", "n_fft", "hop_length")})


def overlap_by_name(folder: Path) -> bool:
    """Tell whether patches in a folder overlap, as far as its name says."""
    parameters = _folder_parameters(folder.absolute())
    return parameters is not None and parameters["overlap"] > 0


def _folder_parameters(folder: Path) -> Mapping[str, int] | None:
    """Return what the name of a folder, or of the nearest one around it, tells of the patches in it."""
    for name in (folder.name, *(parent.name for parent in folder.parents)):
        if match := FOLDER_NAME.search(name):
            return {key: int(value) for key, value in match.groupdict().items()}
    return None
