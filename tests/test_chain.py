"""The whole chain, run as a user runs it: from a sheet to scores, and what bad slides and bad configs do to it."""

import html
import json
import re

import h5py
import numpy as np
import pytest
import slide_factory
import study_factory

from histotransfer import store

pytestmark = pytest.mark.workflow


def read(path):
    """Return the arrays of an HDF5 file and its attributes; no attribute of versions."""
    with h5py.File(path, "r") as file:
        arrays = {name: node[()] for name, node in file.items() if isinstance(node, h5py.Dataset)}
        return arrays, {name: value for name, value in file.attrs.items() if name != "versions"}


def text_of(study, page):
    """Return the words of a page, as a reader sees them."""
    markup = (study.results / "studies/tiny" / page).read_text("utf-8")
    markup = re.sub(r"<(style|script)\b.*?</\1>", "", markup, flags=re.DOTALL)
    markup = re.sub(r"</(?:td|th|p|h\d|li|div)>", " ", markup)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", markup)).split())


# ---- the three kinds of data


def test_slides_go_from_sheet_to_scores(finished):
    rows = finished.table("scans/slides.tsv")
    assert [(row["image"], row["patient"], row["status"], row["tiles"]) for row in rows] == [
        (f"s{n:02d}", f"p{n:02d}", "ok", "12") for n in range(7)
    ]
    arrays, attributes = read(finished.results / "scans/features/net/s00.h5")
    assert arrays["features"].shape == (12, 1280)
    assert arrays["features"].dtype == np.float32
    assert arrays["coords"].shape == (12, 2)
    assert attributes["untrained"]
    assert attributes["mpp"] == 40 * 0.5 / 32

    # patients are whole: two of seven in the test, and no tile of theirs in training
    sets = {row["group"]: row["set"] for row in finished.table("scans/splits/by-patient/1.tsv")}
    assert sorted(sets) == [f"p{n:02d}" for n in range(7)]
    tested = {patient for patient, name in sets.items() if name == "test"}
    assert len(tested) == 2
    with h5py.File(finished.results / "scans/models/kind/by-patient/1/net/svm/predictions.h5") as file:
        assert set(store.read_texts(file, "group")) == tested
        assert set(store.read_texts(file["out_of_fold"], "group")) == set(sets) - tested

    scores = finished.table("studies/tiny/scores.tsv")
    accuracy = [row for row in scores if row["metric"] == "accuracy"]
    assert [(row["level"], row["n"], row["groups"], row["unit"]) for row in accuracy] == [
        ("tile", "24", "2", "patient"),
        ("slide", "2", "2", "patient"),
    ]
    assert all(0 <= float(row["value"]) <= 1 for row in accuracy)


def test_a_number_from_random_weights_says_so(finished):
    assert {row["weights"] for row in finished.table("studies/tiny/scores.tsv")} == {"untrained"}
    assert "untrained network: net has random weights" in finished.last.output
    assert "Untrained network: these numbers say nothing about transfer." in text_of(finished, "report.html")


@pytest.mark.parametrize(("kind", "tiles_an_image"), [("patches", 4), ("points", 8)])
def test_a_table_goes_from_sheet_to_scores(finished_tables, kind, tiles_an_image):
    rows = finished_tables.table(f"{kind}/slides.tsv")
    assert {row["status"] for row in rows} == {"ok"}
    assert {int(row["tiles"]) for row in rows} == {tiles_an_image}
    n = sum(int(row["tiles"]) for row in rows)
    arrays, _ = read(finished_tables.results / f"{kind}/features/net/part-00.h5")
    assert arrays["features"].shape == (n, 1280)
    scored = {row["split"]: row for row in finished_tables.table("studies/tiny/scores.tsv")
              if (row["dataset"], row["level"], row["metric"]) == (kind, "tile", "accuracy")}  # fmt: skip
    assert {split: row["unit"] for split, row in scored.items()} == {"by-tile": "tile", "as-given": "patient"}
    # what is shared on purpose is written beside every number that it made
    assert {split: row["share_groups"] for split, row in scored.items()} == {
        "by-tile": study_factory.SHARED_ON_PURPOSE,
        "as-given": "",
    }
    assert study_factory.SHARED_ON_PURPOSE in text_of(finished_tables, "report.html")
    # two of six patients are given to the test, each with a sixth of the tiles
    assert int(scored["as-given"]["n"]) == n // 3


def test_groups_of_a_split_are_what_it_names(finished_tables, tmp_path):
    study = finished_tables.copy_to(tmp_path / "study")
    study.config["study"]["splits"] = ["by-image"]
    study.run("results/patches/models/kind/by-image/1/net/svm/scores.tsv")

    def sets(split):
        rows = study.table(f"patches/splits/{split}/1.tsv")
        return {row["group"]: row["set"] for row in rows}, {row["unit"] for row in rows}

    by_image, unit = sets("by-image")
    assert (len(by_image), unit) == (12, {"image"})
    by_tile, unit = sets("by-tile")
    assert (len(by_tile), unit) == (48, {"tile"})
    given, unit = sets("as-given")
    assert unit == {"patient"}
    assert given == {"p00": "train", "p01": "train", "p02": "train", "p03": "train", "p04": "test", "p05": "test"}
    with h5py.File(study.results / "patches/models/kind/by-image/1/net/svm/predictions.h5") as file:
        tested = set(store.read_texts(file, "group"))
    assert tested == {image for image, name in by_image.items() if name == "test"}


# ---- the same study in another way


@pytest.mark.full
def test_stage_by_stage_on_one_core_is_the_same_as_at_once_on_two(finished, workflow, tmp_path):
    study = study_factory.slides_study(tmp_path / "elsewhere", workflow)
    study.run("slides", cores=1)
    assert sorted(path.name for path in (study.results / "scans").iterdir()) == ["slides"]
    study.run("tiles", cores=1)
    assert sorted(path.name for path in (study.results / "scans").iterdir()) == ["slides", "tiles", "tissue"]
    study.run("features", cores=1)
    assert (study.results / "scans/features/net/s06.h5").is_file()
    assert not (study.results / "scans/models").exists()
    study.run("classifiers", cores=1)
    assert (study.results / "scans/models/kind/by-patient/1/net/svm/model.skops").is_file()
    assert not (study.results / "studies").exists()
    study.run(cores=1)
    assert study.digests() == finished.digests()


def test_streamed_slides_give_the_features_of_cached_ones(finished, study):
    for folder in ("pixels", "features"):
        for path in (study.results / "scans" / folder).rglob("*.*"):
            path.unlink()
    study.config["pixels"] = "stream"
    done = study.run("features")
    assert done.finished == {"stream_features": 1}
    assert not list((study.results / "scans/pixels").rglob("*.h5"))
    for n in range(7):
        name = f"scans/features/net/s{n:02d}.h5"
        cached, streamed = read(finished.results / name)[0], read(study.results / name)[0]
        assert cached.keys() == streamed.keys()
        for array in cached:
            np.testing.assert_array_equal(cached[array], streamed[array], err_msg=f"{array} of {name}")


# ---- bad slides


#: Each bad slide's status, and what its reason has to say.
BAD = {
    "truncated": ("unreadable", "Unsupported or missing image file"),
    "zero": ("unreadable", "the file is empty"),
    "letter": ("unreadable", "Unsupported or missing image file"),
    "gone": ("missing", "no file at scans/gone.tif"),
    "silent": ("no mpp", "neither a resolution nor an objective power"),
    "mpp-zero": ("no mpp", "column mpp"),
    "contradiction": ("mpp conflict", "0.25 um a pixel, and an objective power of 20x"),
    "blank": ("no tissue", ""),
    "later": ("unreadable", ""),
}


@pytest.fixture(scope="module")
def with_bad_slides(tmp_path_factory, finished):
    """Seven good slides, and one of everything that can be wrong with one."""
    study = finished.copy_to(tmp_path_factory.mktemp("bad") / "study")
    scans, sheet = study.folder / "data/scans", study.folder / "data/scans.tsv"
    options = {"size": (640, 640)}
    slide_factory.truncate(slide_factory.write_slide(scans / "truncated.tif", **options))
    slide_factory.zero_bytes(scans / "zero.tif")
    slide_factory.not_an_image(scans / "letter.tif")
    slide_factory.write_generic_slide(scans / "silent.tif", mpp=None, **options)
    slide_factory.write_slide(scans / "mpp-zero.tif", mpp=0, power=None, **options)
    slide_factory.write_slide(scans / "contradiction.tif", mpp=0.25, power=20, **options)
    slide_factory.write_slide(scans / "blank.tif", tissue=False, **options)
    slide_factory.corrupt_later_tiles(slide_factory.write_slide(scans / "later.tif", **options))
    bad = [{"image": name, "path": f"scans/{name}.tif", "patient": f"q-{name}", "label": "alpha"} for name in BAD]
    slide_factory.write_sheet(sheet, [*store.read_table(sheet), *bad])
    study.config["missing_mpp"] = "exclude"
    study.last = study.run()
    return study


def test_each_bad_slide_is_a_row_with_its_reason_and_the_others_go_on(with_bad_slides):
    rows = {row["image"]: row for row in with_bad_slides.table("scans/slides.tsv")}
    assert {name: rows[name]["status"] for name in BAD} == {name: status for name, (status, _) in BAD.items()}
    for name, (_, reason) in BAD.items():
        assert reason in rows[name]["reason"]
        assert len(rows[name]["reason"]) > 10
        assert rows[name]["tiles"] == "0"
    assert {row["status"] for name, row in rows.items() if name not in BAD} == {"ok"}
    assert "7 of 16 images are used; excluded: 1 missing" in with_bad_slides.last.output
    with h5py.File(with_bad_slides.results / "scans/models/kind/by-patient/1/net/svm/predictions.h5") as file:
        used = set(store.read_texts(file, "image")) | set(store.read_texts(file["out_of_fold"], "image"))
    assert used == {f"s{n:02d}" for n in range(7)}


def test_the_report_lists_each_bad_slide_with_its_reason(with_bad_slides):
    rows = {row["image"]: row for row in with_bad_slides.table("scans/slides.tsv")}
    text = text_of(with_bad_slides, "report.html")
    assert "16 slides asked for, 7 used" in text
    for name in BAD:
        assert re.search(rf"\b{name} q-{name} [a-z ()]+ {re.escape(rows[name]['reason'])}", text), name
    assert "inspect_slide" in text_of(with_bad_slides, "run.html")


def test_no_white_tile_stands_for_a_tile_that_cannot_be_read(with_bad_slides):
    arrays, attributes = read(with_bad_slides.results / "scans/pixels/32/later.h5")
    assert (attributes["status"], len(arrays["tiles"])) == ("unreadable", 0)
    assert not (with_bad_slides.results / "scans/features/net/later.h5").exists()
    entries = json.loads((with_bad_slides.results / "scans/features/net/shard-0.json").read_text())["slides"]
    assert {entry["slide"]: entry["status"] for entry in entries if entry["status"] != "ok"} == {
        name: status for name, (status, _) in BAD.items()
    }


def test_a_bad_slide_moves_no_number(finished, with_bad_slides):
    ours, theirs = (study.results / "scans/features/net/s00.h5" for study in (finished, with_bad_slides))
    np.testing.assert_array_equal(read(ours)[0]["features"], read(theirs)[0]["features"])
    assert finished.table("studies/tiny/scores.tsv") == with_bad_slides.table("studies/tiny/scores.tsv")


def test_on_bad_slide_fail_stops_and_lists_all(with_bad_slides, tmp_path):
    study = with_bad_slides.copy_to(tmp_path / "strict")
    study.config["on_bad_slide"] = "fail"
    done = study.run(expect=1)
    message = done.output.partition("7 of 16 images are used")[2].partition("\n[")[0]
    assert "(on_bad_slide: fail)" in message
    for name, (status, _) in BAD.items():
        assert f"\n  {name}: {status}: " in message
    assert not (study.results / "scans/slides.tsv").exists()
    assert done.finished == {}


def test_a_slide_that_fails_while_it_is_streamed_is_a_row_too(with_bad_slides, tmp_path):
    study = with_bad_slides.copy_to(tmp_path / "streamed")
    for folder in ("pixels", "features"):
        for path in (study.results / "scans" / folder).rglob("*.*"):
            path.unlink()
    study.config["pixels"] = "stream"
    study.run("results/scans/slides.tsv")
    rows = {row["image"]: row for row in study.table("scans/slides.tsv")}
    assert {name: rows[name]["status"] for name in BAD} == {name: status for name, (status, _) in BAD.items()}
    assert {row["status"] for name, row in rows.items() if name not in BAD} == {"ok"}


def test_a_missing_mpp_fails_by_default_before_the_slide_is_cut(tmp_path, workflow):
    study = study_factory.slides_study(tmp_path / "study", workflow)
    slide_factory.write_generic_slide(tmp_path / "study/data/scans/s00.tif", mpp=None, size=(640, 640))
    done = study.run("tiles", expect=1)
    assert "slide s00 (scans/s00.tif): the file states neither a resolution nor an objective power" in done.output
    for remedy in ("column mpp", "remove the slide", "missing_mpp: exclude"):
        assert remedy in done.output
    made = sorted(path.name for path in (study.results / "scans/tiles").iterdir())
    assert made == [f"s{n:02d}.h5" for n in range(1, 7)]
    assert not list((study.results / "scans/slides").glob("*s00*"))

    # the first remedy: the sheet says it
    sheet = tmp_path / "study/data/scans.tsv"
    rows = store.read_table(sheet)
    slide_factory.write_sheet(sheet, [{**row, "mpp": "0.5" if row["image"] == "s00" else ""} for row in rows])
    study.run("results/scans/tiles/s00.h5")
    said = json.loads((study.results / "scans/slides/s00.json").read_text())
    assert (said["mpp"], said["mpp_source"]) == (0.5, "sheet")


def test_a_resolution_finer_than_the_slide_is_an_error(study):
    study.config["networks"]["net"]["px"] = 64
    done = study.run("results/scans/tiles/s00.h5", expect=1)
    assert (
        "slide s00: tiles of 20 um reduced to 64 px ask for 0.3125 um a pixel, finer than the slide's 0.5"
        in done.output
    )
    assert "upsample: true" in done.output
    assert not (study.results / "scans/tiles/s00.h5").exists()


# ---- a wrong config


def test_all_that_is_wrong_with_a_config_is_told_before_any_job(tmp_path, workflow):
    study = study_factory.slides_study(tmp_path / "study", workflow, slides=4)
    study.config["networks"]["net"]["layer"] = "block_99"
    study.config["tilings"]["tiny"]["tisue_min"] = 0.5
    done = study.run(expect=1)
    assert "nothing was run" in done.output
    assert "found 'block_99'" in done.output
    assert "'tisue_min'" in done.output
    assert not study.results.exists()
    assert "Traceback" not in done.output


def test_too_few_groups_are_told_before_any_job(tmp_path, workflow):
    study = study_factory.slides_study(tmp_path / "study", workflow, slides=4)
    done = study.run(expect=1)
    assert "split by-patient, class 'alpha' of task kind: needs 3 patients: 2 for training" in done.output
    assert "found 2" in done.output
    assert not study.results.exists()


def test_groups_that_get_too_few_on_the_way_are_told_with_numbers(with_bad_slides, tmp_path):
    study = with_bad_slides.copy_to(tmp_path / "fewer")
    (study.folder / "data/scans/s01.tif").unlink()
    done = study.run(expect=1)
    assert "6 of 16 images are used" in done.output
    assert "beta" in done.output
    assert "it takes 3" in done.output
