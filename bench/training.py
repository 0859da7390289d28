"""Training: what is left of the bare step when tiles come from files, and what does not grow with their number."""

import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from measuring import Row

from histotransfer import store
from histotransfer.cohort import cohort, labels, splits

LIBRARY = str(Path(store.__file__).parents[1])
CLASSES = ["a", "b", "c", "d"]
START: dict[str, Any] = {
    "architecture": "MobileNetV2",
    **{"alpha": 1.0, "weights": "random", "px": 96, "rescale": "network", "layer": None, "layers": []},
}
SMALL: dict[str, Any] = {**START, "alpha": 0.35, "px": 32}
#: Takahama et al. 2019: a crop, quarter turns, a flip, and four colours.
AUGMENTATION = {
    **{"quarter_turns": True, "flip": "horizontal"},
    **{name: [0.75, 1.25] for name in ("saturation", "contrast", "brightness", "sharpness")},
}
BATCH = 32
#: Tiles of an epoch, and of the two trainings whose memory is compared.
EPOCH, FEW, MANY = 960, 5_000, 50_000


def rows(folder: Path, repetitions: int) -> Iterator[Row]:
    """Yield the rows about training."""
    yield from _epoch_against_bare_step(folder, repetitions)
    yield from _head_on_features(folder)
    yield _memory(folder)


def recipe(*, epochs: int, on: str = "tiles", **changes: Any) -> dict[str, Any]:
    """Return a recipe as the rules pass it on: every layer by SGD, or the head on cached features."""
    phase = {
        **{"on": on, "train": "all" if on == "tiles" else "head", "epochs": epochs, "rate": 0.001, "rates": {}},
        "optimiser": {"kind": "sgd", "momentum": 0.9, "nesterov": False},
        **{"layer_decay": None, "schedule": {"kind": "constant"}, "weight_decay": 0.0},
    }
    return {
        "name": "bench",
        "head": {"pool": "average", "dense": [], "activation": "relu", "dropout": 0.0},
        "initialisation": {"kind": "glorot", "deviation": None},
        **{"batch": BATCH, "precision": "float32", "crop_from": None, "augmentation": None, "auxiliary": 0.0},
        **{"monitor": "loss", "keep": "last", "early_stopping": None, "curve": None},
        "phases": [phase],
        **changes,
    }


def write_study(folder: Path, *, n: int, px: int, images: int = 10) -> dict[str, Any]:
    """Write pixel files of `n` training tiles and a tenth as many to test on; return the inputs of a training."""
    shutil.rmtree(folder, ignore_errors=True)
    generator = np.random.default_rng(n)
    per_image = n // images
    names = [f"s{number:03d}" for number in range(images + max(1, images // 10))]
    paths, of_slides, of_tiles = [], [], []
    for number, name in enumerate(names):
        path = folder / "pixels" / f"{name}.h5"
        with store.writing_hdf5(path, {"slide": name, "status": "ok", "px": px, "digest": name}) as file:
            data = file.create_dataset("tiles", (per_image, px, px, 3), np.uint8)
            for start in range(0, per_image, 256):
                stop = min(per_image, start + 256)
                data[start:stop] = generator.integers(0, 256, (stop - start, px, px, 3), np.uint8)
            store.write_texts(file, "tile", map(str, range(per_image)))
            store.write_texts(file, "image", [name] * per_image)
        paths.append(str(path))
        of_tiles += [
            {"tile": k, "image": name, "slide": name, "patient": name, "label": CLASSES[k % len(CLASSES)]}
            for k in range(per_image)
        ]
        counts = {label: len(range(k, per_image, len(CLASSES))) for k, label in enumerate(CLASSES)}
        of_slides.append(
            {
                **{"image": name, "image_in_sheet": name, "slide": name, "patient": name, "status": "ok"},
                **{"labels": json.dumps(counts), "split": "train" if number < images else "test"},
                **{"tiles": per_image, "excluded_tiles": 0},
            }
        )
    store.write_table(folder / "labels.tsv", labels.COLUMNS, of_tiles)
    store.write_table(folder / "slides.tsv", cohort.COLUMNS, of_slides)
    split = {"unit": "given", "groups": "patient", "folds": 2, "share_groups": None}
    splits.assign_groups(
        slides_table=str(folder / "slides.tsv"),
        tile_files=[],
        split_file=str(folder / "split.tsv"),
        split=split,
        split_seed=1,
        master_seed=1,
    )
    return {
        "pixels": paths,
        "labels": [str(folder / "labels.tsv")],
        "slides_table": str(folder / "slides.tsv"),
        "split_file": str(folder / "split.tsv"),
        "split": split,
        "classes": CLASSES,
    }


def arguments(study: Mapping[str, Any], folder: Path, start: Mapping[str, Any], how: Mapping[str, Any]) -> dict:
    """Return the arguments of ``training.train_network``."""
    shutil.rmtree(folder / "resume", ignore_errors=True)
    outputs = {"model": "model.keras", "predictions": "predictions.h5", "history": "history.tsv", "curve": "curve.tsv"}
    return {
        **study,
        **{name: str(folder / file) for name, file in outputs.items()},
        **{"head": [], "weights_file": [], "network_name": "bench-tuned", "start_name": "bench"},
        **{"start": dict(start), "recipe": dict(how), "dataset": "bench", "task": "kind", "split_name": "given"},
        **{"split_seed": 1, "master_seed": 1, "resume": str(folder / "resume"), "threads": 2},
    }


# In a process of its own: the same network, loss and optimiser written down for TensorFlow, on tiles in memory; without
# what makes each run the same to the bit, and with as many threads as it likes.
_BARE = """
import sys, json, time
sys.path.insert(0, sys.argv[1])
import keras, numpy as np, tensorflow as tf
from histotransfer import networks
start, n, batch, classes = json.loads(sys.argv[2]), *map(int, sys.argv[3:6])
trunk = networks.trunk(networks.specification(start), seed=1)
pooled = keras.layers.GlobalAveragePooling2D()(trunk.output)
model = keras.Model(trunk.input, keras.layers.Dense(classes)(pooled))
optimiser = keras.optimizers.SGD(0.001, momentum=0.9)
optimiser.build(model.trainable_variables)
generator = np.random.default_rng(0)
px = start["px"]
tiles = generator.integers(0, 256, (n, px, px, 3), np.uint8)
labels = generator.integers(0, classes, n)

@tf.function(autograph=False)
def step(tiles, labels):
    with tf.GradientTape() as tape:
        logits = model(tf.cast(tiles, tf.float32) / 127.5 - 1, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    optimiser.apply(gradients)
    return loss

step(tiles[:batch], labels[:batch])
for _ in sys.stdin:
    started = time.perf_counter()
    for first in range(0, n - n % batch, batch):
        loss = step(tiles[first : first + batch], labels[first : first + batch])
    loss.numpy()
    print(time.perf_counter() - started, flush=True)
"""


class _BareStep:
    """Steps on tiles in memory, in a process of their own that waits between them."""

    def __init__(self, start: Mapping[str, Any], n: int) -> None:
        given = [LIBRARY, json.dumps(dict(start)), str(n), str(BATCH), str(len(CLASSES))]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BARE, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def seconds(self) -> float:
        """Return the wall time of an epoch's steps."""
        print(file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


class _Epochs(logging.Handler):
    """Takes the time from the end of one epoch to that of the next, and that of the bare steps in between."""

    def __init__(self, bare: _BareStep) -> None:
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
            self.ratios.append(self._bare.seconds() / seconds)
            self.images_s.append(EPOCH / seconds)
        else:
            self._bare.seconds()
        self._ended = time.perf_counter()


def _epoch_against_bare_step(folder: Path, repetitions: int) -> Iterator[Row]:
    from histotransfer.training import network_on_tiles

    logger = logging.getLogger("histotransfer")
    logger.setLevel(logging.INFO)
    bare = _BareStep(START, EPOCH)
    for varied, crop_from in ((None, None), (AUGMENTATION, 112)):
        study = write_study(folder / "training", n=EPOCH, px=crop_from or START["px"])
        times = _Epochs(bare)
        logger.addHandler(times)
        # the first epoch compiles
        how = recipe(epochs=repetitions + 1, augmentation=varied, crop_from=crop_from)
        network_on_tiles.train_network(**arguments(study, folder / "training", START, how))
        logger.removeHandler(times)
        what = "a training epoch as a whole, MobileNetV2 at 96 px"
        what += " with crop, turns, flips and four colours" if varied else ""
        what += f" ({EPOCH} tiles), of the bare training step on tiles in memory"
        note = f"wall time; {statistics.median(times.images_s):.0f} images/s"
        yield Row(what, statistics.median(times.ratios), min(times.ratios), max(times.ratios), 0.9, note=note)
    bare.close()


# What a head on features opens and builds: said by Python itself, of every file, and by the one way to a network.
_HEAD = """
import sys, json
sys.path.insert(0, sys.argv[1])
opened = []
sys.addaudithook(lambda event, found: opened.append(str(found[0])) if event == "open" else None)
from histotransfer import heads, networks
built = []
for name in ("trunk", "build"):
    function = getattr(networks, name)
    setattr(networks, name, lambda *given, _own=function, **named: built.append(1) or _own(*given, **named))
heads.train_head(**json.loads(sys.argv[2]))
print(len(built), sum("/pixels/" in path for path in opened), sum("/features/" in path for path in opened))
"""


def _head_on_features(folder: Path) -> Iterator[Row]:
    home = folder / "head"
    study = write_study(home, n=2000, px=32)
    generator = np.random.default_rng(0)
    entries = []
    for path in map(Path, study["pixels"]):
        with store.writing_hdf5(
            home / "features" / path.name,
            {"status": "ok", "network": "bench", "weights": "random", "untrained": True, "layer": "out_relu"}
            | {"layers": [], "digest": path.stem, "px": 32},
        ) as file:
            file["features"] = generator.normal(size=(200, 1280)).astype(np.float32)
            file["coords"] = np.zeros((200, 2), np.int64)
            store.write_texts(file, "tile", map(str, range(200)))
            store.write_texts(file, "image", [path.stem] * 200)
        about = {"slide": path.stem, "file": path.name, "status": "ok", "reason": ""}
        entries.append({**about, "n_tiles": 200, "digest": path.stem})
    manifest = home / "features" / "0.json"
    store.write_json(manifest, {"network": "bench", "shard": "0", "code": "", "slides": entries})
    given = arguments(study, home, SMALL, recipe(epochs=3, on="features"))
    for name in ("pixels", "model", "start", "start_name", "weights_file"):
        given.pop(name)
    given |= {"features": [str(manifest)], "head": str(home / "head.keras")}
    given["feature_set"] = {"sources": [{"network": "bench", "layer": None}]}
    done = subprocess.run(
        [sys.executable, "-c", _HEAD, LIBRARY, json.dumps(given)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        capture_output=True,
        text=True,
    )
    built, pixel_files, feature_files = map(int, done.stdout.split()[-3:])
    if not feature_files or not Path(given["head"]).is_file():
        raise RuntimeError("the head was not trained on the features that it was given")
    yield Row("head on features: networks built", *[float(built)] * 3, bar=0, at_least=False)
    yield Row("head on features: pixel files opened", *[float(pixel_files)] * 3, bar=0, at_least=False)


def _memory(folder: Path) -> Row:
    peaks = []
    code = (
        "import sys, json, os; sys.path.insert(0, sys.argv[1]); os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\n"
        "from histotransfer import training\n"
        "training.train_network(**json.loads(sys.argv[2]))"
    )
    for n in (FEW, MANY):
        home = folder / f"tiles-{n}"
        study = write_study(home, n=n, px=SMALL["px"], images=50)
        # a large batch: few steps, of which each holds as much
        given = json.dumps(arguments(study, home, SMALL, recipe(epochs=1, batch=128)))
        peaks.append(measuring.peak_mib(code, LIBRARY, given))
        shutil.rmtree(home)
    ratio = peaks[1] / peaks[0]
    note = f"{peaks[0]:.0f} and {peaks[1]:.0f} MiB"
    return Row(f"peak host memory of training, {MANY:,} tiles against {FEW:,}", ratio, ratio, ratio, 1.1, False, note)
