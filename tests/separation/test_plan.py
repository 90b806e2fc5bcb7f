"""Names of stems, and batches as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vrtool.errors import InputError
from vrtool.separation.batch_file import read_batch
from vrtool.separation.plan import StemFiles, plan_separation
from vrtool.separation.song_file import StemFormat


@pytest.mark.parametrize(
    ("filename", "message"),
    [
        ("{track}.{ext}", r"without \{stem\}"),
        ("{stem}.{ext}", r"without \{track\}"),
        ("{track}/{stem}", r"ends in \.wav"),
        ("{track}/{stem}.flac", r"ends in \.wav"),
        ("../{track}/{stem}.{ext}", "below the output folder"),
        ("/{track}/{stem}.{ext}", "below the output folder"),
        ("{track}/{stem}.{ext}{album}", "no fields but"),
        ("{track.__class__}/{stem}.{ext}", "no fields but"),
        ("{track!r}/{stem}.{ext}", "no fields but"),
        ("{track:>30}/{stem}.{ext}", "no fields but"),
        ("{}/{stem}.{ext}", "no fields but"),
        ("{track/{stem}.{ext}", "--filename"),
    ],
)
def test_names_that_cannot_be_are_refused(filename: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        StemFiles(filename=filename)


def test_names_follow_their_pattern_and_keep_the_tree(tmp_path: Path) -> None:
    (tmp_path / "in/a {b}").mkdir(parents=True)
    (tmp_path / "in/a {b}/c.mp3").touch()
    files = StemFiles(stem_format=StemFormat(name="flac"), filename="{{}} {track}_{stem}.{ext}")
    (job,) = plan_separation([tmp_path / "in"], tmp_path / "out", files=files).jobs
    assert job.destinations == {
        "vocals": tmp_path / "out/{} a {b}/c_vocals.flac",
        "instrumental": tmp_path / "out/{} a {b}/c_instrumental.flac",
    }


def test_one_stem_needs_no_word_for_it() -> None:
    files = StemFiles(stems=("instrumental",), filename="{track}.{ext}")
    assert files.path_of("song", "instrumental") == Path("song.wav")


def test_names_that_make_two_stems_one_file_are_refused(tmp_path: Path) -> None:
    for name in ("a.wav", "a_vocals.wav"):
        (tmp_path / name).touch()
    files = StemFiles(stems=("vocals",), filename="{track}.{ext}")
    with pytest.raises(InputError, match="is an input and would be written over"):
        plan_separation([tmp_path / "a.wav"], tmp_path, files=files)
    with pytest.raises(InputError, match="would both be written to"):
        plan_separation([tmp_path / "a.wav"], tmp_path / "out", files=files, copies=_copy_of(tmp_path))


def _copy_of(folder: Path) -> list[Path]:
    (folder / "other").mkdir()
    (folder / "other/a.wav").touch()
    return [folder / "other"]


def test_a_batch_names_what_to_separate_and_what_to_copy_from_its_own_folder(tmp_path: Path) -> None:
    path = tmp_path / "batch.json"
    path.write_text(json.dumps({"output": "stems", "convert": ["a.mp3", "/music/b"], "copy": ["c.wav"]}))
    batch = read_batch(path)
    assert batch.output == tmp_path / "stems"
    assert batch.convert == (tmp_path / "a.mp3", Path("/music/b"))
    assert batch.copy == (tmp_path / "c.wav",)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ('{"output": "o", "convert": ["a"], "model": "x"}', "unknown key model; a batch has output, convert, copy"),
        ('{"convert": ["a"]}', 'expected "output" to name a folder, found null'),
        ('{"output": "o"}', "nothing to do"),
        ('{"output": "o", "convert": "a"}', 'expected "convert" to be a list of paths, found "a"'),
        ('{"output": "o", "copy": [1]}', 'expected "copy" to be a list of paths'),
        ("[]", "expected an object"),
        ("{", "found no JSON"),
    ],
)
def test_a_batch_that_is_none_is_refused(tmp_path: Path, document: str, message: str) -> None:
    (tmp_path / "batch.json").write_text(document)
    with pytest.raises(InputError, match=message):
        read_batch(tmp_path / "batch.json")


def test_a_batch_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json"):
        read_batch(tmp_path / "nowhere.json")
