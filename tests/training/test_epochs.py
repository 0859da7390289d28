"""The loop of training on a network of two layers: the best epoch, early stopping, what goes wrong, going on."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

import numpy as np
import pytest
import training_factory

from histotransfer import seeds
from histotransfer.backends import compiled
from histotransfer.training import checkpoints, epochs, progress, scoring
from histotransfer.training.learner import Learner, predict

CLASSES = ["a", "b"]
N_FEATURES = 4
#: A rate with which 30 epochs learn and then overfit.
OVERFITTING = 0.05


def learner(dropout=0.0, seed=0, prepare=None, values=None):
    """Return a learner of points in four dimensions, whose layers have fixed weights to begin with."""
    import keras

    generator = np.random.default_rng(seed)
    given = keras.Input((N_FEATURES,))
    hidden = keras.layers.Dense(6, activation="tanh", name="hidden")
    noise = keras.layers.Dropout(dropout, seed=3, name="noise")
    logits = keras.layers.Dense(len(CLASSES), name="logits")
    model = keras.Model(given, logits(noise(hidden(given))))
    for layer in (hidden, logits):
        layer.set_weights([generator.standard_normal(weight.shape) * 0.5 for weight in layer.get_weights()])
    values = points()[0] if values is None else values

    def read(rows, batch, generator):
        for start in range(0, len(rows), batch):
            yield values[rows[start : start + batch]]

    more = {} if prepare is None else {"prepare": prepare}
    return Learner(model, model, {"below": [hidden], "head": [noise, logits]}, read, **more)


def points(n=60, noise=1.0):
    generator = np.random.default_rng(7)
    labels = np.arange(n) % 2
    values = noise * generator.standard_normal((n, N_FEATURES))
    values[:, 0] += labels
    return values.astype(np.float32), labels.astype(np.int16)


def rows(train=30, validation=20, n=60):
    return {
        "train": np.arange(train),
        "validation": np.arange(train, train + validation),
        "test": np.arange(train + validation, n),
    }


def run(folder, recipe, *, own=None, of=None, labels=None):
    labels = points()[1] if labels is None else labels
    return training_factory.train(
        own or learner(), recipe, labels=labels, rows=of or rows(), classes=CLASSES, folder=folder
    )


def weights(of):
    return [np.array(variable.numpy()) for variable in of.trained.variables]


def overfitting(**changes):
    """A recipe under which the validation loss falls and rises again."""
    return training_factory.recipe(training_factory.phase(epochs=30, rate=OVERFITTING), **changes)


@pytest.mark.backend
def test_the_loss_is_the_cross_entropy_and_that_of_further_outputs_weighs_less():
    from keras import ops

    logits = [np.log(np.float32([[1, 3], [4, 4]])), np.log(np.float32([[1, 1], [7, 1]]))]
    given = [[ops.convert_to_tensor(each) for each in logits], ops.convert_to_tensor(np.int32([1, 0]))]
    objective, told, correct = (
        float(ops.convert_to_numpy(value)) for value in scoring.softmax_cross_entropy(0.3)(*given)
    )
    # probabilities of the true classes: 3/4 and 1/2; of the second output 1/2 and 7/8. Of equals the first is predicted
    assert told == pytest.approx(-np.log(3 / 4 * 1 / 2) / 2, rel=1e-5)
    assert objective == pytest.approx(told - 0.3 * np.log(1 / 2 * 7 / 8) / 2, rel=1e-5)
    assert correct == 2


def test_probabilities_of_large_logits():
    found = np.exp(scoring.log_probabilities(np.array([[1000.0, 1000.0], [-1e4, 0.0]])))
    assert found.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_the_best_epoch_is_kept_with_its_weights(tmp_path):
    own = learner()
    outcome = run(tmp_path, overfitting(), own=own)
    losses = [row["validation_loss"] for row in outcome.history]
    assert len(losses) == 30
    assert 1 < outcome.kept_epoch < 30
    assert losses[outcome.kept_epoch - 1] == min(losses)
    assert [row["epoch"] for row in outcome.history if row["kept"] == "yes"] == [outcome.kept_epoch]
    assert outcome.kept_by == "validation loss"
    held_out = rows()["validation"]
    of_true = scoring.log_probabilities(predict(own, held_out, 8))[np.arange(20), points()[1][held_out]]
    assert -of_true.mean() == pytest.approx(min(losses), rel=1e-12)


def test_each_epoch_says_what_its_steps_and_its_validation_came_to(tmp_path):
    outcome = run(tmp_path, overfitting(monitor="accuracy"))
    row = outcome.history[4]
    # four steps of up to 8 of 30 tiles
    assert (row["phase"], row["on"], row["train"], row["epoch"], row["step"]) == (1, "tiles", "all", 5, 20)
    assert row["rate"] == OVERFITTING
    assert row["accuracy"] * 30 == pytest.approx(round(row["accuracy"] * 30))
    values = [row["validation_accuracy"] for row in outcome.history]
    assert outcome.kept_epoch == 1 + values.index(max(values))
    assert outcome.kept_by == "validation accuracy"


def test_early_stopping_ends_a_phase_after_its_patience(tmp_path):
    outcome = run(tmp_path, overfitting(early_stopping=4))
    undisturbed = run(tmp_path / "other", overfitting())
    assert outcome.kept_epoch == undisturbed.kept_epoch
    assert len(outcome.history) == outcome.kept_epoch + 4
    losses = [[row["loss"] for row in each.history] for each in (outcome, undisturbed)]
    assert losses[0] == losses[1][: len(losses[0])]


def test_the_next_phase_begins_where_one_was_stopped_early_and_the_best_is_that_of_all(tmp_path):
    first = training_factory.phase(epochs=30, rate=OVERFITTING)
    second = training_factory.phase(epochs=3, rate=1e-6, train="head")
    outcome = run(tmp_path, training_factory.recipe(first, second, early_stopping=4))
    phases = [row["phase"] for row in outcome.history]
    stopped = phases.count(1)
    assert phases == [1] * stopped + [2] * 3
    # the second phase goes on from the last weights of the first, not from its best
    assert outcome.history[stopped]["validation_loss"] == pytest.approx(outcome.history[stopped - 1]["validation_loss"])
    assert outcome.kept_epoch == stopped - 4
    assert [row["epoch"] for row in outcome.history] == list(range(1, stopped + 4))


def test_without_validation_tiles_the_last_epoch_is_kept(tmp_path):
    own = learner()
    outcome = run(tmp_path, overfitting(), own=own, of=rows(validation=0))
    assert (outcome.kept_epoch, outcome.kept_by) == (30, "last epoch")
    assert outcome.history[-1]["kept"] == "yes"
    assert outcome.history[0]["validation_loss"] is None


def test_the_last_epoch_is_kept_where_the_recipe_says_so(tmp_path):
    outcome = run(tmp_path, overfitting(keep="last"))
    assert (outcome.kept_epoch, outcome.kept_by) == (30, "last epoch")
    assert outcome.history[0]["validation_loss"] is not None


def test_points_of_the_learning_curve(tmp_path):
    recipe = training_factory.recipe(
        training_factory.phase(epochs=2, rate=0.1), curve={"sets": ["test", "train"], "per_epoch": 2, "tiles": 15}
    )
    own = learner()
    before = -scoring.log_probabilities(predict(own, np.arange(50, 60), 8))
    outcome = run(tmp_path, recipe, own=own)
    found = [(point["step"], point["epoch"], point["set"], point["tiles"]) for point in outcome.curve]
    steps = [(0, 0.0), (2, 0.5), (4, 1.0), (6, 1.5), (8, 2.0)]
    assert found == [(*place, name, n) for place in steps for name, n in (("test", 10), ("train", 15))]
    assert outcome.curve[0]["loss"] == pytest.approx(before[np.arange(10), points()[1][50:]].mean())
    # drawing it decides nothing
    assert run(tmp_path / "b", replace(recipe, curve=None)).history == outcome.history


def test_a_group_with_rate_zero_and_those_below_what_is_trained_keep_their_bits(tmp_path):
    for phase in (training_factory.phase(rates={"below": 0.0}), training_factory.phase(train="head")):
        own = learner()
        before = weights(own)
        run(tmp_path / str(phase.train), training_factory.recipe(phase), own=own)
        after = weights(own)
        same = [a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True)]
        assert same[:2] == [True, True]
        assert not any(same[-2:])


@pytest.mark.backend
@pytest.mark.parametrize("after", [1, 3, 5])
def test_what_is_interrupted_comes_to_the_same_weights(tmp_path, after, monkeypatch):
    recipe = training_factory.recipe(
        training_factory.phase(epochs=3, rate=0.05, optimiser=training_factory.ADAM),
        training_factory.phase(epochs=3, rate=0.2, schedule={"kind": "cosine", "warm_up": 1.0, "floor": 0.0}),
        curve={"sets": ["test"], "per_epoch": 3, "tiles": None},
    )
    undisturbed = learner(dropout=0.3)
    expected = run(tmp_path / "undisturbed", recipe, own=undisturbed)

    class KilledError(Exception):
        pass

    write = checkpoints.Checkpoint.write

    def killed(self, state):
        write(self, state)
        if state.progress["epoch"] == after:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoint, "write", killed)
        with pytest.raises(KilledError):
            run(tmp_path / "interrupted", recipe, own=learner(dropout=0.3))
    # other weights: all that is needed stands in the checkpoint
    own = learner(dropout=0.3, seed=99)
    outcome = run(tmp_path / "interrupted", recipe, own=own)
    assert outcome == expected
    for found, wanted in zip(weights(own), weights(undisturbed), strict=True):
        assert found.tobytes() == wanted.tobytes()


def test_a_loss_that_is_not_finite_stops_with_epoch_step_and_rate(tmp_path):
    values = points()[0].copy()
    values[4] = np.nan
    recipe = training_factory.recipe(training_factory.phase(epochs=2, rate=0.25))
    order = seeds.generator(1, "training", "order", 1).permutation(np.arange(30))
    step = int(np.flatnonzero(order == 4)[0]) // 8 + 1
    with pytest.raises(ValueError) as caught:
        run(tmp_path, recipe, own=learner(values=values))
    assert f"found one that is not at epoch 1, step {step} of 4, rate 0.25" in str(caught.value)
    assert "Set a lower rate in `recipes.tiny`; no epoch was finished" in str(caught.value)


@pytest.mark.backend
def test_the_last_good_weights_are_kept_when_the_loss_is_no_number(tmp_path):
    good, bad = training_factory.phase(rate=0.1), training_factory.phase(epochs=5, rate=3e38)
    recipe = training_factory.recipe(good, bad)
    with pytest.raises(ValueError, match=r"epoch 2, (step|after step)") as caught:
        run(tmp_path, recipe)
    path = re.search(r"the weights of the last finished epoch are kept in (\S+)$", str(caught.value))[1]
    checkpoint = training_factory.checkpoint(tmp_path, recipe)
    assert path == str(checkpoint.path)
    kept = checkpoint.read()
    assert kept.progress["epoch"] == 1
    own = learner()
    run(tmp_path / "good", training_factory.recipe(good), own=own)
    assert all((a == b).all() for a, b in zip(kept.weights, weights(own), strict=True))


def too_large(inputs, drawn):
    from keras import ops

    # half a terabyte: 524,288 by 262,144 numbers
    wide = ops.tile(inputs, (1, 1 << 16))
    return inputs + 0.0 * ops.sum(ops.matmul(ops.transpose(wide), ops.concatenate([wide, wide], axis=1)))


@pytest.mark.backend
def test_memory_that_runs_out_names_the_batch_and_what_to_set(tmp_path):
    recipe = training_factory.recipe()
    with pytest.raises(ValueError, match=r"tuned: memory ran out .* batch 8: set `recipes.tiny.batch` lower"):
        run(tmp_path, recipe, own=learner(prepare=too_large))


def test_other_errors_stay_what_they_are(tmp_path):
    def broken(inputs, drawn):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        run(tmp_path, training_factory.recipe(), own=learner(prepare=broken))


@pytest.mark.parametrize(
    ("changes", "of", "message"),
    [
        ({"early_stopping": 3}, rows(validation=0), "recipes.tiny.early_stopping needs validation tiles"),
        ({}, {**rows(), "train": np.arange(0, 30, 2)}, "each of the classes a, b in train; found none of b"),
        (
            {"monitor": "balanced_accuracy"},
            {**rows(), "validation": np.arange(31, 50, 2)},
            "balanced_accuracy needs validation tiles of every class; found none of a",
        ),
        ({"phases": [training_factory.phase(rates={"below": 0, "head": 0})]}, rows(), "must train something"),
        ({"phases": [training_factory.phase(rates={"blok": 2})]}, rows(), "legal groups are below, head; found 'blok'"),
        ({"phases": [training_factory.phase(train="block_7")]}, rows(), "train: legal are all, head, below"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(tmp_path, changes, of, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, training_factory.recipe(**changes), of=of)


def test_a_line_of_progress_an_epoch_and_one_every_half_minute(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(progress, "PROGRESS_S", 0.0)
    recipe = training_factory.recipe(training_factory.phase(epochs=2, rate=0.1))
    with caplog.at_level(logging.INFO, "histotransfer"):
        run(tmp_path, recipe)
    lines = [record.getMessage() for record in caplog.records]
    number = r"\d+\.\d+"
    of_epochs = [line for line in lines if re.match(r"tuned, epoch \d of 2: ", line)]
    assert len(of_epochs) == 2
    assert re.fullmatch(
        rf"tuned, epoch 1 of 2: loss {number}, accuracy {number}, validation loss {number}, validation accuracy "
        rf"{number}, rate 0\.1, {number} images/s, \d+ s left",
        of_epochs[0],
    )
    assert of_epochs[1].endswith(" 0 s left")
    assert re.search(rf"tuned, epoch 1: step 2 of 4, {number} images/s, \d+ s left", "\n".join(lines))


@pytest.mark.backend
def test_steps_in_float16_that_overflow_move_nothing_and_halve_the_scale(tmp_path):
    from histotransfer.training import optimisation

    recipe = training_factory.recipe(training_factory.phase(rate=0.1), precision="mixed_float16")
    own = learner()
    # gradients that overflow float32 itself, of a loss that does not
    kernel, bias = own.trained.get_layer("logits").get_weights()
    own.trained.get_layer("logits").set_weights([kernel * 1e4, bias])
    before = weights(own)
    first, optimisation.FIRST_SCALE = optimisation.FIRST_SCALE, 2.0**127
    try:
        outcome = run(tmp_path, recipe, own=own, of=rows(train=8))
    finally:
        optimisation.FIRST_SCALE = first
    assert np.isfinite(outcome.history[0]["loss"])
    assert all((a == b).all() for a, b in zip(before, weights(own), strict=True))
    kept = training_factory.checkpoint(tmp_path, recipe).read()
    assert kept.slots[-1].tolist() == [2.0**126, 0]


@pytest.mark.parametrize("steps", [1, 3, 64])
def test_the_loss_of_an_epoch_is_the_mean_over_its_tiles_however_often_it_is_read(tmp_path, steps, monkeypatch):
    monkeypatch.setattr(epochs, "STEPS_BETWEEN_READINGS", steps)
    own = learner()
    train = rows()["train"]
    # steps so small that no weight moves: the last batch has 6 tiles, the others 8
    outcome = run(tmp_path, training_factory.recipe(training_factory.phase(rate=1e-30)), own=own)
    logits = predict(own, train, 8)
    true = points()[1][train]
    expected = -scoring.log_probabilities(logits)[np.arange(30), true].mean()
    assert outcome.history[0]["loss"] == pytest.approx(expected, rel=1e-6)
    assert outcome.history[0]["accuracy"] == pytest.approx((logits.argmax(axis=1) == true).mean())


# rows of many tiles


def map_learner(**changes):
    """Return a learner whose rows are maps of three tiles each, in the order of the tiles of :func:`points`."""
    own = learner()
    values, labels = points()
    of_maps = np.empty(20, object)
    for k in range(20):
        of_maps[k] = labels[3 * k : 3 * k + 3].astype(np.int64)
        # the last tile of every second map has no label
        if k % 2:
            of_maps[k][2] = -1

    class Step:
        """A step of tiles that is given maps."""

        def __init__(self, step):
            self.step, self.settle = step, step.settle

        def __call__(self, inputs, labels, drawn, **of_step):
            assert inputs.shape[1:] == (3, N_FEATURES)
            counts = labels >= 0
            self.step(inputs[counts], labels[counts], drawn, **of_step)

        def tally(self):
            return self.step.tally()

    def read(rows, batch, generator):
        for start in range(0, len(rows), batch):
            maps = rows[start : start + batch]
            yield np.stack([values[3 * k : 3 * k + 3] for k in maps]), np.stack([of_maps[k] for k in maps])

    def compile_step(*, groups, **moved):
        assert groups == ["below", "below", "head", "head"]
        loss = scoring.softmax_cross_entropy(0.0)
        return Step(compiled.compiled_train_step(own.trained, prepare=own.prepare, loss=loss, **moved))

    def evaluate(rows):
        tiles = np.concatenate([np.arange(3 * k, 3 * k + 3)[of_maps[k] >= 0] for k in rows])
        return predict(own, tiles, 8), labels[tiles]

    hooks = {"unit": "maps", "batch": 2, "compile_step": compile_step, "evaluate": evaluate, **changes}
    return Learner(own.trained, None, own.groups, read, **hooks), of_maps


def map_rows():
    return {"train": np.arange(10), "validation": np.arange(10, 16), "test": np.arange(16, 20)}


@pytest.mark.backend
def test_rows_may_be_maps_of_many_tiles_with_steps_and_numbers_of_their_own(tmp_path, caplog):
    own, labels = map_learner()
    recipe = training_factory.recipe(training_factory.phase(epochs=2, rate=1e-30), batch=64)
    with caplog.at_level(logging.INFO, "histotransfer"):
        outcome = run(tmp_path, recipe, own=own, of=map_rows(), labels=labels)
    # ten maps, two a step, though the recipe's batch is larger
    assert [(row["on"], row["step"]) for row in outcome.history] == [("maps", 5), ("maps", 10)]
    for name, tiles, prefix in (("train", 25, ""), ("validation", 15, "validation_")):
        logits, true = own.evaluate(map_rows()[name])
        assert len(true) == tiles
        expected = -scoring.log_probabilities(logits)[np.arange(tiles), true].mean()
        assert outcome.history[0][f"{prefix}loss"] == pytest.approx(expected, rel=1e-5)
        assert outcome.history[0][f"{prefix}accuracy"] == pytest.approx((logits.argmax(axis=1) == true).mean())
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "tuned: 10 maps to train on, 6 for validation, 5 steps an epoch" in said
    assert "all on maps" in said
    assert "maps/s" in said


@pytest.mark.parametrize("cap", [None, 25, 24, 10, 3, 1])
def test_the_curve_looks_at_whole_maps(tmp_path, cap):
    own, labels = map_learner()
    curve = {"sets": ["train"], "per_epoch": 1, "tiles": cap}
    recipe = training_factory.recipe(training_factory.phase(epochs=1, rate=0.1), curve=curve)
    outcome = run(tmp_path, recipe, own=own, of=map_rows(), labels=labels)
    [tiles] = {point["tiles"] for point in outcome.curve}
    if cap is None or cap >= 25:
        assert tiles == 25
    else:
        # maps have two or three labelled tiles: the next one would not fit, and one at least is looked at
        assert cap - 3 < tiles <= max(cap, 3)


def test_classes_are_counted_by_tiles_not_by_maps(tmp_path):
    own, labels = map_learner()
    for k in range(20):
        labels[k][labels[k] == 1] = -1
    with pytest.raises(ValueError, match="each of the classes a, b in train; found none of b"):
        run(tmp_path, training_factory.recipe(), own=own, of=map_rows(), labels=labels)


def test_notes_of_epochs_survive_a_kill(tmp_path):
    told = []

    def epoch_ended(epoch):
        told.append(epoch)
        if told == [1, 2]:
            raise KeyboardInterrupt
        return [{"epoch": epoch, "moved": 0.5}]

    own, labels = map_learner(epoch_ended=epoch_ended)
    recipe = training_factory.recipe(training_factory.phase(epochs=3, rate=0.1))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, recipe, own=own, of=map_rows(), labels=labels)
    outcome = run(tmp_path, recipe, own=own, of=map_rows(), labels=labels)
    assert told == [1, 2, 2, 3]
    assert outcome.notes == [{"epoch": epoch, "moved": 0.5} for epoch in (1, 2, 3)]


def test_maps_that_do_not_fit_in_memory_have_no_other_precision(tmp_path):
    class Full:
        def __call__(self, *arguments, **of_step):
            raise MemoryError

    own, labels = map_learner(compile_step=lambda **moved: Full())
    with pytest.raises(ValueError, match=r"batch 8: set `recipes.tiny.batch` lower; found: MemoryError"):
        run(tmp_path, training_factory.recipe(), own=own, of=map_rows(), labels=labels)
