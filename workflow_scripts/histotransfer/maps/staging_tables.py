"""The files that staging writes, and the tables of several methods and seeds together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from histotransfer import metrics, store
from histotransfer.evaluation import scores
from histotransfer.maps.metastases import TumourMap, feature_names

SLIDE_COLUMNS = (
    *("image", "image_in_sheet", "slide", "patient", "true", "predicted", "fold"),
    *("status", "reason"),
)
PATIENT_COLUMNS = ("patient", "slides", "usable", "true", "predicted", "status", "reason")
TABLE_COLUMNS = (
    *("dataset", "task", "split", "unit", "share_groups", "seed", "features", "classifier", "untrained"),
    *("patients", "left_out", "kappa", "low", "high"),
    *("slides", "slide_accuracy", "slide_low", "slide_high", "note"),
)
LEFT_OUT_COLUMNS = ("dataset", "task", "split", "patient", "reason", "runs")

#: What a row of the maps' numbers says of its map, before the numbers.
_MAP_COLUMNS = ("tiles", "unpredicted_tiles")

#: Status of a slide that can be used, as in the cohort's table, and of a patient who has a stage and who has none.
OK, STAGED, LEFT_OUT = "ok", "staged", "left out"


@dataclass(frozen=True)
class StagingFiles:
    """What :func:`histotransfer.maps.staging.stage_patients` writes.

    Attributes
    ----------
    features : path
        A row a slide in use: ``image``, ``patient``, ``tiles`` (predicted), ``unpredicted_tiles``, then
        :func:`histotransfer.maps.metastases.map_features`.
    slides : path
        A row a slide of the patients: ``true`` and ``predicted`` class, ``fold`` that was left out when it was
        predicted; ``status`` is not ``ok`` for a slide that cannot be used, and ``reason`` says why.
    patients : path
        A row a patient: ``slides`` in the sheet, ``usable`` ones, ``true`` and ``predicted`` stage, ``status`` (staged,
        left out) and ``reason``.
    kappa : path
        JSON of the quadratic-weighted kappa over the patients staged and the accuracy over the slides in use, each an
        :class:`Agreement`; and how many there are of what.
    slide_confusion, patient_confusion : path
        Counts by true and predicted class or stage, in the form of :func:`histotransfer.evaluation.scores.score`.
    """

    features: str
    slides: str
    patients: str
    kappa: str
    slide_confusion: str
    patient_confusion: str


@dataclass(frozen=True)
class Agreement:
    """How predictions agree with the truth, with a 95 % interval (patients resampled); None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass
class Slide:
    """A slide of the cohort's table, with what staging finds.

    Attributes
    ----------
    image, image_in_sheet, slide, patient : str
        As in the cohort's table.
    status, reason : str
        ``ok``, or why it cannot be used.
    set : str
        Of the split; "" where no group of the split has it.
    true, predicted : str
        Class of metastasis; "" where unknown.
    fold : int or None
        That was left out when it was predicted.
    """

    image: str
    image_in_sheet: str
    slide: str
    patient: str
    status: str
    reason: str
    set: str
    true: str
    predicted: str = ""
    fold: int | None = None

    @property
    def usable(self) -> bool:
        """Whether it can be used."""
        return self.status == OK


@dataclass
class Patient:
    """A patient held out, with all slides; `true` and `predicted` stage, or `reasons` why there is none."""

    name: str
    slides: list[Slide]
    reasons: list[str] = field(default_factory=list)
    true: str = ""
    predicted: str = ""


def write_features(
    path: str,
    used: Sequence[Slide],
    maps: Mapping[str, TumourMap],
    numbers: Iterable[Mapping[str, float]],
    thresholds: Sequence[float],
) -> None:
    """Write the numbers of each slide's map, in the order of the slides."""
    rows = []
    for slide, of_map in zip(used, numbers, strict=True):
        tumour_map = maps[slide.image]
        tiles = dict(zip(_MAP_COLUMNS, (len(tumour_map.probability), tumour_map.unpredicted), strict=True))
        rows.append({"image": slide.image, "patient": slide.patient, **tiles, **of_map})
    store.write_table(path, ("image", "patient", *_MAP_COLUMNS, *feature_names(thresholds)), rows)


def write_slides(path: str, patients: Iterable[Patient]) -> None:
    """Write every slide of the patients."""
    store.write_table(path, SLIDE_COLUMNS, (vars(slide) for patient in patients for slide in patient.slides))


def write_patients(path: str, patients: Iterable[Patient]) -> None:
    """Write the patients with their stages, or why they have none."""
    rows = (
        {
            **{"patient": patient.name, "slides": len(patient.slides), "true": patient.true},
            **{"usable": sum(slide.usable for slide in patient.slides), "predicted": patient.predicted},
            **{"status": LEFT_OUT if patient.reasons else STAGED, "reason": "; ".join(patient.reasons)},
        }
        for patient in patients
    )
    store.write_table(path, PATIENT_COLUMNS, rows)


def write_confusion(path: str, level: str, staged: Iterable[Slide | Patient], classes: Sequence[str]) -> None:
    """Write how often each true class or stage was predicted as each."""
    pairs = [(classes.index(one.true), classes.index(one.predicted)) for one in staged]
    places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    counts = metrics.confusion_matrix(places[:, 0], places[:, 1], len(classes))
    store.write_table(path, scores.CONFUSION_COLUMNS, scores.confusion_rows(level, classes, counts))


def collect(*, kappas: Sequence[str], table: str, left_out: str) -> None:
    """Write what :func:`histotransfer.maps.staging.stage_patients` found for several methods and seeds as two tables.

    Parameters
    ----------
    kappas : sequence of path
        The JSON files.
    table : path
        CSV, a row a file, sorted by dataset, task, split, features, classifier and seed: ``patients`` staged and
        ``left_out``, ``kappa`` with ``low`` and ``high``; ``slides``, ``slide_accuracy`` with ``slide_low`` and
        ``slide_high``; ``note``: what must be said of them. An undefined value is empty.
    left_out : path
        CSV, a row a patient who was not staged and ``reason``, once for all ``runs`` (methods and seeds) that it holds
        in.
    """
    rows: list[dict[str, Any]] = []
    reasons: Counter[tuple[str, ...]] = Counter()
    for path in kappas:
        said = store.read_json(path)
        kappa, accuracy = Agreement(**said["kappa"]), Agreement(**said["slide_accuracy"])
        rows.append(
            {name: said[name] for name in TABLE_COLUMNS if name in said}
            | {"untrained": "yes" if said["untrained"] else "no", "left_out": len(said["left_out"])}
            | {"kappa": kappa.value, "low": kappa.low, "high": kappa.high}
            | {"slide_accuracy": accuracy.value, "slide_low": accuracy.low, "slide_high": accuracy.high}
            | {"note": "; ".join(note for note in (kappa.note, *said["notes"]) if note)}
        )
        home = (said["dataset"], said["task"], said["split"])
        reasons.update((*home, patient, reason) for patient, reason in said["left_out"].items())
    keys = ("dataset", "task", "split", "features", "classifier", "seed")
    store.write_csv(table, TABLE_COLUMNS, sorted(rows, key=lambda row: tuple(row[name] for name in keys)))
    each = (dict(zip(LEFT_OUT_COLUMNS, (*place, n), strict=True)) for place, n in sorted(reasons.items()))
    store.write_csv(left_out, LEFT_OUT_COLUMNS, each)
