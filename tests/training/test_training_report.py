"""What the report makes of the files that a training leaves, on a network that is trained here."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import training_factory
from training_factory import phase, recipe

from histotransfer import canvas, predictions, store
from histotransfer.evaluation import learning_curves
from histotransfer.figures import grad_cam, training_figures
from histotransfer.settings import TrainedModel
from histotransfer.training import network_on_tiles


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Files of a network that was trained for two epochs on crops of 32 px from 40 px; what it was trained with."""
    folder = tmp_path_factory.mktemp("trained")
    cohort = training_factory.write_cohort(folder / "cohort", px=40, unlabelled=1)
    wanted = recipe(
        phase(epochs=2),
        head={"pool": "average", "dense": [8], "activation": "relu", "dropout": 0.5},
        curve={"sets": ["train", "test"], "per_epoch": 2, "tiles": None},
        crop_from=40,
    )
    arguments = training_factory.arguments(cohort, folder / "run", wanted)
    training_factory.call(network_on_tiles.train_network, arguments)
    return arguments


def draw(trained, picture, **changes):
    given = {"model": trained["model"], "predictions": trained["predictions"], "pixels": trained["pixels"]}
    return grad_cam.draw(**given | {"picture": str(picture), "per_class": 2, "master_seed": 1, "threads": 1} | changes)


def test_learning_curves_of_a_training(trained, tmp_path):
    factors = trained["factors"]
    network, start = factors.features, trained["start_name"]
    of = TrainedModel(factors, network=network, architecture="MobileNetV2", start=start, recipe="tiny", transfer=False)
    tables = {name: str(tmp_path / f"{name}.csv") for name in ("epochs", "steps", "table")}
    learning_curves.tabulate(
        histories=[trained["history"]],
        curves=[trained["curve"]],
        predictions=[trained["predictions"]],
        trainings=[of],
        split=factors.split,
        **tables,
    )
    (row,) = store.read_csv(tables["table"])
    held_out, _, said = predictions.read_predictions(trained["predictions"])
    labelled = held_out.true >= 0
    accuracy = (held_out.predicted[labelled] == held_out.true[labelled]).mean()
    assert float(row["kept"]) == pytest.approx(accuracy)
    # the curve is of all test tiles here, and of the weights before the kept ones were put back
    assert (row["curve_tiles"], row["note"]) == (row["test_tiles"], "")
    at = {name: row[name] for name in ("first_epoch", "last_epoch")}
    assert at[("first_epoch", "last_epoch")[said["kept_epoch"] - 1]] == row["kept"]
    points = [one for one in store.read_csv(tables["steps"]) if one["set"] == "test"]
    assert max(float(one["accuracy"]) for one in points) == float(row["highest"])
    assert [float(one["epoch"]) for one in points][::2] == [0.0, 1.0, 2.0]
    last = store.read_csv(tables["epochs"])[-1]
    assert (last["epoch"], last["step"]) == ("2", points[-1]["step"])
    assert last["network"] == factors.features
    charts = {"dataset": factors.dataset, "task": factors.task}
    said = training_figures.draw_iterations(
        table=tables["steps"], figure=tmp_path / "i.svg", architecture="MobileNetV2", **charts
    )
    assert said.startswith("Accuracy of MobileNetV2 on test tiles: full training ")
    said = training_figures.draw_epochs(table=tables["epochs"], figure=tmp_path / "e.svg", network=network, **charts)
    assert "of 2 kept, with an accuracy of" in said


def test_grad_cam_of_a_trained_network(trained, tmp_path):
    said = draw(trained, tmp_path / "a.svg")
    held_out, _, about = predictions.read_predictions(trained["predictions"])
    chosen = grad_cam.choose(held_out, about, per_class=2, master_seed=1)
    right = int((held_out.predicted[chosen] == held_out.true[chosen]).sum())
    assert said.startswith(f"{trained['factors'].features}: 6 test tiles, {right} of them right, each beside where")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    words = ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [word for word in words if word.startswith("true class")] == [
        f"true class: {name}" for name in training_factory.CLASSES
    ]
    # what stands below a tile is what the predictions file says of it
    below = [word.removeprefix("wrong: ") for word in words if word[-5:-3] in (" 0", " 1")]
    expected = [f"{about['classes'][held_out.predicted[row]]}, {held_out.probability[row].max():.2f}" for row in chosen]
    assert below == expected
    draw(trained, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_grad_cam_refuses_what_does_not_belong_together(trained, tmp_path):
    with pytest.raises(ValueError, match=r"every test tile must be in the pixel files; \d of 6 are not, the first is"):
        draw(trained, tmp_path / "a.svg", pixels=trained["pixels"][:1])
    held_out, _, about = predictions.read_predictions(trained["predictions"])
    path = tmp_path / "p.h5"
    other = predictions.Predictions(**{**vars(held_out), "score": held_out.score[:, :2], "true": held_out.true * 0})
    halves = predictions.Predictions(**{**vars(other), "probability": other.score * 0 + 0.5})
    said = about | {"classes": about["classes"][:2]}
    predictions.write_predictions(str(path), held_out=halves, out_of_fold=None, attributes=said)
    with pytest.raises(ValueError, match=r"model\.keras: must tell 2 classes apart; found 3"):
        draw(trained, tmp_path / "a.svg", predictions=str(path))
    (tmp_path / "model.keras").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"model\.keras"):
        draw(trained, tmp_path / "a.svg", model=str(tmp_path / "model.keras"))
    assert not (tmp_path / "a.svg").exists()
    nothing = predictions.Predictions(**{**vars(held_out), "true": held_out.true * 0 - 1})
    predictions.write_predictions(str(path), held_out=nothing, out_of_fold=None, attributes=about)
    assert draw(trained, tmp_path / "n.svg", predictions=str(path)) == "No test tile has a label."
    assert canvas.read_statement(tmp_path / "n.svg") == "No test tile has a label."
