"""The text of a sample sheet: its lines, its header, and its rows by column.

A sheet is a tab-separated table (TSV) in UTF-8 with a header line. A byte-order mark, CRLF line ends, spaces around
cells and blank lines make no difference. A cell may be in double quotes, but must not hold a tab or a line break.
Columns with other names are allowed and ignored.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain

from histotransfer.problems import Problems, closest, counted, listing

#: Columns of each kind of sheet: those that it must have, and those that it may have.
COLUMNS = {
    "slides": (("image", "path"), ("slide", "patient", "label", "annotation", "metastasis", "split", "mpp", "drawing")),
    "patches": (("tile", "path"), ("image", "slide", "patient", "label", "split")),
    "points": (("image", "path", "x", "y"), ("tile", "slide", "patient", "label", "split")),
}


@dataclass(frozen=True)
class SheetCheck:
    """What a sheet must hold for a study.

    Attributes
    ----------
    labels : tuple of str or None
        The legal labels, in order; an empty cell is legal too, and is no label. None: any label.
    needs : tuple of str
        Columns that must exist and have a value in each row, besides those that every sheet of its kind has.
    given : tuple of {'image', 'slide', 'patient'}
        Units whose groups must each be in one set of the column ``split``.
    """

    labels: tuple[str, ...] | None = None
    needs: tuple[str, ...] = ()
    given: tuple[str, ...] = ()


#: Nothing but the columns that every sheet of its kind has.
ANY_SHEET = SheetCheck()


def rows(
    sheet: str | os.PathLike[str], kind: str, check: SheetCheck, problems: Problems
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a sheet, each with its line number (the header is line 1) and its cells by column.

    Parameters
    ----------
    sheet : path
    kind : {'slides', 'patches', 'points'}
    check : SheetCheck
    problems : Problems
        What is wrong with the sheet is added here. A row without a needed value is not yielded.
    """
    header = read_header(sheet, kind, check, problems)
    if header is None:
        return
    always, optional = COLUMNS[kind]
    places = [(name, place) for place, name in enumerate(header) if name in always or name in optional]
    filled = tuple(name for name in chain(always, optional) if name in always or name in check.needs)
    lines = _lines(sheet, problems)
    next(lines)
    empty = True
    for number, cells in lines:
        empty = False
        if len(cells) > len(header) and any(cells[len(header) :]):
            legal = f"a row must have as many cells as the header, {len(header)}"
            problems.add(f"row {number}", legal, counted(len(cells), "cell"))
            continue
        row = {name: cells[place] if place < len(cells) else "" for name, place in places}
        missing = [name for name in filled if not row[name]]
        for name in missing:
            problems.add(f"row {number}, column {name}", "must have a value", "an empty cell")
        if not missing:
            yield number, row
    if empty:
        problems.add("row 2", "must have a row per image", "no rows")


def read_header(sheet: str | os.PathLike[str], kind: str, check: SheetCheck, problems: Problems) -> list[str] | None:
    """Return the cells of the header, or None if the rows cannot be read; then a problem has been added.

    Parameters
    ----------
    sheet, kind, check, problems
        As for :func:`rows`.
    """
    legal = f"must be a table with the columns {listing(_required(kind, check))}, separated by tabs"
    before = problems.count
    try:
        cells = next((cells for _, cells in _lines(sheet, problems)), None)
    except FileNotFoundError:
        problems.add("sheet", legal, "no such file")
        return None
    except OSError as error:
        problems.add("sheet", legal, f"a file that cannot be read ({error.strerror})")
        return None
    if cells is None or problems.count > before:
        if problems.count == before:
            problems.add("row 1", legal, "an empty file")
        return None
    if len(cells) == 1 and re.search("[,;]", cells[0]):
        mark = "commas" if "," in cells[0] else "semicolons"
        problems.add("row 1", legal, f"columns separated by {mark}: {cells[0]!r}")
        return None
    if any("\r" in cell for cell in cells):
        problems.add("row 1", "lines must end in LF or CRLF", "lines that end in CR alone")
        return None
    _check_names([name for name in cells if name], kind, check, problems)
    return cells if problems.count == before else None


def _check_names(names: list[str], kind: str, check: SheetCheck, problems: Problems) -> None:
    for name in sorted({name for name in names if names.count(name) > 1}):
        legal = "a column name must not be repeated"
        problems.add(f"row 1, column {name}", legal, f"{names.count(name)} columns of that name")
    required = _required(kind, check, names)
    for name in required:
        if name not in names:
            legal = f"the column is missing; needed are {listing(required)}"
            near = closest(name, set(names) - set(required))
            problems.add(f"row 1, column {name}", legal + near, listing(names))


def _required(kind: str, check: SheetCheck, present: Collection[str] = ()) -> tuple[str, ...]:
    """Return the columns that a sheet must have, in the order of the documentation."""
    always, optional = COLUMNS[kind]
    wanted = {*always, *check.needs}
    # labels come from the column, or from regions drawn on a slide
    if check.labels is not None and not (kind == "slides" and "annotation" in present):
        wanted.add("label")
    return tuple(name for name in (*always, *optional) if name in wanted)


def _lines(sheet: str | os.PathLike[str], problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line that is not blank; a line that is not UTF-8 becomes a problem."""
    with open(sheet, "rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    problems.add("row 1", "the sheet must be UTF-8", "UTF-16")
                    return
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                problems.add(f"row {number}", "the sheet must be UTF-8", f"the byte {line[error.start]:#04x}")
                continue
            if text.strip():
                yield number, [_cell(cell) for cell in text.split("\t")]


def _cell(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('""', '"').strip()
    return text
