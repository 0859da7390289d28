"""Tables of ranks, differences, layers, importance, selections and costs, as figures and pages read them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from histotransfer import store
from histotransfer.problems import counted

#: How much of all importance the most important features hold together, in percent; cumulative.
PARTS = (10, 25, 50, 100)

RANK_COLUMNS = ("method", "kind", "untrained", "average_rank", "note")
DIFFERENCE_COLUMNS = (
    *("dataset", "task", "metric", "method", "reference", "difference", "low", "high", "groups", "unit"),
    *("seeds", "note"),
)
LAYER_COLUMNS = (
    *("dataset", "task", "layer", "depth", "metric", "score", "validation_metric", "validation", "seeds", "chosen"),
)
IMPORTANCE_COLUMNS = ("source", "features", "feature_share", *(f"importance_{part}" for part in PARTS))
SELECTION_COLUMNS = ("dataset", "task", "size", "share", "score", "seeds", "kept")
COST_COLUMNS = ("method", "score", "cpu_seconds")


def read(path: str | Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Read a CSV table that must have `columns`; every cell is text.

    Raises
    ------
    ValueError
        If a column is missing; the error names it and those found. A table without rows has its columns too.
    """
    rows = store.read_csv(path)
    if rows:
        found = list(rows[0])
    else:
        with open(path, encoding="utf-8", newline="") as file:
            found = next(csv.reader(file), [])
    missing = [name for name in columns if name not in found]
    if missing:
        raise ValueError(f"{path}: column {', '.join(missing)} is missing; found {', '.join(found) or 'nothing'}")
    return rows


def number(row: Mapping[str, str], column: str, path: str | Path) -> float | None:
    """Return the number in a cell, None where the cell is empty.

    Raises
    ------
    ValueError
        If the cell holds something else.
    """
    text = row.get(column) or ""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}: column {column} holds finite numbers or nothing; found {text!r}")
    return value


def task_name(row: Mapping[str, str]) -> str:
    """Return ``DATASET/TASK`` of a row."""
    return f"{row['dataset']}/{row['task']}"


def task_names(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Return ``DATASET/TASK`` of rows, each once, in their order."""
    return list(dict.fromkeys(map(task_name, rows)))


def rows_of_task(rows: Iterable[Mapping[str, str]], task: str) -> list[Mapping[str, str]]:
    """Return the rows whose ``DATASET/TASK`` is `task`."""
    return [row for row in rows if task_name(row) == task]


@dataclass(frozen=True)
class RankedTask:
    """One dataset and task of a table of ranks: its names in the columns, its metric."""

    name: str
    metric: str

    @property
    def dataset(self) -> str:
        """The part of ``DATASET/TASK`` before the stroke."""
        return self.name.split("/", 1)[0]

    @property
    def score_column(self) -> str:
        """Column of the scores."""
        return f"{self.name} {self.metric}"

    @property
    def rank_column(self) -> str:
        """Column of the ranks; empty where the task is left out of the average."""
        return f"{self.name} rank"


def ranked_tasks(columns: Sequence[str]) -> list[RankedTask]:
    """Return the datasets and tasks of a table of ranks, in the order of their columns."""
    names = [column.removesuffix(" rank") for column in columns if column.endswith(" rank")]
    return [
        RankedTask(name, column.removeprefix(f"{name} "))
        for name in names
        for column in columns
        if column.startswith(f"{name} ") and column != f"{name} rank"
    ]


def notes(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Return what the ``note`` column says, each note once."""
    return list(dict.fromkeys(note for row in rows if (note := (row.get("note") or "").strip())))


def share_datasets(tasks: Sequence[RankedTask]) -> bool:
    """Return whether several of the tasks are of one dataset."""
    return len({task.dataset for task in tasks}) < len(tasks)


def tasks_in_words(tasks: Sequence[RankedTask]) -> str:
    """Return in words what ranks are averaged over, for example ``3 datasets``.

    An average over tasks of one dataset is called an illustration, since they share their tiles.
    """
    datasets = len({task.dataset for task in tasks})
    if datasets == 1 and len(tasks) > 1:
        return f"{len(tasks)} tasks of {tasks[0].dataset}, which share their tiles (an illustration)"
    if datasets < len(tasks):
        return f"{len(tasks)} tasks of {datasets} datasets"
    return counted(datasets, "dataset")
