"""Charts that compare strategies, after Mormont et al. 2018: ranks, differences, layers, importances, selection.

Each is drawn from one CSV table alone and returns the sentence that it carries; see :mod:`histotransfer.canvas` for
their looks. Rows of names run downwards, so that thirty methods, or the layers of the deepest network, stay readable.

References
----------
Mormont R, Geurts P, Marée R (2018). Comparison of deep transfer learning strategies for digital pathology. CVPR
Workshops: figures 3 to 9 and supplementary figures 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from histotransfer import canvas
from histotransfer.canvas import SMALL, WIDTH
from histotransfer.evaluation import scoreboard
from histotransfer.evaluation.compared_tables import (
    IMPORTANCE_COLUMNS,
    LAYER_COLUMNS,
    PARTS,
    SELECTION_COLUMNS,
    number,
    read,
    rows_of_task,
    task_names,
)
from histotransfer.figures.rows import Blocks, Names, fit_axis, in_widths, percent, percent_span, rows_panel
from histotransfer.problems import counted

#: Colours of the parts of the importance (figure 5 of Mormont et al. 2018).
_PART_COLOURS = (canvas.BLUE, canvas.ORANGE, canvas.GREEN, canvas.VERMILION)


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
    tasks = task_names(rows)
    untrained = {row["layer"] for row in rows if row.get("untrained") == "yes"}
    statement = _layers_statement(rows, layers, tasks, table)

    legend = [
        (canvas.BLUE, "score on the groups held out", "line"),
        (canvas.ORANGE, "in inner cross-validation", "thin"),
        (canvas.INK, "chosen by it, in so many seeds", "ring"),
    ]
    names = Names(layers, [layer in untrained for layer in layers], most=132.0)

    def titled(task: str) -> tuple[str, str]:
        first = rows_of_task(rows, task)[0]
        held_out, inner = (scoreboard.metric_name(first[name]) for name in ("metric", "validation_metric"))
        return task, held_out if inner == held_out else f"{held_out}; in inner cross-validation {inner}"

    blocks = Blocks(
        tasks, titled, names, at_once=math.ceil(len(tasks) / math.ceil(len(tasks) / 3)), gap=10.0, beside=22.0
    )
    chart = canvas.new(canvas.legend_height(legend) + blocks.height + 6)
    canvas.draw_legend(chart, legend, 0)
    for task, panel in blocks.panels(chart, canvas.legend_height(legend)):
        of_layer = {row["layer"]: row for row in rows_of_task(rows, task)}
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
            canvas.label(panel, f"{chosen}/{seeds}", 1.04, middle, **style, **in_widths(panel))
        fit_axis(panel, ends or [0.0, 1.0], blocks.width)
    canvas.save(chart, figure, statement)
    return statement


def _layers_statement(
    rows: Sequence[Mapping[str, str]], layers: Sequence[str], tasks: Sequence[str], path: str | Path
) -> str:
    gaps, first = [], ""
    for task in tasks:
        scored = [(value, row) for row in rows_of_task(rows, task) if (value := number(row, "score", path)) is not None]
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
        return f"{counted(len(layers), 'layer')} on {len(tasks)} tasks; none is chosen."
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
        What :func:`histotransfer.evaluation.importance.share` wrote. ``importance_10``: the share of all importance
        that this source's features have among the most important features that together hold 10 % of it; and so on.
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
    names = Names([row["source"] for row in rows], untrained, most=150.0, least_height=14.5)
    bounds = [[number(row, f"importance_{part}", table) or 0.0 for part in PARTS] for row in rows]
    shares = [number(row, "feature_share", table) or 0.0 for row in rows]
    legend = [
        (colour, f"{part} %" if part < 100 else "100 % of the information", "bar")
        for part, colour in zip(PARTS, _PART_COLOURS, strict=True)
    ]
    legend.append((canvas.INK, "share of features", "black"))
    top = canvas.legend_height(legend) + 30
    body = sum(names.heights)
    chart = canvas.new(top + body + 32)
    canvas.draw_legend(chart, legend, 0)
    column = 36.0
    panel = rows_panel(chart, names, top, names.width, WIDTH - names.width - 2 * column - 8)
    highest = max([*(total[-1] for total in bounds), *shares, 1e-9])
    for total, share, middle in zip(bounds, shares, names.middles, strict=True):
        start = 0.0
        for end, colour in zip(total, _PART_COLOURS, strict=True):
            panel.barh(middle - 1.4, max(end - start, 0), left=start, height=6.4, color=colour, linewidth=0, zorder=2)
            start = max(end, start)
        panel.barh(middle + 3.6, share, height=2.4, color=canvas.INK, linewidth=0, zorder=2)
        for text, place, weight in ((total[-1], WIDTH - column - 4, "bold"), (share, WIDTH - 4, "normal")):
            style = {"ha": "right", "va": "center", "fontsize": SMALL - 0.4, "weight": weight}
            canvas.write(chart, percent(text), place, top + middle, **style)
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
        f"{rows[most]['source']} brings the largest share of the importance, {percent(bounds[most][-1])} with "
        f"{percent(shares[most])} of the features"
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
        What :func:`histotransfer.evaluation.overlap.curve` wrote: ``score`` in the inner cross-validation, mean over
        ``seeds``; ``kept``: in how many seeds this is the size kept.
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
    tasks = task_names(rows)
    curves = {task: [_Point.of(row, table) for row in rows_of_task(rows, task)] for task in tasks}
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
    canvas.scale_values(panel, low - margin, high + margin, most=5)
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
            f"On {task} {_kept_words(points)} are kept ({percent_span(shares)}), with a cross-validated score of "
            f"{scores} where all features give {points[-1].score:.3f}."
        )
    return (
        f"Over {len(curves)} tasks {percent_span(shares)} of the features are kept, "
        f"{percent(sum(shares) / len(shares))} on average."
    )
