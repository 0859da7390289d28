"""pN stages: the rule by hand, kappa against scikit-learn, patients from drawn maps to the table, who is left out."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from histotransfer import predictions, store
from histotransfer.cohort import cohort, splits
from histotransfer.definitions import Draw, Factors
from histotransfer.figures import score_figures
from histotransfer.maps import pn_stages, staging, staging_tables
from histotransfer.settings import Staging

NEG, ITC, MICRO, MACRO = "negative", "itc", "micro", "macro"


@pytest.mark.parametrize(
    ("classes", "stage"),
    [
        ([NEG] * 5, "pN0"),
        ([NEG, NEG, ITC, NEG, NEG], "pN0(i+)"),
        ([ITC] * 5, "pN0(i+)"),
        ([NEG, NEG, NEG, NEG, MICRO], "pN1mi"),
        ([ITC, ITC, ITC, ITC, MICRO], "pN1mi"),
        # micro alone, in however many nodes, is no pN1 and no pN2
        ([MICRO, MICRO, MICRO, MICRO, NEG], "pN1mi"),
        ([MICRO] * 5, "pN1mi"),
        ([NEG, MACRO, NEG, NEG, NEG], "pN1"),
        # nodes with isolated tumour cells are not counted
        ([MACRO, ITC, ITC, ITC, ITC], "pN1"),
        ([MACRO, MICRO, MICRO, ITC, ITC], "pN1"),
        ([MACRO, MACRO, MACRO, ITC, NEG], "pN1"),
        # the first macro makes three micro nodes count as nodes of pN2
        ([MACRO, MICRO, MICRO, MICRO, NEG], "pN2"),
        ([MACRO, MICRO, MICRO, MICRO, ITC], "pN2"),
        ([MACRO, MACRO, MACRO, MACRO, NEG], "pN2"),
        ([MACRO] * 5, "pN2"),
        ([MICRO] * 8 + [MACRO], "pN2"),
        ([MACRO], "pN1"),
    ],
)
def test_stages_by_the_rule(classes, stage):
    assert pn_stages.pn_stage(classes) == stage
    assert pn_stages.pn_stage(classes[::-1]) == stage


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        ([], "slides of the classes negative, itc, micro, macro; found none"),
        ([NEG, ""], "found ''"),
        ([NEG, "ITC"], "found 'ITC'"),
        ([MICRO] * 9 + [MACRO], "end at 9 nodes with micro or macro .*; found 10"),
    ],
)
def test_what_the_rule_does_not_cover(classes, match):
    with pytest.raises(ValueError, match=match):
        pn_stages.pn_stage(classes)


def kappa(true, predicted, weights=None):
    return pn_stages.quadratic_kappa(np.array(true, dtype=int), np.array(predicted, dtype=int), weights)


def test_kappa_by_hand():
    # three of four agree, one is 2 stages off: the mean square is 4 / 4; by chance, the squares between {0, 0, 2, 4}
    # and {0, 0, 2, 2} have the mean (2 (0 + 0 + 4 + 4) + (4 + 4 + 0 + 0) + (16 + 16 + 4 + 4)) / 16 = 4
    assert kappa([0, 0, 2, 4], [0, 0, 2, 2]) == pytest.approx(1 - 1 / 4)
    assert kappa([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]) == 1
    assert kappa([0, 4], [4, 0]) == -1
    # one rating tells nothing apart: as by chance
    assert kappa([0, 1, 2, 3], [2, 2, 2, 2]) == 0


def test_kappa_of_equal_ratings_alone_is_undefined():
    assert np.isnan(kappa([], []))
    for stage in range(5):
        assert np.isnan(kappa([stage] * 7, [stage] * 7))
    assert kappa([3, 3], [1, 1]) == 0


def test_kappa_agrees_with_scikit_learn():
    random = np.random.default_rng(0)
    for n in (5, 20, 100):
        true = random.integers(0, 5, n)
        predicted = np.where(random.random(n) < 0.6, true, random.integers(0, 5, n))
        expected = cohen_kappa_score(true, predicted, weights="quadratic", labels=range(5))
        assert kappa(true, predicted) == pytest.approx(expected, abs=1e-12)


def test_weights_repeat_patients():
    true, predicted = np.array([0, 1, 4, 2]), np.array([0, 2, 4, 0])
    weights = np.array([[1, 2], [1, 0], [1, 1], [1, 3]])
    found = kappa(true, predicted, weights)
    assert found[0] == kappa(true, predicted)
    assert found[1] == pytest.approx(kappa(np.repeat(true, weights[:, 1]), np.repeat(predicted, weights[:, 1])))


def test_folds_hold_as_many_of_each_worst_class():
    worst = {"a": NEG, "b": ITC, "c": MICRO, "d": MACRO}
    classes_of = {
        f"{name}{k}": [NEG, worst[name]] for name, n in {"a": 9, "b": 3, "c": 5, "d": 6}.items() for k in range(n)
    }
    found = pn_stages.patient_folds(classes_of, folds=5, master_seed=1)
    assert sorted(Counter(found.values()).values()) == [4, 4, 5, 5, 5]
    for name in worst:
        per_fold = Counter(dict.fromkeys(range(5), 0))
        per_fold.update(fold for patient, fold in found.items() if patient[0] == name)
        assert max(per_fold.values()) - min(per_fold.values()) <= 1
    turned = dict(reversed(classes_of.items()))
    assert pn_stages.patient_folds(turned, folds=5, master_seed=1) == found
    assert pn_stages.patient_folds(classes_of, folds=5, master_seed=2) != found


def test_too_few_patients_for_the_folds():
    four = {name: [NEG] for name in "abcd"}
    with pytest.raises(ValueError, match=r"by 5 folds takes as many patients with usable slides or more.*; found 4"):
        pn_stages.patient_folds(four, folds=5, master_seed=1)
    with pytest.raises(ValueError, match="2 folds or more; found 1"):
        pn_stages.patient_folds(four, folds=1, master_seed=1)


#: Tiles of 0.1 mm, 24 x 24 of them a slide: lesions of one tile, of some, and of more than 2 mm.
SIDE = 24
LESION = {NEG: (0, 0), ITC: (1, 1), MICRO: (7, 5), MACRO: (21, 9)}

#: Three patients of each stage.
PATIENTS = [
    *([NEG] * 5 for _ in range(3)),
    *([NEG, ITC, NEG, ITC, NEG] for _ in range(3)),
    *([MICRO, NEG, ITC, MICRO, NEG] for _ in range(3)),
    *([MACRO, MICRO, NEG, ITC, NEG] for _ in range(3)),
    *([MACRO, MICRO, MACRO, MICRO, NEG] for _ in range(3)),
]


class Cohort:
    """Fifteen patients of five slides held out, two whose slides trained, and the maps of all of them as drawn."""

    def __init__(self, folder: Path) -> None:
        """Make the tables; maps are drawn of the classes in `shown`, which are the true ones until changed."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        patients = {f"p{number:02d}": classes for number, classes in enumerate(PATIENTS)}
        self.metastases = {f"{name}-{k}": one for name, classes in patients.items() for k, one in enumerate(classes)}
        self.rows = [
            self.row(f"{name}-{k}", name, split="test")
            for name, classes in patients.items()
            for k in range(len(classes))
        ]
        for name in ("t0", "t1"):
            self.rows += [self.row(f"{name}-{k}", name, split="train") for k in range(5)]
            self.metastases |= {f"{name}-{k}": MACRO for k in range(5)}
        self.set_of = {row["patient"]: row["split"] for row in self.rows}
        self.shown = dict(self.metastases)
        self.predicted = [row["image"] for row in self.rows if row["split"] == "test"]
        self.left_tiles = 0
        self.said = {"unit": "patient", "group_unit": "patient", "classes": ["normal", "tumour"]}

    @staticmethod
    def row(image, patient, *, split="test", status="ok", reason=""):
        return {
            **{"image": image, "image_in_sheet": image.upper(), "slide": image, "patient": patient, "labels": "{}"},
            **{"split": split, "status": status, "reason": reason, "tiles": SIDE**2 if status == "ok" else 0},
            **{"excluded_tiles": 0, "notice": "", "stands_for": 1},
        }

    def change(self, image, **cells):
        next(row for row in self.rows if row["image"] == image).update(cells)

    def remove(self, image):
        self.rows = [row for row in self.rows if row["image"] != image]
        self.predicted.remove(image)
        del self.metastases[image]

    def file(self, name):
        return str(self.folder / name)

    def write(self):
        """Write every input."""
        store.write_table(self.file("slides_table.tsv"), cohort.COLUMNS, self.rows)
        groups = [{"group": group, "unit": self.said["group_unit"], "set": name} for group, name in self.set_of.items()]
        store.write_table(self.file("split.tsv"), splits.COLUMNS, groups)
        row, col = (plane.ravel() for plane in np.mgrid[:SIDE, :SIDE])
        said = {"status_names": ["kept"], "status": "ok", "reason": "", "l0_size": 200, "l0_step": 200, "mpp": 0.5}
        for image in self.predicted:
            with h5py.File(self.file(f"{image}.h5"), "w") as file:
                store.set_attributes(file, {"slide": image, "image_in_sheet": image, **said})
                file["col"], file["row"], file["l0_x"], file["l0_y"] = col, row, col * 200, row * 200
                file["status"] = np.zeros(SIDE**2, dtype=np.uint8)
        kept = SIDE**2 - self.left_tiles
        p = np.concatenate([self.map(image).ravel()[:kept] for image in self.predicted])
        image = np.repeat(self.predicted, kept).tolist()
        probability = np.stack([1 - p, p], axis=1)[:, : len(self.said["classes"])]
        if len(self.said["classes"]) == 3:
            probability = np.stack([1 - p, p / 2, p / 2], axis=1)
        predictions.write_predictions(
            self.file("predictions.h5"),
            held_out=predictions.Predictions(
                tile=[f"{c}_{r}" for c, r in zip(col[:kept], row[:kept], strict=True)] * len(self.predicted),
                **{"image": image, "slide": image, "group": image, "true": np.full(len(image), -1)},
                **{"score": probability, "probability": probability},
            ),
            out_of_fold=None,
            attributes=dict.fromkeys(predictions.ATTRIBUTES, "")
            | {"dataset": "nodes", "task": "tumour", "split": "official", "seed": 1, "features": "vectors"}
            | {"classifier": "unet", "untrained": False, "chosen": {}, **self.said},
        )

    def map(self, image):
        """Return drawn probabilities, (SIDE, SIDE): tissue below 0.4, a lesion above 0.92."""
        random = np.random.default_rng([ord(letter) for letter in image])
        p = random.uniform(0, 0.4, (SIDE, SIDE))
        width, height = LESION[self.shown[image]]
        x, y = random.integers(0, SIDE - width + 1), random.integers(0, SIDE - height + 1)
        p[y : y + height, x : x + width] = random.uniform(0.92, 1, (height, width))
        return p

    def stage(self, **settings):
        """Stage the patients; return what the JSON says, the patients' and the slides' rows by name."""
        self.write()
        outputs = ("features", "slides", "patients", "slide_confusion", "patient_confusion")
        files = {name: self.file(f"{name}.tsv") for name in outputs}
        known = {field.name for field in fields(Staging)}
        rest = {name: value for name, value in settings.items() if name not in known}
        staging.stage_patients(
            **{
                **{"predictions": self.file("predictions.h5"), "slides_table": self.file("slides_table.tsv")},
                **{"split_file": self.file("split.tsv"), "metastases": self.metastases, "master_seed": 1},
                "grids": [self.file(f"{image}.h5") for image in self.predicted],
                "files": staging_tables.StagingFiles(kappa=self.file("kappa.json"), **files),
                "factors": Factors("nodes", "tumour", "official", Draw(1)),
                "staging": Staging(**{"trees": 30, **{name: settings[name] for name in settings.keys() & known}}),
                **{"bootstrap": 200, **rest},
            }
        )
        said = store.read_json(self.file("kappa.json"))
        patients = {row["patient"]: row for row in store.read_table(self.file("patients.tsv"))}
        slides = {row["image"]: row for row in store.read_table(self.file("slides.tsv"))}
        return said, patients, slides


def test_lesions_of_known_sizes_are_staged_right(tmp_path):
    drawn = Cohort(tmp_path)
    said, patients, slides = drawn.stage()
    assert said["kappa"]["value"] > 0.95
    assert said["slide_accuracy"]["value"] > 0.95
    assert said["kappa"]["low"] <= said["kappa"]["value"] <= said["kappa"]["high"]
    assert (said["patients"], said["left_out"], said["slides"]) == (15, {}, 75)
    assert (said["patients_of_training"], said["patients_without_class"]) == (2, 0)
    assert said["stages"] == dict.fromkeys(pn_stages.STAGES, 3)
    assert said["slide_classes"] == {NEG: 39, ITC: 12, MICRO: 15, MACRO: 9}
    # every slide of a patient is in the patient's fold, and in no other
    for patient in patients:
        assert len({row["fold"] for row in slides.values() if row["patient"] == patient}) == 1
    assert Counter(row["fold"] for row in slides.values()) == {str(fold): 15 for fold in range(5)}
    for patient, row in patients.items():
        of_patient = [one for one in slides.values() if one["patient"] == patient]
        assert row["true"] == pn_stages.pn_stage([one["true"] for one in of_patient])
        assert row["predicted"] == pn_stages.pn_stage([one["predicted"] for one in of_patient])
        assert (row["slides"], row["usable"], row["status"], row["reason"]) == ("5", "5", "staged", "")


def test_numbers_of_the_maps_are_those_of_the_drawing(tmp_path):
    drawn = Cohort(tmp_path)
    drawn.stage()
    rows = {row["image"]: row for row in store.read_table(drawn.file("features.tsv"))}
    # patient 9 has a macro of 21 x 9 tiles of 0.1 mm, a micro of 7 x 5, nothing, a single tile, nothing
    axes = [float(rows[f"p09-{k}"]["longest_axis_mm_over_0.9"]) for k in range(5)]
    assert axes == pytest.approx([np.hypot(2.1, 0.9), np.hypot(0.7, 0.5), 0, np.hypot(0.1, 0.1), 0])
    areas = [float(rows[f"p09-{k}"]["area_mm2_over_0.5"]) for k in range(5)]
    assert areas == pytest.approx([21 * 9 * 0.01, 7 * 5 * 0.01, 0, 0.01, 0])
    assert (rows["p09-0"]["tiles"], rows["p09-0"]["unpredicted_tiles"]) == (str(SIDE**2), "0")


def test_kappa_and_accuracy_are_those_of_the_tables(tmp_path):
    drawn = Cohort(tmp_path)
    # the maps of two patients are mixed up, so that there is something to count
    swapped = {f"p00-{k}": drawn.metastases[f"p12-{k}"] for k in range(5)}
    drawn.shown = {**drawn.metastases, **swapped}
    said, patients, slides = drawn.stage()
    true, found = ([pn_stages.STAGES.index(row[side]) for row in patients.values()] for side in ("true", "predicted"))
    assert said["kappa"]["value"] == pytest.approx(cohen_kappa_score(true, found, weights="quadratic"))
    assert said["kappa"]["value"] < 0.95
    right = sum(row["true"] == row["predicted"] for row in slides.values())
    assert said["slide_accuracy"]["value"] == right / 75
    assert patients["p00"]["true"] == "pN0"
    assert patients["p00"]["predicted"] == "pN2"
    for name, rows in (("slide", slides), ("patient", patients)):
        counts = store.read_table(drawn.file(f"{name}_confusion.tsv"))
        pairs = Counter((row["true"], row["predicted"]) for row in rows.values())
        assert {(row["true"], row["predicted"]): int(row["count"]) for row in counts if row["count"] != "0"} == pairs
        assert {row["level"] for row in counts} == {name}


def test_maps_of_other_classes_tell_nothing(tmp_path):
    drawn = Cohort(tmp_path)
    images = drawn.predicted
    mixed = np.random.default_rng(1).permutation(images)
    drawn.shown = {image: drawn.metastases[other] for image, other in zip(images, mixed, strict=True)}
    said, _, _ = drawn.stage()
    assert abs(said["kappa"]["value"]) < 0.4
    assert said["kappa"]["low"] < 0 < said["kappa"]["high"]


def test_the_same_again_with_more_threads_and_another_order(tmp_path):
    first, again = Cohort(tmp_path / "first"), Cohort(tmp_path / "again")
    first.stage()
    again.rows.reverse()
    again.predicted.reverse()
    again.stage(threads=2)
    for name in ("features.tsv", "slides.tsv", "patients.tsv", "kappa.json", "patient_confusion.tsv"):
        assert Path(first.file(name)).read_text() == Path(again.file(name)).read_text()


def test_a_patient_with_a_missing_slide_is_not_staged(tmp_path):
    drawn = Cohort(tmp_path)
    drawn.remove("p00-4")
    for image, status, reason in (
        ("p03-1", "unreadable", "not a slide"),
        ("p06-2", "no tissue", "none of 9 tiles passes"),
    ):
        drawn.change(image, status=status, reason=reason)
        drawn.predicted.remove(image)
    drawn.predicted.remove("p09-3")
    drawn.metastases["p12-0"] = ""
    drawn.rows.append(drawn.row("p13-5", "p13"))
    drawn.change("p14-1", slide="p14-0")
    said, patients, slides = drawn.stage()
    reasons = {name: row["reason"] for name, row in patients.items() if row["status"] == "left out"}
    assert reasons == {
        "p00": "4 slides in the sample sheet, where a patient has 5",
        "p03": "P03-1: unreadable: not a slide",
        "p06": "P06-2: no tissue: none of 9 tiles passes",
        "p09": "P09-3: no prediction: none of its tiles has a prediction",
        "p12": "P12-0: no class: the sample sheet names no class of metastasis",
        "p13": "6 slides in the sample sheet, where a patient has 5; "
        "P13-5: no prediction: none of its tiles has a prediction",
        "p14": "several images are of one slide, which is one node: 'p14-0'",
    }
    assert (said["patients"], said["left_out"]) == (8, reasons)
    assert all((row["true"], row["predicted"]) == ("", "") for name, row in patients.items() if name in reasons)
    assert (patients["p03"]["slides"], patients["p03"]["usable"]) == ("5", "4")
    staged = [row for row in patients.values() if row["status"] == "staged"]
    true, found = ([pn_stages.STAGES.index(row[side]) for row in staged] for side in ("true", "predicted"))
    assert said["kappa"]["value"] == pytest.approx(cohen_kappa_score(true, found, weights="quadratic"))
    # their other slides are still predicted: what is missing is a node, not a map
    assert said["slides"] == 75 - 5
    assert slides["p00-0"]["predicted"]
    assert (slides["p03-1"]["predicted"], slides["p03-1"]["fold"]) == ("", "")


def test_a_patient_of_whom_nothing_can_be_read_is_a_row(tmp_path):
    drawn = Cohort(tmp_path)
    for k in range(5):
        drawn.change(f"p00-{k}", status="unreadable", reason="gone")
        drawn.predicted.remove(f"p00-{k}")
    del drawn.set_of["p00"]
    said, patients, _ = drawn.stage()
    assert patients["p00"]["status"] == "left out"
    assert patients["p00"]["usable"] == "0"
    assert list(said["left_out"]) == ["p00"]


def test_missing_slides_can_end_the_run(tmp_path):
    drawn = Cohort(tmp_path)
    drawn.remove("p00-4")
    drawn.metastases["p12-0"] = ""
    with pytest.raises(staging.MissingSlidesError) as error:
        drawn.stage(on_missing_slide="fail")
    assert str(error.value) == (
        "13 of 15 patients have 5 usable slides and are staged (on_missing_slide: fail)\n"
        "  p00: 4 slides in the sample sheet, where a patient has 5\n"
        "  p12: P12-0: no class: the sample sheet names no class of metastasis"
    )
    assert not Path(drawn.file("patients.tsv")).exists()


def test_patients_without_any_class_are_counted_and_not_staged(tmp_path):
    drawn = Cohort(tmp_path)
    for k in range(5):
        drawn.metastases[f"p00-{k}"] = ""
    said, patients, _ = drawn.stage(on_missing_slide="fail")
    assert "p00" not in patients
    assert (said["patients"], said["patients_without_class"]) == (14, 1)


def test_three_slides_a_patient(tmp_path):
    drawn = Cohort(tmp_path)
    for patient in range(15):
        drawn.remove(f"p{patient:02d}-3")
        drawn.remove(f"p{patient:02d}-4")
    said, patients, _ = drawn.stage(nodes=3)
    assert said["patients"] == 15
    # what was pN2 by four nodes is pN1 by three
    assert patients["p14"]["true"] == "pN1"


def test_a_patient_on_both_sides_of_the_split_is_refused(tmp_path):
    drawn = Cohort(tmp_path)
    drawn.said |= {"unit": "slide", "group_unit": "slide"}
    drawn.set_of = {row["slide"]: row["split"] for row in drawn.rows} | {"p05-2": "validation"}
    drawn.predicted.remove("p05-2")
    with pytest.raises(
        ValueError, match=r"split.tsv: only patients whose slides trained no network .*of 1 some.*'p05'"
    ):
        drawn.stage()


def test_predictions_of_training_slides_are_refused(tmp_path):
    drawn = Cohort(tmp_path)
    drawn.set_of["p05"] = "train"
    with pytest.raises(ValueError, match=r"must be of slides in the test set of .*split.tsv; not so: 'p05-0', 'p05-1'"):
        drawn.stage()


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"classes": ["a", "b", "c"]}, r"takes two classes, tumour last; found \['a', 'b', 'c'\]"),
        ({"seed": 2}, "must be of the seed 1; found 2"),
        ({"task": "stroma"}, "must be of the task 'tumour'; found 'stroma'"),
        ({"unit": "tile", "group_unit": "tile"}, "by patient, slide or image; found tiles as groups"),
    ],
)
def test_other_predictions_are_refused(tmp_path, said, match):
    drawn = Cohort(tmp_path)
    drawn.said |= said
    with pytest.raises(ValueError, match=match):
        drawn.stage()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"nodes": 10}, "1 to 9 slides in staging; found 10"),
        ({"thresholds": [0.9, 0.9]}, "each once; found"),
        ({"on_missing_slide": "warn"}, "must be exclude or fail; found 'warn'"),
        ({"metastases": {"p00-0": "tumour"}}, 'found "tumour"'),
        ({"metastases": {"p99-0": MACRO}}, "have every slide with a class of metastasis; not found: 'p99-0'"),
        ({"folds": 16}, "by 16 folds takes as many patients .*; found 15"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings, match):
    with pytest.raises(ValueError, match=match):
        Cohort(tmp_path).stage(**settings)


def test_a_slide_with_a_class_and_no_patient(tmp_path):
    drawn = Cohort(tmp_path)
    drawn.said |= {"unit": "slide", "group_unit": "slide"}
    drawn.set_of = {row["slide"]: row["split"] for row in drawn.rows}
    drawn.change("p05-2", patient="")
    with pytest.raises(ValueError, match="need a patient in the sample sheet; without: 'p05-2'"):
        drawn.stage()


def test_equal_stages_have_no_kappa_and_say_why(tmp_path):
    drawn = Cohort(tmp_path)
    # every patient has a macro alone; the maps tell them from the negative slides without error
    for image in drawn.predicted:
        drawn.metastases[image] = MACRO if image.endswith("-0") else NEG
    drawn.shown = drawn.metastases
    said, patients, _ = drawn.stage()
    assert {row["predicted"] for row in patients.values()} == {"pN1"}
    assert said["kappa"] == {
        **{"value": None, "low": None, "high": None},
        "note": "undefined: every patient has the stage pN1, and the same is predicted",
    }
    assert said["slide_accuracy"]["value"] == 1.0


def test_rare_classes_and_unpredicted_tiles_are_said(tmp_path):
    drawn = Cohort(tmp_path)
    for image in drawn.predicted:
        if drawn.metastases[image] == ITC:
            drawn.metastases[image] = ITC if image in ("p03-1", "p03-3") else NEG
        elif image in ("p00-1", "p01-1"):
            drawn.metastases[image] = MACRO
    drawn.shown = drawn.metastases
    drawn.left_tiles = 1
    said, _, slides = drawn.stage(folds=7)
    assert said["notes"][0] == "class itc (1 patient) stands in one fold alone: no forest can tell it there"
    assert "itc" not in {slides[image]["predicted"] for image in ("p03-1", "p03-3")}
    assert re.fullmatch(r"tiles without a prediction count as no tumour in 75 slides: 'P00-0', .*", said["notes"][-1])


def test_the_table_of_several_methods(tmp_path):
    one, other = Cohort(tmp_path / "one"), Cohort(tmp_path / "other")
    one.said["untrained"] = True
    other.said |= {"features": "extractor", "classifier": "softmax"}
    other.remove("p00-4")
    said = [one.stage()[0], other.stage()[0]]
    table, left_out = str(tmp_path / "stages.csv"), str(tmp_path / "left_out.csv")
    kappas = [one.file("kappa.json"), other.file("kappa.json"), other.file("kappa.json")]
    staging_tables.collect(kappas=kappas[:2], table=table, left_out=left_out)
    rows = store.read_csv(table)
    assert [(row["features"], row["classifier"], row["untrained"]) for row in rows] == [
        ("extractor", "softmax", "no"),
        ("vectors", "unet", "yes"),
    ]
    assert [(row["patients"], row["left_out"], row["slides"]) for row in rows] == [("14", "1", "74"), ("15", "0", "75")]
    assert [float(row["kappa"]) for row in rows] == [said[1]["kappa"]["value"], said[0]["kappa"]["value"]]
    assert float(rows[1]["low"]) == said[0]["kappa"]["low"]
    assert float(rows[0]["slide_high"]) == said[1]["slide_accuracy"]["high"]
    assert rows[0]["seed"] == "1"
    staging_tables.collect(kappas=kappas, table=table, left_out=left_out)
    assert store.read_csv(left_out) == [
        {
            **{"dataset": "nodes", "task": "tumour", "split": "official", "patient": "p00", "runs": "2"},
            "reason": "4 slides in the sample sheet, where a patient has 5",
        }
    ]


def test_confusions_can_be_drawn(tmp_path):
    drawn = Cohort(tmp_path)
    drawn.shown = {**drawn.metastases, **{f"p00-{k}": MACRO for k in range(5)}}
    drawn.stage()
    figure = drawn.file("confusion.svg")
    (sentence,) = score_figures.draw_confusion(
        confusions=[drawn.file("patient_confusion.tsv")], predictions=[drawn.file("predictions.h5")], figures=[figure]
    )
    assert sentence == "vectors+unet, seed 1: of 3 patients of pN0, 1 are taken for pN2."
    assert "pN1mi" in Path(figure).read_text()
    assert json.loads(Path(drawn.file("kappa.json")).read_text())["stages"]["pN0"] == 3
