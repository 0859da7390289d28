"""The scores of one comparison on the page: the best method in a sentence, and tables with intervals and notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from histotransfer.evaluation import scoreboard
from histotransfer.problems import counted
from histotransfer.report.entries import Entry, chosen
from histotransfer.report.parts import Plate, read_plate

#: Levels in the order in which they are reported.
LEVELS = ("tile", "slide")


@dataclass(frozen=True)
class BestMethod:
    """One method that shares the highest mean of a metric."""

    name: str
    untrained: bool


@dataclass(frozen=True)
class Best:
    """The highest mean of a metric at one level, with its interval.

    Attributes
    ----------
    level : str
        In words, of several: ``tiles``.
    value : str or None
        None where no method has one; `note` says why.
    methods : list of BestMethod
        Those that have it.
    low, high : str
        Ends of their intervals, over all seeds; "" without any.
    seeds : int
        That the mean is over.
    groups : str
        How many groups were resampled: ``6 patients``.
    others, overlapping : int
        Other methods, and those of them whose interval reaches into that of the best.
    """

    level: str
    value: str | None
    note: str = ""
    methods: Sequence[BestMethod] = ()
    low: str = ""
    high: str = ""
    seeds: int = 0
    groups: str = ""
    others: int = 0
    overlapping: int = 0

    @property
    def untrained(self) -> bool:
        """Whether one of the methods has a network with random weights."""
        return any(one.untrained for one in self.methods)


@dataclass
class ScoreCell:
    """A number as a table shows it: `value` in digits, ``–`` where undefined, with the `mark` of its note."""

    value: str = ""
    interval: str = ""
    mark: str = ""
    number: float | None = None
    best: bool = False


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one model: of all classes together, or of the class `class_name`; `seed` where there are more."""

    run: scoreboard.Run
    cells: list[ScoreCell]
    seed: str = ""
    class_name: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one level, of all classes together or class by class.

    `n` and `groups` say how many tiles or slides were scored and how many groups resampled; notes count from 1.
    """

    level: str
    metrics: list[str]
    rows: list[ScoreRow]
    notes: list[str]
    n: str = ""
    groups: str = ""


@dataclass(frozen=True)
class ComparedMethods:
    """The models of one dataset, task and split: what their split holds apart, their scores and figures."""

    dataset: str
    task: str
    split: str
    unit: str
    reason: str
    n_methods: int
    best: list[Best]
    tables: list[ScoreTable]
    by_class: list[ScoreTable]
    plates: list[Plate]
    confusions: list[Plate]


def compared(
    key: tuple[str, str, str], runs: Sequence[scoreboard.Run], metric: str, entries: Iterable[Entry]
) -> ComparedMethods:
    """Return what the page shows of one comparison.

    Parameters
    ----------
    key : tuple of str
        Dataset, task and split.
    runs : sequence of Run
        Its models.
    metric : str
        By which methods are ordered.
    entries : iterable of Entry
        Those of the page: its figures of scores and confusion matrices are taken.
    """
    dataset, task, split = key
    factors = {"dataset": dataset, "task": task, "split": split}
    levels = [level for level in LEVELS if any(name == level for run in runs for name, _, _ in run.estimates)]
    entries = list(entries)
    return ComparedMethods(
        **factors,
        unit=runs[0].unit,
        reason=runs[0].share_groups,
        n_methods=len({run.method for run in runs}),
        best=[_best(runs, level, metric) for level in levels],
        tables=[_score_table(runs, level, metric) for level in levels],
        by_class=[_class_table(runs, level) for level in levels],
        plates=[read_plate(entry) for entry in chosen(entries, "scores", **factors)],
        confusions=[read_plate(entry) for entry in chosen(entries, "confusion", **factors)],
    )


def _best(runs: Sequence[scoreboard.Run], level: str, metric: str) -> Best:
    """Return the highest mean of a metric with its interval, and how many other intervals overlap with it."""
    standings = scoreboard.ranking(runs, level, metric)
    first = standings[0]
    if first.mean is None:
        notes = {estimate.note for run in runs for key, estimate in run.estimates.items() if key[:2] == (level, metric)}
        return Best(f"{level}s", None, note="; ".join(sorted(note for note in notes if note)))
    tied = [standing for standing in standings if standing.mean == first.mean]
    estimates = [estimate for standing in tied for estimate in standing.estimates(level, metric)]
    lows = [estimate.low for estimate in estimates if estimate.low is not None]
    highs = [estimate.high for estimate in estimates if estimate.high is not None]
    others = standings[len(tied) :]
    overlapping = 0
    for standing in others:
        ends = [estimate.high for estimate in standing.estimates(level, metric) if estimate.high is not None]
        overlapping += bool(lows and ends and max(ends) >= min(lows))
    return Best(
        f"{level}s",
        f"{first.mean:.3f}",
        methods=[BestMethod(standing.method, standing.untrained) for standing in tied],
        low=f"{min(lows):.3f}" if lows else "",
        high=f"{max(highs):.3f}" if highs else "",
        seeds=len(first.estimates(level, metric)),
        groups=counted(max(estimate.groups for estimate in estimates), estimates[0].unit),
        others=len(others),
        overlapping=overlapping,
    )


def _cell(estimate: scoreboard.Estimate | None, notes: dict[str, int]) -> ScoreCell:
    if estimate is None:
        return ScoreCell()
    note = estimate.note or ("" if estimate.value is not None else "no reason given")
    mark = str(notes.setdefault(note, len(notes) + 1)) if note else ""
    if estimate.value is None:
        return ScoreCell("–", mark=mark)
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f"{estimate.low:.3f}–{estimate.high:.3f}"
    return ScoreCell(f"{estimate.value:.3f}", interval, mark, estimate.value)


def _metrics(runs: Iterable[scoreboard.Run], level: str, *, by_class: bool) -> list[str]:
    found = (key for run in runs for key in run.estimates if key[0] == level and bool(key[2]) == by_class)
    return list(dict.fromkeys(name for _, name, _ in found))


def _score_table(runs: Sequence[scoreboard.Run], level: str, metric: str) -> ScoreTable:
    metrics = sorted(_metrics(runs, level, by_class=False), key=lambda name: name != metric)
    notes: dict[str, int] = {}
    rows = []
    seeds = {run.seed for run in runs}
    for standing in scoreboard.ranking(runs, level, metric):
        for run in standing.runs:
            cells = [_cell(run.estimates.get((level, name, "")), notes) for name in metrics]
            rows.append(ScoreRow(run, cells, seed=run.seed if len(seeds) > 1 else ""))
    _mark_best(rows, metrics)
    # rows of one class count that class alone
    estimates = [estimate for run in runs for key, estimate in run.estimates.items() if key[::2] == (level, "")]
    return ScoreTable(
        level=f"{level}s",
        metrics=[scoreboard.metric_name(name) for name in metrics],
        rows=rows,
        notes=list(notes),
        n=scoreboard.counted_span([estimate.n for estimate in estimates]),
        groups=scoreboard.counted_span([estimate.groups for estimate in estimates], estimates[0].unit),
    )


def _mark_best(rows: Sequence[ScoreRow], metrics: Sequence[str]) -> None:
    """Mark the best number of each column, if there is another one to compare it to."""
    for column, metric in enumerate(metrics if len(rows) > 1 else ()):
        numbers = [cell.number for row in rows if (cell := row.cells[column]).number is not None]
        best = (min if metric in scoreboard.LOWER_IS_BETTER else max)(numbers, default=None)
        for row in rows if numbers else ():
            row.cells[column].best = row.cells[column].number == best


def _class_table(runs: Sequence[scoreboard.Run], level: str) -> ScoreTable:
    metrics = _metrics(runs, level, by_class=True)
    notes: dict[str, int] = {}
    rows = [
        ScoreRow(run, [_cell(run.estimates.get((level, name, cls)), notes) for name in metrics], class_name=cls)
        for run in runs
        for cls in scoreboard.classes([run])
        if any((level, name, cls) in run.estimates for name in metrics)
    ]
    return ScoreTable(
        level=f"{level}s",
        metrics=[scoreboard.metric_name(name) for name in metrics],
        rows=rows,
        notes=list(notes),
    )
