"""Problems of a file that a user wrote, collected and reported together: where, what is legal there, what was found."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass

#: Number of problems of one file that are listed; further ones are only counted.
LISTED = 50


@dataclass(frozen=True)
class Problem:
    """One problem of one file.

    Attributes
    ----------
    place : str
        Where in the file, for example ``row 3, column mpp``.
    legal : str
        What is legal there, and what to do.
    found : str
        What was found.
    """

    place: str
    legal: str
    found: str

    def __str__(self) -> str:
        return f"{self.place}: {self.legal}; found {self.found}"


class Problems:
    """The problems of one file: the first :data:`LISTED` of them, and their number."""

    def __init__(self) -> None:
        self.listed: list[Problem] = []
        self.count = 0

    def add(self, place: str, legal: str, found: str) -> None:
        """Add a problem; the parameters are the attributes of :class:`Problem`."""
        self.count += 1
        if len(self.listed) < LISTED:
            self.listed.append(Problem(place, legal, found))

    def lines(self) -> list[str]:
        """Return a line for each listed problem, and one for those that are only counted."""
        more = self.count - len(self.listed)
        return [*map(str, self.listed), *([f"... and {more} more"] if more else [])]

    def __bool__(self) -> bool:
        return self.count > 0


def listing(words: Iterable[object], most: int = 30) -> str:
    """Return the first `most` words, separated by commas; the number of all, if there are more."""
    words = [str(word) for word in words] or ["(none)"]
    more = f", ... ({len(words)} in all)" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def closest(word: object, words: Iterable[str]) -> str:
    """Return `` (did you mean ...?)`` if one of `words` is spelled nearly like `word`, otherwise an empty text."""
    by_case = {str(other).casefold(): str(other) for other in words}
    near = difflib.get_close_matches(str(word).casefold(), by_case, 1, 0.6)
    return f" (did you mean {by_case[near[0]]!r}?)" if near else ""


def counted(number: int, what: str) -> str:
    """Return a number with its noun: ``1 problem``, ``2 problems``, ``1,200 problems``."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def as_number(text: str) -> float | None:
    """Return a text as a finite number, or None if it is not one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None
