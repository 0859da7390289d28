"""What a training says while it runs: its lines on the terminal and in the log, and the times in them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

log = logging.getLogger("histotransfer")

#: Seconds between two lines of progress within an epoch.
PROGRESS_S = 30.0


class Reminder:
    """Whether another line of progress is due: :data:`PROGRESS_S` seconds after the last one, or after the start."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Return True once every :data:`PROGRESS_S` seconds, after which the next line has its own time."""
        now = time.monotonic()
        due = now - self._last >= PROGRESS_S
        if due:
            self._last = now
        return due


class Stopwatch:
    """Seconds since it was made; it can be paused."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._paused_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start, with the pauses."""
        return time.monotonic() - self._started

    @property
    def running_s(self) -> float:
        """Seconds since the start, without the pauses."""
        return self.elapsed_s - self._paused_s

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause while the block runs."""
        begun = time.monotonic()
        yield
        self._paused_s += time.monotonic() - begun


class TrainingLog:
    """The lines about one training.

    Parameters
    ----------
    name : str
        The network's.
    unit : str
        What a row is: ``tiles`` or ``maps``.
    batch : int
        Rows of a step.
    steps_per_epoch : int
    """

    def __init__(self, name: str, *, unit: str, batch: int, steps_per_epoch: int) -> None:
        self._name, self._unit, self._batch, self._steps_per_epoch = name, unit, batch, steps_per_epoch
        self._pace = "images" if unit == "tiles" else unit

    def begins(self, n_train: int, n_validation: int) -> None:
        """Say how many rows there are."""
        log.info(
            "%s: %d %s to train on, %d for validation, %d steps an epoch",
            *(self._name, n_train, self._unit, n_validation, self._steps_per_epoch),
        )

    def goes_on(self, epoch: int) -> None:
        """Say after which epoch an interrupted training goes on."""
        log.info("%s: goes on after epoch %d, which was the last to be finished", self._name, epoch)

    def phase_begins(
        self, number: int, n_phases: int, *, train: str | int, on: str, n_weights: int, factors: Mapping[str, float]
    ) -> None:
        """Say what phase `number`, from 1, trains: how many weights, and the factor of the rate in each group."""
        log.info(
            "%s, phase %d of %d: %s on %s, %s weights in %s",
            *(self._name, number, n_phases, train, on, f"{n_weights:,}", groups_in_words(factors)),
        )

    def phase_stops_early(self, epochs: int) -> None:
        """Say that no epoch was better for so many epochs."""
        log.info("%s: %d epochs without a better one, so the phase ends", self._name, epochs)

    def step(self, epoch: int, done: int, *, seconds_per_step: float, steps_left: int) -> None:
        """Say how far an epoch is."""
        log.info(
            "%s, epoch %d: step %d of %d, %.1f %s/s, %s left",
            *(self._name, epoch, done, self._steps_per_epoch, self._batch / seconds_per_step, self._pace),
            duration(seconds_per_step * steps_left),
        )

    def epoch_ends(self, row: Mapping[str, Any], *, rows_per_s: float, seconds_per_step: float, left: int) -> None:
        """Say what an epoch came to: its row of the history; `left` is the number of steps that are left."""
        scores = f"loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}"
        if row["validation_loss"] is not None:
            scores += f", validation loss {row['validation_loss']:.4f}"
            scores += f", validation accuracy {row['validation_accuracy']:.4f}"
        log.info(
            "%s, epoch %d of %d: %s, rate %.3g, %.1f %s/s, %s left",
            *(self._name, row["epoch"], row["epoch"] + left // self._steps_per_epoch, scores, row["rate"]),
            *(rows_per_s, self._pace, duration(seconds_per_step * left)),
        )

    def ends(self, epoch: int, reason: str) -> None:
        """Say which epoch's weights are kept, and why."""
        log.info("%s: epoch %d is kept (%s)", self._name, epoch, reason)


def groups_in_words(factors: Mapping[str, float]) -> str:
    """Return groups by depth with their factors, neighbours of one factor together: ``stem to out (rate x 1)``."""
    runs: list[tuple[float, list[str]]] = []
    for group, factor in factors.items():
        if not runs or runs[-1][0] != factor:
            runs.append((factor, []))
        runs[-1][1].append(group)
    return ", ".join(
        f"{groups[0]}{f' to {groups[-1]}' if len(groups) > 1 else ''} (rate x {factor:g})" for factor, groups in runs
    )


def duration(seconds: float) -> str:
    """Return a time in words, rounded to seconds.

    Examples
    --------
    >>> duration(3.4), duration(75), duration(7265)
    ('3 s', '1 min 15 s', '2 h 01 min')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
