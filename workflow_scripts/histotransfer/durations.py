"""Lengths of time in words, as progress reports have them."""

from __future__ import annotations


def in_words(seconds: float) -> str:
    """Return a length of time in words.

    Examples
    --------
    >>> [in_words(seconds) for seconds in (3.4, 75, 7265)]
    ['3 s', '1 min 15 s', '2 h 01 min']
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
