"""Charts that compare strategies, after Mormont et al. 2018: ranks, differences, layers, importances, selection.

Each is drawn from one CSV table alone and returns the sentence that it carries; see :mod:`histotransfer.canvas` for
their looks. Rows of names run downwards, so that thirty methods, or the layers of the deepest network, stay readable.

References
----------
Mormont R, Geurts P, Marée R (2018). Comparison of deep transfer learning strategies for digital pathology. CVPR
Workshops: figures 3 to 9 and supplementary figures 1 and 2.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histotransfer import canvas, scoreboard, store
from histotransfer.canvas import SMALL, TEXT, WIDTH

_GREY = "#8C8594"

#: Classifier kinds as the paper colours them, with the word of the legend; a kind that is not here is purple.
KIND_LOOKS = {
    "libsvm": (canvas.ORANGE, "SVM"),
    "liblinear": (canvas.ORANGE, "SVM"),
    "extratrees": (canvas.GREEN, "extremely randomised trees"),
    "perceptron": (canvas.VERMILION, "perceptron"),
    "softmax": (canvas.BLUE, "a trained network's own output"),
    "leaf_frequencies": (_GREY, "baseline: leaf frequencies"),
    "unet": (canvas.SKY, "U-Net on the slide's map"),
    "end_to_end": (canvas.YELLOW, "end to end"),
}

#: Parts of the information in which importances are split, in percent, and their colours (the paper's figure 5).
INFORMATION = (
    (10, canvas.BLUE),
    (25, canvas.ORANGE),
    (50, canvas.GREEN),
    (100, canvas.VERMILION),
)

RANK_COLUMNS = ("method", "kind", "untrained", "average_rank", "note")
DIFFERENCE_COLUMNS = (
    *("dataset", "task", "metric", "method", "reference", "difference", "low", "high", "groups", "unit"),
    *("seeds", "note"),
)
LAYER_COLUMNS = (
    *("dataset", "task", "layer", "depth", "metric", "score", "validation_metric", "validation", "seeds", "chosen"),
)
IMPORTANCE_COLUMNS = ("source", "features", "feature_share", *(f"importance_{part}" for part, _ in INFORMATION))
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


def draw_ranks(*, ranks: str | Path, figure: str | Path, title: str, split: str) -> str:
    """Draw the average rank of every method of a comparison, best on top, coloured by the kind of classifier.

    As in the paper the highest rank is the best: n where n methods are compared. Circles are the ranks in each
    dataset and task. Where there is one, ranks are the order of its scores, and these stand beside the bars.

    Parameters
    ----------
    ranks : path
        What :func:`histotransfer.ranking.rank` wrote, rows best first.
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
    average = [number(row, "average_rank", ranks) for row in rows]
    n = sum(value is not None for value in average)
    statement = _ranks_statement(rows, average, used, ranks)

    heading = canvas.wrap(title, WIDTH - 8, TEXT, lines=3, bold=True)
    names = _Names([row["method"] for row in rows], [row["untrained"] == "yes" for row in rows], most=168.0)
    looks = [KIND_LOOKS.get(row["kind"], (canvas.PURPLE, row["kind"] or "other")) for row in rows]
    legend = [
        (colour, word, "bar")
        for colour, word in dict.fromkeys([*KIND_LOOKS.values(), *looks])
        if (colour, word) in looks
    ]
    alone = len(used) == 1
    if not alone and 1 < len(used) <= 12:
        legend.append((canvas.INK, "rank on one task" if _shares(used) else "rank in one dataset", "ring"))
    if any(names.untrained):
        legend.append((canvas.FAINT, "hollow: untrained", "hollow"))
    said = [canvas.wrap(note, WIDTH - 8, SMALL, lines=3) for note in notes(rows)[:6]]

    top = 12.5 * (heading.count("\n") + 1) + 17
    head = top
    top += canvas.legend_height(legend) + 18
    body = sum(names.heights)
    foot = 32.0 + sum(11.5 * (note.count("\n") + 1) + 3 for note in said)
    chart = canvas.new(top + body + foot)
    canvas.write(chart, heading, 4, 0, weight="bold")
    words = canvas.wrap(f"split {split}", WIDTH - 8, SMALL, lines=1)
    canvas.write(chart, words, 4, head - 15, fontsize=SMALL, color=canvas.FAINT)
    canvas.draw_legend(chart, legend, head)

    values = 52.0
    panel = _rows_panel(chart, names, top, names.width, WIDTH - names.width - values - 6)
    panel.set_xlim(0, max(n, 1))
    ticks = canvas.ticks(0, max(n, 1), 4)
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    word = scoreboard.metric_name(used[0].metric) if alone else "average"
    size = canvas.shrink([word], values - 10, SMALL - 0.6)
    canvas.write(chart, word, WIDTH - 4, top - 3, ha="right", va="bottom", fontsize=size, color=canvas.FAINT)
    for row, rank, middle, (colour, _), hollow in zip(
        rows, average, names.middles, looks, names.untrained, strict=True
    ):
        value = number(row, used[0].score_column, ranks) if alone else rank
        text = ("–" if value is None else f"{value:.3f}") if alone else ("–" if value is None else f"{value:.1f}")
        canvas.write(chart, text, WIDTH - 4, top + middle, ha="right", va="center", fontsize=SMALL)
        if rank is None:
            canvas.label(panel, "not ranked", 0, middle, ha="left", fontsize=7, color=canvas.FAINT)
            continue
        style = {"color": canvas.PAPER if hollow else colour, "edgecolor": colour, "linewidth": 1.1}
        panel.barh(middle, rank, height=6.4, zorder=2, **style)
        if 1 < len(used) <= 12:
            places = [number(row, task.rank_column, ranks) for task in used]
            places = [place for place in places if place is not None]
            style = {"markersize": 2.9, "markerfacecolor": canvas.PAPER, "markeredgecolor": canvas.INK}
            panel.plot(places, [middle] * len(places), "o", markeredgewidth=0.6, zorder=3, clip_on=False, **style)
    base = f"order of scores, {n} is best" if alone else f"average rank, {n} is best"
    canvas.write(chart, base, WIDTH - values - 6, top + body + 17, ha="right", fontsize=SMALL)
    place = top + body + 32
    for note in said:
        canvas.write(chart, note, 4, place, fontsize=SMALL, color=canvas.FAINT)
        place += 11.5 * (note.count("\n") + 1) + 3
    canvas.save(chart, figure, statement)
    return statement


def _shares(tasks: Sequence[RankedTask]) -> bool:
    """Return whether a dataset stands for several tasks."""
    return len({task.dataset for task in tasks}) < len(tasks)


def over(tasks: Sequence[RankedTask]) -> str:
    """Return in words what ranks are averaged over; tasks of one dataset are an illustration."""
    datasets = len({task.dataset for task in tasks})
    if datasets == 1 and len(tasks) > 1:
        return f"{len(tasks)} tasks of {tasks[0].dataset}, which share their tiles (an illustration)"
    if datasets < len(tasks):
        return f"{len(tasks)} tasks of {datasets} datasets"
    return scoreboard.counted(datasets, "dataset")


def _ranks_statement(
    rows: Sequence[Mapping[str, str]], average: Sequence[float | None], used: Sequence[RankedTask], path: str | Path
) -> str:
    known = [value for value in average if value is not None]
    if not known or not used:
        return "No method can be ranked: no dataset has a score of every method."
    first = [row for row, value in zip(rows, average, strict=True) if value == max(known)]
    best = ", ".join(row["method"] for row in first)
    if len(used) == 1:
        score = number(first[0], used[0].score_column, path)
        value = "" if score is None else f", {score:.3f}"
        metric = scoreboard.metric_name(used[0].metric)
        sentence = (
            f"Ranks of {scoreboard.counted(len(known), 'method')} are the order of their {metric} on {used[0].name}: "
            f"highest is {best}{value}"
        )
    else:
        sentence = (
            f"Highest average rank of {scoreboard.counted(len(known), 'method')} over {over(used)}: "
            f"{best}, {max(known):.1f} where {len(known)} is best"
        )
    return sentence + ("; untrained network." if any(row["untrained"] == "yes" for row in first) else ".")


def draw_differences(*, table: str | Path, figure: str | Path) -> str:
    """Draw how much every method's score differs from the reference's: a dot, a 95 % interval, a panel a task.

    Parameters
    ----------
    table : path
        What :func:`histotransfer.differences.compare` wrote.
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
    tasks = list(dict.fromkeys(f"{row['dataset']}/{row['task']}" for row in rows))
    found = {(f"{row['dataset']}/{row['task']}", row["method"]): row for row in rows}
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["method"], [])
        value = number(row, "difference", table)
        if value is not None and row["method"] != reference:
            values[row["method"]].append(value)
    methods = [method for method in values if method != reference]
    methods.sort(key=lambda method: -sum(values[method]) / len(values[method]) if values[method] else math.inf)
    untrained = {row["method"] for row in rows if row.get("untrained") == "yes"}
    statement = _differences_statement(rows, reference, table)

    legend = [
        (canvas.BLUE, "interval above zero", "dot"),
        (canvas.VERMILION, "below zero", "dot"),
        (_GREY, "includes zero", "dot"),
    ]
    random = any(row.get("reference_untrained") == "yes" for row in rows)
    words = f"Difference to {reference}" + (" (untrained network)" if random else "")
    heading = canvas.wrap(words, WIDTH - 8, TEXT, lines=3, bold=True)
    names = _Names(methods, [method in untrained for method in methods], most=150.0)

    def titled(task: str) -> tuple[str, str]:
        first = next(row for row in rows if f"{row['dataset']}/{row['task']}" == task)
        return task, f"{scoreboard.metric_name(first['metric'])}, 95 % over {_resampled(_of_task(rows, task))}"

    blocks = _Blocks(tasks, titled, names, at_once=2, gap=14.0)
    head = 12.5 * (heading.count("\n") + 1) + 5
    chart = canvas.new(head + canvas.legend_height(legend) + blocks.height + 6)
    canvas.write(chart, heading, 4, 0, weight="bold")
    canvas.draw_legend(chart, legend, head)
    for task, panel in blocks.panels(chart, head + canvas.legend_height(legend)):
        ends = [0.0]
        for method, middle in zip(methods, names.middles, strict=True):
            row = found.get((task, method), {})
            value, low, high = (number(row, name, table) for name in ("difference", "low", "high"))
            if value is None:
                canvas.label(
                    panel, "undefined", 0.03, middle, ha="left", fontsize=7, color=canvas.FAINT, **_across(panel)
                )
                continue
            colour = _GREY
            if low is not None and high is not None:
                colour = canvas.BLUE if low > 0 else canvas.VERMILION if high < 0 else _GREY
                panel.plot([low, high], [middle, middle], color=colour, linewidth=1.5, zorder=3)
            hollow = method in untrained
            style = {"markerfacecolor": canvas.PAPER if hollow else colour, "markeredgecolor": colour}
            panel.plot([value], [middle], marker="o", markersize=3.8, zorder=4, **style)
            ends += [end for end in (value, low, high) if end is not None]
        _scale(panel, ends, blocks.width, signed=True)
        panel.axvline(0, color=canvas.INK, linewidth=0.9, zorder=2)
    canvas.save(chart, figure, statement)
    return statement


def _of_task(rows: Sequence[Mapping[str, str]], task: str) -> list[Mapping[str, str]]:
    return [row for row in rows if f"{row['dataset']}/{row['task']}" == task]


def _resampled(rows: Iterable[Mapping[str, str]]) -> str:
    """Return what intervals resample: ``6 patients``, ``5 to 6 patients``, by units where these differ."""
    sizes: dict[str, set[int]] = {}
    for row in rows:
        if row["groups"]:
            sizes.setdefault(row["unit"], set()).add(int(float(row["groups"])))
    words = []
    for unit, found in sizes.items():
        last = scoreboard.counted(max(found), unit or "group")
        words.append(last if len(found) == 1 else f"{min(found):,} to {last}")
    return ", ".join(words) or "no group"


def _differences_statement(rows: Sequence[Mapping[str, str]], reference: str, path: str | Path) -> str:
    others = [row for row in rows if row["method"] != reference]
    known = [row for row in others if number(row, "difference", path) is not None]
    lows = [low for row in known if (low := number(row, "low", path)) is not None]
    highs = [high for row in known if (high := number(row, "high", path)) is not None]
    above, below = sum(low > 0 for low in lows), sum(high < 0 for high in highs)
    methods, tasks = len({row["method"] for row in known}), len({(row["dataset"], row["task"]) for row in known})
    counted = f" ({scoreboard.counted(methods, 'method')}, {tasks} tasks)" if tasks > 1 else ""
    if not known:
        return f"No difference to {reference} is defined."
    return (
        f"Of {scoreboard.counted(len(known), 'difference')} to {reference}{counted}, {above} "
        f"{'lies' if above == 1 else 'lie'} above and {below} below zero with the whole 95 % interval, "
        f"from resampling {_resampled(known)}."
    )


def draw_layers(*, table: str | Path, figure: str | Path) -> str:
    """Draw the score of every layer's features by depth, a panel a task, and which layer inner cross-validation chose.

    Depth runs downwards, from the first cut point to the last, so that every layer's name can be read.

    Parameters
    ----------
    table : path
        CSV with the columns :data:`LAYER_COLUMNS`: ``score`` on the groups held out, ``validation`` in the inner
        cross-validation, both means over ``seeds`` and each of its own metric; ``chosen``: in how many seeds the layer
        was chosen.
    figure : path
        SVG to write.

    Raises
    ------
    ValueError
        If a column is missing or a number is none.
    """
    rows = read(table, LAYER_COLUMNS)
    if not rows:
        return canvas.draw_nothing(figure, "No inner layer was scored.")
    depths = {row["layer"]: number(row, "depth", table) or 0.0 for row in rows}
    layers = sorted(depths, key=lambda layer: depths[layer])
    tasks = list(dict.fromkeys(f"{row['dataset']}/{row['task']}" for row in rows))
    untrained = {row["layer"] for row in rows if row.get("untrained") == "yes"}
    statement = _layers_statement(rows, layers, tasks, table)

    legend = [
        (canvas.BLUE, "score on the groups held out", "line"),
        (canvas.ORANGE, "in inner cross-validation", "thin"),
        (canvas.INK, "chosen by it, in so many seeds", "ring"),
    ]
    names = _Names(layers, [layer in untrained for layer in layers], most=132.0)

    def titled(task: str) -> tuple[str, str]:
        first = _of_task(rows, task)[0]
        held_out, inner = (scoreboard.metric_name(first[name]) for name in ("metric", "validation_metric"))
        return task, held_out if inner == held_out else f"{held_out}; in inner cross-validation {inner}"

    blocks = _Blocks(
        tasks, titled, names, at_once=math.ceil(len(tasks) / math.ceil(len(tasks) / 3)), gap=10.0, beside=22.0
    )
    chart = canvas.new(canvas.legend_height(legend) + blocks.height + 6)
    canvas.draw_legend(chart, legend, 0)
    for task, panel in blocks.panels(chart, canvas.legend_height(legend)):
        of_layer = {row["layer"]: row for row in _of_task(rows, task)}
        ends: list[float] = []
        for column, style in (
            ("validation", {"color": canvas.ORANGE, "linewidth": 0.9, "zorder": 3}),
            ("score", {"color": canvas.BLUE, "linewidth": 1.5, "marker": "o", "markersize": 2.8, "zorder": 4}),
        ):
            points = [
                (value, middle)
                for layer, middle in zip(layers, names.middles, strict=True)
                if (value := number(of_layer.get(layer, {}), column, table)) is not None
            ]
            panel.plot([value for value, _ in points], [middle for _, middle in points], **style)
            ends += [value for value, _ in points]
        for layer, middle in zip(layers, names.middles, strict=True):
            row = of_layer.get(layer, {})
            chosen, seeds = (int(number(row, name, table) or 0) for name in ("chosen", "seeds"))
            score = number(row, "score", table)
            if not chosen:
                continue
            if score is not None:
                style = {"markerfacecolor": "none", "markeredgecolor": canvas.INK, "markeredgewidth": 1.3}
                panel.plot([score], [middle], marker="o", markersize=7.0, zorder=5, **style)
            style = {"ha": "left", "weight": "bold", "fontsize": SMALL - 0.8}
            canvas.label(panel, f"{chosen}/{seeds}", 1.04, middle, **style, **_across(panel))
        _scale(panel, ends or [0.0, 1.0], blocks.width)
    canvas.save(chart, figure, statement)
    return statement


def _layers_statement(
    rows: Sequence[Mapping[str, str]], layers: Sequence[str], tasks: Sequence[str], path: str | Path
) -> str:
    gaps, first = [], ""
    for task in tasks:
        scored = [(value, row) for row in _of_task(rows, task) if (value := number(row, "score", path)) is not None]
        if not scored:
            continue
        value, best = max(scored, key=lambda pair: pair[0])
        metric = scoreboard.metric_name(best["metric"])
        said = (
            f"The highest {metric} on {task} is {value:.3f} with {best['layer']} "
            f"(depth {layers.index(best['layer']) + 1} of {len(layers)})"
        )
        picked, row = max(((number(row, "chosen", path) or 0, row) for _, row in scored), key=lambda pair: pair[0])
        if picked:
            score = number(row, "score", path)
            gaps.append(value - (score if score is not None else value))
            seeds = int(number(row, "seeds", path) or 0)
            said += f"; inner cross-validation chooses {row['layer']} ({score:.3f}, {picked:g} of {seeds} seeds)"
        first = first or said
    if len(tasks) == 1 and first:
        return f"{first}."
    if not gaps:
        return f"{scoreboard.counted(len(layers), 'layer')} on {len(tasks)} tasks; none is chosen."
    hit = sum(gap < 1e-12 for gap in gaps)
    return (
        f"The layer that inner cross-validation chooses most often is the best of {len(layers)} on the groups held out "
        f"in {hit} of {len(gaps)} tasks, and at most {max(gaps):.3f} below the best."
    )


def draw_importance(*, table: str | Path, figure: str | Path) -> str:
    """Draw the share of all importance that each network's or layer's features bring, beside their share of features.

    Parameters
    ----------
    table : path
        What :func:`histotransfer.importance.share` wrote. ``importance_10``: the share of all importance that this
        source's features have among the most important features that together hold 10 % of it; and so on.
    figure : path
        SVG to write. Bars as in figure 5 of Mormont et al. 2018; sources in the table's order.

    Raises
    ------
    ValueError
        If a column is missing or a number is none.
    """
    rows = read(table, IMPORTANCE_COLUMNS)
    if not rows:
        return canvas.draw_nothing(figure, "No importance was measured.")
    untrained = [row.get("untrained") == "yes" for row in rows]
    names = _Names([row["source"] for row in rows], untrained, most=150.0, least_height=14.5)
    bounds = [[number(row, f"importance_{part}", table) or 0.0 for part, _ in INFORMATION] for row in rows]
    shares = [number(row, "feature_share", table) or 0.0 for row in rows]
    legend = [
        (colour, f"{part} %" if part < 100 else "100 % of the information", "bar") for part, colour in INFORMATION
    ]
    legend.append((canvas.INK, "share of features", "black"))
    top = canvas.legend_height(legend) + 30
    body = sum(names.heights)
    chart = canvas.new(top + body + 32)
    canvas.draw_legend(chart, legend, 0)
    column = 36.0
    panel = _rows_panel(chart, names, top, names.width, WIDTH - names.width - 2 * column - 8)
    highest = max([*(total[-1] for total in bounds), *shares, 1e-9])
    for total, share, middle in zip(bounds, shares, names.middles, strict=True):
        start = 0.0
        for end, (_, colour) in zip(total, INFORMATION, strict=True):
            panel.barh(middle - 1.4, max(end - start, 0), left=start, height=6.4, color=colour, linewidth=0, zorder=2)
            start = max(end, start)
        panel.barh(middle + 3.6, share, height=2.4, color=canvas.INK, linewidth=0, zorder=2)
        for text, place, weight in ((total[-1], WIDTH - column - 4, "bold"), (share, WIDTH - 4, "normal")):
            style = {"ha": "right", "va": "center", "fontsize": SMALL - 0.4, "weight": weight}
            canvas.write(chart, _percent(text), place, top + middle, **style)
    for text, place in (("impor-\ntance", WIDTH - column - 4), ("feat-\nures", WIDTH - 4)):
        style = {"ha": "right", "va": "bottom", "fontsize": SMALL - 1.2, "color": canvas.FAINT, "linespacing": 1.0}
        canvas.write(chart, text, place, top - 2, **style)
    panel.set_xlim(0, highest)
    ticks = canvas.ticks(0, highest, 4)
    panel.set_xticks(ticks, [f"{tick:.0%}" if highest > 0.03 else f"{tick:.1%}" for tick in ticks])
    canvas.write(chart, "share of all importance", names.width, top + body + 17, fontsize=SMALL)

    most = max(range(len(rows)), key=lambda index: bounds[index][-1])
    dense = max(range(len(rows)), key=lambda index: bounds[index][-1] / shares[index] if shares[index] else 0)
    statement = (
        f"{rows[most]['source']} brings the largest share of the importance, {_percent(bounds[most][-1])} with "
        f"{_percent(shares[most])} of the features"
    )
    if shares[dense] and len(rows) > 1:
        ratio = f"{bounds[dense][-1] / shares[dense]:.2g} times its share"
        whose = "also the most for its size" if dense == most else f"{rows[dense]['source']} the most for its size"
        statement += f", {whose}, {ratio}"
    statement += "."
    canvas.save(chart, figure, statement)
    return statement


def draw_selection(*, table: str | Path, figure: str | Path) -> str:
    """Draw the curve of a recursive feature elimination: score against number of features, and how many are kept.

    Parameters
    ----------
    table : path
        What :func:`histotransfer.overlap.curve` wrote: ``score`` in the inner cross-validation, mean over ``seeds``;
        ``kept``: in how many seeds this is the size kept.
    figure : path
        SVG to write. The axis of sizes is logarithmic.

    Raises
    ------
    ValueError
        If a column is missing or a number is none.
    """
    rows = read(table, SELECTION_COLUMNS)
    if not rows:
        return canvas.draw_nothing(figure, "No features were eliminated.")
    tasks = list(dict.fromkeys(f"{row['dataset']}/{row['task']}" for row in rows))
    curves = {task: [_Point.of(row, table) for row in _of_task(rows, task)] for task in tasks}
    curves = {
        task: sorted((p for p in points if p.score is not None), key=lambda p: p.size)
        for task, points in curves.items()
    }
    lines = [canvas.wrap(f"{task}: {_kept_words(curves[task])} kept", WIDTH - 34, SMALL, lines=2) for task in tasks]
    height, left, below, top = 178.0, 40.0, 34.0, 18.0
    heights = [11.0 * (text.count("\n") + 1) + 4 for text in lines]
    chart = canvas.new(top + height + below + sum(heights) + 2)
    canvas.write(chart, "score in inner cross-validation", 4, 1, fontsize=SMALL, color=canvas.FAINT)
    panel = canvas.axes(chart, left, top, WIDTH - left - 12, height)
    panel.set_xscale("log")
    values = [point.score for points in curves.values() for point in points] or [0.0, 1.0]
    largest = max((point.size for points in curves.values() for point in points), default=10)
    place = top + height + below
    for index, (task, text, tall) in enumerate(zip(tasks, lines, heights, strict=True)):
        colour = canvas.CLASS_COLOURS[index % len(canvas.CLASS_COLOURS)]
        style = {"color": colour, "linestyle": ("-", (0, (4, 1.5)), (0, (1, 1.2)))[index // 7 % 3]}
        points = curves[task]
        panel.plot([p.size for p in points], [p.score for p in points], linewidth=1.5, zorder=3, **style)
        for point in points:
            if point.kept:
                look = {"markerfacecolor": canvas.PAPER, "markeredgecolor": colour, "markeredgewidth": 1.8}
                panel.plot([point.size], [point.score], marker="o", markersize=7, zorder=5, **look)
        key = canvas.axes(chart, 0, place, 30, tall)
        key.set_xlim(0, 30)
        key.set_ylim(tall, 0)
        key.set_axis_off()
        key.plot([4, 24], [6.5, 6.5], linewidth=1.5, **style)
        key.plot([14], [6.5], marker="o", markersize=5, markerfacecolor=canvas.PAPER, markeredgecolor=colour)
        canvas.write(chart, text, 30, place, fontsize=SMALL)
        place += tall
    panel.set_xlim(0.9, largest * 1.12)
    decades = [10**power for power in range(0, int(math.log10(largest)) + 1)]
    if largest / decades[-1] > 2.5:
        decades.append(int(largest))
    panel.set_xticks(decades, [f"{tick:,}" for tick in decades])
    panel.minorticks_off()
    low, high = min(values), max(values)
    margin = max((high - low) * 0.06, 0.005)
    panel.set_ylim(low - margin, high + margin)
    ticks = canvas.ticks(low - margin, high + margin, 5)
    panel.set_yticks(ticks, canvas.tick_words(ticks))
    panel.tick_params(axis="y", labelsize=SMALL)
    for tick in ticks:
        panel.axhline(tick, color=canvas.RULE, linewidth=0.6, zorder=0)
    words = "number of features (rings: the numbers kept)"
    canvas.write(chart, words, WIDTH - 12, top + height + 18, ha="right", fontsize=SMALL)
    statement = _selection_statement(curves)
    canvas.save(chart, figure, statement)
    return statement


@dataclass(frozen=True)
class _Point:
    """One size of an elimination's curve: mean score, and in how many seeds the size is kept."""

    size: int
    share: float
    score: float | None
    kept: int
    seeds: int

    @classmethod
    def of(cls, row: Mapping[str, str], path: str | Path) -> _Point:
        size, share, score, kept, seeds = (
            number(row, name, path) for name in ("size", "share", "score", "kept", "seeds")
        )
        if size is None:
            raise ValueError(f"{path}: column size holds a number of features in every row; found nothing")
        return cls(int(size), share or 0.0, score, int(kept or 0), int(seeds or 0))


def _kept_words(points: Sequence[_Point]) -> str:
    kept = [point for point in points if point.kept]
    if not kept:
        return "no number"
    largest = max(point.size for point in points)
    low, high = kept[0].size, kept[-1].size
    words = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{words} of {largest:,} features"


def _selection_statement(curves: Mapping[str, Sequence[_Point]]) -> str:
    shares = [point.share for points in curves.values() for point in points for _ in range(point.kept)]
    if not shares:
        return "No number of features is kept."
    if len(curves) == 1:
        task, points = next(iter(curves.items()))
        kept = [point for point in points if point.kept]
        scores = " to ".join(
            dict.fromkeys(f"{value:.3f}" for value in (min(p.score for p in kept), max(p.score for p in kept)))
        )
        return (
            f"On {task} {_kept_words(points)} are kept ({_percents(shares)}), with a cross-validated score of {scores} "
            f"where all features give {points[-1].score:.3f}."
        )
    return (
        f"Over {len(curves)} tasks {_percents(shares)} of the features are kept, {_percent(sum(shares) / len(shares))} "
        "on average."
    )


def _percents(shares: Sequence[float]) -> str:
    words = dict.fromkeys(_percent(value) for value in (min(shares), max(shares)))
    return " to ".join(words)


def _percent(share: float) -> str:
    """Return a share in percent with two digits: ``27 %``, ``2.7 %``, ``0.27 %``."""
    percent = 100 * share
    digits = 0 if percent >= 9.95 or percent == 0 else 1 if percent >= 0.995 else 2
    return f"{percent:.{digits}f} %"


def draw_method_costs(*, table: str | Path, figure: str | Path) -> str:
    """Draw every method's score against the processor time behind it, and name those that nothing cheaper beats.

    Parameters
    ----------
    table : path
        What :func:`histotransfer.costs.of_methods` wrote; seconds are of processor time.
    figure : path
        SVG to write. The axis of seconds is logarithmic.

    Raises
    ------
    ValueError
        If a column is missing or a number is none.
    """
    rows = read(table, COST_COLUMNS)
    points = []
    for row in rows:
        seconds, score = number(row, "cpu_seconds", table), number(row, "score", table)
        if seconds is not None and score is not None and seconds > 0:
            points.append((seconds, score, row["method"], row.get("untrained") == "yes"))
    if not points:
        return canvas.draw_nothing(figure, "No method has both a score and a measured processor time.")
    points.sort(key=lambda point: (point[0], -point[1], point[2]))
    front: list[tuple[float, float, str, bool]] = []
    for point in points:
        if not front or point[1] > front[-1][1]:
            front.append(point)
    lines = [
        canvas.wrap(f"{method}: {score:.3f}, {_seconds(seconds)}", WIDTH - 26, SMALL, lines=2)
        for seconds, score, method, _ in front
    ]
    heights = [11.0 * (text.count("\n") + 1) + 5 for text in lines]
    height, left, below, top = 190.0, 40.0, 52.0, 18.0
    metrics = {scoreboard.metric_name(row.get("metric") or "score") for row in rows}
    word = metrics.pop() if len(metrics) == 1 else "score"
    chart = canvas.new(top + height + below + sum(heights))
    canvas.write(chart, f"{word}, mean over tasks", 4, 1, fontsize=SMALL, color=canvas.FAINT)
    panel = canvas.axes(chart, left, top, WIDTH - left - 14, height)
    panel.set_xscale("log")
    for seconds, score, _, hollow in points:
        style = {"markerfacecolor": canvas.PAPER if hollow else canvas.SKY, "markeredgecolor": canvas.BLUE}
        panel.plot([seconds], [score], marker="o", markersize=4.5, markeredgewidth=0.8, zorder=3, **style)
    style = {"color": canvas.ORANGE, "linewidth": 1.1, "zorder": 2, "drawstyle": "steps-post"}
    panel.plot([point[0] for point in front], [point[1] for point in front], **style)
    low, high = min(point[1] for point in points), max(point[1] for point in points)
    margin = max((high - low) * 0.09, 0.005)
    fastest, slowest = points[0][0] / 1.35, points[-1][0] * 1.35
    panel.set_xlim(fastest, slowest)
    panel.set_ylim(low - margin, high + margin * 1.6)
    panel.minorticks_off()
    ticks = _time_ticks(fastest, slowest)
    panel.set_xticks([seconds for seconds, _ in ticks], [word for _, word in ticks])
    ticks = canvas.ticks(low - margin, high + margin * 1.6, 5)
    panel.set_yticks(ticks, canvas.tick_words(ticks))
    panel.tick_params(axis="y", labelsize=SMALL)
    for tick in ticks:
        panel.axhline(tick, color=canvas.RULE, linewidth=0.6, zorder=0)
    taken: list[tuple[float, float]] = []
    for index, (seconds, score, _, _) in enumerate(front, start=1):
        # a number stands above its dot, and no two numbers stand closer than one is wide
        across = math.log(seconds / fastest) / math.log(slowest / fastest) * (WIDTH - left - 14)
        up = (score - low + margin) / (high - low + 2.6 * margin) * height
        if all(abs(across - x) > 13 or abs(up - y) > 11 for x, y in taken):
            taken.append((across, up))
            canvas.write(chart, str(index), left + across - 4, top + height - up - 4, **_NUMBERED)
    canvas.write(chart, "processor time", WIDTH - 14, top + height + 18, ha="right", fontsize=SMALL)
    place = top + height + below
    canvas.write(chart, "nothing cheaper scores as high:", 4, place - 15, fontsize=SMALL, color=canvas.FAINT)
    for index, (text, tall) in enumerate(zip(lines, heights, strict=True), start=1):
        canvas.write(chart, f"{index}", 16, place, ha="right", fontsize=SMALL, weight="bold")
        canvas.write(chart, text, 24, place, fontsize=SMALL)
        place += tall
    best = front[-1]
    statement = f"The highest score is {best[1]:.3f} by {best[2]}, for {_seconds(best[0])} of processor time"
    near = next(point for point in front if point[1] >= best[1] - 0.01)
    if near is not best:
        statement += f"; {near[2]} comes within 0.01 of it for {_seconds(near[0])}"
    statement += "; untrained network." if best[3] else "."
    canvas.save(chart, figure, statement)
    return statement


_NUMBERED = {"ha": "right", "va": "bottom", "fontsize": SMALL, "weight": "bold"}


def _seconds(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:,.1f} h"


def _time_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return times that a clock has, between `low` and `high` seconds, at most five of them."""
    known = [(0.01, "0.01 s"), (0.1, "0.1 s"), (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h")]
    known += [(36_000, "10 h"), (360_000, "100 h"), (3_600_000, "1,000 h")]
    inside = [tick for tick in known if low <= tick[0] <= high]
    if len(inside) < 2:
        middle = [(seconds, _seconds(seconds)) for seconds in (low * (high / low) ** part for part in (0.15, 0.85))]
        return middle
    return inside[:: math.ceil(len(inside) / 5)]


class _Names:
    """Names that stand left of a chart's rows: how they break, how high their rows are, where their middles lie."""

    _LINE, _MARK = 10.6, "untrained"

    def __init__(
        self, names: Sequence[str], untrained: Sequence[bool], *, most: float, least_height: float = 12.0
    ) -> None:
        self.untrained = list(untrained)
        beside = canvas.text_width(self._MARK, 7.4) + 5
        wished = [canvas.text_width(name, SMALL) + 10 for name in names]
        self.width = min(max([58.0 + 10 * any(untrained), *wished]), most)
        self.texts, self.marks, self.heights, self.middles = [], [], [], []
        place = 0.0
        for name, marked in zip(names, self.untrained, strict=True):
            text = canvas.wrap(name, self.width - 9, SMALL, lines=4)
            last = canvas.text_width(text.rsplit("\n", 1)[-1], SMALL)
            inline = marked and last + beside <= self.width - 6
            lines = text.count("\n") + 1 + (marked and not inline)
            height = max(self._LINE * lines + 3.4, least_height)
            self.texts.append(text)
            self.marks.append((last + 4 if inline else 0.0) if marked else None)
            self.heights.append(height)
            self.middles.append(place + height / 2)
            place += height

    def write(self, chart: Any, top: float) -> None:
        """Write the names, with the word that marks untrained ones."""
        for text, mark, middle in zip(self.texts, self.marks, self.middles, strict=True):
            lines = text.split("\n")
            first = middle - self._LINE * (len(lines) - 1 + (mark == 0.0)) / 2
            for place, line in enumerate(lines):
                # letters below the line must not lift it
                base = top + first + self._LINE * place + 0.36 * SMALL
                canvas.write(chart, line, 4, base, va="baseline", fontsize=SMALL)
            if mark is not None:
                below = first + self._LINE * (len(lines) - 1 + (mark == 0.0))
                style = {"va": "baseline", "fontsize": 7.4, "color": canvas.VERMILION}
                canvas.write(chart, self._MARK, 4 + mark, top + below + 0.36 * SMALL, **style)


class _Blocks:
    """Panels side by side that share the names on their left; blocks of them stand one below the other."""

    def __init__(
        self,
        tasks: Sequence[str],
        titled: Callable[[str], tuple[str, str]],
        names: _Names,
        *,
        at_once: int,
        gap: float,
        beside: float = 0.0,
    ) -> None:
        at_once = min(at_once, len(tasks))
        self._rows = [tasks[first : first + at_once] for first in range(0, len(tasks), at_once)]
        self._names, self._gap, self._beside = names, gap, beside
        self.width = (WIDTH - names.width - 10 - (gap + beside) * at_once + gap) / at_once
        self._titles = {}
        for task in tasks:
            name, about = titled(task)
            wide = self.width + beside
            bold = canvas.wrap(name, wide, SMALL, lines=3, bold=True)
            self._titles[task] = (bold, canvas.wrap(about, wide, SMALL - 1, lines=3))
        self._heads = [
            max(11.5 * (bold.count("\n") + 1) + 10.2 * (about.count("\n") + 1) for bold, about in of_row) + 21
            for of_row in ([self._titles[task] for task in row] for row in self._rows)
        ]

    @property
    def height(self) -> float:
        """Height of all blocks in points."""
        return sum(self._heads) + len(self._rows) * (sum(self._names.heights) + 12)

    def panels(self, chart: Any, top: float) -> Iterable[tuple[str, Any]]:
        """Make the panel of each task, with names, bands and headings around it."""
        for row, head in zip(self._rows, self._heads, strict=True):
            for place, task in enumerate(row):
                left = self._names.width + place * (self.width + self._beside + self._gap)
                if place == 0:
                    panel = _rows_panel(chart, self._names, top + head, left, self.width)
                else:
                    panel = _bare_panel(chart, self._names, top + head, left, self.width)
                bold, about = self._titles[task]
                canvas.write(chart, bold, left, top + 4, fontsize=SMALL, weight="bold")
                style = {"fontsize": SMALL - 1, "color": canvas.FAINT}
                canvas.write(chart, about, left, top + 4 + 11.5 * (bold.count("\n") + 1), **style)
                yield task, panel
            top += head + sum(self._names.heights) + 12


def _rows_panel(chart: Any, names: _Names, top: float, left: float, width: float) -> Any:
    """Return a panel whose rows are those of `names`, written left of it, with a band behind every other one."""
    back = canvas.axes(chart, 0, top, WIDTH, sum(names.heights))
    back.set_xlim(0, 1)
    back.set_ylim(sum(names.heights), 0)
    back.set_axis_off()
    back.set_zorder(-1)
    for middle, height in list(zip(names.middles, names.heights, strict=True))[::2]:
        back.barh(middle, 1, height=height, color=canvas.BAND, linewidth=0)
    names.write(chart, top)
    return _bare_panel(chart, names, top, left, width)


def _bare_panel(chart: Any, names: _Names, top: float, left: float, width: float) -> Any:
    panel = canvas.axes(chart, left, top, width, sum(names.heights))
    panel.set_ylim(sum(names.heights), 0)
    panel.set_yticks([])
    panel.tick_params(labeltop=True, top=True)
    panel.spines["top"].set_visible(True)
    panel.grid(axis="x", color=canvas.RULE, linewidth=0.6)
    panel.set_axisbelow(True)
    return panel


def _across(panel: Any) -> dict[str, Any]:
    """Return the coordinates of a text whose x is a part of the panel's width and whose y is a value."""
    return {"transform": panel.get_yaxis_transform()}


def _scale(panel: Any, ends: Sequence[float], width: float, *, signed: bool = False) -> None:
    """Set limits around `ends` and as many ticks as their labels leave room for."""
    low, high = min(ends), max(ends)
    margin = max((high - low) * 0.06, 0.004)
    low, high = low - margin, high + margin
    panel.set_xlim(low, high)
    ticks, words = _fitting_ticks(low, high, width, signed)
    panel.tick_params(axis="x", labelsize=SMALL - 1)
    panel.set_xticks(ticks, words)


def _fitting_ticks(low: float, high: float, width: float, signed: bool) -> tuple[list[float], list[str]]:
    """Return the closest ticks, at least two, whose labels stand apart on `width` points."""
    power = math.floor(math.log10(high - low)) - 1
    # a step of 3 or 4 looks odd, yet says more than one tick alone
    for factors in ((1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        for step in (factor * 10.0**exponent for exponent in (power, power + 1) for factor in factors):
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            ticks = [round(index * step, 12) for index in range(first, last + 1)]
            words = canvas.tick_words(ticks, signed=signed)
            widest = max((canvas.text_width(word, SMALL - 1) for word in words), default=0)
            if 2 <= len(ticks) <= 7 and step / (high - low) * width >= widest + 4:
                return ticks, words
    ticks = canvas.ticks(low, high, 1)
    return ticks, canvas.tick_words(ticks, signed=signed)
