"""Sample sheets made of third-party tables: other column names, repeated images, lists of labels, missing files.

A table of image-text pairs (Quilt-1M: Ikezogwo et al. 2023) has a million rows. An image has several rows, a row may
have several labels, and many of the files are missing. The table is read once, row by row, and written as the sheet
that all other jobs read (:mod:`histotransfer.sheets.samples`); the rows that are left out are counted by reason.

Of the rows, 16 bytes an image stay in memory, and 8 bytes a file in the folders that the table names. Whether a file
exists follows from one listing of its folder; the disk is not asked row by row.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from histotransfer.problems import Problems, closest, counted, listing
from histotransfer.sheets.csv_records import SEPARATORS, Records
from histotransfer.sheets.hashes import Files, FirstRows
from histotransfer.sheets.label_lists import LabelListError, labels_in, shown
from histotransfer.sheets.reading import ANY_SHEET, SheetCheck

log = logging.getLogger("histotransfer")

#: Columns of the sheet that is written, in this order; a table need not have those after `path`.
COLUMNS = ("tile", "path", "image", "slide", "patient", "label", "split")

#: Why an image is left out: its status in the cohort's table, and the reason in words.
REASONS = {
    "no path": "the row names no image file",
    "no label": "the row has no label",
    "several labels": "the row has several labels",
    "missing": "no such file",
}

# Rows processed at a time, and seconds between messages of progress.
_BLOCK = 20_000
_PROGRESS = 30.0

# Key of a row's path below the root, beside the columns of the sheet.
_FILE = "*"


@dataclass(frozen=True)
class ThirdPartyTable:
    """A third-party table, and how a sheet is made of it: keys of a dataset in the config.

    Attributes
    ----------
    source : str
        Path of the table.
    separator : {'tab', 'comma', 'semicolon'}
    columns : dict of str to str
        Column of the table by column of the sheet; empty: the table has the column names of the sheet.
    several_labels : {'drop', 'first', 'error'} or None
        What happens to a cell with a list of labels: an image with several is left out, gets the first, or is a
        problem. None: a cell is always one label, as it is.
    unlabelled : {'keep', 'exclude', 'error'}
        What happens to an image whose first row has no label.
    repeated : {'error', 'first'}
        What happens to further rows of an image file: they are problems, or left out, even if the first row is left
        out too.
    missing_files : {'exclude', 'fail'}
        What happens to an image whose file is missing.
    """

    source: str
    separator: str = "tab"
    columns: Mapping[str, str] = field(default_factory=dict)
    several_labels: str | None = None
    unlabelled: str = "keep"
    repeated: str = "error"
    missing_files: str = "exclude"


def check_header(
    table: ThirdPartyTable, check: SheetCheck = ANY_SHEET, *, folder: str | os.PathLike[str] = "."
) -> Problems:
    """Read the header line of a table alone, and return what is wrong with its columns.

    Parameters
    ----------
    table : ThirdPartyTable
    check : SheetCheck
        What the sheet must hold that is made of the table.
    folder : path
        The working directory, which the table's path is relative to.
    """
    problems = Problems()
    with Records(os.path.join(folder, table.source), table.separator, problems) as records:
        header = records.header()
    if header is not None:
        _places(header, table, _needed(check), problems)
    return problems


def filter_rows(
    *,
    source: str,
    sheet: str,
    left_out: str,
    root: str,
    separator: str,
    columns: Mapping[str, str],
    several_labels: str | None,
    unlabelled: str,
    repeated: str,
    missing_files: str,
    needs: Collection[str] = (),
    labels: Collection[str] | None = None,
) -> None:
    """Write the usable rows of a third-party table as a sheet of patches, and count the others.

    Parameters
    ----------
    source : path
        The table: one header line, cells as in RFC 4180 (a cell with a separator, a quote or a line break in it is in
        double quotes), UTF-8 with or without a byte-order mark.
    sheet : path
        The sheet to write: ``tile``, ``path``, and those of ``image``, ``slide``, ``patient``, ``label`` and ``split``
        that `columns` names. The tile of a row without a tile's name is its path.
    left_out : path
        The JSON file to write: ``rows`` of the table, ``kept``, ``left_out`` (``status``, ``reason``, ``images``,
        ``first_row``, ``example`` of each reason that occurs), ``repeated`` (rows after the first of their image) and
        ``repeated_otherwise`` (those of them with a different label).
    root : str
        What relative paths in the table are relative to.
    separator, columns, several_labels, unlabelled, repeated, missing_files
        See :class:`ThirdPartyTable`.
    needs, labels
        See :class:`histotransfer.sheets.reading.SheetCheck`.

    Raises
    ------
    SheetError
        With the problems of the table, each with its row: the line at which the row begins, the header being line 1.
    ValueError
        If files are missing and `missing_files` is ``fail``, or if no row is left.
    """
    from histotransfer import store

    table = ThirdPartyTable(source, separator, columns, several_labels, unlabelled, repeated, missing_files)
    check = SheetCheck(None if labels is None else tuple(labels), tuple(needs))
    problems, outcome = Problems(), _Outcome()
    with Records(source, separator, problems) as records:
        reader = _TableRows(records, table, check, root=root)
        names = [name for name in COLUMNS if name == "tile" or name in reader.names]
        store.write_table(sheet, names, _usable(reader, table, root, outcome))
    summary = {
        "source": source,
        "rows": outcome.rows,
        "kept": outcome.kept,
        "left_out": [{"status": name, **outcome.left_out[name]} for name in REASONS if name in outcome.left_out],
        "repeated": outcome.repeated,
        "repeated_otherwise": outcome.repeated_otherwise,
    }
    store.write_json(left_out, summary)
    log.info("%s", in_one_line(summary))


def in_one_line(summary: Mapping[str, Any]) -> str:
    """Return the summary that :func:`filter_rows` writes as one line of text."""
    text = f"{summary['source']}: {summary['rows']:,} rows, {summary['kept']:,} images used"
    if summary["left_out"]:
        text += "; left out: " + ", ".join(f"{entry['images']:,} {entry['status']}" for entry in summary["left_out"])
    if summary["repeated"]:
        text += f"; {summary['repeated']:,} further rows of the same images"
    if summary["repeated_otherwise"]:
        text += f", {summary['repeated_otherwise']:,} of them with another label than the image's first row"
    return text


class _Outcome:
    """What became of the rows so far."""

    def __init__(self) -> None:
        self.rows = self.kept = self.repeated = self.repeated_otherwise = 0
        self.left_out: dict[str, dict[str, Any]] = {}

    def leave_out(self, status: str, number: int, example: str) -> None:
        new = {"reason": REASONS[status], "images": 0, "first_row": number, "example": example}
        self.left_out.setdefault(status, new)["images"] += 1


def _usable(reader: _TableRows, table: ThirdPartyTable, root: str, outcome: _Outcome) -> Iterator[dict[str, str]]:
    """Yield the usable rows; raise after the last one if the table has problems or leaves nothing to use."""
    from histotransfer.sheets.samples import SheetError

    yield from reader.usable(outcome)
    if reader.problems:
        raise SheetError(table.source, reader.problems)
    if table.missing_files == "fail" and "missing" in outcome.left_out:
        missing = outcome.left_out["missing"]
        raise ValueError(
            f"{table.source}: all files must exist (missing_files: fail); {missing['images']:,} are missing, the first "
            f"in row {missing['first_row']}, {missing['example']!r}"
        )
    if not outcome.kept:
        why = ", ".join(f"{entry['images']:,} {status}" for status, entry in outcome.left_out.items()) or "no rows"
        raise ValueError(f"{table.source}: needs at least one usable row, with paths below {root!r}; found {why}")


class _TableRows:
    """The rows of a third-party table, in blocks, and what becomes of each."""

    def __init__(self, records: Records, table: ThirdPartyTable, check: SheetCheck, *, root: str) -> None:
        self._records, self._table, self._root = records, table, root
        self.problems = records.problems
        header = records.header()
        self._header = header or []
        self._places = {} if header is None else _places(header, table, _needed(check), records.problems) or {}
        #: The sheet's columns that the table has.
        self.names = tuple(self._places)

    def usable(self, outcome: _Outcome) -> Iterator[dict[str, str]]:
        """Yield the row of each image that can be used; the others are counted in `outcome`."""
        if not self._places:
            return
        images, files = FirstRows(), Files()
        reported = time.monotonic()
        for block in self._blocks():
            outcome.rows += len(block)
            candidates = self._first_rows(self._with_path(block, outcome), images, outcome)
            exist = files.present([row[_FILE] for _, row in candidates])
            for (number, row), exists in zip(candidates, exist.tolist(), strict=True):
                if exists:
                    outcome.kept += 1
                    yield {name: value for name, value in row.items() if name != _FILE}
                else:
                    outcome.leave_out("missing", number, row["path"])
            if time.monotonic() - reported > _PROGRESS:
                reported = time.monotonic()
                log.info("%d rows read, %d images used so far", outcome.rows, outcome.kept)
        if not outcome.rows and not self.problems:
            self.problems.add("row 2", "must have a row per image", "no rows")

    def _blocks(self) -> Iterator[list[tuple[int, dict[str, str]]]]:
        """Yield rows by the sheet's columns; long texts of other columns are not kept."""
        block = []
        for number, cells in self._records.rows():
            if len(cells) != len(self._header):
                legal = (
                    f"a row must have as many cells as the header, {len(self._header)} (a cell with a line break, a "
                    "quote or a separator in it must be in double quotes)"
                )
                self.problems.add(f"row {number}", legal, counted(len(cells), "cell"))
                continue
            block.append((number, {name: cells[place].strip() for name, place in self._places.items()}))
            if len(block) == _BLOCK:
                yield block
                block = []
        if block:
            yield block

    def _with_path(
        self, block: list[tuple[int, dict[str, str]]], outcome: _Outcome
    ) -> list[tuple[int, dict[str, str]]]:
        """Return the rows that name a file, each with its path below the root."""
        rows = []
        for number, row in block:
            if not row["path"]:
                outcome.leave_out("no path", number, "")
                continue
            for name, value in row.items():
                # except for lists of labels, a cell becomes a cell of the sheet as it is
                if _has_break(value) and (name != "label" or self._table.several_labels is None):
                    self._problem(number, name, "must not hold a tab or a line break", shown(value))
            row[_FILE] = os.path.normpath(os.path.join(self._root, row["path"]))
            row.setdefault("tile", row["path"])
            rows.append((number, row))
        return rows

    def _first_rows(
        self, rows: list[tuple[int, dict[str, str]]], images: FirstRows, outcome: _Outcome
    ) -> list[tuple[int, dict[str, str]]]:
        """Return the first row of each image, if its label can be used; further rows are counted."""
        first, same = images.find([row[_FILE] for _, row in rows], [row.get("label", "") for _, row in rows])
        usable = []
        for (number, row), is_first, is_same in zip(rows, first.tolist(), same.tolist(), strict=True):
            if is_first:
                if self._label(number, row, outcome):
                    usable.append((number, row))
                continue
            outcome.repeated += 1
            outcome.repeated_otherwise += not is_same
            if self._table.repeated == "error":
                legal = "an image file must not be repeated; `repeated: first` takes its first row"
                self._problem(number, "path", legal, repr(row["path"]))
        return usable

    def _label(self, number: int, row: dict[str, str], outcome: _Outcome) -> bool:
        """Put the row's one label into it; return whether the row can be used with that label."""
        if "label" not in row:
            return True
        if self._table.several_labels is not None and not self._take_one(number, row, outcome):
            return False
        if row["label"] or self._table.unlabelled == "keep":
            return True
        if self._table.unlabelled == "error":
            legal = "must have a label; `unlabelled` can exclude or keep such rows"
            self._problem(number, "label", legal, "none")
        else:
            outcome.leave_out("no label", number, row["path"])
        return False

    def _take_one(self, number: int, row: dict[str, str], outcome: _Outcome) -> bool:
        """Replace a list of labels by one label; return False if the row cannot be used."""
        try:
            labels = labels_in(row["label"])
        except LabelListError as error:
            self._problem(number, "label", error.legal, error.found)
            return False
        if len(labels) > 1 and self._table.several_labels == "error":
            legal = "must be one label; `several_labels` can drop such rows or take the first label"
            self._problem(number, "label", legal, shown(row["label"]))
            return False
        if len(labels) > 1 and self._table.several_labels == "drop":
            outcome.leave_out("several labels", number, row["path"])
            return False
        row["label"] = labels[0] if labels else ""
        if _has_break(row["label"]):
            self._problem(number, "label", "must not hold a tab or a line break", shown(row["label"]))
        return True

    def _problem(self, number: int, name: str, legal: str, found: str) -> None:
        column = self._header[self._places[name]]
        self.problems.add(f"row {number}, column {column}", legal, found)


def _has_break(text: str) -> bool:
    return "\t" in text or "\n" in text or "\r" in text


def _needed(check: SheetCheck) -> list[str]:
    """Return the columns of the sheet that the table must have."""
    return [
        name
        for name in COLUMNS
        if name == "path" or name in check.needs or (name == "label" and check.labels is not None)
    ]


def _places(
    header: Sequence[str], table: ThirdPartyTable, needed: Collection[str], problems: Problems
) -> dict[str, int] | None:
    """Return the place in the header of each of the sheet's columns; None after a problem."""
    before = problems.count
    marks = [name for name, mark in SEPARATORS.items() if name != table.separator and mark in "".join(header[:1])]
    if len(header) == 1 and marks:
        legal = f"cells must be separated by {table.separator}s (`separator`)"
        problems.add("row 1", legal, f"{marks[0]}s: {header[0]!r}")
        return None
    wanted = dict(table.columns) or {name: name for name in COLUMNS if name in header or name in needed}
    places = {}
    for name in COLUMNS:
        column = wanted.get(name)
        if column is None and name in needed:
            legal = f"`columns` must say which column of the table holds {name!r}, since the study needs it"
            problems.add("row 1", legal, listing(filter(None, header)))
        if column is None:
            continue
        n = header.count(column)
        if n == 0:
            legal = f"the column for {name!r} is missing" + closest(column, set(header) - {""})
            problems.add(f"row 1, column {column}", legal, listing(filter(None, header)))
        elif n > 1:
            legal = "a column name must not be repeated"
            problems.add(f"row 1, column {column}", legal, f"{n} columns of that name")
        else:
            places[name] = header.index(column)
    return places if problems.count == before else None
