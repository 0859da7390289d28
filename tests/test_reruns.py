"""What runs again after a change, as ``snakemake -n`` tells it, and what is kept."""

import os
import shutil
from contextlib import contextmanager

import pytest
import slide_factory

from histotransfer import store

pytestmark = pytest.mark.workflow

#: What comes after one slide's row of the cohort has changed: it is in every figure and number.
AFTER_COHORT = {"split_groups": 1, "draw_attrition": 1}
#: What comes after the labels, the split or the features have changed.
AFTER_TRAINING = {
    "train_classifier": 1,
    "score": 1,
    "collect_scores": 1,
    "draw_scores": 1,
    "draw_confusion": 1,
}
#: The pages, which show everything, and the cost, which is counted anew after each run.
PAGES = {"write_report": 1, "collect_costs": 1, "draw_cost": 1, "write_run_page": 1}
#: What compares two methods, where there was one.
COMPARING = {
    **dict.fromkeys(("rank_methods", "draw_ranks", "compare_methods", "draw_differences"), 1),
    **dict.fromkeys(("tabulate_strategies", "friedman_test", "cost_methods", "draw_method_costs"), 1),
}
#: What gathers the labels, and shows them and the split.
OF_LABELS = {"gather_labels": 1, "count_split": 1, "draw_splits": 1, "draw_tiles": 2}


@contextmanager
def edited(path, old, new):
    """Have `new` in place of `old` in a file, for a while."""
    source = path.read_text("utf-8")
    assert source.count(old) == 1, f"{path} has {source.count(old)} times {old!r}"
    path.write_text(source.replace(old, new), "utf-8")
    try:
        yield
    finally:
        path.write_text(source, "utf-8")


def change_row(study, image, **cells):
    sheet = study.folder / "data/scans.tsv"
    rows = store.read_table(sheet)
    slide_factory.write_sheet(sheet, [{**row, **(cells if row["image"] == image else {})} for row in rows])


def test_nothing_when_nothing_changed(finished):
    plan = finished.plan()
    assert plan.planned == {}
    assert "Nothing to be done" in plan.output


def test_a_new_slide_costs_itself_alone(study):
    slide_factory.write_slide(study.folder / "data/scans/new.tif", size=(640, 640), seed=50)
    sheet = study.folder / "data/scans.tsv"
    new = {"image": "new", "path": "scans/new.tif", "patient": "p-new", "label": "alpha"}
    slide_factory.write_sheet(sheet, [*store.read_table(sheet), new])
    alone = ("inspect_slide", "tissue_mask", "tile_grid", "tile_pixels", "label_tiles", "draw_slide_tiles")
    plan = study.plan()
    assert plan.planned == {
        **dict.fromkeys(alone, 1),
        "cohort": 1,
        "extract_features": 1,
        **AFTER_COHORT,
        **AFTER_TRAINING,
        **OF_LABELS,
        **PAGES,
    }
    for said in ("Inspecting slide", "Finding the tissue on slide", "Placing the tiles of slide", "Labelling slide"):
        assert f"{said} new of scans" in " ".join(plan.messages)

    before = study.files("scans/features/net/*.h5")
    done = study.run("features")
    assert done.finished == {**dict.fromkeys(alone[:4], 1), "extract_features": 1}
    assert "1 slides with 12 tiles to extract, 7 slides kept from before" in done.output
    after = study.files("scans/features/net/*.h5")
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"scans/features/net/new.h5"}


def test_a_slide_that_leaves_the_sheet_leaves_the_study(study):
    sheet = study.folder / "data/scans.tsv"
    slide_factory.write_sheet(sheet, [row for row in store.read_table(sheet) if row["image"] != "s06"])
    before = study.files("scans/features/net/*.h5")
    done = study.run("results/studies/tiny/scores.tsv")
    assert done.finished == {
        **dict.fromkeys(("extract_features", "gather_labels", "cohort", "split_groups"), 1),
        **dict.fromkeys(("train_classifier", "score", "collect_scores"), 1),
    }
    assert study.files("scans/features/net/*.h5") == before
    assert [row["image"] for row in study.table("scans/slides.tsv")] == [f"s{n:02d}" for n in range(6)]
    groups = {row["group"] for row in study.table("scans/splits/by-patient/1.tsv")}
    assert groups == {f"p{n:02d}" for n in range(6)}


def test_a_corrected_label_extracts_nothing(study):
    change_row(study, "s00", label="beta")
    plan = study.plan()
    assert plan.planned == {
        **{"label_tiles": 1, "cohort": 1},
        **AFTER_COHORT,
        **AFTER_TRAINING,
        **OF_LABELS,
        **PAGES,
    }
    assert "Labelling slide s00 of scans for kind" in plan.messages


def test_a_corrected_resolution_is_of_that_slide_alone(study):
    change_row(study, "s00", mpp="0.4995")
    planned = study.plan("features").planned
    assert planned == {
        **dict.fromkeys(("inspect_slide", "tissue_mask", "tile_grid", "tile_pixels", "extract_features"), 1)
    }


@pytest.mark.parametrize(
    ("key", "value", "first"),
    [
        ("tissue_threshold", 0.2, "tissue_mask"),
        ("max_tiles_per_slide", 10, "tile_grid"),
        ("grayscale", True, "tile_pixels"),
    ],
)
def test_a_tile_parameter_reruns_the_stage_that_uses_it_and_what_follows(finished, study, key, value, first):
    study.config["tilings"]["tiny"][key] = value
    stages = ["tissue_mask", "tile_grid", "tile_pixels"]
    assert study.plan("features").planned == {
        **dict.fromkeys(stages[stages.index(first) :], 7),
        "extract_features": 1,
    }


def test_another_input_size_makes_other_pixels_on_the_same_tissue(study):
    study.config["networks"]["net"]["px"] = 33
    planned = study.plan("features").planned
    # the finest size that is asked for decides whether a tiling is legal, so grids are made again
    assert planned == {"tile_grid": 7, "tile_pixels": 7, "extract_features": 1}


def test_a_changed_grid_of_parameters_trains_that_classifier_alone(study):
    study.config["classifiers"]["svm"]["C"] = [0.02, 2]
    assert study.plan().planned == {**AFTER_TRAINING, **PAGES}


def test_an_added_classifier_trains_itself_alone(study):
    study.config["classifiers"]["one-vs-rest"] = {"kind": "liblinear", "C": [0.01]}
    study.config["study"]["methods"] = ["net+svm", "net+one-vs-rest"]
    plan = study.plan()
    assert plan.planned == {**AFTER_TRAINING, **COMPARING, **PAGES}
    assert "Training one-vs-rest on net: scans, kind, seed 1" in plan.messages
    assert "Scoring net+one-vs-rest: scans, kind, seed 1" in plan.messages


def test_another_seed_splits_anew_and_cuts_nothing(study):
    study.config["study"]["seeds"] = [1, 2]
    planned = study.plan("results/studies/tiny/scores.tsv").planned
    assert planned == {"split_groups": 1, "train_classifier": 1, "score": 1, "collect_scores": 1}


def test_more_resamples_train_nothing(study):
    study.config["evaluation"]["bootstrap"] = 30
    planned = study.plan("results/studies/tiny/scores.tsv").planned
    assert planned == {"score": 1, "collect_scores": 1}


def test_a_touched_slide_is_the_same_slide(study):
    os.utime(study.folder / "data/scans/s00.tif")
    assert study.plan().planned == {}


def test_a_touched_slide_too_large_to_compare_is_not_extracted_again(study):
    before = study.files("scans/features/net/*.h5")
    os.utime(study.folder / "data/scans/s00.tif")
    # above this size Snakemake goes by the time of change
    done = study.run("features", "--max-checksum-file-size", "0")
    of_the_slide = ("inspect_slide", "tissue_mask", "tile_grid", "tile_pixels")
    assert done.finished == {**dict.fromkeys(of_the_slide, 1), "extract_features": 1}
    assert "0 slides with 0 tiles to extract, 7 slides kept from before" in done.output
    assert study.files("scans/features/net/*.h5") == before


def test_another_slide_under_the_same_name_is_extracted_again(study):
    slide_factory.write_slide(study.folder / "data/scans/s00.tif", size=(640, 640), seed=99)
    before = study.files("scans/features/net/*.h5")
    done = study.run("features")
    assert done.finished["inspect_slide"] == 1
    after = study.files("scans/features/net/*.h5")
    assert {name for name in before if before[name] != after[name]} == {"scans/features/net/s00.h5"}


# ---- changed code


#: Where a change of the library is felt: its file, what stands there, what comes in its place, rules that run again.
CHANGES = {
    "labels": (
        "cohort/labels.py",
        '"label": classes.get(label, "")}\n',
        '"label": classes.get(label) or ""}\n',
        {"label_tiles": 7, "gather_labels": 1, "train_classifier": 1, "score": 1, "collect_scores": 1},
    ),
    "pixels": (
        "slides/pixels.py",
        "Image.Resampling.BILINEAR, reducing_gap=2.0",
        "Image.Resampling.BILINEAR, reducing_gap=3.0",
        # the cohort looks into the pixel files for slides that failed, so it follows, and all that follows it
        {
            **{"tile_pixels": 7, "extract_features": 1, "cohort": 1, "split_groups": 1},
            **{"train_classifier": 1, "score": 1, "collect_scores": 1},
        },
    ),
    "scores": (
        "evaluation/resampling.py",
        "INTERVAL = (2.5, 97.5)",
        "INTERVAL = (5.0, 95.0)",
        {"score": 1, "collect_scores": 1},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_code_reruns_what_depends_on_it(finished, name):
    module, old, new, planned = CHANGES[name]
    with edited(finished.workflow / "workflow_scripts/histotransfer" / module, old, new):
        assert finished.plan("results/studies/tiny/scores.tsv").planned == planned


def test_tiles_that_other_code_has_cut_are_extracted_again(study):
    before = study.files("scans/features/net/*.h5")
    module, old, new, _ = CHANGES["pixels"]
    with edited(study.workflow / "workflow_scripts/histotransfer" / module, old, new):
        study.run("features")
    after = study.files("scans/features/net/*.h5")
    assert before.keys() == after.keys()
    assert not [name for name in before if before[name] == after[name]]


def test_an_edited_docstring_or_comment_reruns_nothing(finished):
    library = finished.workflow / "workflow_scripts/histotransfer"
    with (
        edited(library / "slides/pixels.py", '"""Cutting tiles:', '"""Cutting of tiles:'),
        edited(library / "slides/tissue.py", "OVERVIEW_UM = 8.0", "OVERVIEW_UM = 8.0  # a comment more"),
        edited(library / "store.py", '"""Read what :func:`write_json` wrote."""', '"""Read it again."""'),
        edited(finished.workflow / "rules/tissue.smk", "# Tissue. Needs slides.", "# Tissue. It needs slides."),
    ):
        assert finished.plan().planned == {}


# ---- what was deleted


def test_a_deleted_feature_file_is_named_with_what_to_run(study):
    (study.results / "scans/features/net/s03.h5").unlink()
    study.config["classifiers"]["svm"]["C"] = [0.5]
    done = study.run("classifiers", expect=1)
    assert "feature file results/scans/features/net/s03.h5 is missing" in done.output
    assert "delete results/scans/features/net/shard-0.json and give the same command" in done.output
    before = study.files("scans/features/net/*.h5")
    (study.results / "scans/features/net/shard-0.json").unlink()
    again = study.run("classifiers")
    assert "1 slides with 12 tiles to extract, 6 slides kept from before" in again.output
    after = study.files("scans/features/net/*.h5")
    assert {name: after[name] for name in before} == before


def test_deleted_pixels_are_cut_again_only_if_somebody_needs_them(finished, study):
    shutil.rmtree(study.results / "scans/pixels")
    study.config["classifiers"]["svm"]["C"] = [0.5]
    # the features are there, and what was made from the pixels is no older than its sheet
    planned = study.plan("classifiers").planned
    assert planned == {"train_classifier": 1}
