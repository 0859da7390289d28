"""What training begins from: a network cut at a layer, its groups of layers, its weights, and what lies before it."""

import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from repository import SCRIPTS

from histotransfer.definitions import Initialisation
from histotransfer.networks import building, random_weights, specification, trained


def entry(architecture="MobileNetV2", **said):
    return {"architecture": architecture, "weights": "random", **said}


def narrow(**said):
    return specification.specification(entry(alpha=0.35, px=32, **said))


def numbers(tensor):
    import keras

    return keras.ops.convert_to_numpy(tensor)


def random_tiles(n, px):
    return np.random.default_rng(7).integers(0, 256, (n, px, px, 3), dtype=np.uint8)


# the trunk


def test_a_trunk_is_the_network_that_features_come_from():
    spec = narrow(layer="block_5")
    trunk = building.trunk(spec, seed=3)
    assert (trunk.name, trunk.output_shape) == ("trunk", (None, 4, 4, 16))
    maps = trunk.predict(numbers(building.preprocess(random_tiles(3, 32), "tf")), verbose=0)
    features = building.build(spec, seed=3).predict(random_tiles(3, 32), verbose=0)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), features, rtol=1e-4, atol=1e-5 * np.abs(features).max())


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_trunk_computes_in_its_precision_and_keeps_its_weights_in_float32(precision):
    trunk = building.trunk(narrow(layer="block_1"), seed=3, precision=precision)
    assert trunk.output.dtype == precision.removeprefix("mixed_")
    assert {weight.dtype for weight in trunk.weights} == {"float32"}


def test_auxiliary_classifiers_change_no_other_weight():
    spec = specification.specification(entry("GoogLeNet", px=31))
    plain, whole = building.trunk(spec, seed=3), building.trunk(spec, seed=3, auxiliary=True)
    assert [each.shape for each in whole.outputs] == [(None, 1, 1, 1024), (None, 1024), (None, 1024)]
    for layer in plain.layers:
        for ours, theirs in zip(layer.get_weights(), whole.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_auxiliary_classifiers_are_those_below_the_layer():
    spec = specification.specification(entry("GoogLeNet", px=31, layer="inception_4c"))
    trunk = building.trunk(spec, seed=3, auxiliary=True)
    assert [each.shape for each in trunk.outputs] == [(None, 2, 2, 512), (None, 1024)]
    legal = r"legal are architectures with some \(GoogLeNet, GoogLeNet-torchvision\), cut at or above them"
    for other in (entry("GoogLeNet", px=31, layer="inception_3b"), entry(px=32)):
        with pytest.raises(ValueError, match=f"has no auxiliary classifiers up to layer .*; {legal}"):
            building.trunk(specification.specification(other), seed=3, auxiliary=True)


def test_dropout_follows_the_seed():
    spec = specification.specification(entry("JoyceCNN", px=16, layer="fc1"))
    image = np.random.default_rng(1).random((2, 16, 16, 3), np.float32)

    def noisy(seed):
        trunk = building.trunk(spec, seed=seed)
        trunk.set_weights([np.full_like(weight, 0.01) for weight in trunk.get_weights()])
        return numbers(trunk(image, training=True))

    np.testing.assert_array_equal(noisy(3), noisy(3))
    assert (noisy(3) != noisy(4)).any()


def test_what_a_trunk_needs_is_said():
    with pytest.raises(ValueError, match=r"MobileNetV2 \(alpha 0.35\): random weights need a seed; found None"):
        building.trunk(narrow())
    with pytest.raises(ValueError, match=r"weights 'w.h5' need a file; found None"):
        building.trunk(specification.specification(entry(weights="w.h5")))
    with pytest.raises(ValueError, match=r"precision: legal are float32, .*; found 'float8'"):
        building.trunk(narrow(), seed=1, precision="float8")
    with pytest.raises(ValueError, match=r"layer: legal for GenderNet are conv1, .*, fc7; found 'inception_3a'"):
        specification.specification(entry("GenderNet", layer="inception_3a"))


def test_means_of_training_tiles_are_for_training_alone():
    spec = narrow(rescale="training_mean")
    with pytest.raises(ValueError, match="rescale: legal are network, unit; found 'training_mean'"):
        building.build(spec, seed=1)
    assert building.trunk(spec, seed=1).output_shape == (None, 1, 1, 1280)


# random weights


def dense(inputs, units):
    import keras

    layer = keras.layers.Dense(units)
    layer.build((None, inputs))
    return layer


@pytest.mark.parametrize(
    ("initialisation", "deviation", "largest"),
    [
        # a uniform number within +-a has the deviation a / sqrt(3)
        (Initialisation("glorot"), np.sqrt(2 / (300 + 700)), np.sqrt(6 / (300 + 700))),
        (Initialisation("xavier", None), np.sqrt(1 / 300), np.sqrt(3 / 300)),
        (Initialisation("he"), np.sqrt(2 / 300), None),
        (None, np.sqrt(2 / 300), None),
        (Initialisation("gaussian", 0.05), 0.05, None),
        (Initialisation("gaussian", None), 0.01, None),
    ],
)
def test_each_initialisation_has_its_size(initialisation, deviation, largest):
    layer = dense(300, 700)
    random_weights.draw_weights([layer], seed=5, initialisation=initialisation)
    kernel, bias = layer.get_weights()
    assert abs(kernel.std() / deviation - 1) < 0.01
    assert abs(kernel.mean()) < 0.01 * deviation
    assert not bias.any()
    if largest:
        assert 0.999 * largest < np.abs(kernel).max() <= largest
    else:
        assert np.abs(kernel).max() > 3.5 * deviation


def test_windows_count_as_inputs_and_depthwise_maps_by_themselves():
    import keras

    convolution, depthwise = keras.layers.Conv2D(200, 3), keras.layers.DepthwiseConv2D(3)
    convolution.build((None, 9, 9, 50))
    depthwise.build((None, 9, 9, 2000))
    random_weights.draw_weights([convolution, depthwise], seed=5, initialisation=Initialisation("glorot"))
    assert np.isclose(convolution.get_weights()[0].max(), np.sqrt(6 / (9 * 50 + 9 * 200)), rtol=1e-3)
    assert np.isclose(depthwise.get_weights()[0].max(), np.sqrt(6 / (9 + 9)), rtol=1e-3)


@pytest.mark.backend
def test_weights_follow_seed_and_order():
    one, other, third = dense(3, 4), dense(3, 4), dense(3, 4)
    random_weights.draw_weights([one, other], seed=5)
    random_weights.draw_weights([third], seed=5)
    np.testing.assert_array_equal(one.get_weights()[0], third.get_weights()[0])
    assert (one.get_weights()[0] != other.get_weights()[0]).any()


@pytest.mark.parametrize(
    ("initialisation", "message"),
    [
        (Initialisation("lecun"), "initialisation.kind: legal are glorot, he, xavier, gaussian; found 'lecun'"),
        (Initialisation("he", 0.1), "initialisation.deviation: legal with gaussian alone; found 0.1 with he"),
        (Initialisation("gaussian", 0.0), "initialisation.deviation: legal are numbers above 0; found 0.0"),
    ],
)
def test_an_initialisation_that_is_none_is_refused(initialisation, message):
    with pytest.raises(ValueError, match=message):
        random_weights.draw_weights([dense(2, 2)], seed=1, initialisation=initialisation)


# groups


def test_groups_of_vgg16_are_its_blocks():
    said = entry("VGG16", px=32, layer="block3")
    spec = specification.specification(said)
    found = trained.groups(building.trunk(spec, seed=1), spec)
    assert {name: [layer.name for layer in layers] for name, layers in found.items()} == {
        "block1": ["block1_conv1", "block1_conv2", "block1_pool"],
        "block2": ["block2_conv1", "block2_conv2", "block2_pool"],
        "block3": ["block3_conv1", "block3_conv2", "block3_conv3", "block3_pool"],
    }
    assert spec.group_names == tuple(found)


def test_groups_hold_every_layer_once_and_batch_normalisation_with_its_block():
    said = entry(alpha=0.35, px=32)
    spec = specification.specification(said)
    trunk = building.trunk(spec, seed=1)
    found = trained.groups(trunk, spec)
    assert tuple(found) == spec.group_names == spec.architecture.layers
    grouped = [layer for layers in found.values() for layer in layers]
    assert len(grouped) == len({id(layer) for layer in grouped}) == len(trunk.layers) - 1  # without the input
    assert [layer.name for layer in found["block_2"]] == [
        *("block_2_expand", "block_2_expand_BN", "block_2_expand_relu"),
        *("block_2_depthwise", "block_2_depthwise_BN", "block_2_depthwise_relu"),
        *("block_2_project", "block_2_project_BN", "block_2_add"),
    ]
    assert [layer.name for layer in found["out"]] == ["Conv_1", "Conv_1_bn", "out_relu"]


def test_auxiliary_classifiers_belong_to_the_head():
    spec = specification.specification(entry("GoogLeNet", px=31))
    found = trained.groups(building.trunk(spec, seed=1, auxiliary=True), spec)
    assert list(found)[-2:] == ["inception_5b", "head"]
    assert {layer.name for layer in found["head"] if layer.weights} == {
        *("loss1_1x1", "loss1_fc", "loss2_1x1", "loss2_fc")
    }
    assert [layer.name for layer in found["inception_4b"] if "pool" in layer.name] == [
        "inception_4b_pool",
        "inception_4b_pool_proj",
    ]


@pytest.mark.full
@pytest.mark.parametrize("layer", ["block8_10", "conv_7b"])
def test_a_cut_point_before_a_named_layer_ends_its_group(layer):
    spec = specification.specification(entry("InceptionResNetV2", px=75, layer=layer))
    found = trained.groups(building.trunk(spec, seed=1), spec)
    assert list(found)[-1] == layer
    assert any(each.name == "block8_10_conv" for each in found["block8_10"])
    if layer == "conv_7b":
        assert [each.name for each in found["conv_7b"]] == ["conv_7b", "conv_7b_bn", "conv_7b_ac"]


def test_group_names_are_asked_without_keras():
    code = (
        "import sys; from histotransfer.networks import specification; "
        "spec = specification.specification({'architecture': 'GenderNet', 'weights': 'w.h5', 'layer': 'fc6'}); "
        "print(spec.group_names, "
        "'keras' in sys.modules)"
    )
    path = SCRIPTS
    done = subprocess.run([sys.executable, "-c", code], cwd=path, capture_output=True, text=True)
    assert done.stdout.strip() == "('conv1', 'conv2', 'conv3', 'fc6') False", done.stderr
    with pytest.raises(ValueError, match="layer: legal for GenderNet are conv1, conv2, conv3, fc6, fc7; found 'fc8'"):
        specification.specification({"architecture": "GenderNet", "weights": "random", "layer": "fc8"})


# before the trunk


@pytest.mark.backend
def test_the_centre_of_stored_tiles_is_taken():
    tiles = np.zeros((1, 37, 37, 3), np.uint8)
    tiles[0, 2:34, 2:34] = 255  # of the five rows too many, two are above
    found = numbers(building.image_layers(narrow(), px_stored=37)(tiles))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.ones((1, 32, 32, 3)))


def test_tiles_of_the_networks_own_size_are_preprocessed_as_for_features():
    tiles = random_tiles(2, 32)
    found = building.image_layers(specification.specification(entry("VGG16", px=32)), px_stored=32)(tiles)
    np.testing.assert_array_equal(numbers(found), numbers(building.preprocess(tiles, "caffe")))


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        # red 100 - 90, green 150 - 120, blue 200 - 220; blue comes first in Caffe's networks
        ("VGG16", [-20, 30, 10]),
        ("MobileNetV2", [10 / 127.5, 30 / 127.5, -20 / 127.5]),
        ("DenseNet201", [10 / 255 / 0.229, 30 / 255 / 0.224, -20 / 255 / 0.225]),
        ("JoyceCNN", [10 / 255, 30 / 255, -20 / 255]),
    ],
)
def test_means_of_training_tiles_replace_the_networks_own(architecture, expected):
    spec = specification.specification(entry(architecture, px=32, rescale="training_mean"))
    tiles = np.broadcast_to(np.uint8([100, 150, 200]), (1, 32, 32, 3))
    found = numbers(building.image_layers(spec, px_stored=32, means=[90.0, 120.0, 220.0])(tiles))
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-5)
    with pytest.raises(ValueError, match=r"with rescale training_mean legal are 3 means of the .* tiles; found None"):
        building.image_layers(spec, px_stored=32)


def test_image_layers_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"tiles for MobileNetV2 \(alpha 0.35\) must have 32 px at least; found 31"):
        building.image_layers(narrow(), px_stored=31)
    with pytest.raises(ValueError, match="with rescale network legal are none; found"):
        building.image_layers(narrow(), px_stored=32, means=[1.0, 2.0, 3.0])


# weights from files


def test_weights_are_found_by_name_among_those_of_a_whole_network(tmp_path):
    import keras

    spec = specification.specification(entry("GoogLeNet", px=31))
    whole = building.trunk(spec, seed=3, auxiliary=True)
    averages = keras.layers.GlobalAveragePooling2D()(whole.outputs[0])
    heads = [keras.layers.Dense(2, name=f"classifier{k}")(x) for k, x in enumerate([averages, *whole.outputs[1:]])]
    keras.Model(whole.input, heads).save_weights(tmp_path / "whole.weights.h5")
    of_file = specification.specification(entry("GoogLeNet", px=31, weights="whole.weights.h5"))
    for auxiliary in (False, True):
        found = building.trunk(of_file, weights_file=tmp_path / "whole.weights.h5", auxiliary=auxiliary)
        for layer in found.layers:
            for ours, theirs in zip(layer.get_weights(), whole.get_layer(layer.name).get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_auxiliary_classifiers_that_a_file_lacks_are_drawn(tmp_path):
    spec = specification.specification(entry("GoogLeNet", px=31, weights="own"))
    file = tmp_path / "own.weights.h5"
    building.trunk(specification.specification(entry("GoogLeNet", px=31)), seed=3).save_weights(file)
    drawn = building.trunk(
        spec, weights_file=file, seed=4, auxiliary=True, initialisation=Initialisation("gaussian", 0.5)
    )
    assert abs(drawn.get_layer("loss2_fc").get_weights()[0].std() / 0.5 - 1) < 0.05
    assert drawn.get_layer("conv2").get_weights()[0].std() < 0.1
    with pytest.raises(ValueError, match="lacks the auxiliary classifiers, whose random weights need a seed"):
        building.trunk(spec, weights_file=file, auxiliary=True)


def test_weights_of_another_variant_are_refused(tmp_path):
    file = tmp_path / "torchvision.weights.h5"
    building.trunk(specification.specification(entry("AlexNet-torchvision", px=63)), seed=3).save_weights(file)
    spec = specification.specification(entry("AlexNet", weights="torchvision"))
    with pytest.raises(ValueError, match=r"torchvision\.weights\.h5 is not of AlexNet, which was asked for") as caught:
        building.trunk(spec, weights_file=file)
    assert str(file) in str(caught.value)


# trained networks


def whole_network(px=39):
    """Return a small network with every kind of layer that is not Keras' own, from tiles to probabilities."""
    import keras

    spec = specification.specification(entry("AlexNet", px=px))
    tiles = keras.Input((px + 3, px + 3, 3), dtype="uint8", name="tiles")
    maps = building.trunk(spec, seed=3)(building.image_layers(spec, px_stored=px + 3)(tiles))
    averages = keras.layers.GlobalAveragePooling2D(dtype="float32")(maps)
    return keras.Model(tiles, keras.layers.Dense(2, activation="softmax", name="probability")(averages))


@pytest.mark.backend
def test_a_trained_network_is_loaded_as_it_was_saved(tmp_path):
    model = whole_network()
    model.save(tmp_path / "model.keras")
    found = trained.load_trained(tmp_path / "model.keras")
    tiles = random_tiles(3, 42)
    np.testing.assert_array_equal(found.predict(tiles, verbose=0), model.predict(tiles, verbose=0))
    assert found.get_layer("trunk").get_layer("norm1").get_config()["alpha"] == 1e-4


def unsafe(kind, path):
    """Write a file that must not be loaded."""
    import keras

    image = keras.Input((2,))
    if kind == "lambda":
        keras.Model(image, keras.layers.Lambda(lambda x: x + 1)(image)).save(path)
    elif kind == "unknown class":

        class Unknown(keras.layers.Layer):
            def call(self, x):
                return x

        keras.Model(image, Unknown()(image)).save(path)
    elif kind == "weights":
        keras.Model(image, keras.layers.Dense(2)(image)).save_weights(path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps([1, 2, 3]))
    elif kind == "damaged":
        keras.Model(image, keras.layers.Dense(2)(image)).save(path)
        with zipfile.ZipFile(path) as archive:
            kept = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in kept.items():
                archive.writestr(name, content[: len(content) // 2])


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("lambda", "model.keras", "is refused or damaged: .*[Ll]ambda"),
        ("unknown class", "model.keras", "is refused or damaged: .*Unknown"),
        ("damaged", "model.keras", "is refused or damaged"),
        ("weights", "model.weights.h5", "legal is a .keras file of a whole network; found another form"),
        ("pickle", "model.keras", "is a pickle; pickles are refused unread"),
    ],
)
def test_a_network_that_is_not_safe_is_refused_and_named(kind, name, message, tmp_path):
    path = tmp_path / name
    unsafe(kind, path)
    with pytest.raises(ValueError, match=message) as caught:
        trained.load_trained(path)
    assert str(path) in str(caught.value)


def test_a_trained_network_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.keras does not exist"):
        trained.load_trained(tmp_path / "nothing.keras")
