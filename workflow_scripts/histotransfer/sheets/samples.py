"""Sample sheets: which images there are, where their files lie, whose they are and what is known of them.

A sheet is a tab-separated table (TSV) in UTF-8 with a header line. A byte-order mark, CRLF line ends, spaces around
cells and blank lines make no difference; a cell may stand in double quotes, but holds no tab and no line break.
Columns of other names are allowed and left alone. The three kinds of sheet are in :data:`COLUMNS`.

Every problem of a sheet is collected and told at once, with the row as the line of the file (the header is row 1).

This module is used while the jobs are planned, so it imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

from histotransfer.problems import Problems, as_number, closest, counted, listing

#: Columns of each kind of sheet: those it must have, and those it may have.
COLUMNS = {
    "slides": (("image", "path"), ("slide", "patient", "label", "annotation", "metastasis", "split", "mpp", "drawing")),
    "patches": (("tile", "path"), ("image", "slide", "patient", "label", "split")),
    "points": (("image", "path", "x", "y"), ("tile", "slide", "patient", "label", "split")),
}

#: Values of the column ``split``.
SETS = ("train", "validation", "test")
#: Values of the column ``metastasis``: what the slide of a lymph node holds.
METASTASES = ("negative", "itc", "micro", "macro")

_SAFE = re.compile(r"[a-z0-9][a-z0-9._-]*")
_MARKED = re.compile(r".*--[0-9a-f]{10}")
_LONGEST_ID = 100


def safe_id(text: str) -> str:
    """Return an id that is safe in file names and in wildcards, and tells any two texts apart.

    Parameters
    ----------
    text : str
        Any text, as it stands in a sheet.

    Returns
    -------
    str
        `text` itself if it matches ``[a-z0-9][a-z0-9._-]*``, has no ``..`` and at most 100 characters; else the nearest
        such text, ``--`` and ten digits of the SHA-256 of `text`. A text that already ends like that gets such an
        ending too, so that no id can pass for another's.

    Examples
    --------
    >>> safe_id("case-7.a")
    'case-7.a'
    >>> safe_id("Case 7/A"), safe_id("case 7/a")
    ('case-7-a--0274e6f89b', 'case-7-a--1bbb4590b6')
    """
    if _SAFE.fullmatch(text) and ".." not in text and len(text) <= _LONGEST_ID and not _MARKED.fullmatch(text):
        return text
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"\.{2,}|[^a-z0-9._-]+", "-", plain).lstrip("._-")
    ending = "--" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return (stem[: _LONGEST_ID - len(ending)].rstrip("._-") or "id") + ending


def bucket(text: str, n: int) -> int:
    """Return the place of `text` among `n` shards or parts, 0 to n - 1: its SHA-256 modulo `n`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") % n


def part_ids(n_parts: int) -> list[str]:
    """Return the ids of a table's parts, ``part-00`` and on."""
    return [f"part-{number:02d}" for number in range(n_parts)]


class SheetError(ValueError):
    """A sheet has problems; the message tells all of them, one a line."""

    def __init__(self, sheet: str, problems: Problems) -> None:
        self.problems = problems
        super().__init__("\n  ".join([f"{sheet}: {counted(problems.count, 'problem')}", *problems.lines()]))


@dataclass(frozen=True)
class SlideRow:
    """One row of a sheet of slides.

    Attributes
    ----------
    id : str
        The image's name in paths, see :func:`safe_id`.
    image_in_sheet, path_in_sheet : str
        As in the sheet.
    path : str
        `path_in_sheet` below the dataset's root.
    exists : bool
        Whether there is such a file, or a rule that draws it.
    slide : str
        The physical slide; the image's name where the sheet names none.
    patient, label, annotation, split, drawing : str
        As in the sheet; "" where it says nothing. `annotation` is a path below the root.
    metastasis : str
        One of :data:`METASTASES`, or "".
    mpp : float or None
        Micrometres per pixel of level 0, where the sheet says so.
    row : int
        Line of the sheet.
    """

    id: str
    image_in_sheet: str
    path_in_sheet: str
    path: str
    exists: bool
    slide: str
    patient: str
    label: str
    annotation: str
    metastasis: str
    split: str
    drawing: str
    mpp: float | None
    row: int


class TableRow(NamedTuple):
    """One row of a sheet of patches or points: one tile.

    Attributes
    ----------
    row : int
        Line of the sheet.
    tile : str
        Unique id; of a point without one, ``image:row``.
    image, slide, patient, label, split : str
        Without a column or a value: `image` is the tile (patches), `slide` the image, the others "".
    path : str
        The image file, below the dataset's root.
    x, y : float or None
        The point in pixels of the image, from its upper left corner; None for patches.
    """

    row: int
    tile: str
    image: str
    slide: str
    patient: str
    label: str
    split: str
    path: str
    x: float | None
    y: float | None


def read_slide_sheet(
    sheet: str | os.PathLike[str],
    *,
    root: str,
    labels: Collection[str] | None = None,
    needs: Collection[str] = (),
    given: Collection[str] = (),
    drawn: bool = False,
    folder: str | os.PathLike[str] = ".",
) -> tuple[list[SlideRow], Problems]:
    """Read a sheet of slides, and find all that is wrong with it.

    Parameters
    ----------
    sheet : path
    root : str
        What relative paths in the sheet are relative to.
    labels : collection of str, optional
        The legal labels; an empty cell is legal too, and is no label. None: any.
    needs : collection of str
        Columns that must be there and have a value in each row, besides ``image`` and ``path``.
    given : collection of {'patient', 'slide', 'image'}
        Units whose groups must each lie in one set of the column ``split``.
    drawn : bool
        Whether a rule makes the files of rows that have a ``drawing``.
    folder : path
        The working directory, which `sheet` and `root` are relative to.

    Returns
    -------
    rows : list of SlideRow
        Those that have no problem of their own, in the order of the sheet.
    problems : Problems

    Notes
    -----
    A slide's file that does not exist is no problem of the sheet: it becomes that slide's status. An annotation that
    does not exist is one, unless a rule draws it with the slide: without it the slide would have other labels.
    """
    problems = Problems()
    checks = _Checks(problems, labels=labels, given=given, fixed=("slide", "patient"))
    rows: list[SlideRow] = []
    first: dict[str, dict[str, int]] = {"image": {}, "path": {}, "id": {}, "annotation": {}}
    for number, cell in _rows(os.path.join(folder, sheet), "slides", needs, labels, problems):
        before = problems.count
        image, path = cell["image"], os.path.normpath(os.path.join(root, cell["path"]))
        checks.once(first["image"], number, "image", image, image)
        checks.once(first["path"], number, "path", path, cell["path"])
        name = safe_id(image)
        if image not in first["id"] and first["id"].setdefault(name, number) != number:
            checks.once(first["id"], number, "image", name, image)
        mpp = checks.resolution(number, cell.get("mpp", ""))
        made, annotation = bool(drawn and cell.get("drawing")), cell.get("annotation", "")
        if annotation:
            annotation = os.path.normpath(os.path.join(root, annotation))
            checks.once(first["annotation"], number, "annotation", annotation, cell["annotation"])
            if not made and not os.path.isfile(os.path.join(folder, annotation)):
                legal = "must be a file, or empty where the slide has no annotation"
                problems.add(f"row {number}, column annotation", legal, f"no file at {annotation}")
        metastasis = cell.get("metastasis", "")
        if metastasis and metastasis not in METASTASES:
            legal = f"must be one of {listing(METASTASES)}, or empty" + closest(metastasis, METASTASES)
            problems.add(f"row {number}, column metastasis", legal, repr(metastasis))
        units = {"image": image, "slide": cell.get("slide") or image, "patient": cell.get("patient", "")}
        checks.row(number, cell, units)
        if problems.count > before:
            continue
        rows.append(
            SlideRow(
                id=name,
                image_in_sheet=image,
                path_in_sheet=cell["path"],
                path=path,
                exists=made or os.path.exists(os.path.join(folder, path)),
                slide=units["slide"],
                patient=units["patient"],
                label=cell.get("label", ""),
                annotation=annotation,
                metastasis=metastasis,
                split=cell.get("split", ""),
                drawing=cell.get("drawing", ""),
                mpp=mpp,
                row=number,
            )
        )
    return rows, problems


def check_header(
    sheet: str | os.PathLike[str],
    *,
    kind: str,
    needs: Collection[str] = (),
    labels: Collection[str] | None = None,
    folder: str | os.PathLike[str] = ".",
) -> Problems:
    """Read the header line of a sheet alone, and find what is wrong with its columns."""
    problems = Problems()
    _header(os.path.join(folder, sheet), kind, needs, labels, problems)
    return problems


def check_table(
    *,
    sheet: str,
    table_file: str,
    kind: str,
    root: str,
    labels: Collection[str] | None = None,
    needs: Collection[str] = (),
    given: Collection[str] = (),
) -> None:
    """Read a whole sheet of patches or points once, and write what is in it.

    It is read row by row; what stays in memory is the ids, to find those that stand twice. Files are not looked for:
    a missing one becomes an excluded row where it is read.

    Parameters
    ----------
    sheet : path
    table_file : path
        The JSON file to write: ``sheet_sha256``, ``kind``, ``columns``, ``rows``, ``images``, ``slides``, ``patients``
        (numbers of different ones), ``labels`` (rows per label), ``unlabelled`` and ``sets`` (rows per given set).
    kind : {'patches', 'points'}
    root, labels, needs, given
        As for :func:`read_slide_sheet`.

    Raises
    ------
    SheetError
        With every problem of the sheet.
    """
    from histotransfer import store

    problems = Problems()
    checks = _Checks(problems, labels=labels, given=given, fixed=("image", "slide", "patient"))
    tiles: dict[str, int] = {}
    paths: dict[str, str] = {}
    seen: dict[str, set[str]] = {"image": set(), "slide": set(), "patient": set()}
    per_label: Counter[str] = Counter()
    per_set: Counter[str] = Counter()
    n_rows = 0
    for number, cell in _rows(sheet, kind, needs, labels, problems):
        n_rows += 1
        row = _table_row(number, cell, kind, root, problems)
        if row is None:
            continue
        checks.once(tiles, number, "tile", row.tile, row.tile)
        if kind == "patches":
            if paths.setdefault(row.path, row.tile) != row.tile:
                legal = f"each patch has a file of its own (tile {paths[row.path]!r} has it already)"
                problems.add(f"row {number}, column path", legal, repr(cell["path"]))
        elif paths.setdefault(row.image, row.path) != row.path:
            legal = f"an image is one file (above it is {paths[row.image]!r})"
            problems.add(f"row {number}, column path", legal, repr(cell["path"]))
        units = {"image": row.image, "slide": row.slide, "patient": row.patient}
        for unit, values in seen.items():
            values.add(units[unit])
        checks.row(number, cell, units)
        per_label[row.label] += 1
        per_set[row.split] += 1
    if problems:
        raise SheetError(sheet, problems)
    with open(sheet, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    summary = {
        "sheet_sha256": sha256,
        "kind": kind,
        "columns": list(_header(sheet, kind, needs, labels, problems) or ()),
        "rows": n_rows,
        "unlabelled": per_label.pop("", 0),
        "labels": dict(per_label),
        "sets": {name: n for name, n in per_set.items() if name},
        **{f"{unit}s": len(values - {""}) for unit, values in seen.items()},
    }
    store.write_json(table_file, summary)


def rows_of_part(*, sheet: str, kind: str, root: str, part: str, n_parts: int) -> Iterator[TableRow]:
    """Read the rows of one part of a sheet of patches or points, one after the other.

    A row belongs to the part that its image's id falls into, so that all tiles of an image are in one.

    Parameters
    ----------
    sheet : path
    kind : {'patches', 'points'}
    root : str
        What relative paths in the sheet are relative to.
    part : str
        One of :func:`part_ids`.
    n_parts : int

    Yields
    ------
    TableRow
        In the order of the sheet.

    Raises
    ------
    SheetError
        At the first row that cannot be read; :func:`check_table` tells all of them.
    """
    wanted = part_ids(n_parts).index(part)
    key = "image" if kind == "points" else "tile"
    problems = Problems()
    for number, cell in _rows(sheet, kind, (), None, problems):
        if bucket(cell.get("image") or cell[key], n_parts) == wanted:
            row = _table_row(number, cell, kind, root, problems)
            if row is not None:
                yield row
        if problems:
            break
    if problems:
        raise SheetError(sheet, problems)


class _Checks:
    """What must hold between the rows of a sheet; what it finds goes to `problems`."""

    def __init__(
        self, problems: Problems, *, labels: Collection[str] | None, given: Collection[str], fixed: tuple[str, ...]
    ) -> None:
        self._problems = problems
        self._legal = None if labels is None else list(labels)
        self._labels = None if labels is None else frozenset(labels)
        self._given = tuple(given)
        # an image belongs to one slide, a slide to one patient
        self._pairs = tuple(pairwise(fixed))
        self._belongs: dict[tuple[str, str], dict[str, str]] = {pair: {} for pair in self._pairs}
        self._sets: dict[str, dict[str, str]] = {unit: {} for unit in self._given}
        self._kept: dict[str, str] = {}

    def once(self, first: dict[str, int], number: int, column: str, value: str, found: str) -> None:
        """Check that `value` did not stand in an earlier row."""
        if first.setdefault(value, number) != number:
            legal = f"no {column} stands twice (row {first[value]} has it already)"
            self._problems.add(f"row {number}, column {column}", legal, repr(found))

    def row(self, number: int, cell: dict[str, str], units: dict[str, str]) -> None:
        """Check label, set and groups of one row."""
        label = cell.get("label", "")
        if label and self._labels is not None and label not in self._labels:
            legal = f"must be one of {listing(self._legal or ())}, or empty" + closest(label, self._legal or ())
            self._problems.add(f"row {number}, column label", legal, repr(label))
        for inner, outer in self._pairs:
            if cell.get(outer) is not None:
                self._belong(number, inner, units[inner], outer, units[outer])
        if not self._given:
            return
        split = cell.get("split", "")
        if split not in SETS:
            if split:
                legal = f"must be one of {listing(SETS)}" + closest(split, SETS)
                self._problems.add(f"row {number}, column split", legal, repr(split))
            return
        for unit, sets in self._sets.items():
            group = units[unit]
            if group and sets.setdefault(group, split) != split:
                legal = f"a {unit} lies in one set, and {unit} {group!r} is in {sets[group]!r} above"
                self._problems.add(f"row {number}, column split", legal, repr(split))

    def _belong(self, number: int, inner: str, value: str, outer: str, owner: str) -> None:
        if not owner:
            return
        # one object per owner keeps a million rows small
        owner = self._kept.setdefault(owner, owner)
        before = self._belongs[inner, outer].setdefault(value, owner)
        if before != owner:
            legal = f"{inner} {value!r} belongs to one {outer}, above to {before!r}"
            self._problems.add(f"row {number}, column {outer}", legal, repr(owner))

    def resolution(self, number: int, text: str) -> float | None:
        """Return micrometres per pixel, or None if the cell is empty or wrong."""
        if not text:
            return None
        value = as_number(text)
        if value is None or value <= 0:
            legal = "must be a number above 0, micrometres per pixel, with a point as decimal mark"
            self._problems.add(f"row {number}, column mpp", legal, repr(text))
            return None
        return value


def _table_row(number: int, cell: dict[str, str], kind: str, root: str, problems: Problems) -> TableRow | None:
    """Make one row's defaults and numbers; None, and a problem, if a number is wrong."""
    x = y = None
    if kind == "points":
        image = cell["image"]
        tile = cell.get("tile") or f"{image}:{number}"
        x, y = as_number(cell["x"]), as_number(cell["y"])
        for name, value in (("x", x), ("y", y)):
            if value is None or value < 0:
                legal = "must be a number of 0 or more, pixels from the image's upper left corner"
                problems.add(f"row {number}, column {name}", legal, repr(cell[name]))
                return None
    else:
        tile = cell["tile"]
        image = cell.get("image") or tile
    return TableRow(
        row=number,
        tile=tile,
        image=image,
        slide=cell.get("slide") or image,
        patient=cell.get("patient", ""),
        label=cell.get("label", ""),
        split=cell.get("split", ""),
        path=os.path.normpath(os.path.join(root, cell["path"])),
        x=x,
        y=y,
    )


def _lines(sheet: str | os.PathLike[str], problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """Read the cells of each line that is not blank; lines that are no UTF-8 become problems."""
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


def _header(
    sheet: str | os.PathLike[str],
    kind: str,
    needs: Collection[str],
    labels: Collection[str] | None,
    problems: Problems,
) -> list[str] | None:
    """Return the header's cells, or None after a problem that leaves the rows without meaning."""
    legal = f"must be a table with the columns {listing(_required(kind, needs, (), labels))}, separated by tabs"
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
    named = [name for name in cells if name]
    for name in sorted({name for name in named if named.count(name) > 1}):
        problems.add(f"row 1, column {name}", "each column stands once", f"{named.count(name)} of that name")
    required = _required(kind, needs, named, labels)
    for name in required:
        if name not in named:
            problems.add(
                f"row 1, column {name}",
                f"the column is missing; needed are {listing(required)}" + closest(name, set(named) - set(required)),
                listing(named),
            )
    return cells if problems.count == before else None


def _required(
    kind: str, needs: Collection[str], present: Collection[str], labels: Collection[str] | None
) -> tuple[str, ...]:
    """Return the columns that must be there, in the order of the documentation."""
    always, optional = COLUMNS[kind]
    wanted = {*always, *needs}
    # labels come from the column, or from regions drawn on a slide
    if labels is not None and not (kind == "slides" and "annotation" in present):
        wanted.add("label")
    return tuple(name for name in (*always, *optional) if name in wanted)


def _rows(
    sheet: str | os.PathLike[str],
    kind: str,
    needs: Collection[str],
    labels: Collection[str] | None,
    problems: Problems,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the rows of a sheet by column name; a row without a needed value becomes a problem instead."""
    header = _header(sheet, kind, needs, labels, problems)
    if header is None:
        return
    always, optional = COLUMNS[kind]
    places = [(name, place) for place, name in enumerate(header) if name in always or name in optional]
    filled = tuple(name for name in chain(always, optional) if name in always or name in needs)
    lines = _lines(sheet, problems)
    next(lines)
    empty = True
    for number, cells in lines:
        empty = False
        if len(cells) > len(header) and any(cells[len(header) :]):
            legal = f"a row has {len(header)} cells, as the header has"
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
