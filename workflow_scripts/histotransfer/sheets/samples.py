"""Sample sheets: which images there are, where their files are, and what is known of each.

The kinds of sheet, their columns and how they are written are in :mod:`histotransfer.sheets.reading`. All problems of
a sheet are collected and reported together, each with its row: the line of the file, the header being row 1.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from histotransfer.problems import Problems, as_number, closest, counted, listing
from histotransfer.sheets.ids import bucket, part_ids, safe_id
from histotransfer.sheets.reading import ANY_SHEET, SheetCheck, read_header, rows
from histotransfer.sheets.row_checks import RowChecks

#: Values of the column ``metastasis``: what the slide of a lymph node contains.
METASTASES = ("negative", "itc", "micro", "macro")


class SheetError(ValueError):
    """A sheet has problems; the message lists them, one a line."""

    def __init__(self, sheet: str, problems: Problems) -> None:
        self.problems = problems
        super().__init__("\n  ".join([f"{sheet}: {counted(problems.count, 'problem')}", *problems.lines()]))


@dataclass(frozen=True)
class SlideRow:
    """One row of a sheet of slides.

    Attributes
    ----------
    id : str
        The image's name in paths, see :func:`histotransfer.sheets.ids.safe_id`.
    image_in_sheet, path_in_sheet : str
        As in the sheet.
    path : str
        `path_in_sheet` below the dataset's root.
    exists : bool
        Whether the file exists, or a rule draws it.
    slide : str
        The physical slide; the image's name where the sheet names none.
    patient, label, annotation, split, drawing : str
        As in the sheet; "" where the cell is empty. `annotation` is a path below the root.
    metastasis : str
        One of :data:`METASTASES`, or "".
    mpp : float or None
        Micrometres per pixel of level 0, if the sheet states it.
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
        Where there is no column or no value, `image` is the tile (patches), `slide` the image, the others "".
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


# ---- slides


def read_slide_sheet(
    sheet: str | os.PathLike[str],
    *,
    root: str,
    check: SheetCheck = ANY_SHEET,
    drawn: bool = False,
    folder: str | os.PathLike[str] = ".",
) -> tuple[list[SlideRow], Problems]:
    """Read a sheet of slides, and find all that is wrong with it.

    Parameters
    ----------
    sheet : path
    root : str
        What relative paths in the sheet are relative to.
    check : SheetCheck
        What the sheet must hold.
    drawn : bool
        Whether a rule makes the files of rows that have a ``drawing``.
    folder : path
        The working directory, which `sheet` and `root` are relative to.

    Returns
    -------
    rows : list of SlideRow
        Those without problems, in the order of the sheet.
    problems : Problems

    Notes
    -----
    A slide file that does not exist is not a problem of the sheet: it becomes the status of that slide. An annotation
    that does not exist is a problem, unless a rule draws it with the slide: without it the slide would have other
    labels.
    """
    problems = Problems()
    reader = _SlideRows(problems, check, root=root, drawn=drawn, folder=folder)
    usable = []
    for number, cells in rows(os.path.join(folder, sheet), "slides", check, problems):
        before = problems.count
        row = reader.row(number, cells)
        if problems.count == before:
            usable.append(row)
    return usable, problems


class _SlideRows:
    """Makes rows of a sheet of slides of their cells, and adds what is wrong with them to `problems`."""

    def __init__(
        self, problems: Problems, check: SheetCheck, *, root: str, drawn: bool, folder: str | os.PathLike[str]
    ) -> None:
        self._problems = problems
        self._checks = RowChecks(problems, check, nested=("slide", "patient"))
        self._root, self._drawn, self._folder = root, drawn, folder
        self._seen: dict[str, dict[str, int]] = {"image": {}, "path": {}, "id": {}, "annotation": {}}

    def row(self, number: int, cells: Mapping[str, str]) -> SlideRow:
        """Return one row; it is meaningless if it adds a problem."""
        image, path = cells["image"], os.path.normpath(os.path.join(self._root, cells["path"]))
        self._checks.unique(self._seen["image"], number, "image", image, image)
        self._checks.unique(self._seen["path"], number, "path", path, cells["path"])
        name = safe_id(image)
        if image not in self._seen["id"] and self._seen["id"].setdefault(name, number) != number:
            self._checks.unique(self._seen["id"], number, "image", name, image)
        mpp = self._checks.resolution(number, cells.get("mpp", ""))
        made = bool(self._drawn and cells.get("drawing"))
        annotation = self._annotation(number, cells.get("annotation", ""), made=made)
        metastasis = cells.get("metastasis", "")
        if metastasis and metastasis not in METASTASES:
            legal = f"must be one of {listing(METASTASES)}, or empty" + closest(metastasis, METASTASES)
            self._problems.add(f"row {number}, column metastasis", legal, repr(metastasis))
        groups = {"image": image, "slide": cells.get("slide") or image, "patient": cells.get("patient", "")}
        self._checks.row(number, cells, groups)
        return SlideRow(
            id=name,
            image_in_sheet=image,
            path_in_sheet=cells["path"],
            path=path,
            exists=made or os.path.exists(os.path.join(self._folder, path)),
            slide=groups["slide"],
            patient=groups["patient"],
            label=cells.get("label", ""),
            annotation=annotation,
            metastasis=metastasis,
            split=cells.get("split", ""),
            drawing=cells.get("drawing", ""),
            mpp=mpp,
            row=number,
        )

    def _annotation(self, number: int, cell: str, *, made: bool) -> str:
        """Return the path of an annotation below the root, "" if there is none."""
        if not cell:
            return ""
        annotation = os.path.normpath(os.path.join(self._root, cell))
        self._checks.unique(self._seen["annotation"], number, "annotation", annotation, cell)
        if not made and not os.path.isfile(os.path.join(self._folder, annotation)):
            legal = "must be a file, or empty if the slide has no annotation"
            self._problems.add(f"row {number}, column annotation", legal, f"no file at {annotation}")
        return annotation


# ---- patches and points


def check_header(
    sheet: str | os.PathLike[str],
    *,
    kind: str,
    check: SheetCheck = ANY_SHEET,
    folder: str | os.PathLike[str] = ".",
) -> Problems:
    """Read the header line of a sheet alone, and return what is wrong with its columns."""
    problems = Problems()
    read_header(os.path.join(folder, sheet), kind, check, problems)
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

    The sheet is read row by row; ids and paths stay in memory, to find those that are repeated. Image files are not
    looked for: a missing one becomes an excluded row where it is read.

    Parameters
    ----------
    sheet : path
    table_file : path
        The JSON file to write: ``sheet_sha256``, ``kind``, ``columns``, ``rows``, ``images``, ``slides``, ``patients``
        (numbers of different ones), ``labels`` (rows per label), ``unlabelled`` and ``sets`` (rows per given set).
    kind : {'patches', 'points'}
    root : str
        What relative paths in the sheet are relative to.
    labels, needs, given
        See :class:`histotransfer.sheets.reading.SheetCheck`.

    Raises
    ------
    SheetError
        With every problem of the sheet.
    """
    from histotransfer import store

    check = SheetCheck(None if labels is None else tuple(labels), tuple(needs), tuple(given))
    problems = Problems()
    summary = _summary(sheet, kind, root, check, problems)
    if problems:
        raise SheetError(sheet, problems)
    with open(sheet, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    columns = read_header(sheet, kind, check, problems)
    store.write_json(table_file, {"sheet_sha256": sha256, "kind": kind, "columns": list(columns or ()), **summary})


def _summary(
    sheet: str, kind: str, root: str, check: SheetCheck, problems: Problems
) -> dict[str, int | dict[str, int]]:
    """Return how many rows, groups and labels a sheet has; what is wrong with it is added to `problems`."""
    checks = RowChecks(problems, check, nested=("image", "slide", "patient"))
    tiles: dict[str, int] = {}
    paths: dict[str, str] = {}
    seen: dict[str, set[str]] = {"image": set(), "slide": set(), "patient": set()}
    per_label: Counter[str] = Counter()
    per_set: Counter[str] = Counter()
    n_rows = 0
    for number, cells in rows(sheet, kind, check, problems):
        n_rows += 1
        row = _table_row(number, cells, kind, root, problems)
        if row is None:
            continue
        checks.unique(tiles, number, "tile", row.tile, row.tile)
        if kind == "patches":
            if paths.setdefault(row.path, row.tile) != row.tile:
                legal = f"each patch must have its own file, and tile {paths[row.path]!r} has this one"
                problems.add(f"row {number}, column path", legal, repr(cells["path"]))
        elif paths.setdefault(row.image, row.path) != row.path:
            legal = f"an image must have one file, and above it has {paths[row.image]!r}"
            problems.add(f"row {number}, column path", legal, repr(cells["path"]))
        groups = {"image": row.image, "slide": row.slide, "patient": row.patient}
        for unit, values in seen.items():
            values.add(groups[unit])
        checks.row(number, cells, groups)
        per_label[row.label] += 1
        per_set[row.split] += 1
    return {
        "rows": n_rows,
        "unlabelled": per_label.pop("", 0),
        "labels": dict(per_label),
        "sets": {name: n for name, n in per_set.items() if name},
        **{f"{unit}s": len(values - {""}) for unit, values in seen.items()},
    }


def rows_of_part(*, sheet: str, kind: str, root: str, part: str, n_parts: int) -> Iterator[TableRow]:
    """Yield the rows of one part of a sheet of patches or points, in the order of the sheet.

    A row belongs to the part that its image's id falls into, so that all tiles of an image are in one part.

    Parameters
    ----------
    sheet : path
    kind : {'patches', 'points'}
    root : str
        What relative paths in the sheet are relative to.
    part : str
        One of :func:`histotransfer.sheets.ids.part_ids`.
    n_parts : int

    Raises
    ------
    SheetError
        At the first row that cannot be read; :func:`check_table` reports all of them.
    """
    wanted = part_ids(n_parts).index(part)
    key = "image" if kind == "points" else "tile"
    problems = Problems()
    for number, cells in rows(sheet, kind, ANY_SHEET, problems):
        if bucket(cells.get("image") or cells[key], n_parts) == wanted:
            row = _table_row(number, cells, kind, root, problems)
            if row is not None:
                yield row
        if problems:
            break
    if problems:
        raise SheetError(sheet, problems)


def _table_row(number: int, cells: Mapping[str, str], kind: str, root: str, problems: Problems) -> TableRow | None:
    """Return one row with its defaults, or None if a coordinate is wrong; then a problem has been added."""
    x = y = None
    if kind == "points":
        image = cells["image"]
        tile = cells.get("tile") or f"{image}:{number}"
        x, y = as_number(cells["x"]), as_number(cells["y"])
        for name, value in (("x", x), ("y", y)):
            if value is None or value < 0:
                legal = "must be a number of 0 or more, pixels from the image's upper left corner"
                problems.add(f"row {number}, column {name}", legal, repr(cells[name]))
                return None
    else:
        tile = cells["tile"]
        image = cells.get("image") or tile
    return TableRow(
        row=number,
        tile=tile,
        image=image,
        slide=cells.get("slide") or image,
        patient=cells.get("patient", ""),
        label=cells.get("label", ""),
        split=cells.get("split", ""),
        path=os.path.normpath(os.path.join(root, cells["path"])),
        x=x,
        y=y,
    )
