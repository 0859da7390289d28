"""Charts of results: scores with their intervals, and confusion matrices; see :mod:`histotransfer.canvas`.

Every function returns the sentence that the chart carries: what can be read from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import canvas, store
from histotransfer.canvas import SMALL, TEXT, WIDTH
from histotransfer.evaluation import scoreboard
from histotransfer.predictions import read_attributes
from histotransfer.problems import counted

#: How the two levels are drawn: colour, marker.
_LEVEL_LOOKS = {"tile": (canvas.BLUE, "o"), "slide": (canvas.ORANGE, "D")}


def draw_scores(
    *,
    scores: str | Path,
    figure: str | Path,
    dataset: str,
    task: str,
    split: str,
    metric: str,
    methods: Sequence[str] | None = None,
) -> str:
    """Draw one comparison: a dot and its 95 % interval for every method, level and seed; best method on top.

    Parameters
    ----------
    scores : path
        The study's ``scores.tsv``.
    figure : path
        SVG to write.
    dataset, task, split : str
        The comparison.
    metric : str
        A metric that the table has, for example ``balanced_accuracy``.
    methods : sequence of str, optional
        Those that are drawn, by default all; the others are counted (single layers have a curve of their own).

    Raises
    ------
    ValueError
        If the table has no such comparison or metric, or none of the methods.
    """
    every = scoreboard.select(scoreboard.read(scores), dataset=dataset, task=task, split=split)
    runs = every if methods is None else [run for run in every if run.method in methods]
    if not runs:
        found = ", ".join(dict.fromkeys(run.method for run in every))
        raise ValueError(f"{scores} must have a method of {', '.join(methods or ())}; found {found}")
    has = {name for run in runs for _, name, cls in run.estimates if not cls}
    if metric not in has:
        raise ValueError(f"{scores} has no metric {metric!r} for {dataset}/{task}/{split}; it has {sorted(has)}")
    shown = _Shown.of(runs, metric)
    statement = _best_of(shown.standings, shown.levels[0], metric)
    left_out = len({run.method for run in every} - {run.method for run in runs})
    if left_out:
        statement += f" {counted(left_out, 'single layer')} left out, which have a chapter of their own."

    low, high, chance = _limits(shown.standings, shown.levels, metric, scoreboard.classes(runs))
    marked = chance is not None and low <= chance <= high
    top = _LEGEND_LINE * len(shown.levels) + 20
    chart = canvas.new(top + sum(shown.heights) + 34)
    panel = canvas.axes(chart, _NAMES, top, _ACROSS, sum(shown.heights))
    _scale_scores(panel, low, high, sum(shown.heights))
    if marked:
        panel.axvline(chance, color=canvas.FAINT, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    place = 0.0
    for index, (standing, name, height) in enumerate(shown.rows):
        if index % 2 == 0:
            _band(chart, top + place, height)
        middle = place + height / 2
        _write_name(chart, name, top + middle, untrained=standing.untrained)
        _whiskers(panel, standing, shown.levels, metric, middle)
        place += height
    _draw_levels(chart, shown, metric)
    foot = scoreboard.metric_name(metric) + (f" (dashes: chance, {chance:.2f})" if marked else "")
    foot = canvas.wrap(foot, WIDTH - 20, SMALL, lines=1)
    right = min(_NAMES + _ACROSS / 2 + canvas.text_width(foot, SMALL) / 2, WIDTH - 4)
    canvas.write(chart, foot, right, top + sum(shown.heights) + 18, ha="right", fontsize=SMALL)
    canvas.save(chart, figure, statement)
    return statement


#: Widths of the names and of the plot beside them, heights of a line of a name, of a whisker and of the key, in points.
_NAMES, _LINE, _STEP, _LEGEND_LINE = 132.0, 12.5, 7.0, 14.0
_ACROSS = WIDTH - _NAMES - 10


@dataclass(frozen=True)
class _Shown:
    """The methods of a chart, best first, with their names in lines, and the levels at which any has a score."""

    levels: list[str]
    standings: list[scoreboard.Standing]
    names: list[str]

    @classmethod
    def of(cls, runs: Sequence[scoreboard.Run], metric: str) -> _Shown:
        defined = {key for run in runs for key, estimate in run.estimates.items() if estimate.value is not None}
        levels = [level for level in _LEVEL_LOOKS if (level, metric, "") in defined] or list(_LEVEL_LOOKS)[:1]
        standings = scoreboard.ranking(runs, levels[0], metric)
        return cls(levels, standings, [canvas.wrap(one.method, _NAMES - 8, lines=8) for one in standings])

    @property
    def heights(self) -> list[float]:
        """Height of each method's row, which holds its name and a whisker a run and level."""
        return [
            max(_LINE * (name.count("\n") + 1 + one.untrained), _STEP * len(one.runs) * len(self.levels)) + 9
            for one, name in zip(self.standings, self.names, strict=True)
        ]

    @property
    def rows(self) -> list[tuple[scoreboard.Standing, str, float]]:
        return list(zip(self.standings, self.names, self.heights, strict=True))


def _scale_scores(panel: Any, low: float, high: float, height: float) -> None:
    panel.set_xlim(low, high)
    panel.set_ylim(height, 0)
    panel.set_yticks([])
    ticks = _score_ticks(low, high)
    panel.set_xticks(ticks, [f"{tick:.1f}" if len(ticks) < 12 else f"{tick:.2f}" for tick in ticks])
    panel.tick_params(labeltop=True, top=True)
    for tick in ticks:
        panel.axvline(tick, color=canvas.RULE, linewidth=0.6, zorder=0)


def _write_name(chart: Any, name: str, middle: float, *, untrained: bool) -> None:
    above = -_LINE * untrained / 2
    canvas.write(chart, name, 4, middle + above, va="center")
    if untrained:
        below = middle + above + _LINE * (name.count("\n") + 1) / 2 + _LINE / 2
        canvas.write(chart, "untrained", 4, below, va="center", fontsize=SMALL, color=canvas.VERMILION)


def _draw_levels(chart: Any, shown: _Shown, metric: str) -> None:
    """Draw the key: the look of each level, and what its intervals are over."""
    units = _interval_units(shown.standings, shown.levels, metric)
    for index, level in enumerate(shown.levels):
        colour, marker = _LEVEL_LOOKS[level]
        line = canvas.axes(chart, 0, _LEGEND_LINE * index, WIDTH, _LEGEND_LINE)
        line.set_xlim(0, WIDTH)
        line.set_ylim(_LEGEND_LINE, 0)
        line.set_axis_off()
        line.plot([4, 22], [7, 7], color=colour, linewidth=1.4)
        line.plot([13], [7], marker=marker, color=colour, markersize=4.5)
        words = f"{level}s, 95 % interval over {units[level]}"
        canvas.label(line, canvas.wrap(words, WIDTH - 30, SMALL, lines=1), 28, 7, ha="left")


def _whiskers(panel: Any, standing: scoreboard.Standing, levels: Sequence[str], metric: str, middle: float) -> None:
    """Draw a method's scores, one below the other: a dot and a line each, or a word at a level that has none."""
    drawn = [(level, run.estimates.get((level, metric, ""))) for level in levels for run in standing.runs]
    unsaid = set(levels)
    for place, (level, estimate) in enumerate(drawn):
        height = middle + _STEP * (place - (len(drawn) - 1) / 2)
        colour, marker = _LEVEL_LOOKS[level]
        if estimate is None or estimate.value is None:
            if level in unsaid:
                text = f" {level}s: undefined"
                canvas.label(panel, text, panel.get_xlim()[0], height, ha="left", fontsize=7, color=canvas.FAINT)
            unsaid.discard(level)
            continue
        if estimate.low is not None and estimate.high is not None:
            panel.plot([estimate.low, estimate.high], [height, height], color=colour, linewidth=1.4, zorder=3)
        style = {"markerfacecolor": canvas.PAPER if standing.untrained else colour, "markeredgecolor": colour}
        panel.plot([estimate.value], [height], marker=marker, markersize=4.5, zorder=4, clip_on=False, **style)


def _band(chart: Any, top: float, height: float) -> None:
    from matplotlib.patches import Rectangle

    whole = chart.get_figheight() * 72
    corner = (0, 1 - (top + height) / whole)
    chart.add_artist(Rectangle(corner, 1, height / whole, transform=chart.transFigure, color=canvas.BAND, zorder=-1))


def _limits(
    standings: list[scoreboard.Standing], levels: list[str], metric: str, classes: list[str]
) -> tuple[float, float, float | None]:
    """Return the ends of the axis, in tenths, and what guessing scores."""
    chance = None
    if metric == "roc_auc":
        chance = 0.5
    elif metric == "balanced_accuracy" and len(classes) > 1:
        chance = 1 / len(classes)
    found = [0.0 if chance is None else chance][: chance is not None]
    for one in standings:
        for level in levels:
            for estimate in one.estimates(level, metric):
                found += [value for value in (estimate.value, estimate.low, estimate.high) if value is not None]
    if not found:
        return 0.0, 1.0, chance
    low, high = math.floor(min(found) * 10 - 1e-9) / 10, math.ceil(max(found) * 10 + 1e-9) / 10
    low, high = max(low, 0.0) if min(found) >= 0 else low, min(high, 1.0) if max(found) <= 1 else high
    return low, max(high, low + 0.1), chance


def _score_ticks(low: float, high: float) -> list[float]:
    tenths = round((high - low) * 10)
    step = 0.02 if tenths <= 1 else 0.1 if tenths <= 6 else 0.2
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _interval_units(standings: list[scoreboard.Standing], levels: list[str], metric: str) -> dict[str, str]:
    """Return per level what the intervals resample: "6 patients", or "5 to 6 patients" where seeds differ."""
    words = {}
    for level in levels:
        found = [estimate for one in standings for estimate in one.estimates(level, metric)]
        sizes = sorted({estimate.groups for estimate in found})
        unit = found[0].unit if found else "group"
        undefined = "nothing: every value is undefined"
        words[level] = scoreboard.counted_span(sizes, unit) if sizes else undefined
    return words


def _best_of(standings: list[scoreboard.Standing], level: str, metric: str) -> str:
    best = standings[0]
    name = scoreboard.metric_name(metric)
    words = f"{level}s"
    if best.mean is None:
        return f"No method has a defined {name} of {words}."
    tied = [one.method for one in standings if one.mean == best.mean]
    methods = ", ".join(tied)
    values = best.estimates(level, metric)
    sentence = f"Highest {name} of {words}: {methods}, {best.mean:.3f}"
    if len(values) > 1:
        sentence += f" (mean of {len(values)} seeds)"
    elif values[0].low is not None and values[0].high is not None:
        sentence += f" (95 % interval {values[0].low:.3f} to {values[0].high:.3f})"
    sentence += f", over {counted(values[0].groups, values[0].unit)}"
    untrained = any(one.untrained for one in standings if one.mean == best.mean)
    return sentence + ("; untrained network." if untrained else ".")


def draw_confusion(
    *, confusions: Sequence[str | Path], predictions: Sequence[str | Path], figures: Sequence[str | Path]
) -> list[str]:
    """Draw a confusion matrix per level for each model: counts, and the share of each true class as shade.

    Parameters
    ----------
    confusions : sequence of path
        ``confusion.tsv`` files; classes stand in the order in which a file first names them as true.
    predictions : sequence of path
        ``predictions.h5`` of the same models; only attributes are read: what a model is, and whether its network is
        untrained.
    figures : sequence of path
        SVG to write for each.

    Raises
    ------
    ValueError
        If the three are not equally long.
    """
    if not len(confusions) == len(predictions) == len(figures):
        raise ValueError(
            "confusions, predictions and figures go together one by one; "
            f"found {len(confusions)}, {len(predictions)} and {len(figures)}"
        )
    return [
        _draw_confusion(confusion, _model_name(prediction), figure)
        for confusion, prediction, figure in zip(confusions, predictions, figures, strict=True)
    ]


def _model_name(prediction: str | Path) -> str:
    said = read_attributes(prediction)
    method = "+".join(str(said[name]) for name in ("features", "classifier") if said.get(name))
    return f"{method}, seed {said['seed']}" + (" (untrained network)" if said["untrained"] else "")


def _draw_confusion(confusion: str | Path, name: str, figure: str | Path) -> str:
    matrices, classes = _read_confusion(confusion)
    heading = canvas.wrap(name, WIDTH - 8, TEXT, lines=5, bold=True)
    title = 13.0 * (heading.count("\n") + 1) + 8
    if not matrices:
        chart = canvas.new(title + 20)
        canvas.write(chart, heading, 0, 0, weight="bold")
        canvas.write(chart, "nothing with a label was held out", 0, title)
        sentence = f"{name}: nothing with a label was held out."
        canvas.save(chart, figure, sentence)
        return sentence
    grid = _Grid.around(classes, side_by_side=len(classes) <= 4 and len(matrices) > 1)
    chart = canvas.new(title + grid.height * (1 if grid.side_by_side else len(matrices)))
    canvas.write(chart, heading, 0, 0, weight="bold")
    worst = ""
    for index, (level, counts) in enumerate(matrices.items()):
        left = grid.names + (index * (grid.width + 14) if grid.side_by_side else 0)
        top = title + (0 if grid.side_by_side else index * grid.height)
        n = int(counts.sum())
        words = counted(n, level)
        canvas.write(chart, words, left, top, fontsize=SMALL, weight="bold")
        canvas.write(chart, "predicted", left, top + 13, fontsize=SMALL, color=canvas.FAINT)
        grid.label_columns(chart, left, top)
        if index == 0 or not grid.side_by_side:
            grid.label_rows(chart, classes, left, top)
        _draw_matrix(chart, counts, left, top + grid.head, grid.cell)
        worst = worst or _worst_error(counts, classes, words)
    sentence = f"{name}: " + (worst or "none is put into a wrong class.")
    canvas.save(chart, figure, sentence)
    return sentence


@dataclass(frozen=True)
class _Grid:
    """Where the cells and labels of a figure's matrices stand, in points."""

    side_by_side: bool
    names: float
    width: float
    cell: float
    head: float
    upright: bool
    across: list[str]
    size: float

    @classmethod
    def around(cls, classes: list[str], *, side_by_side: bool) -> _Grid:
        names = min(max(canvas.text_width(name, SMALL) for name in classes) + 10, 100.0)
        width = (WIDTH - names - 18) / 2 if side_by_side else WIDTH - names - 6
        cell = min(width / len(classes), 52.0)
        across = [canvas.wrap(name, cell - 3, SMALL, lines=2) for name in classes]
        upright = not all(_breaks_at_spaces(text, name) for text, name in zip(across, classes, strict=True))
        lines, size = max(1, int(cell / 11)), SMALL
        if lines == 1:
            size = min(canvas.shrink(classes, names - 8, SMALL), cell)
        if upright:
            across = [canvas.wrap(name, 100, size, lines=lines) for name in classes]
            longest = max(canvas.text_width(line, size) for text in across for line in text.split("\n"))
        return cls(side_by_side, names, width, cell, 34.0 + (longest if upright else 22), upright, across, size)

    @property
    def height(self) -> float:
        return self.head + self.cell * len(self.across) + 12

    def label_columns(self, chart: Any, left: float, top: float) -> None:
        style = {"rotation": 90} if self.upright else {}
        style |= {"ha": "center", "va": "bottom", "fontsize": self.size, "linespacing": 1.1}
        for place, text in enumerate(self.across):
            canvas.write(chart, text, left + self.cell * (place + 0.5), top + self.head - 4, **style)

    def label_rows(self, chart: Any, classes: list[str], left: float, top: float) -> None:
        style = {"ha": "right", "va": "bottom", "fontsize": SMALL, "color": canvas.FAINT}
        canvas.write(chart, "true", left - 6, top + self.head - 4, **style)
        style = {"ha": "right", "va": "center", "fontsize": self.size, "linespacing": 1.1}
        for place, name in enumerate(classes):
            text = canvas.wrap(name, self.names - 7, self.size, lines=max(1, int(self.cell / 11)))
            canvas.write(chart, text, left - 6, top + self.head + self.cell * (place + 0.5), **style)


def _breaks_at_spaces(wrapped: str, name: str) -> bool:
    return wrapped.split() == name.split()


def _read_confusion(path: str | Path) -> tuple[dict[str, np.ndarray], list[str]]:
    rows = store.read_table(path)
    classes = list(dict.fromkeys([row["true"] for row in rows] + [row["predicted"] for row in rows]))
    matrices: dict[str, np.ndarray] = {}
    for row in rows:
        counts = matrices.setdefault(row["level"], np.zeros((len(classes), len(classes)), np.int64))
        counts[classes.index(row["true"]), classes.index(row["predicted"])] += int(row["count"])
    return matrices, classes


def _shares(counts: np.ndarray) -> np.ndarray:
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)


def _draw_matrix(chart: Any, counts: np.ndarray, left: float, top: float, cell: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    n = len(counts)
    shares = _shares(counts)
    shades = LinearSegmentedColormap.from_list("shares", ["#F3F6FA", canvas.SKY, canvas.BLUE, "#003A5C"])
    panel = canvas.axes(chart, left, top, cell * n, cell * n)
    edges = np.arange(n + 1) - 0.5
    panel.pcolormesh(edges, edges, shares, cmap=shades, vmin=0, vmax=1, edgecolors=canvas.PAPER, linewidth=1.0)
    panel.set_xlim(-0.5, n - 0.5)
    panel.set_ylim(n - 0.5, -0.5)
    panel.set_axis_off()
    if cell < 17:
        return
    for row in range(n):
        for column in range(n):
            colour = canvas.PAPER if shares[row, column] > 0.5 else canvas.INK
            count, share = f"{counts[row, column]:,}", f"{shares[row, column]:.0%}"
            size = min(TEXT, TEXT * (cell - 3) / max(canvas.text_width(count), canvas.text_width(share), 1))
            if cell >= 26:
                canvas.label(panel, count, column, row - 0.17, color=colour, fontsize=size, weight="bold")
                canvas.label(panel, share, column, row + 0.22, color=colour, fontsize=min(size, SMALL - 0.8))
            else:
                canvas.label(panel, count, column, row, color=colour, fontsize=size)


def _worst_error(counts: np.ndarray, classes: list[str], words: str) -> str:
    errors = _shares(counts) * (1 - np.eye(len(counts)))
    row, column = np.unravel_index(np.argmax(errors), errors.shape)
    if errors[row, column] == 0:
        return ""
    taken = f"{counts[row, column]:,} are taken for {classes[column]}"
    return f"of {counts[row].sum():,} {words.split(' ', 1)[1]} of {classes[row]}, {taken}."
