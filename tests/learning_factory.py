"""Made-up histories, learning curves and predictions of trained networks, in the files that training writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import canvas, predictions, store
from histotransfer.definitions import Draw, Factors, Recipe
from histotransfer.evaluation import learning_curves
from histotransfer.figures import grad_cam, training_figures
from histotransfer.networks.specification import NetworkSpec
from histotransfer.plain_data import made
from histotransfer.report.entries import Entry
from histotransfer.settings import TrainedModel
from histotransfer.study.trained import TrainedNetwork

CLASSES = ("epithelial", "fibroblast", "inflammatory")


def phase(**changes: Any) -> dict[str, Any]:
    """Return a phase of a recipe as the rules pass it on."""
    sgd = {"kind": "sgd", "momentum": 0.9, "nesterov": False}
    made = {"on": "tiles", "train": "all", "epochs": 10, "optimiser": sgd, "rate": 0.001, "rates": {}}
    return made | {"layer_decay": None, "schedule": {"kind": "constant"}, "weight_decay": 0.0} | changes


def recipe(name: str = "bayramoglu2016", **changes: Any) -> dict[str, Any]:
    """Return a recipe as the rules pass it on."""
    made = {"name": name, "head": {"pool": "average", "dense": [], "activation": "relu", "dropout": 0.0}}
    made |= {"initialisation": {"kind": "glorot", "deviation": None}, "batch": 32, "precision": "float32"}
    made |= {"crop_from": None, "augmentation": None, "auxiliary": 0.0, "monitor": "loss", "keep": "best"}
    made |= {"early_stopping": None, "phases": [phase()]}
    made |= {"curve": {"sets": ["train", "validation", "test"], "per_epoch": 4, "tiles": None}}
    return made | changes


def start(architecture: str = "MobileNetV2", weights: str = "imagenet", **changes: Any) -> dict[str, Any]:
    """Return the network that training begins with, as the rules pass it on."""
    made = {"architecture": architecture, "alpha": 1.0, "weights": weights, "px": 96, "rescale": "network"}
    return made | {"layer": "out", "layers": []} | changes


def write_history(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``history.tsv``; what a row does not say is made up."""
    known = {"phase": 1, "on": "tiles", "train": "all", "rate": 0.001, "loss": 0.5, "accuracy": 0.75, "kept": "no"}
    store.write_table(path, learning_curves.HISTORY_COLUMNS, [known | row for row in rows])
    return path


def write_curve(path: Path, rows: Sequence[tuple[int, float, str, int, float, float]]) -> Path:
    """Write ``curve.tsv``."""
    named = [dict(zip(learning_curves.CURVE_COLUMNS, row, strict=True)) for row in rows]
    store.write_table(path, learning_curves.CURVE_COLUMNS, named)
    return path


def write_predictions(
    path: Path, pairs: Sequence[tuple[str, str]], *, images: Sequence[str] = (), **about: Any
) -> Path:
    """Write predictions of (true, predicted) classes, "" for a tile without a label, each with probability 0.75."""
    classes = list(about.pop("classes", CLASSES))
    true = np.array([classes.index(one) if one else -1 for one, _ in pairs], dtype=np.int16)
    probability = np.full((len(pairs), len(classes)), 0.25 / (len(classes) - 1))
    for place, (_, predicted) in enumerate(pairs):
        probability[place, classes.index(predicted)] = 0.75
    names = [f"{k}_0" for k in range(len(pairs))]
    images = list(images) or names
    held_out = predictions.Predictions(names, images, images, images, true, probability, probability)
    said = dict.fromkeys(predictions.ATTRIBUTES, "") | {"classes": classes, "chosen": {"epoch": 1}, "untrained": False}
    said |= {"dataset": "nuclei", "task": "cell-type", "split": "by-image", "seed": 1, "classifier": "softmax"}
    said |= {"n_train_tiles": 1200, "weights": "trained from imagenet", "kept_epoch": 1, "epochs": 1}
    said |= {"kept_by": "validation loss", "unit": "image", "group_unit": "image", **about}
    predictions.write_predictions(str(path), held_out=held_out, out_of_fold=None, attributes=said)
    return path


def write_networks(
    folder: Path,
    networks: Mapping[str, Mapping[str, Any]],
    *,
    seeds: Sequence[int] = (1, 2, 3),
    datasets: Sequence[tuple[str, str]] = (("nuclei", "cell-type"),),
    split: str = "by-image",
    epochs: int = 10,
) -> dict[str, Any]:
    """Write the files of several networks and seeds with plausible curves; return the arguments of `tabulate`.

    `networks`: name to ``start`` and ``recipe`` (resolved), and ``level``, ``speed`` of its curve.
    """
    arguments: dict[str, Any] = {"histories": [], "curves": [], "predictions": [], "trainings": []}
    for dataset, task in datasets:
        for number, (name, one) in enumerate(networks.items()):
            for seed in seeds:
                home = folder / f"{dataset}/models/{task}/{split}/{seed}/{name}/softmax"
                noise = np.random.default_rng([number, seed])
                steps_per_epoch = 38 + seed
                points = np.arange(4 * epochs + 1) / 4
                test = one["level"] - (one["level"] - 0.34) * np.exp(-points * one["speed"])
                test = test + noise.normal(0, 0.012, len(points)) - 0.004 * np.maximum(points - 6, 0)
                curve = []
                for part, shift in (("train", 0.03), ("validation", 0.0), ("test", -0.01)):
                    curve += [
                        (round(point * steps_per_epoch), float(point), part, 1000, float(1.3 - value), float(value))
                        for point, value in zip(points, test + shift * points / epochs, strict=True)
                    ]
                ends = test[4::4]
                kept = int(np.argmax(ends)) + 1
                first_phase = one["recipe"]["phases"][0]
                rows = []
                for epoch in range(1, epochs + 1):
                    value = float(ends[epoch - 1])
                    row = {"epoch": epoch, "step": epoch * steps_per_epoch, "on": first_phase["on"]}
                    row |= {"train": first_phase["train"], "rate": 0.001 * (1 + 0.04 * epoch) ** -0.75}
                    row |= {"loss": 1.25 - value - 0.012 * epoch, "accuracy": min(value + 0.012 * epoch, 1.0)}
                    row |= {"validation_loss": 1.3 - value, "validation_accuracy": value}
                    row |= {"validation_balanced_accuracy": value - 0.02, "kept": "yes" if epoch == kept else "no"}
                    rows.append(row)
                arguments["histories"].append(str(write_history(home / "history.tsv", rows)))
                arguments["curves"].append(str(write_curve(home / "curve.tsv", curve)))
                right = round(100 * float(ends[kept - 1]))
                pairs = [(CLASSES[k % 3], CLASSES[(k + (k >= right)) % 3]) for k in range(100)]
                about = {"dataset": dataset, "task": task, "split": split, "seed": seed, "features": name}
                about |= {"kept_epoch": kept, "epochs": epochs, "n_train_tiles": 1180 + 10 * seed}
                about["weights"] = f"trained from {'scratch' if one['start']['weights'] == 'random' else 'imagenet'}"
                arguments["predictions"].append(str(write_predictions(home / "predictions.h5", pairs, **about)))
                arguments["trainings"].append(
                    TrainedModel(
                        factors=Factors(dataset, task, split, Draw(seed), name, "softmax"),
                        network=name,
                        architecture=one["start"]["architecture"],
                        start=one["start_name"],
                        recipe=one["recipe"]["name"],
                        transfer=one["start"]["weights"] != "random",
                    )
                )
    return arguments | {"split": split}


#: Four ways to train a network, and another one.
NETWORKS = {
    "mobilenet-head": {
        "recipe": recipe("head-only", phases=[phase(train="head", on="features", rate=0.01)], curve=None),
        **{"start": start(), "start_name": "mobilenetv2", "level": 0.8, "speed": 1.6},
    },
    "mobilenet-everything-with-rates-by-layer": {
        "recipe": recipe(
            "layer-wise",
            head={"pool": "average", "dense": [256], "activation": "relu", "dropout": 0.5},
            crop_from=112,
            augmentation={"quarter_turns": True, "flip": "both", "saturation": [0.75, 1.25]},
            phases=[
                phase(train="head", on="features", epochs=5, rate=0.01),
                phase(
                    layer_decay=0.8, rates={"head": 10.0}, schedule={"kind": "cosine", "warm_up": 1.0, "floor": 0.01}
                ),
            ],
        ),
        **{"start": start(), "start_name": "mobilenetv2", "level": 0.88, "speed": 0.9},
    },
    "mobilenet-from-scratch": {
        "recipe": recipe("scratch", initialisation={"kind": "gaussian", "deviation": 0.01}, keep="last"),
        **{"start": start(weights="random"), "start_name": "mobilenetv2-untrained", "level": 0.78, "speed": 0.35},
    },
    "alexnet": {
        "recipe": recipe("bayramoglu2016", phases=[phase(schedule={"kind": "inv", "gamma": 0.001, "power": 0.75})]),
        **{
            "start": start("AlexNet", "weights/alexnet.h5", layer="fc7", px=227, alpha=None),
            "start_name": "alexnet",
            "level": 0.86,
            "speed": 1,
        },
    },
}


def write_chapter(
    folder: Path, *, datasets: Sequence[tuple[str, str]], split: str, seeds: Sequence[int] = (1, 2, 3)
) -> tuple[list[Entry], list[Entry]]:
    """Write the tables and figures of the chapter of trained networks for one split; return both as entries."""
    from PIL import Image

    home = folder / f"training/{split}"
    files = write_networks(folder / "runs", NETWORKS, seeds=seeds, datasets=datasets, split=split)
    paths = {"epochs": home / "epochs.csv", "steps": home / "steps.csv", "accuracy": home / "accuracy.csv"}
    learning_curves.tabulate(**files, epochs=paths["epochs"], steps=paths["steps"], table=paths["accuracy"])
    tables = [
        Entry(str(paths[kind]), "tabulate_training", "training", kind, split=split)
        for kind in ("accuracy", "epochs", "steps")
    ]
    figures = []
    noise = np.random.default_rng(3)
    for dataset, task in datasets:
        where = {"section": "training", "dataset": dataset, "task": task, "split": split}
        for architecture in ("MobileNetV2", "AlexNet"):
            path = home / f"{dataset}/{task}/iterations/{architecture.lower()}.svg"
            what = {"dataset": dataset, "task": task, "architecture": architecture}
            training_figures.draw_iterations(table=paths["steps"], figure=path, **what)
            entry = Entry(str(path), "draw_iterations", kind="iterations", architecture=architecture, **where)
            figures.append(entry)
        for name in NETWORKS:
            path = home / f"{dataset}/{task}/epochs/{name}.svg"
            training_figures.draw_epochs(table=paths["epochs"], figure=path, dataset=dataset, task=task, network=name)
            figures.append(Entry(str(path), "draw_epochs", kind="epochs", network=name, **where))
            samples = {}
            for true in CLASSES:
                tiles = noise.integers(120, 250, (3, 24, 24, 3)).astype(np.uint8)
                maps = noise.random((3, 3, 3))
                samples[true] = [
                    grad_cam.Sample(tile, grad_cam.overlay(tile, one), CLASSES[k], 0.5 + 0.2 * k, CLASSES[k] == true)
                    for k, (tile, one) in enumerate(zip(tiles, maps, strict=True))
                ]
            path = home / f"{dataset}/{task}/{name}/grad_cam.svg"
            grad_cam.draw_samples(samples, path, f"{name}: 9 test tiles, 3 of them right.")
            figures.append(Entry(str(path), "grad_cam", kind="grad_cam", network=name, seed=1, **where))
        path = home / f"{dataset}/augmentation.jpg"
        if not path.exists():
            picture = Image.fromarray(noise.integers(0, 255, (20, 30, 3)).astype(np.uint8)).resize((300, 200))
            canvas.save_picture(picture, path, "What training does to a tile: quarter turns, flips, saturation")
        name = "mobilenet-everything-with-rates-by-layer"
        what = ("draw_augmentation", "training", "augmentation")
        figures.append(Entry(str(path), *what, network=name, dataset=dataset))
    return tables, figures


def trained() -> tuple[TrainedNetwork, ...]:
    """Return the networks as the report is told of them."""
    return tuple(
        TrainedNetwork(name, one["start_name"], made(NetworkSpec, one["start"]), made(Recipe, one["recipe"]))
        for name, one in NETWORKS.items()
    )
