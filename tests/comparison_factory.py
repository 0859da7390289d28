"""Made-up tables of comparisons, in the columns that the project computes: 30 methods, 44 layers, odd names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import store
from histotransfer.evaluation import compared_tables, ranking
from histotransfer.figures import layer_figures, rank_figures
from histotransfer.report.entries import Entry

SCRIPT = "<script>alert(1)</script>"
KINDS = {"svm": "libsvm", "svm-one-vs-rest": "liblinear", "extratrees": "extratrees", "perceptron": "perceptron"}
NETWORKS = (
    *("resnet50", "densenet201", "inceptionresnetv2", "inceptionv3", "mobilenet", "vgg16", "vgg19"),
    "seven-networks-merged-and-selected-by-rfe",
)
PAPER_TASKS = tuple(f"{name}/tissue" for name in ("cells", "prostate", "glomeruli", "necrosis", "breast-carcinoma"))
PAPER_TASKS += ("mouse-lba/tissue", "lung/tissue", "human-lba/tissue")
NUCLEI_TASKS = ("nuclei/cell-type", "nuclei/epithelial-or-not")


def methods(n: int = 30) -> list[tuple[str, str, bool]]:
    """Return `n` methods: name, kind of the classifier, untrained or not; the last one is the baseline."""
    found = [
        (f"{network}{layer}+{classifier}", KINDS[classifier], network == "vgg19")
        for layer in ("", "-inner.conv4_block20_0_bn", "-merged-layers", f"-{SCRIPT}")
        for network in NETWORKS
        for classifier in KINDS
    ]
    return [*found[: n - 1], ("windows+leaf-frequencies", "leaf_frequencies", False)]


def layer_names(n: int = 44) -> list[str]:
    """Return names as those of the cut points of InceptionResNetV2."""
    names = ["conv2d_5_max_pooling", *(f"block35_{k}_ac" for k in range(1, 11)), "mixed_6a"]
    names += [f"block17_{k}_ac" for k in range(1, 21)] + ["mixed_7a"]
    names += [f"block8_{k}_ac" for k in range(1, 11)] + ["conv_7b_ac"]
    return names[:n]


def metric(task: str) -> str:
    """Return the metric of a made-up task."""
    return "roc_auc" if task.endswith("epithelial-or-not") or "cells" in task else "accuracy"


def write_ranks(path: Path, n: int = 30, tasks: Sequence[str] = PAPER_TASKS, *, note: str = "", seed: int = 1) -> Path:
    """Write a table of ranks, best first."""
    noise = np.random.default_rng(seed)
    scores = np.round(np.clip(0.9 - 0.01 * np.arange(n)[:, None] + noise.normal(0, 0.04, (n, len(tasks))), 0, 1), 4)
    ranks = scores.argsort(axis=0).argsort(axis=0) + 1.0
    rows = []
    for index, (method, kind, untrained) in enumerate(methods(n)):
        row = {"method": method, "kind": kind, "untrained": "yes" if untrained else "no", "note": note}
        row["average_rank"] = float(ranks[index].mean())
        for place, task in enumerate(tasks):
            row[f"{task} {metric(task)}"] = float(scores[index, place])
            row[f"{task} rank"] = float(ranks[index, place])
        rows.append(row)
    rows.sort(key=lambda row: -row["average_rank"])
    columns = ["method", "kind", "untrained", "average_rank"]
    columns += [f"{task} {what}" for task in tasks for what in (metric(task), "rank")] + ["note"]
    store.write_csv(path, columns, rows)
    return path


def write_differences(path: Path, n: int = 30, tasks: Sequence[str] = PAPER_TASKS) -> Path:
    """Write differences to the first method."""
    noise = np.random.default_rng(2)
    names = methods(n)
    rows = []
    for task in tasks:
        for index, (method, _, _) in enumerate(names[1:]):
            value = 0.02 - 0.004 * index + noise.normal(0, 0.01)
            row: dict[str, Any] = {"dataset": task.split("/")[0], "task": task.split("/")[1], "metric": metric(task)}
            row |= {"method": method, "reference": names[0][0], "groups": 12, "unit": "patient", "seeds": 3}
            if index == 3:
                row["note"] = "one class only is held out"
            else:
                row |= {"difference": value, "low": value - 0.03, "high": value + 0.02, "note": ""}
            rows.append(row)
    store.write_csv(path, compared_tables.DIFFERENCE_COLUMNS, rows)
    return path


def write_strategies(path: Path, tasks: Sequence[str] = PAPER_TASKS) -> Path:
    """Write the best score of each strategy on each task."""
    noise = np.random.default_rng(3)
    names = ["baseline (ET-FL)", "last layer", "selected features", "merged networks", "merged layers"]
    names += ["inner layers of ResNet50", f"inner layers {SCRIPT}"]
    rows = []
    for place, name in enumerate(names):
        for task in tasks:
            oracle = float(np.round(0.8 + 0.02 * place + noise.normal(0, 0.02), 4))
            first, second = methods(30)[place][0], methods(30)[place + 8][0]
            row = {"strategy": name, "dataset": task.split("/")[0], "task": task.split("/")[1], "metric": metric(task)}
            row |= {"oracle": oracle, "oracle_method": first, "chosen": oracle - 0.01 * abs(noise.normal())}
            row |= {"chosen_methods": f"{first} (2 of 3 seeds), {second} (1 of 3)", "variants": 6, "seeds": 3}
            rows.append(row | {"oracle_untrained": "no", "chosen_untrained": "no"})
    store.write_csv(path, ranking.STRATEGY_COLUMNS, rows)
    return path


def write_layers(path: Path, n: int = 44, tasks: Sequence[str] = PAPER_TASKS) -> Path:
    """Write the score of every layer."""
    noise = np.random.default_rng(4)
    rows = []
    for task in tasks:
        for index, layer in enumerate(layer_names(n)):
            score = 0.6 + 0.35 * np.sin(1.9 * (index + 1) / n) + noise.normal(0, 0.012)
            chosen = 2 if index == round(0.8 * n) else 1 if index == round(0.7 * n) else 0
            row = {"dataset": task.split("/")[0], "task": task.split("/")[1], "metric": metric(task)}
            row |= {"layer": layer, "depth": index + 1, "features": 320, "seeds": 3, "chosen": chosen}
            row |= {"score": float(score), "validation": float(score + noise.normal(0.01, 0.01))}
            rows.append(row | {"validation_metric": "accuracy"})
    store.write_csv(path, list(rows[0]), rows)
    return path


def write_importance(path: Path, sources: Sequence[str]) -> Path:
    """Write importances whose first part lies with the last sources."""
    noise = np.random.default_rng(5)
    total = noise.dirichlet(np.full(len(sources), 4.0))
    features = noise.integers(64, 2048, len(sources))
    rows = []
    for source, all_of_it, count in zip(sources, total, features, strict=True):
        row = {"source": source, "features": int(count), "feature_share": float(count / features.sum())}
        for part in (10, 25, 50, 100):
            row[f"importance_{part}"] = float(all_of_it * part / 100)
        rows.append(row)
    store.write_csv(path, compared_tables.IMPORTANCE_COLUMNS, rows)
    return path


def write_selection(path: Path, tasks: Sequence[str] = PAPER_TASKS, features: int = 1280) -> Path:
    """Write curves that rise and stay."""
    noise = np.random.default_rng(6)
    sizes = sorted({max(1, round(features * 0.8**step)) for step in range(34)})
    rows = []
    for place, task in enumerate(tasks):
        for size in sizes:
            score = 0.93 - 0.02 * place - 0.4 / (1 + size**0.7) + noise.normal(0, 0.003)
            row = {"dataset": task.split("/")[0], "task": task.split("/")[1], "size": size, "share": size / features}
            kept = {sizes[-16 + place]: 1, sizes[-14 + place]: 2}.get(size, 0)
            rows.append(row | {"score": float(score), "seeds": 3, "kept": kept})
    store.write_csv(path, compared_tables.SELECTION_COLUMNS, rows)
    return path


def write_overlaps(folder: Path, tasks: Sequence[str] = PAPER_TASKS) -> dict[str, Path]:
    """Write what is kept, what pairs of tasks have in common, and from which top-k on all have a feature in common."""
    paths = {name: folder / f"{name}.csv" for name in ("kept", "pairs", "common")}
    rows = []
    for place, task in enumerate(tasks):
        row = {"features": "resnet50", "dataset": task.split("/")[0], "task": task.split("/")[1], "seed": 1}
        row |= {"n_features": 2048, "k_min": 90 + 7 * place, "share": (90 + 7 * place) / 2048}
        rows.append(row | {"best_score": 0.9312, "score": 0.9271})
    store.write_csv(paths["kept"], list(rows[0]), rows)
    rows = []
    for place, first in enumerate(tasks):
        for second in tasks[place + 1 :]:
            row = {"features": "resnet50", "seed": 1, "first": first, "second": second, "size_first": 90}
            row |= {"size_second": 97, "common": 11, "jaccard": 11 / 176, "share_of_smaller": 11 / 90}
            rows.append(row | {"expected_common": 4.26})
    columns = ("features", "seed", "first", "second", "size_first", "size_second", "common", "jaccard")
    store.write_csv(paths["pairs"], (*columns, "share_of_smaller", "expected_common"), rows)
    row = {"features": "resnet50", "seed": 1, "datasets": len(tasks), "k": 311, "share": 311 / 2048}
    store.write_csv(paths["common"], list(row), [row])
    return paths


def write_method_costs(path: Path, n: int = 30) -> Path:
    """Write what methods cost; the first one has no measured time."""
    noise = np.random.default_rng(7)
    rows = []
    for index, (method, _, untrained) in enumerate(methods(n)):
        row = {"method": method, "metric": "accuracy", "average_rank": float(n - index)}
        row |= {"score": float(0.6 + 0.3 * noise.random()), "untrained": "yes" if untrained else "no"}
        row |= {"cpu_seconds": float(10 ** noise.uniform(0.5, 4.2)) if index else None, "gpu_seconds": 0.0}
        row |= {"peak_mb": float(noise.uniform(200, 9000)), "disk_bytes": int(noise.integers(10**6, 10**10))}
        rows.append(row | {"shared_with": int(noise.integers(1, 9))})
    store.write_csv(path, list(rows[0]), rows)
    return path


def write_all(folder: Path, *, splits: Sequence[str]) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Write the tables of a study's comparisons and draw their figures.

    Returns
    -------
    tables, figures, friedman
        As the report is told of them.
    """
    tables: list[Entry] = []
    drawn: list[Entry] = []

    def table(path: Path, rule: str, section: str, kind: str, **of: str) -> Path:
        tables.append(Entry(str(path), rule, section, kind, **of))
        return path

    def figure(path: Path, rule: str, section: str, kind: str, **of: str) -> Path:
        drawn.append(Entry(str(path), rule, section, kind, **of))
        return path

    first = splits[0]
    for split in splits:
        of = {"comparison": "every-method", "caption": f"Every method {SCRIPT}", "split": split}
        home = folder / f"comparisons/every-method/{split}"
        ranks = table(write_ranks(home / "ranks.csv"), "rank_methods", "comparison", "ranks", **of)
        path = figure(home / "ranks.svg", "draw_ranks", "comparison", "ranks", **of)
        rank_figures.draw_ranks(ranks=ranks, figure=path, title=of["caption"], split=split)
        values = write_differences(home / "differences.csv")
        table(values, "compare_methods", "comparison", "differences", **of)
        path = figure(home / "differences.svg", "draw_differences", "comparison", "differences", **of)
        rank_figures.draw_differences(table=values, figure=path)

    home, note = folder / f"comparisons/last-layer/{first}", "crc/types is left out of the ranks: without a score: a+b"
    of = {"comparison": "last-layer", "caption": "Last layer features", "split": first}
    ranks = write_ranks(home / "ranks.csv", 8, NUCLEI_TASKS, note=note)
    table(ranks, "rank_methods", "comparison", "ranks", **of)
    path = figure(home / "ranks.svg", "draw_ranks", "comparison", "ranks", **of)
    rank_figures.draw_ranks(ranks=ranks, figure=path, title=of["caption"], split=first)
    values = write_differences(home / "differences.csv", 8, NUCLEI_TASKS)
    table(values, "compare_methods", "comparison", "differences", **of)
    path = figure(home / "differences.svg", "draw_differences", "comparison", "differences", **of)
    rank_figures.draw_differences(table=values, figure=path)

    home = folder / f"strategies/{first}"
    path = write_strategies(home / "strategies.csv")
    table(path, "tabulate_strategies", "strategies", "strategies", split=first)
    sentence = "No Friedman test: it takes ten datasets, and there are 8."
    store.write_json(home / "friedman.json", {"tested": False, "sentence": sentence})
    heard = [Entry(str(home / "friedman.json"), "friedman_test", "strategies", "friedman", split=first)]

    of = {"split": first, "features": "inceptionresnetv2-inner", "classifier": "svm"}
    path = write_layers(folder / "layers/a.csv", tasks=NUCLEI_TASKS)
    table(path, "tabulate_layers", "layers", "layers", **of)
    layer_figures.draw_layers(
        table=path, figure=figure(folder / "layers/a.svg", "draw_layers", "layers", "layers", **of)
    )
    for features, sources in (("merged-networks", NETWORKS[:7]), ("merged-layers", layer_names())):
        of = {"split": first, "features": features, "classifier": "extratrees"}
        path = write_importance(folder / f"importance/{features}.csv", sources)
        table(path, "share_importance", "importance", "importance", **of)
        drawn_to = figure(path.with_suffix(".svg"), "draw_importance", "importance", "importance", **of)
        layer_figures.draw_importance(table=path, figure=drawn_to)

    of = {"split": first, "features": "resnet50"}
    path = write_selection(folder / "selection/resnet50.csv", features=2048)
    table(path, "average_curves", "selection", "curve", **of)
    drawn_to = figure(path.with_suffix(".svg"), "draw_selection", "selection", "curve", **of)
    layer_figures.draw_selection(table=path, figure=drawn_to)
    for kind, path in write_overlaps(folder / "selection").items():
        table(path, "tabulate_overlap", "selection", kind, split=first)
    return tables, drawn, heard
