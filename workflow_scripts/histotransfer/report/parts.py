"""Figures and tables as a page shows them: a figure with its bytes, a CSV file with its rows, cells ready to print."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from histotransfer import canvas, store
from histotransfer.evaluation import compared_tables
from histotransfer.evaluation.compared_tables import number
from histotransfer.problems import listing
from histotransfer.report.entries import PICTURES, Entry

#: Tables of more rows than this are folded.
OPEN_ROWS = 12

#: How a share is written: in percent, with one digit.
PERCENT = ".1f %"


@dataclass(frozen=True)
class Embedded:
    """A file that a page holds: its entry, and its bytes as a data URI."""

    entry: Entry
    source: str

    @property
    def path(self) -> str:
        """Where it lies."""
        return self.entry.path

    @property
    def rule(self) -> str:
        """The rule that makes it."""
        return self.entry.rule


@dataclass(frozen=True)
class Plate(Embedded):
    """A figure on a page: its size in CSS pixels, and the sentence that it carries."""

    width: int
    height: int
    statement: str


def read_plate(entry: Entry) -> Plate:
    """Read one figure.

    Raises
    ------
    ValueError
        If the file is no picture by its ending.
    """
    if not entry.is_figure:
        raise ValueError(f"a figure is one of {', '.join(PICTURES)}; found {entry.path}")
    width, height = canvas.read_size(entry.path)
    source = data_uri(entry.path, entry.media_type)
    return Plate(entry, source, round(width), round(height), canvas.read_statement(entry.path))


def data_uri(path: str, media_type: str) -> str:
    """Return a file as a ``data:`` URI, which a page can hold."""
    with open(path, "rb") as file:
        return f"data:{media_type};base64,{base64.b64encode(file.read()).decode('ascii')}"


@dataclass(frozen=True)
class Table(Embedded):
    """A CSV table on the page: its rows, and a name to save its file under."""

    rows: list[dict[str, str]]
    download: str

    @property
    def kind(self) -> str:
        """What it is within its section."""
        return self.entry.kind


@dataclass
class Cell:
    """A cell as a page shows it: `place` is 1 for the best of its column, 2 for the second best."""

    text: str
    untrained: bool = False
    place: int = 0


@dataclass
class Block:
    """A table ready for the page.

    Attributes
    ----------
    table : Table
    heads : list of tuple of str
        Lines of each column's head.
    numeric : list of bool
        Which columns hold numbers.
    rows : list of list of Cell
    words : str
        What is said beside its name.
    name : str
    notes : list of str
        What is said below.
    shown : bool
        Whether the page shows its rows, or hands out the file alone.
    """

    table: Table
    heads: list[tuple[str, ...]]
    numeric: list[bool]
    rows: list[list[Cell]]
    words: str
    name: str
    notes: list[str] = field(default_factory=list)
    shown: bool = True

    @property
    def folded(self) -> bool:
        """Whether the page folds it."""
        return len(self.rows) > OPEN_ROWS


def read_table(entry: Entry) -> Table:
    """Read one CSV table, of any section and kind."""
    names = [entry.comparison, entry.features, entry.classifier]
    parts = [*(names if any(names) else [entry.section]), entry.kind, entry.split]
    words = [re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-.") for part in parts]
    download = "-".join(word for word in dict.fromkeys(words) if word) + ".csv"
    return Table(entry, data_uri(entry.path, "text/csv"), store.read_csv(entry.path), download)


def filled(row: Mapping[str, str], column: str) -> str:
    """Return the text of a cell, empty where the column is missing."""
    return row.get(column) or ""


def written(value: float | None, form: str) -> str:
    """Write a number in a form of Python's ``format``, a share in percent with `` %`` behind, no number as a dash.

    Examples
    --------
    >>> written(0.125, ".1f %"), written(-0.5, "+.3f"), written(None, ".3f")
    ('12.5 %', '−0.500', '–')
    """
    if value is None:
        return "–"
    number_form = form.removesuffix(" %")
    text = format(value if number_form == form else 100 * value, number_form)
    return text.replace("-", "−") + form.removeprefix(number_form)


def number_cells(row: Mapping[str, str], columns: Mapping[str, str], path: str, *, untrained: bool) -> list[Cell]:
    """Return cells of numbers, each in its form, which are marked if a network is untrained.

    Counts (of the form ``,.0f``) and undefined values are no work of the network, and not marked.
    """
    cells = []
    for column, form in columns.items():
        value = number(row, column, path)
        cells.append(Cell(written(value, form), untrained and value is not None and form != ",.0f"))
    return cells


def plain_block(
    table: Table, columns: Mapping[str, tuple[str, str]], words: str, name: str, marked: Sequence[bool] = ()
) -> Block:
    """Return a block with a column of the CSV each: its head, and how its numbers are written (empty for text)."""
    need(table, columns)
    rows = []
    for place, row in enumerate(table.rows):
        mark = bool(marked) and marked[place]
        rows.append(
            [
                number_cells(row, {column: form}, table.path, untrained=mark)[0] if form else Cell(filled(row, column))
                for column, (_, form) in columns.items()
            ]
        )
    heads = [(head,) for head, _ in columns.values()]
    numeric = [bool(form) for _, form in columns.values()]
    return Block(table, heads, numeric, rows, words, name, compared_tables.notes(table.rows))


def need(table: Table, columns: Iterable[str]) -> None:
    """Raise ValueError if a table lacks a column."""
    compared_tables.read(table.path, columns)


def marked_places(values: Sequence[float | None]) -> list[int]:
    """Return 1 for the highest values, 2 for the next lower ones, 0 for others; one value alone has no place."""
    ordered = sorted({round(value, 12) for value in values if value is not None}, reverse=True)
    if len([value for value in values if value is not None]) < 2:
        return [0] * len(values)
    rank = {value: place for place, value in enumerate(ordered[:2], start=1)}
    return [0 if value is None else rank.get(round(value, 12), 0) for value in values]


def noted(pairs: Iterable[tuple[str, str]], most: int = 8) -> list[str]:
    """Return each note with the names that it is about, the first `most` of them, from pairs of a note and a name."""
    owners: dict[str, dict[str, None]] = {}
    for note, name in pairs:
        if note.strip():
            owners.setdefault(note.strip(), {})[name] = None
    return [f"{note}: {listing(names, most)}" for note, names in owners.items()]


def span(values: Iterable[float]) -> str:
    """Write numbers as one, or from the least to the greatest; a dash without any.

    Examples
    --------
    >>> span([3, 1200, 3]), span([0.5]), span([])
    ('3 to 1,200', '0.5', '–')
    """
    ends = sorted(values)
    words = dict.fromkeys(f"{one:,.0f}" if float(one).is_integer() else f"{one:g}" for one in ends[:1] + ends[-1:])
    return " to ".join(words) or "–"


def seed_numbers(text: str) -> list[float]:
    """Return the numbers in a cell that has one for each seed, ``"3, 5, 4"``, or one for all."""
    return [float(part) for part in text.split(",") if part.strip()]


@dataclass(frozen=True)
class MethodSet:
    """Some of the study's methods by name, and the feature sets that these methods are on."""

    methods: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> MethodSet:
        """Take pairs of a method and its feature set, each once."""
        pairs = dict.fromkeys(pairs)
        return cls(tuple(dict.fromkeys(name for name, _ in pairs)), tuple(dict.fromkeys(name for _, name in pairs)))


@dataclass(frozen=True)
class Item:
    """A figure with the table behind it, or one of them alone.

    Attributes
    ----------
    kind : str
        Of both: says how the figure is read.
    plate : Plate or None
    block : Block or None
    name : str
        The method or feature set that they are of; "" where they compare several.
    untrained : bool
        Whether that has random weights.
    variants : Block or None
        What stands behind the numbers of `block`.
    """

    kind: str
    plate: Plate | None = None
    block: Block | None = None
    name: str = ""
    untrained: bool = False
    variants: Block | None = None


@dataclass(frozen=True)
class HeldApart:
    """What a split holds out together, and why groups may be shared ("" where they may not)."""

    unit: str = "patient"
    reason: str = ""
