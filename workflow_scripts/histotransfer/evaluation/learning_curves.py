"""Learning curves of trained networks as tables: by epoch, by iteration, and what was reached when.

Training writes ``history.tsv`` (an epoch a row) and ``curve.tsv`` (accuracy on samples of tiles several times an epoch,
by which nothing is chosen) beside each network. Here those of a split's networks and seeds come together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer import metrics, store
from histotransfer.evaluation.ranking import mean_of
from histotransfer.predictions import NO_LABEL, Predictions, read_predictions
from histotransfer.problems import listing
from histotransfer.settings import TrainedModel

#: What every row of the tables begins with: the network, and what it is trained on.
OF_COLUMNS = ("dataset", "task", "network", "architecture", "start", "recipe", "transfer", "seed")

HISTORY_COLUMNS = (
    *("phase", "on", "train", "epoch", "step", "rate", "loss", "accuracy"),
    *("validation_loss", "validation_accuracy", "validation_balanced_accuracy", "kept"),
)
CURVE_COLUMNS = ("step", "epoch", "set", "tiles", "loss", "accuracy")

EPOCH_COLUMNS = (*OF_COLUMNS, *HISTORY_COLUMNS)
STEP_COLUMNS = (*OF_COLUMNS, *CURVE_COLUMNS)

ACCURACY_COLUMNS = (
    *(*OF_COLUMNS[:-1], "weights", "untrained", "seeds", "train_tiles", "epochs", "kept_epochs", "kept_by"),
    *("first_epoch", "last_epoch", "kept", "highest", "highest_at", "curve_tiles", "test_tiles", "note"),
)


def tabulate(
    *,
    histories: Sequence[str],
    curves: Sequence[str],
    predictions: Sequence[str],
    trainings: Sequence[TrainedModel],
    epochs: str,
    steps: str,
    table: str,
    split: str,
) -> None:
    """Write the learning curves of a split's trained networks, and the test accuracy that each had when.

    Parameters
    ----------
    histories, curves, predictions : sequence of path
        ``history.tsv``, ``curve.tsv`` and ``predictions.h5`` of the same networks in the same order.
    trainings : sequence of TrainedModel
        What each is.
    epochs : path
        CSV to write: the rows of the histories.
    steps : path
        CSV to write: the rows of the curves.
    table : path
        CSV to write, a row a dataset, task and network, accuracies of labelled test tiles as means over ``seeds``:
        ``first_epoch`` after the first epoch, ``last_epoch`` after the last, ``kept`` after the epoch that was kept,
        which is the result, ``highest``, the highest point of the test curve, ``highest_at`` (epoch) where it lies.
        ``kept`` is of all test tiles (``test_tiles``), as is the first or last epoch where it is the one that was
        kept; else they are read from the curve, as the highest is, which may be of a sample (``curve_tiles``), and are
        empty without one.
        ``kept_epochs`` of ``epochs``, ``train_tiles`` and the counts of tiles are those of the seeds in turn, once
        where they are equal.
    split : str

    Raises
    ------
    ValueError
        If the lists are not equally long, a file is of another network, or an epoch is kept that its history lacks.

    Notes
    -----
    The highest point of a test curve is a maximum over epochs chosen on the test set, as Bayramoglu and Heikkilä (2016)
    report it. It is never a result, and the more points a curve has, the more it gains by chance.
    """
    files = {"histories": histories, "curves": curves, "predictions": predictions, "trainings": trainings}
    if len({len(several) for several in files.values()}) > 1:
        found = ", ".join(f"{len(several)} {name}" for name, several in files.items())
        raise ValueError(f"learning curves need a history, a curve and predictions of each network; found {found}")
    epoch_rows: list[dict[str, str]] = []
    step_rows: list[dict[str, str]] = []
    reached: dict[tuple[str, ...], list[_Reached]] = {}
    for history_file, curve_file, prediction_file, training in zip(*files.values(), strict=True):
        about = _about(training)
        history, curve = _read(history_file, HISTORY_COLUMNS), _read(curve_file, CURVE_COLUMNS)
        held_out, _, said = read_predictions(prediction_file)
        _check_of(prediction_file, said, training, split)
        epoch_rows += [{**about, **row} for row in history]
        step_rows += [{**about, **row} for row in curve]
        key = tuple(about[name] for name in OF_COLUMNS[:-1])
        reached.setdefault(key, []).append(_reached(history_file, history, curve, held_out, said))
    store.write_csv(epochs, EPOCH_COLUMNS, epoch_rows)
    store.write_csv(steps, STEP_COLUMNS, step_rows)
    rows = [{**dict(zip(OF_COLUMNS, key, strict=False)), **_over_seeds(seeds)} for key, seeds in reached.items()]
    store.write_csv(table, ACCURACY_COLUMNS, rows)


def _about(training: TrainedModel) -> dict[str, str]:
    """Return the cells of :data:`OF_COLUMNS`."""
    factors = training.factors
    return {
        **{"dataset": factors.dataset, "task": factors.task, "network": training.network},
        **{"architecture": training.architecture, "start": training.start, "recipe": training.recipe},
        **{"transfer": "yes" if training.transfer else "no", "seed": str(factors.seed)},
    }


def _read(path: str, columns: Sequence[str]) -> list[dict[str, str]]:
    rows = store.read_table(path)
    missing = [name for name in columns if rows and name not in rows[0]]
    if missing:
        raise ValueError(f"{path}: column {', '.join(missing)} is missing; found {', '.join(rows[0])}")
    return [{name: row[name] for name in columns} for row in rows]


def _check_of(path: str, said: Mapping[str, Any], training: TrainedModel, split: str) -> None:
    factors = training.factors
    wanted = [factors.dataset, factors.task, factors.features, str(factors.seed), split]
    found = [str(said[name]) for name in ("dataset", "task", "features", "seed", "split")]
    if wanted != found:
        raise ValueError(f"{path}: these must be the predictions of {'/'.join(wanted)}; found {'/'.join(found)}")


@dataclass(frozen=True)
class _Reached:
    """What one network of one seed had reached when; numbers are None where no curve has them, texts empty."""

    weights: str
    untrained: bool
    train_tiles: int
    epochs: int
    kept_epochs: int
    kept_by: str
    first_epoch: float | None
    last_epoch: float | None
    kept: float | None
    highest: float | None
    highest_at: str
    curve_tiles: str
    test_tiles: int


def _reached(
    history_file: str,
    history: Sequence[Mapping[str, str]],
    curve: Sequence[Mapping[str, str]],
    held_out: Predictions,
    said: Mapping[str, Any],
) -> _Reached:
    if not history:
        raise ValueError(f"{history_file}: a trained network has an epoch; found none")
    step_of = {int(row["epoch"]): int(row["step"]) for row in history}
    last, kept = max(step_of), int(said["kept_epoch"])
    if kept not in step_of:
        raise ValueError(f"{history_file}: epoch {kept} was kept; found epochs {listing(map(str, step_of), 5)}")
    labelled = held_out.true != NO_LABEL
    result = None
    if labelled.any():
        true = held_out.true[labelled].astype(np.int64)
        result = metrics.overall("accuracy", true, held_out.score[labelled])
    test = {int(row["step"]): row for row in curve if row["set"] == "test" and row["accuracy"]}
    at = {step: float(row["accuracy"]) for step, row in test.items()}
    # the first of equal points: less training has reached it
    best = min(at, key=lambda step: (-at[step], step), default=None)
    return _Reached(
        weights=str(said.get("weights", "")),
        untrained=bool(said["untrained"]),
        train_tiles=int(said["n_train_tiles"]),
        epochs=last,
        kept_epochs=kept,
        kept_by=str(said.get("kept_by", "")),
        first_epoch=result if kept == 1 else at.get(step_of[min(step_of)]),
        last_epoch=result if kept == last else at.get(step_of[last]),
        kept=result,
        highest=None if best is None else at[best],
        highest_at="" if best is None else f"{round(float(test[best]['epoch']), 2):g}",
        curve_tiles="" if best is None else test[best]["tiles"],
        test_tiles=int(labelled.sum()),
    )


def _over_seeds(seeds: Sequence[_Reached]) -> dict[str, Any]:
    """Return the row of a network in the table of accuracies."""
    row: dict[str, Any] = {"seeds": len(seeds), "untrained": "yes" if any(one.untrained for one in seeds) else "no"}
    for name in ("weights", "kept_by"):
        row[name] = ", ".join(dict.fromkeys(getattr(one, name) for one in seeds))
    for name in ("train_tiles", "epochs", "kept_epochs", "highest_at", "curve_tiles", "test_tiles"):
        texts = [str(getattr(one, name)) for one in seeds]
        row[name] = texts[0] if len(set(texts)) == 1 else ", ".join(texts)
    for name in ("first_epoch", "last_epoch", "kept", "highest"):
        values = [getattr(one, name) for one in seeds]
        row[name] = None if None in values else mean_of(values)
    if any(one.kept is None for one in seeds):
        row["note"] = "no test tile has a label"
    elif any(one.highest is None for one in seeds):
        row["note"] = "without a learning curve on the test tiles"
    elif row["curve_tiles"] != row["test_tiles"]:
        row["note"] = "first, last and highest accuracy are of a sample of the test tiles, drawn by the master seed"
    return row
