"""Slides as maps, run as a user runs them: regions in three formats, the five methods, maps, stages, the report."""

from __future__ import annotations

import copy
import json

import h5py
import numpy as np
import pytest
import resources_factory
import study_factory
from PIL import Image
from scans_factory import SLIDES, write_region, write_scans

from histotransfer import predictions, store

pytestmark = pytest.mark.workflow

RUN = "scans/models/tumour/as-given/1"
METHODS = ["tiles+softmax", "picture+on-pictures", "net+maps", "vectors+maps", "vectors+together"]
SGD = {"optimiser": {"kind": "sgd", "momentum": 0.9}, "rate": 0.01}
RECIPES = {
    "on-tiles": {
        "head": {"dense": [4]},
        "batch": 16,
        "sampling": "balanced",
        "augmentation": {"flip": "both", "saturation": [0.75, 1.25]},
        "phases": [{"train": "all", "epochs": 1, **SGD}],
    },
    "on-maps": {
        "batch": 2,
        "augmentation": {"flip": "both", "quarter_turns": True},
        "phases": [{"train": "all", "epochs": 2, "optimiser": {"kind": "adam"}, "rate": 0.001}],
    },
    "both": {
        "batch": 16,
        "augmentation": {"flip": "both", "saturation": [0.75, 1.25]},
        "phases": [
            {"train": "all", "epochs": 1, "optimiser": {"kind": "adam"}, "rate": 1e-4, "rates": {"extractor": 1e-5}}
        ],
    },
}


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, workflow):
    """The study, finished; not to be changed, but copied."""
    folder = tmp_path_factory.mktemp("maps") / "study"
    write_scans(folder / "data/scans", folder / "data/scans.tsv")
    study = study_factory.Study(folder, workflow)
    config = study.config
    config["study"] |= {"methods": METHODS, "splits": ["as-given"]}
    config["datasets"]["scans"] |= {"tasks": ["tumour"], "canvas": {"size": "fit"}}
    config["tilings"]["tiny"]["max_tiles_per_slide"] = None
    regions = {
        "names": {"tumour": ["Tumour", "1"]},
        "outside": "normal",
        "without": "label",
        "rules": [{"class": "tumour", "above": 0.2}, {"class": "normal", "above": 0.8}],
    }
    config["tasks"] = {"tumour": {"classes": ["normal", "tumour"], "regions": regions}}
    config["networks"]["tiles"] = {"start": "net", "recipe": "on-tiles"}
    config["feature_sets"] = {"vectors": {"network": "tiles", "layer": "head_1"}, "picture": {"cell_px": 4}}
    unet = {"kind": "unet", "filters": 2, "depth": 1, "recipe": "on-maps"}
    config["classifiers"] = {
        "maps": unet,
        "on-pictures": {**unet, "depth": 2},
        "together": {"kind": "end_to_end", "start": "maps", "recipe": "both"},
    }
    config["recipes"] = copy.deepcopy(RECIPES)
    config["splits"] = {"as-given": {"unit": "given", "groups": "patient", "folds": 2}}
    config["staging"] = {"nodes": 1, "folds": 2, "trees": 20}
    study.last = study.run(timeout=900)
    return study


def run_of(method):
    return f"{RUN}/{method.replace('+', '/')}"


def test_tiles_have_the_labels_of_the_regions_that_they_lie_in(mapped):
    for number, (_, box, _, _) in enumerate(SLIDES):
        rows = mapped.table(f"scans/labels/tumour/s{number}.tsv")
        left, top, right, bottom = box or (0, 0, 0, 0)
        for row in rows:
            x, y = (40 * int(one) for one in row["tile"].split("_"))
            across = max(0, min(x + 40, right) - max(x, left))
            share = across * max(0, min(y + 40, bottom) - max(y, top)) / 1600
            assert row["label"] == ("tumour" if share > 0.2 else "normal" if 1 - share > 0.8 else "")
        assert (box is not None) == any(row["label"] == "tumour" for row in rows)


def test_every_method_predicts_the_same_tiles_of_the_same_slides(mapped):
    found = {
        method: predictions.read_predictions(mapped.results / run_of(method) / "predictions.h5") for method in METHODS
    }
    tiles = {method: list(zip(held_out.image, held_out.tile, strict=True)) for method, (held_out, *_) in found.items()}
    assert all(one == tiles[METHODS[0]] for one in tiles.values())
    assert {image for image, _ in tiles[METHODS[0]]} == {"s4", "s5", "s6", "s7"}
    grids = {name: h5py.File(mapped.results / f"scans/tiles/{name}.h5") for name in ("s4", "s5", "s6", "s7")}
    assert len(tiles[METHODS[0]]) == sum(int((grid["status"][:] == 0).sum()) for grid in grids.values())
    for method, (held_out, _, said) in found.items():
        assert said["untrained"] == (method in ("net+maps",)), method
        validation = predictions.read_validation(mapped.results / run_of(method) / "predictions.h5")
        assert set(validation.image) == {"s3"}
        assert np.isfinite(held_out.probability).all()


def test_end_to_end_learning_says_what_it_moved(mapped):
    rows = mapped.table(f"{run_of('vectors+together')}/moved.tsv")
    assert [row["group"] for row in rows] == ["extractor", "unet"]
    # rates of 1e-9 and 1e-4: few weights of one move in float32, and most of the other (some units have no gradient)
    assert float(rows[0]["step_mean"]) < 0.5 < float(rows[1]["step_mean"])
    assert (mapped.results / run_of("vectors+together") / "extractor.keras").is_file()


def test_maps_lie_where_their_tiles_do(mapped):
    index = store.read_json(mapped.results / run_of("vectors+maps") / "maps.json")
    assert [slide["slide"] for slide in index["slides"]] == ["s3", "s4", "s5", "s6", "s7"]
    held_out, *_ = predictions.read_predictions(mapped.results / run_of("vectors+maps") / "predictions.h5")
    folder = mapped.results / run_of("vectors+maps") / "maps"
    place = store.read_json(folder / "s4.json")
    grey = np.asarray(Image.open(folder / "s4.png")).astype(np.int64)
    for image, tile, share in zip(held_out.image, held_out.tile, held_out.probability[:, 1], strict=True):
        if image == "s4":
            col, row = (int(one) for one in tile.split("_"))
            assert abs((grey[row, col] - 1) / 65534 - share) < 1e-5
    assert (place["l0_x"], place["l0_y"], place["l0_step"]) == (0, 0, 40)
    features = json.loads((folder / "s4.geojson").read_text())["features"]
    assert len(features) == sum(image == "s4" for image in held_out.image)


def test_patients_are_staged(mapped):
    table = store.read_csv(mapped.results / "studies/tiny/staging/as-given/stages.csv")
    assert [f"{row['features']}+{row['classifier']}" for row in table] == sorted(METHODS)
    assert {row["patients"] for row in table} == {"4"}


def test_the_report_has_the_chapter_and_the_slide_that_cannot_be_read(mapped):
    page = (mapped.results / "studies/tiny/report.html").read_text("utf-8")
    assert "Slides as maps" in page
    assert "tumour points" in page
    for method in METHODS:
        assert method in page
    assert [row["status"] for row in mapped.table("scans/slides.tsv") if row["image"] == "bad"] == ["unreadable"]


def test_nothing_is_left_to_do_and_a_redrawn_region_extracts_nothing_again(mapped, tmp_path):
    study = mapped.copy_to(tmp_path / "study")
    assert study.plan().planned == {}
    write_region(study.folder / "data/scans/s4.xml", (120, 80, 480, 320))
    planned = study.plan().planned
    assert planned["label_regions"] == 1
    # labels are joined at what learns from them; tiles, pixels and features of networks as they are stay
    assert not {"tile_grid", "tile_pixels", "extract_features", "slide_image", "inspect_slide"} & planned.keys()


def test_what_each_job_asked_for_is_more_than_it_took(mapped, tmp_path):
    jobs = resources_factory.asked_and_took(mapped, tmp_path)
    assert {"train_unet", "train_end_to_end", "slide_image", "stage_patients"} <= {job["rule"] for job in jobs}
