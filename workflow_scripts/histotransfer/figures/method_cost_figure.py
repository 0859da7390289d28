"""What each method costs, beside its score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histotransfer import canvas
from histotransfer.amounts import rough_duration
from histotransfer.canvas import SMALL, WIDTH
from histotransfer.evaluation import scoreboard
from histotransfer.evaluation.compared_tables import COST_COLUMNS, number, read

#: Height of the plot, and what is left beside and below it, in points.
_HEIGHT, _LEFT, _RIGHT, _BELOW, _TOP = 190.0, 40.0, 14.0, 52.0, 18.0
_ACROSS = WIDTH - _LEFT - _RIGHT


@dataclass(frozen=True)
class _Point:
    """A method: processor time behind it in seconds, and its score."""

    seconds: float
    score: float
    method: str
    untrained: bool

    @property
    def words(self) -> str:
        return f"{self.method}: {self.score:.3f}, {rough_duration(self.seconds)}"


def draw_method_costs(*, table: str | Path, figure: str | Path) -> str:
    """Draw every method's score against the processor time behind it, and name those that no cheaper method beats.

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
            points.append(_Point(seconds, score, row["method"], row.get("untrained") == "yes"))
    if not points:
        return canvas.draw_nothing(figure, "No method has both a score and a measured processor time.")
    points.sort(key=lambda point: (point.seconds, -point.score, point.method))
    front = _front(points)
    lines = [canvas.wrap(point.words, WIDTH - 26, SMALL, lines=2) for point in front]
    metrics = {scoreboard.metric_name(row.get("metric") or "score") for row in rows}
    word = metrics.pop() if len(metrics) == 1 else "score"
    chart = canvas.new(_TOP + _HEIGHT + _BELOW + sum(map(_line_height, lines)))
    canvas.write(chart, f"{word}, mean over tasks", 4, 1, fontsize=SMALL, color=canvas.FAINT)
    _plot(chart, points, front)
    canvas.write(chart, "processor time", WIDTH - _RIGHT, _TOP + _HEIGHT + 18, ha="right", fontsize=SMALL)
    _list(chart, lines)
    statement = _statement(front)
    canvas.save(chart, figure, statement)
    return statement


def _front(points: Sequence[_Point]) -> list[_Point]:
    """Return the points that no cheaper one beats, cheapest first, of points in that order."""
    front: list[_Point] = []
    for point in points:
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def _plot(chart: Any, points: Sequence[_Point], front: Sequence[_Point]) -> None:
    panel = canvas.axes(chart, _LEFT, _TOP, _ACROSS, _HEIGHT)
    panel.set_xscale("log")
    for point in points:
        colour = canvas.PAPER if point.untrained else canvas.SKY
        style = {"markerfacecolor": colour, "markeredgecolor": canvas.BLUE, "markeredgewidth": 0.8}
        panel.plot([point.seconds], [point.score], marker="o", markersize=4.5, zorder=3, **style)
    style = {"color": canvas.ORANGE, "linewidth": 1.1, "zorder": 2, "drawstyle": "steps-post"}
    panel.plot([point.seconds for point in front], [point.score for point in front], **style)
    scores = [point.score for point in points]
    margin = max((max(scores) - min(scores)) * 0.09, 0.005)
    lowest, highest = min(scores) - margin, max(scores) + margin * 1.6
    fastest, slowest = points[0].seconds / 1.35, points[-1].seconds * 1.35
    panel.set_xlim(fastest, slowest)
    panel.minorticks_off()
    ticks = _time_ticks(fastest, slowest)
    panel.set_xticks([seconds for seconds, _ in ticks], [word for _, word in ticks])
    canvas.scale_values(panel, lowest, highest, most=5)
    taken: list[tuple[float, float]] = []
    for index, point in enumerate(front, start=1):
        # a number stands above its dot, and no two numbers stand closer than one is wide
        across = math.log(point.seconds / fastest) / math.log(slowest / fastest) * _ACROSS
        up = (point.score - lowest) / (highest - lowest) * _HEIGHT
        if all(abs(across - x) > 13 or abs(up - y) > 11 for x, y in taken):
            taken.append((across, up))
            style = {"ha": "right", "va": "bottom", "fontsize": SMALL, "weight": "bold"}
            canvas.write(chart, str(index), _LEFT + across - 4, _TOP + _HEIGHT - up - 4, **style)


def _list(chart: Any, lines: Sequence[str]) -> None:
    """Write the numbered methods below the plot."""
    place = _TOP + _HEIGHT + _BELOW
    canvas.write(chart, "nothing cheaper scores as high:", 4, place - 15, fontsize=SMALL, color=canvas.FAINT)
    for index, text in enumerate(lines, start=1):
        canvas.write(chart, f"{index}", 16, place, ha="right", fontsize=SMALL, weight="bold")
        canvas.write(chart, text, 24, place, fontsize=SMALL)
        place += _line_height(text)


def _line_height(text: str) -> float:
    return 11.0 * (text.count("\n") + 1) + 5


def _statement(front: Sequence[_Point]) -> str:
    best = front[-1]
    time = rough_duration(best.seconds)
    statement = f"The highest score is {best.score:.3f} by {best.method}, for {time} of processor time"
    near = next(point for point in front if point.score >= best.score - 0.01)
    if near is not best:
        statement += f"; {near.method} comes within 0.01 of it for {rough_duration(near.seconds)}"
    return statement + ("; untrained network." if best.untrained else ".")


def _time_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return times that a clock has, between `low` and `high` seconds, at most five of them."""
    known = [(0.01, "0.01 s"), (0.1, "0.1 s"), (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h")]
    known += [(36_000, "10 h"), (360_000, "100 h"), (3_600_000, "1,000 h")]
    inside = [tick for tick in known if low <= tick[0] <= high]
    if len(inside) < 2:
        between = (low * (high / low) ** part for part in (0.15, 0.85))
        return [(seconds, rough_duration(seconds)) for seconds in between]
    return inside[:: math.ceil(len(inside) / 5)]
