"""Checks of the config's definitions against one another: names that must exist, keys that must agree.

The schema has what a single key may hold. Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from histotransfer.definitions import GIVEN
from histotransfer.networks.groups import SOFTMAX
from histotransfer.problems import Problems, closest, listing
from histotransfer.study import feature_sets, recipes, segmenters
from histotransfer.study.catalogue import Catalogue

#: Names of other folders under results/, which no dataset may have.
RESERVED = ("drawn", "studies")

#: Endings of files that may hold a pickle, which runs code when it is read.
PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth")

_OF_START = "a trained network has that of its start: leave it out"


def check(catalogue: Catalogue, folder: str | os.PathLike[str]) -> None:
    """Add what is wrong with the definitions to the problems of the catalogue; `folder` is the working directory."""
    add = catalogue.problems.add
    for key, section in (("datasets", "datasets"), ("splits", "splits")):
        for place, name in enumerate(catalogue.chosen(key)):
            catalogue.refer(f"study.{key}[{place}]", section, name)
    for name in catalogue.names("datasets"):
        if name in RESERVED:
            add(
                f"datasets.{name}",
                f"choose another name, since {listing(RESERVED)} are other folders of results",
                repr(name),
            )
    for name, dataset in catalogue.each("datasets"):
        if "tiling" in dataset:
            catalogue.refer(f"datasets.{name}.tiling", "tilings", dataset["tiling"])
        for place, task in enumerate(dataset["tasks"]):
            catalogue.refer(f"datasets.{name}.tasks[{place}]", "tasks", task)
            regions = (catalogue.sound("tasks", task) or {}).get("regions")
            if regions is not None and dataset["kind"] != "slides":
                legal = f"must be slides, since task {task} has regions, which are drawn on slides"
                add(f"datasets.{name}.kind", legal, repr(dataset["kind"]))
        streamed = catalogue.setting("pixels") == "stream" and name in catalogue.chosen("datasets")
        if streamed and dataset["kind"] != "slides":
            add("pixels", f"stream is only for datasets of slides, and {name} has {dataset['kind']}", "'stream'")
    for name, tiling in catalogue.each("tilings"):
        _check_tiling(f"tilings.{name}", tiling, catalogue.problems)
    for name, task in catalogue.each("tasks"):
        _check_task(f"tasks.{name}", task, catalogue)
    for name, recipe in catalogue.each("recipes"):
        recipes.check(name, recipe, catalogue)
    for name, network in catalogue.each("networks"):
        if network["recipe"] is None:
            _check_network(name, network, catalogue.problems)
        else:
            _check_trained_keys(name, network, catalogue.problems)
            recipes.check_trained(name, network, catalogue)
    if SOFTMAX in catalogue.names("classifiers"):
        legal = "softmax is the output of a trained network and is not defined here: choose another name"
        add(f"classifiers.{SOFTMAX}", legal, repr(SOFTMAX))
    for name, spec in catalogue.each("feature_sets"):
        feature_sets.check(name, spec, catalogue)
    for name, classifier in catalogue.each("classifiers"):
        if classifier["kind"] in segmenters.KINDS:
            segmenters.check(name, classifier, catalogue)
    for name, selection in catalogue.each("selections"):
        step = selection["step"]
        if isinstance(step, float) and step >= 1:
            add(f"selections.{name}.step", "a step of 1 or more must be a whole number of features", f"{step:g}")
    for name, split in catalogue.each("splits"):
        _check_split(f"splits.{name}", split, catalogue.problems)
    _check_used_networks(catalogue, folder)
    if catalogue.setting("extraction", "engine") == "openvino":
        if catalogue.setting("gpus"):
            add("extraction.engine", "openvino runs on the CPU: set gpus to 0, or choose keras", "'openvino'")
        precision = catalogue.setting("extraction", "precision")
        if precision != "float32":
            add("extraction.precision", "must be float32 with the engine openvino", repr(precision))


def _check_tiling(where: str, tiling: Mapping[str, Any], problems: Problems) -> None:
    given = [key for key in ("size_um", "size_px", "mpp") if tiling[key] is not None]
    if given not in (["size_um"], ["size_px", "mpp"]):
        problems.add(where, "give size_um, or size_px and mpp", listing(given) if given else "none of them")
    measured, drop_at = tiling["homogeneity"] != "none", tiling["homogeneity_drop_at"]
    if measured and drop_at is None:
        problems.add(where, "homogeneity needs homogeneity_drop_at, 0 to 1", "nothing")
    elif not measured and drop_at is not None:
        legal = "homogeneity_drop_at needs a homogeneity: bright or glcm"
        problems.add(f"{where}.homogeneity", legal, "'none'")
    elif not measured and tiling["tissue_min"] is None:
        legal = "give tissue_min (least share of tissue, 0 to 1; 0 keeps background too) or homogeneity"
        problems.add(where, legal, "neither")


def _check_task(where: str, task: Mapping[str, Any], catalogue: Catalogue) -> None:
    problems = catalogue.problems
    owner: dict[str, str] = {}
    members_of = class_members(task)
    if task["regions"] is not None:
        segmenters.check_regions(where, task, members_of, catalogue)
    for name, members in members_of.items():
        for label in members:
            if owner.setdefault(label, name) != name:
                legal = f"a label must belong to one class, and {label!r} also belongs to {owner[label]!r}"
                problems.add(f"{where}.classes.{name}", legal, repr(label))
    for label in task["leave_out"]:
        if label in owner:
            problems.add(
                f"{where}.leave_out",
                f"must not be a label of a class, and {label!r} belongs to {owner[label]!r}",
                repr(label),
            )


def _check_network(name: str, network: Mapping[str, Any], problems: Problems) -> None:
    for problem in feature_sets.network_problems(network):
        problems.add(f"networks.{name}.{problem.place}", problem.legal, problem.found)
    if network["weights"].lower().endswith(PICKLES):
        legal = "must be imagenet, random, or a file of Keras weights (.h5 or .keras); a pickle is never read"
        problems.add(f"networks.{name}.weights", legal, repr(network["weights"]))


def _check_trained_keys(name: str, network: Mapping[str, Any], problems: Problems) -> None:
    for key in ("architecture", "alpha", "weights", "px"):
        if network.get(key) is not None:
            problems.add(f"networks.{name}.{key}", _OF_START, repr(network[key]))
    if network["rescale"] != "network":
        problems.add(f"networks.{name}.rescale", _OF_START, repr(network["rescale"]))


def _check_used_networks(catalogue: Catalogue, folder: str | os.PathLike[str]) -> None:
    """Check what matters only for networks that methods of the study use: files, and validation sets."""
    starts: dict[str, None] = {}
    for name, taken_from in _used_networks(catalogue).items():
        network = catalogue.sound("networks", name)
        if network is None:
            continue
        if network["recipe"] is not None:
            recipes.check_splits(f"networks.{name}", network["recipe"], catalogue)
            starts[network["start"]] = None
            recipe = catalogue.sound("recipes", network["recipe"])
            if recipe is not None and recipe["phases"][0]["input"] == "features":
                _check_own_mean(network["start"], f"the recipe of {name}", catalogue)
        else:
            starts[name] = None
            _check_own_mean(name, taken_from, catalogue)
    for name in starts:
        network = catalogue.sound("networks", name)
        if network is not None and network["recipe"] is None:
            _check_weights(f"networks.{name}.weights", network["weights"], folder, catalogue.problems)


def _check_own_mean(name: str, taken_from: str, catalogue: Catalogue) -> None:
    network = catalogue.sound("networks", name)
    if network is not None and network["rescale"] == "training_mean":
        legal = f"must be network or unit: training_mean needs training on tiles, and {taken_from} uses features"
        catalogue.problems.add(f"networks.{name}.rescale", legal, "'training_mean'")


def _check_weights(where: str, weights: str, folder: str | os.PathLike[str], problems: Problems) -> None:
    if weights in ("imagenet", "random") or weights.lower().endswith(PICKLES):
        return
    if not os.path.isfile(os.path.join(folder, weights)):
        near = closest(weights, ("imagenet", "random"))
        problems.add(where, f"must be imagenet, random, or the path of a file{near}", f"{weights!r}, no such file")


def _check_split(where: str, split: Mapping[str, Any], problems: Problems) -> None:
    unit, reason = split["unit"], split["share_groups"]
    if unit == GIVEN:
        if split["groups"] is None:
            legal = "the unit given needs `groups`, what is resampled and kept in one fold: patient, slide or image"
            problems.add(where, legal, "no groups")
        for key in ("test", "validation"):
            if split[key]:
                legal = "the sheet has the sets: leave it out"
                problems.add(f"{where}.{key}", legal, repr(split[key]))
    else:
        if split["groups"] is not None:
            legal = "only the unit given has `groups`: leave it out"
            problems.add(f"{where}.groups", legal, repr(split["groups"]))
        if split["test"] is None:
            problems.add(
                where, "needs `test`, the share of the groups that is held out, above 0 and below 1", "nothing"
            )
        elif split["test"] + split["validation"] >= 1:
            legal = "test and validation together must be below 1, so that groups are left for training"
            problems.add(where, legal, f"{split['test']:g} and {split['validation']:g}")
    if unit == "tile" and not reason:
        legal = (
            "the unit tile puts tiles of one slide into training and test: give the reason in `share_groups`, and the "
            "report states it first"
        )
        problems.add(where, legal, "no reason")
    if unit == "patient" and reason:
        problems.add(f"{where}.share_groups", "patients are never shared: leave it out", repr(reason))
    if split["train_tiles"] is not None and split["train_tiles_per_class"] is not None:
        problems.add(where, "give train_tiles or train_tiles_per_class", "both")


def _used_networks(catalogue: Catalogue) -> dict[str, str]:
    """Return the networks of the study's methods, with one method that takes each."""
    names: dict[str, str] = {}
    for method in catalogue.chosen("methods"):
        spec = catalogue.feature_set(method.partition("+")[0]) or {}
        single = [spec["network"]] if isinstance(spec.get("network"), str) else []
        for name in (*single, *(spec.get("networks") or ())):
            names.setdefault(name, method)
    return names


def class_members(task: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the labels of the sheet that belong to each class."""
    classes = task["classes"]
    return {name: [name] for name in classes} if isinstance(classes, list) else classes
