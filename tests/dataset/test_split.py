from __future__ import annotations

import unicodedata
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.dataset.split import TrackName, validation_names
from vrtool.dataset.track import Kind
from vrtool.errors import InputError

KINDS: tuple[Kind, ...] = ("instrumental", "vocal", "pair")
LIBRARY: set[TrackName] = {(kind, f"album {number % 7}/song {number}") for kind in KINDS for number in range(200)}

kinds = st.sampled_from(KINDS)
libraries = st.sets(st.tuples(kinds, st.text(min_size=1, max_size=12)), max_size=30)
fractions = st.floats(0.0, 1.0, exclude_max=True)


class TestFraction:
    def test_about_the_fraction_of_each_kind_is_kept(self) -> None:
        chosen = validation_names(LIBRARY, "0.25")
        for kind in KINDS:
            # 200 draws of 1/4: four standard deviations are 24.5.
            assert abs(sum(kind_ == kind for kind_, _ in chosen) - 50) < 25

    @settings(deadline=None)
    @given(tracks=libraries, fraction=fractions)
    def test_never_all_of_a_kind_and_never_none_of_two(self, tracks: set[TrackName], fraction: float) -> None:
        chosen = validation_names(tracks, str(fraction))
        assert chosen <= tracks
        for kind in KINDS:
            have = sum(kind_ == kind for kind_, _ in tracks)
            kept = sum(kind_ == kind for kind_, _ in chosen)
            assert kept < have or have == 0
            assert kept > 0 or have < 2 or fraction == 0.0

    @settings(max_examples=30, deadline=None)
    @given(tracks=libraries)
    def test_nothing_is_kept_of_a_fraction_of_zero(self, tracks: set[TrackName]) -> None:
        assert validation_names(tracks, "0") == frozenset()

    @settings(max_examples=30, deadline=None)
    @given(more=libraries)
    def test_no_track_moves_when_the_library_grows(self, more: set[TrackName]) -> None:
        before = validation_names(LIBRARY, "0.1")
        after = validation_names(LIBRARY | more, "0.1")
        assert after & LIBRARY == before

    def test_a_larger_fraction_keeps_what_a_smaller_one_does(self) -> None:
        assert validation_names(LIBRARY, "0.1") < validation_names(LIBRARY, "0.2")

    def test_the_way_unicode_spells_a_name_does_not_matter(self) -> None:
        names = [f"Björk {number}" for number in range(50)]
        composed: set[TrackName] = {("vocal", unicodedata.normalize("NFC", name)) for name in names}
        decomposed: set[TrackName] = {("vocal", unicodedata.normalize("NFD", name)) for name in names}
        kept = {unicodedata.normalize("NFC", name) for _, name in validation_names(decomposed, "0.3")}
        assert kept == {name for _, name in validation_names(composed, "0.3")}

    @pytest.mark.parametrize("rule", ["1", "1.0", "-0.1", "2", "nan", "inf"])
    def test_a_number_that_is_no_fraction_is_refused(self, rule: str) -> None:
        with pytest.raises(InputError, match=f"must be a fraction from 0 to below 1 or a file.*found {rule}$"):
            validation_names(LIBRARY, rule)


class TestFile:
    def kept(
        self, tmp_path: Path, content: str | bytes, tracks: set[TrackName], *, expected: Collection[TrackName] = ()
    ) -> frozenset[TrackName]:
        path = tmp_path / "names.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return validation_names(tracks, str(path), expected=expected)

    def test_the_named_tracks_are_kept_and_no_others(self, tmp_path: Path) -> None:
        content = "# for judging\n\nalbum 1/song 1\n  album 2/song 9 \r\n"
        expected = {(kind, name) for kind in KINDS for name in ("album 1/song 1", "album 2/song 9")}
        assert self.kept(tmp_path, content, LIBRARY) == expected

    def test_names_with_percent_spaces_number_signs_and_other_scripts_are_found(self, tmp_path: Path) -> None:
        names = ["100%s", "#1 hit", "夜に駆ける/01", " leading space", "tab\tinside", "x" * 250, "\x85odd\u2028"]
        tracks: set[TrackName] = {("vocal", name) for name in names}
        assert self.kept(tmp_path, "\n".join(names), tracks) == tracks

    def test_a_name_may_be_spelled_either_way(self, tmp_path: Path) -> None:
        assert self.kept(tmp_path, unicodedata.normalize("NFD", "Björk"), {("vocal", "Björk")}) == {("vocal", "Björk")}

    def test_a_byte_order_mark_is_no_part_of_a_name(self, tmp_path: Path) -> None:
        assert self.kept(tmp_path, b"\xef\xbb\xbfa\nb\n", {("vocal", "a"), ("vocal", "b")})

    def test_an_unknown_name_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"names.txt names 2 tracks that no library has, the first being 'a'"):
            self.kept(tmp_path, "b\na\nalbum 1/song 1", LIBRARY)

    def test_a_track_that_is_expected_may_be_named_and_is_not_kept_before_it_comes(self, tmp_path: Path) -> None:
        assert self.kept(tmp_path, "a", {("vocal", "b")}, expected={("vocal", "a")}) == frozenset()

    @pytest.mark.parametrize("content", [b"\xff\xfea\x00", b"caf\xe9"])
    def test_a_file_that_is_not_utf_8_is_refused_by_name(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(InputError, match=r"names.txt: expected track names in UTF-8"):
            self.kept(tmp_path, content, LIBRARY)

    @pytest.mark.parametrize("rule", ["missing.txt", ".", "", "10%"])
    def test_a_file_that_is_none_is_refused(self, rule: str) -> None:
        with pytest.raises(InputError, match="must be a fraction from 0 to below 1 or a file of track names"):
            validation_names(LIBRARY, rule)
