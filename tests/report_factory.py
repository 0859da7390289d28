"""A small tree of results in the project's formats, with names that a page must survive. Its numbers are made up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comparison_factory
import learning_factory
import map_factory
import numpy as np
from PIL import Image, ImageDraw

from histotransfer import store
from histotransfer.cohort import split_counts
from histotransfer.evaluation import costs
from histotransfer.evaluation import scores as evaluation_scores
from histotransfer.evaluation.scores import FACTOR_COLUMNS
from histotransfer.figures import figures, method_cost_figure, pictures, score_figures
from histotransfer.report import contents
from histotransfer.report.entries import Entry, chosen

SCRIPT = "<script>alert(1)</script>"
EMOJI = "biopsy 🧬 & \"quoted\" 'name'"
LONG = "a-very-long-slide-name-without-any-space-in-it-as-scanners-like-to-write-them-2018-06-21T10.32.55"

CLASSES = {"demo": ["fibrous", "glandular", f"lymphoid {SCRIPT}"], "nuclei": ["epithelial", "inflammatory"]}
TASKS = {"demo": "tissue", "nuclei": "nucleus"}
METHODS = [
    ("mobilenetv2", "svm", "imagenet"),
    ("mobilenetv2-narrow", "extratrees", "untrained"),
    ("seven-networks-merged-and-selected-by-rfe", "svm-one-vs-rest", "imagenet, untrained"),
]
SPLITS = {
    "by-patient": {"unit": "patient", "test": 0.4, "folds": 3},
    "at-random": {
        "unit": "tile",
        "test": 0.4,
        "folds": 3,
        "share_groups": f"the paper splits nuclei at random; its leak is measured here {SCRIPT}",
    },
}
STATUSES = {
    3: ("unreadable", "Unsupported or missing image file"),
    7: ("missing", "no file at data/slides/s07.svs"),
    9: ("no tissue", "Otsu found no tissue above saturation 0.05"),
    11: ("no mpp", "neither sheet nor file tells the resolution; " + "give `mpp` in the sheet " * 4),
}


def number(*parts: object) -> float:
    """A made-up number in 0..1 that depends on its name alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") / 2**32


@dataclass
class Tree:
    """What `pages.write_report` and `run_page.write_run_page` are called with, of made-up results in `folder`."""

    folder: Path
    arguments: dict[str, Any] = field(default_factory=dict)
    run_arguments: dict[str, Any] = field(default_factory=dict)

    def paths(self, section: str, kind: str | None = None, **of: Any) -> list[str]:
        """Paths of the report's entries of a section and kind."""
        return [entry.path for entry in chosen(self.arguments["entries"], section, kind, **of)]

    @property
    def figures(self) -> list[Entry]:
        """The report's figures."""
        return [entry for entry in self.arguments["entries"] if entry.is_figure]

    @property
    def tables(self) -> list[Entry]:
        """The report's tables of chapters that compare."""
        return [entry for entry in self.arguments["entries"] if entry.is_table]


def replaced(entries: Sequence[Entry], *instead: Entry) -> tuple[Entry, ...]:
    """Return entries with those of the same section and kind replaced; tables of chapters replace all of them."""
    kinds = {(entry.section, entry.kind) for entry in instead if not entry.is_table}
    tables = any(entry.is_table for entry in instead)

    def stays(entry: Entry) -> bool:
        return not (tables and entry.is_table) and (entry.is_figure or (entry.section, entry.kind) not in kinds)

    return (*(entry for entry in entries if stays(entry)), *instead)


def slide_names(n: int = 16) -> list[str]:
    names = [f"slide-{place:02d}" for place in range(n)]
    for place, name in enumerate((SCRIPT, EMOJI, LONG)):
        if place < n:
            names[place] = name
    return names


def write_slides_table(path: Path, dataset: str, n: int = 16) -> list[dict[str, Any]]:
    rows = []
    for place, name in enumerate(slide_names(n)):
        status, reason = STATUSES.get(place, ("ok", ""))
        tiles = 0 if status != "ok" else 41 if place == 5 else 60
        rows.append(
            {
                "image": f"s{place:02d}",
                "image_in_sheet": name,
                "slide": f"s{place:02d}",
                "patient": f"p{place // 2:02d}",
                "labels": json.dumps({CLASSES[dataset][place % len(CLASSES[dataset])]: tiles} if tiles else {}),
                "split": "",
                "status": status,
                "reason": reason,
                "tiles": tiles,
                "excluded_tiles": 2 if place == 5 else 0,
                "notice": "41 tiles, 60 asked" if place == 5 else "",
            }
        )
    store.write_table(path, list(rows[0]), rows)
    return rows


def write_slide_files(folder: Path, row: dict[str, Any], place: int) -> None:
    image, side = row["image"], 4096
    size = [side * 3 // 2, side] if place % 3 else [side, side * 2]
    ok = row["status"] == "ok"
    sources = ("file", "sheet", "objective power")
    store.write_json(
        folder / f"slides/{image}.json",
        {
            "slide": image,
            "image_in_sheet": row["image_in_sheet"],
            "status": row["status"],
            "reason": row["reason"],
            "size": size if ok else None,
            "mpp": 0.499 if ok else None,
            "mpp_source": sources[place % 3] if ok else "",
        },
    )
    picture = Image.new("RGB", (size[0] // 10, size[1] // 10), "#f4f1f4" if ok else "#dddddd")
    if ok:
        brush = ImageDraw.Draw(picture)
        w, h = picture.size
        brush.ellipse((w * 0.15, h * 0.12, w * 0.8, h * 0.85), fill=(214, 150 + place, 190), outline=(0, 158, 115))
    (folder / "tissue").mkdir(parents=True, exist_ok=True)
    picture.save(folder / f"tissue/{image}.jpg", quality=85)

    cols, rows = size[0] // 256, size[1] // 256
    col, line = (axis.ravel() for axis in np.meshgrid(np.arange(cols), np.arange(rows)))
    codes = np.ones(len(col), np.uint8)
    inside = ((col / cols - 0.48) / 0.28) ** 2 + ((line / rows - 0.48) / 0.3) ** 2 < 1
    codes[np.flatnonzero(inside)[: row["tiles"]]] = 0
    names = ["kept", "background", "homogeneous", "capped"]
    about = {"status_names": names, "status": row["status"], "reason": row["reason"], "slide": image}
    with store.writing_hdf5(folder / f"tiles/{image}.h5", {**about, "l0_size": 256, "l0_step": 256}) as file:
        keep = slice(None) if ok else slice(0)
        file["col"], file["row"] = col[keep].astype(np.int32), line[keep].astype(np.int32)
        file["l0_x"], file["l0_y"] = col[keep].astype(np.int64) * 256, line[keep].astype(np.int64) * 256
        file["status"] = codes[keep]


def write_labels_and_pixels(folder: Path, dataset: str, row: dict[str, Any], px: int) -> None:
    classes, place = CLASSES[dataset], int(row["image"][1:])
    tiles = [f"{number % 8}_{number // 8}" for number in range(row["tiles"])]
    label = classes[place % len(classes)]
    store.write_table(
        folder / f"labels/{TASKS[dataset]}/{row['image']}.tsv",
        ("tile", "image", "slide", "patient", "label"),
        (
            {**{key: row[key] for key in ("image", "slide", "patient")}, "tile": tile, "label": label if i % 7 else ""}
            for i, tile in enumerate(tiles)
        ),
    )
    about = {"status": row["status"], "reason": row["reason"], "px": px}
    with store.writing_hdf5(folder / f"pixels/{px}/{row['image']}.h5", about) as file:
        noise = np.random.default_rng(place)
        colours = np.array([(205, 120, 170), (150, 90, 160), (225, 170, 200)], np.float64)
        grain = noise.normal(0, 28, (len(tiles), px, px, 1))
        file["tiles"] = np.clip(colours[place % len(classes)] + grain, 0, 255).astype(np.uint8).reshape(-1, px, px, 3)
        store.write_texts(file, "tile", tiles)
        store.write_texts(file, "image", [row["image"]] * len(tiles))


def write_split(path: Path, rows: list[dict[str, Any]], unit: str) -> None:
    used = [row for row in rows if row["status"] == "ok"]
    if unit == "tile":
        groups = [f"{row['image']}/{n % 8}_{n // 8}" for row in used for n in range(row["tiles"])]
    else:
        groups = sorted({row[unit] for row in used})
    table = []
    for place, group in enumerate(groups):
        test = place % 5 in (1, 3)
        entry = {"group": group, "unit": unit, "stratum": "x", "set": "test" if test else "train"}
        table.append({**entry, "fold": "" if test else place % 3})
    store.write_table(path, ("group", "unit", "stratum", "set", "fold"), table)


METRICS = (
    "accuracy",
    "balanced_accuracy",
    "roc_auc",
    "pr_auc",
    "precision",
    "recall",
    "f1",
    "log_loss",
    "eta_p",
    "eta_w",
    "eta_total",
)
SCORE_COLUMNS = (*FACTOR_COLUMNS, *evaluation_scores.SCORE_COLUMNS)


def score_rows(
    datasets: list[str], splits: list[str], methods: list[tuple[str, str, str]], seeds: list[int]
) -> list[dict]:
    rows = []
    for dataset in datasets:
        for split in splits:
            unit = SPLITS[split]["unit"]
            for features, classifier, weights in methods:
                for seed in seeds:
                    about = {
                        **{"dataset": dataset, "task": TASKS[dataset], "split": split, "seed": seed},
                        "share_groups": SPLITS[split].get("share_groups", ""),
                        **{"features": features, "classifier": classifier, "weights": weights},
                    }
                    for level, n in (("tile", 312), ("slide", 6)):
                        for metric in METRICS:
                            for cls in ("", *(CLASSES[dataset] if metric in ("precision", "recall", "f1") else ())):
                                value = 0.45 + 0.5 * number(
                                    dataset, split, features, classifier, seed, level, metric, cls
                                )
                                row = {**about, "level": level, "metric": metric, "class": cls, "n": n}
                                row |= {"groups": n if unit == "tile" else 6}
                                row |= {"unit": level if unit == "tile" else unit}
                                if level == "slide" and metric == "pr_auc":
                                    row["note"] = "the held-out slides hold one class only"
                                else:
                                    row |= {"value": value, "low": max(value - 0.14, 0), "high": min(value + 0.09, 1)}
                                rows.append(row)
    return rows


def write_confusion(path: Path, classes: list[str], *name: object) -> None:
    rows = []
    for level, n in (("tile", 100), ("slide", 3)):
        for true in classes:
            for predicted in classes:
                count = round(n * (0.8 if true == predicted else 0.4 * number(*name, level, true, predicted)))
                rows.append({"level": level, "true": true, "predicted": predicted, "count": count})
    store.write_table(path, ("level", "true", "predicted", "count"), rows)


def write_predictions(path: Path, **about: Any) -> None:
    known = {
        "versions": {"histotransfer": "0.1.0", "sklearn": "1.9.1"},
        "calibration": "a sigmoid fitted on out-of-fold scores of the training groups",
        "tuning_metric": "balanced_accuracy",
        "n_train_tiles": 480,
        "n_train_groups": 4,
    }
    with store.writing_hdf5(path, {}) as file:
        store.set_attributes(file, {**known, **about})


def write_benchmarks(folder: Path) -> None:
    columns = ("s", "h:m:s", "max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "mean_load", "cpu_time")
    jobs = {"inspect_slide": 16, "tissue_mask": 16, "tile_pixels": 12, "extract_features": 2, "train_classifier": 6}
    for rule, n in jobs.items():
        for job in range(n):
            seconds = round((60 if rule == "extract_features" else 2) * (1 + number(rule, job)), 4)
            values = (seconds, "0:00:01", 150 + 900 * number(rule), 1, 1, 1, 10, 2, 80, seconds * 0.9)
            row = dict(zip(columns, values, strict=True))
            if rule == "inspect_slide" and job == 0:
                row |= dict.fromkeys(columns[2:], "NA")
            store.write_table(folder / rule / f"{job}.tsv", columns, [row])


def make_tree(folder: Path, *, seeds: tuple[int, ...] = (1,)) -> Tree:
    """Write everything that the pages are made of, with the project's own functions where it has them."""
    tree = Tree(folder)
    datasets, splits = ["demo", "nuclei"], list(SPLITS)
    drawn: list[Entry] = []
    cohorts: list[Entry] = []
    counted: list[Entry] = []
    described: list[Entry] = []
    predicted: list[Entry] = []

    def figure(path: Path, rule: str, section: str, **of: Any) -> str:
        drawn.append(Entry(str(path), rule, section, section, **of))
        return str(path)

    study_folder = folder / "studies/everything"
    scores = study_folder / "scores.tsv"
    store.write_table(scores, SCORE_COLUMNS, score_rows(datasets, splits, METHODS, list(seeds)))
    for dataset in datasets:
        home = folder / dataset
        task, classes = TASKS[dataset], CLASSES[dataset]
        rows = write_slides_table(home / "slides.tsv", dataset)
        cohorts.append(Entry(str(home / "slides.tsv"), "cohort", "attrition", "slides", dataset=dataset))
        path = figure(home / "figures/attrition.svg", "draw_attrition", "attrition", dataset=dataset)
        figures.draw_attrition(slides=home / "slides.tsv", figure=path)
        for number_of_slide, row in enumerate(rows):
            write_slide_files(home, row, number_of_slide)
            write_labels_and_pixels(home, dataset, row, 64)
        images = contents.sample_slides([row["image"] for row in rows], at_most=40, master_seed=1)
        for image in images if dataset == "demo" else ():
            of = {"dataset": dataset, "slide": image}
            path = figure(home / f"figures/slides/{image}.jpg", "draw_slide_tiles", "slides", **of)
            description = Entry(str(home / f"slides/{image}.json"), "inspect_slide", "slides", "description", **of)
            described.append(description)
            overlay, grid = home / f"tissue/{image}.jpg", home / f"tiles/{image}.h5"
            pictures.draw_slide(overlay=overlay, grid=grid, description=description.path, figure=path)
        labels = [str(home / f"labels/{task}/{image}.tsv") for image in images]
        for number_of_class, name in enumerate(classes):
            path = home / f"figures/{task}/tiles-{number_of_class}.jpg"
            pictures.draw_tiles(
                pixels=[home / f"pixels/64/{image}.h5" for image in images],
                label_files=labels,
                figure=figure(path, "draw_tiles", "tiles", dataset=dataset, task=task, class_name=name),
                class_name=name,
                per_class=12,
                master_seed=1,
            )
        for split in splits:
            key = {"dataset": dataset, "task": task, "split": split}
            for seed in seeds:
                write_split(home / f"splits/{split}/{seed}.tsv", rows, SPLITS[split]["unit"])
                counts = home / f"splits/{split}/{seed}.{task}.counts.tsv"
                split_counts.count(
                    split_file=home / f"splits/{split}/{seed}.tsv", label_files=labels, counts=counts, classes=classes
                )
                counted.append(Entry(str(counts), "count_split", "splits", "counts", seed=seed, **key))
                path = home / f"figures/{task}/{split}/{seed}-split.svg"
                figures.draw_splits(counts=counts, figure=figure(path, "draw_splits", "splits", seed=seed, **key))
            path = figure(study_folder / f"figures/{dataset}-{split}.svg", "draw_scores", "scores", **key)
            score_figures.draw_scores(scores=scores, figure=path, metric="balanced_accuracy", **key)
            confusions, paths, models = [], [], []
            for features, classifier, weights in METHODS:
                for seed in seeds:
                    model = home / f"models/{task}/{split}/{seed}/{features}/{classifier}"
                    of = {**key, "seed": seed, "features": features, "classifier": classifier}
                    write_confusion(model / "confusion.tsv", classes, dataset, split, features, seed)
                    write_predictions(
                        model / "predictions.h5",
                        **of,
                        untrained="untrained" in weights,
                        chosen={"C": 0.01},
                        classes=classes,
                    )
                    models.append(
                        Entry(str(model / "predictions.h5"), "train_classifier", "asked", "predictions", **of)
                    )
                    confusions.append(model / "confusion.tsv")
                    paths.append(figure(model / "confusion.svg", "draw_confusion", "confusion", **of))
            predicted += models
            files = [entry.path for entry in models]
            score_figures.draw_confusion(confusions=confusions, predictions=files, figures=paths)
    compared, charts, heard = comparison_factory.write_all(study_folder, splits=splits)
    trained, of_training = learning_factory.write_chapter(
        study_folder, datasets=[("nuclei", TASKS["nuclei"])], split=splits[0]
    )
    names = {f"s{place:02d}": name for place, name in enumerate(slide_names(7))}
    units = {split: SPLITS[split]["unit"] for split in splits}
    of_maps, mapped, indexes = map_factory.write_chapter(
        study_folder / "of-maps", dataset="demo", names=names, splits=units
    )
    study = {
        "name": "everything",
        "datasets": datasets,
        "methods": [f"{features}+{classifier}" for features, classifier, _ in METHODS],
        "splits": splits,
        "seeds": list(seeds),
    }
    tree.arguments = {
        "entries": (
            Entry(str(scores), "collect_scores", "scores", "scores"),
            *(*cohorts, *counted, *drawn, *charts, *of_training, *mapped),
            *(*compared, *trained, *of_maps, *heard, *indexes, *described, *predicted),
        ),
        "page": str(study_folder / "report.html"),
        "config": {
            "datasets": {"demo": {"kind": "slides"}, "nuclei": {"kind": "points"}},
            "study": study,
            "splits": SPLITS,
            "seed": 2018,
            "networks": {"mobilenetv2": {"weights": "random"}},
        },
        "metric": "balanced_accuracy",
        "code_version": "0.1.0, 3fb3da0",
        "trained": learning_factory.trained(),
        "map_methods": map_factory.described(),
    }
    write_benchmarks(folder / "benchmarks/demo")
    cost = study_folder / "cost.tsv"
    costs.collect(folders=[folder / "benchmarks/demo"], rule_order=["inspect_slide", "tissue_mask"], cost=cost)
    figures.draw_cost(cost=cost, figure=study_folder / "figures/cost.svg")
    method_costs = comparison_factory.write_method_costs(study_folder / "method_costs.csv")
    method_cost_figure.draw_method_costs(table=method_costs, figure=study_folder / "figures/method_costs.svg")
    tree.run_arguments = {
        "entries": (
            Entry(str(cost), "collect_costs", "cost", "cost"),
            Entry(str(study_folder / "figures/cost.svg"), "draw_cost", "cost", "cost"),
            Entry(str(method_costs), "cost_methods", "methods", "costs"),
            Entry(str(study_folder / "figures/method_costs.svg"), "draw_method_costs", "methods", "costs"),
        ),
        "page": str(study_folder / "run.html"),
        "study": "everything",
        "code_version": "0.1.0, 3fb3da0",
    }
    return tree
