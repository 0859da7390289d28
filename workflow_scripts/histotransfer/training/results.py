"""The files that a training leaves: the network, its predictions, its history by epoch, its learning curve by step."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import store
from histotransfer.predictions import Predictions, write_predictions
from histotransfer.training import epochs
from histotransfer.training.scoring import log_probabilities
from histotransfer.training.tiles import TrainingData

#: The date of every file in a ``.keras`` archive: the earliest that ZIP knows.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_history(path: str, outcome: epochs.Outcome) -> None:
    """Write ``history.tsv``: one row an epoch."""
    store.write_table(path, epochs.HISTORY, outcome.history)


def write_curve(path: str, outcome: epochs.Outcome) -> None:
    """Write ``curve.tsv``: one row a point of the learning curve and set; the header alone where there is none."""
    store.write_table(path, epochs.CURVE, outcome.curve)


def read_history(path: str) -> list[dict[str, Any]]:
    """Read what :func:`write_history` wrote, with numbers as numbers; None where there is none."""
    return _rows(path)


def read_curve(path: str) -> list[dict[str, Any]]:
    """Read what :func:`write_curve` wrote, with numbers as numbers."""
    return _rows(path)


def _rows(path: str) -> list[dict[str, Any]]:
    return [{name: _value(name, cell) for name, cell in row.items()} for row in store.read_table(path)]


def _value(name: str, cell: str) -> Any:
    if name in ("on", "train", "set", "kept"):
        return cell
    if cell == "":
        return None
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


def write_network_predictions(
    path: str,
    data: TrainingData,
    *,
    logits_of: Callable[[np.ndarray], np.ndarray],
    attributes: Mapping[str, Any],
) -> None:
    """Predict the tiles of test and validation, with a label or without, and write them in the form of every strategy.

    Parameters
    ----------
    path : path
    data : TrainingData
    logits_of : callable
        From places in the table to logits, float64 (n, n_classes), by the weights that are kept.
    attributes : mapping
        JSON types: :data:`histotransfer.predictions.ATTRIBUTES` and more.

    Raises
    ------
    ValueError
        If an output is not finite, naming the tile.
    """
    table = data.table

    def predicted(chosen: np.ndarray) -> Predictions:
        # in float64, so that sure predictions do not tie at 1
        probability = np.exp(log_probabilities(logits_of(chosen)))
        columns = {name: getattr(table, name)[chosen].tolist() for name in ("tile", "image", "slide", "group")}
        return Predictions(**columns, true=table.label[chosen], score=probability, probability=probability)

    held_out = predicted(np.flatnonzero(table.set == "test"))
    of_validation = np.flatnonzero(table.set == "validation")
    write_predictions(
        path,
        held_out=held_out,
        out_of_fold=None,
        validation=predicted(of_validation) if len(of_validation) else None,
        attributes=attributes,
    )


def save_network(path: str, model: Any) -> None:
    """Write a network as a ``.keras`` file, complete or not at all: the same network gives the same bytes.

    Parameters
    ----------
    path : path
    model : keras.Model
    """
    with store.replacing(path) as part, tempfile.TemporaryDirectory(dir=Path(part).parent) as folder:
        # Keras looks at the suffix
        written = Path(folder) / "model.keras"
        model.save(written)
        with zipfile.ZipFile(written) as archive, zipfile.ZipFile(part, "w") as timeless:
            for name in sorted(archive.namelist()):
                member = zipfile.ZipInfo(name, _DATE)
                if name.endswith(".json"):
                    timeless.writestr(member, json.dumps(_timeless(json.loads(archive.read(name)), {})))
                    continue
                with archive.open(name) as source, timeless.open(member, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, 1 << 20)


def _timeless(node: Any, numbers: dict[int, int]) -> Any:
    """Return what Keras says about a model without its date, and with objects numbered in their order.

    Keras numbers objects that are used twice by their addresses in memory.
    """
    if isinstance(node, list):
        return [_timeless(value, numbers) for value in node]
    if not isinstance(node, dict):
        return node
    kept = {}
    for name, value in node.items():
        if name == "shared_object_id":
            kept[name] = numbers.setdefault(value, len(numbers) + 1)
        elif name != "date_saved":
            kept[name] = _timeless(value, numbers)
    return kept


def copy(source: str, target: str) -> None:
    """Copy a result, complete or not at all."""
    with store.replacing(target) as part:
        shutil.copyfile(source, part)
