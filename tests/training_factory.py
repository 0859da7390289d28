"""Tiles to train on, in the workflow's own forms: pixel files, labels, split, recipes; small enough for a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cohort_factory
import numpy as np

from histotransfer import store
from histotransfer.cohort import labels

CLASSES = ["fibrous", "glandular", "lymphoid"]
#: The smallest network of the table, at its smallest.
START = {
    "architecture": "MobileNetV2",
    "alpha": 0.35,
    "weights": "random",
    "px": 32,
    "rescale": "network",
    "layer": "block_2",
    "layers": [],
}
SGD = {"kind": "sgd", "momentum": 0.9, "nesterov": False}
ADAM = {"kind": "adam", "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
RMSPROP = {"kind": "rmsprop", "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7}


def phase(**changes: Any) -> dict[str, Any]:
    """Return a phase with every key, as the rules pass it on."""
    return {
        "on": "tiles",
        "train": "all",
        "epochs": 1,
        "optimiser": SGD,
        "rate": 0.01,
        "rates": {},
        "layer_decay": None,
        "schedule": {"kind": "constant"},
        "weight_decay": 0.0,
        **changes,
    }


def recipe(*phases: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a recipe with every key, as the rules pass it on."""
    return {
        "name": "tiny",
        "head": {"pool": "average", "dense": [], "activation": "relu", "dropout": 0.0},
        "initialisation": {"kind": "glorot", "deviation": None},
        "batch": 8,
        "precision": "float32",
        "crop_from": None,
        "augmentation": None,
        "auxiliary": 0.0,
        "monitor": "loss",
        "keep": "best",
        "early_stopping": None,
        "curve": None,
        "phases": list(phases) or [phase()],
        **changes,
    }


def tiles_of(index: int, n: int, px: int, generator: np.random.Generator) -> np.ndarray:
    """Return noisy tiles of one class, told from the others by its colour and its stripes."""
    tiles = generator.integers(60, 120, (n, px, px, 3))
    tiles[..., index] += 90
    tiles[:, :: 2 + index] += 40
    return tiles.clip(0, 255).astype(np.uint8)


def write_cohort(
    folder: Path,
    *,
    px: int = 32,
    patients: int = 18,
    tiles: int = 4,
    classes: Sequence[str] = CLASSES,
    unlabelled: int = 0,
    **split: Any,
) -> dict[str, Any]:
    """Write pixel files of one image a patient and class, labels and a split; return the inputs of a training.

    Parameters
    ----------
    folder : Path
    px : int
        Edge of the tiles.
    patients, tiles : int
        Patients, and tiles of each.
    classes : sequence of str
    unlabelled : int
        Tiles of each patient that have no label.
    **split
        Keys of the split's definition.
    """
    generator = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    pixels, rows, slides = [], [], []
    for number in range(patients):
        name, index = f"image{number:02d}", number % len(classes)
        path = folder / "pixels" / f"{name}.h5"
        with store.writing_hdf5(path, {"status": "ok", "reason": "", "px": px, "slide": name, "digest": "d"}) as file:
            file["tiles"] = tiles_of(index, tiles, px, generator)
            file["coords"] = np.zeros((tiles, 2), np.int64)
            store.write_texts(file, "tile", [f"{k}_0" for k in range(tiles)])
            store.write_texts(file, "image", [name] * tiles)
        pixels.append(str(path))
        patient = f"patient{number:02d}"
        for k in range(tiles):
            label = "" if k < unlabelled else classes[index]
            rows.append({"tile": f"{k}_0", "image": name, "slide": name, "patient": patient, "label": label})
        slides.append(cohort_factory.slides_row(name, patient=patient, labels={classes[index]: tiles}, tiles=tiles))
    store.write_table(folder / "labels.tsv", labels.COLUMNS, ({c: r.get(c) for c in labels.COLUMNS} for r in rows))
    table = cohort_factory.write_slides_table(folder / "slides.tsv", slides)
    split_file, definition = cohort_factory.split_by_patient(
        folder, table, **{"test": 0.2, "validation": 0.2, "folds": 2, **split}
    )
    return {
        "pixels": pixels,
        "labels": [str(folder / "labels.tsv")],
        "slides_table": table,
        "split_file": split_file,
        "split": definition,
        "classes": list(classes),
    }


def arguments(cohort: Mapping[str, Any], folder: Path, recipe: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return all arguments of ``training.train_network``, with outputs in `folder`."""
    files = {name: str(folder / f"{name}{suffix}") for name, suffix in OUTPUTS.items()}
    return {
        **cohort,
        **files,
        "head": [],
        "weights_file": [],
        "network_name": "net-tuned",
        "start": START,
        "start_name": "net",
        "recipe": recipe,
        "dataset": "scans",
        "task": "kind",
        "split_name": "by-patient",
        "split_seed": 1,
        "master_seed": 2018,
        "resume": str(folder / ".resume"),
        "threads": 2,
        "code": "c",
        **changes,
    }


OUTPUTS = {"model": ".keras", "predictions": ".h5", "history": ".tsv", "curve": ".tsv"}
