"""What jobs take, at two sizes: the table that `needs.py` and `plan.py` of the library have their rates from.

Usage: python bench/needs.py [--only PART]. Each row is a process of its own: its peak resident memory (without
Snakemake's processes around it), and its processor and wall time.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "workflow_scripts")]

import cutting  # noqa: E402
import extracting  # noqa: E402
import merging  # noqa: E402
import numpy as np  # noqa: E402
import training  # noqa: E402

from histotransfer import predictions, store  # noqa: E402
from histotransfer.drawn import demo  # noqa: E402
from histotransfer.networks.table import ARCHITECTURES  # noqa: E402
from histotransfer.slides.grid import read_kept  # noqa: E402

WORK = HERE.parent / ".bench" / "needs"
LIBRARY = str(HERE.parent / "workflow_scripts")
#: A slide of so many level-0 pixels, and the same side by side and on top of itself so many times.
SIZE, TIMES = (12000, 9000), (1, 6)
MPP = 0.25
TILING = {**cutting.TILING, "size_px": 256, "mpp": 0.5}
#: Tiles that a network is measured on: enough for a few batches.
BATCH, N = 32, 96
#: Networks whose training is measured, with the edge of their tiles.
TRAINED = ("MobileNetV2", "ResNet50", "DenseNet201", "InceptionV3", "VGG16", "AlexNet")
#: Rows and columns that classifiers are measured on.
ROWS, COLUMNS = (2000, 4000, 8000), 2048

CALL = """
import sys, json, os, importlib, time
sys.path.insert(0, sys.argv[1])
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["VIPS_CONCURRENCY"] = "1"
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "2"
module, _, function = sys.argv[2].rpartition(".")
getattr(importlib.import_module("histotransfer." + module), function)(**json.load(sys.stdin))
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""


class Measured(NamedTuple):
    """What one process took."""

    mib: float
    cpu_s: float
    wall_s: float

    def row(self, what: str, size: str) -> str:
        """Return a row of the table."""
        return f"| {what} | {size} | {self.mib:.0f} | {self.cpu_s:.1f} | {self.wall_s:.1f} |"


def measure(function: str, **arguments: Any) -> Measured:
    """Call a function of the library in a process of its own."""
    command = [sys.executable, "-c", CALL, LIBRARY, function]
    given = json.dumps(arguments, default=str)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, input=given, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{function}: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(int(done.stdout.split()[-1]) / 1024, cpu, time.perf_counter() - started)


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
        yield measure("slides.inspect_slide", **common, **named).row("inspect_slide", size)
        found = {"mask": mask, "overlay": f"{stem}.jpg", "threshold": "otsu", "exclude_pen": True}
        yield measure("tissue.write_mask", **common, **found).row("tissue_mask", size)
        given = {"mask": mask, "grid": grid, "tiling": TILING, "finest_px": 256, "master_seed": 1}
        yield measure("tiles.write_grid", **common, **given).row("tile_grid", size)
        n = len(read_kept(grid).tile)
        pixels = f"{stem}-pixels.h5"
        cut = {"slide_file": slide, "grid": grid, "pixels": pixels, "px": 256, "tiling": TILING}
        measured = measure("pixels.write_pixels", **cut, threads=1, code="")
        yield measured.row("tile_pixels", f"{n:,} tiles, {Path(pixels).stat().st_size / 1e6:.0f} MB")
        Path(pixels).unlink()
        of = {"grid": grid, "labels": f"{stem}.tsv", "group": {"slide": "bench", "patient": "bench"}}
        yield measure("labels.label_slide", **of, label="a", classes={"a": "a"}).row("label_tiles", f"{n:,} tiles")
        drawn = {"overlay": f"{stem}.jpg", "grid": grid, "description": about, "figure": f"{stem}-figure.jpg"}
        yield measure("pictures.draw_slide", **drawn).row("draw_slide_tiles", size)


def of_features() -> Iterator[str]:
    """Yield what extraction takes, by network: start-up, and the tiles after it."""
    for name, row in ARCHITECTURES.items():
        network = {"architecture": name, "weights": "random", "px": row.px}
        if row.has_alpha:
            network["alpha"] = 1.0
        measured = {}
        for n in (1, N):
            shutil.rmtree(WORK / "features", ignore_errors=True)
            tiles_file = extracting._write_tiles(WORK / f"tiles-{n}.h5", n, row.px)
            manifest = WORK / "features" / "shard-0.json"
            measured[n] = measure("features.extract", tiles=[tiles_file], **extracting._arguments(manifest, network))
        little, much = measured[1], measured[N]
        yield much.row(f"extract_features, {name}", f"{N} tiles of {row.px} px")
        rate = (N - 1) / (much.cpu_s - little.cpu_s)
        start = little.cpu_s
        yield f"| ... {name} | {rate:.1f} tiles a processor second after a start of {start:.1f} s | | | |"


def of_training() -> Iterator[str]:
    """Yield what a training of all layers takes, by network."""
    for name in TRAINED:
        px = ARCHITECTURES[name].px
        start = {**training.START, "architecture": name, "px": px}
        if not ARCHITECTURES[name].has_alpha:
            start.pop("alpha")
        found = []
        for batch in (8, 32):
            study = training.write_study(WORK / "training", n=64, px=px, images=8)
            how = training.recipe(epochs=1, batch=batch)
            found.append(measure("training.train_network", **training.arguments(study, WORK / "training", start, how)))
            yield found[-1].row(f"train_network, {name}", f"64 tiles of {px} px, batch {batch}")


KINDS: dict[str, dict[str, Any]] = {
    "svm": {"kind": "libsvm", "C": [0.01]},
    "svm-one-vs-rest": {"kind": "liblinear", "C": [0.01]},
    "extratrees": {"kind": "extratrees", "trees": 250, "max_features": ["sqrt"]},
    "perceptron": {"kind": "perceptron", "learning_rate": [0.001], "iterations": [100]},
}


def of_classifiers() -> Iterator[str]:
    """Yield what a classifier of one point of its grid takes in three folds and the refit, and a selection."""
    random = np.random.default_rng(1)
    centres = {}
    for n in ROWS:
        home = WORK / f"rows-{n}"
        shutil.rmtree(home, ignore_errors=True)
        study = merging._write_study(home, {"net": COLUMNS}, n // merging.TRAINED)
        study["feature_set"] = {"sources": [{"network": "net", "layer": None}]}
        # classes that can be told apart, so that solvers converge as they do on features of tissue
        for k, path in enumerate(sorted((home / "net").glob("*.h5"))):
            centre = centres.setdefault(k % 3, random.standard_normal(COLUMNS).astype(np.float32))
            values = np.maximum(random.standard_normal((n // merging.TRAINED, COLUMNS)) + 0.15 * centre, 0)
            said = {"network": "net", "weights": "random", "untrained": True, "layer": "last", "layers": []}
            with store.writing_hdf5(path, {**said, "digest": "d", "tiles_digest": path.stem}) as file:
                file["features"] = values.astype(np.float32)
                store.write_texts(file, "tile", (f"{tile:05d}" for tile in range(len(values))))
                store.write_texts(file, "image", [path.stem] * len(values))
        size = f"{n:,} x {COLUMNS:,} ({4 * n * COLUMNS / 1e6:.0f} MB), 3 folds and refit"
        for kind, settings in KINDS.items():
            written = {name: str(home / f"{kind}.{name}") for name in ("model", "predictions", "tuning")}
            asked = {**study, **written, "classifier": settings, "classifier_name": kind}
            yield measure("classifiers.train", **asked).row(f"train_classifier, {kind}", size)
        if n == ROWS[0]:
            asked = {**study, "subsets": str(home / "subsets.h5"), "curve": str(home / "curve.tsv")}
            asked["selection"] = {"kind": "rfe", "step": 0.1, "tolerance": 0.005, "trees": 250}
            yield measure("selection.select", **asked).row("select_features, step 0.1, 250 trees", size)


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
        yield measure("evaluation.score", predictions=both[0], **written, **of).row("score", size)
        compared = {"table": str(home / "differences.csv"), "methods": ["net+svm", "net+extratrees"]}
        compared |= {"reference": "net+svm", "split": "by-slide", **of}
        yield measure("differences.compare", predictions=both, **compared).row("compare_methods", f"two times {size}")
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
        given = {"descriptions": files["descriptions"], "grids": files["grids"], "cut": []}
        measured = measure("cohort.gather_slides", **given, **table, sheet_rows=sheet, on_bad_slide="exclude")
        yield measured.row("cohort", f"{n:,} slides")
        mb = sum(Path(path).stat().st_size for path in files["labels"]) / 1e6
        measured = measure("labels.gather", label_files=files["labels"], labels=str(home / "labels.tsv"))
        yield measured.row("gather_labels", f"{n:,} slides, {mb:.0f} MB")


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
