from __future__ import annotations

import pytest

from vrtool.errors import InputError
from vrtool.evaluation.metrics import METRICS, measures_of, parse_metrics


def test_metrics_are_named_in_a_list() -> None:
    assert parse_metrics("nsdr") == ("nsdr",)
    assert parse_metrics(" Bass, nsdr,") == ("nsdr", "bass")
    assert parse_metrics("all") == METRICS


@pytest.mark.parametrize("text", ["", ",", "nsdr,sdr", "everything"])
def test_a_metric_that_there_is_not_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(InputError, match="nsdr, si-sdr, bsseval, bass, dropouts"):
        parse_metrics(text)


def test_what_is_measured_depends_on_what_there_is_to_hear() -> None:
    assert [measure.key for measure in measures_of(METRICS, "vocal", "vocals")] == ["nsdr_db", "si_sdr_db"]
    assert measures_of(METRICS, "vocal", "instrumental") == ()
    assert "sdr_db" not in [measure.key for measure in measures_of(METRICS, "instrumental", "instrumental")]
    assert "dropouts" in [measure.key for measure in measures_of(METRICS, "instrumental", "instrumental")]
    assert "dropouts" not in [measure.key for measure in measures_of(METRICS, "pair", "vocals")]
