"""What a training leaves: the network, its predictions, its history by epoch and its learning curve by step."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import seeds, store
from histotransfer.networks.groups import SOFTMAX
from histotransfer.predictions import NO_LABEL, Predictions, write_predictions
from histotransfer.tables import tile_table
from histotransfer.training import epochs

#: Legal values of a recipe's ``sampling``.
SAMPLING = ("all", "balanced")
#: Said in the attributes of the predictions.
CALIBRATION = "none: the network's own softmax"
#: The date of every file in a ``.keras`` archive: the earliest that ZIP knows.
_DATE = (1980, 1, 1, 0, 0, 0)


def rows_of_sets(
    table: tile_table.TileIndex,
    split: Mapping[str, Any],
    *,
    split_seed: int,
    master_seed: int,
    sampling: str = "all",
) -> dict[str, np.ndarray]:
    """Return which tiles are trained on, choose the epoch, and are looked at.

    Parameters
    ----------
    table : TileIndex
    split : mapping
        ``train_tiles`` and ``train_tiles_per_class`` cap what is learnt from.
    split_seed, master_seed : int
    sampling : str
        ``all``; or ``balanced``: of each class as many training tiles as the rarest has. The other sets keep theirs,
        so that an epoch is chosen, and a method scored, by tiles as frequent as they are.

    Returns
    -------
    dict of str to ndarray of int
        Tiles with a label, by set: ``train``, ``validation``, ``test``.
    """
    # ASSUME a cap is one on all labelled tiles that a method may use, as for the classifiers, which learn on train and
    # validation together: every method of a study sees the same tiles
    drawn = tile_table.draw(
        table,
        tiles=split.get("train_tiles"),
        tiles_per_class=split.get("train_tiles_per_class"),
        split_seed=split_seed,
        master_seed=master_seed,
    )
    labelled = {"train": drawn, "validation": drawn, "test": table.label != NO_LABEL}
    rows = {name: np.flatnonzero((table.set == name) & own) for name, own in labelled.items()}
    if sampling == "balanced":
        rows["train"] = _balanced(table, rows["train"], split_seed=split_seed, master_seed=master_seed)
    elif sampling != "all":
        raise ValueError(f"sampling must be one of {', '.join(SAMPLING)}; found {sampling!r}")
    return rows


def _balanced(table: tile_table.TileIndex, rows: np.ndarray, *, split_seed: int, master_seed: int) -> np.ndarray:
    """Return as many of each class as the rarest that is there has, the first in a random order."""
    # ASSUME the order of tile_table.draw, by the seeds and a tile's name alone: where the rarest class gains a tile,
    # the others gain one and lose none
    place = {
        k: seeds.unit_hash(master_seed, "train tiles", split_seed, table.image[k], table.tile[k]) for k in rows.tolist()
    }
    label = table.label[rows]
    n = min((int((label == k).sum()) for k in np.unique(label)), default=0)
    chosen = [sorted(rows[label == k].tolist(), key=place.__getitem__)[:n] for k in np.unique(label)]
    return np.sort(np.concatenate([np.empty(0, rows.dtype), *chosen]).astype(rows.dtype))


def write_history(path: str, outcome: epochs.Outcome) -> None:
    """Write ``history.tsv``: one row an epoch."""
    store.write_table(path, epochs.HISTORY, outcome.history)


def write_curve(path: str, outcome: epochs.Outcome) -> None:
    """Write ``curve.tsv``: one row a point of the learning curve and set; the header alone where there is none."""
    store.write_table(path, epochs.CURVE, outcome.curve)


def read_history(path: str) -> list[dict[str, Any]]:
    """Read what :func:`write_history` wrote, with numbers as numbers; None where there is none."""
    return [{name: _value(name, cell) for name, cell in row.items()} for row in store.read_table(path)]


def read_curve(path: str) -> list[dict[str, Any]]:
    """Read what :func:`write_curve` wrote, with numbers as numbers."""
    return [{name: _value(name, cell) for name, cell in row.items()} for row in store.read_table(path)]


def _value(name: str, cell: str) -> Any:
    if name in ("on", "train", "set", "kept"):
        return cell
    if cell == "":
        return None
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


def write_network_predictions(
    path: str,
    *,
    table: tile_table.TileIndex,
    rows: Mapping[str, np.ndarray],
    learner: epochs.Learner,
    outcome: epochs.Outcome,
    recipe: Mapping[str, Any],
    split: Mapping[str, Any],
    classes: Sequence[str],
    attributes: Mapping[str, Any],
    logits_of: Callable[[np.ndarray], np.ndarray] | None = None,
) -> None:
    """Predict the tiles of test and validation, with a label or without, and write them in the form of every strategy.

    Parameters
    ----------
    path : path
    table : TileIndex
    rows : mapping
        See :func:`rows_of_sets`.
    learner : epochs.Learner
        With the kept weights.
    outcome : epochs.Outcome
    recipe, split : mapping
    classes : sequence of str
    attributes : mapping
        What :data:`predictions.ATTRIBUTES` asks for and only the caller knows.
    logits_of : callable, optional
        From rows of the table to their logits, float64 (n, n_classes), where tiles are not predicted one by one but on
        maps; by default :func:`epochs.predict`.

    Raises
    ------
    ValueError
        If an output is not finite, naming the tile.
    """
    batch = int(recipe["batch"])

    def predicted(chosen: np.ndarray) -> Predictions:
        # in float64, so that sure predictions do not tie at 1
        logits = epochs.predict(learner, chosen, batch) if logits_of is None else logits_of(chosen)
        probability = np.exp(epochs.log_probabilities(logits))
        columns = {name: getattr(table, name)[chosen].tolist() for name in ("tile", "image", "slide", "group")}
        return Predictions(**columns, true=table.label[chosen], score=probability, probability=probability)

    kept_out = np.flatnonzero(table.set == "validation")
    trained = rows["train"]
    write_predictions(
        path,
        held_out=predicted(np.flatnonzero(table.set == "test")),
        out_of_fold=None,
        validation=predicted(kept_out) if len(kept_out) else None,
        attributes={
            "unit": split["unit"],
            "group_unit": table.unit,
            "share_groups": split.get("share_groups") or "",
            "features_versions": table.attributes.get("versions", {}),
            "classifier": SOFTMAX,
            "recipe": recipe["name"],
            "kept_epoch": outcome.kept_epoch,
            "kept_by": outcome.kept_by,
            "epochs": int(outcome.history[-1]["epoch"]),
            "monitor": recipe["monitor"],
            "chosen": {"epoch": outcome.kept_epoch},
            "tuning_metric": recipe["monitor"],
            "calibration": CALIBRATION,
            "n_train_tiles": len(trained),
            "n_train_groups": len(set(table.group[trained].tolist())),
            "classes": list(classes),
            **attributes,
        },
    )


def check_sets(table: tile_table.TileIndex, rows: Mapping[str, np.ndarray], split_file: str) -> None:
    """Raise if there is nothing to train on or to test with.

    Raises
    ------
    ValueError
        Naming the split's file and the set.
    """
    if not len(rows["train"]):
        raise ValueError(f"{split_file}: tiles with a label are needed in train; found none")
    if not (table.set == "test").any():
        raise ValueError(f"{split_file}: tiles are needed in test; found none")


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
