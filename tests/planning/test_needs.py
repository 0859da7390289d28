"""What jobs ask of a cluster: as it was measured, with room to spare, and more at each attempt."""

from __future__ import annotations

import re

import pytest
from resources_factory import asked_and_took
from rule_texts import RULES, WORKING

from histotransfer.classifiers import kinds, linear_svm
from histotransfer.definitions import ExtraTrees, LinearSvm, Perceptron, Selection
from histotransfer.networks import table
from histotransfer.networks.specification import specification
from histotransfer.planning import needs, rates
from histotransfer.planning.needs import Need

# requests


@pytest.mark.parametrize(
    ("need", "attempt", "slides", "asked"),
    [
        # 370 + 1.3 * 100 = 500
        (Need(100, 0), 1, 0, 500),
        # just above a hundred
        (Need(101, 0), 1, 0, 600),
        (Need(100, 0), 2, 0, 1000),
        (Need(100, 0), 3, 0, 1500),
        # 370 + 420 for the sheet + 130 = 920
        (Need(100, 0), 1, 100_000, 1000),
        # no job asks for less than the two processes of Snakemake around it take
        (Need(0, 0), 1, 0, 400),
    ],
)
def test_memory_is_that_of_the_job_and_of_snakemake_and_grows_with_each_attempt(need, attempt, slides, asked):
    assert needs.memory_mb(need, attempt=attempt, slides=slides) == asked


@pytest.mark.parametrize(
    ("seconds", "attempt", "minutes"), [(0, 1, 10), (60, 1, 14), (60, 2, 28), (60, 3, 42), (1, 1, 11), (3600, 1, 250)]
)
def test_time_is_four_times_what_was_measured_and_grows_with_each_attempt(seconds, attempt, minutes):
    assert needs.minutes(Need(0, seconds), attempt=attempt) == minutes


def test_files_count_by_their_size_and_number():
    of = needs.OfFiles(mb=100, seconds=5, mb_of_mb=2, seconds_of_mb=0.5, seconds_of_file=0.1)
    assert of.need(30, 10) == Need(160, 21)


def test_a_whole_slide_image_asks_for_its_tissue_and_not_for_all_of_it():
    """645 MB: 392 MB and 1.6 s were measured for its tissue, 117 MB and 5.4 s for its 7,804 tiles."""
    tissue, pixels = (needs.OF_FILES[rule].need(645, 1) for rule in ("tissue_mask", "tile_pixels"))
    assert (tissue.mb, pixels.mb) == (150 + 322.5, 150 + 32.25)
    assert needs.memory_mb(tissue) == 1000
    assert needs.minutes(pixels) == 13


# networks


@pytest.fixture
def plain(monkeypatch):
    """One network of round numbers."""
    rate = rates.NetworkRate(tiles_s=10, start_s=5, mb=1850, tile_mb=100)
    monkeypatch.setitem(rates.NETWORKS, "ResNet50", rate)
    return specification({"architecture": "ResNet50", "weights": "random"})


def test_extraction_by_hand(plain):
    given = {"px": 224, "batch": 32}
    # 1,000 tiles at 10 a second, 5 s of start, 30 s to spare
    assert needs.extraction(plain, tiles=1000, **given) == Need(1850, 135)
    # eight threads are worth 1 + 7 * 0.7 = 5.9
    assert needs.extraction(plain, tiles=5900, threads=8, **given) == Need(1850, 135)
    assert needs.extraction(plain, tiles=4000, gpu=1, **given) == Need(1850, 45)
    # twice the batch: what is above 850 MB doubles; half the batch gives nothing back
    assert needs.extraction(plain, px=224, batch=64, tiles=0).mb == 2850
    assert needs.extraction(plain, px=224, batch=16, tiles=0).mb == 1850
    # four times the area takes four times as long; 1,000 tiles of 0.050176 Mpx are cut at 100 Mpx/s
    assert needs.extraction(plain, px=448, batch=32, tiles=1000) == Need(4850, 435)
    cut = needs.extraction(plain, tiles=1000, cut=True, **given)
    assert (cut.mb, cut.seconds) == (2000, pytest.approx(135.50176))


def test_training_by_hand(plain):
    # 2 epochs of 100 tiles, each worth three passes: 60 s; 32 tiles of 100 MB
    assert needs.training(plain, px=224, tiles=100, epochs=2, batch=32) == Need(1700 + 3200 + 0.1, 60 + 5 + 60)
    assert needs.training(plain, px=112, tiles=100, epochs=2, batch=32) == Need(1700 + 800 + 0.1, 60 + 5 + 15)


@pytest.mark.parametrize("name", table.ARCHITECTURES)
def test_every_network_has_its_rates(name):
    rate = rates.NETWORKS[name]
    assert rate.tiles_s > 0
    assert 500 < rate.mb < 4000
    assert 5 < rate.tile_mb < 600
    network = specification({"architecture": name, "weights": "random"})
    need = needs.extraction(network, px=network.px, tiles=100, batch=32)
    assert need.mb == rate.mb


# classifiers


def test_kinds_and_limits_are_those_of_the_classifiers():
    assert needs.CLASSIFIERS.keys() == kinds.KINDS.keys()
    assert needs.GRAM_ROWS == linear_svm.GRAM_ROWS


def test_classifiers_by_hand():
    of = {"tiles": 0, "row_bytes": 8192, "held_out": 0, "fits": 4}
    # 5,000 rows: 40.96 MB at 2.2, and 1.6 times 8 * 5,000 * 5,000 bytes; 7.2 s a fit
    svm = needs.classifier("libsvm", rows=5000, **of)
    assert svm.mb == pytest.approx(230 + 90.1 + 320, abs=0.1)
    assert svm.seconds == pytest.approx(20 + 4 * 7.2)
    # above 10,000 rows there is no such matrix: 20,000 rows are 163.84 MB, at 0.5 s each and fit
    svm = needs.classifier("libsvm", rows=20_000, **of)
    assert svm.mb == pytest.approx(230 + 2.2 * 163.84)
    assert svm.seconds == pytest.approx(20 + 4 * 0.5 * 163.84)
    # what is held out is read whole
    more = needs.classifier("libsvm", rows=20_000, **{**of, "held_out": 10_000})
    assert more.mb - svm.mb == pytest.approx(1.2 * 81.92)
    # and of each tile 1,000 bytes of names
    more = needs.classifier("libsvm", rows=20_000, **{**of, "tiles": 1_000_000})
    assert more.mb - svm.mb == pytest.approx(1000)


@pytest.mark.parametrize(
    ("kind", "rows", "measured_mb", "measured_s"),
    [
        ("libsvm", 4000, 459, 4.9),
        ("libsvm", 8000, 1197, 8.4),
        ("liblinear", 8000, 506, 7.0),
        ("extratrees", 4000, 465, 32.6),
        ("extratrees", 8000, 570, 70.2),
        ("perceptron", 8000, 461, 10.8),
    ],
)
def test_what_was_measured_of_classifiers_is_within_what_is_asked_for(kind, rows, measured_mb, measured_s):
    """2,048 features, three folds and the refit: bench/needs.py, in MiB."""
    need = needs.classifier(kind, tiles=rows, rows=rows, row_bytes=8192, held_out=rows / 3, fits=4)
    assert need.mb * needs.MEMORY_FACTOR > measured_mb * 1.0486
    # and no more than twice as much
    assert need.mb < 2.2 * measured_mb
    assert need.seconds * needs.TIME_FACTOR > measured_s


@pytest.mark.parametrize(
    ("classifier", "slower"),
    [
        (ExtraTrees(max_features=("sqrt",)), 1),
        (ExtraTrees(trees=500, max_features=("sqrt",)), 2),
        # of 1,600 features the root is 40, a tenth 160
        (ExtraTrees(max_features=(0.1,)), 4),
        (ExtraTrees(max_features=("sqrt", 0.1)), 2.5),
        (ExtraTrees(max_features=("all",)), 40),
        (ExtraTrees(max_features=(8,)), 1),
    ],
)
def test_forests_that_look_at_more_features_are_slower(classifier, slower):
    assert needs.forest_slowness(classifier, 1600) == pytest.approx(slower)


def test_a_grid_has_the_product_of_its_lists_points():
    assert needs.grid_points(LinearSvm(kind="libsvm", C=(0.1, 1, 10))) == 3
    assert needs.grid_points(Perceptron(learning_rate=(0.1, 1), iterations=(1, 2, 3))) == 6
    assert needs.grid_points(ExtraTrees(trees=250, max_features=("sqrt",))) == 1


@pytest.mark.parametrize("step", [0.1, 100, "adaptive"])
def test_an_elimination_takes_more_than_a_classifier(step):
    settings = Selection(step=step, trees=250)
    found = needs.selection(settings, tiles=2000, rows=2000, row_bytes=8192, columns=2048, folds=3)
    # 388 MiB and 88 s were measured with a step of 0.1
    assert found.mb * needs.MEMORY_FACTOR > 388 * 1.0486
    assert found.seconds * needs.TIME_FACTOR > 88


# rules


@pytest.mark.parametrize("name", WORKING)
def test_every_rule_says_what_it_needs(name):
    asked = RULES[name].get("resources", "")
    said = re.findall(r"\*\*REQUESTS\.(by\(REQUESTS\.\w+\)|by_files\(\)),", asked)
    assert len(said) == 1, f"rule {name} must ask for memory and time by REQUESTS; found {asked!r}"
    if said == ["by_files()"]:
        assert needs.of_files(name).mb > 0
    else:
        assert name not in needs.OF_FILES


def test_the_rules_that_run_networks_ask_for_a_gpu():
    asking = {name for name in WORKING if "gpu=GPU" in RULES[name]["resources"]}
    assert asking == {
        *("extract_features", "stream_features", "extract_trained_features", "train_head", "train_network", "grad_cam"),
        *("train_unet", "train_end_to_end"),
    }


def test_a_u_net_by_hand():
    of_maps = {"maps": 20, "epochs": 50, "batch": 32, "filters": 16, "mb": 10}
    # 1,024 cells of 20 maps, 50 times, at 40,000 a second; 32 maps of 1,024 cells hold 80 bytes a filter
    found = needs.segmentation(pixels=1024, **of_maps)
    assert found == Need(pytest.approx(850 + 80 * 16 * 1024 * 32 / 1e6 + 10), pytest.approx(60 + 0.5 + 25.6))
    # twice the filters are four times the work, features beyond what is held are read map by map
    wide = needs.segmentation(pixels=1024, **{**of_maps, "filters": 32, "mb": 1000})
    assert wide == Need(pytest.approx(850 + 2 * 41.94304 + 256), pytest.approx(60 + 50 + 4 * 25.6))


def test_no_needs_are_those_of_a_rule_that_is_not_there():
    assert needs.OF_FILES.keys() <= set(WORKING)
    assert needs.OF_VERBS.keys() <= {name.partition("_")[0] for name in set(WORKING) - needs.OF_FILES.keys()}


def test_a_rule_that_is_not_in_the_table_takes_what_its_verb_does():
    assert needs.of_files("draw_scores") == needs.OF_VERBS["draw"]
    assert needs.of_files("tabulate_points") == needs.of_files("collect_scores") == needs.of_files("rank_methods")
    assert needs.of_files("draw_slide") == needs.OF_FILES["draw_slide"]
    with pytest.raises(
        ValueError, match=r"are known for draw_slide, .* and draw_\.\.\., .*; found rule 'paint_slide'$"
    ):
        needs.of_files("paint_slide")


def test_what_each_job_asked_for_is_more_than_it_took(finished, tmp_path):
    jobs = asked_and_took(finished, tmp_path)
    assert {"tile_pixels", "extract_features", "train_classifier", "write_report"} <= {job["rule"] for job in jobs}
    assert max(job["mem_mb"] for job in jobs) < 3000
    assert {job["gpu"] for job in jobs if job["rule"] == "extract_features"} == {0}
