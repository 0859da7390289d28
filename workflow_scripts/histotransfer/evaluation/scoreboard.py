"""The study's table of scores, as figures and pages read it: one entry a trained model, its estimates by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from histotransfer import store
from histotransfer.problems import counted

#: How metrics are written in words; a metric that is not here is written by its name.
METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "log_loss": "log loss",
    "eta_p": "η p",
    "eta_w": "η W",
    "eta_total": "η total",
}

#: Metrics of which the lowest value is the best.
LOWER_IS_BETTER = frozenset({"log_loss"})

#: What stands in `weights` where a network was never trained.
UNTRAINED = "untrained"


@dataclass(frozen=True)
class Estimate:
    """One number of the table: `value` with its 95 % interval, None where it is undefined and `note` says why.

    `n` tiles or slides were scored; the interval comes from resampling `groups` groups of the split's `unit`.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int
    unit: str
    note: str


@dataclass(frozen=True)
class Run:
    """One trained model with its scores on the groups held out; `estimates` by (level, metric, class).

    `unit` is what the split holds out together. At slide level an estimate's own unit may be another: slides are
    resampled where the split's groups are finer than a slide.
    """

    dataset: str
    task: str
    split: str
    seed: str
    features: str
    classifier: str
    weights: str
    unit: str
    share_groups: str
    estimates: dict[tuple[str, str, str], Estimate] = field(default_factory=dict, compare=False)

    @property
    def method(self) -> str:
        """Name of the method: ``FEATURES+CLASSIFIER``."""
        return "+".join(part for part in (self.features, self.classifier) if part)

    @property
    def untrained(self) -> bool:
        """Whether any of its networks had random weights."""
        return UNTRAINED in re.split(r"[\s,;+|]+", self.weights)

    @property
    def comparison(self) -> tuple[str, str, str]:
        """Dataset, task and split: what methods are compared within."""
        return self.dataset, self.task, self.split


def read(path: str | Path) -> list[Run]:
    """Read a study's ``scores.tsv`` in the order of its rows.

    Raises
    ------
    ValueError
        If a column is missing or a number is none.
    """
    runs: dict[tuple[str, ...], Run] = {}
    keys = ("dataset", "task", "split", "seed", "features", "classifier")
    # the first rows of a model are of its tiles, whose unit is the split's
    about = ("weights", "unit", "share_groups")
    needed = {*keys, *about, "level", "metric", "class", "value", "low", "high", "n", "groups"}
    for number, row in enumerate(store.read_table(path), start=2):
        missing = sorted(needed - row.keys())
        if missing:
            raise ValueError(f"{path}: column {', '.join(missing)} is missing; found {', '.join(row)}")
        key = tuple(row[name] for name in keys)
        if key not in runs:
            runs[key] = Run(**{name: row[name] for name in (*keys, *about)})
        try:
            estimate = Estimate(
                *(float(row[name]) if row[name] else None for name in ("value", "low", "high")),
                *(int(row[name] or 0) for name in ("n", "groups")),
                unit=row["unit"],
                note=row.get("note") or "",
            )
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not a number: {error}") from error
        runs[key].estimates[row["level"], row["metric"], row["class"]] = estimate
    return list(runs.values())


def comparisons(runs: Iterable[Run]) -> dict[tuple[str, str, str], list[Run]]:
    """Group runs by dataset, task and split, in order of appearance."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.comparison, []).append(run)
    return groups


def select(runs: Iterable[Run], *, dataset: str, task: str, split: str) -> list[Run]:
    """Return the runs of one comparison.

    Raises
    ------
    ValueError
        If there are none.
    """
    groups = comparisons(runs)
    if (dataset, task, split) not in groups:
        found = ", ".join("/".join(key) for key in groups) or "nothing"
        raise ValueError(f"no scores of dataset {dataset!r}, task {task!r}, split {split!r}; found {found}")
    return groups[dataset, task, split]


@dataclass(frozen=True)
class Standing:
    """One method in a comparison: its runs (one a seed) and the mean of their values, None where undefined."""

    method: str
    mean: float | None
    runs: tuple[Run, ...]

    @property
    def untrained(self) -> bool:
        """Whether any of its networks had random weights."""
        return any(run.untrained for run in self.runs)

    def estimates(self, level: str, metric: str) -> list[Estimate]:
        """Return the overall estimates that have a value, one a seed."""
        found = (run.estimates.get((level, metric, "")) for run in self.runs)
        return [estimate for estimate in found if estimate is not None and estimate.value is not None]


def ranking(runs: Sequence[Run], level: str, metric: str) -> list[Standing]:
    """Return the methods of one comparison, best mean over seeds first, undefined last, ties by name."""
    sign = 1 if metric in LOWER_IS_BETTER else -1
    by_method: dict[str, list[Run]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    standings = []
    for method, of_method in by_method.items():
        standing = Standing(method, None, tuple(of_method))
        values = [estimate.value for estimate in standing.estimates(level, metric)]
        mean = sum(values) / len(values) if values else None
        standings.append(Standing(method, mean, tuple(of_method)))
    return sorted(standings, key=lambda one: (one.mean is None, sign * (one.mean or 0.0), one.method))


def metric_name(metric: str) -> str:
    """Return a metric's name in words."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def counted_span(numbers: Iterable[int], unit: str = "") -> str:
    """Return one number or the least and the greatest, with their unit.

    Examples
    --------
    >>> counted_span([6, 6], "patient"), counted_span([5, 6], "patient"), counted_span([1200])
    ('6 patients', '5 to 6 patients', '1,200')
    """
    ends = sorted(set(numbers))
    last = counted(ends[-1], unit) if unit else f"{ends[-1]:,}"
    return last if len(ends) == 1 else f"{ends[0]:,} to {last}"


def classes(runs: Iterable[Run]) -> list[str]:
    """Return the classes that have scores of their own, in order of appearance."""
    found: dict[str, None] = {}
    for run in runs:
        found.update((name, None) for _, _, name in run.estimates if name)
    return list(found)
