"""Epochs of training: the loop that heads on features, whole networks and networks on maps of tiles share.

The device is kept busy: tiles are read in a thread of their own, and nothing is read back but a few numbers every
:data:`STEPS_BETWEEN_READINGS` steps. What chance decides is drawn by what it is for, an epoch and a step, so a training
that goes on after a kill makes the very steps that it would have made.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from histotransfer import metrics
from histotransfer.backends import compiled, process, protocols
from histotransfer.training import optimisation
from histotransfer.training.checkpoints import Checkpoint, State

log = logging.getLogger("histotransfer")


#: Seconds between two lines of progress within an epoch.
PROGRESS_S = 30.0
#: After so many steps the loss is looked at; a number, since sums in float32 depend on where they are read.
STEPS_BETWEEN_READINGS = 64
#: Columns of ``history.tsv``: one row an epoch.
HISTORY = (
    "phase",
    "on",
    "train",
    "epoch",
    "step",
    "rate",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
    "validation_balanced_accuracy",
    "kept",
)
#: Columns of ``curve.tsv``: one row a point and set.
CURVE = ("step", "epoch", "set", "tiles", "loss", "accuracy")


@dataclass(frozen=True)
class Learner:
    """What is trained, and how its tiles come to it.

    What is learnt from is a row: a tile, or a map of many tiles (see :mod:`feature_maps`), for which the last five
    attributes are.

    Attributes
    ----------
    trained : keras.Model
        From what `prepare` gives to the logits, and to those of auxiliary outputs. Its variables are what a checkpoint
        keeps.
    evaluated : keras.Model
        From tiles as they are stored, or features, to the logits; of the same layers. Not used where there is
        `evaluate`.
    groups : dict of str to list of keras.Layer
        By depth, the head last.
    read : callable
        ``read(rows, batch, generator)``: batches of those rows in their order, as they are stored; a generator varies
        what is read in training, None does not. In training a batch may be a pair of it and its labels, where what
        varies a map moves its labels too (int32, -1 for no label; None where the step has them itself).
    draw : callable
        ``draw(n, generator)``: what chance says about a batch of n rows.
    prepare : callable
        ``prepare(inputs, drawn)``: from a batch as it is stored to what `trained` takes, with ``keras.ops``.
    unit : str
        What a row is: ``tiles`` or ``maps``.
    batch : int, optional
        Rows of a step; the recipe's ``batch`` by default.
    compile_step : callable, optional
        ``compile_step(weights, groups, slots, scale, update, rescaled)``, called once a phase with keywords: a
        :class:`backends.TrainStep` in place of that of :func:`backends.compiled_train_step`; `groups` names the group
        of each weight. Its tally is over labelled tiles, however many of them a row has.
    evaluate : callable, optional
        ``evaluate(rows)``: logits, float64 (k, n_classes), and true classes, int (k,), of the k labelled tiles of some
        rows; by default those of `evaluated`, one tile a row.
    epoch_ended : callable, optional
        ``epoch_ended(epoch)``, called at the end of each epoch, before its checkpoint is written: rows of JSON types
        that come back as :attr:`Outcome.notes`.
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


@dataclass
class Outcome:
    """What a training came to; the learner has the kept weights.

    Attributes
    ----------
    history, curve : list of dict
        Rows of :data:`HISTORY` and :data:`CURVE`.
    kept_epoch : int
        Counted over all phases of the recipe, from 1.
    kept_by : str
        ``validation loss`` or the like, or ``last epoch``.
    notes : list of dict
        What :attr:`Learner.epoch_ended` gave, over all epochs.
    """

    history: list[dict[str, Any]]
    curve: list[dict[str, Any]]
    kept_epoch: int
    kept_by: str
    notes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Standing:
    """Where a training stands between two epochs; all of it but arrays is what a checkpoint calls progress."""

    phase: int = 0
    epoch_of_phase: int = 0
    epoch: int = 0
    step_of_phase: int = 0
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float | None = None
    phase_best_epoch: int = 0
    phase_best_value: float | None = None
    notes: list[dict[str, Any]] = field(default_factory=list)


def softmax_cross_entropy(auxiliary: float) -> Callable[[list[Any], Any], tuple[Any, Any, Any]]:
    """Return the loss of a step: the mean over tiles of ``-log p(true class)``, from logits.

    Parameters
    ----------
    auxiliary : float
        Weight of the loss of each further output. ASSUME 0.3 where a recipe names GoogLeNet's (Szegedy et al. 2015,
        "Going deeper with convolutions", section 5).

    Returns
    -------
    callable
        See :func:`backends.compiled_train_step`.
    """
    from keras import ops

    def cross_entropy(logits: Any, labels: Any) -> Any:
        logits = ops.cast(logits, "float32")
        own = ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1)[:, 0]
        return ops.mean(ops.logsumexp(logits, axis=-1) - own)

    def loss(outputs: list[Any], labels: Any) -> tuple[Any, Any, Any]:
        first, *others = outputs
        told = cross_entropy(first, labels)
        objective = told
        for other in others:
            objective = objective + auxiliary * cross_entropy(other, labels)
        correct = ops.sum(ops.cast(ops.equal(ops.cast(ops.argmax(first, axis=-1), labels.dtype), labels), "float32"))
        return objective, told, correct

    return loss


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the softmax of logits, float64 (n, n_classes)."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def labels_of(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the labels of the labelled tiles of some rows, one row after the other: int (k,).

    Parameters
    ----------
    labels : ndarray, shape (n,)
        Of int, each row's own; or of arrays (dtype object), those of each map's tiles, -1 for a tile without a label.
    rows : ndarray of int
    """
    if labels.dtype != object:
        return labels[rows]
    own = np.concatenate([np.empty(0, np.int64), *labels[rows]])
    return own[own >= 0]


def check_tiles(
    *, labels: np.ndarray, rows: Mapping[str, np.ndarray], recipe: Mapping[str, Any], classes: Sequence[str]
) -> None:
    """Raise if a recipe cannot train on these tiles.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        As :func:`labels_of` takes them.
    rows : mapping of str to ndarray of int
        Rows with a label, of ``train`` and ``validation``.
    recipe : mapping
    classes : sequence of str

    Raises
    ------
    ValueError
        If a class has no training tiles, or what is decided by validation tiles cannot be.
    """
    trained = labels_of(labels, rows["train"])
    without = [name for k, name in enumerate(classes) if not (trained == k).any()]
    if without:
        raise ValueError(
            f"training needs tiles of each of the classes {', '.join(classes)} in train; found none of "
            f"{', '.join(without)}"
        )
    where = f"recipes.{recipe['name']}"
    if recipe["early_stopping"] is not None and not len(rows["validation"]):
        raise ValueError(
            f"{where}.early_stopping needs validation tiles with a label: give the split a share for `validation`, or "
            "set early_stopping to null; found none"
        )
    decides = recipe["early_stopping"] is not None or recipe["keep"] == "best"
    if decides and len(rows["validation"]) and recipe["monitor"] == "balanced_accuracy":
        deciding = labels_of(labels, rows["validation"])
        without = [name for k, name in enumerate(classes) if not (deciding == k).any()]
        if without:
            raise ValueError(
                f"{where}.monitor: balanced_accuracy needs validation tiles of every class; found none of "
                f"{', '.join(without)}"
            )


def run(
    learner: Learner,
    *,
    name: str,
    labels: np.ndarray,
    rows: Mapping[str, np.ndarray],
    recipe: Mapping[str, Any],
    phases: Sequence[int],
    classes: Sequence[str],
    generator_of: Callable[..., np.random.Generator],
    checkpoint: Checkpoint,
    history: Sequence[Mapping[str, Any]] = (),
    curve: Sequence[Mapping[str, Any]] = (),
) -> Outcome:
    """Train through some phases of a recipe, from the checkpoint if there is one.

    Parameters
    ----------
    learner : Learner
    name : str
        The network's, for messages.
    labels : ndarray, shape (n,)
        Of all rows, as :func:`labels_of` takes them.
    rows : mapping of str to ndarray of int
        Tiles with a label, or maps with one: ``train``, ``validation`` (may be empty) and ``test`` (looked at for the
        curve alone).
    recipe : mapping
    phases : sequence of int
        Which phases of the recipe, from 0.
    classes : sequence of str
    generator_of : callable
        ``generator_of(what, ...)``: a generator on the stream of one use of chance.
    checkpoint : Checkpoint
    history, curve : sequences of mapping
        Rows of the phases before these.

    Returns
    -------
    Outcome

    Raises
    ------
    ValueError
        If the recipe cannot train on these tiles, trains nothing, names a group that is not there, the loss is not
        finite, memory runs out, or the checkpoint is of another training.
    """
    check_tiles(labels=labels, rows=rows, recipe=recipe, classes=classes)
    training = _Training(
        learner,
        name=name,
        labels=np.asarray(labels),
        rows=rows,
        recipe=recipe,
        phases=phases,
        n_classes=len(classes),
        generator_of=generator_of,
        checkpoint=checkpoint,
    )
    return training.run(history, curve)


def predict(learner: Learner, rows: np.ndarray, batch: int) -> np.ndarray:
    """Return the logits of some rows as the learner is now, float64 (n, n_classes)."""
    forward = compiled.compiled_forward(learner.evaluated, 0, batch=batch)
    return _logits(learner, forward, rows, batch)


def _logits(learner: Learner, forward: protocols.Forward, rows: np.ndarray, batch: int) -> np.ndarray:
    found = []
    started = said = time.monotonic()
    with closing(learner.read(rows, batch, None)) as blocks:
        for number, block in enumerate(blocks, start=1):
            found.append(forward(block)[0])
            now = time.monotonic()
            if now - said >= PROGRESS_S:
                said = now
                left = (now - started) / number * (len(rows) / batch - number)
                log.info("%d of %d tiles predicted, %s left", number * batch, len(rows), _duration(max(left, 0)))
    width = learner.evaluated.outputs[0].shape[-1]
    return np.concatenate(found).astype(np.float64) if found else np.empty((0, width))


class _Training:
    """One call of :func:`run`."""

    def __init__(
        self,
        learner: Learner,
        *,
        name: str,
        labels: np.ndarray,
        rows: Mapping[str, np.ndarray],
        recipe: Mapping[str, Any],
        phases: Sequence[int],
        n_classes: int,
        generator_of: Callable[..., np.random.Generator],
        checkpoint: Checkpoint,
    ) -> None:
        self._learner, self._name, self._labels, self._rows = learner, name, labels, rows
        self._recipe, self._phases, self._n_classes = recipe, list(phases), n_classes
        self._generator_of, self._checkpoint = generator_of, checkpoint
        self._batch = int(learner.batch or recipe["batch"])
        self._steps_per_epoch = math.ceil(len(rows["train"]) / self._batch)
        self._variables = list(learner.trained.variables)
        # a phase that would train nothing is an error before the first is begun
        self._factors = [
            optimisation.group_factors(list(learner.groups), recipe["phases"][number]) for number in self._phases
        ]
        self._forward = None
        if learner.evaluate is None:
            self._forward = compiled.compiled_forward(learner.evaluated, 0, batch=self._batch)
        self._best: list[np.ndarray] = []
        self._standing = _Standing()
        self._seconds_per_step: float | None = None

    def run(self, history: Sequence[Mapping[str, Any]], curve: Sequence[Mapping[str, Any]]) -> Outcome:
        standing = self._standing
        standing.history = [dict(row) for row in history]
        standing.curve = [dict(row) for row in curve]
        if standing.history:
            standing.epoch, standing.step = (int(standing.history[-1][key]) for key in ("epoch", "step"))
        before = self._checkpoint.read()
        if before is not None:
            standing = self._standing = _Standing(**before.progress)
            is_best = standing.best_epoch == standing.epoch
            self._best = before.weights if is_best else before.best
            log.info("%s: goes on after epoch %d, which was the last to be finished", self._name, standing.epoch)
        else:
            log.info(
                "%s: %d %s to train on, %d for validation, %d steps an epoch",
                *(self._name, len(self._rows["train"]), self._learner.unit, len(self._rows["validation"])),
                self._steps_per_epoch,
            )
            if not standing.curve:
                self._add_points(0.0)
        while standing.phase < len(self._phases):
            self._run_phase(before)
            before = None
            standing.phase += 1
            standing.epoch_of_phase = standing.step_of_phase = standing.phase_best_epoch = 0
            standing.phase_best_value = None
        kept = standing.best_epoch if self._best else standing.epoch
        if self._best:
            self._set(self._variables, self._best)
        by = self._recipe["monitor"].replace("_", " ")
        chosen = self._recipe["keep"] == "best" and len(self._rows["validation"]) > 0
        rows = [{**row, "kept": "yes" if row["epoch"] == kept else "no"} for row in standing.history]
        log.info("%s: epoch %d is kept (%s)", self._name, kept, f"best validation {by}" if chosen else "the last")
        return Outcome(rows, standing.curve, kept, f"validation {by}" if chosen else "last epoch", standing.notes)

    def _run_phase(self, before: State | None) -> None:
        """Run the epochs of the phase that the training stands in."""
        standing = self._standing
        number = self._phases[standing.phase]
        phase, factors = self._recipe["phases"][number], self._factors[standing.phase]
        weights, groups = self._thaw(factors)
        update = optimisation.update_of(phase, factors, groups, [len(weight.shape) for weight in weights])
        slots, scale = self._slots(weights, update.n_slots)
        if before is not None:
            self._set(self._variables, before.weights)
            self._set([*(slot for own in slots for slot in own), scale], before.slots)
        if self._is_over(phase):
            return
        moved = {
            "weights": weights,
            "slots": slots,
            "scale": scale,
            "update": update,
            "rescaled": optimisation.rescaled if self._recipe["precision"] == "mixed_float16" else None,
        }
        if self._learner.compile_step is not None:
            step = self._learner.compile_step(groups=groups, **moved)
        else:
            step = compiled.compiled_train_step(
                self._learner.trained,
                prepare=self._learner.prepare,
                loss=softmax_cross_entropy(self._recipe["auxiliary"]),
                **moved,
            )
        log.info(
            "%s, phase %d of %d: %s on %s, %s weights in %s",
            *(self._name, number + 1, len(self._recipe["phases"]), phase["train"], self._on(phase)),
            f"{sum(math.prod(weight.shape) for weight in weights):,}",
            _in_words(factors),
        )
        while not self._is_over(phase):
            self._run_epoch(step, update, phase, number)
            self._write([*(slot for own in slots for slot in own), scale])

    def _on(self, phase: Mapping[str, Any]) -> str:
        return phase["on"] if self._learner.unit == "tiles" else self._learner.unit

    def _is_over(self, phase: Mapping[str, Any]) -> bool:
        standing, patience = self._standing, self._recipe["early_stopping"]
        if standing.epoch_of_phase >= phase["epochs"]:
            return True
        # ASSUME early stopping ends its phase, and the next one begins
        waited = standing.epoch - standing.phase_best_epoch
        stops = patience is not None and standing.phase_best_epoch > 0 and waited >= patience
        if stops:
            log.info("%s: %d epochs without a better one, so the phase ends", self._name, waited)
        return stops

    def _thaw(self, factors: Mapping[str, float]) -> tuple[list[Any], list[str]]:
        """Let the layers of some groups be trained and no others; return their weights and the group of each."""
        group_of = {}
        for group, layers in self._learner.groups.items():
            for layer in layers:
                layer.trainable = group in factors
                group_of |= {id(variable): group for variable in layer.trainable_variables}
        weights = list(self._learner.trained.trainable_variables)
        strays = [variable.path for variable in weights if id(variable) not in group_of]
        if strays or not weights:
            raise ValueError(
                f"{self._name}: every weight that is trained belongs to one of the groups {', '.join(factors)}, and "
                f"there must be some; found {', '.join(strays) or 'no weights'}"
            )
        return weights, [group_of[id(variable)] for variable in weights]

    def _slots(self, weights: Sequence[Any], n: int) -> tuple[list[list[Any]], Any]:
        import keras

        def zeros(shape: Sequence[int]) -> Any:
            return keras.Variable(np.zeros(shape, np.float32), trainable=False, dtype="float32")

        first = np.array([optimisation.FIRST_SCALE, 0.0], np.float32)
        scale = keras.Variable(first, trainable=False, dtype="float32")
        # ASSUME every phase begins with a fresh optimiser, as training anew with Keras does
        return [[zeros(weight.shape) for _ in range(n)] for weight in weights], scale

    def _run_epoch(
        self, step: protocols.TrainStep, update: optimisation.Update, phase: Mapping[str, Any], number: int
    ) -> None:
        standing, epoch = self._standing, self._standing.epoch + 1
        points = self._points()
        total = np.zeros(3)
        rows = self._generator_of("order", epoch).permutation(self._rows["train"])
        started = said = time.monotonic()
        looked = 0.0
        rates: list[float] = []
        batches = self._learner.read(rows, self._batch, self._generator_of("read", epoch))
        try:
            for k, block in enumerate(batches):
                rate = optimisation.rate_at(phase, standing.step_of_phase + k, self._steps_per_epoch)
                rates.append(rate)
                if isinstance(block, tuple):
                    block, labels = block
                else:
                    labels = self._labels[rows[k * self._batch : k * self._batch + len(block)]].astype(np.int32)
                step(
                    block,
                    labels,
                    self._learner.draw(len(block), self._generator_of("augmentation", epoch, k)),
                    number=k + 1,
                    size=update.step_size(rate, standing.step_of_phase + k),
                    rate=rate,
                )
                done = k + 1
                if done % STEPS_BETWEEN_READINGS == 0 or done == self._steps_per_epoch:
                    total += self._counted(step.tally(), epoch, rates)
                now = time.monotonic()
                if now - said >= PROGRESS_S:
                    said = now
                    self._tell_progress(epoch, done, (now - started - looked) / done)
                if done in points:
                    step.settle()
                    before = time.monotonic()
                    self._add_points(standing.epoch + done / self._steps_per_epoch, standing.step + done)
                    looked += time.monotonic() - before
            step.settle()
            if self._learner.epoch_ended is not None:
                standing.notes += self._learner.epoch_ended(epoch)
            seconds = time.monotonic() - started - looked
            validated = self._validated(epoch)
        except Exception as error:
            if process.ran_out_of_memory(error):
                said_by = str(error).splitlines()[0] if str(error) else type(error).__name__
                # maps are trained in float32 alone
                other = ", or precision to mixed_bfloat16" if self._learner.unit == "tiles" else ""
                raise ValueError(
                    f"{self._name}: memory ran out in training with batch {self._recipe['batch']}: set "
                    f"`recipes.{self._recipe['name']}.batch` lower{other}; found: {said_by}"
                ) from error
            raise
        finally:
            batches.close()
        standing.epoch, standing.epoch_of_phase = epoch, standing.epoch_of_phase + 1
        standing.step += self._steps_per_epoch
        standing.step_of_phase += self._steps_per_epoch
        row = {
            "phase": number + 1,
            "on": self._on(phase),
            "train": phase["train"],
            "epoch": epoch,
            "step": standing.step,
            "rate": rates[-1],
            "loss": float(total[0] / total[2]),
            "accuracy": float(total[1] / total[2]),
            **validated,
        }
        standing.history.append(row)
        self._seconds_per_step = (time.monotonic() - started) / self._steps_per_epoch
        self._tell_epoch(row, len(rows) / seconds)
        self._compare(validated)

    def _counted(self, tally: np.ndarray, epoch: int, rates: Sequence[float]) -> np.ndarray:
        bad = int(tally[3])
        if bad:
            raise ValueError(
                f"{self._name}: the loss must be finite; found one that is not at epoch {epoch}, step {bad} of "
                f"{self._steps_per_epoch}, rate {rates[bad - 1]:g}. {self._last_good()}"
            )
        return tally[:3].astype(np.float64)

    def _last_good(self) -> str:
        lower = f"Set a lower rate in `recipes.{self._recipe['name']}`"
        path = self._checkpoint.path
        if not path.is_file():
            return f"{lower}; no epoch was finished, so there are no weights to keep"
        return f"{lower}; the weights of the last finished epoch are kept in {path}"

    def _validated(self, epoch: int) -> dict[str, float | None]:
        rows = self._rows["validation"]
        names = ("validation_loss", "validation_accuracy", "validation_balanced_accuracy")
        if not len(rows):
            return dict.fromkeys(names)
        loss, accuracy, balanced = self._looked_at(rows, epoch)
        return dict(zip(names, (loss, accuracy, None if math.isnan(balanced) else balanced), strict=True))

    def _looked_at(self, rows: np.ndarray, epoch: float) -> tuple[float, float, float]:
        """Return loss, accuracy and balanced accuracy of some rows' labelled tiles."""
        if self._learner.evaluate is not None:
            logits, true = self._learner.evaluate(rows)
        else:
            logits, true = _logits(self._learner, self._forward, rows, self._batch), self._labels[rows]
        if not np.isfinite(logits).all():
            raise ValueError(
                f"{self._name}: outputs must be finite; found some that are not at epoch {epoch:g}, after step "
                f"{self._standing.step}. {self._last_good()}"
            )
        true = true.astype(np.int64)
        loss = -log_probabilities(logits)[np.arange(len(true)), true].mean()
        counts = metrics.class_counts(true, logits.argmax(axis=1), self._n_classes)
        return float(loss), float(metrics.accuracy(counts)), float(metrics.balanced_accuracy(counts))

    def _compare(self, validated: Mapping[str, float | None]) -> None:
        """Remember the epoch that has just ended if it is the best, of its phase and of all."""
        standing = self._standing
        value = validated["validation_" + self._recipe["monitor"]]
        if value is None:
            return
        value = -value if self._recipe["monitor"] == "loss" else value
        if standing.phase_best_value is None or value > standing.phase_best_value:
            standing.phase_best_value, standing.phase_best_epoch = value, standing.epoch
        if self._recipe["keep"] == "best" and (standing.best_value is None or value > standing.best_value):
            standing.best_value, standing.best_epoch = value, standing.epoch
            self._best = [np.array(variable.numpy()) for variable in self._variables]

    def _write(self, slots: Sequence[Any]) -> None:
        standing = self._standing
        progress = copy.deepcopy(vars(standing))
        weights = [np.asarray(variable.numpy()) for variable in self._variables]
        # the best epoch is this one: its weights stand in the file once
        best = [] if standing.best_epoch == standing.epoch else self._best
        self._checkpoint.write(State(weights, [np.asarray(slot.numpy()) for slot in slots], best, progress))

    @staticmethod
    def _set(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)

    def _points(self) -> frozenset[int]:
        """Return after which steps of an epoch the learning curve has a point."""
        curve = self._recipe["curve"]
        if curve is None:
            return frozenset()
        n = curve["per_epoch"]
        return frozenset(max(1, round(k * self._steps_per_epoch / n)) for k in range(1, n + 1))

    def _add_points(self, epoch: float, step: int = 0) -> None:
        curve = self._recipe["curve"]
        if curve is None:
            return
        for name in curve["sets"]:
            rows = self._looked_at_in_curve(name, curve["tiles"])
            if len(rows):
                loss, accuracy, _ = self._looked_at(rows, epoch)
                point = {"step": step, "epoch": epoch, "set": name, "tiles": len(labels_of(self._labels, rows))}
                self._standing.curve.append({**point, "loss": loss, "accuracy": accuracy})

    def _looked_at_in_curve(self, name: str, cap: int | None) -> np.ndarray:
        """Return the rows of a set that the curve looks at: all, or as many as hold no more tiles than a cap."""
        rows = self._rows[name]
        if cap is None or len(labels_of(self._labels, rows)) <= cap:
            return rows
        generator = self._generator_of("curve", name)
        if self._labels.dtype != object:
            return np.sort(generator.choice(rows, cap, replace=False))
        # whole maps, and one of them at least
        rows = generator.permutation(rows)
        tiles = np.cumsum([len(labels_of(self._labels, rows[k : k + 1])) for k in range(len(rows))])
        return np.sort(rows[: max(1, np.searchsorted(tiles, cap, side="right"))])

    @property
    def _pace(self) -> str:
        return "images" if self._learner.unit == "tiles" else self._learner.unit

    def _tell_progress(self, epoch: int, done: int, seconds: float) -> None:
        left = seconds * (self._steps_left() - done)
        log.info(
            "%s, epoch %d: step %d of %d, %.1f %s/s, %s left",
            *(self._name, epoch, done, self._steps_per_epoch, self._batch / seconds, self._pace, _duration(left)),
        )

    def _tell_epoch(self, row: Mapping[str, Any], rows_s: float) -> None:
        told = f"loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}"
        if row["validation_loss"] is not None:
            told += f", validation loss {row['validation_loss']:.4f}"
            told += f", validation accuracy {row['validation_accuracy']:.4f}"
        left = self._steps_left() * self._seconds_per_step
        log.info(
            "%s, epoch %d of %d: %s, rate %.3g, %.1f %s/s, %s left",
            *(self._name, row["epoch"], row["epoch"] + self._steps_left() // self._steps_per_epoch),
            *(told, row["rate"], rows_s, self._pace, _duration(left)),
        )

    def _steps_left(self) -> int:
        standing = self._standing
        epochs = [self._recipe["phases"][number]["epochs"] for number in self._phases[standing.phase :]]
        return (sum(epochs) - standing.epoch_of_phase) * self._steps_per_epoch


def _in_words(factors: Mapping[str, float]) -> str:
    """Return groups by depth with their factors, neighbours of one factor together: ``stem to out (rate x 1)``."""
    runs: list[tuple[float, list[str]]] = []
    for group, factor in factors.items():
        if not runs or runs[-1][0] != factor:
            runs.append((factor, []))
        runs[-1][1].append(group)
    return ", ".join(
        f"{groups[0]}{f' to {groups[-1]}' if len(groups) > 1 else ''} (rate x {factor:g})" for factor, groups in runs
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
