"""Slides with grids and predictions on them, in the workflow's own forms, small enough to count by hand.

A map is written as rows of characters: one a cell of the grid, a space where no tile is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from histotransfer import canvas, predictions, store
from histotransfer.definitions import Draw, Factors
from histotransfer.evaluation import scores
from histotransfer.feature_kinds import Source
from histotransfer.figures import map_figures
from histotransfer.maps import map_tables, probability_maps, tumour_points
from histotransfer.report.entries import DescribedMethod, Entry
from histotransfer.slides import grid

CLASSES = ("normal", "tumour")


def tiles_of(rows: Sequence[str]) -> dict[str, str]:
    """Return the character of each tile by its id."""
    return {f"{col}_{row}": one for row, line in enumerate(rows) for col, one in enumerate(line) if one != " "}


def write_slide(
    folder: Path,
    slide: str,
    rows: Sequence[str],
    *,
    l0_corner: tuple[int, int] = (0, 0),
    l0_step: int = 256,
    l0_size: int = 256,
    mpp: float = 0.5,
    name: str = "",
) -> None:
    """Write grid, description and overlay of a slide whose grid has the shape of `rows`."""
    kept = tiles_of(rows)
    n_cols, n_rows = max(map(len, rows)), len(rows)
    width, height = n_cols * l0_step + l0_size, n_rows * l0_step + l0_size
    bounds = (*l0_corner, width - l0_step, height - l0_step)
    col, row, l0_x, l0_y = grid.place_grid(bounds, l0_size, l0_step)
    about = {"slide": slide, "image_in_sheet": name or slide, "status": "ok", "reason": ""}
    said = {**about, "status_names": list(grid.STATUSES), "l0_size": l0_size, "l0_step": l0_step, "mpp": mpp}
    codes = [0 if f"{c}_{r}" in kept else 1 for c, r in zip(col, row, strict=True)]
    with store.writing_hdf5(folder / f"tiles/{slide}.h5", said) as file:
        for key, values in {"col": col, "row": row, "l0_x": l0_x, "l0_y": l0_y}.items():
            file[key] = values
        file["status"] = np.array(codes, np.uint8)
    size = [l0_corner[0] + width, l0_corner[1] + height]
    store.write_json(folder / f"slides/{slide}.json", {**about, "size": size, "mpp": mpp, "mpp_source": "file"})
    scale = 640 / max(size)
    picture = Image.new("RGB", (round(size[0] * scale), round(size[1] * scale)), "#f4f1f4")
    brush = ImageDraw.Draw(picture)
    for tile in kept:
        left, top = (int(one) * l0_step for one in tile.split("_"))
        left, top = (l0_corner[0] + left) * scale, (l0_corner[1] + top) * scale
        brush.rectangle((left, top, left + l0_step * scale, top + l0_step * scale), fill=(214, 150, 190))
    (folder / "tissue").mkdir(parents=True, exist_ok=True)
    picture.save(folder / f"tissue/{slide}.jpg", quality=85)


def files(folder: Path, slides: Sequence[str]) -> dict[str, list[str]]:
    """Return the lists of files that maps are made of."""
    return {
        "grids": [str(folder / f"tiles/{slide}.h5") for slide in slides],
        "descriptions": [str(folder / f"slides/{slide}.json") for slide in slides],
        "overlays": [str(folder / f"tissue/{slide}.jpg") for slide in slides],
    }


def part(
    true: Mapping[str, Sequence[str]],
    probability: Mapping[str, Mapping[str, float | Sequence[float]]],
    classes: Sequence[str] = CLASSES,
) -> predictions.Predictions:
    """Return predictions of slides: the first letter of each tile's class (``.`` for none) and its probabilities.

    Of two classes the probability of the second is enough. Tiles without a probability are not predicted.
    """
    letters = {name[0]: k for k, name in enumerate(classes)}
    found = [(slide, tile, of[tile]) for slide, of in probability.items() for tile in of]
    values = [(1 - one, one) if isinstance(one, float) else tuple(one) for _, _, one in found]
    labels = {slide: tiles_of(rows) for slide, rows in true.items()}
    images = [slide for slide, _, _ in found]
    shares = np.array(values, dtype=np.float64).reshape(-1, len(classes))
    return predictions.Predictions(
        tile=[tile for _, tile, _ in found],
        image=images,
        slide=images,
        group=images,
        true=np.array([letters.get(labels[slide][tile], -1) for slide, tile, _ in found], dtype=np.int16),
        score=shares,
        probability=shares,
    )


def signs(rows: Sequence[str], low: float = 0.1, high: float = 0.9) -> dict[str, float]:
    """Return probabilities of a map of ``-`` and ``+``; a digit stands for so many tenths, ``?`` for no prediction."""
    values = {"-": low, "+": high}
    return {tile: values.get(one, 0.0) or int(one) / 10 for tile, one in tiles_of(rows).items() if one != "?"}


def write_run(
    path: Path,
    held_out: predictions.Predictions,
    *,
    validation: predictions.Predictions | None = None,
    **about: Any,
) -> str:
    """Write ``predictions.h5`` of a method."""
    said = dict.fromkeys(predictions.ATTRIBUTES, "") | {"dataset": "biopsies", "task": "tumour", "split": "by-patient"}
    said |= {"seed": 1, "unit": "patient", "group_unit": "patient", "features": "vectors", "classifier": "unet"}
    said |= {"classes": list(CLASSES), "chosen": {"epoch": 1}, "untrained": False, "weights": "trained", **about}
    predictions.write_predictions(
        str(path), held_out=held_out, out_of_fold=None, validation=validation, attributes=said
    )
    return str(path)


#: Methods of the paper: features, classifier, noise of single tiles, and how far a tile's neighbours count (cells).
METHODS = (
    ("extractor", "softmax", 0.3, 0),
    ("tissue-image", "unet-image", 0.5, 2),
    ("googlenet", "unet", 0.5, 1),
    ("vectors", "unet", 0.3, 1),
    ("vectors", "end-to-end", 0.25, 1),
)
SHAPES = ((20, 30), (34, 14), (12, 40), (25, 25))


def described() -> tuple[DescribedMethod, ...]:
    """Return the methods as the report is told of them."""
    vectors = {"sources": (Source("extractor", "head_1"),), "trained": ("extractor",)}
    return (
        DescribedMethod("extractor", "softmax", "softmax", **vectors),
        DescribedMethod("tissue-image", "unet-image", "unet", cell_px=32),
        DescribedMethod("googlenet", "unet", "unet", sources=(Source("googlenet"),)),
        DescribedMethod("vectors", "unet", "unet", **vectors),
        DescribedMethod("vectors", "end-to-end", "end_to_end", start="unet", **vectors),
    )


def tissue(number: int) -> list[str]:
    """Return a round slide; two of three have a round tumour with a rim that has no label."""
    height, width = SHAPES[number % len(SHAPES)]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    middle = (x - 0.3) ** 2 + (y + 0.2) ** 2
    letters = np.where(x**2 + y**2 < 0.85, "n", " ")
    if number % 3:
        letters = np.where((middle < 0.2) & (letters == "n"), np.where(middle < 0.12, "t", "."), letters)
    return ["".join(row) for row in letters]


def predicted(rows: Sequence[str], noise: float, reach: int, generator: np.random.Generator) -> dict[str, float]:
    """Return made-up probabilities of tumour."""
    from scipy import ndimage

    letters = np.array([list(row) for row in rows])
    share = np.where(letters == "t", 0.95, 0.05) + generator.normal(0, noise, letters.shape)
    share = (ndimage.gaussian_filter(share, reach) if reach else share).clip(0, 1)
    return {tile: float(share[row, col]) for tile in tiles_of(rows) for col, row in [map(int, tile.split("_"))]}


def write_chapter(
    folder: Path, *, dataset: str, names: Mapping[str, str], splits: Mapping[str, str], seeds: Sequence[int] = (1, 2)
) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Write tables, figures and map files of the chapter of maps by the project's own functions.

    Parameters
    ----------
    folder : Path
    dataset : str
    names : mapping
        Slide to its name in the sheet.
    splits : mapping
        Split to its unit.
    seeds : sequence of int

    Returns
    -------
    tables, figures, indexes
        As the report is told of them.
    """
    home, task = folder / dataset, "tumour"
    true = {slide: tissue(number) for number, slide in enumerate(names)}
    for slide, rows in true.items():
        write_slide(home, slide, rows, name=names[slide])
    of_slides = files(home, list(names))
    tables: list[Entry] = []
    drawn: list[Entry] = []
    indexes, canvases, of_canvases = [], [], []
    for split, unit in splits.items():
        runs, moved, of_moved = [], [], []
        for seed in seeds:
            generator = np.random.default_rng(seed)
            for features, classifier, noise, reach in METHODS:
                run = home / f"models/{task}/{split}/{seed}/{features}/{classifier}"
                shares = {slide: predicted(rows, noise, reach, generator) for slide, rows in true.items()}
                about = {"dataset": dataset, "task": task, "split": split, "seed": seed, "features": features}
                about |= {"classifier": classifier, "untrained": features == "googlenet", "unit": unit}
                write_run(run / "predictions.h5", part(true, shares), group_unit=unit, **about)
                runs.append(run)
                what = Factors(dataset, task, split, Draw(seed), features, classifier)
                if "unet" in classifier:
                    rows = [
                        {"image": slide, "piece": 1, "tiles": len(shares[slide]), "canvas": 32, "cut_off": 6 * (k == 2)}
                        for k, slide in enumerate(shares)
                    ]
                    store.write_table(run / "canvases.tsv", map_tables.CANVAS_COLUMNS, rows)
                    canvases.append(str(run / "canvases.tsv"))
                    of_canvases.append(what)
                if classifier == "end-to-end":
                    rows = [
                        {"epoch": epoch, "group": group, "weights": n, "steps": 6, "step_mean": share}
                        | {"step_least": share / 2, "step_most": share * 1.5, "since_start": epoch * share}
                        for epoch in (1, 2)
                        for group, n, share in (("extractor", 6_000_000, 0.0031), ("unet", 500_000, 0.42))
                    ]
                    store.write_table(run / "moved.tsv", map_tables.MOVED_COLUMNS, rows)
                    moved.append(str(run / "moved.tsv"))
                    of_moved.append(what)
            own = [str(run / "predictions.h5") for run in runs if run.parts[-3] == str(seed)]
            path = folder / f"maps/{split}/{dataset}/{task}/{seed}.svg"
            map_figures.draw_maps(predictions=own, **of_slides, figure=path, master_seed=1)
            key = {"dataset": dataset, "task": task, "split": split, "seed": seed}
            drawn.append(Entry(str(path), "draw_maps", "maps", "maps", **key))
        for run in runs[-2:]:
            index = run / "maps.json"
            probability_maps.write_maps(predictions=str(run / "predictions.h5"), **of_slides, index=str(index))
            indexes.append(Entry(str(index), "write_maps", "maps", "index", split=split))
        place, scored = folder / f"maps/{split}", []
        for run in runs:
            written = {"scores": str(run / "scores.tsv"), "confusion": str(run / "confusion.tsv")}
            scores.score(predictions=str(run / "predictions.h5"), **written, bootstrap=0, master_seed=1)
            scored.append(written["scores"])
        all_runs = [str(run / "predictions.h5") for run in runs]
        scores.collect(scores=scored, predictions=all_runs, table=str(place / "scores.tsv"))
        tumour_points.tabulate(predictions=all_runs, table=str(place / "points.csv"), split=split)
        map_tables.tabulate_methods(
            scores=str(place / "scores.tsv"),
            points=str(place / "points.csv"),
            table=str(place / "methods.csv"),
            methods=[f"{features}+{classifier}" for features, classifier, *_ in METHODS],
            datasets=[dataset],
            split=split,
        )
        map_tables.tabulate_moved(moved=moved, runs=of_moved, table=str(place / "moved.csv"))
        rules = {"methods": "tabulate_map_methods", "points": "tabulate_points", "moved": "tabulate_moved"}
        tables += [Entry(str(place / f"{kind}.csv"), rule, "maps", kind, split=split) for kind, rule in rules.items()]
    path = folder / "maps/canvases.csv"
    map_tables.tabulate_canvases(canvases=canvases, runs=of_canvases, table=str(path))
    tables.append(Entry(str(path), "tabulate_canvases", "maps", "canvases"))
    stages = [
        {"dataset": dataset, "task": task, "split": split, "unit": unit, "share_groups": "", "seed": seed}
        | {"features": features, "classifier": classifier, "untrained": "yes" if features == "googlenet" else "no"}
        | {"patients": 20, "left_out": 1, "kappa": 0.5 + 0.1 * seed, "low": 0.3, "high": 0.8, "slides": 100}
        | {"slide_accuracy": 0.7, "slide_low": 0.6, "slide_high": 0.8, "note": "1 slide is missing"}
        for split, unit in splits.items()
        for seed in seeds
        for features, classifier, *_ in METHODS[::4]
    ]
    path = folder / "maps/stages.csv"
    store.write_csv(path, list(stages[0]), stages)
    tables.append(Entry(str(path), "collect_stages", "staging", "stages"))
    left_out = [{"dataset": dataset, "task": task, "split": "by-patient", "patient": "p07", "reason": "3 of 5 slides"}]
    path = folder / "maps/left_out.csv"
    store.write_csv(path, [*left_out[0], "runs"], [left_out[0] | {"runs": 4}])
    tables.append(Entry(str(path), "collect_stages", "staging", "left_out"))
    for number, slide in enumerate(names):
        path = home / f"figures/{task}/annotations/{slide}.jpg"
        picture = Image.new("RGB", (640, 400 + 60 * number), "#f4f1f4")
        ImageDraw.Draw(picture).ellipse((90, 60, 500, 330), outline="#D55E00", width=6)
        canvas.save_picture(picture, path, "23 tiles tumour, 301 normal, 20 without label")
        of = {"dataset": dataset, "task": task, "slide": slide}
        drawn.append(Entry(str(path), "draw_annotation", "annotations", "annotations", **of))
    return tables, drawn, indexes
