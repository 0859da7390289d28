"""What methods cost: a study of two datasets whose jobs and files have round numbers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from score_factory import write_scores

from histotransfer import provenance, store
from histotransfer.evaluation import costs
from histotransfer.feature_kinds import Source
from histotransfer.settings import DatasetParts, Fit, MethodParts, NetworkTraining

LAST, INNER = Source("net"), Source("net", "inner")
FITTED = (Fit("train_classifier", "svm"),)
METHODS = {
    "last+svm": MethodParts("last", "svm", (LAST,), fitted=FITTED),
    "inner+svm": MethodParts("inner", "svm", (INNER,), fitted=FITTED),
    "two+svm": MethodParts("two", "svm", (LAST, Source("other")), selection=True, fitted=FITTED),
    "best+svm": MethodParts(
        "best", "svm", (LAST, INNER), choice=("last", "inner"), fitted=(Fit("choose_layer", "svm"),)
    ),
    "windows+et": MethodParts("windows", "et", fitted=(Fit("train_classifier", "et"),)),
}
DATASETS = {"d": DatasetParts(("t",), ("shard-0", "shard-1"), ("one", "two"))}
RUN = "t/s/1"


def benchmark(folder, path, *, s=1.0, cpu=1.0, mb=100.0):
    row = {"s": s, "cpu_time": cpu, "max_rss": mb}
    store.write_table(folder / "benchmarks" / path, list(row), [row])


def put(folder, path, size):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(bytes(size))


def features(folder, network, shard, *, widths):
    """Write a manifest with a file of the layers' widths; return the file's size."""
    file = folder / "results/d/features" / network / f"{shard}-slide.h5"
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as made:
        for layer, width in widths.items():
            made["features" if layer is None else f"layers/{layer}"] = np.zeros((50, width), np.float32)
    entries = [{"file": file.name, "status": "ok"}, {"file": "", "status": "unreadable"}]
    store.write_json(file.parent / f"{shard}.json", {"slides": entries})
    return file.stat().st_size


@pytest.fixture
def folder(tmp_path):
    for shard in ("shard-0", "shard-1"):
        benchmark(tmp_path, f"d/extract_features/net/{shard}.tsv", s=100, cpu=200, mb=3000)
        benchmark(tmp_path, f"d/extract_features/other/{shard}.tsv", s=10, cpu=20, mb=1000)
    # made when the study had more shards
    benchmark(tmp_path, "d/extract_features/net/shard-2.tsv", cpu=1e6)
    for k, name in enumerate(METHODS):
        of, classifier = name.split("+")
        rule = "choose_layer" if of == "best" else "train_classifier"
        benchmark(tmp_path, f"d/{rule}/{RUN}/{of}/{classifier}.tsv", cpu=k + 1, mb=4000 if of == "inner" else 10)
        # of another split and another seed
        benchmark(tmp_path, f"d/{rule}/t/other/1/{of}/{classifier}.tsv", cpu=1e6)
        benchmark(tmp_path, f"d/{rule}/t/s/2/{of}/{classifier}.tsv", cpu=1e6)
        put(tmp_path, f"results/d/models/{RUN}/{of}/{classifier}/model.skops", 1000 * (k + 1))
        put(tmp_path, f"results/d/models/{RUN}/{of}/{classifier}/predictions.h5", 10)
        put(tmp_path, f"results/d/models/{RUN}/{of}/{classifier}/tuning.tsv", 1)
        put(tmp_path, f"results/d/models/{RUN}/{of}/{classifier}/scores.tsv", 10**6)
    benchmark(tmp_path, f"d/select_features/{RUN}/two.tsv", cpu=5000)
    put(tmp_path, f"results/d/selections/{RUN}/two/subsets.h5", 500_000)
    put(tmp_path, f"results/d/selections/{RUN}/two/curve.tsv", 50)
    return tmp_path


def of_methods(folder, *, methods=METHODS, values=None, binary=(), gpus=0, seeds=(1,), **more):
    values = values or {("d", "t"): {name: [0.1 * k] for k, name in enumerate(METHODS, 1)}}
    path = folder / "method_costs.csv"
    costs.of_methods(
        scores=write_scores(folder, values, binary=binary, untrained=["two+svm"]),
        table=str(path),
        methods=methods,
        datasets=DATASETS,
        split="s",
        seeds=list(seeds),
        gpus=gpus,
        benchmarks=folder / "benchmarks",
        results=folder / "results",
        **more,
    )
    return {row["method"]: row for row in store.read_csv(path)}


def column(rows, name):
    return [float(row[name]) for row in rows.values()]


def test_seconds_and_memory_by_hand(folder):
    rows = of_methods(folder)
    assert list(rows) == list(METHODS)
    # two shards of each network (400 and 40), what is selected (5,000), what is trained: 1 to 5; a choice trains both
    assert column(rows, "cpu_seconds") == [400 + 1, 400 + 2, 400 + 40 + 5000 + 3, 400 + (1 + 2) + 4, 5]
    assert column(rows, "gpu_seconds") == [0] * 5
    assert column(rows, "peak_mb") == [3000, 4000, 3000, 4000, 10]
    assert column(rows, "jobs") == [3, 3, 6, 5, 1]
    assert column(rows, "unmeasured") == [0] * 5
    # whose extraction is also that of others: all but the windows
    assert column(rows, "shared_with") == [3, 3, 3, 3, 0]
    assert {row["note"] for row in rows.values()} == {""}


def test_extraction_on_a_gpu_counts_by_the_clock(folder):
    rows = of_methods(folder, gpus=1)
    assert column(rows, "gpu_seconds") == [200, 200, 220, 200, 0]
    assert column(rows, "cpu_seconds") == column(of_methods(folder), "cpu_seconds")


def test_bytes_by_hand(folder):
    net = sum(features(folder, "net", shard, widths={None: 30, "inner": 10}) for shard in ("shard-0", "shard-1"))
    other = features(folder, "other", "shard-0", widths={None: 20, "inner": 20})
    # 30 of the 40 columns of net are the last layer, 20 of 40 in the other network
    selected = 500_000 + 50
    assert column(of_methods(folder), "disk_bytes") == [
        round(net * 30 / 40 + 1011),
        round(net * 10 / 40 + 2011),
        round(net * 30 / 40 + other * 20 / 40 + 3011 + selected),
        net + 1011 + 2011 + 4011,
        5011,
    ]
    (folder / "results/d/features/other/shard-0-slide.h5").unlink()
    assert column(of_methods(folder), "disk_bytes")[2] == round(net * 30 / 40 + 3011 + selected)


def test_scores_and_ranks_stand_beside(folder):
    rows = of_methods(folder)
    assert column(rows, "score") == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert column(rows, "average_rank") == [1, 2, 3, 4, 5]
    assert [row["untrained"] for row in rows.values()] == ["no", "no", "yes", "no", "no"]
    assert {row["metric"] for row in rows.values()} == {"accuracy"}
    # a task in which one method has no score counts for none; of two classes the metric is another one
    values = {("d", "t"): {name: [0.1 * k] for k, name in enumerate(METHODS, 1)}}
    values["d", "u"] = {name: [0.9] for name in METHODS}
    values["d", "v"] = {name: [None if name == "two+svm" else 0.2] for name in METHODS}
    rows = of_methods(folder, values=values, binary=[("d", "u")])
    assert column(rows, "score") == pytest.approx([0.5, 0.55, 0.6, 0.65, 0.7])
    assert column(rows, "average_rank") == [2, 2.5, 3, 3.5, 4]
    note = "the score is the mean over tasks of accuracy and ROC AUC, whichever the task has"
    assert {(row["metric"], row["note"]) for row in rows.values()} == {("", note)}


def test_jobs_that_nobody_measured_are_told(folder):
    benchmark(folder, f"d/train_classifier/{RUN}/windows/et.tsv", s=0.1, cpu="NA", mb="NA")
    (folder / "benchmarks/d/extract_features/other/shard-1.tsv").unlink()
    rows = of_methods(folder)
    assert (rows["windows+et"]["cpu_seconds"], rows["windows+et"]["peak_mb"]) == ("", "")
    assert rows["two+svm"]["cpu_seconds"] == "5423.0"
    assert column(rows, "unmeasured") == [0, 0, 1, 0, 1]
    assert rows["last+svm"]["note"] == ""
    note = "jobs too short to be measured, or without a benchmark file, count in no cost"
    assert rows["two+svm"]["note"] == rows["windows+et"]["note"] == note


def test_all_seeds_and_the_other_rule_of_extraction(folder):
    both = of_methods(folder, methods={"last+svm": METHODS["last+svm"]}, seeds=(1, 2))
    assert both["last+svm"]["cpu_seconds"] == "1000401.0"
    for shard in ("shard-0", "shard-1"):
        benchmark(folder, f"d/stream_features/net/{shard}.tsv", cpu=7)
    streamed = of_methods(folder, methods={"last+svm": METHODS["last+svm"]}, extraction_rule="stream_features")
    assert streamed["last+svm"]["cpu_seconds"] == "15.0"


def test_what_is_no_benchmark_is_refused(folder):
    store.write_table(folder / f"benchmarks/d/train_classifier/{RUN}/last/svm.tsv", ["a"], [{"a": 1}])
    with pytest.raises(ValueError, match=r"svm\.tsv is no benchmark of Snakemake: column 's' is missing; found a"):
        of_methods(folder)
    with pytest.raises(ValueError, match=r"every method must have scores .* best\+svm has none"):
        of_methods(folder, values={("d", "t"): {name: [0.5] for name in METHODS if name != "best+svm"}})


def test_the_table_is_no_part_of_the_content(folder):
    of_methods(folder)
    assert provenance.content_digest(Path(folder / "method_costs.csv")) is None
    (folder / "method_costs.csv").rename(folder / "other.csv")
    assert provenance.content_digest(folder / "other.csv")


def test_a_trained_network_costs_its_training_and_what_it_begins_on(folder):
    benchmark(folder, f"d/train_head/{RUN}/tuned.tsv", cpu=7)
    benchmark(folder, f"d/train_network/{RUN}/tuned.tsv", s=60, cpu=1000, mb=6000)
    for shard in ("shard-0", "shard-1"):
        benchmark(folder, f"d/extract_trained_features/{RUN}/tuned/{shard}.tsv", s=5, cpu=30)
    benchmark(folder, f"d/train_classifier/{RUN}/tuned/svm.tsv", cpu=11)
    put(folder, f"results/d/models/{RUN}/tuned/softmax/model.keras", 10_000)
    put(folder, f"results/d/models/{RUN}/tuned/softmax/history.tsv", 5)
    put(folder, f"results/d/heads/{RUN}/tuned/head.keras", 100)
    put(folder, f"results/d/models/{RUN}/tuned/svm/model.skops", 1)
    trained = (NetworkTraining("tuned", "net", ("train_head", "train_network")),)
    methods = {
        "tuned+softmax": MethodParts("tuned", "softmax", trained=trained),
        "tuned+svm": MethodParts("tuned", "svm", (Source("tuned"),), fitted=FITTED, trained=trained),
    }
    values = {("d", "t"): {"tuned+softmax": [0.9], "tuned+svm": [0.8]}}
    rows = of_methods(folder, methods=methods, values=values, gpus=1)
    # features of the start (400) in both; two shards of the trained network's own (60) and the SVM in one
    assert column(rows, "cpu_seconds") == [400 + 7 + 1000, 400 + 7 + 1000 + 60 + 11]
    assert column(rows, "gpu_seconds") == [200 + 1 + 60, 200 + 1 + 60 + 10]
    assert column(rows, "peak_mb") == [6000, 6000]
    assert column(rows, "jobs") == [4, 7]
    assert column(rows, "disk_bytes") == [10_105, 10_106]
    assert column(rows, "shared_with") == [1, 1]


def test_a_segmentation_network_costs_what_it_begins_with_and_the_pictures_of_the_slides(folder):
    for part, cpu in (("one", 2), ("two", 3)):
        benchmark(folder, f"d/slide_image/8/{part}.tsv", cpu=cpu)
        put(folder, f"results/d/slide_images/8/{part}.h5", 1000)
    for rule, classifier, cpu in (("train_unet", "unet", 10), ("train_end_to_end", "both", 100)):
        benchmark(folder, f"d/{rule}/{RUN}/picture/{classifier}.tsv", cpu=cpu, s=7)
        put(folder, f"results/d/models/{RUN}/picture/{classifier}/model.keras", cpu)
    put(folder, f"results/d/models/{RUN}/picture/both/extractor.keras", 5)
    start = Fit("train_unet", "unet")
    methods = {
        "picture+unet": MethodParts("picture", "unet", cell_px=8, fitted=(start,)),
        "picture+both": MethodParts("picture", "both", cell_px=8, fitted=(start, Fit("train_end_to_end", "both"))),
    }
    rows = of_methods(folder, methods=methods, values={("d", "t"): {name: [0.5] for name in methods}}, gpus=1)
    assert [float(row["cpu_seconds"]) for row in rows.values()] == [2 + 3 + 10, 2 + 3 + 10 + 100]
    assert [float(row["gpu_seconds"]) for row in rows.values()] == [7, 14]
    assert [int(row["disk_bytes"]) for row in rows.values()] == [2000 + 10, 2000 + 10 + 100 + 5]
