"""Charts of trained networks: what they say, and that a network keeps its look."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from learning_factory import CLASSES, NETWORKS, write_networks, write_predictions

from histotransfer import canvas, store
from histotransfer.evaluation import learning_curves
from histotransfer.figures import grad_cam, training_figures

OF = {"dataset": "d", "task": "t", "start": "s", "recipe": "r"}


def texts(path):
    return [
        "".join(one.itertext()).strip()
        for one in ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")
    ]


def steps(path, rows):
    """Write points (network, transfer, seed, step, epoch, set, accuracy) of VGG16 on d/t."""
    names = ("network", "transfer", "seed", "step", "epoch", "set", "accuracy")
    table = [
        OF | {"architecture": "VGG16", "tiles": 9, "loss": 1.0} | dict(zip(names, row, strict=True)) for row in rows
    ]
    store.write_csv(path, learning_curves.STEP_COLUMNS, table)
    return path


class TestIterations:
    def draw(self, folder, rows, architecture="VGG16"):
        table, figure = steps(folder / "s.csv", rows), folder / "a.svg"
        said = training_figures.draw_iterations(
            table=table, figure=figure, dataset="d", task="t", architecture=architecture
        )
        assert canvas.read_statement(figure) == said
        return said, texts(figure)

    def test_means_over_seeds_stand_at_the_same_share_of_an_epoch(self, tmp_path):
        # an epoch has 10 steps in the first seed and 12 in the second
        rows = [("fine", "yes", 1, 0, 0, "test", 0.3), ("fine", "yes", 1, 10, 1, "test", 0.6)]
        rows += [("fine", "yes", 2, 0, 0, "test", 0.2), ("fine", "yes", 2, 12, 1, "test", 0.8)]
        rows += [("fine", "yes", 2, 24, 2, "test", 0.9)]
        rows += [
            ("scratch", "no", seed, step, epoch, "test", 0.4) for seed in (1, 2) for step, epoch in ((0, 0), (9, 1))
        ]
        said, words = self.draw(tmp_path, rows)
        # the second epoch of one seed alone is no mean
        assert said == (
            "Accuracy of VGG16 on test tiles: transfer 0.700 after the first epoch and 0.700 at the end; full training "
            "0.400 after the first epoch and 0.400 at the end."
        )
        assert {"fine: transfer", "scratch: full training", "end of each epoch"} <= set(words)
        assert "iteration (thin lines: 2 seeds, thick: their mean)" in words
        assert "VGG16: accuracy of test tiles" in words

    def test_of_several_networks_the_highest_is_named(self, tmp_path):
        rows = [(name, "yes", 1, 5, 1, "test", value) for name, value in (("head", 0.5), ("all", 0.75))]
        said, words = self.draw(tmp_path, rows)
        end = "0.750 after the first epoch and 0.750 at the end (highest of 2 there: all)."
        assert said == f"Accuracy of VGG16 on test tiles: transfer {end}"
        assert "iteration" in words

    def test_without_test_tiles_the_validation_tiles_are_drawn(self, tmp_path):
        rows = [("a", "yes", 1, 5, 0.5, part, 0.5) for part in ("train", "validation")]
        said, words = self.draw(tmp_path, rows)
        assert said == "Accuracy of VGG16 on validation tiles by iteration; no whole epoch has a point."
        assert "VGG16: accuracy of validation tiles" in words

    def test_no_curve_says_so(self, tmp_path):
        rows = [("a", "yes", 1, 5, 0.5, "test", 0.5)]
        assert self.draw(tmp_path, rows, "AlexNet")[0] == "No learning curve of AlexNet was asked for."

    def test_of_many_epochs_some_are_marked(self, tmp_path):
        rows = [("a", "yes", 1, 10 * epoch, epoch, "test", 0.5) for epoch in range(51)]
        assert "end of every 5 epochs" in self.draw(tmp_path, rows)[1]


class TestEpochs:
    def draw(self, folder, rows, network="fine"):
        """Draw epochs (network, seed, phase, epoch, accuracy, validation accuracy, kept)."""
        names = ("network", "seed", "phase", "epoch", "accuracy", "validation_accuracy", "kept")
        known = OF | {"architecture": "VGG16", "transfer": "yes", "on": "tiles", "train": "all", "step": 1, "loss": 0.5}
        table = [known | {"rate": 0.1} | dict(zip(names, row, strict=True)) for row in rows]
        table = [row | {"validation_loss": "" if row["validation_accuracy"] == "" else 0.6} for row in table]
        store.write_csv(folder / "e.csv", learning_curves.EPOCH_COLUMNS, table)
        about = {"table": folder / "e.csv", "figure": folder / "a.svg", "dataset": "d", "task": "t"}
        said = training_figures.draw_epochs(**about, network=network)
        return said, texts(folder / "a.svg")

    def test_says_which_epochs_were_kept_and_where_phases_end(self, tmp_path):
        rows = [
            ("fine", seed, 1 + (epoch > 2), epoch, 0.9, 0.5 + 0.05 * seed, "no")
            for seed in (1, 2)
            for epoch in (1, 2, 3)
        ]
        rows[1], rows[5] = (*rows[1][:-1], "yes"), (*rows[5][:-1], "yes")
        said, words = self.draw(tmp_path, rows)
        assert said == "fine: epochs 2 to 3 of 3 kept (2 seeds), with a mean accuracy of 0.575 on validation tiles."
        assert {"fine", "a phase ends", "the epoch kept, of each seed", "validation tiles", "loss"} <= set(words)

    def test_without_validation_the_training_tiles_speak(self, tmp_path):
        rows = [("fine", 1, 1, 1, 0.5, "", "no"), ("fine", 1, 1, 2, 0.75, "", "yes")]
        said, words = self.draw(tmp_path, rows)
        assert said == "fine: epoch 2 of 2 kept, with an accuracy of 0.750 on training tiles."
        assert "validation tiles" not in words
        assert "a phase ends" not in words

    def test_a_network_that_is_not_there_is_an_error(self, tmp_path):
        with pytest.raises(ValueError, match=r"e\.csv: must have epochs of d/t/other; found those of d/t/fine"):
            self.draw(tmp_path, [("fine", 1, 1, 1, 0.5, "", "yes")], network="other")


def test_the_same_tables_give_the_same_charts(tmp_path):
    files = write_networks(tmp_path, NETWORKS, seeds=(1, 2), epochs=2)
    tables = {name: tmp_path / f"{name}.csv" for name in ("epochs", "steps", "table")}
    learning_curves.tabulate(**files, **tables)
    about = {"dataset": "nuclei", "task": "cell-type"}
    for name in ("a.svg", "b.svg"):
        training_figures.draw_iterations(
            table=tables["steps"], figure=tmp_path / name, architecture="MobileNetV2", **about
        )
        training_figures.draw_epochs(table=tables["epochs"], figure=tmp_path / f"e{name}", network="alexnet", **about)
    for name in ("", "e"):
        assert (tmp_path / f"{name}a.svg").read_bytes() == (tmp_path / f"{name}b.svg").read_bytes()


class TestGradCam:
    def test_tiles_are_drawn_by_the_seed_alike_for_every_network(self, tmp_path):
        from histotransfer.predictions import read_predictions

        pairs = [(CLASSES[k % 2], CLASSES[0]) for k in range(40)] + [("", CLASSES[1])]

        def sample(seed, **about):
            write_predictions(tmp_path / "p.h5", pairs, **about)
            held_out, _, said = read_predictions(tmp_path / "p.h5")
            return grad_cam.choose(held_out, said, per_class=3, master_seed=seed)

        chosen = sample(1, features="a")
        assert [k % 2 for k in chosen] == [0, 0, 0, 1, 1, 1]
        assert len(set(chosen)) == 6
        assert chosen == sample(1, features="b")
        assert chosen != sample(2, features="a")

    def test_an_overlay_is_bright_where_the_map_is_high(self):
        tile = np.full((8, 8, 3), 100, np.uint8)
        shown = grad_cam.overlay(tile, np.array([[0.0, 2.0], [0.0, 0.0]]))
        assert shown.shape == (8, 8, 3)
        light = shown.sum(axis=2)
        assert light[0, 7] == light.max()
        assert light[0, 7] > light[0, 0] + 200
        # where nothing speaks for the class: the darkest colour over the grey tile, and so everywhere without a map
        nothing = grad_cam.overlay(tile, np.zeros((2, 2)))
        assert (nothing == nothing[0, 0]).all()
        assert (shown[7, 0] == nothing[0, 0]).all()

    def test_each_tile_stands_beside_its_map_with_what_is_predicted(self, tmp_path):
        tile = np.full((8, 8, 3), 100, np.uint8)
        samples = {
            "a": [grad_cam.Sample(tile, tile, "a", 0.875, True), grad_cam.Sample(tile, tile, "b", 0.5, False)],
            "b": [grad_cam.Sample(tile, tile, "b", 1.0, True)],
        }
        for name in ("1.svg", "2.svg"):
            grad_cam.draw_samples(samples, tmp_path / name, "What it shows")
        assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()
        assert canvas.read_statement(tmp_path / "1.svg") == "What it shows"
        words = texts(tmp_path / "1.svg")
        assert words[-5:] == ["true class: a", "a, 0.88", "wrong: b, 0.50", "true class: b", "b, 1.00"]
        images = (tmp_path / "1.svg").read_text("utf-8").count("data:image/jpeg;base64,")
        assert images == 6
