"""Tables as the report shows them: CSV files with their rows, and blocks of cells ready for the page."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from histotransfer import store
from histotransfer.evaluation import compared_tables
from histotransfer.evaluation.compared_tables import number

#: Tables of more rows than this are folded.
OPEN_ROWS = 12


@dataclass(frozen=True)
class Table:
    """A CSV table on the page: its rows, its file as a data URI with a name to save it under, its rule."""

    path: str
    rule: str
    section: str
    kind: str
    rows: list[dict[str, str]]
    source: str
    download: str
    fields: Mapping[str, str]
    #: What it holds, in words.
    contents: str


@dataclass
class Cell:
    """A cell as a page shows it: `place` is 1 for the best of its column, 2 for the second best."""

    text: str
    untrained: bool = False
    place: int = 0


@dataclass
class Block:
    """A table ready for the page: heads (their lines) and cells, which columns hold numbers, what is said around."""

    table: Table
    heads: list[tuple[str, ...]]
    numeric: list[bool]
    rows: list[list[Cell]]
    words: str
    name: str
    notes: list[str] = field(default_factory=list)
    #: Whether the page shows its rows, or hands out the file alone.
    shown: bool = True

    @property
    def folded(self) -> bool:
        """Whether the page folds it."""
        return len(self.rows) > OPEN_ROWS


def file_table(path: str | Path, fields: Mapping[str, str], contents: str) -> Table:
    """Read one CSV table, of any ``section`` and ``kind``, with the ``rule`` behind it and what it holds in words."""
    section, kind = fields["section"], fields["kind"]
    rest = {name: str(value) for name, value in fields.items() if name not in ("section", "kind", "rule")}
    names = [rest.get(name, "") for name in ("comparison", "features", "classifier")]
    parts = [*(names if any(names) else [section]), kind, rest.get("split", "")]
    words = [re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-.") for part in parts]
    data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
    return Table(
        path=str(path),
        rule=fields["rule"],
        section=section,
        kind=kind,
        rows=store.read_csv(path),
        source=f"data:text/csv;base64,{data}",
        download="-".join(word for word in dict.fromkeys(words) if word) + ".csv",
        fields=rest,
        contents=contents,
    )


def filled(row: Mapping[str, str], column: str) -> str:
    """Return the text of a cell, empty where the column is missing."""
    return row.get(column) or ""


def said(value: float | None, form: str) -> str:
    """Write a number; an undefined one is a dash."""
    if value is None:
        return "–"
    if form == "percent":
        return f"{100 * value:.1f} %"
    return format(value, form).replace("-", "−")


def plain_block(
    table: Table, columns: Mapping[str, tuple[str, str]], words: str, name: str, marked: Sequence[bool] = ()
) -> Block:
    """Return a block with a column of the CSV each: its head, and how its numbers are written (empty for text)."""
    need(table, columns)
    rows = []
    for place, row in enumerate(table.rows):
        mark = bool(marked) and marked[place]
        cells = []
        for column, (_, form) in columns.items():
            if form:
                value = number(row, column, table.path)
                cells.append(Cell(said(value, form), untrained=mark and value is not None and form != ",.0f"))
            else:
                cells.append(Cell(filled(row, column)))
        rows.append(cells)
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
