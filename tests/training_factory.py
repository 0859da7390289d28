"""Tiles to train on, in the workflow's own forms: pixel files, labels, split, recipes; small enough for a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cohort_factory
import numpy as np

from histotransfer import seeds, store, workflow
from histotransfer.cohort import labels
from histotransfer.definitions import Adam, Draw, Factors, Phase, Recipe, RmsProp, Sgd
from histotransfer.networks.specification import NetworkSpec, specification
from histotransfer.plain_data import made, plain
from histotransfer.training import epochs
from histotransfer.training.checkpoints import Checkpoint
from histotransfer.training.learner import Learner

CLASSES = ["fibrous", "glandular", "lymphoid"]
#: The smallest network of the table, at its smallest.
START = specification({"architecture": "MobileNetV2", "alpha": 0.35, "weights": "random", "px": 32, "layer": "block_2"})
SGD, ADAM, RMSPROP = Sgd(), Adam(), RmsProp()


def start(**changes: Any) -> NetworkSpec:
    """Return :data:`START` with changes."""
    return specification(START.plain() | changes)


def phase(**changes: Any) -> Phase:
    """Return a phase of one epoch on tiles, with changes: objects or plain data."""
    return made(Phase, {"train": "all", "epochs": 1, "optimiser": SGD, "rate": 0.01, **changes})


def recipe(*phases: Phase, **changes: Any) -> Recipe:
    """Return a recipe of small batches, with changes: objects or plain data."""
    return made(Recipe, {"name": "tiny", "batch": 8, "phases": list(phases) or [phase()], **changes})


def factors(features: str = "net-tuned", classifier: str = "softmax", **changes: Any) -> Factors:
    """Return what a training is of."""
    known = {"dataset": "scans", "task": "kind", "split": "by-patient", "draw": Draw(1)}
    return Factors(**{**known, "features": features, "classifier": classifier, **changes})


def settings(folder: Path) -> dict[str, Any]:
    """Return the names of what all trainings of a study have in common, with checkpoints in `folder`."""
    return {"master_seed": 2018, "resume": str(folder / ".resume"), "code": "c"}


def checkpoint(folder: Path, recipe: Recipe) -> Checkpoint:
    """Return the checkpoint of :func:`train`."""
    return Checkpoint(folder, {"recipe": plain(recipe)})


def train(
    learner: Learner,
    recipe: Recipe,
    *,
    labels: np.ndarray,
    rows: Mapping[str, np.ndarray],
    folder: Path,
    classes: Sequence[str] = CLASSES,
) -> epochs.Outcome:
    """Train a learner through all phases of a recipe, with its checkpoint in `folder`."""
    training = epochs.Training(
        learner,
        name="tuned",
        labels=labels,
        rows=rows,
        recipe=recipe,
        phases=range(len(recipe.phases)),
        classes=classes,
        generator_of=partial(seeds.generator, 1, "training"),
        checkpoint=checkpoint(folder, recipe),
    )
    return training.run()


def call(function: Callable[..., None], given: Mapping[str, Any]) -> None:
    """Call a rule's function as a rule does, with its named inputs, outputs and params."""
    function(**workflow.arguments_of(function, given))


#: In a process of its own: a rule's function, by the names of module and function, and what it is given.
_JOB = """
import json, logging, sys
sys.path[:0] = json.loads(sys.argv[1])
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
from histotransfer import workflow
function = workflow.function_of(sys.argv[2])
function(**workflow.arguments_of(function, json.loads(sys.argv[3])))
"""


def begin(step: str, given: Mapping[str, Any]) -> subprocess.Popen:
    """Start a rule's function, ``folder.module.function``, in a process of its own."""
    command = [sys.executable, "-c", _JOB, json.dumps(sys.path), step, json.dumps(plain(given))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(job: subprocess.Popen) -> str:
    """Wait for the end of such a process, which must be a good one, and return what it said."""
    output, _ = job.communicate(timeout=300)
    assert job.returncode == 0, output
    return output


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


def arguments(cohort: Mapping[str, Any], folder: Path, recipe: Recipe, **changes: Any) -> dict[str, Any]:
    """Return the names of the rule ``train_network``, with outputs in `folder`."""
    return {
        **cohort,
        **{name: str(folder / f"{name}{suffix}") for name, suffix in OUTPUTS.items()},
        **{"head": [], "weights_file": [], "start": START, "start_name": "net"},
        **{"recipe": recipe, "factors": factors(), **settings(folder), **changes},
    }


OUTPUTS = {"model": ".keras", "predictions": ".h5", "history": ".tsv", "curve": ".tsv"}
