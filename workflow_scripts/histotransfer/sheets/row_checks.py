"""What must hold between the rows of a sample sheet: unique values, legal labels, and groups that are not divided.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from histotransfer.definitions import SETS
from histotransfer.problems import Problems, as_number, closest, listing
from histotransfer.sheets.reading import SheetCheck


class RowChecks:
    """Checks each row against the study and against the rows before it.

    Parameters
    ----------
    problems : Problems
        What is wrong is added here.
    check : SheetCheck
    nested : tuple of str
        Units from fine to coarse: each group of a unit belongs to one group of the next.
    """

    def __init__(self, problems: Problems, check: SheetCheck, nested: tuple[str, ...]) -> None:
        self._problems = problems
        self._legal_labels = check.labels
        self._labels = None if check.labels is None else frozenset(check.labels)
        self._pairs = tuple(pairwise(nested))
        self._belongs: dict[tuple[str, str], dict[str, str]] = {pair: {} for pair in self._pairs}
        self._sets: dict[str, dict[str, str]] = {unit: {} for unit in check.given}
        self._kept: dict[str, str] = {}

    def unique(self, rows: dict[str, int], number: int, column: str, value: str, cell: str) -> None:
        """Check that `value` is not in an earlier row, and remember it.

        Parameters
        ----------
        rows : dict
            Row number by value, of the rows before.
        number : int
            Of this row.
        column : str
            Column that is to blame.
        value : str
            What must be unique.
        cell : str
            The cell as it is in the sheet.
        """
        if rows.setdefault(value, number) != number:
            legal = f"must be unique, and row {rows[value]} has the same {column}"
            self._problems.add(f"row {number}, column {column}", legal, repr(cell))

    def row(self, number: int, cells: Mapping[str, str], groups: Mapping[str, str]) -> None:
        """Check label, groups and set of one row.

        Parameters
        ----------
        number : int
        cells : mapping
            By column of the sheet.
        groups : mapping
            Image, slide and patient of the row by unit; a patient may be unknown ("").
        """
        label = cells.get("label", "")
        if label and self._labels is not None and label not in self._labels:
            legal = f"must be one of {listing(self._legal_labels or ())}, or empty"
            self._add(number, "label", legal + closest(label, self._legal_labels or ()), label)
        for inner, outer in self._pairs:
            if cells.get(outer) is not None:
                self._check_belonging(number, inner, groups[inner], outer, groups[outer])
        if self._sets:
            self._check_set(number, cells.get("split", ""), groups)

    def _check_belonging(self, number: int, inner: str, group: str, outer: str, owner: str) -> None:
        if not owner:
            return
        # one object per owner keeps a million rows small
        owner = self._kept.setdefault(owner, owner)
        before = self._belongs[inner, outer].setdefault(group, owner)
        if before != owner:
            self._add(number, outer, f"{inner} {group!r} must have one {outer}, and above it has {before!r}", owner)

    def _check_set(self, number: int, name: str, groups: Mapping[str, str]) -> None:
        if name not in SETS:
            if name:
                self._add(number, "split", f"must be one of {listing(SETS)}" + closest(name, SETS), name)
            return
        for unit, sets in self._sets.items():
            group = groups[unit]
            if group and sets.setdefault(group, name) != name:
                legal = f"{unit} {group!r} must be in one set, and above it is in {sets[group]!r}"
                self._add(number, "split", legal, name)

    def resolution(self, number: int, text: str) -> float | None:
        """Return micrometres per pixel, or None if the cell is empty or wrong."""
        if not text:
            return None
        value = as_number(text)
        if value is None or value <= 0:
            legal = "must be a number above 0, micrometres per pixel, with a point as decimal mark"
            self._add(number, "mpp", legal, text)
            return None
        return value

    def _add(self, number: int, column: str, legal: str, cell: str) -> None:
        self._problems.add(f"row {number}, column {column}", legal, repr(cell))
