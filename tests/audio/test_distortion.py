import math

import numpy as np
import pytest

from vrtool.audio.distortion import nsdr, si_sdr

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


def test_si_sdr_is_the_energy_of_the_fitted_reference_over_that_of_the_rest() -> None:
    # est = 2 ref + an error at right angles to it: 4 * 10 / 1.
    error = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    assert si_sdr(REFERENCE, 2 * REFERENCE + error) == pytest.approx(10 * math.log10(40), abs=1e-6)


def test_si_sdr_of_hand_computed_samples() -> None:
    # <est, ref> / |ref|^2 = 3 / 2; what is left of (1, 2) is (-1/2, 1/2): (9/4 * 2) / (1/2) = 9.
    assert si_sdr(np.array([[1.0, 1.0]]), np.array([[1.0, 2.0]])) == pytest.approx(10 * math.log10(9))


@pytest.mark.parametrize("gain", [1.0, 0.5, -4.0])
def test_si_sdr_of_the_reference_at_any_gain_is_infinite(gain: float) -> None:
    assert si_sdr(REFERENCE, np.float32(gain) * REFERENCE) == math.inf


def test_si_sdr_does_not_change_with_the_estimates_gain() -> None:
    estimate = REFERENCE + np.array([[0.5, 0.25, 0.0], [0.0, 1.0, 0.0]], np.float32)
    score = si_sdr(REFERENCE, estimate)
    assert score is not None
    assert si_sdr(REFERENCE, 8 * estimate) == pytest.approx(score, abs=1e-9)


def test_si_sdr_of_an_estimate_without_a_trace_of_the_reference_is_minus_infinity() -> None:
    assert si_sdr(REFERENCE, np.zeros_like(REFERENCE)) == -math.inf
    assert si_sdr(REFERENCE, np.array([[1, 0, 3], [0, 0, 0]], np.float32)) == -math.inf


def test_si_sdr_of_a_silent_reference_is_none() -> None:
    assert si_sdr(np.zeros_like(REFERENCE), REFERENCE) is None


def test_si_sdr_of_a_long_signal_is_summed_over_its_blocks() -> None:
    rng = np.random.default_rng(0)
    reference, error = rng.standard_normal((2, 2, 400_000)).astype(np.float32)
    error -= reference * np.float32(np.vdot(reference, error) / np.vdot(reference, reference))
    expected = 10 * math.log10(float(np.vdot(reference, reference)) / (0.01 * float(np.vdot(error, error))))
    assert si_sdr(reference, reference + np.float32(0.1) * error) == pytest.approx(expected, abs=1e-3)
