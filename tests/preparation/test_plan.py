from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import open_cache, read_manifest
from vrtool.errors import CacheError, InputError
from vrtool.preparation import (
    Library,
    PreparationPlan,
    PreparationReport,
    PreparationSettings,
    plan_preparation,
)

Make = Callable[..., FloatArray]
Write = Callable[..., Path]
Run = Callable[..., PreparationReport]


@pytest.fixture
def vocals(tmp_path: Path, make_signal: Make, write_sound: Write) -> Path:
    """A library of three vocal tracks that a test may change."""
    for number in range(3):
        write_sound(tmp_path / f"vocals/v{number}.wav", make_signal(number))
    return tmp_path / "vocals"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def plan_of(output: Path, tiny_stft: StftSpec) -> Callable[..., PreparationPlan]:
    """`plan_of(root, ...)` plans the preparation of folders of vocals."""

    def plan(*roots: Path, stft: StftSpec = tiny_stft, **more: Any) -> PreparationPlan:
        settings = PreparationSettings(**{"output": output, "stft": stft, "minimum_seconds": 0.5, **more})
        return plan_preparation([Library(kind="vocal", root=root) for root in roots], settings)

    return plan


@pytest.fixture
def run(run_prepare: Run, output: Path, tiny_stft: StftSpec) -> Run:
    """`run(vocals=[root, ...], pairs=..., prune=True, ...)` prepares libraries in this process."""
    return partial(run_prepare, output, stft=tiny_stft, validation="0.1")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def listed(output: Path) -> list[str]:
    """The tracks of a cache whose files are all there, as kind/name."""
    return [f"{track.header.kind}/{track.header.name}" for track in open_cache(output).tracks]


def files(output: Path) -> list[str]:
    """The track files of a cache by kind and name, less the hash."""
    return sorted(f"{path.parent.name}/{path.stem.rpartition('-')[0]}" for path in output.glob("*/*.h5"))


class TestWhatIsLeftToDo:
    def test_a_plan_writes_nothing(self, plan_of: Callable[..., PreparationPlan], vocals: Path, output: Path) -> None:
        assert len(plan_of(vocals).tasks) == 3
        assert not output.exists()

    def test_a_second_run_does_nothing_and_leaves_every_byte(
        self, plan_of: Callable[..., PreparationPlan], run_prepare: Run, vocals: Path, output: Path, tiny_stft: StftSpec
    ) -> None:
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        before = contents(output)
        assert plan_of(vocals).tasks == ()
        report = run_prepare(output, vocals=[vocals], stft=tiny_stft)
        assert (report.num_prepared, report.num_unchanged, report.problems) == (0, 3, ())
        assert contents(output) == before

    def test_a_track_with_other_content_is_redone_and_no_other(
        self,
        plan_of: Callable[..., PreparationPlan],
        run_prepare: Run,
        vocals: Path,
        output: Path,
        tiny_stft: StftSpec,
        make_signal: Make,
        write_sound: Write,
    ) -> None:
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        write_sound(vocals / "v1.wav", make_signal(99))
        assert [task.track.name for task in plan_of(vocals).tasks] == ["v1"]
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        redone = contents(output)
        shutil.rmtree(output)
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        assert contents(output) == redone

    def test_other_content_of_the_same_size_and_time_of_another_day_is_redone(
        self, plan_of: Callable[..., PreparationPlan], run_prepare: Run, vocals: Path, output: Path, tiny_stft: StftSpec
    ) -> None:
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        path = vocals / "v1.wav"
        content = bytearray(path.read_bytes())
        content[-1] ^= 0x40
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
        assert [task.track.name for task in plan_of(vocals).tasks] == ["v1"]

    def test_a_touched_file_of_the_same_content_is_not_redone(
        self, plan_of: Callable[..., PreparationPlan], run_prepare: Run, vocals: Path, output: Path, tiny_stft: StftSpec
    ) -> None:
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        os.utime(vocals / "v1.wav", ns=(0, 0))
        assert plan_of(vocals).tasks == ()

    @pytest.mark.parametrize("damage", [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
    ])  # fmt: skip
    def test_a_damaged_file_of_the_cache_is_redone(
        self,
        plan_of: Callable[..., PreparationPlan],
        run_prepare: Run,
        vocals: Path,
        output: Path,
        tiny_stft: StftSpec,
        damage: Callable[[Path], None],
    ) -> None:
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        before = contents(output)
        track = open_cache(output).tracks[1]
        damage(track.path)
        assert [task.track.name for task in plan_of(vocals).tasks] == [track.header.name]
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        assert contents(output) == before

    def test_what_a_killed_run_left_half_written_is_cleared_away(
        self, run_prepare: Run, vocals: Path, output: Path, tiny_stft: StftSpec
    ) -> None:
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        before = contents(output)
        (output / "vocal/.v0.partial-0123abcd.h5").write_bytes(b"half")
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        assert contents(output) == before

    def test_a_library_that_is_not_given_again_stays_in_the_cache(
        self, run_prepare: Run, vocals: Path, small_library: Path, output: Path, tiny_stft: StftSpec
    ) -> None:
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        run_prepare(output, pairs=[small_library / "pairs"], stft=tiny_stft)
        found = {(track.header.kind, track.header.name) for track in open_cache(output).tracks}
        assert found == {("vocal", "v0"), ("vocal", "v1"), ("vocal", "v2"), ("pair", "mono"), ("pair", "stereo")}

    def test_the_source_of_a_pairs_part_that_changes_redoes_the_pair(
        self, run_prepare: Run, tmp_path: Path, make_signal: Make, write_sound: Write, output: Path, tiny_stft: StftSpec
    ) -> None:
        for part in ("drums", "bass", "other", "vocals"):
            write_sound(tmp_path / f"pairs/song/{part}.wav", make_signal(1))
        run_prepare(output, pairs=[tmp_path / "pairs"], stft=tiny_stft)
        assert run_prepare(output, pairs=[tmp_path / "pairs"], stft=tiny_stft).num_prepared == 0
        write_sound(tmp_path / "pairs/song/bass.wav", make_signal(2))
        assert run_prepare(output, pairs=[tmp_path / "pairs"], stft=tiny_stft).num_prepared == 1


class TestRemoved:
    """Tracks that a library has no more."""

    @pytest.fixture(autouse=True)
    def prepared(self, run: Run, vocals: Path) -> None:
        run(vocals=[vocals])

    def test_they_are_told_and_stay(
        self, plan_of: Callable[..., PreparationPlan], run: Run, vocals: Path, output: Path
    ) -> None:
        before = contents(output)
        (vocals / "v1.wav").unlink()
        plan = plan_of(vocals)
        assert [header.name for header in plan.removed.values()] == ["v1"]
        assert [header.name for header in plan.finished.values()] == ["v0", "v2"]
        report = run(vocals=[vocals])
        assert (report.num_prepared, report.num_unchanged) == (0, 2)
        assert contents(output) == before

    def test_they_go_when_asked_to_with_their_files(self, run: Run, vocals: Path, output: Path) -> None:
        before = contents(output)
        (vocals / "v1.wav").unlink()
        report = run(vocals=[vocals], prune=True)
        assert listed(output) == files(output) == ["vocal/v0", "vocal/v2"]
        assert open_cache(output) == report.cache
        after = contents(output)
        assert {path: content for path, content in before.items() if path in after and path.suffix == ".h5"} == {
            path: content for path, content in after.items() if path.suffix == ".h5"
        }

    def test_a_plan_deletes_nothing(self, plan_of: Callable[..., PreparationPlan], vocals: Path, output: Path) -> None:
        before = contents(output)
        (vocals / "v1.wav").unlink()
        plan_of(vocals, prune=True)
        assert contents(output) == before

    def test_a_file_that_was_renamed_is_new_and_its_old_name_is_removed(
        self, plan_of: Callable[..., PreparationPlan], run: Run, vocals: Path, output: Path
    ) -> None:
        (vocals / "v1.wav").rename(vocals / "v3.wav")
        plan = plan_of(vocals)
        assert [task.track.name for task in plan.tasks] == ["v3"]
        assert [header.name for header in plan.removed.values()] == ["v1"]
        run(vocals=[vocals], prune=True)
        assert listed(output) == files(output) == ["vocal/v0", "vocal/v2", "vocal/v3"]

    def test_a_library_that_was_not_given_keeps_its_tracks(
        self, run: Run, vocals: Path, output: Path, make_signal: Make, write_sound: Write
    ) -> None:
        other = vocals.with_name("vocals2")  # whose name begins as that of the first
        write_sound(other / "w0.wav", make_signal(7))
        shutil.rmtree(vocals)
        report = run(vocals=[other], prune=True)
        assert report.num_unchanged == 3
        assert listed(output) == files(output) == ["vocal/v0", "vocal/v1", "vocal/v2", "vocal/w0"]

    def test_a_part_of_a_library_is_not_the_whole(
        self, run: Run, vocals: Path, output: Path, make_signal: Make, write_sound: Write
    ) -> None:
        write_sound(vocals / "album/v3.wav", make_signal(7))
        run(vocals=[vocals])
        (vocals / "v0.wav").unlink()
        run(vocals=[vocals / "album"], prune=True)
        assert len(listed(output)) == len(files(output)) == 4

    def test_a_folder_given_as_another_kind_of_library_is_another_library(
        self, run: Run, vocals: Path, output: Path
    ) -> None:
        run(instrumentals=[vocals], prune=True)
        names = [f"{kind}/v{number}" for kind in ("instrumental", "vocal") for number in range(3)]
        assert listed(output) == files(output) == names

    def test_patches_beside_audio_are_another_library(self, run: Run, vocals: Path, output: Path) -> None:
        np.savez(vocals / "song_p0.npz", X=np.ones((2, 129, 80), np.complex64), c=np.float32(1000.0))
        run(npz=[vocals], prune=True)
        assert listed(output) == ["instrumental/song", "vocal/v0", "vocal/v1", "vocal/v2"]
        (vocals / "song_p0.npz").rename(vocals / "other_p0.npz")
        run(vocals=[vocals], prune=True)
        assert listed(output) == ["instrumental/song", "vocal/v0", "vocal/v1", "vocal/v2"]
        run(npz=[vocals], prune=True)
        assert listed(output) == ["instrumental/other", "vocal/v0", "vocal/v1", "vocal/v2"]

    @pytest.fixture
    def unreadable(self, vocals: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder of the library, with a prepared track, that cannot be read any more."""
        listed_before = Path.iterdir

        def refuse(path: Path) -> Iterator[Path]:
            if path == vocals / "album":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return listed_before(path)

        monkeypatch.setattr(Path, "iterdir", refuse)
        return vocals / "album"

    def test_a_folder_that_cannot_be_read_keeps_its_tracks(
        self, run: Run, vocals: Path, output: Path, request: pytest.FixtureRequest
    ) -> None:
        (vocals / "album").mkdir()
        shutil.copy(vocals / "v0.wav", vocals / "album/v3.wav")
        run(vocals=[vocals])
        request.getfixturevalue("unreadable")
        (vocals / "v1.wav").unlink()
        report = run(vocals=[vocals], prune=True)
        assert [problem.path for problem in report.problems] == [str(vocals / "album")]
        assert len(files(output)) == 3
        assert listed(output) == ["vocal/album/v3", "vocal/v0", "vocal/v2"]

    def test_a_link_whose_disk_is_away_keeps_its_track(self, run: Run, vocals: Path, output: Path) -> None:
        (vocals / "v1.wav").unlink()
        (vocals / "v1.wav").symlink_to("nowhere")
        report = run(vocals=[vocals], prune=True)
        assert [problem.path for problem in report.problems] == [str(vocals / "v1.wav")]
        assert listed(output) == ["vocal/v0", "vocal/v1", "vocal/v2"]

    def test_a_pair_that_lost_a_half_is_a_problem_and_stays(
        self, run: Run, small_library: Path, tmp_path: Path, output: Path
    ) -> None:
        shutil.copytree(small_library / "pairs", tmp_path / "pairs")
        run(pairs=[tmp_path / "pairs"])
        (tmp_path / "pairs/stereo/instrumental.wav").unlink()
        report = run(pairs=[tmp_path / "pairs"], prune=True)
        assert [problem.path for problem in report.problems] == [str(tmp_path / "pairs/stereo")]
        assert {"pair/mono", "pair/stereo"} <= set(listed(output))

    def test_files_that_belong_to_nothing_do_not_keep_what_is_gone(
        self, run: Run, small_library: Path, tmp_path: Path, output: Path
    ) -> None:
        shutil.copytree(small_library / "pairs", tmp_path / "pairs")
        shutil.copy(tmp_path / "pairs/mono/vocals.wav", tmp_path / "pairs/jingle.wav")
        run(pairs=[tmp_path / "pairs"])
        shutil.rmtree(tmp_path / "pairs/stereo")
        report = run(pairs=[tmp_path / "pairs"], prune=True)
        assert [problem.path for problem in report.problems] == [str(tmp_path / "pairs")]
        assert [name for name in listed(output) if name.startswith("pair")] == ["pair/mono"]

    def test_when_nothing_else_is_left_the_cache_is_empty(self, run: Run, vocals: Path, output: Path) -> None:
        for number in range(3):
            (vocals / f"v{number}.wav").unlink()
        (vocals / "broken.wav").write_bytes(b"no audio")
        assert run(vocals=[vocals], prune=True).cache.tracks == ()
        assert files(output) == []
        assert read_manifest(output).tracks == ()


class TestPrecision:
    @pytest.mark.parametrize(("was", "wanted"), [("int16", "float32"), ("float32", "int16")])
    def test_a_cache_of_another_precision_is_refused_and_untouched(
        self,
        plan_of: Callable[..., PreparationPlan],
        run: Run,
        vocals: Path,
        output: Path,
        was: str,
        wanted: str,
    ) -> None:
        run(vocals=[vocals], precision=was)
        before = contents(output)
        message = rf"cache was made with precision {was}, this run asks for {wanted}; .* pass --precision {was}$"
        with pytest.raises(CacheError, match=message):
            plan_of(vocals, precision=wanted)
        assert contents(output) == before

    def test_both_hold_the_same_but_for_rounding(self, run: Run, vocals: Path, output: Path) -> None:
        signals = {}
        for precision in ("int16", "float32"):
            run(vocals=[vocals], precision=precision)
            cache = open_cache(output)
            assert cache.precision == precision
            signals[precision] = cache.tracks[0].read_complex("vocals", 0, cache.tracks[0].header.num_frames)
            shutil.rmtree(output)
        error = np.abs(signals["int16"] - signals["float32"]).max(axis=1)
        peaks = np.abs(signals["float32"]).max(axis=1)
        assert (error <= peaks / 32767 * np.sqrt(0.5) * 1.001).all()
        assert error.max() > 0.0


class TestAlignment:
    def test_whether_pairs_are_aligned_decides_whether_they_are_redone(self, run: Run, small_library: Path) -> None:
        pairs = [small_library / "pairs"]
        assert run(pairs=pairs).num_prepared == 2
        assert run(pairs=pairs).num_prepared == 0
        # The other one has instrumental and vocals, which nothing can be aligned with.
        assert run(pairs=pairs, align_pairs=False).num_prepared == 1
        assert run(pairs=pairs, align_pairs=False).num_prepared == 0
        assert run(pairs=pairs).num_prepared == 1


class TestNames:
    def test_a_library_is_the_same_from_whichever_folder_it_is_given(
        self,
        plan_of: Callable[..., PreparationPlan],
        run_prepare: Run,
        vocals: Path,
        output: Path,
        tiny_stft: StftSpec,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        monkeypatch.chdir(vocals)
        for way in (Path(), Path("../vocals"), vocals / "." / ".." / "vocals"):
            assert plan_of(way).tasks == ()

    def test_two_libraries_with_the_same_names_are_kept_apart(
        self, run_prepare: Run, tmp_path: Path, make_signal: Make, write_sound: Write, output: Path, tiny_stft: StftSpec
    ) -> None:
        for seed, library in enumerate(("one", "two")):
            write_sound(tmp_path / library / "song.wav", make_signal(seed))
        report = run_prepare(
            output,
            vocals=[tmp_path / "one", tmp_path / "two"],
            instrumentals=[tmp_path / "one"],
            stft=tiny_stft,
            validation="0",
        )
        cache = open_cache(output)
        assert [track.header.name for track in cache.tracks] == ["song"] * 3
        assert len({track.key for track in cache.tracks}) == 3
        assert report.cache == cache
        first, second = cache.pool("vocal", "training")
        difference = first.read_complex("vocals", 0, 50) - second.read_complex("vocals", 0, 50)
        assert np.abs(difference).max() > 1.0

    def test_a_library_given_twice_is_prepared_once(
        self, plan_of: Callable[..., PreparationPlan], vocals: Path
    ) -> None:
        assert len(plan_of(vocals, vocals).tasks) == 3

    @pytest.mark.parametrize("name", [
        "夜に駆ける", "Björk – Jóga", "100%s %d {x} $HOME", " spaces  within ", "[bold]markup[/]", "a.b.c..", "-o", "~",
        "'quotes\"", "x" * 200, "夜" * 80, "𠀋" * 60, "\u202eright to left", "emoji 🎤", "tab\tand\nnewline", "CON",
    ])  # fmt: skip
    def test_any_name_is_prepared_found_again_and_kept(
        self,
        run_prepare: Run,
        tmp_path: Path,
        make_signal: Make,
        write_sound: Write,
        output: Path,
        tiny_stft: StftSpec,
        name: str,
    ) -> None:
        library = tmp_path / "my % library"
        write_sound(library / f"{name}.wav", make_signal(0, seconds=1.0))
        run_prepare(output, vocals=[library], stft=tiny_stft)
        (track,) = open_cache(output).tracks
        assert track.header.name == name
        assert track.verify() is None
        assert len(track.path.name.encode()) < 143  # what encrypted file systems allow
        assert run_prepare(output, vocals=[library], stft=tiny_stft).num_prepared == 0

    @pytest.mark.skipif(os.name != "posix", reason="file names are Unicode there")
    def test_a_name_that_is_not_valid_unicode_is_prepared(
        self, run_prepare: Run, tmp_path: Path, make_signal: Make, write_sound: Write, output: Path, tiny_stft: StftSpec
    ) -> None:
        path = write_sound(tmp_path / "vocals/plain.wav", make_signal(0, seconds=1.0))
        try:
            path.rename(path.with_name(os.fsdecode(b"caf\xe9.wav")))
        except OSError:
            pytest.skip("the file system insists on UTF-8")
        run_prepare(output, vocals=[tmp_path / "vocals"], stft=tiny_stft)
        (track,) = open_cache(output).tracks
        assert track.header.name == "caf\N{REPLACEMENT CHARACTER}"
        assert run_prepare(output, vocals=[tmp_path / "vocals"], stft=tiny_stft).num_prepared == 0


class TestRefusals:
    def test_no_library_at_all(self, plan_of: Callable[..., PreparationPlan]) -> None:
        with pytest.raises(
            InputError, match="no library was given; pass --instrumentals, --vocals, --pairs or --npz with"
        ):
            plan_of()

    def test_a_library_that_does_not_exist_is_named(
        self, plan_of: Callable[..., PreparationPlan], tmp_path: Path, output: Path
    ) -> None:
        with pytest.raises(InputError, match=f"{tmp_path}/nowhere: expected a folder of audio files, found nothing"):
            plan_of(tmp_path / "nowhere")
        assert not output.exists()

    def test_an_empty_library_is_named(self, plan_of: Callable[..., PreparationPlan], tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match=f"no audio files in {tmp_path}/empty"):
            plan_of(tmp_path / "empty")

    def test_an_output_that_is_a_file_is_refused(
        self, plan_of: Callable[..., PreparationPlan], vocals: Path, output: Path
    ) -> None:
        output.write_text("mine")
        with pytest.raises(InputError, match="cache: expected a folder for the cache, found a file"):
            plan_of(vocals)

    def test_a_folder_of_other_things_is_refused(
        self, plan_of: Callable[..., PreparationPlan], vocals: Path, output: Path
    ) -> None:
        output.mkdir()
        (output / "holiday.jpg").touch()
        with pytest.raises(InputError, match="cache: expected a cache or an empty folder, found other files"):
            plan_of(vocals)

    @pytest.mark.parametrize(("setting", "value"), [("sample_rate", 16000), ("n_fft", 512), ("hop_length", 64)])
    def test_a_cache_of_another_stft_is_refused_and_untouched(
        self,
        plan_of: Callable[..., PreparationPlan],
        run_prepare: Run,
        vocals: Path,
        output: Path,
        tiny_stft: StftSpec,
        setting: str,
        value: int,
    ) -> None:
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        before = contents(output)
        with pytest.raises(CacheError, match=rf"cache was made with {setting} \d+, this run asks for {value}"):
            plan_of(vocals, stft=replace(tiny_stft, **{setting: value}))
        assert contents(output) == before

    def test_a_wrong_validation_is_told_before_anything_is_done(
        self, plan_of: Callable[..., PreparationPlan], vocals: Path, output: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "names.txt").write_text("v0\nv7\n")
        with pytest.raises(InputError, match=r"names\.txt names 1 tracks that no library has, the first being 'v7'"):
            plan_of(vocals, validation=str(tmp_path / "names.txt"))
        assert not output.exists()


class TestRemedies:
    """What error messages advise has to work."""

    @pytest.mark.parametrize("content", [None, b"damaged"])
    def test_a_deleted_manifest_is_made_anew_without_preparing_again(
        self,
        plan_of: Callable[..., PreparationPlan],
        run_prepare: Run,
        vocals: Path,
        output: Path,
        tiny_stft: StftSpec,
        content: bytes | None,
    ) -> None:
        run_prepare(output, vocals=[vocals], stft=tiny_stft)
        before = contents(output)
        manifest = output / "manifest.json"
        if content is not None:
            manifest.write_bytes(content)
            with pytest.raises(CacheError, match=r"manifest\.json: expected JSON.*; delete it and run vrtool prepare"):
                plan_of(vocals)
        manifest.unlink()
        assert run_prepare(output, vocals=[vocals], stft=tiny_stft).num_prepared == 0
        assert contents(output) == before

    def test_a_run_of_which_nothing_came_does_not_fix_the_settings(
        self, run_prepare: Run, tmp_path: Path, vocals: Path, output: Path, tiny_stft: StftSpec
    ) -> None:
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken/x.wav").write_bytes(b"no audio")
        assert run_prepare(output, vocals=[tmp_path / "broken"], stft=tiny_stft).cache.tracks == ()
        other = replace(tiny_stft, hop_length=64)
        assert run_prepare(output, vocals=[vocals], stft=other).cache.stft == other
        assert open_cache(output).stft == other


class TestSplit:
    def test_the_split_is_decided_anew_by_every_run(
        self, run_prepare: Run, vocals: Path, output: Path, tmp_path: Path, tiny_stft: StftSpec
    ) -> None:
        (tmp_path / "names.txt").write_text("v2\n")
        run_prepare(output, vocals=[vocals], stft=tiny_stft, validation="0")
        assert open_cache(output).pool("vocal", "validation") == ()
        run_prepare(output, vocals=[vocals], stft=tiny_stft, validation=str(tmp_path / "names.txt"))
        assert [track.header.name for track in open_cache(output).pool("vocal", "validation")] == ["v2"]

    def test_a_broken_track_does_not_leave_all_of_its_kind_to_validation(
        self, run_prepare: Run, vocals: Path, output: Path, tiny_stft: StftSpec
    ) -> None:
        for broken in ("v0", "v1", "v2"):
            names = {path.stem for path in vocals.iterdir()}
            library = output.with_name(f"library {broken}")
            shutil.copytree(vocals, library)
            (library / f"{broken}.wav").write_bytes(b"no audio")
            cache = output.with_name(f"cache {broken}")
            run_prepare(cache, vocals=[library], stft=tiny_stft, validation="0.9")
            training, validation = (open_cache(cache).pool("vocal", split) for split in ("training", "validation"))
            assert len(training) == len(validation) == 1
            assert {track.header.name for track in (*training, *validation)} == names - {broken}

    def test_a_listed_track_that_turns_out_broken_does_no_harm(
        self, run_prepare: Run, vocals: Path, output: Path, tmp_path: Path, tiny_stft: StftSpec
    ) -> None:
        (vocals / "v1.wav").write_bytes(b"no audio")
        (tmp_path / "names.txt").write_text("v1\nv2\n")
        report = run_prepare(output, vocals=[vocals], stft=tiny_stft, validation=str(tmp_path / "names.txt"))
        assert [track.header.name for track in report.cache.pool("vocal", "validation")] == ["v2"]
        assert [problem.path for problem in report.problems] == [str(vocals / "v1.wav")]
