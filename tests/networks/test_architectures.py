"""The networks that Keras lacks: sizes and parameters as published, and the layers they need."""

import numpy as np
import pytest

from histotransfer.networks import building, random_weights, specification, table


def entry(architecture, **said):
    return {"architecture": architecture, "weights": "random", **said}


def built(name, *, px=None, layer=None, auxiliary=False):
    """Return the whole network, with its dense layers where the cut point is one."""
    row = table.ARCHITECTURES[name]
    spec = specification.specification(entry(name, px=px or row.px, layer=layer))
    return building._base(spec, seed=1, auxiliary=auxiliary)


def dense(inputs, units):
    return inputs * units + units


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("name", "layer", "auxiliary", "classifiers", "parameters"),
    [
        # Krizhevsky et al. (2012) speak of 60 million; Caffe's file has these
        ("AlexNet", "fc7", False, dense(4096, 1000), 60_965_224),
        ("AlexNet-torchvision", "fc7", False, dense(4096, 1000), 61_100_840),
        ("GoogLeNet", None, False, dense(1024, 1000), 6_998_552),
        ("GoogLeNet", None, True, 3 * dense(1024, 1000), 13_378_280),
        ("GoogLeNet-torchvision", None, False, dense(1024, 1000), 6_624_904),
        ("GoogLeNet-torchvision", None, True, 3 * dense(1024, 1000), 13_004_888),
        # 7x7 on 3 maps, 5x5 on 96, 3x3 on 256, and dense layers of 512 on 7x7 of 384 maps, for two classes
        (
            "GenderNet",
            "fc7",
            False,
            dense(512, 2),
            dense(7 * 7 * 3, 96)
            + dense(5 * 5 * 96, 256)
            + dense(3 * 3 * 256, 384)
            + dense(7 * 7 * 384, 512)
            + dense(512, 512)
            + dense(512, 2),
        ),
        (
            "KiefferCNN",
            None,
            False,
            0,
            dense(9 * 3, 32) + dense(9 * 32, 64) + dense(9 * 64, 128) + dense(9 * 128, 256),
        ),
        (
            "JoyceCNN",
            "fc1",
            False,
            0,
            dense(9 * 3, 32) + dense(9 * 32, 64) + dense(9 * 64, 128) + dense(28 * 28 * 128, 128),
        ),
    ],
)
def test_networks_have_as_many_parameters_as_published(name, layer, auxiliary, classifiers, parameters):
    assert trainable(built(name, layer=layer, auxiliary=auxiliary)) + classifiers == parameters


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        # 55 places after the first convolution; 27 of them by pooling, and so on, as Krizhevsky et al. print them
        ("AlexNet", {"conv1": 55, "pool1": 27, "conv2": 27, "pool2": 13, "conv5": 13, "pool5": 6}),
        ("AlexNet-torchvision", {"conv1": 55, "pool1": 27, "conv2": 27, "pool2": 13, "conv5": 13, "pool5": 6}),
        # ceil((56 - 3) / 2) + 1 = 28, where rounding down gives 27
        ("GenderNet", {"conv1": 56, "pool1": 28, "conv2": 28, "pool2": 14, "conv3": 14, "pool5": 7}),
        # Szegedy et al. (2015), table 1
        *[
            (
                name,
                {"conv1": 112, "pool1": 56, "conv2": 56, "pool2": 28, "inception_3b": 28, "pool3": 14}
                | {"inception_4e": 14, "pool4": 7, "inception_5b": 7, "loss1_pool": 4, "loss2_pool": 4},
            )
            for name in ("GoogLeNet", "GoogLeNet-torchvision")
        ],
        ("KiefferCNN", {"pool1": 112, "pool2": 56, "pool3": 28, "pool4": 14}),
        ("JoyceCNN", {"pool1": 112, "pool2": 56, "pool3": 28}),
    ],
)
def test_maps_have_their_published_sizes(name, sizes):
    model = built(name, auxiliary=bool(table.ARCHITECTURES[name].auxiliary))
    found = {layer: model.get_layer(layer).output.shape[1:3] for layer in sizes}
    assert found == {layer: (size, size) for layer, size in sizes.items()}


def test_a_network_takes_no_less_than_its_smallest_input():
    for name in ("AlexNet", "AlexNet-torchvision", "GenderNet", "GoogLeNet", "GoogLeNet-torchvision"):
        row = table.ARCHITECTURES[name]
        assert built(name, px=row.min_px).output.shape == (None, 1, 1, row.n_features)
        with pytest.raises(ValueError, match=rf"px: legal for {name} are integers of at least {row.min_px}; found"):
            built(name, px=row.min_px - 1)


def test_dense_layers_take_another_input_where_weights_are_random():
    spec = specification.specification(entry("JoyceCNN", px=64, layer="fc1"))
    assert building.trunk(spec, seed=1).output_shape == (None, 128)
    with pytest.raises(ValueError, match="px: fc1 of JoyceCNN takes 224 alone, unless weights are random; found 64"):
        specification.specification(entry("JoyceCNN", px=64, layer="fc1", weights="w.h5"))


@pytest.mark.parametrize(
    ("name", "what_else"),
    [
        ("AlexNet", "torchvision's fit the row AlexNet-torchvision"),
        ("AlexNet-torchvision", "with workflow_scripts/convert_torchvision.py and give its path"),
        ("GenderNet", "no public ImageNet source, its own is faces .*: give the path of a file"),
        ("JoyceCNN", "was trained from scratch alone"),
    ],
)
def test_imagenet_weights_that_keras_lacks_are_refused_with_what_there_is(name, what_else):
    message = f"weights: Keras has no ImageNet weights of {name}; .*{what_else}.*; found 'imagenet'"
    with pytest.raises(ValueError, match=message):
        specification.specification({"architecture": name, "weights": "imagenet"})


# layers


def normalised(maps, **arguments):
    import keras

    from histotransfer.networks import architectures

    layer = architectures.LocalResponseNormalization(**arguments)
    return keras.ops.convert_to_numpy(layer(np.asarray(maps).reshape(1, 1, 1, -1))).ravel()


@pytest.mark.backend
def test_local_response_normalisation_by_hand():
    # alpha / size = 1: each map over 1 + the squares of itself and its neighbours
    found = normalised(np.float32([1, 2, 3]), size=3, alpha=3.0, beta=1.0, k=1.0)
    np.testing.assert_allclose(found, [1 / (1 + 1 + 4), 2 / (1 + 1 + 4 + 9), 3 / (1 + 4 + 9)], rtol=1e-6)
    # of the paper's constants: k = 2, alpha 1e-4 for each of 5 maps, beta 0.75
    maps = np.arange(10, 80, 10, dtype=np.float32)
    sums = [sum(float(maps[j]) ** 2 for j in range(7) if abs(i - j) <= 2) for i in range(7)]
    expected = [float(x) / (2 + 1e-4 * around) ** 0.75 for x, around in zip(maps, sums, strict=True)]
    np.testing.assert_allclose(normalised(maps, size=5, alpha=5e-4, beta=0.75, k=2.0), expected, rtol=1e-5)
    # Caffe's, which are the layer's own: k = 1, and alpha is shared among the 5 maps
    expected = [float(x) / (1 + 1e-4 / 5 * around) ** 0.75 for x, around in zip(maps, sums, strict=True)]
    np.testing.assert_allclose(normalised(maps), expected, rtol=1e-5)


@pytest.mark.backend
def test_local_response_normalisation_does_not_run_over_in_float16():
    # 300^2 is more than float16 holds
    found = normalised(np.float16([300, 300, 300]), dtype="float16")
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, 300 / (1 + 1e-4 / 5 * 3 * 300**2) ** 0.75, rtol=1e-3)


def test_local_response_normalisation_refuses_an_even_number_of_maps():
    with pytest.raises(ValueError, match="size: legal are odd integers of at least 1; found 4"):
        normalised([1.0], size=4)


@pytest.mark.backend
def test_pooling_reaches_over_the_lower_right_border_as_caffe_rounds_up():
    import keras

    from histotransfer.networks import architectures

    image = keras.Input((6, 5, 1))
    model = keras.Model(image, architectures._ceil_max_pooling(image, 3, 2, "pool"))
    maps = np.arange(30, dtype=np.float32).reshape(1, 6, 5, 1)
    # 6 rows: windows 0-2, 2-4 and 4-5; 5 columns: windows 0-2 and 2-4
    expected = [[12, 14], [22, 24], [27, 29]]
    np.testing.assert_array_equal(model.predict(maps, verbose=0)[0, :, :, 0], expected)


@pytest.mark.backend
def test_averages_of_torchvisions_auxiliary_classifiers_lie_as_torch_has_them():
    import keras

    from histotransfer.networks import architectures

    image = keras.Input((14, 14, 1))
    model = keras.Model(image, architectures._four_by_four(image, "pool"))
    maps = np.random.default_rng(1).random((1, 14, 14, 1), np.float32)
    # a part begins at floor(i * 14 / 4) and ends before ceil((i + 1) * 14 / 4)
    parts = [slice(0, 4), slice(3, 7), slice(7, 11), slice(10, 14)]
    expected = [[maps[0, rows, columns, 0].mean() for columns in parts] for rows in parts]
    np.testing.assert_allclose(model.predict(maps, verbose=0)[0, :, :, 0], expected, rtol=1e-5)


@pytest.mark.backend
def test_a_convolution_in_two_groups_keeps_them_apart():
    import keras

    from histotransfer.networks import architectures

    image = keras.Input((4, 4, 6))
    model = keras.Model(image, architectures._halves(image, 8, 3, "conv"))
    random_weights.draw_weights(model.layers, seed=1)
    maps = np.random.default_rng(1).random((1, 4, 4, 6), np.float32)
    changed = maps.copy()
    changed[..., 3:] = 0
    whole, half = model.predict(maps, verbose=0), model.predict(changed, verbose=0)
    np.testing.assert_array_equal(half[..., :4], whole[..., :4])
    # the second group sees zeros, and has no biases yet
    np.testing.assert_array_equal(half[..., 4:], 0)
    assert whole[..., 4:].any()


@pytest.mark.parametrize(("name", "px"), [("AlexNet", 39), ("GoogLeNet", 31), ("GoogLeNet-torchvision", 15)])
def test_every_kernel_learns_on_the_cpu(name, px):
    import keras

    spec = specification.specification(entry(name, px=px))
    outputs = building.trunk(spec, seed=1, auxiliary=bool(spec.architecture.auxiliary))
    averages = [keras.ops.mean(each, axis=tuple(range(1, len(each.shape)))) for each in outputs.outputs]
    model = keras.Model(outputs.input, averages)
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(0.1), loss=["mse"] * len(averages))
    tiles = np.random.default_rng(1).normal(0, 50, (4, px, px, 3)).astype(np.float32)
    model.train_on_batch(tiles, [np.full(4, 9, np.float32)] * len(averages))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        if weight.path.endswith("kernel"):
            new = keras.ops.convert_to_numpy(weight)
            assert np.isfinite(new).all(), weight.path
            assert (new != old).any(), weight.path
