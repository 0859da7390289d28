"""Epochs of training: the loop that heads on features, whole networks and networks on maps of tiles share.

The device is kept busy: tiles are read in a thread of their own, and nothing is read back but a few numbers every
:data:`STEPS_BETWEEN_READINGS` steps. Each use of chance has its own stream, by what it is for, the epoch and the step.
So a training that goes on after an interruption makes the same steps as one that was not interrupted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from histotransfer.backends import compiled, process, protocols
from histotransfer.definitions import Phase, Recipe
from histotransfer.training import optimisation, progress, scoring
from histotransfer.training.checkpoints import Checkpoint, State
from histotransfer.training.learner import Learner, forward_rows
from histotransfer.training.tiles import check_tiles, labels_of

#: After so many steps the loss is read; a constant, since sums in float32 depend on where they are read.
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
        What :attr:`Learner.epoch_ended` returned, over all epochs.
    """

    history: list[dict[str, Any]]
    curve: list[dict[str, Any]]
    kept_epoch: int
    kept_by: str
    notes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Standing:
    """Where a training stands between two epochs; with the arrays, all that a checkpoint keeps."""

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


class Training:
    """A training through some phases of a recipe.

    Parameters
    ----------
    learner : Learner
    name : str
        The network's, for messages.
    labels : ndarray, shape (n,)
        Of all rows, as :func:`histotransfer.training.tiles.labels_of` takes them.
    rows : mapping of str to ndarray of int
        Tiles with a label, or maps with one: ``train``, ``validation`` (may be empty) and ``test`` (for the learning
        curve alone).
    recipe : Recipe
    phases : sequence of int
        Which phases of the recipe, from 0.
    classes : sequence of str
    generator_of : callable
        ``generator_of(purpose, ...)``: a generator on the stream of one use of chance.
    checkpoint : Checkpoint

    Raises
    ------
    ValueError
        If the recipe cannot train on these tiles, trains nothing, or names a group that the learner does not have.
    """

    def __init__(
        self,
        learner: Learner,
        *,
        name: str,
        labels: np.ndarray,
        rows: Mapping[str, np.ndarray],
        recipe: Recipe,
        phases: Sequence[int],
        classes: Sequence[str],
        generator_of: Callable[..., np.random.Generator],
        checkpoint: Checkpoint,
    ) -> None:
        check_tiles(labels=labels, rows=rows, recipe=recipe, classes=classes)
        self._learner, self._name, self._labels, self._rows = learner, name, np.asarray(labels), rows
        self._recipe, self._phases, self._n_classes = recipe, list(phases), len(classes)
        self._generator_of, self._checkpoint = generator_of, checkpoint
        self._batch = int(learner.batch or recipe.batch)
        self._steps_per_epoch = math.ceil(len(rows["train"]) / self._batch)
        self._variables = list(learner.trained.variables)
        # a phase that would train nothing is an error before the first is begun
        self._factors = [
            optimisation.group_factors(list(learner.groups), recipe.phases[number]) for number in self._phases
        ]
        self._forward = None
        if learner.evaluate is None:
            self._forward = compiled.compiled_forward(learner.evaluated, 0, batch=self._batch)
        self._best: list[np.ndarray] = []
        self._standing = _Standing()
        self._log = progress.TrainingLog(
            name, unit=learner.unit, batch=self._batch, steps_per_epoch=self._steps_per_epoch
        )

    def run(self, history: Sequence[Mapping[str, Any]] = (), curve: Sequence[Mapping[str, Any]] = ()) -> Outcome:
        """Train, from the checkpoint if there is one, and leave the kept weights in the learner.

        Parameters
        ----------
        history, curve : sequences of mapping
            Rows of the phases before these.

        Returns
        -------
        Outcome

        Raises
        ------
        ValueError
            If the loss is not finite, memory runs out, or the checkpoint is of another training.
        """
        before = self._begin(history, curve)
        standing = self._standing
        while standing.phase < len(self._phases):
            self._run_phase(before)
            before = None
            standing.phase += 1
            standing.epoch_of_phase = standing.step_of_phase = standing.phase_best_epoch = 0
            standing.phase_best_value = None
        kept = standing.best_epoch if self._best else standing.epoch
        if self._best:
            _assign(self._variables, self._best)
        by = self._recipe.monitor.replace("_", " ")
        chosen = self._recipe.keep == "best" and len(self._rows["validation"]) > 0
        rows = [{**row, "kept": "yes" if row["epoch"] == kept else "no"} for row in standing.history]
        self._log.ends(kept, f"best validation {by}" if chosen else "the last")
        return Outcome(rows, standing.curve, kept, f"validation {by}" if chosen else "last epoch", standing.notes)

    def _begin(self, history: Sequence[Mapping[str, Any]], curve: Sequence[Mapping[str, Any]]) -> State | None:
        """Stand where the checkpoint is, and return it; or at the start, and return None."""
        before = self._checkpoint.read()
        if before is not None:
            standing = self._standing = _Standing(**before.progress)
            is_best = standing.best_epoch == standing.epoch
            self._best = before.weights if is_best else before.best
            self._log.goes_on(standing.epoch)
            return before
        standing = self._standing
        standing.history = [dict(row) for row in history]
        standing.curve = [dict(row) for row in curve]
        if standing.history:
            standing.epoch, standing.step = (int(standing.history[-1][key]) for key in ("epoch", "step"))
        self._log.begins(len(self._rows["train"]), len(self._rows["validation"]))
        if not standing.curve:
            self._add_points(0.0)
        return None

    def _run_phase(self, before: State | None) -> None:
        """Run the epochs of the phase that the training stands in."""
        number = self._phases[self._standing.phase]
        phase, factors = self._recipe.phases[number], self._factors[self._standing.phase]
        moving = optimisation.phase_weights(
            self._learner.trained, self._learner.groups, phase=phase, factors=factors, name=self._name
        )
        if before is not None:
            _assign(self._variables, before.weights)
            _assign(moving.of_optimiser, before.slots)
        if self._is_over(phase):
            return
        step = self._compiled(moving)
        self._log.phase_begins(
            number + 1,
            len(self._recipe.phases),
            train=phase.train,
            on=self._on(phase),
            n_weights=sum(math.prod(weight.shape) for weight in moving.weights),
            factors=factors,
        )
        while not self._is_over(phase):
            self._run_epoch(step, moving.update, phase, number)
            self._write(moving.of_optimiser)

    def _compiled(self, moving: optimisation.PhaseWeights) -> protocols.TrainStep:
        moved = {
            "weights": moving.weights,
            "slots": moving.slots,
            "scale": moving.scale,
            "update": moving.update,
            "rescaled": optimisation.rescaled if self._recipe.precision == "mixed_float16" else None,
        }
        if self._learner.compile_step is not None:
            return self._learner.compile_step(groups=moving.groups, **moved)
        return compiled.compiled_train_step(
            self._learner.trained,
            prepare=self._learner.prepare,
            loss=scoring.softmax_cross_entropy(self._recipe.auxiliary),
            **moved,
        )

    def _on(self, phase: Phase) -> str:
        return phase.on if self._learner.unit == "tiles" else self._learner.unit

    def _is_over(self, phase: Phase) -> bool:
        standing, patience = self._standing, self._recipe.early_stopping
        if standing.epoch_of_phase >= phase.epochs:
            return True
        # ASSUME early stopping ends its phase, and the next one begins
        waited = standing.epoch - standing.phase_best_epoch
        stops = patience is not None and standing.phase_best_epoch > 0 and waited >= patience
        if stops:
            self._log.phase_stops_early(waited)
        return stops

    def _run_epoch(self, step: protocols.TrainStep, update: optimisation.Update, phase: Phase, number: int) -> None:
        standing, epoch = self._standing, self._standing.epoch + 1
        rows = self._generator_of("order", epoch).permutation(self._rows["train"])
        watch = progress.Stopwatch()
        with self._naming_the_batch():
            total, rate = self._make_steps(step, update, phase, rows, watch)
            if self._learner.epoch_ended is not None:
                standing.notes += self._learner.epoch_ended(epoch)
            seconds = watch.running_s
            validated = self._validated(epoch)
        standing.epoch, standing.epoch_of_phase = epoch, standing.epoch_of_phase + 1
        standing.step += self._steps_per_epoch
        standing.step_of_phase += self._steps_per_epoch
        row = {
            "phase": number + 1,
            "on": self._on(phase),
            "train": phase.train,
            "epoch": epoch,
            "step": standing.step,
            "rate": rate,
            "loss": float(total[0] / total[2]),
            "accuracy": float(total[1] / total[2]),
            **validated,
        }
        standing.history.append(row)
        seconds_per_step = watch.elapsed_s / self._steps_per_epoch
        self._log.epoch_ends(
            row, rows_per_s=len(rows) / seconds, seconds_per_step=seconds_per_step, left=self._steps_left()
        )
        self._compare(validated)

    def _make_steps(
        self,
        step: protocols.TrainStep,
        update: optimisation.Update,
        phase: Phase,
        rows: np.ndarray,
        watch: progress.Stopwatch,
    ) -> tuple[np.ndarray, float]:
        """Make the steps of an epoch; return the sums of losses, correct tiles and tiles, and the last rate."""
        standing, epoch, n_steps = self._standing, self._standing.epoch + 1, self._steps_per_epoch
        points = scoring.steps_with_points(self._recipe.curve, n_steps)
        total, rates = np.zeros(3), []
        reminder = progress.Reminder()
        with closing(self._learner.read(rows, self._batch, self._generator_of("read", epoch))) as batches:
            for k, batch in enumerate(batches):
                if isinstance(batch, tuple):
                    block, labels = batch
                else:
                    block, places = batch, rows[k * self._batch : k * self._batch + len(batch)]
                    labels = self._labels[places].astype(np.int32)
                rates.append(optimisation.rate_at(phase, standing.step_of_phase + k, n_steps))
                step(
                    block,
                    labels,
                    self._learner.draw(len(block), self._generator_of("augmentation", epoch, k)),
                    number=k + 1,
                    size=update.step_size(rates[-1], standing.step_of_phase + k),
                    rate=rates[-1],
                )
                done = k + 1
                if done % STEPS_BETWEEN_READINGS == 0 or done == n_steps:
                    total += self._counted(step.tally(), epoch, rates)
                if reminder.is_due():
                    left = self._steps_left() - done
                    self._log.step(epoch, done, seconds_per_step=watch.running_s / done, steps_left=left)
                if done in points:
                    step.settle()
                    with watch.paused():
                        self._add_points(standing.epoch + done / n_steps, standing.step + done)
            step.settle()
        return total, rates[-1]

    @contextmanager
    def _naming_the_batch(self) -> Iterator[None]:
        """Where memory runs out, say what to set lower."""
        try:
            yield
        except Exception as error:
            if not process.ran_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            # maps are trained in float32 alone
            other = ", or precision to mixed_bfloat16" if self._learner.unit == "tiles" else ""
            raise ValueError(
                f"{self._name}: memory ran out in training with batch {self._recipe.batch}: set "
                f"`recipes.{self._recipe.name}.batch` lower{other}; found: {reason}"
            ) from error

    def _counted(self, tally: np.ndarray, epoch: int, rates: Sequence[float]) -> np.ndarray:
        bad = int(tally[3])
        if bad:
            raise ValueError(
                f"{self._name}: the loss must be finite; found one that is not at epoch {epoch}, step {bad} of "
                f"{self._steps_per_epoch}, rate {rates[bad - 1]:g}. {self._last_good()}"
            )
        return tally[:3].astype(np.float64)

    def _last_good(self) -> str:
        lower = f"Set a lower rate in `recipes.{self._recipe.name}`"
        path = self._checkpoint.path
        if not path.is_file():
            return f"{lower}; no epoch was finished, so there are no weights to keep"
        return f"{lower}; the weights of the last finished epoch are kept in {path}"

    def _validated(self, epoch: int) -> dict[str, float | None]:
        rows = self._rows["validation"]
        names = ("validation_loss", "validation_accuracy", "validation_balanced_accuracy")
        if not len(rows):
            return dict.fromkeys(names)
        scores = self._scores(rows, epoch)
        return {name: None if math.isnan(value) else value for name, value in zip(names, scores, strict=True)}

    def _scores(self, rows: np.ndarray, epoch: float) -> scoring.Scores:
        """Return the scores of some rows' labelled tiles."""
        if self._learner.evaluate is not None:
            logits, true = self._learner.evaluate(rows)
        else:
            logits, true = forward_rows(self._learner, self._forward, rows, self._batch), self._labels[rows]
        if not np.isfinite(logits).all():
            raise ValueError(
                f"{self._name}: outputs must be finite; found some that are not at epoch {epoch:g}, after step "
                f"{self._standing.step}. {self._last_good()}"
            )
        return scoring.scores_of(logits, true, self._n_classes)

    def _compare(self, validated: Mapping[str, float | None]) -> None:
        """Remember the epoch that has just ended if it is the best, of its phase and of all."""
        standing = self._standing
        value = validated["validation_" + self._recipe.monitor]
        if value is None:
            return
        value = -value if self._recipe.monitor == "loss" else value
        if standing.phase_best_value is None or value > standing.phase_best_value:
            standing.phase_best_value, standing.phase_best_epoch = value, standing.epoch
        if self._recipe.keep == "best" and (standing.best_value is None or value > standing.best_value):
            standing.best_value, standing.best_epoch = value, standing.epoch
            self._best = [np.array(variable.numpy()) for variable in self._variables]

    def _write(self, of_optimiser: Sequence[Any]) -> None:
        standing = self._standing
        weights, slots = (
            [np.asarray(variable.numpy()) for variable in variables] for variables in (self._variables, of_optimiser)
        )
        # where the best epoch is this one, its weights are in the file once
        best = [] if standing.best_epoch == standing.epoch else self._best
        self._checkpoint.write(State(weights, slots, best, copy.deepcopy(vars(standing))))

    def _add_points(self, epoch: float, step: int = 0) -> None:
        """Add a point of the learning curve for each of its sets."""
        curve = self._recipe.curve
        if curve is None:
            return
        for name in curve.sets:
            chosen_by = partial(self._generator_of, "curve", name)
            rows = scoring.rows_of_curve(self._labels, self._rows[name], curve.tiles, chosen_by)
            if len(rows):
                scores = self._scores(rows, epoch)
                point = {"step": step, "epoch": epoch, "set": name, "tiles": len(labels_of(self._labels, rows))}
                self._standing.curve.append({**point, "loss": scores.loss, "accuracy": scores.accuracy})

    def _steps_left(self) -> int:
        """Return the steps that are left, of the epoch under way all of them."""
        standing = self._standing
        epochs = [self._recipe.phases[number].epochs for number in self._phases[standing.phase :]]
        return (sum(epochs) - standing.epoch_of_phase) * self._steps_per_epoch


def _assign(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
