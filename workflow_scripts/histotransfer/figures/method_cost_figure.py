"""What each method costs, beside its score."""

from __future__ import annotations

import math
from pathlib import Path

from histotransfer import canvas
from histotransfer.canvas import SMALL, WIDTH
from histotransfer.evaluation import scoreboard
from histotransfer.evaluation.compared_tables import COST_COLUMNS, number, read


def draw_method_costs(*, table: str | Path, figure: str | Path) -> str:
    """Draw every method's score against the processor time behind it, and name those that nothing cheaper beats.

    Parameters
    ----------
    table : path
        What :func:`histotransfer.evaluation.costs.of_methods` wrote; seconds are of processor time.
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
