"""End-to-end learning: gradients against those of the joined network, what a step moves, and the whole stage."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path

import cohort_factory
import numpy as np
import pytest
import training_factory
from training_factory import ADAM, START, phase, recipe

from histotransfer import predictions, provenance, store
from histotransfer.backends import compiled, process, shared
from histotransfer.cohort import labels
from histotransfer.definitions import Augmentation, Canvas, EndToEnd, Sgd
from histotransfer.networks import building, random_weights
from histotransfer.networks.trained import load_trained, trained_features
from histotransfer.segmentation import end_to_end, feature_maps, unet
from histotransfer.segmentation.extractor import TrainedLayer, build_extractor
from histotransfer.segmentation.gradients import MapGradients, MapStep
from histotransfer.segmentation.movement import Movement
from histotransfer.segmentation.network import attach, load
from histotransfer.tables import tile_pixels
from histotransfer.training import augmentation, checkpoints, optimisation, results
from histotransfer.training.network import build

CLASSES = ["normal", "tumour"]
#: Everything that varies pixels: a crop, turns and flips, a rotation between pixels, colours.
VARIED = Augmentation(quarter_turns=True, flip="horizontal", rotate=20.0, saturation=(0.75, 1.25), contrast=(0.9, 1.1))
#: A slide of 14 tiles: n normal, t tumour, . a tile without a label.
SLIDE = (" nnt ", "nn.tt", "n.tt ", "  tt ")
CROP_FROM, BATCH, N_VECTOR = 40, 4, 5


def recipe_of(**changes):
    """A recipe of end-to-end learning: one phase, by plain gradient descent."""
    first = phase(rate=changes.pop("rate", 0.1), epochs=changes.pop("epochs", 1), **changes.pop("phase", {}))
    return recipe(first, **{"batch": BATCH, "crop_from": CROP_FROM, "augmentation": VARIED, "keep": "last", **changes})


def small_network(folder, classes=CLASSES, seed=1):
    """Write a network of the parts that training leaves, with a trunk of three convolutions: soon compiled.

    Its trunk has no kinks: where rounding puts one of a million activations on another side of a ReLU's, two gradients
    differ by a thousandth of their norm, and both are right.
    """
    import keras

    layers = keras.layers
    given = x = keras.Input((32, 32, 3), name="preprocessed")
    for layer in (
        layers.Conv2D(6, 3, strides=2, use_bias=False, name="conv"),
        layers.BatchNormalization(name="conv_normal"),
        layers.Activation("swish", name="conv_swish"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.BatchNormalization(name="depthwise_normal"),
        layers.Conv2D(8, 1, strides=2, activation="swish", name="pointwise"),
    ):
        x = layer(x)
    trunk = keras.Model(given, x, name="trunk")
    random_weights.draw_weights(trunk.layers, seed=seed)
    tiles = keras.Input((CROP_FROM, CROP_FROM, 3), dtype="uint8", name="tiles")
    x = trunk(building.image_layers(START, px_stored=CROP_FROM)(tiles))
    above = [
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dropout(0.3, seed=1, name="dropout_1"),
        layers.Dense(N_VECTOR, activation="relu", name="head_1"),
        layers.Dropout(0.3, seed=2, name="dropout_2"),
        layers.Dense(len(classes), name="logits"),
        layers.Softmax(name="probability"),
    ]
    for layer in above:
        x = layer(x)
    random_weights.draw_weights(above, seed=seed)
    return write_networks(folder, keras.Model(tiles, x, name="network"), START, seed=seed)


def real_network(folder, means=None, seed=1, **changes):
    """Write a network of the table as training leaves it."""
    start = training_factory.start(**changes)
    network = build(
        start=start,
        start_name="net",
        recipe=recipe(
            head={"pool": "average", "dense": [N_VECTOR], "activation": "relu", "dropout": 0.3}, crop_from=CROP_FROM
        ),
        n_classes=len(CLASSES),
        weights_file=None,
        master_seed=seed,
        stream=("test",),
        means=means,
    )
    return write_networks(folder, network.model, start, seed=seed)


def write_networks(folder, model, start, seed=1):
    """Write a trained network, its statistics as after training, and a U-Net on its vectors."""
    generator = np.random.default_rng(seed)
    for layer in model.get_layer("trunk").layers:
        if type(layer).__name__ == "BatchNormalization":
            # no statistic is 0 or 1
            gamma, beta, mean, variance = layer.get_weights()
            drawn = generator.uniform(0.5, 1.5, (4, len(gamma))).astype(np.float32)
            layer.set_weights([drawn[0], beta + drawn[1] - 1, mean + drawn[2] - 1, variance * drawn[3]])
    results.save_network(str(folder / "extractor.keras"), model)
    n_classes = int(model.outputs[0].shape[-1])
    own = unet.build_unet(n_features=N_VECTOR, n_classes=n_classes, filters=4, depth=2, seed=seed)
    mean, sd = (np.float32(x) for x in ([0.1, 0.2, 0, 0.3, 0.4], [0.5, 2, 1, 0.25, 1]))
    results.save_network(str(folder / "unet.keras"), attach(own, mean=mean, sd=sd).model)
    return {"extractor": str(folder / "extractor.keras"), "segmentation": str(folder / "unet.keras"), "start": start}


def load_pair(files, how):
    return end_to_end.load_pair(
        extractor=files["extractor"],
        segmentation=files["segmentation"],
        source=TrainedLayer("net-tuned", files["start"], "net", "head_1"),
        px_stored=how.crop_from,
        n_classes=len(CLASSES),
        recipe=how,
    )


def write_pixels(folder, slides, px=CROP_FROM, changed=()):
    """Write the tiles of slides drawn as rows of characters; of a slide in `changed` those tiles are negatives."""
    paths = []
    for name, rows in slides.items():
        places = tiles_of(rows)
        generator = np.random.default_rng(0 if changed else len(paths))
        tiles = generator.integers(60, 120, (len(places), px, px, 3))
        for k, (tile, sign) in enumerate(places.items()):
            tiles[k, :, :: 2 + "nt.".index(sign), :] += 60
            tiles[k, ..., "nt.".index(sign)] += 50
            if tile in dict(changed).get(name, ()):
                tiles[k] = 255 - tiles[k]
        path = folder / "pixels" / f"{name}.h5"
        with store.writing_hdf5(path, {"status": "ok", "reason": "", "px": px, "slide": name, "digest": "d"}) as file:
            file["tiles"] = tiles.clip(0, 255).astype(np.uint8)
            store.write_texts(file, "tile", list(places))
            store.write_texts(file, "image", [name] * len(places))
        paths.append(str(path))
    return paths


def tiles_of(rows):
    return {f"{col}_{row}": sign for row, line in enumerate(rows) for col, sign in enumerate(line) if sign != " "}


def maps_of(folder, slides, **changes):
    """Return what reads the tiles of slides; of each its map, its map of labels and the places of its tiles."""
    tiles = tile_pixels.open_tiles(write_pixels(folder, slides, **changes))
    found = []
    for piece in feature_maps.layout(tiles.image, tiles.tile, size=8, per="slide", multiple=4):
        signs = tiles_of(slides[piece.image])
        of_tile = np.array(["nt.".index(signs[tiles.tile[k]]) for k in piece.rows])
        found.append((piece, feature_maps.label_map(np.where(of_tile == 2, -1, of_tile), piece), piece.rows))
    return tiles, found


def one_map(folder):
    tiles, [one] = maps_of(folder, {"a": SLIDE})
    return tiles, one


def gradients_of(pair, tiles, how, batch=None):
    return MapGradients(
        extractor=pair.extractor,
        logits=pair.segmentation.evaluated,
        tiles=tiles,
        varied=how.augmentation,
        batch=batch or how.batch,
    )


def drawn_for(pair, how, n, seed):
    """What varies the tiles of a map, drawn as is written: one generator a mini-batch."""
    sizes = [min(how.batch, n - start) for start in range(0, n, how.batch)]
    drawn = [
        augmentation.draw(
            how.augmentation,
            n=size,
            px_stored=pair.extractor.px_stored,
            px=pair.extractor.px,
            generator=np.random.default_rng([seed, number]),
        )
        for number, size in enumerate(sizes)
    ]
    return {key: np.concatenate([each[key] for each in drawn]) for key in drawn[0]}


def joined_loss(extractor, logits, prepared, piece, of_cells):
    """The loss of the joined network of all tiles at once, with Keras alone; cells without a label are never read."""
    from keras import ops

    vectors = extractor(prepared)
    n, size = len(piece.rows), piece.size
    cells = ops.convert_to_tensor(piece.canvas_row * size + piece.canvas_col, "int32")
    here = ops.concatenate([vectors, ops.ones((n, 1))], axis=1)
    canvas = ops.scatter(ops.expand_dims(cells, -1), here, (size * size, N_VECTOR + 1))
    found = ops.reshape(logits(ops.reshape(canvas, (1, size, size, N_VECTOR + 1))), (size * size, -1))
    places = np.flatnonzero(of_cells.ravel() >= 0)
    true = ops.one_hot(ops.convert_to_tensor(of_cells.ravel()[places], "int32"), len(CLASSES))
    return -ops.mean(ops.sum(true * ops.log_softmax(ops.take(found, places, axis=0)), axis=-1))


def plain_gradients(pair, prepared, piece, of_cells):
    """The loss and the gradients of the joined network, by the backend itself, in one pass."""
    extractor, logits = pair.extractor.trained, pair.segmentation.evaluated
    weights = [variable.value for variable in pair.trainable_variables]
    if process.name() == "jax":
        import jax

        n = len(extractor.trainable_variables)

        def loss(weights):
            def call(model, own):
                fixed = [variable.value for variable in model.non_trainable_variables]
                return lambda x: model.stateless_call(own, fixed, x, training=False)[0]

            return joined_loss(call(extractor, weights[:n]), call(logits, weights[n:]), prepared, piece, of_cells)

        value, found = jax.value_and_grad(loss)(weights)
    elif process.name() == "torch":
        import torch

        value = joined_loss(extractor, logits, prepared, piece, of_cells)
        found = torch.autograd.grad(value, weights)
        value = value.detach()
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = joined_loss(extractor, logits, prepared, piece, of_cells)
        found = tape.gradient(value, weights)
    return float(shared.to_array(value)), [shared.to_array(each) for each in found]


def prepared_tiles(pair, tiles, how, places, seed):
    drawn = drawn_for(pair, how, len(places), seed)
    return shared.to_array(pair.extractor.prepare(tiles.read(places), drawn))


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return small_network(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def real_files(tmp_path_factory):
    return real_network(tmp_path_factory.mktemp("real-networks"))


@pytest.mark.backend
@pytest.mark.parametrize("batch", [4, 14, 32])
def test_gradients_are_those_of_the_joined_network_in_every_layer(tmp_path, files, batch):
    how = recipe_of(batch=batch)
    pair = load_pair(files, how)
    tiles, one = one_map(tmp_path)
    # several mini-batches with a short one, exactly one, and less than one
    assert len(one[0].rows) == 14
    found = gradients_of(pair, tiles, how)(*one, 7)
    by = [shared.to_array(each) for each in (*found.by_extractor, *found.by_unet)]
    loss, expected = plain_gradients(pair, prepared_tiles(pair, tiles, how, one[2], 7), *one[:2])
    names = [variable.path for variable in pair.trainable_variables]
    kinds = {type(layer).__name__ for layer in pair.extractor.trained.get_layer("trunk").layers}
    assert "BatchNormalization" in kinds
    assert "Dropout" in {type(layer).__name__ for layer in pair.extractor.trained.layers}
    assert len(by) == len(names) == len(expected) > 30
    assert min(np.linalg.norm(each) for each in expected) > 0
    far = {name: relative(a, b) for name, a, b in zip(names, by, expected, strict=True)}
    assert max(far.values()) < 1e-4, far
    assert shared.to_array(found.scores)[0] == pytest.approx(loss, rel=1e-5)


def test_a_second_pass_that_sees_other_pixels_would_be_noticed(tmp_path, files, monkeypatch):
    how = recipe_of()
    pair = load_pair(files, how)
    tiles, one = one_map(tmp_path)
    _, expected = plain_gradients(pair, prepared_tiles(pair, tiles, how, one[2], 7), *one[:2])
    draw, drawn = augmentation.draw, []

    def recorded(*given, **named):
        drawn.append(draw(*given, **named))
        return drawn[-1]

    monkeypatch.setattr(augmentation, "draw", recorded)
    gradients_of(pair, tiles, how)(*one, 7)
    # four mini-batches, twice, and no two of a pass alike
    assert len(drawn) == 8
    for first, second in zip(drawn[:4], drawn[4:], strict=True):
        assert {key: value.tolist() for key, value in first.items()} == {k: v.tolist() for k, v in second.items()}
    assert len({each["corner"].tobytes() for each in drawn}) == 4

    drawn.clear()

    def other_second_pass(*given, **named):
        if len(drawn) >= 4:
            named["generator"] = np.random.default_rng(len(drawn))
        return recorded(*given, **named)

    monkeypatch.setattr(augmentation, "draw", other_second_pass)
    found = gradients_of(pair, tiles, how)(*one, 7)
    by = [shared.to_array(each) for each in found.by_extractor]
    far = [relative(a, b) for a, b in zip(by, expected[: len(by)], strict=True)]
    assert np.median(far) > 0.01


@pytest.mark.backend
def test_a_step_of_gradient_descent_at_rate_1_subtracts_the_gradient(tmp_path, files):
    how = recipe_of(rate=1.0, phase={"optimiser": Sgd(momentum=0.0), "rates": {"extractor": 0.5}})
    pair = load_pair(files, how)
    tiles, one = one_map(tmp_path)
    _, expected = plain_gradients(pair, prepared_tiles(pair, tiles, how, one[2], 3), *one[:2])
    before = [np.array(variable.numpy()) for variable in pair.trainable_variables]
    statistics = [np.array(variable.numpy()) for variable in pair.joined.non_trainable_variables]
    step, _ = step_of(pair, tiles, how, one)
    step(np.array([0]), None, {"seed": np.array([3])}, number=1, size=1.0, rate=1.0)
    n = len(pair.extractor.trained.trainable_variables)
    for k, (variable, old, gradient) in enumerate(zip(pair.trainable_variables, before, expected, strict=True)):
        change = np.array(variable.numpy()) - old
        # rounded to what float32 has about the weight
        rounding = np.linalg.norm(np.spacing(old))
        assert np.linalg.norm(change + gradient * (0.5 if k < n else 1)) < 1e-4 * np.linalg.norm(gradient) + rounding
    after = [np.array(variable.numpy()) for variable in pair.joined.non_trainable_variables]
    assert [a.tobytes() for a in after] == [b.tobytes() for b in statistics]


def step_of(pair, tiles, how, one):
    """Return a step on one map, as :class:`epochs.Training` has it made, and what counts what it moves."""
    [own] = how.phases
    factors = optimisation.group_factors(["extractor", "unet"], own)
    # in another order than the gradients come
    weights = list(pair.joined.trainable_variables)[::-1]
    of_extractor = {id(variable) for variable in pair.extractor.trained.trainable_variables}
    groups = ["extractor" if id(variable) in of_extractor else "unet" for variable in weights]
    import keras

    update = optimisation.update_of(own, factors, groups, [len(weight.shape) for weight in weights])
    slots = [
        [keras.Variable(np.zeros(weight.shape, np.float32), trainable=False) for _ in range(update.n_slots)]
        for weight in weights
    ]
    movement = Movement(pair.variables_by_group)
    step = MapStep(
        gradients=gradients_of(pair, tiles, how),
        maps=lambda number: one,
        trained=pair.trainable_variables,
        weights=weights,
        groups=groups,
        slots=slots,
        update=update,
        movement=movement,
    )
    return functools.partial(_stepped, step, update), (step, movement)


def _stepped(step, update, inputs, labels, drawn, *, number, size, rate):
    step(inputs, labels, drawn, number=number, size=update.step_size(rate, number - 1), rate=rate)


@pytest.mark.backend
@pytest.mark.parametrize("rate", [1e-9, 1e-3])
def test_the_share_of_weights_that_a_step_moves_is_counted_by_their_bits(tmp_path, files, rate):
    how = recipe_of(rate=rate, phase={"optimiser": ADAM, "rates": {"unet": 100.0}})
    pair = load_pair(files, how)
    tiles, one = one_map(tmp_path)
    step, (own, movement) = step_of(pair, tiles, how, one)

    def bits():
        return {
            group: np.concatenate([np.array(v.numpy()).ravel().view(np.int32) for v in variables])
            for group, variables in pair.variables_by_group.items()
        }

    states = [bits()]
    for number in (1, 2, 3):
        step(np.array([0]), None, {"seed": np.array([number])}, number=number, size=None, rate=rate)
        states.append(bits())
    told = own.tally()
    # three times the twelve labelled tiles
    assert told[2:].tolist() == [36, 0]
    rows = movement.rows(5)
    assert [(row["epoch"], row["group"], row["steps"]) for row in rows] == [(5, "extractor", 3), (5, "unet", 3)]
    for row in rows:
        of = [state[row["group"]] for state in states]
        shares = [(a != b).mean() for a, b in itertools.pairwise(of)]
        assert row["weights"] == len(of[0])
        assert (row["step_mean"], row["step_least"], row["step_most"]) == pytest.approx(
            (np.mean(shares), min(shares), max(shares)), rel=1e-12
        )
        assert row["since_start"] == pytest.approx((of[0] != of[-1]).mean(), rel=1e-12)
        assert row["step_mean"] > (0 if row["group"] == "unet" or rate > 1e-6 else -1)
    if rate == 1e-9:
        assert rows[0]["step_most"] < 0.2
    else:
        assert rows[0]["step_mean"] > 0.5
    # counted anew
    step(np.array([0]), None, {"seed": np.array([4])}, number=4, size=None, rate=rate)
    own.tally()
    assert [row["steps"] for row in movement.rows(6)] == [1, 1]


@pytest.mark.backend
def test_cells_without_a_label_are_in_no_loss_and_no_gradient(tmp_path, files):
    how = recipe_of(augmentation=None)
    pair = load_pair(files, how)
    tiles, (piece, of_cells, places) = one_map(tmp_path)
    gradients = gradients_of(pair, tiles, how)
    found = gradients(piece, of_cells, places, 0)
    # the loss by hand: the mean over the 12 labelled of 14 tiles
    maps = feature_maps.canvas_of(found.vectors, piece)
    [logits] = compiled.compiled_forward(pair.segmentation.evaluated, 0)(maps[None])
    own = feature_maps.gather(logits[0].astype(np.float64), piece)
    true = feature_maps.gather(of_cells, piece)
    of_true = own[np.arange(14), np.maximum(true, 0)] - np.log(np.exp(own).sum(axis=1))
    mean, total, correct, n = shared.to_array(found.scores).tolist()
    assert (n, correct) == (12, ((own.argmax(axis=1) == true) & (true >= 0)).sum())
    assert (mean, total) == pytest.approx((-of_true[true >= 0].mean(), -of_true[true >= 0].sum()), rel=1e-3)
    # whatever stands for no label
    again = gradients(piece, np.where(of_cells < 0, -7, of_cells), places, 0)
    for a, b in zip((*found.by_extractor, *found.by_unet), (*again.by_extractor, *again.by_unet), strict=True):
        assert shared.to_array(a).tobytes() == shared.to_array(b).tobytes()


def test_tiles_in_the_middle_of_stored_ones_are_what_the_network_itself_takes(tmp_path):
    # grey values less the means of the tiles that this network was trained on, which only its file knows
    files = real_network(tmp_path, rescale="training_mean", means=[101.5, 99.25, 120.0])
    how = recipe_of(augmentation=None)
    extractor = load_pair(files, how).extractor
    tiles = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    prepared = extractor.prepare(tiles, {"corner": np.full((3, 2), 4, np.int32)})
    model = load_trained(files["extractor"])
    np.testing.assert_array_equal(shared.to_array(prepared), shared.to_array(model.get_layer("image")(tiles)))
    np.testing.assert_allclose(
        shared.to_array(extractor.trained(prepared)), shared.to_array(extractor.evaluated(tiles)), rtol=1e-6
    )


def test_an_extractor_is_what_the_trained_network_has_up_to_the_layer(real_files):
    files = real_files
    model = load_trained(files["extractor"])
    tiles = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    for layer, width in (("head_1", 5), ("block_2", 8), ("block_0", 8), (None, 8)):
        extractor = build_extractor(files["extractor"], start=files["start"], layer=layer)
        expected = trained_features(model, files["start"], names=[layer or "block_2"]).predict(tiles, verbose=0)
        [expected] = expected if isinstance(expected, list) else [expected]
        assert extractor.n_features == width
        np.testing.assert_allclose(shared.to_array(extractor.evaluated(tiles)), expected, rtol=1e-6, atol=1e-7)
        names = [one.name for one in extractor.trained.get_layer("trunk").layers]
        # nothing above: it would be trained by no gradient
        assert ("block_1_expand" in names) == (layer != "block_0")
        assert "logits" not in [one.name for one in extractor.trained.layers]


@pytest.mark.backend
def test_tiles_beyond_the_canvas_are_in_no_gradient(tmp_path, files):
    how = recipe_of()
    pair = load_pair(files, how)
    wide = ("nnnnntttttt",)
    changed = {"a": [], "b": ["0_0", "1_0", "10_0"], "c": ["2_0"]}
    tiles, maps = maps_of(tmp_path, dict.fromkeys("abc", wide), changed=changed)
    gradients = gradients_of(pair, tiles, how)
    found = []
    for one in maps:
        # eleven tiles on eight cells
        assert [tiles.tile[k] for k in one[0].cut_off] == ["0_0", "1_0", "10_0"]
        by = gradients(*one, 1)
        found.append(b"".join(shared.to_array(each).tobytes() for each in (*by.by_extractor, *by.by_unet)))
    assert found[0] == found[1]
    assert found[0] != found[2]


# the stage

NAMES = ("model", "trained_extractor", "predictions", "history", "curve", "canvases", "moved")
SUFFIXES = {"model": ".keras", "trained_extractor": ".keras", "predictions": ".h5"}


def write_cohort(folder: Path, slides=None):
    """Write ten patients of one slide each, eight of them with tumour; return the inputs of a training."""
    if slides is None:
        slides = {f"slide{k}": (SLIDE if k < 8 else (" nn", "n..", "nnn")) for k in range(10)}
    pixels = write_pixels(folder, slides)
    rows, of_slides = [], []
    for name, drawn in slides.items():
        signs = tiles_of(drawn)
        classes = {"n": "normal", "t": "tumour", ".": ""}
        about = {"image": name, "slide": name, "patient": f"patient-of-{name}"}
        rows += [{**dict.fromkeys(labels.COLUMNS), **about, "tile": t, "label": classes[s]} for t, s in signs.items()]
        counts = {classes[sign]: list(signs.values()).count(sign) for sign in set(signs.values()) - {"."}}
        of_slides.append(cohort_factory.slides_row(name, patient=about["patient"], labels=counts, tiles=len(signs)))
    store.write_table(folder / "labels.tsv", labels.COLUMNS, rows)
    table = cohort_factory.write_slides_table(folder / "slides.tsv", of_slides)
    split_file, split = cohort_factory.split_by_patient(folder, table, test=0.2, validation=0.2, folds=2)
    return {
        **{"pixels": pixels, "labels": [str(folder / "labels.tsv")], "slides_table": table},
        **{"split_file": split_file, "split": split, "classes": CLASSES},
    }


def arguments(cohort, files, folder, how, **changes):
    written = {name: str(folder / f"{name}{SUFFIXES.get(name, '.tsv')}") for name in NAMES}
    return {
        **cohort,
        **files,
        **written,
        **{"start_name": "net", "network_name": "net-tuned", "layer": "head_1"},
        **{"classifier": EndToEnd("unet", how, filters=4, depth=2), "canvas": Canvas(8)},
        "factors": training_factory.factors("vectors", "end-to-end", dataset="biopsies", task="tumour"),
        **training_factory.settings(folder),
        **changes,
    }


def train(cohort, files, folder, how, **changes):
    training_factory.call(end_to_end.train_end_to_end, arguments(cohort, files, folder, how, **changes))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"))


#: Two phases with two optimisers, each going on where a checkpoint may lie between.
TWO_PHASES = {
    "phases": [
        phase(rate=1e-3, epochs=2, optimiser=ADAM, rates={"extractor": 0.1}),
        phase(rate=1e-3, epochs=1, rates={"extractor": 0.0}),
    ],
    "keep": "best",
    "curve": {"sets": ["test"], "per_epoch": 1, "tiles": None},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cohort, files):
    folder = tmp_path_factory.mktemp("trained")
    train(cohort, files, folder, recipe_of(**TWO_PHASES))
    return folder


@pytest.mark.backend
def test_a_training_that_is_interrupted_comes_to_the_same_bytes(tmp_path, cohort, files, trained, monkeypatch):
    given = (cohort, files, tmp_path, recipe_of(**TWO_PHASES))

    class KilledError(Exception):
        pass

    write, left = checkpoints.Checkpoint.write, [1, 2]

    def killed(self, state):
        write(self, state)
        if state.progress["epoch"] == left[0]:
            left.pop(0)
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoint, "write", killed)
        for _ in range(2):
            with pytest.raises(KilledError):
                train(*given)
    train(*given)
    for name in NAMES:
        own = f"{name}{SUFFIXES.get(name, '.tsv')}"
        digests = [provenance.content_digest(folder / own) for folder in (tmp_path, trained)]
        # HDF5 has the time of day in its bytes
        if name != "predictions":
            assert (tmp_path / own).read_bytes() == (trained / own).read_bytes(), own
        assert digests[0] == digests[1], own
    assert not list((tmp_path / ".resume").iterdir())


def test_what_a_training_leaves(trained, cohort):
    history = results.read_history(str(trained / "history.tsv"))
    # six slides in train, each a step
    assert [(row["on"], row["epoch"], row["step"]) for row in history] == [("maps", k, 6 * k) for k in (1, 2, 3)]
    moved = store.read_table(trained / "moved.tsv")
    assert [(row["epoch"], row["group"], row["steps"]) for row in moved] == [
        (str(epoch), group, "6") for epoch in (1, 2, 3) for group in ("extractor", "unet")
    ]
    # the second phase leaves the extractor
    assert float(moved[4]["step_most"]) == 0
    assert float(moved[4]["since_start"]) == float(moved[2]["since_start"]) > 0.5
    assert float(moved[5]["step_mean"]) > 0.5
    canvases = store.read_table(trained / "canvases.tsv")
    assert len(canvases) == 10
    assert {row["canvas"] for row in canvases} == {"8"}


def test_predictions_are_those_of_the_two_saved_networks(trained, cohort):
    held_out, _, said = predictions.read_predictions(str(trained / "predictions.h5"))
    sets = {row["group"]: row["set"] for row in store.read_table(cohort["split_file"])}
    assert {sets[group] for group in held_out.group} == {"test"}
    extractor = load_trained(trained / "trained_extractor.keras")
    segmenter = load_trained(trained / "model.keras")
    assert (extractor.input.dtype, extractor.output_shape) == ("uint8", (None, N_VECTOR))
    tiles = tile_pixels.open_tiles(cohort["pixels"])
    for slide in set(held_out.image):
        own = np.flatnonzero(np.array(tiles.image) == slide)
        names = [tiles.tile[k] for k in own]
        [piece] = feature_maps.layout([slide] * len(own), names, size="fit", per="slide", multiple=4)
        vectors = extractor.predict(tiles.read(own), verbose=0)
        maps = segmenter.predict(feature_maps.canvas_of(vectors[piece.rows], piece)[None], verbose=0)
        expected = dict(zip([names[k] for k in piece.rows], feature_maps.gather(maps[0], piece), strict=True))
        rows = [k for k, image in enumerate(held_out.image) if image == slide]
        assert {held_out.tile[k] for k in rows} == set(names)
        for k in rows:
            np.testing.assert_allclose(held_out.probability[k], expected[held_out.tile[k]], atol=1e-5)
    wanted = {"features": "vectors", "classifier": "end-to-end", "network": "net-tuned", "recipe": "tiny", "epochs": 3}
    assert {name: said[name] for name in wanted} == wanted
    kept = json.loads(said["kept_mib"])
    # 14 tiles of 5 values, twice; two maps of 8 x 8 cells of 6
    assert kept["tiles"] == 14
    assert kept["vectors"] * 2**20 == 2 * 4 * 14 * 5
    assert kept["maps"] * 2**20 == 2 * 4 * 64 * 6


def test_the_standardisation_of_the_start_is_kept(trained, files):
    kept, first = (load(str(path)) for path in (trained / "model.keras", files["segmentation"]))
    for own, other in zip(kept[1:], first[1:], strict=True):
        assert own.tobytes() == other.tobytes()


def test_a_class_without_labelled_tiles_in_train_is_named(tmp_path, files):
    slides = {f"slide{k}": (" nn", "n..", "nnn") for k in range(6)}
    cohort = write_cohort(tmp_path, slides)
    with pytest.raises(ValueError, match=r"tiles of each of the classes normal, tumour in train; found none of tumour"):
        train(cohort, files, tmp_path, recipe_of())


def test_networks_that_do_not_fit_are_named(tmp_path, cohort, files):
    def said(recipe=None, **changes):
        with pytest.raises(ValueError) as caught:
            train(cohort, files, tmp_path, recipe or recipe_of(), **changes)
        return str(caught.value)

    assert "head_1; found 'head_2'" in said(layer="head_2")
    assert "the U-Net must take the 8 values that block_2 of" in said(layer="block_2")
    assert "must be a U-Net on maps of features" in said(segmentation=files["extractor"])
    assert "a trained network has the layers image, trunk and a head" in said(extractor=files["segmentation"])
    assert "found 'mixed_float16'" in said(recipe=recipe_of(precision="mixed_float16"))
    other = small_network(tmp_path, classes=["a", "b", "c"])
    assert "must tell 2 classes; found one that tells 3" in said(segmentation=other["segmentation"])
    assert "tiles of 32 px are needed; found 40 px" in said(recipe=recipe_of(crop_from=None))


def test_memory_that_runs_out_names_the_recipe_and_its_batch(tmp_path, cohort, files, monkeypatch):
    def full(*given, **named):
        raise MemoryError("no 3 GiB left")

    monkeypatch.setattr(MapGradients, "_by_extractor", full)
    with pytest.raises(ValueError, match=r"with batch 4: set `recipes\.tiny\.batch` lower.*no 3 GiB left"):
        train(cohort, files, tmp_path, recipe_of())


def test_a_loss_that_is_not_finite_stops_with_epoch_and_step(tmp_path, cohort, files):
    how = recipe_of(rate=1e30, epochs=2)
    with pytest.raises(ValueError, match=r"vectors\+end-to-end: the loss must be finite; found one .* epoch 1, step 2"):
        train(cohort, files, tmp_path, how)
