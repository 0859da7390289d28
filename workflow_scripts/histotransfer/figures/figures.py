"""Charts of the report, each drawn from tables alone into one SVG; see :mod:`histotransfer.canvas` for their looks.

Every function returns the sentence that the chart carries: what can be read from it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from histotransfer import canvas, store
from histotransfer.canvas import SMALL, TEXT, WIDTH
from histotransfer.problems import counted

#: What a status of ``slides.tsv`` is called, in the order in which a slide is checked.
STATUS_WORDS = {
    "missing": "file missing",
    "unreadable": "unreadable",
    "no mpp": "no resolution (mpp)",
    "mpp conflict": "contradictory mpp",
    "no tissue": "no tissue",
    "no path": "no file named",
    "no label": "no label",
    "several labels": "several labels",
}


def draw_attrition(*, slides: str | Path, figure: str | Path, noun: str = "slide") -> str:
    """Draw how many slides were asked for, what each check took away, and how many are used.

    Parameters
    ----------
    slides : path
        The dataset's ``slides.tsv``.
    figure : path
        SVG to write.
    noun : str
        What a row of the table is: ``slide``, or ``image`` for patches and points.
    """
    rows = store.read_table(slides)
    asked = sum(int(row.get("stands_for") or 1) for row in rows)
    lost: Counter[str] = Counter()
    for row in rows:
        if row["status"] != "ok":
            lost[row["status"]] += int(row.get("stands_for") or 1)
    order = [status for status in STATUS_WORDS if status in lost]
    order += sorted(status for status in lost if status not in STATUS_WORDS)
    used = asked - sum(lost.values())

    steps = [("asked for", asked, 0)]
    for status in order:
        steps.append((STATUS_WORDS.get(status, status), steps[-1][1] - lost[status], lost[status]))
    steps.append(("used", used, 0))

    pitch, names, top = 24.0, 118.0, 4.0
    chart = canvas.new(top + pitch * len(steps) + 2)
    panel = canvas.axes(chart, names, top, WIDTH - names - 46, pitch * len(steps))
    for place, (name, left, removed) in enumerate(steps):
        last = place in (0, len(steps) - 1)
        panel.barh(place, left, height=0.58, color=canvas.BLUE if last else canvas.SKY)
        if removed:
            panel.barh(place, removed, left=left, height=0.58, color=canvas.VERMILION)
        text = f"−{removed:,}" if removed else f"{left:,}"
        colour = canvas.VERMILION if removed else canvas.INK
        shift = 0.02 * max(asked, 1)
        canvas.label(panel, text, left + removed + shift, place, ha="left", fontsize=TEXT, color=colour, weight="bold")
        name = canvas.wrap(name, names - 10, lines=2)
        canvas.write(chart, name, names - 8, top + pitch * (place + 0.5), ha="right", va="center")
    panel.set_xlim(0, max(asked, 1))
    panel.set_ylim(len(steps) - 0.5, -0.5)
    panel.set_axis_off()

    reasons = ", ".join(f"{lost[status]:,} {STATUS_WORDS.get(status, status)}" for status in order)
    statement = f"{counted(asked, noun)} asked for, {used:,} used"
    statement += f"; excluded: {reasons}." if reasons else "; none excluded."
    canvas.save(chart, figure, statement)
    return statement


def draw_splits(*, counts: str | Path, figure: str | Path) -> str:
    """Draw groups and tiles of each class in every set and fold of one split.

    Parameters
    ----------
    counts : path
        What :func:`histotransfer.cohort.split_counts.count` wrote.
    figure : path
        SVG to write.
    """
    rows = store.read_table(counts)
    if not rows:
        raise ValueError(f"{counts} has no rows: the split holds no labelled tile")
    unit = rows[0]["unit"]
    classes = list(dict.fromkeys(row["class"] for row in rows))
    parts = list(dict.fromkeys((row["set"], row["fold"]) for row in rows))
    number = {(row["set"], row["fold"], row["class"]): row for row in rows}

    names, gap, pitch = 94.0, 16.0, 20.0
    chart_top = _legend_height(classes) + 22
    width = (WIDTH - names - gap - 14) / 2
    chart = canvas.new(chart_top + pitch * len(parts) + 22)
    _draw_legend(chart, classes)
    if unit == "tile":
        width = WIDTH - names - 10
        wide = [("tiles", "tiles", names)]
    else:
        wide = [("groups", counted(2, unit)[2:], names), ("tiles", "tiles", names + width + gap)]
    for column, title, left in wide:
        canvas.write(chart, title, left, chart_top - 4, va="bottom", weight="bold", fontsize=SMALL)
        panel = canvas.axes(chart, left, chart_top, width, pitch * len(parts))
        highest = 1
        for place, part in enumerate(parts):
            start = 0
            for index, name in enumerate(classes):
                count = int(number[*part, name][column]) if (*part, name) in number else 0
                panel.barh(place, count, left=start, height=0.64, **_class_style(index), linewidth=0.6)
                start += count
            highest = max(highest, start)
        panel.set_xlim(0, highest)
        panel.set_ylim(len(parts) - 0.5, -0.5)
        panel.set_yticks([])
        ticks = _whole_ticks(highest)
        thousands = ticks[-1] >= 10_000
        panel.set_xticks(ticks, [f"{tick // 1000}k" if tick and thousands else f"{tick:,}" for tick in ticks])
        panel.spines["left"].set_visible(True)
    for place, (name, fold) in enumerate(parts):
        text = f"{name}, fold {fold}" if fold else name
        canvas.write(
            chart,
            canvas.wrap(text, names - 8, SMALL, lines=2),
            names - 6,
            chart_top + pitch * (place + 0.5),
            ha="right",
            va="center",
            fontsize=SMALL,
            linespacing=1.0,
        )

    totals: dict[str, int] = {}
    for name, fold in parts:
        # groups of several classes count once
        of_part = next(int(row["groups_of_set"]) for row in rows if (row["set"], row["fold"]) == (name, fold))
        totals[name] = totals.get(name, 0) + of_part
    statement = ", ".join(f"{counted(n, unit)} in {name}" for name, n in totals.items()) + "."
    statement = statement[0].upper() + statement[1:]
    canvas.save(chart, figure, statement)
    return statement


def _whole_ticks(highest: int) -> list[int]:
    """Two to four round whole numbers from 0 to at most `highest`."""
    step = 10 ** max(0, math.floor(math.log10(highest)))
    while highest / step < 2 and step > 1:
        step //= 2 if step % 2 == 0 else 5
    while highest / step > 3.5:
        step *= 2
    return list(range(0, highest + 1, int(step)))


def _class_style(index: int) -> dict[str, Any]:
    colour = canvas.CLASS_COLOURS[index % len(canvas.CLASS_COLOURS)]
    hatch = canvas.HATCHES[index // len(canvas.CLASS_COLOURS) % len(canvas.HATCHES)]
    return {"color": colour, "hatch": hatch, "edgecolor": canvas.PAPER}


_LEGEND_PITCH = 14.0


def _legend_places(names: Sequence[str]) -> list[tuple[str, float, float]]:
    places, left, top = [], 0.0, 0.0
    for name in names:
        text = canvas.wrap(name, WIDTH - 20, SMALL, lines=1)
        width = 12 + canvas.text_width(text, SMALL) + 12
        if left and left + width > WIDTH:
            left, top = 0.0, top + _LEGEND_PITCH
        places.append((text, left, top))
        left += width
    return places


def _legend_height(names: Sequence[str]) -> float:
    return _legend_places(names)[-1][2] + _LEGEND_PITCH


def _draw_legend(chart: Any, names: Sequence[str]) -> None:
    height = _legend_height(names)
    panel = canvas.axes(chart, 0, 0, WIDTH, height)
    panel.set_xlim(0, WIDTH)
    panel.set_ylim(height, 0)
    panel.set_axis_off()
    for index, (text, left, top) in enumerate(_legend_places(names)):
        middle = top + _LEGEND_PITCH / 2
        panel.barh(middle, 8, left=left, height=8, linewidth=0, **_class_style(index))
        canvas.label(panel, text, left + 12, middle, ha="left")


def draw_cost(*, cost: str | Path, figure: str | Path) -> str:
    """Draw each rule's time and peak memory.

    Parameters
    ----------
    cost : path
        What :func:`histotransfer.evaluation.costs.collect` wrote.
    figure : path
        SVG to write.
    """
    rows = store.read_table(cost)
    if not rows:
        statement = "No job left a benchmark."
        chart = canvas.new(30)
        canvas.write(chart, statement, 0, 8)
        canvas.save(chart, figure, statement)
        return statement
    names, gap, pitch, top = 118.0, 18.0, 26.0, 52.0
    width = (WIDTH - names - gap - 12) / 2
    chart = canvas.new(top + pitch * len(rows) + 22)
    seconds = [float(row["seconds_total"]) for row in rows]
    cpu = [float(row["cpu_seconds_total"] or 0) for row in rows]
    medians = [float(row["rss_mb_median"] or 0) for row in rows]
    peaks = [float(row["rss_mb_max"] or 0) for row in rows]

    unit, factor = (("h", 3600), ("min", 60), ("s", 1))[(max(seconds) < 7200) + (max(seconds) < 120)]
    _head(chart, f"All jobs, {unit}", "bar: wall time,\ndot: processor", names)
    panel = canvas.axes(chart, names, top, width, pitch * len(rows))
    for place, (wall, processor) in enumerate(zip(seconds, cpu, strict=True)):
        panel.barh(place, wall / factor, height=0.5, color=canvas.BLUE)
        panel.plot(processor / factor, place, marker="o", markersize=4, color=canvas.ORANGE, clip_on=False)
    panel.set_xlim(0, max([*seconds, *cpu, 1e-9]) / factor)

    big = max(peaks) >= 2048
    left = names + width + gap
    _head(chart, f"Memory, {'GiB' if big else 'MiB'}", "bar: median job,\nline: highest", left)
    memory = canvas.axes(chart, left, top, width, pitch * len(rows))
    for place, (median, peak) in enumerate(zip(medians, peaks, strict=True)):
        scale = 1024 if big else 1
        memory.barh(place, median / scale, height=0.5, color=canvas.GREEN)
        memory.plot([median / scale, peak / scale], [place, place], color=canvas.INK, linewidth=1.2)
    memory.set_xlim(0, max([*peaks, 1e-9]) / (1024 if big else 1))
    for one in (panel, memory):
        one.set_ylim(len(rows) - 0.5, -0.5)
        one.set_yticks([])
        one.spines["left"].set_visible(True)
        one.locator_params(axis="x", nbins=4)
    for place, row in enumerate(rows):
        middle = top + pitch * (place + 0.5)
        name = canvas.wrap(row["rule"], names - 10, lines=1)
        canvas.write(chart, name, names - 6, middle - 5.5, ha="right", va="center")
        words = counted(int(row["jobs"]), "job")
        style = {"ha": "right", "va": "center", "fontsize": SMALL - 1, "color": canvas.FAINT}
        canvas.write(chart, words, names - 6, middle + 6, **style)
    longest = max(rows, key=lambda row: float(row["seconds_total"]))
    largest = max(rows, key=lambda row: float(row["rss_mb_max"] or 0))
    share = float(longest["seconds_total"]) / (sum(seconds) or 1)
    statement = (
        f"{longest['rule']} takes {share:.0%} of the time of all jobs; "
        f"{largest['rule']} needs the most memory, {float(largest['rss_mb_max'] or 0):,.0f} MiB."
    )
    canvas.save(chart, figure, statement)
    return statement


def _head(chart: Any, title: str, key: str, left: float) -> None:
    canvas.write(chart, title, left, 2, fontsize=SMALL, weight="bold")
    canvas.write(chart, key, left, 15, fontsize=SMALL, color=canvas.FAINT)
