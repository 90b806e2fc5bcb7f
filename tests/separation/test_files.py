"""Batches of songs: what is planned, refused, skipped, and what survives a bad file."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vrtool.audio.encoding import open_writer
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.tags import read_tags
from vrtool.audio.waveform import Subtype, Waveform, probe_audio, read_audio, write_audio
from vrtool.errors import InputError
from vrtool.separation.files import SeparationProgress, SeparationReport, separate_files
from vrtool.separation.plan import StemFiles, plan_separation
from vrtool.separation.separator import Separator
from vrtool.separation.song_file import StemFormat


class Half(nn.Module):
    """Gives half of everything to the instrumental."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, 0.5)


@pytest.fixture
def separator() -> Separator:
    return Separator(Half(), StftSpec(sample_rate=8000, n_fft=256, hop_length=128))


def write_song(path: Path, *, num_channels: int = 1, num_samples: int = 2000, level: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).standard_normal((num_channels, num_samples)).astype(np.float32)
    write_audio(path, Waveform(samples=samples * np.float32(level), sample_rate=8000))
    return path


def in_format(name: str, subtype: Subtype | None = None) -> StemFiles:
    return StemFiles(stem_format=StemFormat(name=name, subtype=subtype))


def run(separator: Separator, source: Path, output: Path, *, overwrite: bool = False) -> SeparationReport:
    return separate_files(separator, plan_separation([source], output), overwrite=overwrite)


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_tree_and_unicode_names(tmp_path: Path, separator: Separator) -> None:
    write_song(tmp_path / "in" / "älbum" / "夜 – 1.feat.wav")
    write_song(tmp_path / "in" / "top.flac")
    report = run(separator, tmp_path / "in", tmp_path / "out")
    assert tree(tmp_path / "out") == [
        "top/instrumental.wav",
        "top/vocals.wav",
        "älbum/夜 – 1.feat/instrumental.wav",
        "älbum/夜 – 1.feat/vocals.wav",
    ]
    assert not report.problems


def test_written_stems_sum_to_the_song_beyond_full_scale_too(tmp_path: Path, separator: Separator) -> None:
    song = write_song(tmp_path / "loud.wav", num_channels=2, level=3)
    (done,) = run(separator, song, tmp_path / "out").separated
    stems = [read_audio(path).samples for path in done.job.outputs]
    np.testing.assert_allclose(sum(stems), read_audio(song).samples, atol=2e-6)
    assert done.num_clipped == 0


def test_samples_that_a_format_clips_are_counted(tmp_path: Path, separator: Separator) -> None:
    song = write_song(tmp_path / "loud.wav", level=3)
    (done,) = separate_files(separator, plan_separation([song], tmp_path / "out", files=in_format("flac"))).separated
    assert done.num_clipped > 100
    assert tree(tmp_path / "out") == ["loud/instrumental.flac", "loud/vocals.flac"]


@pytest.mark.parametrize("audio_format", ["wav", "flac", "ogg", "mp3"])
def test_every_offered_format_can_be_read_back(tmp_path: Path, separator: Separator, audio_format: str) -> None:
    song = write_song(tmp_path / "song.wav", num_channels=2, num_samples=20000)
    plan = plan_separation([song], tmp_path / "out", files=in_format(audio_format))
    assert not separate_files(separator, plan).problems
    for path in plan.jobs[0].outputs:
        stem = read_audio(path)
        assert (stem.sample_rate, stem.num_channels) == (8000, 2)
        # The stem is half the song; lossy formats keep its energy to a quarter.
        level = float(np.sqrt(np.mean(np.square(stem.samples))))
        assert 0.75 * 0.05 < level < 1.25 * 0.05


def test_two_songs_of_one_name_are_refused_and_both_are_named(tmp_path: Path) -> None:
    write_song(tmp_path / "in" / "a.wav")
    write_song(tmp_path / "in" / "a.flac")
    with pytest.raises(InputError, match=r"a\.flac and .*a\.wav would both be written to"):
        plan_separation([tmp_path / "in"], tmp_path / "out")


def test_songs_of_one_name_from_two_folders_are_refused(tmp_path: Path) -> None:
    one, two = write_song(tmp_path / "1" / "a.wav"), write_song(tmp_path / "2" / "a.wav")
    with pytest.raises(InputError, match="would both be written"):
        plan_separation([one, two], tmp_path / "out")


def test_songs_of_one_flat_name_are_refused_and_both_are_named(tmp_path: Path) -> None:
    songs = [write_song(tmp_path / folder / "song.wav") for folder in ("a", "b")]
    with pytest.raises(InputError, match=r"a.song\.wav and .*b.song\.wav would both be written to .*song vocals\.wav"):
        plan_separation(songs, tmp_path / "out", files=StemFiles(filename="{track} {stem}.{ext}"))


def test_a_song_given_twice_is_one_job(tmp_path: Path) -> None:
    song = write_song(tmp_path / "in" / "a.wav")
    assert len(plan_separation([tmp_path / "in", song], tmp_path / "out").jobs) == 1


def test_a_missing_input_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.wav: expected an audio file"):
        plan_separation([tmp_path / "nowhere.wav"], tmp_path / "out")


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    (tmp_path / "in" / "._a.wav").write_text("what macOS leaves on other disks")
    with pytest.raises(InputError, match="no audio files in"):
        plan_separation([tmp_path / "in"], tmp_path / "out")


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--format aac: expected one of wav, flac, ogg, mp3"):
        plan_separation([write_song(tmp_path / "a.wav")], tmp_path / "out", files=in_format("aac"))


def test_a_file_for_an_output_folder_is_refused(tmp_path: Path) -> None:
    song = write_song(tmp_path / "a.wav")
    with pytest.raises(InputError, match="is a file"):
        plan_separation([song], song)


def test_an_output_folder_that_is_the_input_is_refused(tmp_path: Path) -> None:
    write_song(tmp_path / "a.wav")
    with pytest.raises(InputError, match="both input and output"):
        plan_separation([tmp_path], tmp_path / "." / "")


def test_stems_within_the_input_folder_are_not_separated_again(tmp_path: Path, separator: Separator) -> None:
    write_song(tmp_path / "a.wav")
    run(separator, tmp_path, tmp_path / "stems")
    assert [job.track for job in plan_separation([tmp_path], tmp_path / "stems").jobs] == ["a"]


def test_a_song_is_never_written_over_by_its_stems(tmp_path: Path) -> None:
    song = write_song(tmp_path / "vocals" / "vocals.wav")
    with pytest.raises(InputError, match="is an input"):
        plan_separation([song], tmp_path)


def test_songs_that_are_done_are_skipped_and_left_as_they_are(tmp_path: Path, separator: Separator) -> None:
    write_song(tmp_path / "in" / "a.wav")
    run(separator, tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "a" / "vocals.wav").write_bytes(b"mine")
    write_song(tmp_path / "in" / "b.wav")
    report = run(separator, tmp_path / "in", tmp_path / "out")
    assert [job.track for job in report.skipped] == ["a"]
    assert [done.job.track for done in report.separated] == ["b"]
    assert (tmp_path / "out" / "a" / "vocals.wav").read_bytes() == b"mine"


def test_overwrite_replaces_what_is_there(tmp_path: Path, separator: Separator) -> None:
    song = write_song(tmp_path / "a.wav")
    run(separator, song, tmp_path / "out")
    (tmp_path / "out" / "a" / "vocals.wav").write_bytes(b"old")
    report = run(separator, song, tmp_path / "out", overwrite=True)
    assert len(report.separated) == 1
    assert read_audio(tmp_path / "out" / "a" / "vocals.wav").num_samples == 2000


@pytest.mark.parametrize("appeared", ["vocals", "instrumental"])
def test_a_stem_that_appears_during_separation_stays_and_the_song_leaves_nothing(
    tmp_path: Path, separator: Separator, appeared: str
) -> None:
    write_song(tmp_path / "in" / "a.wav")
    write_song(tmp_path / "in" / "b.wav")
    theirs = tmp_path / "out" / "a" / f"{appeared}.wav"
    plan = plan_separation([tmp_path / "in"], tmp_path / "out", files=StemFiles(images=True))

    def write_theirs(told: SeparationProgress) -> None:
        if told.track == "a" and not told.is_over:
            theirs.write_bytes(b"theirs")

    report = separate_files(separator, plan, on_progress=write_theirs)
    (problem,) = report.problems
    assert "made by another program in the meantime" in problem.reason
    assert theirs.read_bytes() == b"theirs"
    assert tree(tmp_path / "out" / "a") == [f"{appeared}.wav"]
    assert [done.job.track for done in report.separated] == ["b"]
    overwritten = separate_files(separator, plan, overwrite=True, on_progress=write_theirs)
    assert not overwritten.problems
    assert probe_audio(theirs).num_samples == 2000


def test_one_stem_without_the_other_is_a_problem_and_stays(tmp_path: Path, separator: Separator) -> None:
    song = write_song(tmp_path / "a.wav")
    run(separator, song, tmp_path / "out")
    (tmp_path / "out" / "a" / "vocals.wav").unlink()
    (problem,) = run(separator, song, tmp_path / "out").problems
    assert "--overwrite" in problem.reason
    assert tree(tmp_path / "out") == ["a/instrumental.wav"]


def test_bad_files_are_named_with_their_reason_and_do_not_stop_the_rest(tmp_path: Path, separator: Separator) -> None:
    write_song(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF no more")
    (tmp_path / "in" / "empty.flac").touch()
    write_song(tmp_path / "in" / "surround.wav", num_channels=6)
    write_song(tmp_path / "in" / "z.wav")
    report = run(separator, tmp_path / "in", tmp_path / "out")
    assert [done.job.track for done in report.separated] == ["a", "z"]
    reasons = {problem.path: problem.reason for problem in report.problems}
    assert set(reasons) == {"broken", "empty", "surround"}
    assert "found 6" in reasons["surround"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", "z"}


def test_a_song_that_the_format_cannot_hold_is_named_by_its_final_name(tmp_path: Path, separator: Separator) -> None:
    samples = np.zeros((1, 500), np.float32)
    write_audio(tmp_path / "odd.wav", Waveform(samples=samples, sample_rate=10000))
    plan = plan_separation([tmp_path / "odd.wav"], tmp_path / "out", files=in_format("mp3"))
    (problem,) = separate_files(separator, plan).problems
    assert "partial" not in problem.reason
    assert "vocals.mp3" in problem.reason
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_batch_and_leaves_neither_stem(
    tmp_path: Path, separator: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_song(tmp_path / "in" / "a.wav")
    write_song(tmp_path / "in" / "b.wav")
    num_opened = 0

    @contextmanager
    def open_until_full(path: Path, *words: Any, **options: Any) -> Iterator[Any]:
        nonlocal num_opened
        num_opened += 1
        with open_writer(path, *words, **options) as writer:
            yield writer
        if num_opened == 4:  # the second stem of the second song
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("vrtool.separation.song_file.open_writer", open_until_full)
    with pytest.raises(OSError, match="No space left"):
        run(separator, tmp_path / "in", tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in sorted((tmp_path / "out").rglob("*"))] == [
        "a",
        "a/instrumental.wav",
        "a/vocals.wav",
    ]


def test_an_error_of_the_system_with_one_song_leaves_the_others(
    tmp_path: Path, separator: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_song(tmp_path / "in" / "a.wav")
    write_song(tmp_path / "in" / "b.wav")

    def refuse_a(path: Path) -> dict[str, str]:
        if path.name == "a.wav":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_tags(path)

    monkeypatch.setattr("vrtool.separation.song_file.read_tags", refuse_a)
    report = run(separator, tmp_path / "in", tmp_path / "out")
    assert [problem.path for problem in report.problems] == ["a"]
    assert [done.job.track for done in report.separated] == ["b"]


def test_progress_rises_to_the_length_of_all_songs(tmp_path: Path, separator: Separator) -> None:
    write_song(tmp_path / "in" / "a.wav", num_samples=8000)
    write_song(tmp_path / "in" / "b.wav", num_samples=16000)
    seen: list[SeparationProgress] = []
    separate_files(separator, plan_separation([tmp_path / "in"], tmp_path / "out"), on_progress=seen.append)
    done = [progress.done_seconds for progress in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 3)
    assert {(progress.track, progress.track_number) for progress in seen} == {("a", 1), ("b", 2)}
    assert {progress.total_seconds for progress in seen} == {3}


def test_folders_that_cannot_be_read_are_problems_of_the_report(tmp_path: Path, separator: Separator) -> None:
    write_song(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    report = run(separator, tmp_path / "in", tmp_path / "out")
    assert [problem.path for problem in report.problems] == [str(tmp_path / "in" / "gone.wav")]
    assert len(report.separated) == 1


def test_a_subtype_that_the_format_does_not_have_is_refused_before_anything_is_done() -> None:
    with pytest.raises(InputError, match="--subtype 32f: flac takes one of 24, 16, 8, found 32f"):
        in_format("flac", "32f")
    with pytest.raises(InputError, match="--subtype 16: mp3 takes no subtype, found 16"):
        in_format("mp3", "16")


def test_several_songs_at_once_give_what_they_give_one_by_one(tmp_path: Path, separator: Separator) -> None:
    for number in range(6):
        write_song(tmp_path / "in" / f"{number}.wav", num_samples=3000 + number)
    (tmp_path / "in" / "4b.wav").write_bytes(b"no audio")
    plan = plan_separation([tmp_path / "in"], tmp_path / "at once")
    seen: list[SeparationProgress] = []
    before = torch.get_num_threads()
    report = separate_files(separator, plan, num_jobs=3, on_progress=seen.append)
    assert torch.get_num_threads() == before
    assert [done.job.track for done in report.separated] == ["0", "1", "2", "3", "4", "5"]
    assert [problem.path for problem in report.problems] == ["4b"]
    assert {told.track for told in seen if told.is_over} == {"0", "1", "2", "3", "4", "4b", "5"}
    run(separator, tmp_path / "in", tmp_path / "one by one")
    for path in tree(tmp_path / "one by one"):
        # Not the bytes: the header of a float wav has the second in which it was written.
        at_once, one_by_one = (read_audio(tmp_path / folder / path) for folder in ("at once", "one by one"))
        np.testing.assert_array_equal(at_once.samples, one_by_one.samples)


@pytest.mark.parametrize("num_jobs", [1, 3])
def test_what_the_progress_callback_raises_ends_the_batch_and_leaves_nothing_unfinished(
    tmp_path: Path, separator: Separator, num_jobs: int
) -> None:
    for number in range(8):
        write_song(tmp_path / "in" / f"{number}.wav")
    plan = plan_separation([tmp_path / "in"], tmp_path / "out")

    def stop(told: SeparationProgress) -> None:
        if told.track == "3" and not told.is_over:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        separate_files(separator, plan, num_jobs=num_jobs, on_progress=stop)
    assert not any("partial" in path for path in tree(tmp_path / "out"))
    finished = {path.name for path in (tmp_path / "out").iterdir()}
    assert "3" not in finished
    for track in finished:
        assert len(list((tmp_path / "out" / track).iterdir())) == 2


def test_files_to_copy_arrive_as_they_are_and_once(tmp_path: Path, separator: Separator) -> None:
    write_song(tmp_path / "a.wav")
    kept = write_song(tmp_path / "kept" / "disc" / "b.flac")
    plan = plan_separation([tmp_path / "a.wav"], tmp_path / "out", copies=[tmp_path / "kept"])
    assert separate_files(separator, plan).num_copied == 1
    assert (tmp_path / "out/disc/b.flac").read_bytes() == kept.read_bytes()
    assert tree(tmp_path / "out") == ["a/instrumental.wav", "a/vocals.wav", "disc/b.flac"]
    (tmp_path / "out/disc/b.flac").write_bytes(b"mine")
    assert separate_files(separator, plan).num_copied == 0
    assert (tmp_path / "out/disc/b.flac").read_bytes() == b"mine"
