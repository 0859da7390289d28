"""Lengths of time in words."""

from __future__ import annotations

from histotransfer import durations


def test_seconds_are_said_in_words():
    assert [durations.in_words(seconds) for seconds in (3.4, 75, 7265)] == ["3 s", "1 min 15 s", "2 h 01 min"]
