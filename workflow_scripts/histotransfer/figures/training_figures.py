"""Charts of trained networks: learning curves by iteration and by epoch, and Grad-CAM beside the tiles.

Each chart is drawn from one CSV table alone and returns the sentence that it carries; see
:mod:`histotransfer.canvas` for their looks. The classes of a study keep their words, networks their colours.

References
----------
Bayramoglu N, Heikkilä J (2016). Transfer learning for cell nuclei classification in histopathology images. ECCV
Workshops: figure 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histotransfer import canvas
from histotransfer.canvas import SMALL, TEXT, WIDTH
from histotransfer.evaluation import learning_curves
from histotransfer.evaluation.compared_tables import number, read
from histotransfer.problems import counted, listing

#: Colours of networks that begin with trained weights, and of those that begin from scratch, which are dashed too.
TRANSFER_COLOURS = (canvas.BLUE, canvas.GREEN, canvas.PURPLE, canvas.SKY)
SCRATCH_COLOURS = (canvas.VERMILION, canvas.ORANGE, canvas.YELLOW)

#: Sets of tiles in the order in which a curve by iteration prefers them, in words.
SETS = {"test": "test tiles", "validation": "validation tiles", "train": "training tiles"}

#: Ends of epochs that are marked on a curve, at most.
MARKED_EPOCHS = 12

_HEIGHT, _LEFT, _RIGHT = 190.0, 40.0, 14.0


@dataclass(frozen=True)
class _Curve:
    """One network and seed: its points in order, each a step, an epoch and an accuracy."""

    seed: str
    points: list[tuple[float, float, float]]


def draw_iterations(*, table: str | Path, figure: str | Path, dataset: str, task: str, architecture: str) -> str:
    """Draw accuracy against iteration, transfer and full training of one architecture in one plot.

    Parameters
    ----------
    table : path
        ``steps`` of :func:`histotransfer.evaluation.learning_curves.tabulate`.
    figure : path
        SVG to write: each seed a thin line, their mean a thick one with a dot at the end of each epoch. Full training,
        from scratch, is dashed. Of the test tiles, else of the validation tiles, else of the training tiles.
    dataset, task, architecture : str
        Which networks.

    Raises
    ------
    ValueError
        If a column is missing or a number is none.
    """
    every = read(table, learning_curves.STEP_COLUMNS)
    rows = [row for row in every if (row["dataset"], row["task"], row["architecture"]) == (dataset, task, architecture)]
    part = next((name for name in SETS if any(row["set"] == name for row in rows)), None)
    if part is None:
        return canvas.draw_nothing(figure, f"No learning curve of {architecture} was asked for.")
    rows = [row for row in rows if row["set"] == part]
    looks = _looks(rows)
    curves = {name: _curves([row for row in rows if row["network"] == name], table) for name in looks}
    means = {name: _mean(of_network) for name, of_network in curves.items()}
    last_epoch = max(point[1] for of_network in curves.values() for one in of_network for point in one.points)
    every_epochs = max(1, math.ceil(last_epoch / MARKED_EPOCHS - 1e-9))
    statement = _iterations_statement(architecture, part, means, looks)

    seeds = max(len(of_network) for of_network in curves.values())
    legend = [
        (look.colour, f"{name}: {look.words}", "dashed" if look.scratch else "plain") for name, look in looks.items()
    ]
    ends = "end of each epoch" if every_epochs == 1 else f"end of every {every_epochs} epochs"
    legend.append((canvas.INK, ends, "ring"))
    heading = canvas.wrap(f"{architecture}: accuracy of {SETS[part]}", WIDTH - 8, TEXT, lines=2, bold=True)
    top = 12.5 * (heading.count("\n") + 1) + 4
    key = canvas.legend_height(legend)
    chart = canvas.new(top + key + 8 + _HEIGHT + 34)
    canvas.write(chart, heading, 4, 0, weight="bold")
    canvas.draw_legend(chart, legend, top)
    panel = canvas.axes(chart, _LEFT, top + key + 8, WIDTH - _LEFT - _RIGHT, _HEIGHT)
    for name, look in looks.items():
        line = {"color": look.colour, "linestyle": canvas.DASHES if look.scratch else "-"}
        for one in curves[name] if seeds > 1 else ():
            style = {"linewidth": 0.7, "alpha": 0.45, "zorder": 2, "color": look.colour}
            panel.plot([step for step, _, _ in one.points], [value for _, _, value in one.points], **style)
        points = means[name]
        panel.plot([step for step, _, _ in points], [value for _, _, value in points], linewidth=1.6, zorder=4, **line)
        ends_of = [point for point in points if _ends_epoch(point[1], every_epochs)]
        style = {"markerfacecolor": canvas.PAPER, "markeredgecolor": look.colour, "markeredgewidth": 1.0}
        panel.plot(
            *([point[axis] for point in ends_of] for axis in (0, 2)),
            "o",
            markersize=3.6,
            zorder=5,
            clip_on=False,
            **style,
        )
    values = [point[2] for of_network in curves.values() for one in of_network for point in one.points]
    _scale_values(panel, values)
    _scale_across(panel, max(point[0] for of_network in curves.values() for one in of_network for point in one.points))
    words = "iteration" if seeds == 1 else f"iteration (thin lines: {seeds} seeds, thick: their mean)"
    canvas.write(chart, words, WIDTH - _RIGHT, top + key + 8 + _HEIGHT + 18, ha="right", fontsize=SMALL)
    canvas.save(chart, figure, statement)
    return statement


@dataclass(frozen=True)
class _Look:
    """How a network is drawn, and what it is in words."""

    colour: str
    scratch: bool
    words: str


def _looks(rows: Iterable[Mapping[str, str]]) -> dict[str, _Look]:
    """Return the looks of networks in the order of their rows."""
    found: dict[str, _Look] = {}
    counts = {True: 0, False: 0}
    for row in rows:
        if row["network"] in found:
            continue
        scratch = row["transfer"] != "yes"
        colours = SCRATCH_COLOURS if scratch else TRANSFER_COLOURS
        colour = colours[counts[scratch] % len(colours)]
        counts[scratch] += 1
        found[row["network"]] = _Look(colour, scratch, "full training" if scratch else "transfer")
    return found


def _curves(rows: Iterable[Mapping[str, str]], path: str | Path) -> list[_Curve]:
    found: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        step, epoch, value = (number(row, name, path) for name in ("step", "epoch", "accuracy"))
        if step is not None and epoch is not None and value is not None:
            found.setdefault(row["seed"], []).append((step, epoch, value))
    return [_Curve(seed, sorted(points)) for seed, points in found.items()]


def _mean(curves: Sequence[_Curve]) -> list[tuple[float, float, float]]:
    """Return the mean of curves point by point, as far as all of them go.

    Seeds differ in their training tiles and so in the steps of an epoch: the n-th points of all are of one share of
    their epochs, and their steps are averaged with them.
    """
    shortest = min((len(one.points) for one in curves), default=0)
    together = ([one.points[place] for one in curves] for place in range(shortest))
    return [tuple(sum(axis) / len(points) for axis in zip(*points, strict=True)) for points in together]


def _ends_epoch(epoch: float, every: int) -> bool:
    whole = round(epoch)
    return whole > 0 and whole % every == 0 and abs(epoch - whole) < 1e-6


def _iterations_statement(
    architecture: str, part: str, means: Mapping[str, Sequence[tuple[float, float, float]]], looks: Mapping[str, _Look]
) -> str:
    def at_first(points: Sequence[tuple[float, float, float]]) -> float | None:
        return next((value for _, epoch, value in points if _ends_epoch(epoch, 1)), None)

    said = []
    for scratch, word in ((False, "transfer"), (True, "full training")):
        known = [
            (name, first, points[-1][2])
            for name, points in means.items()
            if looks[name].scratch == scratch and (first := at_first(points)) is not None
        ]
        if known:
            name, first, last = max(known, key=lambda one: one[2])
            several = sum(look.scratch == scratch for look in looks.values())
            which = f" (highest of {several} there: {name})" if several > 1 else ""
            said.append(f"{word} {first:.3f} after the first epoch and {last:.3f} at the end{which}")
    if not said:
        return f"Accuracy of {architecture} on {SETS[part]} by iteration; no whole epoch has a point."
    return f"Accuracy of {architecture} on {SETS[part]}: {'; '.join(said)}."


#: Curves by epoch: column of training, of validation.
_BY_EPOCH = (("loss", "loss", "validation_loss"), ("accuracy", "accuracy", "validation_accuracy"))


def draw_epochs(*, table: str | Path, figure: str | Path, dataset: str, task: str, network: str) -> str:
    """Draw loss and accuracy of one network by epoch, on training and validation tiles, with the epoch kept.

    Parameters
    ----------
    table : path
        ``epochs`` of :func:`histotransfer.evaluation.learning_curves.tabulate`.
    figure : path
        SVG to write: a panel of losses and one of accuracies, seeds as thin lines and their mean as a thick one. Rings
        mark the epoch that was kept; a line stands where a phase of training ends.
    dataset, task, network : str
        Which network.

    Raises
    ------
    ValueError
        If a column is missing or a number is none, or the table has no such network.
    """
    every = read(table, learning_curves.EPOCH_COLUMNS)
    rows = [row for row in every if (row["dataset"], row["task"], row["network"]) == (dataset, task, network)]
    if not rows:
        found = listing(dict.fromkeys(f"{row['dataset']}/{row['task']}/{row['network']}" for row in every), 8)
        raise ValueError(f"{table}: must have epochs of {dataset}/{task}/{network}; found those of {found}")
    by_seed: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(row)
    validated = any(row["validation_loss"] for row in rows)
    kept = {seed: next((row for row in epochs if row["kept"] == "yes"), None) for seed, epochs in by_seed.items()}
    ends = _phase_ends(rows, table)
    statement = _epochs_statement(network, by_seed, kept, validated, table)

    legend = [(canvas.BLUE, "training tiles, while they are learnt", "plain")]
    if validated:
        legend.append((canvas.ORANGE, "validation tiles", "plain"))
    words = "the epoch kept" if len(by_seed) == 1 else "the epoch kept, of each seed"
    legend.append((canvas.INK, words, "ring"))
    if ends:
        legend.append((canvas.FAINT, "a phase ends", "dashed"))
    heading = canvas.wrap(network, WIDTH - 8, TEXT, lines=2, bold=True)
    top = 12.5 * (heading.count("\n") + 1) + 4
    key, height, gap = canvas.legend_height(legend), 118.0, 31.0
    chart = canvas.new(top + key + 2 * (height + gap) + 24)
    canvas.write(chart, heading, 4, 0, weight="bold")
    canvas.draw_legend(chart, legend, top)
    last = max(int(row["epoch"]) for row in rows)
    for place, (word, *columns) in enumerate(_BY_EPOCH):
        down = top + key + place * (height + gap) + 16
        canvas.write(chart, word, 4, down - 15, fontsize=SMALL, color=canvas.FAINT)
        panel = canvas.axes(chart, _LEFT, down, WIDTH - _LEFT - _RIGHT, height)
        for end in ends:
            panel.axvline(end, color=canvas.FAINT, linewidth=0.9, linestyle=canvas.DASHES, zorder=1)
        values = []
        for column, colour in zip(columns, (canvas.BLUE, canvas.ORANGE), strict=True):
            lines = {
                seed: [
                    (int(row["epoch"]), value) for row in epochs if (value := number(row, column, table)) is not None
                ]
                for seed, epochs in by_seed.items()
            }
            values += [value for points in lines.values() for _, value in points]
            _draw_lines(panel, lines, colour)
        column = columns[1] if validated else columns[0]
        for row in kept.values():
            value = None if row is None else number(row, column, table)
            if value is not None:
                style = {"markerfacecolor": "none", "markeredgecolor": canvas.INK, "markeredgewidth": 1.1}
                panel.plot([int(row["epoch"])], [value], "o", markersize=6.4, zorder=6, clip_on=False, **style)
        _scale_values(panel, values or [0.0, 1.0])
        panel.set_xlim(0.5 if last > 1 else 0.4, last + 0.5)
        ticks = [tick for tick in canvas.ticks(1, last, 9) if tick == round(tick) and tick >= 1]
        ticks = ticks if 1 in ticks or last < 3 else [1, *ticks]
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.tick_params(axis="x", labelsize=SMALL - 0.6)
    words = "epoch" if len(by_seed) == 1 else f"epoch (thin lines: {len(by_seed)} seeds, thick: their mean)"
    canvas.write(chart, words, WIDTH - _RIGHT, top + key + 2 * (height + gap) + 8, ha="right", fontsize=SMALL)
    canvas.save(chart, figure, statement)
    return statement


def _draw_lines(panel: Any, lines: Mapping[str, Sequence[tuple[int, float]]], colour: str) -> None:
    """Draw a thin line a seed and a thick one of their mean, as far as all of them go."""
    known = [points for points in lines.values() if points]
    for points in known if len(known) > 1 else ():
        panel.plot(*zip(*points, strict=True), color=colour, linewidth=0.7, alpha=0.45, zorder=2)
    shared = set.intersection(*({epoch for epoch, _ in points} for points in known)) if known else set()
    mean = [(epoch, sum(dict(points)[epoch] for points in known) / len(known)) for epoch in sorted(shared)]
    if mean:
        style = {"marker": "o", "markersize": 3} if len(mean) == 1 else {}
        panel.plot(*zip(*mean, strict=True), color=colour, linewidth=1.6, zorder=4, **style)


def _phase_ends(rows: Iterable[Mapping[str, str]], path: str | Path) -> list[float]:
    """Return where phases end, half an epoch after their last; those of the seed that trained longest."""
    last: dict[str, int] = {}
    for row in rows:
        last[row["phase"]] = max(last.get(row["phase"], 0), int(number(row, "epoch", path) or 0))
    return [epoch + 0.5 for epoch in sorted(last.values())[:-1]]


def _epochs_statement(
    network: str,
    by_seed: Mapping[str, Sequence[Mapping[str, str]]],
    kept: Mapping[str, Mapping[str, str] | None],
    validated: bool,
    path: str | Path,
) -> str:
    epochs = sorted({len(rows) for rows in by_seed.values()})
    ran = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    chosen = sorted({int(row["epoch"]) for row in kept.values() if row is not None})
    which = f"{chosen[0]}" if len(chosen) == 1 else f"{chosen[0]} to {chosen[-1]}" if chosen else "none"
    column, tiles = ("validation_accuracy", "validation") if validated else ("accuracy", "training")
    values = [value for row in kept.values() if row is not None and (value := number(row, column, path)) is not None]
    mean = f", with a mean accuracy of {sum(values) / len(values):.3f} on {tiles} tiles" if len(values) > 1 else ""
    if len(values) == 1:
        mean = f", with an accuracy of {values[0]:.3f} on {tiles} tiles"
    epoch = f"epoch {which} of {ran}" if len(chosen) < 2 else f"epochs {which} of {ran}"
    over = f" ({counted(len(by_seed), 'seed')})" if len(by_seed) > 1 else ""
    return f"{network}: {epoch} kept{over}{mean}."


def _scale_values(panel: Any, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    margin = max((high - low) * 0.06, 0.005)
    canvas.scale_values(panel, low - margin, high + margin, most=7)


def _scale_across(panel: Any, last: float) -> None:
    last = max(last, 1)
    panel.set_xlim(-0.015 * last, last * 1.015)
    ticks = [tick for tick in canvas.ticks(0, last, 6) if tick == round(tick)]
    panel.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    panel.tick_params(axis="x", labelsize=SMALL - 0.6)
