"""The pN stage of patients, from the tumour maps of their slides: the rule, the agreement with the truth, the table.

Each slide is one lymph node. A forest tells its class from its map, always grown without the patient's own slides, and
the classes of all of a patient's slides give the stage. A patient with a missing slide has no stage.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from histotransfer import metrics, seeds, store
from histotransfer.definitions import GIVEN, SETS
from histotransfer.evaluation import scores
from histotransfer.maps.metastases import (
    SLIDE_CLASSES,
    THRESHOLDS,
    TumourMap,
    check_classes,
    check_thresholds,
    classify_out_of_fold,
    feature_names,
    map_features,
    tumour_maps,
)
from histotransfer.predictions import Predictions, read_predictions
from histotransfer.problems import counted, listing

log = logging.getLogger("histotransfer")


#: Stages of the challenge in their order.
STAGES = ("pN0", "pN0(i+)", "pN1mi", "pN1", "pN2")

#: Slides of a patient in the challenge, each of one lymph node.
NODES = 5

#: Nodes with a micro- or macrometastasis that pN2 ends at.
MOST_NODES = 9

#: What is done about patients with a missing slide.
ON_MISSING_SLIDE = ("exclude", "fail")

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


class MissingSlidesError(ValueError):
    """Patients who cannot be staged, under ``on_missing_slide: fail``; all of them are named."""


def pn_stage(classes: Sequence[str]) -> str:
    """Return a patient's pN stage from the classes of the slides, one a lymph node.

    Parameters
    ----------
    classes : sequence of str
        Of :data:`histotransfer.maps.metastases.SLIDE_CLASSES`, in any order.

    Returns
    -------
    str
        One of :data:`STAGES`. ``pN0``: no metastasis. ``pN0(i+)``: isolated tumour cells alone. ``pN1mi``: micro, no
        macro, in however many nodes. With a macro, by the number of nodes with micro or macro (those with isolated
        tumour cells are not counted): ``pN1`` 1 to 3, ``pN2`` 4 to 9.

    Raises
    ------
    ValueError
        Without classes, for one that is none, and for a macro among more than 9 nodes with micro or macro, which the
        challenge's rule does not cover.

    Notes
    -----
    Bandi et al. (2019), From detection of individual metastases to classification of lymph node status at the patient
    level: the CAMELYON17 challenge.

    Examples
    --------
    >>> pn_stage(["negative", "itc", "micro", "macro", "negative"])
    'pN1'
    """
    unknown = [name for name in classes if name not in SLIDE_CLASSES]
    if unknown or not classes:
        found = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"a stage takes slides of the classes {', '.join(SLIDE_CLASSES)}; found {found}")
    count = Counter(classes)
    nodes = count["micro"] + count["macro"]
    if count["macro"]:
        if nodes > MOST_NODES:
            raise ValueError(f"the stages end at {MOST_NODES} nodes with micro or macro (pN2); found {nodes}")
        return "pN1" if nodes <= 3 else "pN2"
    if count["micro"]:
        return "pN1mi"
    return "pN0(i+)" if count["itc"] else "pN0"


def quadratic_kappa(true: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return Cohen's kappa of two ratings on an ordered scale, disagreements weighted by their square.

    Parameters
    ----------
    true, predicted : ndarray of int, shape (n,)
        Places on the scale.
    weights : ndarray, shape (n,) or (n, r), optional
        How often each row counts; one value a column.

    Returns
    -------
    ndarray of float64, shape () or (r,)
        1: they agree; 0: as by chance. NaN where all ratings of both are the same, or there is none: no disagreement
        is possible by chance then, and kappa is 0 / 0.

    Notes
    -----
    Cohen (1968): kappa = 1 - sum(w_ij O_ij) / sum(w_ij E_ij) with w_ij = (i - j)^2, O_ij the share of rows rated i and
    j, and E_ij the product of the shares of i and of j. The number of stages cancels from the weights. For these
    weights, with t and p the two ratings, sum(w O) is the mean of (t - p)^2, and sum(w E) is
    mean(t^2) + mean(p^2) - 2 mean(t) mean(p) (Fleiss and Cohen 1973), which is computed here.
    """
    t, p = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    w = np.ones(len(t)) if weights is None else np.asarray(weights, dtype=np.float64)
    n = w.sum(axis=0)
    # times n^2: whole numbers, so that the denominator is 0 exactly where it should be
    observed = n * ((t - p) ** 2 @ w)
    expected = n * (t**2 @ w + p**2 @ w) - 2 * (t @ w) * (p @ w)
    share = np.divide(observed, expected, out=np.full(np.shape(n), np.nan), where=expected > 0)
    return 1 - share


def patient_folds(
    classes_of: Mapping[str, Iterable[str]], *, folds: int, master_seed: int, factors: Sequence[object] = ()
) -> dict[str, int]:
    """Deal patients into folds, so that each fold has about as many of each worst class.

    Parameters
    ----------
    classes_of : mapping
        By patient: the classes of the slides.
    folds : int
    master_seed : int
    factors : sequence
        What tells this draw from others.

    Returns
    -------
    dict of int
        Folds from 0. Their sizes differ by one patient at most, and so do their numbers of patients of a worst class.

    Raises
    ------
    ValueError
        If there are fewer than two folds, or fewer patients than folds.

    Notes
    -----
    Patients are ranked by their worst class and within it by a hash of seed and name, and dealt out like cards: the
    same for every method. As scikit-learn's StratifiedGroupKFold, but a patient's place depends on the seed alone and
    not on the order of the rows.
    """
    if folds < 2:
        raise ValueError(f"staging takes 2 folds or more; found {folds}")
    if len(classes_of) < folds:
        raise ValueError(
            f"staging by {folds} folds takes as many patients with usable slides or more, whose slides trained no "
            f"network; found {len(classes_of)}. Hold out more patients, or ask for fewer folds"
        )

    def place(patient: str) -> tuple[int, float, str]:
        worst = max(SLIDE_CLASSES.index(name) for name in classes_of[patient])
        return -worst, seeds.unit_hash(master_seed, "staging folds", *factors, patient), patient

    return {patient: rank % folds for rank, patient in enumerate(sorted(classes_of, key=place))}


def stage_patients(
    *,
    predictions: str,
    grids: Sequence[str],
    slides_table: str,
    split_file: str,
    features: str,
    slides: str,
    patients: str,
    kappa: str,
    slide_confusion: str,
    patient_confusion: str,
    metastases: Mapping[str, str],
    dataset: str,
    task: str,
    split_name: str,
    split_seed: int,
    master_seed: int,
    nodes: int = NODES,
    thresholds: Sequence[float] = THRESHOLDS,
    trees: int = 500,
    balanced: bool = True,
    folds: int = 5,
    bootstrap: int = 1000,
    on_missing_slide: str = "exclude",
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
    features : path
        Written: a row a slide in use: ``image``, ``patient``, ``tiles`` (predicted), ``unpredicted_tiles``, then
        :func:`histotransfer.maps.metastases.map_features`.
    slides : path
        Written: a row a slide of the patients: ``true`` and ``predicted`` class, ``fold`` that was left out when it
        was predicted; ``status`` is not ``ok`` for a slide that cannot be used, and ``reason`` says why.
    patients : path
        Written: a row a patient: ``slides`` in the sheet, ``usable`` ones, ``true`` and ``predicted`` stage,
        ``status`` (staged, left out) and ``reason``.
    kappa : path
        Written: JSON of the quadratic-weighted kappa over the patients staged and the accuracy over the slides in
        use, each with ``low``, ``high`` (95 %, patients resampled) and ``note``, null where undefined; and how many
        there are of what.
    slide_confusion, patient_confusion : path
        Written: counts by true and predicted class or stage, in the form of
        :func:`histotransfer.evaluation.scores.score`.
    metastases : mapping
        By image: the class of its slide, one of :data:`histotransfer.maps.metastases.SLIDE_CLASSES`, "" if unknown. A
        patient without any is not asked for.
    dataset, task, split_name : str
    split_seed, master_seed : int
        Folds and resamples are the same for every method on a split.
    nodes : int
        Slides that a patient must have, 1 to 9.
    thresholds : sequence of float
        Of the maps: see :func:`histotransfer.maps.metastases.map_features`.
    trees : int
        ASSUME 500 where the study says nothing: as many as the predictions hardly depend on the seed with.
    balanced : bool
        Whether the classes count alike in the forests. ASSUME yes: slides with isolated tumour cells
        alone are rare, and forests that never predict them never say pN0(i+).
    folds : int
    bootstrap : int
        Resamples of the patients; 0: no intervals.
    on_missing_slide : {'exclude', 'fail'}
    threads : int

    Raises
    ------
    MissingSlidesError
        Under ``fail``, naming every patient who cannot be staged.
    ValueError
        If the predictions are of more classes than two, of another split, or of tiles as groups; if a patient has
        slides on both sides of the split; or if there are too few patients or classes (:func:`patient_folds`,
        :func:`histotransfer.maps.metastases.classify_out_of_fold`).
    """
    _check_settings(nodes, thresholds, on_missing_slide)
    check_classes(metastases)
    asked_of = {"dataset": dataset, "task": task, "split": split_name, "seed": split_seed}
    factors = tuple(asked_of.values())
    held_out, said = _read(predictions, asked_of)
    rows = _placed_rows(slides_table, split_file, said, metastases)
    _check_held_out(predictions, split_file, set(held_out.image), rows)
    found = _patients_held_out(split_file, rows)
    maps = tumour_maps(held_out, grids, [row["image"] for one in found.asked for row in one.rows])
    _find_missing(found.asked, maps, nodes)
    _judge(found.asked, nodes, on_missing_slide)

    used = [row for one in found.asked for row in one.rows if row["status"] == OK]
    classes_of: dict[str, list[str]] = {}
    for row in used:
        classes_of.setdefault(row["patient"], []).append(row["true"])
    fold_of = patient_folds(classes_of, folds=folds, master_seed=master_seed, factors=factors)
    numbers = [map_features(maps[row["image"]], thresholds) for row in used]
    predicted = classify_out_of_fold(
        np.array([list(one.values()) for one in numbers]),
        np.array([SLIDE_CLASSES.index(row["true"]) for row in used]),
        np.array([fold_of[row["patient"]] for row in used]),
        trees=trees,
        balanced=balanced,
        seed_of=lambda fold: seeds.integer(
            master_seed, "staging forest", *factors, said["features"], said["classifier"], fold
        ),
        threads=threads,
    )
    for row, place in zip(used, predicted.tolist(), strict=True):
        row["predicted"], row["fold"] = SLIDE_CLASSES[place], fold_of[row["patient"]]
    staged = [one for one in found.asked if not one.reasons]
    for one in staged:
        one.true, one.predicted = (pn_stage([row[side] for row in one.rows]) for side in ("true", "predicted"))

    random = seeds.generator(master_seed, "staging bootstrap", *factors)
    columns = ("image", "patient", *_MAP_COLUMNS, *feature_names(thresholds))
    store.write_table(features, columns, _rows_of_maps(used, maps, numbers))
    every = (row for one in found.asked for row in one.rows)
    store.write_table(slides, SLIDE_COLUMNS, ({name: row[name] for name in SLIDE_COLUMNS} for row in every))
    store.write_table(patients, PATIENT_COLUMNS, map(_patient_row, found.asked))
    _write_confusion(slide_confusion, "slide", [(row["true"], row["predicted"]) for row in used], SLIDE_CLASSES)
    _write_confusion(patient_confusion, "patient", [(one.true, one.predicted) for one in staged], STAGES)
    store.write_json(
        kappa,
        {
            **{name: said[name] for name in ("share_groups", "features", "classifier")},
            **asked_of,
            # of a given split too, what its groups are
            "unit": said["group_unit"],
            "untrained": bool(said["untrained"]),
            "kappa": _agreement(staged, bootstrap, random),
            "slide_accuracy": _slide_accuracy(used, bootstrap, random),
            "patients": len(staged),
            "left_out": {one.name: "; ".join(one.reasons) for one in found.asked if one.reasons},
            "slides": len(used),
            "patients_of_training": found.training,
            "patients_without_class": found.unasked,
            "stages": {name: sum(one.true == name for one in staged) for name in STAGES},
            "slide_classes": {name: sum(row["true"] == name for row in used) for name in SLIDE_CLASSES},
            "notes": _notes(used, folds, maps),
            "settings": {
                **{"nodes": nodes, "thresholds": list(thresholds), "trees": trees, "balanced": balanced},
                **{"folds": folds, "bootstrap": bootstrap},
            },
        },
    )


def collect(*, kappas: Sequence[str], table: str, left_out: str) -> None:
    """Write what :func:`stage_patients` found for several methods and seeds as two tables.

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
        agreement, share = said["kappa"], said["slide_accuracy"]
        rows.append(
            {name: said[name] for name in TABLE_COLUMNS if name in said}
            | {"untrained": "yes" if said["untrained"] else "no", "left_out": len(said["left_out"])}
            | {"kappa": agreement["value"], "low": agreement["low"], "high": agreement["high"]}
            | {"slide_accuracy": share["value"], "slide_low": share["low"], "slide_high": share["high"]}
            | {"note": "; ".join(note for note in (agreement["note"], *said["notes"]) if note)}
        )
        home = (said["dataset"], said["task"], said["split"])
        reasons.update((*home, patient, reason) for patient, reason in said["left_out"].items())
    keys = ("dataset", "task", "split", "features", "classifier", "seed")
    store.write_csv(table, TABLE_COLUMNS, sorted(rows, key=lambda row: tuple(row[name] for name in keys)))
    each = (dict(zip(LEFT_OUT_COLUMNS, (*place, n), strict=True)) for place, n in sorted(reasons.items()))
    store.write_csv(left_out, LEFT_OUT_COLUMNS, each)


@dataclass
class _Patient:
    """A patient held out, whose slides' rows are those of the cohort's table, completed here."""

    name: str
    rows: list[dict[str, Any]]
    #: Why there is no stage.
    reasons: list[str] = field(default_factory=list)
    true: str = ""
    predicted: str = ""


@dataclass(frozen=True)
class _HeldOut:
    """The patients to stage, and how many others there are: in training, and held out without any slide's class."""

    asked: list[_Patient]
    training: int
    unasked: int


def _check_settings(nodes: int, thresholds: Sequence[float], on_missing_slide: str) -> None:
    check_thresholds(thresholds)
    if not 1 <= nodes <= MOST_NODES:
        raise ValueError(f"a patient has 1 to {MOST_NODES} slides in staging; found {nodes}")
    if on_missing_slide not in ON_MISSING_SLIDE:
        raise ValueError(f"on_missing_slide must be {' or '.join(ON_MISSING_SLIDE)}; found {on_missing_slide!r}")


def _read(predictions: str, expected: Mapping[str, Any]) -> tuple[Predictions, dict[str, Any]]:
    """Return the held-out predictions and what they say of themselves, if they are of what is asked for."""
    held_out, _, said = read_predictions(predictions)
    for name, value in expected.items():
        if said[name] != value:
            raise ValueError(f"{predictions}: must be of the {name} {value!r}; found {said[name]!r}")
    if len(said["classes"]) != 2:
        raise ValueError(f"{predictions}: a tumour map takes two classes, tumour last; found {said['classes']}")
    return held_out, said


def _placed_rows(
    slides_table: str, split_file: str, said: Mapping[str, Any], metastases: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the cohort's rows, each with its `set` ("" where no group of the split has it) and its `true` class."""
    unit = said["group_unit"]
    if unit == "tile":
        raise ValueError(
            f"{split_file}: patients are staged on splits by patient, slide or image; found tiles as groups, so that "
            "a slide's tiles train the network that predicts it"
        )
    set_of = {row["group"]: row["set"] for row in store.read_table(split_file)}
    rows: list[dict[str, Any]] = []
    for row in store.read_table(slides_table):
        groups = {**row, "slide": row["slide"] or row["image"]}
        # a slide that cannot be read stands in no group of its own, but the sheet may say where it belongs
        sheet = row["split"] if said["unit"] == GIVEN and row["split"] in SETS else ""
        placed = {"set": set_of.get(groups[unit], sheet), "true": metastases.get(row["image"], "")}
        rows.append({**groups, **placed, "predicted": "", "fold": None})
    strange = sorted(metastases.keys() - {row["image"] for row in rows})
    if strange:
        raise ValueError(
            f"{slides_table}: must have every slide with a class of metastasis; not found: {_named(strange)}"
        )
    return rows


def _check_held_out(predictions: str, split_file: str, images: set[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise unless all predicted images are in the test set of the split."""
    test = {row["image"] for row in rows if row["set"] == "test"}
    strange = sorted(images - test)
    if strange:
        raise ValueError(
            f"{predictions}: held-out tiles must be of slides in the test set of {split_file}; not so: "
            f"{_named(strange)}"
        )


def _patients_held_out(split_file: str, rows: Sequence[dict[str, Any]]) -> _HeldOut:
    """Group the rows of the test set by patient; of patients of whom no slide could be used as well."""
    by_patient: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_patient.setdefault(row["patient"], []).append(row)
    nobody = [row["image"] for row in by_patient.pop("", []) if row["true"] and row["set"] in ("test", "")]
    if nobody:
        raise ValueError(
            f"slides with a class of metastasis need a patient in the sample sheet; without: {_named(nobody)}"
        )
    asked, mixed, training, unasked = [], [], 0, 0
    for name, own in sorted(by_patient.items()):
        sets = {row["set"] for row in own} - {""}
        if sets and "test" not in sets:
            training += 1
        elif not any(row["true"] for row in own):
            unasked += 1
        elif sets - {"test"}:
            mixed.append(name)
        else:
            asked.append(_Patient(name, sorted(own, key=lambda row: row["image"])))
    if mixed:
        raise ValueError(
            f"{split_file}: only patients whose slides trained no network can be staged; of {len(mixed)} some slides "
            f"are in the test set and others in train or validation: {_named(mixed)}. Split by patient"
        )
    return _HeldOut(asked, training, unasked)


def _find_missing(asked: Iterable[_Patient], maps: Mapping[str, TumourMap], nodes: int) -> None:
    """Set the status of every slide, and each patient's reasons to have no stage."""
    for one in asked:
        for row in one.rows:
            if row["status"] == OK and row["image"] not in maps:
                row["status"], row["reason"] = "no prediction", "none of its tiles has a prediction"
            elif row["status"] == OK and not row["true"]:
                row["status"], row["reason"] = "no class", "the sample sheet names no class of metastasis"
        if len(one.rows) != nodes:
            one.reasons.append(f"{counted(len(one.rows), 'slide')} in the sample sheet, where a patient has {nodes}")
        twice = sorted(name for name, n in Counter(row["slide"] for row in one.rows).items() if n > 1)
        if twice:
            one.reasons.append(f"several images are of one slide, which is one node: {_named(twice)}")
        bad = (row for row in one.rows if row["status"] != OK)
        one.reasons += [f"{row['image_in_sheet']}: {row['status']}: {row['reason']}" for row in bad]


def _judge(asked: Sequence[_Patient], nodes: int, on_missing_slide: str) -> None:
    left_out = [one for one in asked if one.reasons]
    summary = f"{len(asked) - len(left_out)} of {len(asked)} patients have {nodes} usable slides and are staged"
    lines = "".join(f"\n  {one.name}: {'; '.join(one.reasons)}" for one in left_out)
    if left_out and on_missing_slide == "fail":
        raise MissingSlidesError(f"{summary} (on_missing_slide: fail){lines}")
    log.info("%s%s", summary, ", see patients.tsv and the report" if left_out else "")
    for one in left_out:
        log.debug("not staged: %s: %s", one.name, "; ".join(one.reasons))


def _agreement(staged: Sequence[_Patient], bootstrap: int, random: np.random.Generator) -> dict[str, Any]:
    """Return kappa over patients with its interval."""
    true = np.array([STAGES.index(one.true) for one in staged], dtype=np.int64)
    predicted = np.array([STAGES.index(one.predicted) for one in staged], dtype=np.int64)
    times = _drawn(len(staged), bootstrap, random)
    resampled = None if times is None else quadratic_kappa(true, predicted, times)
    why = "undefined: no patient is staged"
    if staged:
        why = f"undefined: every patient has the stage {staged[0].true}, and the same is predicted"
    return _estimate(
        float(quadratic_kappa(true, predicted)), resampled, len(staged), bootstrap, why, "two different stages"
    )


def _slide_accuracy(used: Sequence[Mapping[str, Any]], bootstrap: int, random: np.random.Generator) -> dict[str, Any]:
    """Return the share of slides whose class is predicted, with its interval over patients."""
    names = sorted({row["patient"] for row in used})
    slides, right = np.zeros(len(names)), np.zeros(len(names))
    for row in used:
        slides[names.index(row["patient"])] += 1
        right[names.index(row["patient"])] += row["predicted"] == row["true"]
    times = _drawn(len(names), bootstrap, random)
    resampled = None if times is None else (right @ times) / (slides @ times)
    return _estimate(float(right.sum() / slides.sum()), resampled, len(names), bootstrap, "", "slides")


def _drawn(n: int, bootstrap: int, random: np.random.Generator) -> np.ndarray | None:
    """Return how often each of `n` patients is drawn in each resample, (n, bootstrap), None where none is asked for."""
    if not bootstrap or n < 2:
        return None
    drawn = random.integers(0, n, size=(bootstrap, n)) + np.arange(bootstrap)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=bootstrap * n).reshape(bootstrap, n).T.astype(np.float64)


def _estimate(
    value: float, resampled: np.ndarray | None, n: int, bootstrap: int, why_undefined: str, lacking: str
) -> dict[str, Any]:
    if np.isnan(value):
        return {"value": None, "low": None, "high": None, "note": why_undefined}
    interval = scores.percentile_interval(resampled, n_groups=n, unit="patient", bootstrap=bootstrap, lacking=lacking)
    return {"value": value, "low": None, "high": None, "note": "", **interval}


def _notes(used: Sequence[Mapping[str, Any]], folds: int, maps: Mapping[str, TumourMap]) -> list[str]:
    """Return what must be said of the classes and the maps."""
    notes = []
    for name in SLIDE_CLASSES:
        own = [row for row in used if row["true"] == name]
        n, within = len({row["patient"] for row in own}), len({row["fold"] for row in own})
        if within == 1:
            notes.append(
                f"class {name} ({counted(n, 'patient')}) stands in one fold alone: no forest can tell it there"
            )
        elif 0 < within < folds:
            notes.append(f"class {name} ({counted(n, 'patient')}) stands in {within} of {folds} folds")
    cut = [row["image_in_sheet"] for row in used if maps[row["image"]].unpredicted]
    if cut:
        notes.append(f"tiles without a prediction count as no tumour in {len(cut)} slides: {_named(cut)}")
    return notes


def _rows_of_maps(
    used: Sequence[Mapping[str, Any]], maps: Mapping[str, TumourMap], numbers: Sequence[Mapping[str, float]]
) -> Iterable[dict[str, Any]]:
    for row, own in zip(used, numbers, strict=True):
        of_map = maps[row["image"]]
        counts = zip(_MAP_COLUMNS, (len(of_map.probability), of_map.unpredicted), strict=True)
        yield {"image": row["image"], "patient": row["patient"], **dict(counts), **own}


def _patient_row(one: _Patient) -> dict[str, Any]:
    return {
        **{"patient": one.name, "slides": len(one.rows), "usable": sum(row["status"] == OK for row in one.rows)},
        **{"true": one.true, "predicted": one.predicted},
        **{"status": LEFT_OUT if one.reasons else STAGED, "reason": "; ".join(one.reasons)},
    }


def _write_confusion(path: str, level: str, pairs: Sequence[tuple[str, str]], classes: Sequence[str]) -> None:
    places = np.array([[classes.index(name) for name in pair] for pair in pairs], dtype=np.int64).reshape(-1, 2)
    counts = metrics.confusion_matrix(places[:, 0], places[:, 1], len(classes))
    rows = (
        {"level": level, "true": true, "predicted": predicted, "count": int(counts[i, j])}
        for i, true in enumerate(classes)
        for j, predicted in enumerate(classes)
    )
    store.write_table(path, scores.CONFUSION_COLUMNS, rows)


def _named(names: Sequence[str]) -> str:
    return listing([repr(name) for name in names])
