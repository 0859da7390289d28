"""The page ``run.html``: what a run cost, by rule and by method. It is no part of the results' content."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from histotransfer import store
from histotransfer.amounts import duration, mebibytes
from histotransfer.evaluation import compared_tables, costs
from histotransfer.evaluation.compared_tables import number
from histotransfer.report import parts
from histotransfer.report.entries import Entry, chosen, only
from histotransfer.report.parts import Block, Cell, read_plate, read_table
from histotransfer.report.rendering import write_page

_NOT_MEASURED = "not measured"


def write_run_page(
    *,
    entries: tuple[Entry, ...],
    page: str | Path,
    study: str,
    code_version: str,
    files: Sequence[str | Path] = (),
    templates: Sequence[str | Path] = (),
) -> None:
    """Write the page of what a run cost.

    Parameters
    ----------
    entries : tuple of Entry
        The table of :func:`histotransfer.evaluation.costs.collect` (section and kind ``cost``) and its figure; where
        methods are compared, that of :func:`histotransfer.evaluation.costs.of_methods` (section ``methods``, kind
        ``costs``) and its figure.
    page : path
        HTML to write.
    study : str
        Its name.
    code_version : str
        What tells the version of the code.
    files, templates : sequence of path
        See :func:`histotransfer.report.pages.write_report`.

    Raises
    ------
    ValueError
        If there is no table of costs, or a table lacks a column.
    """
    cost = only(entries, "cost", "cost")
    rows = store.read_table(cost.path)
    methods = [entry for entry in chosen(entries, "methods") if not entry.is_figure]
    write_page(
        "run.html.j2",
        page,
        title=f"Cost of study {study}",
        code_version=code_version,
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        rows=[RuleCost.of(row) for row in rows],
        jobs=int(_total(rows, "jobs")),
        wall=duration(_total(rows, "seconds_total")),
        cpu=duration(_total(rows, "cpu_seconds_total")),
        highest=mebibytes(max((float(row["rss_mb_max"] or 0) for row in rows), default=0)),
        plates=[read_plate(entry) for entry in chosen(entries, "cost") if entry.is_figure],
        method_plates=[read_plate(entry) for entry in chosen(entries, "methods") if entry.is_figure],
        methods=_method_costs(methods[0]) if methods else None,
        cost=cost,
    )


def _total(rows: Sequence[Mapping[str, str]], column: str) -> float:
    return sum(float(row[column] or 0) for row in rows)


@dataclass(frozen=True)
class RuleCost:
    """What the jobs of a rule took, in words."""

    rule: str
    jobs: str
    seconds_total: str
    seconds_median: str
    seconds_max: str
    cpu_seconds_total: str
    rss_mb_median: str
    rss_mb_max: str
    read_mb_total: str
    written_mb_total: str

    @classmethod
    def of(cls, row: Mapping[str, str]) -> RuleCost:
        """Put a row of the table of costs into words."""
        words = {
            name: (mebibytes if "_mb_" in name else duration)(float(row[name])) if row[name] else _NOT_MEASURED
            for name in costs.COLUMNS
            if name not in ("rule", "jobs")
        }
        return cls(rule=row["rule"], jobs=f"{int(row['jobs']):,}", **words)


def _method_costs(entry: Entry) -> Block:
    """Return the table of what each method costs."""
    table = read_table(entry)
    parts.need(table, ("method", *_METHOD_SCORES, *_METHOD_COSTS))
    heads = [("Method",), ("score",), ("average rank",), ("CPU time",), ("GPU time",), ("peak memory",), ("on disk",)]
    heads.append(("shared with", "other methods"))
    rows = []
    for row in table.rows:
        untrained = row.get("untrained") == "yes"
        cells = [Cell(row["method"], untrained)]
        cells += parts.number_cells(row, _METHOD_SCORES, table.path, untrained=untrained)
        for name, words in _METHOD_COSTS.items():
            value = number(row, name, table.path)
            cells.append(Cell(_NOT_MEASURED if value is None else words(value)))
        rows.append([*cells, Cell(row.get("shared_with") or "")])
    words = (
        "extraction, selection and training, over all datasets, tasks and seeds. Each method is charged the whole of "
        "what it shares with others, as if it were alone, so that costs do not add up."
    )
    numeric = [False, *(True for _ in heads[1:])]
    notes = compared_tables.notes(table.rows)
    return Block(table, heads, numeric, rows, words, "Costs of the methods", notes)


def _disk(size: float) -> str:
    return mebibytes(size / 2**20)


_METHOD_SCORES = {"score": ".3f", "average_rank": ".1f"}
_METHOD_COSTS: dict[str, Callable[[float], str]] = {
    "cpu_seconds": duration,
    "gpu_seconds": duration,
    "peak_mb": mebibytes,
    "disk_bytes": _disk,
}
