"""U-Nets on maps: context that single tiles lack, labels that count and do not, a training killed, bad input."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import cohort_factory
import numpy as np
import pytest
import training_factory
from cohort_factory import Cohort, Tile
from training_factory import ADAM, begin, finished, phase

from histotransfer import predictions, provenance, store
from histotransfer.cohort import splits
from histotransfer.definitions import Augmentation, Canvas, Split, Unet
from histotransfer.feature_kinds import Reduction, SlideImage
from histotransfer.networks.trained import load_trained
from histotransfer.segmentation import cells as segmentation_cells
from histotransfer.segmentation import feature_maps, predicting, unet, unet_training
from histotransfer.segmentation.cells import FeatureCells, Turn, batches, mean_and_deviation, padded
from histotransfer.segmentation.maps import lay_out
from histotransfer.segmentation.network import attach, load
from histotransfer.tables import tile_table
from histotransfer.training import results
from histotransfer.training.scoring import log_probabilities
from histotransfer.training.tiles import rows_of_sets

CLASSES = ["normal", "tumour"]
N_FEATURES = 5
#: Standard deviations between the classes' features: of a single tile two in three are told right.
DISTANCE = 0.9
RECIPE = training_factory.recipe(
    phase(epochs=24, rate=0.006, optimiser=ADAM),
    batch=4,
    augmentation={"flip": "both", "quarter_turns": True},
    curve={"sets": ["train", "test"], "per_epoch": 1, "tiles": 200},
)
SHORT = replace(RECIPE, phases=(phase(epochs=2, rate=0.003, optimiser=ADAM),), curve=None)
CLASSIFIER = Unet(SHORT, filters=6, depth=2)
CANVAS = Canvas(12)
FEATURES = cohort_factory.FEATURES
OUTPUTS = {"model": ".keras", "predictions": ".h5", "history": ".tsv", "curve": ".tsv", "canvases": ".tsv"}
TRAIN = "segmentation.unet_training.train_unet"


def tissue(seed, size=10):
    """Return where a slide has tiles, and which of them lie in its one or two round regions of tumour."""
    generator = np.random.default_rng([9, seed])
    row, col = np.mgrid[:size, :size]
    inside = (row - size / 2) ** 2 + (col - size / 2) ** 2 < (0.55 * size) ** 2
    tumour = np.zeros((size, size), bool)
    for _ in range(generator.integers(1, 3)):
        y, x = generator.integers(2, size - 2, 2)
        tumour |= (row - y) ** 2 + (col - x) ** 2 <= generator.integers(4, 9)
    return inside, tumour & inside


def tiles_of(number, generator, *, unlabelled=0.1, shift=20.0):
    """Return a slide's tiles, ambiguous one by one; their features have other means and units than 0 and 1."""
    inside, tumour = tissue(number)
    made = []
    for row, col in np.argwhere(inside):
        values = generator.standard_normal(N_FEATURES)
        values[0] += DISTANCE * tumour[row, col]
        # the last feature is constant
        values = np.append((values * 3 + shift)[:-1], 7.0)
        label = "" if generator.random() < unlabelled else CLASSES[int(tumour[row, col])]
        name = f"image{number:02d}"
        made.append(Tile(f"{col + 3}_{row + 1}", name, name, f"patient{number:02d}", label, values.tolist()))
    return made


def slides_of(folder, n=30, **changes):
    generator = np.random.default_rng(4)
    return Cohort(folder, [tile for number in range(n) for tile in tiles_of(number, generator, **changes)])


def written(cohort, **split):
    inputs = cohort.write()
    split_file, definition = cohort_factory.split_by_patient(
        cohort.folder, inputs["slides_table"], **{"test": 0.2, "validation": 0.2, "folds": 2, **split}
    )
    return {**inputs, "split_file": split_file, "split": definition}


def arguments(inputs, folder, *, recipe=SHORT, classifier=CLASSIFIER, **changes):
    """Return the names of the rule ``train_unet``, with outputs in `folder`."""
    return {
        **inputs,
        **{name: str(folder / f"{name}{suffix}") for name, suffix in OUTPUTS.items()},
        "feature_set": FEATURES,
        "classifier": replace(classifier, recipe=recipe),
        "canvas": CANVAS,
        "classes": CLASSES,
        "factors": training_factory.factors("net", "unet", task="tumour"),
        **training_factory.settings(folder),
        **changes,
    }


def train_unet(inputs, folder, **changes):
    training_factory.call(unet_training.train_unet, arguments(inputs, folder, **changes))


def index_of(inputs, feature_set=FEATURES):
    return tile_table.read(
        features=inputs["features"],
        tables=cohort_factory.tables_of(inputs, inputs["split_file"]),
        split=inputs["split"],
        feature_set=feature_set,
        classes=CLASSES,
        master_seed=2018,
    )


def maps_of(inputs, canvas=CANVAS, multiple=4):
    table = index_of(inputs)
    drawn = tile_table.draw(table, tiles=None, tiles_per_class=None, split_seed=1, master_seed=2018)
    rows = rows_of_sets(table, drawn, seed=1, master_seed=2018)
    return table, lay_out(table, rows, canvas=canvas, multiple=multiple)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Thirty slides of one patient each: 18 to train on, 6 for validation, 6 to test with."""
    return written(slides_of(tmp_path_factory.mktemp("cohort")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, inputs):
    """The results of an undisturbed training: its folder and what it said."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, finished(begin(TRAIN, arguments(inputs, folder, recipe=RECIPE)))


# what is learnt


def test_the_map_tells_what_single_tiles_do_not(trained, inputs):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.preprocessing import StandardScaler

    table = index_of(inputs)
    used = table.label != -1
    train, test = used & (table.set == "train"), used & (table.set == "test")
    scale = StandardScaler().fit(table.rows(train).features)
    alone = LogisticRegression().fit(scale.transform(table.rows(train).features), table.label[train])
    by_tile = alone.predict_proba(scale.transform(table.rows(test).features))
    held_out, _, _ = predictions.read_predictions(str(trained[0] / "predictions.h5"))
    assert held_out.tile == table.tile[table.set == "test"].tolist()
    by_map = held_out.score[held_out.true != -1]
    true = table.label[test].astype(int)

    def precision(score):
        return average_precision_score(true, score[:, 1])

    # a tile in three is tumour; one by one they can hardly be told, and on the map they can
    assert 0.2 < true.mean() < 0.4
    assert precision(by_tile) < 0.65
    assert precision(by_map) > precision(by_tile) + 0.15
    assert (by_map.argmax(axis=1) == true).mean() > (by_tile.argmax(axis=1) == true).mean() + 0.05


def test_history_is_about_maps_and_counts_labelled_tiles(trained, inputs):
    rows = results.read_history(str(trained[0] / "history.tsv"))
    # 18 maps, 4 a step
    assert [(row["epoch"], row["step"], row["on"], row["train"]) for row in rows] == [
        (epoch, 5 * epoch, "maps", "all") for epoch in range(1, 25)
    ]
    table, maps = maps_of(inputs)
    n = len(maps.tiles["train"])
    assert n == ((table.set == "train") & (table.label != -1)).sum()
    for row in rows:
        assert row["accuracy"] * n == pytest.approx(round(row["accuracy"] * n), abs=1e-6)
    losses = [row["validation_loss"] for row in rows]
    assert [row["kept"] for row in rows].index("yes") == losses.index(min(losses))
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert "net+unet: 18 maps to train on, 6 for validation, 5 steps an epoch" in trained[1]
    assert "maps/s" in trained[1]


def test_the_curve_looks_at_whole_maps_of_no_more_tiles_than_it_may(trained, inputs):
    rows = results.read_curve(str(trained[0] / "curve.tsv"))
    _, maps = maps_of(inputs)
    counts = {int((maps.label[piece.rows] != -1).sum()) for piece in maps.whole}
    for name in ("train", "test"):
        own = [row for row in rows if row["set"] == name]
        assert [row["step"] for row in own] == list(range(0, 125, 5))
        [n] = {row["tiles"] for row in own}
        # slides have some 75 labelled tiles
        assert 2 * min(counts) <= n <= 200


def test_predictions_are_those_of_the_saved_network_on_maps_as_they_are(trained, inputs):
    held_out, out_of_fold, said = predictions.read_predictions(str(trained[0] / "predictions.h5"))
    validation = predictions.read_validation(trained[0] / "predictions.h5")
    assert out_of_fold is None
    model = load_trained(trained[0] / "model.keras")
    assert [layer.name for layer in model.layers] == ["maps", "front", "unet", "probability"]
    table, maps = maps_of(inputs)
    for found, name in ((held_out, "test"), (validation, "validation")):
        # every tile of the set, with a label or without
        assert len(found.tile) == (table.set == name).sum()
        assert 0 < (found.true == -1).sum() < len(found.tile)
        assert found.probability.sum(axis=1) == pytest.approx(np.ones(len(found.tile)), abs=1e-12)
        by_name = dict(zip(zip(found.image, found.tile, strict=True), found.probability, strict=True))
        for k in np.flatnonzero(maps.set == name):
            piece = maps.whole[k]
            features = table.rows(piece.rows).features
            raw = feature_maps.place(np.hstack([features, np.ones((len(features), 1), np.float32)]), piece)
            expected = feature_maps.gather(model.predict(raw[None], verbose=0)[0], piece)
            ours = [by_name[piece.image, table.tile[row]] for row in piece.rows]
            np.testing.assert_allclose(ours, expected, atol=2e-6)
    history = results.read_history(str(trained[0] / "history.tsv"))
    kept = next(row for row in history if row["kept"] == "yes")
    labelled = validation.true != -1
    assert (validation.predicted == validation.true)[labelled].mean() == pytest.approx(kept["validation_accuracy"])
    wanted = {
        **{"features": "net", "classifier": "unet", "network": "net", "weights": "imagenet", "untrained": False},
        **{"chosen": {"epoch": kept["epoch"]}, "recipe": "tiny", "epochs": 24, "kept_by": "validation loss"},
        **{"n_train_tiles": len(maps.tiles["train"]), "n_train_groups": 18, "n_features": N_FEATURES},
        **{"filters": 6, "depth": 2, "standardise": True, "parameters": model.count_params()},
    }
    assert {name: said[name] for name in wanted} == wanted
    assert json.loads(said["canvas"]) == {"size": 12, "per": "slide"}
    assert json.loads(said["columns"]) == [["net", "last", N_FEATURES]]
    assert list((trained[0] / ".resume").iterdir()) == []


@pytest.mark.faults
def test_a_training_that_is_killed_comes_to_the_same_bits(trained, inputs, tmp_path):
    given = arguments(inputs, tmp_path, recipe=RECIPE)
    epochs_seen = random.Random(time.time_ns()).randint(1, 22)
    job = begin(TRAIN, given)
    for line in job.stdout:
        if f"epoch {epochs_seen} of 24: loss" in line:
            break
    os.kill(job.pid, signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    job.stdout.close()
    assert not (tmp_path / "model.keras").exists()
    assert "goes on after epoch" in finished(begin(TRAIN, given)) or epochs_seen == 1
    for name, suffix in OUTPUTS.items():
        ours, undisturbed = tmp_path / f"{name}{suffix}", trained[0] / f"{name}{suffix}"
        assert provenance.content_digest(ours) == provenance.content_digest(undisturbed), name


# what counts and what does not


def test_tiles_without_a_label_are_context(inputs, tmp_path):
    """No loss is taken of them, and yet what stands at their cells is seen."""
    _, maps = maps_of(inputs)
    assert 0.05 < (maps.label == -1).mean() < 0.2
    moved = slides_of(tmp_path / "moved")
    for tile in moved.tiles:
        if not tile.label:
            tile.features = [value + 5 for value in tile.features[:-1]] + [7.0]
    losses = []
    for name, given in (("a", inputs), ("b", written(moved))):
        train_unet(given, tmp_path / name)
        losses.append(results.read_history(str(tmp_path / name / "history.tsv"))[-1]["loss"])
    assert losses[0] != losses[1]


def test_a_label_that_is_masked_is_as_one_that_was_never_there(tmp_path):
    """Another class for training tiles that the canvas cuts off changes no loss, no metric and no weight."""
    names = ("a", "b")
    for name in names:
        cohort = slides_of(tmp_path / name, n=12, unlabelled=0.0)
        given = written(cohort)
        _, maps = maps_of(given, canvas=Canvas(8))
        table = index_of(given)
        off = {(table.image[row], table.tile[row]) for piece in maps.trained for row in piece.cut_off}
        train = {image for image, own in zip(table.image, table.set, strict=True) if own == "train"}
        assert off
        if name == "b":
            for tile in cohort.tiles:
                if (tile.image, tile.tile) in off and tile.image in train:
                    tile.label = CLASSES[1 - CLASSES.index(tile.label)]
            given = {**given, "labels": cohort.write()["labels"]}
        train_unet(given, tmp_path / name, canvas=Canvas(8))
    histories = [results.read_history(str(tmp_path / name / "history.tsv")) for name in names]
    assert histories[0] == histories[1]
    scores = [predictions.read_predictions(str(tmp_path / name / "predictions.h5"))[0].score for name in names]
    assert scores[0].tobytes() == scores[1].tobytes()


def test_a_map_without_a_label_is_not_trained_on_but_predicted(tmp_path, caplog):
    cohort = slides_of(tmp_path, n=12)
    given = written(cohort)
    table = index_of(given)
    bare = {sorted(set(table.image[table.set == name]))[0]: name for name in ("train", "validation", "test")}
    for tile in cohort.tiles:
        tile.label = "" if tile.image in bare else tile.label
    given = {**given, "labels": cohort.write()["labels"]}
    table, maps = maps_of(given)
    for image, name in bare.items():
        [k] = [k for k, piece in enumerate(maps.whole) if piece.image == image]
        assert maps.set[k] == name
        assert k not in maps.rows[name]
    train_unet(given, tmp_path / "run")
    held_out, _, _ = predictions.read_predictions(str(tmp_path / "run" / "predictions.h5"))
    [image] = [image for image, name in bare.items() if name == "test"]
    assert image in held_out.image
    assert len(held_out.tile) == (table.set == "test").sum()
    rows = results.read_history(str(tmp_path / "run" / "history.tsv"))
    assert np.isfinite([row["loss"] for row in rows]).all()


def test_a_canvas_that_is_too_small_cuts_off_in_training_and_says_so_and_all_tiles_are_predicted(tmp_path, caplog):
    given = written(slides_of(tmp_path, n=12))
    canvas = Canvas(8)
    table, maps = maps_of(given, canvas=canvas)
    with caplog.at_level("WARNING", "histotransfer"):
        train_unet(given, tmp_path / "run", canvas=canvas)
    rows = store.read_table(tmp_path / "run" / "canvases.tsv")
    assert [row["image"] for row in rows] == sorted(set(table.image))
    # of the round tissue of 10 cells the outermost row or column on each side
    inside, _ = tissue(0)
    assert {(row["piece"], row["tiles"], row["canvas"]) for row in rows} == {("1", str(inside.sum()), "8")}
    off = int(inside.sum() - inside[1:9, 1:9].sum())
    assert {row["cut_off"] for row in rows} == {str(off)}
    [line] = [record.getMessage() for record in caplog.records if "larger than their canvas" in record.getMessage()]
    assert f"12 of 12 maps are larger than their canvas of 8 cells; {12 * off} tiles are cut off" in line
    assert f"most ({off}) of piece 1 of image00; see" in line
    held_out, _, said = predictions.read_predictions(str(tmp_path / "run" / "predictions.h5"))
    assert len(held_out.tile) == (table.set == "test").sum()
    cut = np.concatenate([piece.cut_off for piece in maps.trained])
    labelled = (table.set == "train") & (table.label != -1)
    assert said["n_train_tiles"] == labelled.sum() - labelled[cut].sum()
    # predicted on canvases of 12 cells, the least multiple of 4 that holds 10
    assert {piece.size for piece in maps.whole} == {12}


def test_pieces_are_maps_of_their_own(tmp_path):
    cohort = slides_of(tmp_path, n=12)
    for tile in cohort.tiles:
        col, row = map(int, tile.tile.split("_"))
        # the lower half of each slide stands apart
        tile.tile = f"{col}_{row + 20 * (row > 5)}"
    given = written(cohort)
    for canvas in (Canvas(12, "piece"), Canvas("fit", "piece")):
        run = tmp_path / str(canvas.size)
        train_unet(given, run, canvas=canvas)
        rows = store.read_table(run / "canvases.tsv")
        assert [row["piece"] for row in rows] == ["1", "2"] * 12
        assert {row["canvas"] for row in rows} == {"12"}
        held_out, _, _ = predictions.read_predictions(str(run / "predictions.h5"))
        assert len(held_out.tile) == (index_of(given).set == "test").sum()


def test_canvases_that_fit_train_maps_of_several_sizes_together(tmp_path):
    cohort = slides_of(tmp_path, n=12)
    # half of the slides are cut down to their middle
    cohort.tiles = [
        tile
        for tile in cohort.tiles
        if int(tile.image[-2:]) % 2
        or all(3 <= int(at) - low <= 6 for at, low in zip(tile.tile.split("_"), (3, 1), strict=True))
    ]
    given = written(cohort)
    canvas = Canvas("fit")
    _, maps = maps_of(given, canvas=canvas)
    assert {piece.size for piece in maps.trained} == {4, 12}
    train_unet(given, tmp_path / "run", canvas=canvas)
    rows = results.read_history(str(tmp_path / "run" / "history.tsv"))
    assert rows[-1]["loss"] < rows[0]["loss"]


# maps as they are made


def test_features_are_standardised_by_the_training_maps_and_empty_cells_stay_zero(inputs):
    table, maps = maps_of(inputs)
    cells = FeatureCells(table)
    pieces = [maps.trained[k] for k in maps.rows["train"]]
    mean, sd = mean_and_deviation(cells.values, pieces)
    values = table.rows(table.set == "train").features
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(sd[:-1], values.std(axis=0)[:-1], rtol=1e-5)
    # a feature that is constant is moved to 0 and not divided
    assert (mean[-1], sd[-1]) == (7, 1)
    network = attach(unet.build_unet(n_features=N_FEATURES, n_classes=2, filters=2, depth=2, seed=1), mean=mean, sd=sd)
    piece = pieces[0]
    made = cells.map(piece)
    found = np.array(network.front(made[None]))[0]
    np.testing.assert_allclose(
        feature_maps.gather(found, piece), (table.rows(piece.rows).features - mean) / sd, rtol=1e-5, atol=1e-5
    )
    assert (made[..., -1] == 1).sum() == len(piece.rows)
    assert not found[made[..., -1] == 0].any()


def test_features_too_large_to_hold_are_read_map_by_map_and_are_the_same(inputs, monkeypatch):
    table, maps = maps_of(inputs)
    held = FeatureCells(table)
    monkeypatch.setattr(segmentation_cells, "_HELD_BYTES", 0)
    read = FeatureCells(table)
    for piece in maps.trained[:3]:
        assert np.array_equal(held.map(piece), read.map(piece))


@pytest.mark.parametrize(
    "augmentation", [None, Augmentation(flip="horizontal"), Augmentation(flip="both", quarter_turns=True)]
)
def test_turns_and_flips_move_a_map_and_its_labels_alike(inputs, augmentation):
    table, maps = maps_of(inputs)
    cells = FeatureCells(table)
    rows = maps.rows["train"]
    moved = 0
    seen = batches(cells, maps, augmentation, rows, 4, np.random.default_rng(5))
    for start, (inputs_of, labels_of) in zip(range(0, len(rows), 4), seen, strict=True):
        for k, one, own in zip(rows[start:], inputs_of, labels_of, strict=False):
            piece = maps.trained[k]
            # where each tile went is told by its features
            plain = {
                tuple(values): label
                for values, label in zip(
                    np.round(cells.values(piece.rows), 3).tolist(), maps.label[piece.rows].tolist(), strict=True
                )
            }
            places = np.argwhere(one[..., -1] == 1)
            assert len(places) == len(piece.rows)
            for row, col in places:
                assert plain[tuple(np.round(one[row, col, :-1], 3).tolist())] == own[row, col]
            assert (own[one[..., -1] == 0] == -1).all()
            moved += not np.array_equal(one, cells.map(piece))
    assert (moved > 0) == (augmentation is not None)


def test_a_turn_is_against_the_clock_and_comes_before_the_flips():
    map_ = np.array([[1, 2], [3, 4]])
    assert Turn(1).apply(map_).tolist() == [[2, 4], [1, 3]]
    assert Turn(1, left_right=True).apply(map_).tolist() == [[4, 2], [3, 1]]
    assert Turn(up_down=True).apply(map_).tolist() == [[3, 4], [1, 2]]


def test_maps_of_a_batch_stand_in_the_middle_of_the_largest():
    small, large = np.ones((2, 2, 1), np.float32), np.full((5, 5, 1), 2, np.float32)
    maps, own = padded([small, large], [np.zeros((2, 2), np.int32), np.ones((5, 5), np.int32)], 0)
    assert maps[0, ..., 0].tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    assert (own[0] == maps[0, ..., 0] - 1).all()
    assert (own[1] == 1).all()
    # of pictures with two pixels a cell
    pictures = [np.zeros((4, 4, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)]
    batch, own = padded(pictures, [np.zeros((2, 2), np.int32), np.zeros((4, 4), np.int32)], 255)
    assert (batch[0, 2:6, 2:6] == 0).all()
    assert (batch[0] == 255).sum() == 3 * (64 - 16)
    assert own.shape == (2, 4, 4)


def test_what_was_saved_is_taken_apart(trained, tmp_path):
    network, mean, sd = load(str(trained[0] / "model.keras"))
    assert network.name == "unet"
    assert mean.shape == sd.shape == (N_FEATURES,)
    again = attach(network, mean=mean, sd=sd)
    results.save_network(str(tmp_path / "again.keras"), again.model)
    assert (tmp_path / "again.keras").read_bytes() == (trained[0] / "model.keras").read_bytes()
    made = np.random.default_rng(0).normal(20, 3, (1, 8, 8, N_FEATURES + 1)).astype(np.float32)
    made[..., -1] = np.arange(64).reshape(8, 8) % 3 == 0
    whole = load_trained(trained[0] / "model.keras")
    assert np.array_equal(np.array(again.model(made)), np.array(whole(made)))
    plain = attach(unet.build_unet(n_features=2, n_classes=2, filters=2, depth=1, seed=1))
    results.save_network(str(tmp_path / "plain.keras"), plain.model)
    assert load(str(tmp_path / "plain.keras"))[1:] == (None, None)
    picture = attach(unet.build_unet(n_features=3, n_classes=2, filters=2, depth=1, cell_px=2, seed=1), picture=True)
    results.save_network(str(tmp_path / "picture.keras"), picture.model)
    with pytest.raises(ValueError, match=r"picture\.keras: must be a U-Net on maps of features"):
        load(str(tmp_path / "picture.keras"))


# pictures


def pictures_of(folder, inputs, cell_px=4):
    """Write slide images on which tumour is darker, for the tiles of a cohort."""
    table = index_of(inputs)
    paths = []
    for image in sorted(set(table.image)):
        _, tumour = tissue(int(image[-2:]))
        own = table.tile[table.image == image].tolist()
        noise = np.random.default_rng(int(image[-2:]))
        pixels = np.full((12 * cell_px, 14 * cell_px, 3), 255, np.uint8)
        for tile in own:
            col, row = map(int, tile.split("_"))
            level = 170 - 25 * tumour[row - 1, col - 3]
            place = pixels[row * cell_px : (row + 1) * cell_px, col * cell_px : (col + 1) * cell_px]
            place[:] = (level + noise.normal(0, 30, place.shape)).clip(0, 255)
        said = {"slide": image, "status": "ok", "reason": "", "cell_px": cell_px, "tiles_digest": image}
        path = folder / "images" / f"{image}.h5"
        with store.writing_hdf5(path, said) as file:
            file["pixels"] = pixels
            store.write_texts(file, "tile", own)
            store.write_texts(file, "image", [image] * len(own))
        paths.append(str(path))
    return paths


def test_slides_at_low_resolution_are_learnt_from_and_the_same_tiles_are_predicted(inputs, tmp_path):
    feature_set = SlideImage(Reduction(4))
    given = {**inputs, "features": pictures_of(tmp_path, inputs)}
    recipe = replace(SHORT, phases=(phase(epochs=16, rate=0.003, optimiser=ADAM),))
    run = tmp_path / "run"
    # a canvas of 11 cells of 4 px can be halved twice
    canvas = Canvas(11)
    train_unet(
        given,
        run,
        feature_set=feature_set,
        recipe=recipe,
        classifier=replace(CLASSIFIER, filters=8),
        canvas=canvas,
        factors=training_factory.factors("tissue-image", "unet", task="tumour"),
    )
    held_out, _, said = predictions.read_predictions(str(run / "predictions.h5"))
    table = index_of(inputs)
    assert held_out.tile == table.tile[table.set == "test"].tolist()
    assert (said["weights"], said["n_features"], said["standardise"]) == ("none: the slide itself, reduced", 3, False)
    assert json.loads(said["columns"]) == [["the slide", "reduced", 3]]
    labelled = held_out.true != -1
    share = (held_out.true[labelled] == 0).mean()
    assert (held_out.predicted == held_out.true)[labelled].mean() > share + 0.1
    # the saved network takes the slide's own pixels
    model = load_trained(run / "model.keras")
    assert (model.inputs[0].dtype, model.layers[0].name) == ("uint8", "pictures")
    table = index_of(given, feature_set)
    image = held_out.image[0]
    rows = np.flatnonzero(table.image == image)
    [piece] = feature_maps.layout(table.image[rows], table.tile[rows], size=11, per="slide", multiple=1)
    picture = table.matrix.window(image, first_row=piece.first_row, first_col=piece.first_col, size=11)
    expected = feature_maps.gather(model.predict(picture[None], verbose=0)[0], piece)
    ours = held_out.probability[[held_out.image[k] == image for k in range(len(held_out.image))]]
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_glass_is_zero_and_black_is_one():
    network = attach(unet.build_unet(n_features=3, n_classes=2, filters=2, depth=1, cell_px=2, seed=1), picture=True)
    picture = np.full((1, 4, 4, 3), 255, np.uint8)
    picture[0, 0, 0] = [0, 51, 102]
    found = np.array(network.front(picture))
    np.testing.assert_allclose(found[0, 0, 0], [1.0, 0.8, 0.6], atol=1e-6)
    assert np.abs(found[0, 1:]).max() < 1e-6


# other backends


@pytest.mark.backend
def test_an_epoch_on_maps_is_told_by_labelled_tiles_and_moves_the_network(inputs, tmp_path):
    table, maps = maps_of(inputs)
    cells = FeatureCells(table)
    mean, sd = mean_and_deviation(cells.values, [maps.trained[k] for k in maps.rows["train"]])
    network = attach(unet.build_unet(n_features=N_FEATURES, n_classes=2, filters=4, depth=1, seed=1), mean=mean, sd=sd)
    predictor = predicting.Predictor(network.evaluated, cells, maps, 4)
    learner = unet_training.learner_of(network, cells, maps, predictor, augmentation=None)
    rows = {"train": maps.rows["train"][:4], "validation": np.empty(0, int), "test": np.empty(0, int)}
    before, true = predictor.evaluate(rows["train"])

    def run(folder, **changes):
        recipe = training_factory.recipe(phase(**changes), batch=4)
        return training_factory.train(learner, recipe, labels=maps.labels, rows=rows, classes=CLASSES, folder=folder)

    # a step so small that nothing moves is told the loss before it, over labelled tiles alone
    outcome = run(tmp_path / "still", epochs=1, rate=1e-30)
    expected = -log_probabilities(before)[np.arange(len(true)), true].mean()
    assert outcome.history[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert outcome.history[0]["accuracy"] == pytest.approx((before.argmax(axis=1) == true).mean())
    outcome = run(tmp_path / "moving", epochs=12, rate=0.01, optimiser=ADAM)
    assert outcome.history[-1]["loss"] < 0.8 * expected


# bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canvas": Canvas(10)}, "canvas.size must be fit, .* a multiple of 4, .* found 10"),
        ({"canvas": {"size": 12, "per": "patient"}}, "canvas.per must be one of slide, piece; found 'patient'"),
        ({"recipe": replace(SHORT, precision="mixed_bfloat16")}, "recipes.tiny.precision: maps are trained in float32"),
        (
            {"recipe": replace(SHORT, augmentation=Augmentation(saturation=(0.5, 2)))},
            "recipes.tiny.augmentation: maps are varied by flip and quarter_turns; found saturation",
        ),
        ({"recipe": replace(SHORT, phases=(phase(rates={"head": 2.0}),))}, "legal groups are unet; found 'head'"),
        ({"classes": ["normal", "tumour", "stroma"]}, "tiles of each of the classes .* found none of stroma"),
        ({"classifier": replace(CLASSIFIER, filters=0)}, "a U-Net's filters must be 1 or more; found 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(inputs, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train_unet(inputs, tmp_path, **changes)
    assert not (tmp_path / "model.keras").exists()


def test_a_slide_in_several_sets_is_refused(tmp_path):
    cohort = slides_of(tmp_path, n=4)
    given = cohort.write()
    split = Split("tile", share_groups="to try it", test=0.3, folds=2)
    path = str(tmp_path / "split.tsv")
    splits.assign_groups(
        slides_table=given["slides_table"],
        tile_files=[str(path) for path in Path(given["features"][0]).parent.glob("*.h5")],
        split_file=path,
        split=split,
        split_seed=1,
        master_seed=2018,
    )
    given = {**given, "split_file": path, "split": split}
    with pytest.raises(ValueError, match="a slide must lie in one set: take a split by patient or by slide; found"):
        train_unet(given, tmp_path)


def test_tiles_that_lie_on_no_grid_are_refused(tmp_path):
    cohort = slides_of(tmp_path, n=6)
    for k, tile in enumerate(cohort.tiles):
        tile.tile = str(k)
    with pytest.raises(ValueError, match="a map needs tiles whose ids are COL_ROW of a grid; found tile"):
        train_unet(written(cohort), tmp_path)
