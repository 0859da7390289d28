"""Times and sizes as a person reads them."""

from __future__ import annotations

import pytest

from histotransfer import amounts


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3600, "1 h 00 min"),
        (11250, "3 h 08 min"),
    ],
)
def test_durations(seconds, said):
    assert amounts.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.31, "0.31 s"), (9.96, "10 s"), (99.4, "99 s"), (100, "2 min"), (5969, "99 min"), (5970, "1.7 h")],
)
def test_rough_durations(seconds, said):
    assert amounts.rough_duration(seconds) == said


@pytest.mark.parametrize(("amount", "said"), [(0.4, "0 MiB"), (1023.4, "1,023 MiB"), (1024, "1.0 GiB")])
def test_sizes(amount, said):
    assert amounts.mebibytes(amount) == said


def test_durations_without_tenths():
    said = [amounts.duration(seconds, tenths=False) for seconds in (3.4, 75, 7265)]
    assert said == ["3 s", "1 min 15 s", "2 h 01 min"]
