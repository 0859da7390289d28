"""Two real slides, from inspection to features with real ImageNet weights: one states its resolution, one does not."""

import json

import h5py
import numpy as np
import pytest
import slide_factory
import study_factory
from repository import DATA

STATED = DATA / "slides/CMU-1-Small-Region.svs"
SILENT = DATA / "slides/TCGA-CR-7395-01A-01-TS1.svs"
WEIGHTS = DATA / "weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
#: The silent slide's id in paths: its own has capitals.
SILENT_ID = "tcga-cr-7395-01a-01-ts1--5d65c625ca"

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.real_data,
    pytest.mark.skipif(
        not all(path.is_file() for path in (STATED, SILENT, WEIGHTS)), reason=f"no real slides and weights in {DATA}"
    ),
]


def write_sheet(study, silent_mpp=""):
    rows = [
        {"image": "cmu-1", "path": str(STATED), "patient": "cmu-1", "mpp": ""},
        {"image": SILENT.stem, "path": str(SILENT), "patient": "TCGA-CR-7395", "mpp": silent_mpp},
    ]
    slide_factory.write_sheet(study.folder / "data/scans.tsv", rows)


def description(study, slide):
    return json.loads((study.results / f"scans/slides/{slide}.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def without_resolution(tmp_path_factory, workflow):
    """The default: a slide whose resolution is stated nowhere fails."""
    study = study_factory.Study(tmp_path_factory.mktemp("real") / "study", workflow)
    write_sheet(study)
    study.config["datasets"]["scans"]["tasks"] = []
    # its own pixels: within 1 % of the 0.499 um that the first slide states
    study.config["tilings"]["tiny"] = {"size_px": 224, "mpp": 0.5, "tissue_min": 0.5, "max_tiles_per_slide": 8}
    study.config["networks"]["net"] = {"architecture": "MobileNetV2", "weights": str(WEIGHTS), "px": 224}
    study.last = study.run("features", expect=1)
    return study


@pytest.fixture(scope="module")
def with_exclusion(tmp_path_factory, without_resolution):
    """The same, and such slides are left out."""
    study = without_resolution.copy_to(tmp_path_factory.mktemp("excluded") / "study")
    study.config["missing_mpp"] = "exclude"
    study.last = study.run("features", "results/scans/slides.tsv")
    return study


def test_a_slide_that_tells_no_resolution_fails_and_says_what_to_do(without_resolution):
    output = without_resolution.last.output
    assert f"slide {SILENT.stem} ({SILENT}): the file states neither a resolution nor an objective power" in output
    for remedy in ("write the resolution into the sheet's column mpp", "remove the slide", "missing_mpp: exclude"):
        assert remedy in output
    assert [path.name for path in (without_resolution.results / "scans/tiles").iterdir()] == ["cmu-1.h5"]


def test_the_slide_that_tells_its_resolution_is_understood(without_resolution):
    found = description(without_resolution, "cmu-1")
    assert (found["status"], found["vendor"], found["reader"]) == ("ok", "aperio", "libjpeg-turbo")
    assert (found["mpp"], found["mpp_source"], found["objective_power"]) == (0.499, "file", 20)
    assert found["size"] == [2220, 2967]


def test_under_exclude_it_is_a_row_and_the_other_goes_on(with_exclusion):
    rows = {row["image_in_sheet"]: row for row in with_exclusion.table("scans/slides.tsv")}
    assert (rows["cmu-1"]["status"], rows["cmu-1"]["tiles"]) == ("ok", "8")
    silent = rows[SILENT.stem]
    assert (silent["image"], silent["status"], silent["tiles"]) == (SILENT_ID, "no mpp", "0")
    assert "the file states neither a resolution nor an objective power" in silent["reason"]
    folder = with_exclusion.results / "scans/features/net"
    assert sorted(path.name for path in folder.iterdir()) == ["cmu-1.h5", "shard-0.json"]


def test_features_are_what_keras_makes_of_what_openslide_reads(with_exclusion):
    import keras
    import openslide

    with h5py.File(with_exclusion.results / "scans/features/net/cmu-1.h5") as file:
        features, coords = file["features"][:], file["coords"][:]
        assert not file.attrs["untrained"]
        assert file.attrs["weights"] == WEIGHTS.name
        assert file.attrs["mpp"] == 0.499
    with openslide.OpenSlide(STATED) as slide:
        tiles = [np.asarray(slide.read_region((int(x), int(y)), 0, (224, 224)).convert("RGB")) for x, y in coords]
    network = keras.applications.MobileNetV2(include_top=False, weights=str(WEIGHTS), pooling="avg")
    expected = network.predict(np.stack(tiles) / 127.5 - 1.0, verbose=0)
    assert features.shape == (8, 1280)
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_with_its_resolution_in_the_sheet_it_is_used(with_exclusion, tmp_path):
    study = with_exclusion.copy_to(tmp_path / "study")
    study.config["missing_mpp"] = "fail"
    write_sheet(study, silent_mpp="0.25")
    before = study.files("scans/features/net/*.h5")
    study.run("features", "results/scans/slides.tsv")
    found = description(study, SILENT_ID)
    assert (found["status"], found["mpp"], found["mpp_source"]) == ("ok", 0.25, "sheet")
    assert {row["image"]: row["status"] for row in study.table("scans/slides.tsv")} == {"cmu-1": "ok", SILENT_ID: "ok"}
    with h5py.File(study.results / f"scans/features/net/{SILENT_ID}.h5") as file:
        # 224 px of 0.5 um are 448 px of 0.25 um
        assert file["features"].shape[1] == 1280
        assert 0 < len(file["features"]) <= 8
        assert np.isfinite(file["features"][:]).all()
        assert (file.attrs["mpp"], file.attrs["size_um"]) == (0.5, 112)
    after = study.files("scans/features/net/*.h5")
    assert {name: after[name] for name in before} == before
