"""Training: what is left of the bare step when tiles come from files, and what does not grow with their number."""

import json
import logging
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import small_study
from measuring import Row

from histotransfer.definitions import Augmentation, Phase, Recipe, Sgd
from histotransfer.networks.specification import NetworkSpec, specification
from histotransfer.plain_data import made, plain

TRAIN = "training.network_on_tiles.train_network"
CLASSES = ["a", "b", "c", "d"]
START = specification({"architecture": "MobileNetV2", "weights": "random", "px": 96})
SMALL = specification({**START.plain(), "alpha": 0.35, "px": 32})
#: Takahama et al. 2019: a crop, quarter turns, a flip, and four colours.
AUGMENTATION = Augmentation(
    quarter_turns=True,
    flip="horizontal",
    **dict.fromkeys(("saturation", "contrast", "brightness", "sharpness"), (0.75, 1.25)),
)
BATCH = 32
#: Tiles of an epoch, and of the two trainings whose memory is compared.
EPOCH, FEW, MANY = 960, 5_000, 50_000


def rows(folder: Path, repetitions: int) -> Iterator[Row]:
    """Yield the rows about training."""
    yield from _epoch_against_bare_step(folder, repetitions)
    yield from _head_on_features(folder)
    yield _memory(folder)


def recipe(*, epochs: int, on: str = "tiles", **changes: Any) -> Recipe:
    """Return a recipe for every layer by SGD, or for the head on cached features."""
    phase = Phase(train="all" if on == "tiles" else "head", epochs=epochs, rate=0.001, optimiser=Sgd(), on=on)
    return made(Recipe, {"name": "bench", "phases": [phase], "keep": "last", "batch": BATCH, **changes})


def write_study(folder: Path, *, n: int, px: int, images: int = 10) -> dict[str, Any]:
    """Write pixel files of `n` training tiles and a tenth as many to test on; return the inputs of a training."""
    shutil.rmtree(folder, ignore_errors=True)
    slides = [
        small_study.numbered(f"s{number:03d}", n // images, CLASSES, "train" if number < images else "test")
        for number in range(images + max(1, images // 10))
    ]
    pixels = [
        small_study.write_pixels(folder / "pixels" / f"{slide.name}.h5", slide.tiles, px, seed)
        for seed, slide in enumerate(slides)
    ]
    return {"pixels": pixels, "classes": CLASSES, **small_study.write_tables(folder, slides)}


def arguments(study: Mapping[str, Any], folder: Path, start: NetworkSpec, how: Recipe) -> dict[str, Any]:
    """Return the arguments of :data:`TRAIN`."""
    shutil.rmtree(folder / "resume", ignore_errors=True)
    outputs = {"model": "model.keras", "predictions": "predictions.h5", "history": "history.tsv", "curve": "curve.tsv"}
    return {
        **study,
        **{name: str(folder / file) for name, file in outputs.items()},
        **{"head": [], "weights_file": [], "start": start, "start_name": "bench", "recipe": how},
        **{"factors": small_study.factors("bench-tuned"), "master_seed": 1, "resume": str(folder / "resume")},
    }


class _Epochs(logging.Handler):
    """Takes the time from the end of one epoch to that of the next, and that of the bare steps in between."""

    def __init__(self, bare: measuring.Waiting) -> None:
        super().__init__()
        self.ratios: list[float] = []
        self.images_s: list[float] = []
        self._bare = bare
        self._ended: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        # the line that ends an epoch
        if "epoch %d of %d" not in str(record.msg):
            return
        now = time.perf_counter()
        if self._ended is not None:
            seconds = now - self._ended
            self.ratios.append(self._bare.seconds()[0] / seconds)
            self.images_s.append(EPOCH / seconds)
        else:
            self._bare.seconds()
        self._ended = time.perf_counter()


def _epoch_against_bare_step(folder: Path, repetitions: int) -> Iterator[Row]:
    logger = logging.getLogger("histotransfer")
    logger.setLevel(logging.INFO)
    bare = measuring.Waiting("bare_step", START, EPOCH, BATCH, len(CLASSES))
    for varied, crop_from in ((None, None), (AUGMENTATION, 112)):
        study = write_study(folder / "training", n=EPOCH, px=crop_from or START.px)
        times = _Epochs(bare)
        logger.addHandler(times)
        # the first epoch compiles
        how = recipe(epochs=repetitions + 1, augmentation=varied, crop_from=crop_from)
        measuring.call(TRAIN, **arguments(study, folder / "training", START, how))
        logger.removeHandler(times)
        what = "a training epoch as a whole, MobileNetV2 at 96 px"
        what += " with crop, turns, flips and four colours" if varied else ""
        what += f" ({EPOCH} tiles), of the bare training step on tiles in memory"
        note = f"wall time; {statistics.median(times.images_s):.0f} images/s"
        yield Row(what, statistics.median(times.ratios), min(times.ratios), max(times.ratios), 0.9, note=note)
    bare.close()


def _head_on_features(folder: Path) -> Iterator[Row]:
    home = folder / "head"
    study = write_study(home, n=2000, px=32)
    generator = np.random.default_rng(0)
    entries = []
    for path in map(Path, study["pixels"]):
        values = generator.normal(size=(200, 1280)).astype(np.float32)
        tiles = [str(k) for k in range(200)]
        about = {"network": "bench", "layer": "out_relu", "digest": path.stem, "px": 32}
        entries.append(small_study.write_features(home / "features" / path.name, tiles, values, **about))
    manifest = small_study.write_manifest(home / "features" / "0.json", "bench", entries)
    given = arguments(study, home, SMALL, recipe(epochs=3, on="features"))
    for name in ("pixels", "head", "start", "start_name", "weights_file"):
        given.pop(name)
    given["features"] = [manifest]
    given["feature_set"] = {"sources": [{"network": "bench", "layer": None}]}
    said = measuring.run_process("head_on_features", input=json.dumps(plain(given)))
    built, pixel_files, feature_files = map(int, said.split()[-3:])
    if not feature_files or not Path(given["model"]).is_file():
        raise RuntimeError("the head was not trained on the features that it was given")
    yield Row("head on features: networks built", *[float(built)] * 3, bar=0, at_least=False)
    yield Row("head on features: pixel files opened", *[float(pixel_files)] * 3, bar=0, at_least=False)


def _memory(folder: Path) -> Row:
    peaks = []
    for n in (FEW, MANY):
        home = folder / f"tiles-{n}"
        study = write_study(home, n=n, px=SMALL.px, images=50)
        # a large batch: few steps, of which each holds as much
        given = arguments(study, home, SMALL, recipe(epochs=1, batch=128))
        peaks.append(measuring.in_own_process(TRAIN, **given).mib)
        shutil.rmtree(home)
    ratio = peaks[1] / peaks[0]
    note = f"{peaks[0]:.0f} and {peaks[1]:.0f} MiB"
    return Row(f"peak host memory of training, {MANY:,} tiles against {FEW:,}", ratio, ratio, ratio, 1.1, False, note)
