"""Charts with one row a method: names, blocks, panels and scales that several figures share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from histotransfer import canvas
from histotransfer.canvas import SMALL, WIDTH

GREY = "#8C8594"

#: Classifier kinds as the paper colours them, with the word of the legend; a kind that is not here is purple.
KIND_LOOKS = {
    "libsvm": (canvas.ORANGE, "SVM"),
    "liblinear": (canvas.ORANGE, "SVM"),
    "extratrees": (canvas.GREEN, "extremely randomised trees"),
    "perceptron": (canvas.VERMILION, "perceptron"),
    "softmax": (canvas.BLUE, "a trained network's own output"),
    "leaf_frequencies": (GREY, "baseline: leaf frequencies"),
    "unet": (canvas.SKY, "U-Net on the slide's map"),
    "end_to_end": (canvas.YELLOW, "end to end"),
}


def percent(share: float) -> str:
    """Return a share in percent with two digits.

    Examples
    --------
    >>> percent(0.271), percent(0.0271), percent(0.00271)
    ('27 %', '2.7 %', '0.27 %')
    """
    value = 100 * share
    digits = 0 if value >= 9.95 or value == 0 else 1 if value >= 0.995 else 2
    return f"{value:.{digits}f} %"


def percent_span(shares: Sequence[float]) -> str:
    """Return the least and the greatest of shares in percent, once if they are written alike."""
    return " to ".join(dict.fromkeys(percent(value) for value in (min(shares), max(shares))))


class Names:
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


class Blocks:
    """Panels side by side that share the names on their left; blocks of them stand one below the other."""

    def __init__(
        self,
        tasks: Sequence[str],
        titled: Callable[[str], tuple[str, str]],
        names: Names,
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
                    panel = rows_panel(chart, self._names, top + head, left, self.width)
                else:
                    panel = _bare_panel(chart, self._names, top + head, left, self.width)
                bold, about = self._titles[task]
                canvas.write(chart, bold, left, top + 4, fontsize=SMALL, weight="bold")
                style = {"fontsize": SMALL - 1, "color": canvas.FAINT}
                canvas.write(chart, about, left, top + 4 + 11.5 * (bold.count("\n") + 1), **style)
                yield task, panel
            top += head + sum(self._names.heights) + 12


def rows_panel(chart: Any, names: Names, top: float, left: float, width: float) -> Any:
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


def _bare_panel(chart: Any, names: Names, top: float, left: float, width: float) -> Any:
    panel = canvas.axes(chart, left, top, width, sum(names.heights))
    panel.set_ylim(sum(names.heights), 0)
    panel.set_yticks([])
    panel.tick_params(labeltop=True, top=True)
    panel.spines["top"].set_visible(True)
    panel.grid(axis="x", color=canvas.RULE, linewidth=0.6)
    panel.set_axisbelow(True)
    return panel


def in_widths(panel: Any) -> dict[str, Any]:
    """Return the style of a text whose x is given in widths of the panel, and whose y is a value of its axis."""
    return {"transform": panel.get_yaxis_transform()}


def fit_axis(panel: Any, ends: Sequence[float], width: float, *, signed: bool = False) -> None:
    """Set the ends of a panel's axis across around some values, and as many ticks as their labels leave room for.

    Parameters
    ----------
    panel : Axes
    ends : sequence of float
        Values that must lie on it.
    width : float
        Of the panel, in points.
    signed : bool
        Whether ticks above zero have a plus.
    """
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
