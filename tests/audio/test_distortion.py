import math

import numpy as np
import pytest

from vrtool.audio.distortion import nsdr

REFERENCE = np.array([[3.0, 0.0, -1.0], [0.0, 0.0, 0.0]], np.float32)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ([[1, 0, 0], [0, 0, 0]], 10.0),  # 10 / 1
        ([[0, 1, 0], [0, 0, -3]], 0.0),  # 10 / 10, and a silent channel's error counts too
        ([[10, 0, 0], [0, 0, 0]], -10.0),
    ],
)
def test_it_is_the_energy_of_the_truth_over_that_of_the_error(error: list[list[float]], expected: float) -> None:
    assert nsdr(REFERENCE, REFERENCE + np.array(error, np.float32)) == pytest.approx(expected, abs=1e-6)


def test_silence_as_estimate_scores_zero() -> None:
    assert nsdr(REFERENCE, np.zeros_like(REFERENCE)) == 0


def test_a_perfect_estimate_is_infinitely_good() -> None:
    assert nsdr(REFERENCE, REFERENCE.copy()) == math.inf


def test_nothing_can_be_said_of_a_silent_reference() -> None:
    assert nsdr(np.zeros_like(REFERENCE), REFERENCE) is None


def test_a_long_songs_small_errors_are_not_lost_in_float32() -> None:
    reference = np.ones((1, 20_000_000), np.float32)
    assert nsdr(reference, reference + np.float32(2**-10)) == pytest.approx(20 * math.log10(2**10), abs=1e-6)


def test_phase_counts_in_a_spectrogram() -> None:
    spectrogram = np.array([[[1j, 1 + 1j]]], np.complex64)
    # |i - 1|^2 + |1 + i - (1 - i)|^2 = 2 + 4 against 1 + 2.
    assert nsdr(spectrogram, np.array([[[1, 1 - 1j]]], np.complex64)) == pytest.approx(10 * math.log10(3 / 6), abs=1e-5)
