"""The table of networks, what is built from a row, and which weights files are let in."""

import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from repository import DATA, SCRIPTS

from histotransfer.backends import compiled, process
from histotransfer.feature_kinds import Source
from histotransfer.features import extraction
from histotransfer.networks import building, specification, table, weights
from histotransfer.networks.specification import NetworkSpec
from histotransfer.plain_data import made, plain
from histotransfer.settings import Extraction
from histotransfer.tables import feature_matrix

REAL_WEIGHTS = {
    alpha: DATA / "weights" / f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5"
    for alpha in ("0.35", "1.0")
}


def needs_real_weights(test):
    absent = not REAL_WEIGHTS["1.0"].is_file()
    return pytest.mark.real_data(pytest.mark.skipif(absent, reason=f"no real weights in {DATA}")(test))


GOOGLENET_CUT_POINTS = [
    *[("conv1", 64), ("conv2", 192), ("inception_3a", 256), ("inception_3b", 480), ("inception_4a", 512)],
    *[("inception_4b", 512), ("inception_4c", 512), ("inception_4d", 528), ("inception_4e", 832)],
    *[("inception_5a", 832), ("inception_5b", 1024)],
]
#: Cut points with their numbers of maps, as the papers and Keras' own summaries have them.
CUT_POINTS = {
    "VGG16": [("block1", 64), ("block2", 128), ("block3", 256), ("block4", 512), ("block5", 512)],
    "VGG19": [("block1", 64), ("block2", 128), ("block3", 256), ("block4", 512), ("block5", 512)],
    "InceptionV3": [
        *[("mixed0", 256), ("mixed1", 288), ("mixed2", 288), ("mixed3", 768), ("mixed4", 768), ("mixed5", 768)],
        *[("mixed6", 768), ("mixed7", 768), ("mixed8", 1280), ("mixed9", 2048), ("mixed10", 2048)],
    ],
    "ResNet50": [
        *[("stem", 64), ("conv2_block1", 256), ("conv2_block2", 256), ("conv2_block3", 256)],
        *[("conv3_block1", 512), ("conv3_block2", 512), ("conv3_block3", 512), ("conv3_block4", 512)],
        *[("conv4_block1", 1024), ("conv4_block2", 1024), ("conv4_block3", 1024), ("conv4_block4", 1024)],
        *[("conv4_block5", 1024), ("conv4_block6", 1024)],
        *[("conv5_block1", 2048), ("conv5_block2", 2048), ("conv5_block3", 2048)],
    ],
    "InceptionResNetV2": [
        ("mixed_5b", 320),
        *[(f"block35_{k}", 320) for k in range(1, 11)],
        ("mixed_6a", 1088),
        *[(f"block17_{k}", 1088) for k in range(1, 21)],
        ("mixed_7a", 2080),
        *[(f"block8_{k}", 2080) for k in range(1, 11)],
        ("conv_7b", 1536),
    ],
    "DenseNet201": [
        *[("stem", 64), ("block1", 256), ("block2", 512), ("block3", 1792), ("block4", 1920), ("relu", 1920)]
    ],
    "MobileNet": [
        *[("stem", 32), ("block_1", 64), ("block_2", 128), ("block_3", 128), ("block_4", 256), ("block_5", 256)],
        *[(f"block_{k}", 512) for k in range(6, 12)],
        *[("block_12", 1024), ("block_13", 1024)],
    ],
    "MobileNetV2": [
        *[("stem", 32), ("block_0", 16), ("block_1", 24), ("block_2", 24)],
        *[("block_3", 32), ("block_4", 32), ("block_5", 32)],
        *[("block_6", 64), ("block_7", 64), ("block_8", 64), ("block_9", 64)],
        *[("block_10", 96), ("block_11", 96), ("block_12", 96)],
        *[("block_13", 160), ("block_14", 160), ("block_15", 160), ("block_16", 320), ("out", 1280)],
    ],
    "AlexNet": [("conv1", 96), ("conv2", 256), ("conv3", 384), ("conv4", 384), ("conv5", 256)],
    "AlexNet-torchvision": [("conv1", 64), ("conv2", 192), ("conv3", 384), ("conv4", 256), ("conv5", 256)],
    "GenderNet": [("conv1", 96), ("conv2", 256), ("conv3", 384)],
    "GoogLeNet": GOOGLENET_CUT_POINTS,
    "GoogLeNet-torchvision": GOOGLENET_CUT_POINTS,
    "KiefferCNN": [("conv1", 32), ("conv2", 64), ("conv3", 128), ("conv4", 256)],
    "JoyceCNN": [("conv1", 32), ("conv2", 64), ("conv3", 128)],
}
#: Default input, smallest input, preprocessing and length of the last layer.
FACTS = {
    "VGG16": (224, 32, "caffe", 512),
    "VGG19": (224, 32, "caffe", 512),
    "InceptionV3": (299, 75, "tf", 2048),
    "ResNet50": (224, 32, "caffe", 2048),
    "InceptionResNetV2": (299, 75, "tf", 1536),
    "DenseNet201": (224, 32, "torch", 1920),
    "MobileNet": (224, 32, "tf", 1024),
    "MobileNetV2": (224, 32, "tf", 1280),
    "AlexNet": (227, 39, "caffe", 256),
    "AlexNet-torchvision": (224, 63, "torch", 256),
    "GenderNet": (227, 35, "caffe", 384),
    "GoogLeNet": (224, 31, "caffe", 1024),
    "GoogLeNet-torchvision": (224, 15, "tf", 1024),
    "KiefferCNN": (224, 16, "unit", 256),
    "JoyceCNN": (224, 8, "unit", 128),
}
OWN = tuple(FACTS)[8:]
EVERY_DAY = ("VGG16", "MobileNetV2", *OWN)
#: The seven of Mormont et al. (2018), whose last layers side by side are 9,600 features.
OF_THE_PAPER = ("VGG16", "VGG19", "InceptionV3", "ResNet50", "InceptionResNetV2", "DenseNet201", "MobileNet")


def each_architecture(names):
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=[] if name in EVERY_DAY else pytest.mark.full) for name in names]
    )


def entry(architecture="MobileNetV2", **said):
    return {"architecture": architecture, "weights": "random", **said}


@cache
def refusing():
    """Return one network for all tests in which nothing may be loaded."""
    return narrow()


def random_tiles(n, px):
    return np.random.default_rng(7).integers(0, 256, (n, px, px, 3), dtype=np.uint8)


def narrow(**arguments):
    """Return Keras' own MobileNetV2 at its narrowest, with random weights."""
    import keras

    return keras.applications.MobileNetV2(
        **{"weights": None, "include_top": False, "input_shape": (32, 32, 3), "alpha": 0.35, **arguments}
    )


def assert_close(ours, theirs, share):
    """Check that no value differs by more than a share of the largest: features come in any size."""
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    assert np.abs(ours - theirs).max() <= share * np.abs(theirs).max()


def features_of(said, file=None, n=3):
    spec = specification.specification(said)
    model = building.build(spec, weights_file=file, seed=1)
    return compiled.compiled_forward(model, spec.px)(random_tiles(n, spec.px))


# the table


def test_table_has_the_networks_and_imports_no_keras():
    code = (
        "import sys; from histotransfer.features import extraction; from histotransfer.networks import building, table;"
        " print('keras' in sys.modules)"
    )
    path = SCRIPTS
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr
    assert set(table.ARCHITECTURES) == set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_row_says_what_the_papers_say(name):
    row = table.ARCHITECTURES[name]
    assert (row.px, row.min_px, row.preprocessing, row.n_features) == FACTS[name]
    assert [layer for layer in row.layers if layer not in row.dense] == [layer for layer, _ in CUT_POINTS[name]]
    assert dict(CUT_POINTS[name])[row.last] == row.n_features
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", layer) for layer in row.layers)
    assert table.legal_layers(name) == row.layers


@each_architecture(FACTS)
def test_every_cut_point_has_its_name_its_place_and_its_length(name):
    row = table.ARCHITECTURES[name]
    spec = specification.specification(entry(name, px=row.min_px, layers="all"))
    model = building.build(spec, seed=1)
    lengths = dict(CUT_POINTS[name])
    assert spec.layers == tuple(layer for layer in lengths if layer != row.last)
    assert [output.shape for output in model.outputs] == [(None, lengths[layer]) for layer in (row.last, *spec.layers)]
    outputs = compiled.compiled_forward(model, row.min_px)(random_tiles(2, row.min_px))
    assert all(output.dtype == np.float32 and np.isfinite(output).all() for output in outputs)
    # of a size that trees (which take differences under 1e-7 for none) and float32 can tell apart
    assert all(1e-3 < output.max() < 1e6 and np.ptp(output, axis=0).max() > 1e-4 for output in outputs)


class RandomTiles:
    """Three tiles of one slide, cut at the size that a network takes."""

    slide, status, reason, n = "s", "ok", "", 3

    def __init__(self, px):
        self.px = px
        self.digest = f"random tiles of {px} px"
        self.attributes = {"tiles_digest": "grid of s"}

    def tile_ids(self):
        return ["0_0", "1_0", "2_0"]

    def image_ids(self):
        return ["s"] * 3

    def coords(self):
        return np.zeros((3, 2), np.int64)

    def blocks(self, batch):
        for start in range(0, 3, batch):
            yield start, random_tiles(3, self.px)[start : start + batch]


@pytest.mark.parametrize(
    ("names", "n_features"),
    [
        pytest.param(("MobileNetV2", "MobileNet"), 1280 + 1024, id="two small ones"),
        pytest.param(OF_THE_PAPER, 9600, id="the paper's seven", marks=pytest.mark.full),
    ],
)
def test_untrained_networks_are_read_side_by_side_from_files_with_every_cut_point(names, n_features, tmp_path):
    manifests = {name: str(tmp_path / name / "shard-0.json") for name in names}
    for name, manifest in manifests.items():
        px = table.ARCHITECTURES[name].min_px
        extraction.extract_from_sources(
            sources=[RandomTiles(px)],
            job=extraction.ShardJob(
                network_name=name,
                network=specification.specification(entry(name, px=px, layers="all")),
                weights_file=None,
                manifest=manifest,
                shard="shard-0",
                master_seed=1,
                code="c0de",
            ),
            extraction=Extraction(batch=2),
            threads=1,
        )

    def stored(name, layer):
        with h5py.File(tmp_path / name / "s.h5") as file:
            return file["features" if layer == CUT_POINTS[name][-1][0] else f"layers/{layer}"][:]

    merged = feature_matrix.open_matrix(manifests=list(manifests.values()), sources=[Source(name) for name in names])
    assert merged.n_features == n_features
    assert [(own.network, own.layer, own.stop - own.start) for own in merged.columns] == [
        (name, *CUT_POINTS[name][-1]) for name in names
    ]
    np.testing.assert_array_equal(merged.read(), np.hstack([stored(name, CUT_POINTS[name][-1][0]) for name in names]))
    assert merged.attributes["untrained"] is True
    for name in names:
        layers = feature_matrix.open_matrix(
            manifests=[manifests[name]],
            sources=[Source(name, layer) for layer, _ in CUT_POINTS[name]],
        )
        assert [(own.layer, own.stop - own.start) for own in layers.columns] == CUT_POINTS[name]
        side_by_side = np.hstack([stored(name, layer) for layer, _ in CUT_POINTS[name]])
        np.testing.assert_array_equal(layers.read(), side_by_side)
        assert (np.ptp(side_by_side, axis=0) > 0).any()


@pytest.mark.full
@pytest.mark.parametrize("name", ["VGG16", "VGG19"])
def test_dense_layers_of_vgg(name):
    outputs = features_of(entry(name, layer="fc2", layers=["fc1", "block5"]), n=1)
    assert [output.shape for output in outputs] == [(1, 4096), (1, 512), (1, 4096)]
    assert outputs[0].min() == 0  # fc2 ends in a ReLU


@pytest.mark.parametrize(("alpha", "length"), [(0.35, 1280), (1.0, 1280), (1.4, 1792)])
def test_alpha_widens_mobilenetv2(alpha, length):
    spec = specification.specification(entry(alpha=alpha, px=32))
    assert building.build(spec, seed=1).output_shape == (None, length)


def test_defaults_are_filled_in():
    spec = specification.specification(entry(layers=["block_3", "stem", "out"]))
    assert (spec.px, spec.alpha, spec.rescale, spec.layer) == (224, 1.0, "network", "out")
    assert spec.layers == ("stem", "block_3")  # by depth, without the last, which comes anyway
    assert specification.specification(entry("VGG16")).alpha is None


@pytest.mark.parametrize(
    "network",
    [entry(), entry("VGG16", layers="all"), entry(alpha=0.35, px=96, weights="w.h5", rescale="unit", layers=["stem"])],
)
def test_a_network_comes_back_from_its_plain_form(network):
    spec = made(NetworkSpec, network)
    assert spec == specification.specification(network)
    assert tuple(plain(spec)) == specification.KEYS
    assert json.loads(json.dumps(plain(spec))) == plain(spec)
    assert plain(spec) == {**plain(spec), **{key: value for key, value in network.items() if key != "layers"}}
    assert made(NetworkSpec, plain(spec)) == spec


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (entry("ResNet18"), "architecture: legal are VGG16, .*, MobileNetV2, .*, JoyceCNN; found 'ResNet18'"),
        (entry(depth=3), "depth: unknown key; legal are architecture, alpha, weights, .*; found 'depth'"),
        (entry("VGG16", alpha=0.5), "VGG16 comes in one width, so legal is none; found 0.5"),
        (entry(alpha=-1), "legal are numbers above 0; found -1"),
        (entry(alpha=0.6, weights="imagenet"), "exist for 0.35, 0.5, 0.75, 1, 1.3, 1.4; found 0.6"),
        (entry(weights=None), "weights: legal are imagenet, random, or the path of a weights file; found None"),
        (entry(rescale="half"), "rescale: legal are network, unit, training_mean; found 'half'"),
        (entry("ResNet50", layer="mixed3"), "layer: legal for ResNet50 are stem, conv2_block1.*; found 'mixed3'"),
        (entry(layers=["stem", "fc9"]), "layers: legal for MobileNetV2 are all or stem.*; found 'fc9'"),
        (entry(layers="some"), "layers: legal is all or a list of cut points of MobileNetV2; found 'some'"),
        (entry("InceptionV3", px=74), "px: legal for InceptionV3 are integers of at least 75; found 74"),
        (
            entry("VGG16", layer="fc2", px=256, weights="w.h5"),
            "px: fc2 of VGG16 takes 224 alone, unless weights are random; found 256",
        ),
    ],
)
def test_errors_say_what_is_legal_and_what_was_found(said, message):
    with pytest.raises(ValueError, match=message):
        specification.specification(said)


def test_all_problems_are_reported_at_once():
    problems = specification.problems(entry("VGG16", alpha=2, rescale="x", px=1, layer="y", colour=3))
    assert [problem.place for problem in problems] == ["colour", "alpha", "rescale", "layer", "px"]


# what is built


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_preprocessing_is_that_of_keras_to_the_bit(mode):
    import keras

    # every grey value in every channel beside every kind of neighbour
    tiles = np.stack([np.arange(256), np.arange(256)[::-1], np.roll(np.arange(256), 77)], axis=-1)
    tiles = tiles.reshape(1, 16, 16, 3).astype(np.uint8)
    ours = keras.ops.convert_to_numpy(building.preprocess(tiles, mode))
    theirs = keras.applications.imagenet_utils.preprocess_input(tiles.astype("float32"), mode=mode)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


def test_unit_preprocessing_goes_from_0_to_1():
    import keras

    values = keras.ops.convert_to_numpy(building.preprocess(np.array([[[[0, 51, 255]]]], np.uint8), "unit"))
    np.testing.assert_array_equal(values, np.array([[[[0, 0.2, 1]]]], np.float32))


def test_features_are_the_averages_of_keras_own_maps(tmp_path):
    import keras

    base = narrow()
    base.save_weights(tmp_path / "own.weights.h5")
    ours = features_of(entry(alpha=0.35, px=32, layers=["block_5"], weights="own"), tmp_path / "own.weights.h5")
    prepared = keras.applications.mobilenet_v2.preprocess_input(random_tiles(3, 32).astype("float32"))
    inner = keras.Model(base.input, [base.output, base.get_layer("block_5_add").output])
    for mine, maps in zip(ours, inner.predict(prepared, verbose=0), strict=True):
        assert_close(mine, maps.mean(axis=(1, 2)), 1e-5)


def test_rescale_unit_changes_what_the_network_sees(tmp_path):
    narrow().save_weights(tmp_path / "own.weights.h5")
    said = entry(alpha=0.35, px=32, weights="own")
    own = features_of(said, tmp_path / "own.weights.h5")[0]
    unit = features_of({**said, "rescale": "unit"}, tmp_path / "own.weights.h5")[0]
    assert np.abs(own - unit).max() > 0.1 * own.max()


def test_random_weights_follow_the_seed():
    spec = specification.specification(entry(alpha=0.35, px=32))
    first, again, other = (building.build(spec, seed=seed).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    with pytest.raises(ValueError, match="random weights need a seed"):
        building.build(spec)


def test_random_weights_are_he_normal():
    spec = specification.specification(entry(px=32))
    weights_of = {weight.path: np.asarray(weight) for weight in building.build(spec, seed=3).weights}
    deviations = {
        "Conv_1/kernel": np.sqrt(2 / 320),  # 1 x 1 x 320 inputs
        "block_16_depthwise/kernel": np.sqrt(2 / 9),  # 3 x 3 inputs, each map by itself
    }
    for path, deviation in deviations.items():
        kernel = weights_of[path]
        assert abs(kernel.std() / deviation - 1) < 0.05
        assert abs(kernel.mean()) < 0.05 * deviation
    assert (weights_of["Conv_1_bn/gamma"] == 1).all()
    assert (weights_of["Conv_1_bn/moving_mean"] == 0).all()


@pytest.mark.parametrize(("precision", "tolerance"), [("mixed_bfloat16", 0.2), ("mixed_float16", 0.03)])
def test_precision_is_of_the_network_alone(precision, tolerance):
    import keras

    spec = specification.specification(entry(alpha=0.35, px=32))
    exact = compiled.compiled_forward(building.build(spec, seed=1), 32)(random_tiles(4, 32))[0]
    model = building.build(spec, seed=1, precision=precision)
    rough = compiled.compiled_forward(model, 32)(random_tiles(4, 32))[0]
    assert keras.config.dtype_policy().name == "float32"
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < tolerance * np.abs(exact).max()
    with pytest.raises(ValueError, match=r"precision: legal are float32, .*; found 'float8'"):
        building.build(spec, seed=1, precision="float8")


# backends


def test_forward_pass_gives_a_tile_the_same_features_in_any_batch():
    spec = specification.specification(entry(alpha=0.35, px=32, layers=["stem"]))
    forward = compiled.compiled_forward(building.build(spec, seed=1), 32)
    tiles = random_tiles(9, 32)
    together = forward(tiles)
    for k in range(9):
        for one, all_ in zip(forward(tiles[k : k + 1]), together, strict=True):
            assert_close(one[0], all_[k], 1e-5)


def test_openvino_agrees_with_keras_on_every_layer(tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    narrow(input_shape=(64, 64, 3)).save_weights(tmp_path / "own.weights.h5")
    spec = specification.specification(entry(alpha=0.35, px=64, layers="all", weights="own"))
    model = building.build(spec, weights_file=tmp_path / "own.weights.h5")
    tiles = random_tiles(5, 64)
    exact = compiled.compiled_forward(model, 64)(tiles)
    forward = compiled.compiled_forward(model, 64, engine="openvino", threads=1)
    fast = forward(tiles)
    forward(tiles[::-1])  # does not write into what was returned before
    for ours, theirs in zip(fast, exact, strict=True):
        assert_close(ours, theirs, process.OPENVINO_TOLERANCE)


def test_openvino_takes_float32_alone():
    with pytest.raises(ValueError, match="with engine openvino legal is float32 alone; found 'mixed_float16'"):
        process.check(engine="openvino", precision="mixed_float16")
    with pytest.raises(ValueError, match="engine: legal are keras, openvino; found 'onnx'"):
        process.check(engine="onnx", precision="float32")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same_features(backend, tmp_path):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    file = tmp_path / "own.weights.h5"
    narrow().save_weights(file)
    said = entry(alpha=0.35, px=32, layers=["block_5"], weights="own")
    expected = features_of(said, file, n=5)
    code = (
        "import sys, json, numpy as np\n"
        "from histotransfer.backends import compiled, process\n"
        "from histotransfer.networks import building, specification\n"
        "spec = specification.specification(json.loads(sys.argv[1]))\n"
        "process.set_threads(1)\n"
        "model = building.build(spec, weights_file=sys.argv[2])\n"
        "forward = compiled.compiled_forward(model, 32, batch=4)\n"
        "tiles = np.load(sys.argv[3])\n"
        "parts = [forward(tiles[:4]), forward(tiles[4:])]\n"
        "np.savez(sys.argv[4], *[np.concatenate(each) for each in zip(*parts)])\n"
    )
    np.save(tmp_path / "tiles.npy", random_tiles(5, 32))
    paths = [str(path) for path in (file, tmp_path / "tiles.npy", tmp_path / "out.npz")]
    library = str(SCRIPTS)
    subprocess.run(
        [sys.executable, "-c", code, json.dumps(said), *paths],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join([library, *sys.path])},
        check=True,
    )
    with np.load(tmp_path / "out.npz") as found:
        for ours, theirs in zip(expected, (found["arr_0"], found["arr_1"]), strict=True):
            assert_close(theirs, ours, 1e-4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"KERAS_BACKEND": "jax"}, "jax"), ({}, "tensorflow"), ({"keras.json": "torch"}, "torch")],
)
def test_backend_is_told_without_importing_keras(settings, expected, tmp_path):
    if "keras.json" in settings:
        (tmp_path / "keras.json").write_text(json.dumps({"backend": settings["keras.json"]}))
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    environment |= {"KERAS_HOME": str(tmp_path), "PYTHONPATH": str(SCRIPTS)}
    environment |= {key: value for key, value in settings.items() if key == "KERAS_BACKEND"}
    code = "from histotransfer.backends import process; import sys; print(process.name(), 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [expected, "False"], done.stderr


# weights files


def save(base, path):
    """Save a network in the form that the suffix asks for."""
    if path.name.endswith(".weights.h5"):
        base.save_weights(path)
    else:
        base.save(path)
    return path


@pytest.mark.parametrize("name", ["full.h5", "own.weights.h5", "own.keras"])
@pytest.mark.filterwarnings("ignore")
def test_each_form_of_file_brings_the_same_weights(name, tmp_path):
    saved = narrow()
    loaded = narrow()
    assert not np.array_equal(saved.get_weights()[0], loaded.get_weights()[0])
    weights.load(loaded, save(saved, tmp_path / name), network="MobileNetV2")
    assert all(np.array_equal(a, b) for a, b in zip(saved.get_weights(), loaded.get_weights(), strict=True))


@pytest.mark.parametrize("nested", [True, False])
def test_a_trained_network_brings_the_weights_below_its_head(nested, tmp_path):
    import keras

    saved = narrow()
    tiles = keras.Input((32, 32, 3))
    maps = saved(tiles) if nested else saved.output
    head = keras.layers.Dense(4, name="head")(keras.layers.GlobalAveragePooling2D()(maps))
    keras.Model(tiles if nested else saved.input, head).save(tmp_path / "trained.keras")
    loaded = narrow()
    weights.load(loaded, tmp_path / "trained.keras", network="MobileNetV2")
    assert all(np.array_equal(a, b) for a, b in zip(saved.get_weights(), loaded.get_weights(), strict=True))


@pytest.mark.filterwarnings("ignore")
def test_a_file_with_the_top_serves_the_network_without(tmp_path):
    saved = narrow(include_top=True, classes=3)
    loaded = narrow()
    weights.load(loaded, save(saved, tmp_path / "with-top.h5"), network="MobileNetV2")
    for a, b in zip(saved.get_weights(), loaded.get_weights(), strict=False):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore")
def test_names_that_keras_makes_up_need_not_agree(tmp_path):
    import keras

    def convolutions():
        return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.Conv2D(5, 3)])

    saved, loaded = convolutions(), convolutions()
    assert saved.layers[0].name != loaded.layers[0].name
    weights.load(loaded, save(saved, tmp_path / "own.h5"), network="two convolutions")
    np.testing.assert_array_equal(saved.get_weights()[2], loaded.get_weights()[2])


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["InceptionV3", "InceptionResNetV2"])
def test_inception_weights_go_by_order(name, tmp_path):
    import keras

    builder = getattr(keras.applications, name)
    saved, loaded = (builder(weights=None, include_top=False, input_shape=(75, 75, 3)) for _ in range(2))
    for form in ("own.h5", "own.weights.h5"):
        loaded.set_weights([np.zeros_like(each) for each in loaded.get_weights()])
        weights.load(loaded, save(saved, tmp_path / form), network=name)
        assert all(np.array_equal(a, b) for a, b in zip(saved.get_weights(), loaded.get_weights(), strict=True))


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
@pytest.mark.filterwarnings("ignore")
def test_weights_of_another_width_are_refused_before_any_is_set(suffix, tmp_path):
    file = save(narrow(), tmp_path / f"narrow{suffix}")
    wide = narrow(alpha=0.5)
    before = wide.get_weights()
    message = r"narrow.* is not of MobileNetV2 \(alpha 0.5\).*layer \S+ has weights of .*, the file's \S+ of"
    with pytest.raises(ValueError, match=message):
        weights.load(wide, file, network="MobileNetV2 (alpha 0.5)")
    assert all(np.array_equal(a, b) for a, b in zip(before, wide.get_weights(), strict=True))


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
@pytest.mark.filterwarnings("ignore")
def test_weights_of_another_network_are_refused(suffix, tmp_path):
    import keras

    other = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.25)
    file = save(other, tmp_path / f"mobilenet{suffix}")
    with pytest.raises(ValueError, match=rf"mobilenet{suffix} is not of MobileNetV2, which was asked for: .*"):
        weights.load(narrow(), file, network="MobileNetV2")


@pytest.mark.filterwarnings("ignore")
def test_the_same_shapes_under_other_names_are_another_network(tmp_path):
    import keras

    def network(*names):
        return keras.Sequential([keras.Input((8,)), *(keras.layers.Dense(8, name=name) for name in names)])

    file = save(network("left", "right"), tmp_path / "other.h5")
    with pytest.raises(ValueError, match="where the network has layer top, the file has left"):
        weights.load(network("top", "bottom"), file, network="it")
    weights.load(network("top", "bottom"), file, network="it", names_must_agree=False)


class MarksItsOpening:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pkl", "is a pickle; pickles are refused unread"),
        ("pickle.h5", "is a pickle; pickles are refused unread"),
        ("torch.pt", "is an archive with a pickle, as PyTorch writes them; .*; found archive/data.pkl"),
        ("torch.keras", "is an archive with a pickle"),
        ("folder.zip", "is an archive without Keras' weights; .*; found readme.txt"),
        ("empty.h5", "is no weights file; legal are HDF5 .*; found an empty file"),
        ("text.h5", "is no weights file; legal are HDF5 .*; found the first bytes 3c 68 74 6d 6c"),
        ("cut.h5", "is damaged or incomplete"),
        ("cut.keras", "is damaged or incomplete"),
        ("cut-inside.weights.h5", "is damaged or incomplete"),
        ("features.h5", "is not of MobileNetV2, which was asked for: .*no layers with weights"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_weights_file_is_refused_and_nothing_unpickled(name, message, tmp_path):
    opened = tmp_path / "opened"
    harmful = pickle.dumps(MarksItsOpening(opened))
    file = tmp_path / name
    if name in ("model.pkl", "pickle.h5"):
        file.write_bytes(harmful)
    elif name.startswith("torch"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", harmful)
    elif name == "folder.zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme.txt", "nothing")
    elif name == "empty.h5":
        file.touch()
    elif name == "text.h5":
        file.write_text("<html>404 not found</html>")
    elif name == "features.h5":
        with h5py.File(file, "w") as written:
            written["features"] = np.zeros((2, 3))
    elif name == "cut-inside.weights.h5":
        # the tail is there, and a part of the middle is not
        whole = bytearray(save(refusing(), tmp_path / "whole.weights.h5").read_bytes())
        whole[2048 : len(whole) // 2] = bytes(len(whole) // 2 - 2048)
        file.write_bytes(whole)
    else:
        whole = save(refusing(), tmp_path / f"whole{file.suffix}").read_bytes()
        file.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=message) as caught:
        weights.load(refusing(), file, network="MobileNetV2")
    assert str(file) in str(caught.value)
    assert not opened.exists()


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.h5 does not exist"):
        weights.load(refusing(), tmp_path / "nothing.h5", network="MobileNetV2")


# ImageNet


@needs_real_weights
@pytest.mark.parametrize("alpha", REAL_WEIGHTS)
def test_real_weights_give_the_features_that_keras_gives(alpha):
    import keras

    px = 96
    file = REAL_WEIGHTS[alpha]
    ours = features_of(entry(alpha=float(alpha), px=px, weights=str(file)), file)[0]
    theirs = keras.applications.MobileNetV2(
        weights=str(file), include_top=False, input_shape=(px, px, 3), alpha=float(alpha), pooling="avg"
    )
    prepared = keras.applications.mobilenet_v2.preprocess_input(random_tiles(3, px).astype("float32"))
    assert_close(ours, theirs.predict(prepared, verbose=0), 1e-5)


@needs_real_weights
def test_real_weights_of_another_alpha_are_refused():
    message = (
        r"0.35_224_no_top.h5 is not of MobileNetV2 \(alpha 1\), .* layer Conv1 has weights of 3x3x3x32, the file's"
    )
    with pytest.raises(ValueError, match=message):
        features_of(entry(weights="path"), REAL_WEIGHTS["0.35"])


class Offline:
    """Stands in for Keras' download, and remembers what was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, fname, origin, **_):
        self.asked.append(fname)
        raise Exception(f"URL fetch failure on {origin}: None -- Name or service not known")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    from keras.src.utils import file_utils

    network = Offline()
    monkeypatch.setattr(file_utils, "get_file", network)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return network


@pytest.mark.parametrize(
    "said",
    [
        entry(alpha=0.35, px=96),
        entry(alpha=1.4, px=64),
        entry("MobileNet", alpha=0.25, px=128),
        entry("MobileNet", px=96),
        entry("VGG16", px=32),
        *[
            pytest.param(said, marks=pytest.mark.full)
            for said in [
                *[
                    entry(name, px=96)
                    for name in ("VGG19", "InceptionV3", "ResNet50", "InceptionResNetV2", "DenseNet201")
                ],
                *[entry(name, layer="fc2") for name in ("VGG16", "VGG19")],
            ]
        ],
    ],
    ids=lambda said: "-".join(str(value) for value in said.values()),
)
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
def test_imagenet_weights_are_looked_for_under_the_name_that_keras_gives_them(said, offline, tmp_path):
    spec = specification.specification({**said, "weights": "imagenet"})
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        weights.imagenet_file(spec)
    assert offline.asked == [spec.imagenet_file]
    message = str(caught.value)
    assert "Name or service not known" in message
    assert f"put {spec.imagenet_file} into {tmp_path / 'models'}" in message
    assert "weights: random" in message


def test_imagenet_weights_that_are_there_are_used_without_a_network(offline, tmp_path):
    spec = specification.specification(entry(alpha=0.35, px=96, weights="imagenet"))
    there = tmp_path / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"
    there.parent.mkdir()
    there.write_bytes(b"")
    assert weights.imagenet_file(spec) == there
    assert offline.asked == []
