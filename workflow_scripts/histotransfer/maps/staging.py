"""The pN stage of patients from the tumour maps of their slides, and how it agrees with the truth.

Each slide is one lymph node. A forest predicts its class from its map, always grown without the patient's own slides,
and the classes of all of a patient's slides give the stage. A patient with a missing slide has no stage.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer import seeds, store
from histotransfer.definitions import GIVEN, SETS, Factors
from histotransfer.evaluation import resampling
from histotransfer.maps import pn_stages, staging_tables
from histotransfer.maps.metastases import (
    SLIDE_CLASSES,
    TumourMap,
    check_classes,
    check_thresholds,
    classify_out_of_fold,
    map_features,
    tumour_maps,
)
from histotransfer.maps.pn_stages import MOST_NODES, STAGES
from histotransfer.maps.staging_tables import Agreement, Patient, Slide, StagingFiles
from histotransfer.predictions import Predictions, read_predictions
from histotransfer.problems import counted, listing
from histotransfer.settings import Staging

log = logging.getLogger("histotransfer")

#: What is done about patients with a missing slide.
ON_MISSING_SLIDE = ("exclude", "fail")


class MissingSlidesError(ValueError):
    """Patients who cannot be staged, under ``on_missing_slide: fail``; all of them are named."""


def stage_patients(
    *,
    predictions: str,
    grids: Sequence[str],
    slides_table: str,
    split_file: str,
    files: StagingFiles,
    metastases: Mapping[str, str],
    factors: Factors,
    staging: Staging,
    bootstrap: int,
    master_seed: int,
    threads: int = 1,
) -> None:
    """Predict the class of each slide held out, stage the patients, and compare with the truth.

    Patients are those of the split's test set, so that no network has seen a slide of theirs. All of their slides that
    can be used are in the forests; a patient is staged if all slides can.

    Parameters
    ----------
    predictions : path
        ``predictions.h5`` of any method on a task of two classes, the second of which is tumour.
    grids : sequence of path
        What :func:`histotransfer.slides.grid.write_grid` wrote, of every slide of the dataset.
    slides_table, split_file : path
        The cohort's table; the groups of the run's split.
    files : StagingFiles
        Written.
    metastases : mapping
        By image: the class of its slide, one of :data:`histotransfer.maps.metastases.SLIDE_CLASSES`, "" if unknown. A
        patient without any is not asked for.
    factors : Factors
        Dataset, task, split and draw of the predictions. Folds and resamples are the same for every method on a split.
    staging : Staging
    bootstrap : int
        Resamples of the patients; 0: no intervals.
    master_seed : int
    threads : int

    Raises
    ------
    MissingSlidesError
        Under ``fail``, naming every patient who cannot be staged.
    ValueError
        If the predictions are of more classes than two, of another split, or of tiles as groups; if a patient has
        slides on both sides of the split; or if there are too few patients or classes
        (:func:`histotransfer.maps.pn_stages.patient_folds`,
        :func:`histotransfer.maps.metastases.classify_out_of_fold`).
    """
    _check_settings(staging)
    check_classes(metastases)
    model = _read(predictions, factors)
    slides = _placed_slides(slides_table, split_file, model, metastases)
    _check_held_out(predictions, split_file, set(model.held_out.image), slides)
    patients = _patients_held_out(split_file, slides)
    maps = tumour_maps(model.held_out, grids, [slide.image for one in patients.asked for slide in one.slides])
    _find_missing(patients.asked, maps, staging.nodes)
    _judge(patients.asked, staging)

    used = [slide for one in patients.asked for slide in one.slides if slide.usable]
    numbers = [map_features(maps[slide.image], staging.thresholds) for slide in used]
    _classify(used, numbers, staging, model, master_seed=master_seed, threads=threads)
    staged = [one for one in patients.asked if not one.reasons]
    for one in staged:
        one.true = pn_stages.pn_stage([slide.true for slide in one.slides])
        one.predicted = pn_stages.pn_stage([slide.predicted for slide in one.slides])

    random = seeds.generator(master_seed, "staging bootstrap", *model.keys)
    staging_tables.write_features(files.features, used, maps, numbers, staging.thresholds)
    staging_tables.write_slides(files.slides, patients.asked)
    staging_tables.write_patients(files.patients, patients.asked)
    staging_tables.write_confusion(files.slide_confusion, "slide", used, SLIDE_CLASSES)
    staging_tables.write_confusion(files.patient_confusion, "patient", staged, STAGES)
    store.write_json(
        files.kappa,
        {
            **{name: model.said[name] for name in ("share_groups", "features", "classifier")},
            **model.asked,
            # of a given split too, what its groups are
            "unit": model.said["group_unit"],
            "untrained": bool(model.said["untrained"]),
            "kappa": vars(_kappa(staged, bootstrap, random)),
            "slide_accuracy": vars(_slide_accuracy(used, bootstrap, random)),
            "patients": len(staged),
            "left_out": {one.name: "; ".join(one.reasons) for one in patients.asked if one.reasons},
            "slides": len(used),
            "patients_of_training": patients.training,
            "patients_without_class": patients.unasked,
            "stages": {name: sum(one.true == name for one in staged) for name in STAGES},
            "slide_classes": {name: sum(slide.true == name for slide in used) for name in SLIDE_CLASSES},
            "notes": _notes(used, staging.folds, maps),
            "settings": _settings(staging, bootstrap),
        },
    )


def _check_settings(staging: Staging) -> None:
    check_thresholds(staging.thresholds)
    if not 1 <= staging.nodes <= MOST_NODES:
        raise ValueError(f"a patient has 1 to {MOST_NODES} slides in staging; found {staging.nodes}")
    if staging.on_missing_slide not in ON_MISSING_SLIDE:
        legal = " or ".join(ON_MISSING_SLIDE)
        raise ValueError(f"on_missing_slide must be {legal}; found {staging.on_missing_slide!r}")


def _settings(staging: Staging, bootstrap: int) -> dict[str, Any]:
    return {
        **{"nodes": staging.nodes, "thresholds": list(staging.thresholds), "trees": staging.trees},
        **{"balanced": staging.balanced, "folds": staging.folds, "bootstrap": bootstrap},
    }


@dataclass(frozen=True)
class _Model:
    """A model's held-out predictions, what they say of themselves, and what they were asked to be of."""

    held_out: Predictions
    said: Mapping[str, Any]
    asked: Mapping[str, Any]

    @property
    def keys(self) -> tuple[Any, ...]:
        """Dataset, task, split and seed, which tell draws of folds and resamples from others."""
        return tuple(self.asked.values())


def _read(predictions: str, factors: Factors) -> _Model:
    """Return the held-out predictions, if they are of what is asked for."""
    held_out, _, said = read_predictions(predictions)
    asked = {"dataset": factors.dataset, "task": factors.task, "split": factors.split, "seed": factors.seed}
    for name, value in asked.items():
        if said[name] != value:
            raise ValueError(f"{predictions}: must be of the {name} {value!r}; found {said[name]!r}")
    if len(said["classes"]) != 2:
        raise ValueError(f"{predictions}: a tumour map takes two classes, tumour last; found {said['classes']}")
    return _Model(held_out, said, asked)


def _placed_slides(slides_table: str, split_file: str, model: _Model, metastases: Mapping[str, str]) -> list[Slide]:
    """Return the cohort's slides, each with its set ("" where no group of the split has it) and its true class."""
    unit = model.said["group_unit"]
    if unit == "tile":
        raise ValueError(
            f"{split_file}: patients are staged on splits by patient, slide or image; found tiles as groups, so that "
            "a slide's tiles train the network that predicts it"
        )
    set_of = {row["group"]: row["set"] for row in store.read_table(split_file)}
    slides: list[Slide] = []
    for row in store.read_table(slides_table):
        groups = {**row, "slide": row["slide"] or row["image"]}
        # a slide that cannot be read stands in no group of its own, but the sheet may say where it belongs
        sheet = row["split"] if model.said["unit"] == GIVEN and row["split"] in SETS else ""
        slides.append(
            Slide(
                **{name: groups[name] for name in ("image", "image_in_sheet", "slide", "patient", "status", "reason")},
                set=set_of.get(groups[unit], sheet),
                true=metastases.get(row["image"], ""),
            )
        )
    strange = sorted(metastases.keys() - {slide.image for slide in slides})
    if strange:
        raise ValueError(
            f"{slides_table}: must have every slide with a class of metastasis; not found: {_quoted(strange)}"
        )
    return slides


def _check_held_out(predictions: str, split_file: str, images: set[str], slides: Sequence[Slide]) -> None:
    """Raise unless all predicted images are in the test set of the split."""
    test = {slide.image for slide in slides if slide.set == "test"}
    strange = sorted(images - test)
    if strange:
        raise ValueError(
            f"{predictions}: held-out tiles must be of slides in the test set of {split_file}; not so: "
            f"{_quoted(strange)}"
        )


@dataclass(frozen=True)
class _HeldOut:
    """The patients to stage, and how many others there are: in training, and held out without any slide's class."""

    asked: list[Patient]
    training: int
    unasked: int


def _patients_held_out(split_file: str, slides: Sequence[Slide]) -> _HeldOut:
    """Group the slides of the test set by patient; of patients of whom no slide could be used as well."""
    by_patient: dict[str, list[Slide]] = {}
    for slide in slides:
        by_patient.setdefault(slide.patient, []).append(slide)
    without = [slide.image for slide in by_patient.pop("", []) if slide.true and slide.set in ("test", "")]
    if without:
        raise ValueError(
            f"slides with a class of metastasis need a patient in the sample sheet; without: {_quoted(without)}"
        )
    asked, mixed, training, unasked = [], [], 0, 0
    for name, own in sorted(by_patient.items()):
        sets = {slide.set for slide in own} - {""}
        if sets and "test" not in sets:
            training += 1
        elif not any(slide.true for slide in own):
            unasked += 1
        elif sets - {"test"}:
            mixed.append(name)
        else:
            asked.append(Patient(name, sorted(own, key=lambda slide: slide.image)))
    if mixed:
        raise ValueError(
            f"{split_file}: only patients whose slides trained no network can be staged; of {len(mixed)} some slides "
            f"are in the test set and others in train or validation: {_quoted(mixed)}. Split by patient"
        )
    return _HeldOut(asked, training, unasked)


def _find_missing(asked: Iterable[Patient], maps: Mapping[str, TumourMap], nodes: int) -> None:
    """Set the status of every slide, and each patient's reasons to have no stage."""
    for one in asked:
        for slide in one.slides:
            if slide.usable and slide.image not in maps:
                slide.status, slide.reason = "no prediction", "none of its tiles has a prediction"
            elif slide.usable and not slide.true:
                slide.status, slide.reason = "no class", "the sample sheet names no class of metastasis"
        if len(one.slides) != nodes:
            one.reasons.append(f"{counted(len(one.slides), 'slide')} in the sample sheet, where a patient has {nodes}")
        twice = sorted(name for name, n in Counter(slide.slide for slide in one.slides).items() if n > 1)
        if twice:
            one.reasons.append(f"several images are of one slide, which is one node: {_quoted(twice)}")
        bad = (slide for slide in one.slides if not slide.usable)
        one.reasons += [f"{slide.image_in_sheet}: {slide.status}: {slide.reason}" for slide in bad]


def _judge(asked: Sequence[Patient], staging: Staging) -> None:
    left_out = [one for one in asked if one.reasons]
    n_staged = len(asked) - len(left_out)
    summary = f"{n_staged} of {len(asked)} patients have {staging.nodes} usable slides and are staged"
    lines = "".join(f"\n  {one.name}: {'; '.join(one.reasons)}" for one in left_out)
    if left_out and staging.on_missing_slide == "fail":
        raise MissingSlidesError(f"{summary} (on_missing_slide: fail){lines}")
    log.info("%s%s", summary, ", see patients.tsv and the report" if left_out else "")
    for one in left_out:
        log.debug("not staged: %s: %s", one.name, "; ".join(one.reasons))


def _classify(
    used: Sequence[Slide],
    numbers: Sequence[Mapping[str, float]],
    staging: Staging,
    model: _Model,
    *,
    master_seed: int,
    threads: int,
) -> None:
    """Set each slide's fold and predicted class, from the numbers of its map."""
    classes_of: dict[str, list[str]] = {}
    for slide in used:
        classes_of.setdefault(slide.patient, []).append(slide.true)
    fold_of = pn_stages.patient_folds(classes_of, folds=staging.folds, master_seed=master_seed, factors=model.keys)
    method = (model.said["features"], model.said["classifier"])
    predicted = classify_out_of_fold(
        np.array([list(of_map.values()) for of_map in numbers]),
        np.array([SLIDE_CLASSES.index(slide.true) for slide in used]),
        np.array([fold_of[slide.patient] for slide in used]),
        trees=staging.trees,
        balanced=staging.balanced,
        seed_of=lambda fold: seeds.integer(master_seed, "staging forest", *model.keys, *method, fold),
        threads=threads,
    )
    for slide, place in zip(used, predicted.tolist(), strict=True):
        slide.predicted, slide.fold = SLIDE_CLASSES[place], fold_of[slide.patient]


def _kappa(staged: Sequence[Patient], bootstrap: int, random: np.random.Generator) -> Agreement:
    """Return kappa over patients with its interval."""
    true = np.array([STAGES.index(one.true) for one in staged], dtype=np.int64)
    predicted = np.array([STAGES.index(one.predicted) for one in staged], dtype=np.int64)
    values = _resampled(lambda times: pn_stages.quadratic_kappa(true, predicted, times), len(staged), bootstrap, random)
    value = float(pn_stages.quadratic_kappa(true, predicted))
    if np.isnan(value):
        same = f"every patient has the stage {staged[0].true}, and the same is predicted" if staged else ""
        return Agreement(None, note=f"undefined: {same or 'no patient is staged'}")
    return _agreement(value, values, len(staged), bootstrap, "two different stages")


def _slide_accuracy(used: Sequence[Slide], bootstrap: int, random: np.random.Generator) -> Agreement:
    """Return the share of slides whose class is predicted, with its interval over patients."""
    names = sorted({slide.patient for slide in used})
    slides, right = np.zeros(len(names)), np.zeros(len(names))
    for slide in used:
        slides[names.index(slide.patient)] += 1
        right[names.index(slide.patient)] += slide.predicted == slide.true
    values = _resampled(lambda times: (right @ times) / (slides @ times), len(names), bootstrap, random)
    return _agreement(float(right.sum() / slides.sum()), values, len(names), bootstrap, "slides")


def _resampled(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, bootstrap: int, random: np.random.Generator
) -> np.ndarray | None:
    """Return a statistic of resamples of `n` patients, None where none is asked for."""
    if not bootstrap or n < 2:
        return None
    return resampling.resampled(statistic, n_groups=n, bootstrap=bootstrap, random=random)


def _agreement(value: float, values: np.ndarray | None, n: int, bootstrap: int, lacking: str) -> Agreement:
    interval = resampling.percentile_interval(values, n_groups=n, unit="patient", bootstrap=bootstrap, lacking=lacking)
    return Agreement(value, interval.low, interval.high, interval.note)


def _notes(used: Sequence[Slide], folds: int, maps: Mapping[str, TumourMap]) -> list[str]:
    """Return what must be said of the classes and the maps."""
    notes = []
    for name in SLIDE_CLASSES:
        own = [slide for slide in used if slide.true == name]
        n, within = len({slide.patient for slide in own}), len({slide.fold for slide in own})
        if within == 1:
            notes.append(
                f"class {name} ({counted(n, 'patient')}) stands in one fold alone: no forest can tell it there"
            )
        elif 0 < within < folds:
            notes.append(f"class {name} ({counted(n, 'patient')}) stands in {within} of {folds} folds")
    cut = [slide.image_in_sheet for slide in used if maps[slide.image].unpredicted]
    if cut:
        notes.append(f"tiles without a prediction count as no tumour in {len(cut)} slides: {_quoted(cut)}")
    return notes


def _quoted(names: Sequence[str]) -> str:
    return listing([repr(name) for name in names])
