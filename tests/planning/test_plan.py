"""What a study takes, worked out by hand from round rates."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest
from study_factory import REPOSITORY

from histotransfer.networks import table
from histotransfer.planning import plan, rates

ONE = plan.Asked(slides=1000, tiles=5000, networks=("ResNet50",), cores=16, threads=8)
ROUND = plan.Rates(cut_mpx_s=100, tiles_s={"ResNet50": 10, "VGG16": 2, "InceptionV3": 5}, source="made up")


@pytest.fixture(autouse=True)
def round_rates(monkeypatch):
    """Round numbers in place of those that were measured."""
    of = {"SLIDE_S": 3.6, "JOB_S": 0.1, "TILE_BYTES": 100, "PREDICTION_BYTES": 200}
    of |= {"PLAN_S": 12.0, "PLAN_LEAST_S": 2.0, "PLAN_MB": 300.0, "PLAN_LEAST_MB": 200.0}
    of |= {"SLURM_START_S": 2.0, "SLURM_START_S_OF_A_THOUSAND": 0.1}
    for name, value in of.items():
        monkeypatch.setattr(rates, name, value)
    for name in ("ResNet50", "VGG16", "InceptionV3"):
        monkeypatch.setitem(rates.NETWORKS, name, rates.NETWORKS[name]._replace(start_s=36))


def hours(seconds):
    return pytest.approx(seconds / 3600)


def test_a_thousand_slides_on_processors():
    found = plan.plan(ONE, ROUND)
    # 5 million tiles of 224 x 224 x 3 bytes, of 2,048 float32
    assert found.pixels_gb == pytest.approx(752.64)
    assert found.features_gb == pytest.approx(40.96)
    # 3.6 s a slide, and 250,880 megapixels at 100 a second
    assert found.slides_h == hours(3600 + 2508.8)
    # two extractions at a time, four shards each
    assert found.n_shards == 8
    # 5 million tiles at 10 a second, and eight starts
    assert found.networks_h == hours(500_000 + 8 * 36)
    assert found.gpu_h == 0
    # inspect, tissue, grid, pixels, labels of each; 8 extractions; 2 classifiers and their scores; 20 others
    assert found.jobs == 5 * 1000 + 8 + 4 + 20
    assert found.snakemake_h == hours(503.2)
    # planning: 2 s and 10 s for each thousand slides
    assert (found.planning_min, found.planning_gb) == (pytest.approx(0.2), pytest.approx(0.3))
    # 100 bytes of each tile; predictions of 1.5 million tiles held out and 10,000 learnt from, by two classifiers
    assert found.other_gb == pytest.approx(0.5 + 2 * 1.51e6 * 200 / 1e9)
    assert found.cpu_h == pytest.approx(found.slides_h + found.networks_h + found.classifiers_h + found.snakemake_h)
    assert found.hours == pytest.approx(found.cpu_h / 16)


def test_classifiers_by_hand():
    found = plan.plan(dataclasses.replace(ONE, seeds=2), ROUND)
    # libsvm on 10,000 rows: 3 values of C, 3 folds and the refit, 28.8 s each; trees: 8 fits of 0.3 s for 81.92 MB;
    # both predict 12,288 MB
    svm, trees = 20 + 12 * 28.8 + 1228.8, 20 + 8 * 0.3 * 81.92 + 1228.8
    assert found.classifiers_h == hours(2 * (svm + trees))
    # 370 + 4.2, and 1.3 times: 230, 5,000 of names, 2.2 * 81.92, 1.2 * 12,288, and 1,280 of the Gram matrix
    assert found.classifier_gb == pytest.approx(-(-(374.2 + 1.3 * (5230 + 180.224 + 14745.6 + 1280)) // 100) / 10)


def test_all_tiles_of_the_training_groups_may_be_learnt_from():
    few, every = plan.plan(ONE, ROUND), plan.plan(dataclasses.replace(ONE, train_tiles=None), ROUND)
    assert every.classifiers_h > 10 * few.classifiers_h
    assert every.classifier_gb > few.classifier_gb + 100


def test_gpus_take_the_tiles_and_processors_the_starts():
    asked = dataclasses.replace(ONE, gpus=4, gpu_tiles_s={"ResNet50": 1000})
    found = plan.plan(asked, ROUND)
    # 5,000 s in all: sixteen shards would be wanted, and with more than twelve a start of 20 s is over 5 % of a shard
    assert found.n_shards == 12
    assert found.gpu_h == hours(5000 + 12 * 36)
    assert found.networks_h == hours(12 * 36)
    assert found.hours == pytest.approx(found.cpu_h / 16 + found.gpu_h / 4)


def test_gpu_hours_are_unknown_where_a_rate_is():
    asked = dataclasses.replace(ONE, networks=("ResNet50", "VGG16"), gpus=1, gpu_tiles_s={"ResNet50": 1000})
    found = plan.plan(asked, ROUND)
    assert (found.gpu_h, found.hours) == (None, None)
    text = plan.in_words(asked, {1000: found}, ROUND)
    assert "GPU hours: no GPU was measured for this table; give your own tiles a second (make bench-gpu)." in text


def test_networks_of_two_sizes_of_input_need_tiles_of_both():
    found = plan.plan(dataclasses.replace(ONE, networks=("ResNet50", "VGG16", "InceptionV3")), ROUND)
    assert found.pixels_gb == pytest.approx(5e6 * 3 * (224**2 + 299**2) / 1e9)
    assert found.features_gb == pytest.approx(5e6 * 4 * (2048 + 512 + 2048) / 1e9)
    assert found.jobs == 6 * 1000 + 3 * found.n_shards + 2 * 6 + 20


def test_jobs_of_slurm_start_snakemake_twice_and_read_the_sheet_each_time():
    here, slurm = plan.plan(ONE, ROUND), plan.plan(dataclasses.replace(ONE, slurm=True), ROUND)
    # 2,000 jobs of slides, 8 of the network, 4 of classifiers, 20 others: 2 * (2 + 0.1) s each
    assert slurm.snakemake_h - here.snakemake_h == hours(2032 * 4.2)


@pytest.mark.parametrize(
    ("slides", "tiles", "gpus", "rate", "shards"),
    [
        # four a GPU
        (10_000, 5000, 4, 1000, 16),
        # 20 GPUs: 50,000 s bear 125 starts, and 80 are enough
        (10_000, 5000, 20, 1000, 80),
        # half a million seconds in shards of four hours at most
        (100_000, 5000, 4, 1000, 35),
        # 5 s of work: one start
        (10, 500, 4, 1000, 1),
        # no more shards than slides
        (3, 1_000_000, 4, 10, 3),
    ],
)
def test_shards(slides, tiles, gpus, rate, shards):
    asked = dataclasses.replace(ONE, slides=slides, tiles=tiles, gpus=gpus, gpu_tiles_s={"ResNet50": rate})
    assert plan.n_shards(asked, ROUND) == shards


def test_the_slowest_network_sets_their_length_and_the_fastest_their_number():
    rate = {"ResNet50": 1000, "VGG16": 10}
    asked = dataclasses.replace(ONE, networks=("ResNet50", "VGG16"), gpus=1, gpu_tiles_s=rate)
    # 500,000 s of VGG16 would be 35 shards; 5,000 s of ResNet50 bear 12 starts
    assert plan.n_shards(asked, ROUND) == 12


def test_a_row_beyond_what_was_measured_is_marked():
    plans = {n: plan.plan(dataclasses.replace(ONE, slides=n), ROUND) for n in (10_000, 100_000)}
    text = plan.in_words(ONE, plans, ROUND)
    assert "\n| 10,000 | " in text
    assert "\n| 100,000 * | " in text
    assert text.endswith(
        "* Snakemake was measured with up to 10,000 slides: this row is extrapolated.\n"
        "A classifier reads all tiles that are held out at once: see the column classifier GB."
    )
    header, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in (header, rule, *rows)} == {16}


def test_names_are_those_of_the_table_however_they_are_written():
    asked = dataclasses.replace(ONE, networks=("resnet50", "VGG16", "ResNet50"), gpu_tiles_s={"vgg16": 3.0})
    found = plan.checked(asked)
    assert (found.networks, dict(found.gpu_tiles_s)) == (("ResNet50", "VGG16"), {"VGG16": 3.0})


def test_all_that_is_wrong_is_told():
    asked = dataclasses.replace(ONE, slides=0, networks=("ResNet-50", "xyz"), gpus=-1, gpu_tiles_s={"VGG16": 0.0})
    with pytest.raises(ValueError, match="must be") as caught:
        plan.checked(asked)
    told = str(caught.value).splitlines()
    legal = ", ".join(table.ARCHITECTURES)
    assert told == [
        "slides: must be a whole number from 1; found 0",
        "gpus: must be a whole number from 0; found -1",
        f"networks: legal are {legal} (did you mean 'ResNet50'?); found 'ResNet-50'",
        f"networks: legal are {legal}; found 'xyz'",
        "GPU rates: must be above 0; found VGG16=0.0",
    ]


def test_rates_of_gpus_are_of_all_networks_or_of_one():
    assert plan.gpu_rates(["b=3", "5"], ["a", "b"]) == {"a": 5, "b": 3}
    assert plan.gpu_rates([], ["a"]) == {}
    with pytest.raises(ValueError, match=r"GPU rates: legal are RATE and NETWORK=RATE, with a number; found 'a=fast'"):
        plan.gpu_rates(["a=fast"], ["a"])


def test_tiles_to_learn_from_are_a_number_or_all():
    assert (plan.train_tiles("all"), plan.train_tiles("500")) == (None, 500)
    with pytest.raises(ValueError, match="must be a whole number from 1, or all; found 'some'"):
        plan.train_tiles("some")


def call(*arguments):
    script = REPOSITORY / "workflow_scripts/plan.py"
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)


def test_the_command_prints_a_row_for_each_number_of_slides():
    given = ("--slides", "100", "1000", "--networks", "resnet50", "--gpus", "2", "--gpu-tiles-s", "700", "--slurm")
    done = call(*given, "--tiles", "2000", "--train-tiles", "all", "--cores", "64")
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| 1")]
    assert [row[0] for row in rows] == ["| 100", "| 1,000"]
    assert "GPU hours are of the tiles a second that were given: ResNet50 700." in done.stdout
    assert "hours on 64 processors and 2 GPUs" in done.stdout
    # no network is imported
    assert "tensorflow" not in done.stderr.lower()


def test_the_command_says_what_is_legal():
    done = call("--slides", "0", "--networks", "resnet5")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "slides: must be a whole number from 1; found 0\nnetworks: legal are VGG16, " in done.stderr


def test_this_machine_can_be_measured():
    found = plan.measured_here(["JoyceCNN"], seconds=0.1)
    assert 1 < found.cut_mpx_s < 10_000
    assert found.tiles_s.keys() == {"JoyceCNN"}
    assert 1 < found.tiles_s["JoyceCNN"] < 10_000
    asked = dataclasses.replace(ONE, networks=("JoyceCNN",))
    assert "measured on this machine just now" in plan.in_words(asked, {1000: plan.plan(asked, found)}, found)


def tables(text):
    """Return the tables of a page of Markdown: for each its rows, by the names of its columns."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    found = []
    for block in blocks:
        names, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines())
        found.append([dict(zip(names, row, strict=True)) for row in rows])
    return found


STUDIES = ("--slides", "100", "1000", "10000", "100000", "--tiles", "5000", "--networks", "ResNet50", "--cores", "64")
PRINTED = [
    ("docs/planning.md", ("--gpus", "4", "--gpu-tiles-s", "1000", "--slurm"), 0),
    ("docs/planning.md", (), 1),
]


def plans(page):
    """Return the tables of a page that `make plan` prints."""
    return [rows for rows in tables((REPOSITORY / page).read_text("utf-8")) if rows and "n_shards" in rows[0]]


@pytest.mark.parametrize(("page", "arguments", "number"), PRINTED)
def test_the_pages_have_what_the_command_prints(page, arguments, number):
    (printed,) = tables(call(*STUDIES, *arguments).stdout)
    written = plans(page)[number]
    assert written == [{name: row[name] for name in written[0]} for row in printed]


def test_every_table_of_plans_on_a_page_is_compared_with_the_command():
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    found = [(str(page.relative_to(REPOSITORY)), n) for page in pages for n in range(len(plans(page)))]
    assert sorted(found) == sorted((page, number) for page, _, number in PRINTED)
