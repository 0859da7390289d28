"""Somebody's table made a sheet of patches: columns of other names, several rows an image, labels in lists, lost files.

A table of image-text pairs (Quilt-1M: Ikezogwo et al. 2023) has a million rows, of which an image has several, of
which some have several labels, and whose files are partly not there. It is read once, row by row, and written as the
sheet that every other job reads (:mod:`histotransfer.sheets.samples`); what is left out is counted by reason.

Of the rows nothing stays in memory but 16 bytes an image, to know it again, and 8 bytes a file in the folders that the
table names. Whether a file is there is looked up in one listing of its folder, not asked for row by row.
"""

from __future__ import annotations

import csv
import logging
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from histotransfer.problems import Problems, closest, counted, listing

log = logging.getLogger("histotransfer")


#: What the config calls them, and what they are.
SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";"}

#: Columns of the sheet that is written, in this order; a table need not have those after `path`.
COLUMNS = ("tile", "path", "image", "slide", "patient", "label", "split")

#: Why an image is left out: status in the cohort's table, and the reason in words.
REASONS = {
    "no path": "the row names no image file",
    "no label": "the row has no label",
    "several labels": "the row has several labels",
    "missing": "no such file",
}

#: Longest cell that is read as a list of labels, in characters: Python's parser is never given more.
LONGEST_LIST = 10_000

# Rows looked at together.
_BLOCK = 20_000
_PROGRESS = 30.0


class FirstRows:
    """Tells the first row of each image from those after it.

    Notes
    -----
    Two hashes of 64 bits an image are kept, sorted, in two arrays: 16 bytes an image, and as much again for a moment
    while rows are added.
    """

    # ASSUME two images of one hash do not occur: among a million the odds are one in thirty million
    def __init__(self) -> None:
        import numpy as np

        self._images = np.empty(0, np.uint64)
        self._labels = np.empty(0, np.uint64)

    def find(self, images: Sequence[str], labels: Sequence[str]) -> tuple[Any, Any]:
        """Add rows.

        Parameters
        ----------
        images, labels : sequence of str
            What an image is known by, and the label, of rows that follow those added before.

        Returns
        -------
        first : ndarray of bool, shape (n,)
            Whether no row before is of this image.
        same : ndarray of bool, shape (n,)
            Whether the image's first row has this label.
        """
        import numpy as np

        keys, values = hashes(images, len(images)), hashes(labels, len(labels))
        new, index, inverse = np.unique(keys, return_index=True, return_inverse=True)
        place = np.searchsorted(self._images, new)
        known = place < len(self._images)
        known[known] = self._images[place[known]] == new[known]
        label_of = values[index]
        label_of[known] = self._labels[place[known]]
        first = np.zeros(len(keys), bool)
        first[index[~known]] = True
        self._images = np.insert(self._images, place[~known], new[~known])
        self._labels = np.insert(self._labels, place[~known], label_of[~known])
        return first, label_of[inverse] == values


class Files:
    """Which files there are, by one listing of each folder that is asked about.

    Notes
    -----
    A hash of 64 bits a file is kept. A name is taken as it is spelt, also where the disk would take other capitals.

    Examples
    --------
    >>> Files().present([__file__, __file__ + ".missing"]).tolist()
    [True, False]
    """

    def __init__(self) -> None:
        self._folders: dict[str, Any] = {}

    def present(self, paths: Sequence[str]) -> Any:
        """Return whether each file is there, ndarray of bool, shape (n,).

        Raises
        ------
        OSError
            If a folder is there and cannot be listed.
        """
        import numpy as np

        found = np.zeros(len(paths), bool)
        members: dict[str, list[int]] = {}
        for place, path in enumerate(paths):
            members.setdefault(os.path.dirname(path), []).append(place)
        for folder, places in members.items():
            if folder not in self._folders:
                self._folders[folder] = _listed(folder)
            there = self._folders[folder]
            asked = hashes((os.path.basename(paths[place]) for place in places), len(places))
            at = np.searchsorted(there, asked)
            inside = at < len(there)
            inside[inside] = there[at[inside]] == asked[inside]
            found[places] = inside
        return found


def _listed(folder: str) -> Any:
    """Return the sorted hashes of the names in a folder; none if there is no such folder."""
    import numpy as np

    try:
        with os.scandir(folder or ".") as entries:
            found = hashes(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return np.empty(0, np.uint64)
    found.sort()
    return found


def hashes(texts: Iterable[str], n: int = -1) -> Any:
    """Return a hash of 64 bits of each text (BLAKE2b), ndarray of uint64, shape (n,)."""
    from hashlib import blake2b

    import numpy as np

    each = (
        int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")
        for text in texts
    )
    return np.fromiter(each, np.uint64, n)


@lru_cache(maxsize=4096)
def labels_in(cell: str) -> tuple[str, ...]:
    """Return the labels of a cell: of a list written as text, or the cell itself.

    Parameters
    ----------
    cell : str
        ``['Breast', 'Renal']``, ``Breast``, or nothing.

    Returns
    -------
    tuple of str
        Each label once, in the order of the cell.

    Raises
    ------
    ValueError
        If the cell begins like a list and is none of texts, or a label in it is empty. Nothing of it is ever run.

    Examples
    --------
    >>> labels_in("['Breast', 'Renal', 'Breast']"), labels_in("Soft tissue"), labels_in("[]")
    (('Breast', 'Renal'), ('Soft tissue',), ())
    """
    import ast

    if not cell.startswith("["):
        return (cell,) if cell else ()
    legal = "a list of labels is written like ['Breast', 'Renal']"
    if len(cell) > LONGEST_LIST:
        raise ValueError(f"{legal}, in at most {LONGEST_LIST:,} characters; found {len(cell):,} characters")
    try:
        found = ast.literal_eval(cell)
    # the last three: what a deep nest of brackets does to the parser
    except (ValueError, SyntaxError, MemoryError, RecursionError, OverflowError):
        found = None
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise ValueError(f"{legal}; found {_shown(cell)}")
    stripped = [label.strip() for label in found]
    if not all(stripped):
        raise ValueError(f"a label in a list must not be empty; found {_shown(cell)}")
    return tuple(dict.fromkeys(stripped))


def check_header(
    sheet: str | os.PathLike[str],
    *,
    separator: str,
    columns: Mapping[str, str],
    needs: Collection[str] = (),
    labels: Collection[str] | None = None,
    folder: str | os.PathLike[str] = ".",
) -> Problems:
    """Read the header line of a table alone, and find what is wrong with its columns.

    Parameters
    ----------
    sheet : path
    separator : {'tab', 'comma', 'semicolon'}
    columns : mapping
        Column of the table by column of the sheet; empty: the table has the sheet's own names.
    needs, labels
        As for :func:`histotransfer.sheets.samples.read_slide_sheet`.
    folder : path
        The working directory, which `sheet` is relative to.
    """
    problems = Problems()
    reader = _Reader(os.path.join(folder, sheet), separator, problems)
    header = reader.header()
    if header is not None:
        _places(header, columns, _needed(needs, labels), separator, problems)
    reader.close()
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
    """Write the rows of somebody's table that can be used as a sheet of patches, and count the others.

    Parameters
    ----------
    source : path
        The table: one header line, cells as in RFC 4180 (a cell with a separator, a quote or a line break in it stands
        in double quotes), UTF-8 with or without a byte-order mark.
    sheet : path
        The sheet to write: ``tile``, ``path``, and those of ``image``, ``slide``, ``patient``, ``label`` and ``split``
        that `columns` names. A row without a tile's name is called by its path.
    left_out : path
        The JSON file to write: ``rows`` of the table, ``kept``, ``left_out`` (``status``, ``reason``, ``images``,
        ``first_row``, ``example`` of each reason that occurs), ``repeated`` (rows after the first of their image) and
        ``repeated_otherwise`` (those of them whose label is another).
    root : str
        What relative paths in the table are relative to.
    separator, columns
        See :func:`check_header`.
    several_labels : {'drop', 'first', 'error'} or None
        Of a cell with a list of labels: an image with several is left out, has the first, or is a problem. None: a
        cell is one label as it stands.
    unlabelled : {'keep', 'exclude', 'error'}
        Of an image whose first row has no label.
    repeated : {'error', 'first'}
        Of a further row of an image file: a problem, or left out, whatever became of the first.
    missing_files : {'exclude', 'fail'}
        Of an image whose file is not there.
    needs, labels
        See :func:`check_header`.

    Raises
    ------
    SheetError
        With the problems of the table, each with its row: the line at which the row begins, the header's being 1.
    ValueError
        If files are missing and `missing_files` is ``fail``, or if no row is left.
    """
    from histotransfer import store
    from histotransfer.sheets import samples

    problems = Problems()
    found = _Found()
    table = _Table(
        _Reader(source, separator, problems),
        columns=columns,
        needed=_needed(needs, labels),
        root=root,
        several=several_labels,
        unlabelled=unlabelled,
        repeated=repeated,
    )
    has = [name for name in COLUMNS if name == "tile" or name in table.names]

    def kept() -> Iterator[dict[str, str]]:
        yield from table.usable(found)
        if problems:
            raise samples.SheetError(source, problems)
        if missing_files == "fail" and "missing" in found.left_out:
            gone = found.left_out["missing"]
            raise ValueError(
                f"{source}: every file must be there (missing_files: fail); {gone['images']:,} are not, the first is "
                f"that of row {gone['first_row']}, {gone['example']!r}"
            )
        if not found.kept:
            why = ", ".join(f"{one['images']:,} {status}" for status, one in found.left_out.items()) or "no rows"
            raise ValueError(f"{source}: a row must be left to use, with paths below {root!r}; found {why}")

    store.write_table(sheet, has, kept())
    summary = {
        "source": source,
        "rows": found.rows,
        "kept": found.kept,
        "left_out": [{"status": name, **found.left_out[name]} for name in REASONS if name in found.left_out],
        "repeated": found.repeated,
        "repeated_otherwise": found.repeated_otherwise,
    }
    store.write_json(left_out, summary)
    log.info("%s", said(summary))


def said(summary: Mapping[str, Any]) -> str:
    """Return what :func:`filter_rows` found, in one line."""
    text = f"{summary['source']}: {summary['rows']:,} rows, {summary['kept']:,} images used"
    if summary["left_out"]:
        text += "; left out: " + ", ".join(f"{one['images']:,} {one['status']}" for one in summary["left_out"])
    if summary["repeated"]:
        text += f"; {summary['repeated']:,} further rows of the same images"
    if summary["repeated_otherwise"]:
        text += f", {summary['repeated_otherwise']:,} of them with another label than the image's first row"
    return text


class _Found:
    """What became of the rows so far."""

    def __init__(self) -> None:
        self.rows = self.kept = self.repeated = self.repeated_otherwise = 0
        self.left_out: dict[str, dict[str, Any]] = {}

    def lose(self, status: str, number: int, example: str) -> None:
        new = {"reason": REASONS[status], "images": 0, "first_row": number, "example": example}
        self.left_out.setdefault(status, new)["images"] += 1


class _Table:
    """The rows of somebody's table, in blocks, and what becomes of each."""

    def __init__(
        self,
        reader: _Reader,
        *,
        columns: Mapping[str, str],
        needed: Sequence[str],
        root: str,
        several: str | None,
        unlabelled: str,
        repeated: str,
    ) -> None:
        self._reader = reader
        self._problems = reader.problems
        self._root, self._several, self._unlabelled, self._repeated = root, several, unlabelled, repeated
        header = reader.header()
        found = None if header is None else _places(header, columns, needed, reader.separator, reader.problems)
        self._header = header or []
        self._places = found or {}
        #: The sheet's columns that the table has.
        self.names = tuple(self._places)

    def usable(self, found: _Found) -> Iterator[dict[str, str]]:
        """Yield the row of each image that can be used; the others are counted in `found`."""
        if not self._places:
            return
        images, files = FirstRows(), Files()
        told = time.monotonic()
        for block in self._blocks():
            found.rows += len(block)
            rows = self._with_path(block, found)
            first, same = images.find([row["*"] for _, row in rows], [row.get("label", "") for _, row in rows])
            alone = []
            for (number, row), is_first, is_same in zip(rows, first.tolist(), same.tolist(), strict=True):
                if is_first:
                    if self._label(number, row, found):
                        alone.append((number, row))
                    continue
                found.repeated += 1
                found.repeated_otherwise += not is_same
                if self._repeated == "error":
                    legal = "each image file stands once; `repeated: first` takes its first row"
                    self._problem(number, "path", legal, repr(row["path"]))
            there = files.present([row["*"] for _, row in alone])
            for (number, row), is_there in zip(alone, there.tolist(), strict=True):
                if is_there:
                    found.kept += 1
                    yield {name: value for name, value in row.items() if name != "*"}
                else:
                    found.lose("missing", number, row["path"])
            if time.monotonic() - told > _PROGRESS:
                told = time.monotonic()
                log.info("%d rows read, %d images used so far", found.rows, found.kept)
        if not found.rows and not self._problems:
            self._problems.add("row 2", "must have a row per image", "no rows")

    def _blocks(self) -> Iterator[list[tuple[int, dict[str, str]]]]:
        """Yield rows by the sheet's columns; long texts of other columns are let go at once."""
        block = []
        for number, cells in self._reader.rows():
            if len(cells) != len(self._header):
                legal = f"a row has {len(self._header)} cells, as the header has"
                hint = " (a line break, a quote or a separator inside a cell needs double quotes around the cell)"
                self._problems.add(f"row {number}", legal + hint, counted(len(cells), "cell"))
                continue
            block.append((number, {name: cells[place].strip() for name, place in self._places.items()}))
            if len(block) == _BLOCK:
                yield block
                block = []
        if block:
            yield block

    def _with_path(self, block: list[tuple[int, dict[str, str]]], found: _Found) -> list[tuple[int, dict[str, str]]]:
        """Return the rows that name a file; its path below the root is kept under ``*``."""
        rows = []
        for number, row in block:
            if not row["path"]:
                found.lose("no path", number, "")
                continue
            for name, value in row.items():
                # a cell of another column than the label's becomes a cell of the sheet as it is
                if ("\t" in value or "\n" in value or "\r" in value) and (name != "label" or self._several is None):
                    self._problem(number, name, "must hold no tab and no line break", _shown(value))
            row["*"] = os.path.normpath(os.path.join(self._root, row["path"]))
            row.setdefault("tile", row["path"])
            rows.append((number, row))
        return rows

    def _label(self, number: int, row: dict[str, str], found: _Found) -> bool:
        """Put the one label into the row; return whether the row can be used for what its label is."""
        if "label" not in row:
            return True
        if self._several is not None:
            try:
                labels = labels_in(row["label"])
            except ValueError as error:
                legal, _, what = str(error).rpartition("; found ")
                self._problem(number, "label", legal, what)
                return False
            if len(labels) > 1 and self._several == "error":
                legal = "must be one label; `several_labels` may drop such rows or take the first"
                self._problem(number, "label", legal, _shown(row["label"]))
                return False
            if len(labels) > 1 and self._several == "drop":
                found.lose("several labels", number, row["path"])
                return False
            row["label"] = labels[0] if labels else ""
            if "\t" in row["label"] or "\n" in row["label"] or "\r" in row["label"]:
                self._problem(number, "label", "must hold no tab and no line break", _shown(row["label"]))
        if row["label"] or self._unlabelled == "keep":
            return True
        if self._unlabelled == "error":
            self._problem(number, "label", "must have a label; `unlabelled` may exclude or keep such rows", "none")
        else:
            found.lose("no label", number, row["path"])
        return False

    def _problem(self, number: int, name: str, legal: str, found: str) -> None:
        column = self._header[self._places[name]]
        self._problems.add(f"row {number}, column {column}", legal, found)


class _Reader:
    """The records of a table with the line at which each begins; what cannot be read becomes a problem."""

    def __init__(self, path: str, separator: str, problems: Problems) -> None:
        self.separator, self.problems = separator, problems
        self._line = 0
        self._records: Any = None
        self._path = path
        self._file: Any = None

    def header(self) -> list[str] | None:
        """Return the cells of the header line, or None after a problem."""
        legal = f"must be a table with cells separated by {self.separator}s, in UTF-8"
        try:
            self._file = open(self._path, "rb")  # noqa: SIM115 - read on by `rows`
            self._records = csv.reader(self._lines(), delimiter=SEPARATORS[self.separator], strict=True)
            found = next(self.rows(), None)
        except FileNotFoundError:
            self.problems.add("sheet", legal, "no such file")
            return None
        except OSError as error:
            self.problems.add("sheet", legal, f"a file that cannot be read ({error.strerror})")
            return None
        if found is None:
            if not self.problems:
                self.problems.add("row 1", legal, "an empty file")
            return None
        return [cell.strip() for cell in found[1]]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each record that is not blank, with the number of its first line."""
        while True:
            begins = self._line + 1
            try:
                cells = next(self._records, None)
            except csv.Error as error:
                self.problems.add(f"row {begins}", *_meaning(error))
                return
            except UnicodeDecodeError as error:
                found = f"the byte {error.object[error.start]:#04x} in line {self._line}"
                self.problems.add(f"row {begins}", "the table must be UTF-8", found)
                return
            if cells is None:
                return
            if any(cells):
                yield begins, cells

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _lines(self) -> Iterator[str]:
        with self._file:
            for line in self._file:
                self._line += 1
                yield line.decode("utf-8-sig" if self._line == 1 else "utf-8")


def _meaning(error: csv.Error) -> tuple[str, str]:
    """Return what is legal where the csv module cannot read on, and what was found."""
    text = str(error)
    if "field larger" in text:
        legal = "a cell has at most 131,072 characters: a double quote that opens a cell is closed at its end"
        return legal, "a longer one, most likely after a quote that is not closed"
    if "unexpected end" in text:
        return "a double quote that opens a cell is closed at its end", "the end of the file inside a cell"
    if "expected after" in text:
        return 'in a cell in double quotes a double quote is written twice, ""', "a single one inside the cell"
    if "new-line" in text:
        return "lines must end in LF or CRLF, and a line break inside a cell needs double quotes", "a CR alone"
    return "must be a row of cells", text


def _needed(needs: Collection[str], labels: Collection[str] | None) -> list[str]:
    return [name for name in COLUMNS if name == "path" or name in needs or (name == "label" and labels is not None)]


def _places(
    header: Sequence[str], columns: Mapping[str, str], needed: Collection[str], separator: str, problems: Problems
) -> dict[str, int] | None:
    """Return the place in the header of each of the sheet's columns; None after a problem."""
    before = problems.count
    others = [mark for name, mark in SEPARATORS.items() if name != separator and mark in (header[0] if header else "")]
    if len(header) == 1 and others:
        found = next(name for name, mark in SEPARATORS.items() if mark == others[0])
        problems.add("row 1", f"cells must be separated by {separator}s (`separator`)", f"{found}s: {header[0]!r}")
        return None
    wanted = dict(columns) or {name: name for name in COLUMNS if name in header or name in needed}
    places = {}
    for name in COLUMNS:
        column = wanted.get(name)
        if column is None and name in needed:
            legal = f"`columns` must say which column of the table holds {name!r}, since the study needs it"
            problems.add("row 1", legal, listing(filter(None, header)))
        if column is None:
            continue
        n = header.count(column)
        if n != 1:
            legal = "each column stands once" if n else f"the column is missing, which holds {name!r}"
            legal += "" if n else closest(column, set(header) - {""})
            problems.add(f"row 1, column {column}", legal, f"{n} of that name" if n else listing(filter(None, header)))
        else:
            places[name] = header.index(column)
    return places if problems.count == before else None


def _shown(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
