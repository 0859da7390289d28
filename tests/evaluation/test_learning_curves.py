"""Learning curves: what each network had reached when, by hand."""

from __future__ import annotations

import learning_factory
import pytest
from learning_factory import write_curve, write_history, write_predictions

from histotransfer import store
from histotransfer.definitions import Draw, Factors
from histotransfer.evaluation import learning_curves
from histotransfer.settings import TrainedModel

RIGHT, WRONG = ("epithelial", "epithelial"), ("epithelial", "fibroblast")


def of(seed=1):
    factors = Factors("nuclei", "cell-type", "by-image", Draw(seed), "fine", "softmax")
    return TrainedModel(factors, "fine", "VGG16", start="vgg16", recipe="bayramoglu2016", transfer=True)


def tabulate(folder, networks, of_each, split="by-image"):
    """Tabulate networks given as (rows of the history, rows of the curve, pairs, attributes); return the tables."""
    paths = {"histories": [], "curves": [], "predictions": []}
    for number, (history, curve, pairs, said) in enumerate(networks):
        paths["histories"].append(str(write_history(folder / f"{number}.history.tsv", history)))
        paths["curves"].append(str(write_curve(folder / f"{number}.curve.tsv", curve)))
        about = {"features": of_each[number].network, "seed": of_each[number].factors.seed, **said}
        paths["predictions"].append(str(write_predictions(folder / f"{number}.h5", pairs, **about)))
    written = {name: folder / f"{name}.csv" for name in ("epochs", "steps", "table")}
    learning_curves.tabulate(**paths, trainings=of_each, split=split, **written)
    return {name: store.read_csv(path) for name, path in written.items()}


HISTORY = [{"epoch": 1, "step": 4}, {"epoch": 2, "step": 8, "kept": "yes"}, {"epoch": 3, "step": 12}]
CURVE = [
    (0, 0.0, "test", 20, 1.1, 0.25),
    (2, 0.5, "test", 20, 0.9, 0.5),
    (4, 1.0, "train", 20, 0.8, 0.95),
    (4, 1.0, "test", 20, 0.8, 0.6),
    (8, 2.0, "test", 20, 0.7, 0.85),
    (10, 2.5, "test", 20, 0.7, 0.9),
    (12, 3.0, "test", 20, 0.7, 0.9),
]


def test_first_last_kept_and_highest_by_hand(tmp_path):
    # 3 of 4 labelled tiles right after the second epoch, which validation chose
    pairs = [RIGHT, RIGHT, WRONG, ("", "fibroblast"), RIGHT]
    tables = tabulate(tmp_path, [(HISTORY, CURVE, pairs, {"kept_epoch": 2, "epochs": 3})], [of()])
    (row,) = tables["table"]
    assert list(row) == list(learning_curves.ACCURACY_COLUMNS)
    assert (row["first_epoch"], row["last_epoch"], row["kept"], row["highest"]) == ("0.6", "0.9", "0.75", "0.9")
    # the first of two equal points
    assert (row["highest_at"], row["epochs"], row["kept_epochs"], row["seeds"]) == ("2.5", "3", "2", "1")
    assert (row["transfer"], row["weights"], row["train_tiles"]) == ("yes", "trained from imagenet", "1200")
    assert (row["kept_by"], row["curve_tiles"], row["test_tiles"]) == ("validation loss", "20", "4")
    assert row["note"] == "first, last and highest accuracy are of a sample of the test tiles, drawn by the master seed"
    assert [row["epoch"] for row in tables["epochs"]] == ["1", "2", "3"]
    assert (tables["epochs"][1]["kept"], tables["epochs"][1]["network"]) == ("yes", "fine")
    assert [(row["step"], row["set"], row["accuracy"]) for row in tables["steps"]][3] == ("4", "test", "0.6")


def test_the_last_epoch_is_the_result_where_it_is_kept(tmp_path):
    said = {"kept_epoch": 3, "epochs": 3, "kept_by": "last epoch"}
    (row,) = tabulate(tmp_path, [(HISTORY, CURVE, [RIGHT, WRONG], said)], [of()])["table"]
    # of all test tiles, and not of the sample that the curve is of
    assert (row["last_epoch"], row["kept"], row["highest"]) == ("0.5", "0.5", "0.9")
    assert row["kept_by"] == "last epoch"


def test_seeds_are_averaged_and_what_differs_stands_in_turn(tmp_path):
    curve = [row for row in CURVE if row[2] == "test"]
    lower = [(step, epoch, part, tiles, loss, accuracy / 2) for step, epoch, part, tiles, loss, accuracy in curve]
    networks = [
        (HISTORY, curve, [RIGHT] * 20, {"kept_epoch": 2, "n_train_tiles": 900}),
        (HISTORY, lower, [WRONG] * 20, {"kept_epoch": 1, "n_train_tiles": 900}),
    ]
    (row,) = tabulate(tmp_path, networks, [of(1), of(2)])["table"]
    # of the second seed the first epoch is the one that was kept
    assert [float(row[name]) for name in ("first_epoch", "last_epoch", "kept", "highest")] == pytest.approx(
        [(0.6 + 0) / 2, (0.9 + 0.45) / 2, 0.5, (0.9 + 0.45) / 2]
    )
    assert (row["seeds"], row["kept_epochs"], row["train_tiles"], row["note"]) == ("2", "2, 1", "900", "")


def test_without_a_curve_the_result_stands_alone(tmp_path):
    (row,) = tabulate(tmp_path, [(HISTORY, [], [RIGHT, WRONG], {"kept_epoch": 2})], [of()])["table"]
    assert (row["first_epoch"], row["last_epoch"], row["kept"], row["highest"]) == ("", "", "0.5", "")
    assert row["note"] == "without a learning curve on the test tiles"


def test_files_that_do_not_belong_together_are_errors(tmp_path):
    good = (HISTORY, CURVE, [RIGHT], {"kept_epoch": 2})
    with pytest.raises(ValueError, match=r"0\.h5: these must be .*nuclei/cell-type/fine/1/s; found .*/fine/1/by-image"):
        tabulate(tmp_path, [good], [of()], split="s")
    with pytest.raises(ValueError, match=r"0\.history\.tsv: epoch 7 was kept; found epochs 1, 2, 3"):
        tabulate(tmp_path, [(HISTORY, CURVE, [RIGHT], {"kept_epoch": 7})], [of()])
    with pytest.raises(ValueError, match="a trained network has an epoch; found none"):
        tabulate(tmp_path, [([], CURVE, [RIGHT], {})], [of()])
    with pytest.raises(ValueError, match="found 1 histories, 0 curves, 0 predictions, 0 trainings"):
        learning_curves.tabulate(
            histories=["a"], curves=[], predictions=[], trainings=[], epochs="e", steps="s", table="t", split="s"
        )


def test_made_up_networks_have_a_row_each(tmp_path):
    networks = {
        name: {
            "start": learning_factory.start(weights=weights),
            "recipe": learning_factory.recipe(),
            "start_name": name,
        }
        | {"level": 0.85, "speed": 1.0}
        for name, weights in (("a", "imagenet"), ("b", "random"))
    }
    arguments = learning_factory.write_networks(tmp_path, networks, seeds=(1, 2), epochs=3)
    written = {name: str(tmp_path / f"{name}.csv") for name in ("epochs", "steps", "table")}
    learning_curves.tabulate(**arguments, **written)
    rows = store.read_csv(written["table"])
    assert [(row["network"], row["transfer"], row["seeds"]) for row in rows] == [("a", "yes", "2"), ("b", "no", "2")]
    assert len(store.read_csv(written["epochs"])) == 2 * 2 * 3
    assert len(store.read_csv(written["steps"])) == 2 * 2 * 3 * 13
