"""What jobs take, at two sizes: the table that `needs.py` and `plan.py` of the library have their rates from.

Usage: python bench/needs.py [--only PART]. Each row is a process of its own: its peak resident memory (without
Snakemake's processes around it), and its processor and wall time.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "workflow_scripts")]

import cutting  # noqa: E402
import extracting  # noqa: E402
import measuring  # noqa: E402
import merging  # noqa: E402
import numpy as np  # noqa: E402
import small_study  # noqa: E402
import training  # noqa: E402

from histotransfer import predictions, store  # noqa: E402
from histotransfer.definitions import ExtraTrees, LinearSvm, Perceptron, RowClassifier, Selection  # noqa: E402
from histotransfer.drawn import demo  # noqa: E402
from histotransfer.networks.specification import specification  # noqa: E402
from histotransfer.networks.table import ARCHITECTURES  # noqa: E402
from histotransfer.slides.grid import read_kept  # noqa: E402

WORK = HERE.parent / ".bench" / "needs"
#: A slide of so many level-0 pixels, and the same side by side and on top of itself so many times.
SIZE, TIMES = (12000, 9000), (1, 6)
MPP = 0.25
#: Tiles that a network is measured on: enough for a few batches.
BATCH, N = 32, 96
#: Networks whose training is measured, with the edge of their tiles.
TRAINED = ("MobileNetV2", "ResNet50", "DenseNet201", "InceptionV3", "VGG16", "AlexNet")
#: Rows and columns that classifiers are measured on.
ROWS, COLUMNS = (2000, 4000, 8000), 2048


def measure(step: str, what: str, size: str, **arguments: Any) -> str:
    """Call the function of a step in a process of its own; return a row of the table."""
    return row(measuring.in_own_process(step, **arguments), what, size)


def row(measured: measuring.Measured, what: str, size: str) -> str:
    """Return a row of the table."""
    return f"| {what} | {size} | {measured.mib:.0f} | {measured.cpu_s:.1f} | {measured.wall_s:.1f} |"


def of_slides() -> Iterator[str]:
    """Yield what the rules of one slide take."""
    import pyvips

    picture = demo.draw_pixels(slide="bench", patient="bench", label="glandular", master_seed=1, size=SIZE)
    image = pyvips.Image.new_from_array(picture)
    options = {"tile": True, "pyramid": True, "compression": "jpeg", "Q": 80, "bigtiff": True, "resunit": "cm"}
    for times in TIMES:
        stem = WORK / f"slide-{times}"
        slide, about, mask, grid = (f"{stem}{ending}" for ending in (".tif", ".json", ".png", ".h5"))
        if not Path(slide).exists():
            large = image.replicate(times, times)
            large.tiffsave(slide, xres=1000 / MPP, yres=1000 / MPP, **options)
        common = {"slide_file": slide, "description": about}
        named = {"slide": "bench", "image_in_sheet": "bench", "path": slide, "sheet_mpp": None, "missing_mpp": "fail"}
        wide, high = (times * edge for edge in SIZE)
        size = f"{wide:,} x {high:,} px, {Path(slide).stat().st_size / 1e6:.0f} MB"
        yield measure("slides.reader.inspect_slide", "inspect_slide", size, **common, **named)
        found = {"mask": mask, "overlay": f"{stem}.jpg", "threshold": "otsu", "exclude_pen": True}
        yield measure("slides.tissue.write_mask", "tissue_mask", size, **common, **found)
        given = {"mask": mask, "grid": grid, "tiling": cutting.TILING, "finest_px": 256, "master_seed": 1}
        yield measure("slides.grid.write_grid", "tile_grid", size, **common, **given)
        n = len(read_kept(grid).tile)
        pixels = f"{stem}-pixels.h5"
        cut = {"slide_file": slide, "grid": grid, "pixels": pixels, "px": 256, "tiling": cutting.TILING}
        measured = measuring.in_own_process("slides.pixels.write_pixels", **cut, threads=1, code="")
        yield row(measured, "tile_pixels", f"{n:,} tiles, {Path(pixels).stat().st_size / 1e6:.0f} MB")
        Path(pixels).unlink()
        of = {"grid": grid, "labels": f"{stem}.tsv", "group": {"slide": "bench", "patient": "bench"}}
        of |= {"label": "a", "classes": {"a": "a"}}
        yield measure("cohort.labels.label_slide", "label_tiles", f"{n:,} tiles", **of)
        drawn = {"overlay": f"{stem}.jpg", "grid": grid, "description": about, "figure": f"{stem}-figure.jpg"}
        yield measure("figures.pictures.draw_slide", "draw_slide_tiles", size, **drawn)


def of_features() -> Iterator[str]:
    """Yield what extraction takes, by network: start-up, and the tiles after it."""
    for name, entry in ARCHITECTURES.items():
        network = {"architecture": name, "weights": "random", "px": entry.px}
        if entry.has_alpha:
            network["alpha"] = 1.0
        measured = {}
        for n in (1, N):
            shutil.rmtree(WORK / "features", ignore_errors=True)
            given = extracting.arguments(WORK / "features" / "shard-0.json", network)
            given["tiles"] = [extracting.write_tiles(WORK / f"tiles-{n}.h5", n, entry.px)]
            measured[n] = measuring.in_own_process(extracting.EXTRACT, **given)
        little, much = measured[1], measured[N]
        yield row(much, f"extract_features, {name}", f"{N} tiles of {entry.px} px")
        rate = (N - 1) / (much.cpu_s - little.cpu_s)
        start = little.cpu_s
        yield f"| ... {name} | {rate:.1f} tiles a processor second after a start of {start:.1f} s | | | |"


def of_training() -> Iterator[str]:
    """Yield what a training of all layers takes, by network."""
    for name in TRAINED:
        px = ARCHITECTURES[name].px
        start = specification({"architecture": name, "weights": "random", "px": px})
        for batch in (8, 32):
            study = training.write_study(WORK / "training", n=64, px=px, images=8)
            given = training.arguments(study, WORK / "training", start, training.recipe(epochs=1, batch=batch))
            yield measure(training.TRAIN, f"train_network, {name}", f"64 tiles of {px} px, batch {batch}", **given)


CLASSIFIERS: dict[str, RowClassifier] = {
    "svm": LinearSvm("libsvm", C=(0.01,)),
    "svm-one-vs-rest": LinearSvm("liblinear", C=(0.01,)),
    "extratrees": ExtraTrees(max_features=("sqrt",)),
    "perceptron": Perceptron(learning_rate=(0.001,), iterations=(100,)),
}


def of_classifiers() -> Iterator[str]:
    """Yield what a classifier of one point of its grid takes in three folds and the refit, and a selection."""
    random = np.random.default_rng(1)
    centres = {}
    for n in ROWS:
        home = WORK / f"rows-{n}"
        shutil.rmtree(home, ignore_errors=True)
        study = merging.write_study(home, {"net": COLUMNS}, n // merging.TRAINED)
        study["feature_set"] = {"sources": [{"network": "net", "layer": None}]}
        # classes that differ, so that solvers converge as they do on features of tissue
        for k, path in enumerate(sorted((home / "net").glob("*.h5"))):
            centre = centres.setdefault(k % 3, random.standard_normal(COLUMNS).astype(np.float32))
            values = np.maximum(random.standard_normal((n // merging.TRAINED, COLUMNS)) + 0.15 * centre, 0)
            tiles = [f"{tile:05d}" for tile in range(len(values))]
            small_study.write_features(path, tiles, values.astype(np.float32), network="net")
        size = f"{n:,} x {COLUMNS:,} ({4 * n * COLUMNS / 1e6:.0f} MB), 3 folds and refit"
        for kind, settings in CLASSIFIERS.items():
            written = {name: str(home / f"{kind}.{name}") for name in ("model", "predictions", "tuning")}
            asked = {**study, **written, "classifier": settings, "factors": small_study.factors("net", kind)}
            yield measure(merging.TRAIN, f"train_classifier, {kind}", size, **asked)
        if n == ROWS[0]:
            asked = {**study, "subsets": str(home / "subsets.h5"), "curve": str(home / "curve.tsv")}
            asked["factors"] = small_study.factors("net")
            asked["selection"] = Selection(step=0.1)
            yield measure("classifiers.selection.select", "select_features, step 0.1, 250 trees", size, **asked)


def _predictions(path: Path, n: int, classifier: str) -> str:
    """Write predictions of n tiles held out and as many out of fold, of 100 tiles a slide."""
    random = np.random.default_rng(n)
    slides_of = [f"slide-{k // 100:05d}" for k in range(n)]

    def made(**more: Any) -> predictions.Predictions:
        score = random.random((n, 3))
        score /= score.sum(axis=1, keepdims=True)
        texts = {"tile": [f"{k:05d}_{k:05d}" for k in range(n)], "image": slides_of, "slide": slides_of}
        true = random.integers(0, 3, n)
        return predictions.Predictions(**texts, group=slides_of, true=true, score=score, probability=score, **more)

    said = {"dataset": "bench", "task": "kind", "split": "by-slide", "unit": "slide", "group_unit": "slide", "seed": 1}
    said |= {"features": "net", "network": "net", "classifier": classifier, "weights": "", "share_groups": ""}
    said |= {"chosen": {}, "tuning_metric": "accuracy", "classes": ["a", "b", "c"], "untrained": True}
    said |= dict.fromkeys(predictions.ATTRIBUTES, "") | said
    fold = random.integers(0, 3, n).astype(np.int16)
    predictions.write_predictions(str(path), held_out=made(), out_of_fold=made(fold=fold), attributes=said)
    return str(path)


def of_tables() -> Iterator[str]:
    """Yield what the rules take that read tables and predictions."""
    for n in (10_000, 100_000):
        home = WORK / f"tables-{n}"
        home.mkdir(exist_ok=True)
        both = [_predictions(home / f"{name}.h5", n, name) for name in ("svm", "extratrees")]
        size = f"{n:,} tiles held out, {Path(both[0]).stat().st_size / 1e6:.0f} MB of predictions"
        written = {name: str(home / f"{name}.tsv") for name in ("scores", "confusion")}
        of = {"bootstrap": 1000, "master_seed": 1}
        yield measure("evaluation.scores.score", "score", size, predictions=both[0], **written, **of)
        compared = {"table": str(home / "differences.csv"), "methods": ["net+svm", "net+extratrees"]}
        compared |= {"reference": "net+svm", "split": "by-slide", **of}
        compared["predictions"] = both
        yield measure("evaluation.differences.compare", "compare_methods", f"two times {size}", **compared)
    grid, about = WORK / "slide-1.h5", store.read_json(WORK / "slide-1.json")
    for n in (100, 1000):
        home = WORK / f"slides-{n}"
        home.mkdir(exist_ok=True)
        files: dict[str, list[str]] = {name: [] for name in ("descriptions", "grids", "labels")}
        for k in range(n):
            slide = f"s{k:05d}"
            for name, ending in (("descriptions", "json"), ("grids", "h5"), ("labels", "tsv")):
                files[name].append(str(home / f"{slide}.{ending}"))
            store.write_json(files["descriptions"][-1], {**about, "slide": slide})
            shutil.copyfile(grid, files["grids"][-1])
            shutil.copyfile(WORK / "slide-1.tsv", files["labels"][-1])
        sheet = {f"s{k:05d}": {"slide": "", "patient": f"p{k // 2}", "label": "a", "split": ""} for k in range(n)}
        table = {"slides_table": str(home / "slides.tsv")}
        given = {"descriptions": files["descriptions"], "grids": files["grids"], "cut": [], **table}
        given |= {"sheet_rows": sheet, "on_bad_slide": "exclude"}
        yield measure("cohort.cohort.gather_slides", "cohort", f"{n:,} slides", **given)
        size = f"{n:,} slides, {sum(Path(path).stat().st_size for path in files['labels']) / 1e6:.0f} MB"
        given = {"label_files": files["labels"], "labels": str(home / "labels.tsv")}
        yield measure("cohort.labels.gather", "gather_labels", size, **given)


PARTS = {
    "slides": of_slides,
    "features": of_features,
    "training": of_training,
    "classifiers": of_classifiers,
    "tables": of_tables,
}


def main() -> None:
    """Print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(PARTS))
    asked = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    os.chdir(WORK)
    print("| rule | size | peak memory, MiB | processor s | wall s |\n|---|---|---|---|---|", flush=True)
    for name, part in PARTS.items():
        if asked.only in (None, name):
            for row in part():
                print(row, flush=True)


if __name__ == "__main__":
    main()
