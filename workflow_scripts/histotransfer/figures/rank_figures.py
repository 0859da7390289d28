"""Average ranks of the methods, and their differences to a reference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

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
    share_datasets,
    tasks_in_words,
)
from histotransfer.figures.rows import GREY, KIND_LOOKS, Blocks, Names, across, of_task, rows_panel, scale
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
    average = [number(row, "average_rank", ranks) for row in rows]
    n = sum(value is not None for value in average)
    statement = _ranks_statement(rows, average, used, ranks)

    heading = canvas.wrap(title, WIDTH - 8, TEXT, lines=3, bold=True)
    names = Names([row["method"] for row in rows], [row["untrained"] == "yes" for row in rows], most=168.0)
    looks = [KIND_LOOKS.get(row["kind"], (canvas.PURPLE, row["kind"] or "other")) for row in rows]
    legend = [
        (colour, word, "bar")
        for colour, word in dict.fromkeys([*KIND_LOOKS.values(), *looks])
        if (colour, word) in looks
    ]
    alone = len(used) == 1
    if not alone and 1 < len(used) <= 12:
        legend.append((canvas.INK, "rank on one task" if share_datasets(used) else "rank in one dataset", "ring"))
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
    panel = rows_panel(chart, names, top, names.width, WIDTH - names.width - values - 6)
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
            f"Ranks of {counted(len(known), 'method')} are the order of their {metric} on {used[0].name}: "
            f"highest is {best}{value}"
        )
    else:
        sentence = (
            f"Highest average rank of {counted(len(known), 'method')} over {tasks_in_words(used)}: "
            f"{best}, {max(known):.1f} where {len(known)} is best"
        )
    return sentence + ("; untrained network." if any(row["untrained"] == "yes" for row in first) else ".")


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
        (GREY, "includes zero", "dot"),
    ]
    random = any(row.get("reference_untrained") == "yes" for row in rows)
    words = f"Difference to {reference}" + (" (untrained network)" if random else "")
    heading = canvas.wrap(words, WIDTH - 8, TEXT, lines=3, bold=True)
    names = Names(methods, [method in untrained for method in methods], most=150.0)

    def titled(task: str) -> tuple[str, str]:
        first = next(row for row in rows if f"{row['dataset']}/{row['task']}" == task)
        return task, f"{scoreboard.metric_name(first['metric'])}, 95 % over {_resampled(of_task(rows, task))}"

    blocks = Blocks(tasks, titled, names, at_once=2, gap=14.0)
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
                    panel, "undefined", 0.03, middle, ha="left", fontsize=7, color=canvas.FAINT, **across(panel)
                )
                continue
            colour = GREY
            if low is not None and high is not None:
                colour = canvas.BLUE if low > 0 else canvas.VERMILION if high < 0 else GREY
                panel.plot([low, high], [middle, middle], color=colour, linewidth=1.5, zorder=3)
            hollow = method in untrained
            style = {"markerfacecolor": canvas.PAPER if hollow else colour, "markeredgecolor": colour}
            panel.plot([value], [middle], marker="o", markersize=3.8, zorder=4, **style)
            ends += [end for end in (value, low, high) if end is not None]
        scale(panel, ends, blocks.width, signed=True)
        panel.axvline(0, color=canvas.INK, linewidth=0.9, zorder=2)
    canvas.save(chart, figure, statement)
    return statement


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
