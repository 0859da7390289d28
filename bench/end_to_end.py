"""End-to-end learning: memory that does not grow with a slide, the time of a step, and how exact its gradient is."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import training
from measuring import Row

from histotransfer import store
from histotransfer.cohort import cohort, labels, splits
from histotransfer.segmentation import end_to_end, extractor, feature_maps

CLASSES = ["normal", "tumour"]
START = training.START
SMALL: dict[str, Any] = {**START, "alpha": 0.35}
#: Values of a tile, as in Takahama et al. 2019.
N_VECTOR = 16
#: Tiles of the slides whose memory is compared, on canvases of the same size; a step on either is of mini-batches.
FEW, MANY, CANVAS = 500, 5_000, 72
#: Tiles of the slide whose step is timed, of that whose gradient is compared, and of a mini-batch.
TIMED, COMPARED, BATCH = 512, 48, 32
CROP_FROM = 112


def rows(folder: Path, repetitions: int) -> Iterator[Row]:
    """Yield the rows about end-to-end learning."""
    yield _memory(folder)
    yield from _step_against_its_passes(folder, repetitions)
    yield _gradient(folder)


def recipe(augmentation: Mapping[str, Any] | None, crop_from: int | None) -> dict[str, Any]:
    """Return a recipe of one epoch, at the paper's rates."""
    how = training.recipe(epochs=1, augmentation=augmentation, crop_from=crop_from, batch=BATCH)
    adam = {"kind": "adam", "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
    how["phases"][0] |= {"rate": 1e-7, "rates": {extractor.EXTRACTOR: 0.01}, "optimiser": adam}
    return how


# In a process of its own, as every use of Keras here: a network with statistics that are those of its layers.
_WRITE = """
import sys, json
sys.path.insert(0, sys.argv[1])
import keras, numpy as np
from histotransfer import segmentation, training, training_results, unet
start, recipe, n_vector, folder, classes = map(json.loads, sys.argv[2:])
network = training.build(
    start=start, start_name="bench", recipe=recipe, classes=classes, weights_file=None, master_seed=1, factors=()
)
trunk = network.model.get_layer("trunk")
normal = [layer for layer in trunk.layers if isinstance(layer, keras.layers.BatchNormalization)]
for layer in normal:
    layer.momentum = 0.0
trunk(np.random.default_rng(0).uniform(-1, 1, (32, start["px"], start["px"], 3)).astype(np.float32), training=True)
training_results.save_network(folder + "/extractor.keras", network.model)
own = unet.build_unet(n_features=n_vector, n_classes=len(classes), filters=32, depth=3, seed=1)
mean, sd = np.zeros(n_vector, np.float32), np.ones(n_vector, np.float32)
training_results.save_network(folder + "/unet.keras", segmentation.attach(own, mean=mean, sd=sd).model)
"""


def write_networks(folder: Path, start: Mapping[str, Any], crop_from: int | None) -> dict[str, Any]:
    """Write a network of random weights with a dense layer of 16, and a U-Net on its vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    how = {**training.recipe(epochs=1, crop_from=crop_from)}
    how["head"] = {**how["head"], "dense": [N_VECTOR]}
    given = [json.dumps(one) for one in (dict(start), how, N_VECTOR, str(folder), CLASSES)]
    _run(_WRITE, given)
    return {
        **{"extractor": str(folder / "extractor.keras"), "segmentation": str(folder / "unet.keras")},
        "start": dict(start),
    }


def write_slides(folder: Path, tiles: Mapping[str, int], px: int) -> dict[str, Any]:
    """Write pixel files of slides of square tissue, the last for testing; return the inputs of a training."""
    shutil.rmtree(folder, ignore_errors=True)
    generator = np.random.default_rng(0)
    paths, of_tiles, of_slides = [], [], []
    for number, (name, n) in enumerate(tiles.items(), start=1):
        edge = int(np.ceil(np.sqrt(n)))
        names = [f"{k % edge}_{k // edge}" for k in range(n)]
        path = folder / "pixels" / f"{name}.h5"
        with store.writing_hdf5(path, {"slide": name, "status": "ok", "px": px, "digest": name}) as file:
            data = file.create_dataset("tiles", (n, px, px, 3), np.uint8)
            for start in range(0, n, 256):
                stop = min(n, start + 256)
                data[start:stop] = generator.integers(0, 256, (stop - start, px, px, 3), np.uint8)
            store.write_texts(file, "tile", names)
            store.write_texts(file, "image", [name] * n)
        paths.append(str(path))
        about = {"image": name, "slide": name, "patient": name}
        of_tiles += [{**about, "tile": tile, "label": CLASSES[k % 2]} for k, tile in enumerate(names)]
        counts = {one: len(range(k, n, 2)) for k, one in enumerate(CLASSES)}
        of_slides.append(
            {
                **about,
                **{"image_in_sheet": name, "status": "ok", "labels": json.dumps(counts), "tiles": n},
                **{"excluded_tiles": 0, "split": "test" if number == len(tiles) else "train"},
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
        **{"pixels": paths, "labels": [str(folder / "labels.tsv")], "slides_table": str(folder / "slides.tsv")},
        **{"split_file": str(folder / "split.tsv"), "split": split, "classes": CLASSES},
    }


def arguments(study: Mapping[str, Any], files: Mapping[str, Any], folder: Path, how: Mapping[str, Any]) -> dict:
    """Return the arguments of ``end_to_end.train_end_to_end``."""
    shutil.rmtree(folder / "resume", ignore_errors=True)
    written = ("model", "trained_extractor", "predictions", "history", "curve", "canvases", "moved")
    suffix = {"model": "keras", "trained_extractor": "keras", "predictions": "h5"}
    return {
        **study,
        **files,
        **{name: str(folder / f"{name}.{suffix.get(name, 'tsv')}") for name in written},
        **{"start_name": "bench", "network_name": "bench-tuned", "layer": "head_1", "recipe": dict(how)},
        **{"classifier": {"kind": "end_to_end", "filters": 32, "depth": 3, "standardise": True}},
        **{"canvas": {"size": CANVAS, "per": "slide"}, "features_name": "vectors", "classifier_name": "end-to-end"},
        **{"dataset": "bench", "task": "kind", "split_name": "given", "split_seed": 1, "master_seed": 1},
        **{"resume": str(folder / "resume"), "threads": 2},
    }


def _memory(folder: Path) -> Row:
    home = folder / "end-to-end"
    files = write_networks(home, SMALL, CROP_FROM)
    code = (
        "import sys, json, os; sys.path.insert(0, sys.argv[1]); os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\n"
        "from histotransfer import end_to_end\n"
        "end_to_end.train_end_to_end(**json.loads(sys.argv[2]))"
    )
    peaks, kept = [], []
    for n in (FEW, MANY):
        study = write_slides(home / f"tiles-{n}", {"s1": n, "s2": 16, "s3": 16}, CROP_FROM)
        how = recipe(training.AUGMENTATION, CROP_FROM)
        given = json.dumps(arguments(study, files, home / f"tiles-{n}", how))
        peaks.append(measuring.peak_mib(code, training.LIBRARY, given))
        shutil.rmtree(home / f"tiles-{n}")
        kept.append(end_to_end.kept_mib([_square(n, CANVAS)], N_VECTOR))
    ratio = peaks[1] / peaks[0]
    own = ", ".join(f"{one['vectors']:.2f} MiB of {one['tiles']:,} tiles" for one in kept)
    note = f"{peaks[0]:.0f} and {peaks[1]:.0f} MiB; of these kept: vectors and gradients {own}"
    note += f", maps {kept[0]['maps']:.2f} MiB each"
    what = f"peak host memory of an end-to-end step, {MANY:,} tiles a slide against {FEW}"
    return Row(what, ratio, ratio, ratio, 1.1, False, note)


def _square(n: int, size: int) -> feature_maps.Piece:
    edge = int(np.ceil(np.sqrt(n)))
    names = [f"{k % edge}_{k // edge}" for k in range(n)]
    [piece] = feature_maps.layout(["s1"] * n, names, size=size, per="slide", multiple=8)
    return piece


# In a process of its own, one answer a line: a step as training makes it, or its parts, on tiles in memory and with the
# backend's own functions; the parts without what makes each run the same to the bit, and with as many threads as they
# like.
_TIMED = """
import sys, json, time
sys.path.insert(0, sys.argv[1])
import numpy as np
what, given = sys.argv[2], json.loads(sys.argv[3])
from histotransfer import backends, end_to_end, feature_maps, optimisation, tile_stream
recipe, batch = given["recipe"], given["recipe"]["batch"]
if what == "step":
    backends.set_threads(2)
    backends.set_deterministic()
import keras, tensorflow as tf
pair = end_to_end.load_pair(
    **given["files"], layer="head_1", px_stored=given["px"], n_classes=2, recipe=recipe
)
tiles = tile_stream.open_tiles([given["pixels"]])
[piece] = feature_maps.layout(tiles.image, tiles.tile, size=given["canvas"], per="slide", multiple=8)
of_cells = feature_maps.label_map(np.arange(len(piece.rows)) % 2, piece)
generator = np.random.default_rng(0)
n = len(piece.rows)
if what == "step":
    weights = pair.trainable_variables
    n_below = len(pair.extractor.trained.trainable_variables)
    groups = ["extractor"] * n_below + ["unet"] * (len(weights) - n_below)
    phase = recipe["phases"][0]
    factors = optimisation.group_factors(["extractor", "unet"], phase)
    update = optimisation.update_of(phase, factors, groups, [len(weight.shape) for weight in weights])
    zeros = lambda weight: keras.Variable(np.zeros(weight.shape, np.float32), trainable=False)
    step = end_to_end.MapStep(
        gradients=end_to_end.MapGradients(
            extractor=pair.extractor, logits=pair.segmentation.evaluated, tiles=tiles,
            varied=recipe["augmentation"], batch=batch,
        ),
        maps=lambda number: (piece, of_cells, piece.rows), trained=weights, weights=weights, groups=groups,
        slots=[[zeros(weight), zeros(weight)] for weight in weights], update=update,
        movement=end_to_end.Movement({"extractor": weights[:n_below], "unet": weights[n_below:]}),
    )
    def work(part):
        step(np.array([0]), None, {"seed": np.array([1])}, number=1, size=phase["rate"], rate=phase["rate"])
        step.tally()
else:
    px = pair.extractor.px
    images = generator.integers(0, 256, (n, px, px, 3), np.uint8)
    kept = generator.normal(size=(n, pair.extractor.n_features)).astype(np.float32)
    maps = end_to_end.canvas_of(kept, piece)[None]
    below, above = pair.extractor.trained, pair.segmentation.evaluated
    of_below = [variable.value for variable in below.trainable_variables]
    of_above = [variable.value for variable in above.trainable_variables]

    @tf.function(autograph=False)
    def forward(images):
        return below(tf.cast(images, tf.float32) / 127.5 - 1, training=False)

    @tf.function(autograph=False)
    def both(images, kept):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(below(tf.cast(images, tf.float32) / 127.5 - 1, training=False) * kept)
        return tape.gradient(loss, of_below)

    @tf.function(autograph=False)
    def unet(maps):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            loss = tf.reduce_mean(above(maps, training=False))
        return tape.gradient(loss, [*of_above, maps])

    def work(part):
        if part == "unet":
            unet(tf.constant(maps))
            return
        for first in range(0, n, batch):
            block = images[first : first + batch]
            forward(block) if part == "forward" else both(block, kept[first : first + batch])

for part in map(str.strip, sys.stdin):
    started = time.perf_counter(), time.process_time()
    work(part)
    print(time.perf_counter() - started[0], time.process_time() - started[1], flush=True)
"""


class _Timed:
    """A process that waits, and does one of its works when asked."""

    def __init__(self, what: str, given: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TIMED, training.LIBRARY, what, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )

    def seconds(self, part: str) -> np.ndarray:
        """Return the wall time and the processor time of one work."""
        print(part, file=self._process.stdin, flush=True)
        return np.array(self._process.stdout.readline().split(), float)

    def close(self) -> None:
        """Let the process end."""
        self._process.stdin.close()
        self._process.wait()


def _step_against_its_passes(folder: Path, repetitions: int) -> Iterator[Row]:
    for varied, crop_from in ((None, None), (training.AUGMENTATION, CROP_FROM)):
        home = folder / "end-to-end"
        px = crop_from or START["px"]
        files = write_networks(home, START, crop_from)
        study = write_slides(home / "timed", {"s1": TIMED, "s2": 16, "s3": 16}, px)
        given = {"recipe": recipe(varied, crop_from), "files": files, "pixels": study["pixels"][0], "px": px}
        given["canvas"] = 32
        step, parts = _Timed("step", given), _Timed("parts", given)
        names = ("forward", "both", "unet")
        for name in names:
            parts.seconds(name)
        step.seconds("step")
        found, by_clock, seconds = [], [], []
        for _ in range(repetitions):
            forward, both, unet = (parts.seconds(name) for name in names)
            own = step.seconds("step")
            ratio = own / (2.2 * forward + 1.1 * (both - forward) + unet)
            by_clock.append(float(ratio[0]))
            found.append(float(ratio[1]))
            seconds.append([float(one[1]) for one in (own, forward, both - forward, unet)])
        step.close(), parts.close()
        middle = [statistics.median(one) for one in zip(*seconds, strict=True)]
        what = f"an end-to-end step, MobileNetV2 at 96 px ({TIMED} tiles by {BATCH}"
        what += ", with crop, turns, flips and four colours" if varied else ""
        what += "), of 2.2 forward and 1.1 backward passes and the U-Net"
        note = "processor time, {:.2f} s against passes of {:.2f}, {:.2f} and {:.2f} s".format(*middle)
        note += f"; by the clock {statistics.median(by_clock):.2f}"
        yield Row(what, statistics.median(found), min(found), max(found), 1.0, False, note)


# In a process of its own: the gradient of the joined network in one pass, by TensorFlow alone. With ReLU's kinks one
# pass itself has no gradient to 1e-4: some of millions of activations lie so near to 0 that the order of a sum decides
# on which side, and a compiled pass differs from an eager one by 1e-2. So each kink is made smooth, and what the
# network as it is comes to is told.
_GRADIENT = """
import sys, json, dataclasses
sys.path.insert(0, sys.argv[1])
import keras, numpy as np, tensorflow as tf
from histotransfer import backends, end_to_end, feature_maps, tile_stream
given = json.loads(sys.argv[2])
pair = end_to_end.load_pair(
    **given["files"], layer="head_1", px_stored=given["px"], n_classes=2, recipe=given["recipe"]
)
tiles = tile_stream.open_tiles([given["pixels"]])
[piece] = feature_maps.layout(tiles.image, tiles.tile, size=given["canvas"], per="slide", multiple=8)
of_cells = feature_maps.label_map(np.arange(len(piece.rows)) % 2, piece)
places = np.stack([piece.canvas_row, piece.canvas_col], axis=1).astype(np.int32)
images = tf.cast(tiles.read(piece.rows), tf.float32) / 127.5 - 1

def plain(pair):
    with tf.GradientTape() as tape:
        vectors = pair.extractor.trained(images, training=False)
        here = tf.concat([vectors, tf.ones((len(places), 1))], 1)
        canvas = tf.scatter_nd(places, here, (*of_cells.shape, here.shape[1]))
        logits = tf.gather_nd(pair.segmentation.evaluated(canvas[None])[0], places)
        true = of_cells[piece.canvas_row, piece.canvas_col]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(true, logits))
    return tape.gradient(loss, [variable.value for variable in pair.trainable_variables])

def by_steps(pair):
    found = end_to_end.MapGradients(
        extractor=pair.extractor, logits=pair.segmentation.evaluated, tiles=tiles, varied=None, batch=given["batch"]
    )(piece, of_cells, piece.rows, 1)
    return [*found.by_extractor, *found.by_unet]

def far(some, others):
    return max(float(tf.norm(a - b) / tf.norm(b)) for a, b in zip(some, others, strict=True))

def smooth(layer):
    if isinstance(layer, keras.layers.ReLU):
        return keras.layers.Activation("swish", name=layer.name)
    return type(layer).from_config(layer.get_config())

kinked = far(by_steps(pair), plain(pair)), far(tf.function(lambda: plain(pair), autograph=False)(), plain(pair))
trunk = pair.extractor.trained.get_layer("trunk")
given_tiles = keras.Input(trunk.input_shape[1:])
x = keras.models.clone_model(trunk, clone_function=smooth)
x.set_weights(trunk.get_weights())
for layer in x.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.0
x(images, training=True)
x = x(given_tiles)
for layer in pair.extractor.trained.layers[2:]:
    if layer.name == "head_1":
        layer.activation = keras.activations.swish
    x = layer(x)
pair = dataclasses.replace(
    pair, extractor=dataclasses.replace(pair.extractor, trained=keras.Model(given_tiles, x))
)
expected = plain(pair)
print(len(expected), far(by_steps(pair), expected), *kinked)
"""


def _gradient(folder: Path) -> Row:
    home = folder / "end-to-end"
    files = write_networks(home, START, None)
    study = write_slides(home / "compared", {"s1": COMPARED, "s2": 16, "s3": 16}, START["px"])
    given = {"recipe": recipe(None, None), "files": files, "pixels": study["pixels"][0], "px": START["px"]}
    given |= {"canvas": 8, "batch": 10}
    n, far, kinked, of_one_pass = map(float, _run(_GRADIENT, [json.dumps(given)]).split()[-4:])
    what = (
        f"gradient of an end-to-end step, {COMPARED} tiles by 10, off that of the joined network in one pass, in 1e-4"
    )
    note = (
        f"of its norm: the largest of {n:.0f} arrays of weights, MobileNetV2 with swish and U-Net; with its own ReLU "
    )
    note += f"{kinked:.1e}, and two ways to compute one pass differ by {of_one_pass:.1e}"
    return Row(what, *[far / 1e-4] * 3, bar=1, at_least=False, note=note)


def _run(code: str, given: list[str]) -> str:
    command = [sys.executable, "-c", code, training.LIBRARY, *given]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=_environment()).stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
