"""What each kind of job asks for: the sizes of its files and the study's settings, as numbers for the needs of jobs."""

from __future__ import annotations

import json
import os

import pytest
from config_factory import MAPS, load
from snakemake.iocontainers import InputFiles, Wildcards

from histotransfer.planning import needs, requests

#: A study with a method of each kind that is no map.
MANY = """
study: {methods: [net+svm, few+trees, random+forest, tuned+svm], splits: [by-patient, capped, given]}
networks: {tuned: {start: net, recipe: warm, layers: [block1]}}
recipes:
  warm:
    head: {dense: [16]}
    batch: 8
    phases:
      - {input: features, train: head, epochs: 3, rate: 0.1, optimiser: {kind: sgd}}
      - {train: all, epochs: 2, rate: 0.1, optimiser: {kind: sgd}}
      - {train: all, epochs: 4, rate: 0.1, optimiser: {kind: sgd}}
feature_sets:
  few: {network: net, selection: rfe}
  random: {pixels: 64, windows: 4, window_px: 8}
selections: {rfe: {kind: rfe, step: 0.2}}
classifiers:
  trees: {kind: extratrees, max_features: [sqrt, all]}
  forest: {kind: leaf_frequencies, C: [1]}
splits:
  capped: {unit: patient, test: 0.25, folds: 2, train_tiles: 100}
  given: {unit: patient, test: 0.25, folds: 2, train_tiles_per_class: 60}
"""

RUN = {"dataset": "mine", "task": "tumour", "split": "by-patient", "seed": "1"}


@pytest.fixture
def asked(folder, tmp_path, monkeypatch):
    """A function that gives what a job of a study takes, as numbers that are handed on to the needs of jobs."""

    def make(size, *, config=MANY, threads=2, wildcards=None, **inputs):
        handed_on = {}

        def record(name):
            def need(*args, **values):
                handed_on.setdefault(name, []).append((*args, values))
                return needs.Need(100, 60)

            return need

        for name in ("extraction", "training", "head", "segmentation", "classifier", "selection"):
            monkeypatch.setattr(needs, name, record(name))
        given = requests.Requests(load(folder, config))
        wildcards = Wildcards(fromdict={**RUN, **(wildcards or {})})
        found = getattr(given, size)(wildcards, InputFiles(fromdict=inputs), threads)
        return found, handed_on

    return make


@pytest.fixture
def stored(tmp_path):
    """A function that writes files of these sizes and returns their paths."""

    def write(*sizes):
        paths = []
        for number, size in enumerate(sizes):
            path = tmp_path / f"{number}-{size}.h5"
            path.touch()
            os.truncate(path, size)
            paths.append(str(path))
        return paths

    return write


def write_manifest(path, *tiles):
    path.write_text(json.dumps({"slides": [{"n_tiles": n} for n in tiles]}))
    return str(path)


# files


def test_a_file_that_is_not_there_counts_nothing(tmp_path, stored):
    absent = str(tmp_path / "absent.h5")
    assert requests.file_bytes(absent) == requests.tiles_named(absent) == 0
    assert requests.total_bytes([absent, *stored(30, 12)]) == 42
    assert requests.tiles_stored([], 10) == 0


def test_tiles_are_counted_by_the_bytes_of_their_pixels(stored):
    # 3 * 10 * 10 bytes a tile
    assert requests.tiles_stored(stored(900, 300), 10) == 4


def test_a_manifest_that_has_changed_is_read_again(tmp_path):
    path = tmp_path / "shard-0.json"
    assert requests.tiles_named(write_manifest(path, 3, 4)) == 7
    write_manifest(path, 5)
    os.utime(path, ns=(1, 1))
    assert requests.tiles_named(str(path)) == 5


# resources, as Snakemake calls them


def test_memory_and_minutes_grow_with_each_attempt(folder):
    given = requests.Requests(load(folder))
    calls = []

    def size(*arguments):
        calls.append(arguments)
        return needs.Need(100, 60)

    resources = given.by(size)
    # the sheet of eight slides adds next to nothing: 370 + 130 MB; 10 minutes, and 4 times one
    assert [resources["mem_mb"]("w", "i", 3, attempt) for attempt in (1, 2)] == [600, 1100]
    assert [resources["runtime"]("w", "i", 3, attempt) for attempt in (1, 2)] == [14, 28]
    assert set(calls) == {("w", "i", 3)}


def test_jobs_ask_by_their_files_and_rule(folder, stored):
    given = requests.Requests(load(folder))
    files = [*stored(200_000_000, 100_000_000), "absent"]
    assert given.files(files, "tissue_mask") == needs.of_files("tissue_mask").need(300, 3)
    resources = given.by_files()
    ask = {"wildcards": None, "input": files, "attempt": 1, "rulename": "tissue_mask"}
    # 370 + 1.3 * (150 + 0.5 * 300) MB
    assert resources["mem_mb"](**ask) == 800
    assert resources["runtime"](**{**ask, "rulename": "part_pixels"}) == 10 + 4 * (600 + 60 * 300) / 60


def test_rules_that_a_module_renames_ask_for_the_same(folder):
    names = {}
    given = requests.Requests(load(folder), names)
    # the names are known when all rules are
    names["histotransfer_tissue_mask"] = "tissue_mask"
    assert given.files([], "histotransfer_tissue_mask") == needs.of_files("tissue_mask").need(0, 0)
    with pytest.raises(ValueError, match="found rule 'histotransfer_tile_grid'"):
        given.files([], "histotransfer_tile_grid")


def test_jobs_of_many_slides_ask_for_what_snakemake_takes(folder):
    sheet = folder / "in/slides.tsv"
    sheet.write_text(
        "image\tpath\tpatient\tlabel\n"
        + "".join(f"s{k}\ts{k}.svs\tp{k}\t{'normal' if k % 2 else 'tumour'}\n" for k in range(10_000))
    )
    few, many = (requests.Requests(load(folder, text)) for text in ("study: {datasets: [cells]}", ""))
    ask = {"wildcards": None, "input": [], "threads": 1, "attempt": 1}
    size = {"size": lambda *_: needs.Need(100, 0)}
    # 370 + 130 MB, and 42 for the sheet
    assert [given.by(**size)["mem_mb"](**ask) for given in (few, many)] == [500, 600]


# networks


def test_an_extraction_of_stored_tiles(asked, stored):
    _, found = asked("extraction", wildcards={"network": "net"}, tiles=stored(3 * 224**2 * 5), weights_file=[])
    [(network, values)] = found["extraction"]
    assert network.architecture.name == "VGG16"
    assert values == {"px": 224, "tiles": 5, "batch": 32, "threads": 2, "gpu": 0, "cut": False}


def test_an_extraction_from_slides_counts_the_cells_of_grids(asked, stored):
    config = f"{MANY}\npixels: stream\ngpus: 2"
    _, found = asked("extraction", config=config, wildcards={"network": "net"}, grids=stored(630, 63), slide_files=[])
    [(_, values)] = found["extraction"]
    assert values == {"px": 224, "tiles": 11, "batch": 32, "threads": 2, "gpu": 1, "cut": True}


@pytest.mark.parametrize("pixels", ["cache", "stream"])
def test_a_trained_network_extracts_from_stored_tiles_whatever_the_others_do(asked, stored, pixels):
    config = f"{MANY}\npixels: {pixels}"
    _, found = asked("extraction", config=config, wildcards={"network": "tuned"}, tiles=stored(3 * 224**2 * 7))
    [(network, values)] = found["extraction"]
    assert network.architecture.name == "VGG16"
    assert (values["tiles"], values["cut"]) == (7, False)


def test_training_counts_epochs_on_tiles_and_tiles_to_learn_on(asked, stored):
    _, found = asked("training", wildcards={"network": "tuned"}, pixels=stored(3 * 224**2 * 400))
    [(network, values)] = found["training"]
    assert network.architecture.name == "VGG16"
    # three quarters are not held out
    assert values == {"px": 224, "tiles": 300, "epochs": 6, "batch": 8, "threads": 2, "gpu": 0}


@pytest.mark.parametrize(("split", "learnt"), [("by-patient", 300), ("capped", 100), ("given", 120)])
def test_a_split_says_how_many_tiles_are_learnt_on(asked, stored, split, learnt):
    """At most so many in all, and so many of each of the two classes."""
    _, found = asked("training", wildcards={"network": "tuned", "split": split}, pixels=stored(3 * 224**2 * 400))
    assert found["training"][0][-1]["tiles"] == learnt


def test_a_head_counts_epochs_on_features_of_the_start(asked, tmp_path):
    manifests = [write_manifest(tmp_path / f"{k}.json", 100, 25) for k in range(2)]
    _, found = asked("head", wildcards={"network": "tuned"}, features=manifests)
    # 512 features of VGG16, 4 bytes each
    assert found["head"] == [({"tiles": 250, "mb": 250 * 4 * 512 / 1e6, "epochs": 3},)]


# classifiers


def test_a_classifier_counts_rows_columns_and_fits(asked, tmp_path):
    manifest = write_manifest(tmp_path / "0.json", 400)
    _, found = asked("classifier", wildcards={"features": "net", "classifier": "svm"}, features=[manifest])
    [(kind, values)] = found["classifier"]
    assert kind == "libsvm"
    # two points of the grid, two folds and the refit
    assert values == {"tiles": 400, "rows": 300, "row_bytes": 2048, "held_out": 100, "fits": 6, "slower": 1}


def test_forests_are_slower_where_they_look_at_all_features(asked, tmp_path):
    manifest = write_manifest(tmp_path / "0.json", 400)
    _, found = asked("classifier", wildcards={"features": "few", "classifier": "trees"}, features=[manifest])
    [(kind, values)] = found["classifier"]
    assert kind == "extratrees"
    root = 512**0.5
    assert values["slower"] == pytest.approx((root + 512) / 2 / root * 250 / 250)


def test_random_windows_have_a_column_for_each_value_of_a_pixel(asked, stored):
    pixels = stored(3 * 64**2 * 40)
    _, found = asked("classifier", wildcards={"features": "random", "classifier": "forest"}, features=pixels)
    [(_, values)] = found["classifier"]
    # four windows of 8 x 8 pixels, a byte a value
    assert (values["tiles"], values["row_bytes"]) == (40, 3 * 4 * 8**2)


def test_several_networks_have_the_columns_of_all_and_the_rows_of_one(asked, tmp_path):
    networks = "other: {architecture: ResNet50, weights: random}"
    more = f"networks: {{{networks}}}\nfeature_sets: {{both: {{networks: [net, other]}}}}"
    config = f"study: {{methods: [both+svm]}}\n{more}"
    manifests = [write_manifest(tmp_path / f"{name}.json", 400) for name in ("net", "other")]
    _, found = asked(
        "classifier", config=config, wildcards={"features": "both", "classifier": "svm"}, features=manifests
    )
    [(_, values)] = found["classifier"]
    assert (values["tiles"], values["row_bytes"]) == (400, 4 * (512 + 2048))


def test_a_selection_counts_its_columns_and_folds(asked, tmp_path):
    manifest = write_manifest(tmp_path / "0.json", 400)
    _, found = asked("selection", wildcards={"features": "few"}, features=[manifest])
    [(settings, values)] = found["selection"]
    assert settings.step == 0.2
    assert values == {"tiles": 400, "rows": 300, "row_bytes": 2048, "columns": 512, "folds": 2, "threads": 2}


# segmentation


def test_a_u_net_on_features_counts_cells_by_the_canvas(asked, tmp_path):
    manifest = write_manifest(tmp_path / "0.json", 400)
    _, found = asked(
        "segmentation", config=MAPS, wildcards={"features": "net", "classifier": "maps"}, features=[manifest]
    )
    [(values,)] = found["segmentation"]
    # eight slides on canvases of 32 x 32 cells
    assert values.pop("mb") == pytest.approx(400 * 4 * 512 / 1e6)
    assert values == {"pixels": 1024, "maps": 8, "epochs": 2, "batch": 32, "filters": 8, "threads": 2, "gpu": 0}


def test_a_u_net_on_reduced_slides_counts_their_pixels(asked, stored):
    """Without a canvas of its own size, the cells of all slides are shared out: 16 x 16 pixels each."""
    config = MAPS.replace("canvas: {size: 32, per: piece}", "canvas: {size: fit, per: slide}")
    images = stored(3 * 16**2 * 800)
    _, found = asked(
        "segmentation", config=config, wildcards={"features": "picture", "classifier": "maps"}, features=images
    )
    [(values,)] = found["segmentation"]
    assert values["pixels"] == pytest.approx(800 / 8 * 16**2)
    assert values["mb"] == pytest.approx(3 * 16**2 * 800 / 1e6)


def test_end_to_end_learning_takes_what_both_networks_do(asked, stored):
    # tiles are stored larger, to be cropped
    wildcards = {"features": "vectors", "classifier": "end-to-end"}
    need, found = asked("end_to_end", config=MAPS, wildcards=wildcards, pixels=stored(3 * 256**2 * 50))
    assert need == needs.Need(200, 120)
    [(network, of_tiles)], [(of_maps,)] = found["training"], found["segmentation"]
    assert network.architecture.name == "VGG16"
    assert (of_tiles["tiles"], of_tiles["epochs"]) == (50, 2)
    assert (of_maps["batch"], of_maps["mb"], of_maps["pixels"]) == (1, 0, 1024)
