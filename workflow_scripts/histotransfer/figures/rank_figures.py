"""Average ranks of the methods, and their differences to a reference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histotransfer import canvas
from histotransfer.canvas import SMALL, TEXT, WIDTH
from histotransfer.evaluation import scoreboard
from histotransfer.evaluation.compared_tables import (
    DIFFERENCE_COLUMNS,
    RANK_COLUMNS,
    RankedTask,
    notes,
    number,
    ranked_tasks,
    read,
    rows_of_task,
    share_datasets,
    task_name,
    task_names,
    tasks_in_words,
)
from histotransfer.figures.rows import GREY, KIND_LOOKS, Blocks, Names, fit_axis, in_widths, rows_panel
from histotransfer.problems import counted


def draw_ranks(*, ranks: str | Path, figure: str | Path, title: str, split: str) -> str:
    """Draw the average rank of every method of a comparison, best on top, coloured by the kind of classifier.

    As in the paper the highest rank is the best: n where n methods are compared. Circles are the ranks in each
    dataset and task. Where there is one, ranks are the order of its scores, and these stand beside the bars.

    Parameters
    ----------
    ranks : path
        What :func:`histotransfer.evaluation.ranking.rank` wrote, rows best first.
    figure : path
        SVG to write.
    title, split : str
        What the comparison is called, and the split that its scores are from.

    Raises
    ------
    ValueError
        If a column is missing or a number is none.
    """
    rows = read(ranks, RANK_COLUMNS)
    tasks = ranked_tasks(list(rows[0]) if rows else [])
    used = [task for task in tasks if any(number(row, task.rank_column, ranks) is not None for row in rows)]
    methods = [_RankedMethod.of(row, used, ranks) for row in rows]
    statement = _ranks_statement(methods, used)

    heading = canvas.wrap(title, WIDTH - 8, TEXT, lines=3, bold=True)
    names = Names([one.name for one in methods], [one.untrained for one in methods], most=168.0)
    legend = _ranks_legend(methods, used)
    remarks = [canvas.wrap(note, WIDTH - 8, SMALL, lines=3) for note in notes(rows)[:6]]
    head = 12.5 * (heading.count("\n") + 1) + 17
    top = head + canvas.legend_height(legend) + 18
    bottom = top + sum(names.heights)
    chart = canvas.new(bottom + 32.0 + sum(map(_remark_height, remarks)))
    canvas.write(chart, heading, 4, 0, weight="bold")
    words = canvas.wrap(f"split {split}", WIDTH - 8, SMALL, lines=1)
    canvas.write(chart, words, 4, head - 15, fontsize=SMALL, color=canvas.FAINT)
    canvas.draw_legend(chart, legend, head)
    _draw_bars(chart, names, methods, used, top)
    place = bottom + 32
    for remark in remarks:
        canvas.write(chart, remark, 4, place, fontsize=SMALL, color=canvas.FAINT)
        place += _remark_height(remark)
    canvas.save(chart, figure, statement)
    return statement


#: Tasks whose single ranks are marked on a bar, at most; and the room for a number beside the bars, in points.
_MARKED_TASKS, _NUMBERS = 12, 52.0


@dataclass(frozen=True)
class _RankedMethod:
    """A method with its average rank, its rank on each task, and its score if there is one task alone."""

    name: str
    kind: str
    untrained: bool
    average: float | None
    ranks: list[float]
    score: float | None

    @classmethod
    def of(cls, row: Mapping[str, str], used: Sequence[RankedTask], path: str | Path) -> _RankedMethod:
        ranks = [number(row, task.rank_column, path) for task in used]
        return cls(
            name=row["method"],
            kind=row["kind"],
            untrained=row["untrained"] == "yes",
            average=number(row, "average_rank", path),
            ranks=[rank for rank in ranks if rank is not None],
            score=number(row, used[0].score_column, path) if len(used) == 1 else None,
        )

    @property
    def look(self) -> tuple[str, str]:
        """Colour and word of the kind of its classifier."""
        return KIND_LOOKS.get(self.kind, (canvas.PURPLE, self.kind or "other"))


def _ranks_legend(methods: Sequence[_RankedMethod], used: Sequence[RankedTask]) -> list[tuple[str, str, str]]:
    looks = [one.look for one in methods]
    legend = [(*look, "bar") for look in dict.fromkeys([*KIND_LOOKS.values(), *looks]) if look in looks]
    if 1 < len(used) <= _MARKED_TASKS:
        legend.append((canvas.INK, "rank on one task" if share_datasets(used) else "rank in one dataset", "ring"))
    if any(one.untrained for one in methods):
        legend.append((canvas.FAINT, "hollow: untrained", "hollow"))
    return legend


def _draw_bars(
    chart: Any, names: Names, methods: Sequence[_RankedMethod], used: Sequence[RankedTask], top: float
) -> None:
    """Draw the bars of the ranks, with a number beside each: the score where there is one task, else the average."""
    alone = len(used) == 1
    n = sum(one.average is not None for one in methods)
    panel = rows_panel(chart, names, top, names.width, WIDTH - names.width - _NUMBERS - 6)
    panel.set_xlim(0, max(n, 1))
    ticks = canvas.ticks(0, max(n, 1), 4)
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    word = scoreboard.metric_name(used[0].metric) if alone else "average"
    size = canvas.shrink([word], _NUMBERS - 10, SMALL - 0.6)
    canvas.write(chart, word, WIDTH - 4, top - 3, ha="right", va="bottom", fontsize=size, color=canvas.FAINT)
    for one, middle in zip(methods, names.middles, strict=True):
        value, form = (one.score, ".3f") if alone else (one.average, ".1f")
        text = "–" if value is None else format(value, form)
        canvas.write(chart, text, WIDTH - 4, top + middle, ha="right", va="center", fontsize=SMALL)
        if one.average is None:
            canvas.label(panel, "not ranked", 0, middle, ha="left", fontsize=7, color=canvas.FAINT)
            continue
        colour = one.look[0]
        style = {"color": canvas.PAPER if one.untrained else colour, "edgecolor": colour, "linewidth": 1.1}
        panel.barh(middle, one.average, height=6.4, zorder=2, **style)
        if 1 < len(used) <= _MARKED_TASKS:
            style = {"markersize": 2.9, "markerfacecolor": canvas.PAPER, "markeredgecolor": canvas.INK}
            middles = [middle] * len(one.ranks)
            panel.plot(one.ranks, middles, "o", markeredgewidth=0.6, zorder=3, clip_on=False, **style)
    base = f"order of scores, {n} is best" if alone else f"average rank, {n} is best"
    down = top + sum(names.heights) + 17
    canvas.write(chart, base, WIDTH - _NUMBERS - 6, down, ha="right", fontsize=SMALL)


def _remark_height(remark: str) -> float:
    return 11.5 * (remark.count("\n") + 1) + 3


def _ranks_statement(methods: Sequence[_RankedMethod], used: Sequence[RankedTask]) -> str:
    known = [one.average for one in methods if one.average is not None]
    if not known or not used:
        return "No method can be ranked: no dataset has a score of every method."
    first = [one for one in methods if one.average == max(known)]
    best = ", ".join(one.name for one in first)
    if len(used) == 1:
        value = "" if first[0].score is None else f", {first[0].score:.3f}"
        metric = scoreboard.metric_name(used[0].metric)
        sentence = (
            f"Ranks of {counted(len(known), 'method')} are the order of their {metric} on {used[0].name}: "
            f"highest is {best}{value}"
        )
    else:
        sentence = (
            f"Highest average rank of {counted(len(known), 'method')} over {tasks_in_words(used)}: "
            f"{best}, {max(known):.1f} where {len(known)} is best"
        )
    return sentence + ("; untrained network." if any(one.untrained for one in first) else ".")


def draw_differences(*, table: str | Path, figure: str | Path) -> str:
    """Draw how much every method's score differs from the reference's: a dot, a 95 % interval, a panel a task.

    Parameters
    ----------
    table : path
        What :func:`histotransfer.evaluation.differences.compare` wrote.
    figure : path
        SVG to write. Methods stand in the order of their mean difference, highest on top.

    Raises
    ------
    ValueError
        If a column is missing or a number is none.
    """
    rows = read(table, DIFFERENCE_COLUMNS)
    if not rows:
        return canvas.draw_nothing(figure, "There is no other method to compare with the reference.")
    reference = rows[0]["reference"]
    tasks = task_names(rows)
    row_of = {(task_name(row), row["method"]): row for row in rows}
    methods = _by_difference(rows, reference, table)
    untrained = {row["method"] for row in rows if row.get("untrained") == "yes"}
    statement = _differences_statement(rows, reference, table)

    legend = [
        (canvas.BLUE, "interval above zero", "dot"),
        (canvas.VERMILION, "below zero", "dot"),
        (GREY, "includes zero", "dot"),
    ]
    random = any(row.get("reference_untrained") == "yes" for row in rows)
    words = f"Difference to {reference}" + (" (untrained network)" if random else "")
    heading = canvas.wrap(words, WIDTH - 8, TEXT, lines=3, bold=True)
    names = Names(methods, [method in untrained for method in methods], most=150.0)

    def titled(task: str) -> tuple[str, str]:
        of_task = rows_of_task(rows, task)
        return task, f"{scoreboard.metric_name(of_task[0]['metric'])}, 95 % over {_resampled(of_task)}"

    blocks = Blocks(tasks, titled, names, at_once=2, gap=14.0)
    head = 12.5 * (heading.count("\n") + 1) + 5
    chart = canvas.new(head + canvas.legend_height(legend) + blocks.height + 6)
    canvas.write(chart, heading, 4, 0, weight="bold")
    canvas.draw_legend(chart, legend, head)
    for task, panel in blocks.panels(chart, head + canvas.legend_height(legend)):
        ends = [0.0]
        for method, middle in zip(methods, names.middles, strict=True):
            numbers = [number(row_of.get((task, method), {}), name, table) for name in ("difference", "low", "high")]
            _draw_difference(panel, *numbers, middle, hollow=method in untrained)
            ends += [end for end in numbers if end is not None and numbers[0] is not None]
        fit_axis(panel, ends, blocks.width, signed=True)
        panel.axvline(0, color=canvas.INK, linewidth=0.9, zorder=2)
    canvas.save(chart, figure, statement)
    return statement


def _by_difference(rows: Sequence[Mapping[str, str]], reference: str, path: str | Path) -> list[str]:
    """Return the methods by their mean difference to the reference, highest first; those without any last."""
    values: dict[str, list[float]] = {row["method"]: [] for row in rows if row["method"] != reference}
    for row in rows:
        value = number(row, "difference", path)
        if value is not None and row["method"] != reference:
            values[row["method"]].append(value)
    return sorted(values, key=lambda method: -sum(values[method]) / len(values[method]) if values[method] else math.inf)


def _draw_difference(
    panel: Any, value: float | None, low: float | None, high: float | None, middle: float, *, hollow: bool
) -> None:
    if value is None:
        style = {"ha": "left", "fontsize": 7, "color": canvas.FAINT}
        canvas.label(panel, "undefined", 0.03, middle, **style, **in_widths(panel))
        return
    colour = GREY
    if low is not None and high is not None:
        colour = canvas.BLUE if low > 0 else canvas.VERMILION if high < 0 else GREY
        panel.plot([low, high], [middle, middle], color=colour, linewidth=1.5, zorder=3)
    style = {"markerfacecolor": canvas.PAPER if hollow else colour, "markeredgecolor": colour}
    panel.plot([value], [middle], marker="o", markersize=3.8, zorder=4, **style)


def _resampled(rows: Iterable[Mapping[str, str]]) -> str:
    """Return what intervals resample: ``6 patients``, ``5 to 6 patients``, by units where these differ."""
    sizes: dict[str, set[int]] = {}
    for row in rows:
        if row["groups"]:
            sizes.setdefault(row["unit"], set()).add(int(float(row["groups"])))
    words = [scoreboard.counted_span(groups, unit or "group") for unit, groups in sizes.items()]
    return ", ".join(words) or "no group"


def _differences_statement(rows: Sequence[Mapping[str, str]], reference: str, path: str | Path) -> str:
    others = [row for row in rows if row["method"] != reference]
    known = [row for row in others if number(row, "difference", path) is not None]
    lows = [low for row in known if (low := number(row, "low", path)) is not None]
    highs = [high for row in known if (high := number(row, "high", path)) is not None]
    above, below = sum(low > 0 for low in lows), sum(high < 0 for high in highs)
    methods, tasks = len({row["method"] for row in known}), len({(row["dataset"], row["task"]) for row in known})
    over = f" ({counted(methods, 'method')}, {tasks} tasks)" if tasks > 1 else ""
    if not known:
        return f"No difference to {reference} is defined."
    return (
        f"Of {counted(len(known), 'difference')} to {reference}{over}, {above} "
        f"{'lies' if above == 1 else 'lie'} above and {below} below zero with the whole 95 % interval, "
        f"from resampling {_resampled(known)}."
    )
