"""A learner: what is trained, how tiles or maps come to it, and what it predicts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer.backends import compiled, protocols
from histotransfer.training import progress

log = logging.getLogger("histotransfer")


@dataclass(frozen=True)
class Learner:
    """What is trained, and how its tiles come to it.

    What is learnt from is a row: a tile, or a map of many tiles (see
    :mod:`histotransfer.segmentation.feature_maps`), for which the last five attributes are.

    Attributes
    ----------
    trained : keras.Model
        From what `prepare` returns to the logits, and to those of auxiliary outputs. Its variables are what a
        checkpoint keeps.
    evaluated : keras.Model or None
        From tiles as they are stored, or features, to the logits; of the same layers. None where there is `evaluate`.
    groups : dict of str to list of keras.Layer
        By depth, the head last.
    read : callable
        ``read(rows, batch, generator)``: batches of those rows in their order, as they are stored. A generator varies
        what is read in training, None does not. In training a batch may be a pair of it and its labels, where what
        varies a map moves its labels too (int32, -1 for no label; None where the step has them itself).
    draw : callable
        ``draw(n, generator)``: the random numbers that vary a batch of n rows, by name.
    prepare : callable
        ``prepare(inputs, drawn)``: from a batch as it is stored to what `trained` takes, with ``keras.ops``.
    unit : str
        What a row is: ``tiles`` or ``maps``.
    batch : int, optional
        Rows of a step; the recipe's ``batch`` by default.
    compile_step : callable, optional
        ``compile_step(weights, groups, slots, scale, update, rescaled)``, called once a phase with keywords: a
        :class:`histotransfer.backends.protocols.TrainStep` in place of that of
        :func:`histotransfer.backends.compiled.compiled_train_step`; `groups` names the group of each weight. Its tally
        is over labelled tiles, however many of them a row has.
    evaluate : callable, optional
        ``evaluate(rows)``: logits, float64 (k, n_classes), and true classes, int (k,), of the k labelled tiles of some
        rows; by default those of `evaluated`, one tile a row.
    epoch_ended : callable, optional
        ``epoch_ended(epoch)``, called at the end of each epoch, before its checkpoint is written: rows of JSON types
        that come back as :attr:`histotransfer.training.epochs.Outcome.notes`.
    """

    trained: Any
    evaluated: Any
    groups: Mapping[str, Sequence[Any]]
    read: Callable[[np.ndarray, int, np.random.Generator | None], Generator[Any, None, None]]
    draw: Callable[[int, np.random.Generator], dict[str, np.ndarray]] = lambda n, generator: {}
    prepare: Callable[[Any, Mapping[str, Any]], Any] = lambda inputs, drawn: inputs
    unit: str = "tiles"
    batch: int | None = None
    compile_step: Callable[..., protocols.TrainStep] | None = None
    evaluate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None
    epoch_ended: Callable[[int], list[dict[str, Any]]] | None = None


def predict(learner: Learner, rows: np.ndarray, batch: int) -> np.ndarray:
    """Return the logits of some rows by the learner's present weights, float64 (n, n_classes)."""
    return forward_rows(learner, compiled.compiled_forward(learner.evaluated, 0, batch=batch), rows, batch)


def forward_rows(learner: Learner, forward: protocols.Forward, rows: np.ndarray, batch: int) -> np.ndarray:
    """Return the logits of some rows by a compiled forward pass of ``learner.evaluated``, float64 (n, n_classes)."""
    logits = []
    reminder, watch = progress.Reminder(), progress.Stopwatch()
    with closing(learner.read(rows, batch, None)) as blocks:
        for number, block in enumerate(blocks, start=1):
            logits.append(forward(block)[0])
            if reminder.is_due():
                left_s = watch.elapsed_s / number * (len(rows) / batch - number)
                done, left = number * batch, progress.duration(max(left_s, 0))
                log.info("%d of %d tiles predicted, %s left", done, len(rows), left)
    width = learner.evaluated.outputs[0].shape[-1]
    return np.concatenate(logits).astype(np.float64) if logits else np.empty((0, width))
