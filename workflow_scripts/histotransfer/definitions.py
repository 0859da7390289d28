"""The config's definitions against one another: names that must exist, keys that must agree.

What a single key may hold is in the schema.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from histotransfer import feature_sets, recipes, segmenters
from histotransfer.problems import Problems, closest, listing

#: Names of datasets that would meet other folders under results/.
RESERVED = ("drawn", "studies")

#: Files that may hold a pickle, which runs code when it is read.
PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth")

_OF_START = "a trained network has its start's: leave it out"


@dataclass(frozen=True)
class Method:
    """A feature set with a classifier; `name` is FEATURES+CLASSIFIER."""

    name: str
    features: str
    classifier: str


class Catalogue:
    """The config's definitions by name, knowing which of them are too wrong to look into."""

    def __init__(self, config: dict[str, Any], problems: Problems, broken: set[tuple[str, ...]]) -> None:
        self._config = config
        self.broken = broken
        self.problems = problems

    def known(self, section: str) -> bool:
        """Return whether a section is a table of definitions, so that a missing name means something."""
        return isinstance(self._config.get(section), dict) and (section,) not in self.broken

    def names(self, section: str) -> list[str]:
        """Return the names that a section defines."""
        return list(self._config[section]) if isinstance(self._config.get(section), dict) else []

    def sound(self, section: str, name: str) -> dict[str, Any] | None:
        """Return a definition if it is there and the schema had nothing against it."""
        if name not in self.names(section) or (section, name) in self.broken:
            return None
        definition = self._config[section][name]
        return definition if isinstance(definition, dict) else None

    def each(self, section: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the sound definitions of a section."""
        for name in self.names(section):
            definition = self.sound(section, name)
            if definition is not None:
                yield name, definition

    def setting(self, *keys: str) -> Any:
        """Return a value by its path, or None."""
        value: Any = self._config
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def chosen(self, key: str) -> list[str]:
        """Return the names that ``study.KEY`` lists, without what is no text."""
        names = self.setting("study", key)
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def refer(self, where: str, section: str, name: str, *, also: Sequence[str] = ()) -> bool:
        """Return whether `name` is defined in `section`; a problem if not."""
        names = [*self.names(section), *(name for name in also if name not in self.names(section))]
        if name in names:
            return True
        if self.known(section):
            self.problems.add(where, f"must be one of `{section}`: {listing(names)}{closest(name, names)}", repr(name))
        return False

    def network(self, name: str) -> dict[str, Any] | None:
        """Return a sound network; a trained one as its start with what is its own.

        That is ``layer``, ``layers``, ``start``, ``recipe``, and ``reaches``: the cut point that its head was put on.
        """
        network = self.sound("networks", name)
        if network is None or network["recipe"] is None:
            return network
        start = self.sound("networks", network["start"])
        if start is None or start["recipe"] is not None or self.sound("recipes", network["recipe"]) is None:
            return None
        own = {key: network[key] for key in ("layers", "start", "recipe")}
        own["layer"] = start["layer"] if network["layer"] is None else network["layer"]
        return {**start, **own, "reaches": recipes.reached(start)}

    def all_networks(self) -> dict[str, dict[str, Any]]:
        """Return every network that is sound, by name."""
        found = {name: self.network(name) for name in self.names("networks")}
        return {name: one for name, one in found.items() if one is not None}

    def feature_set(self, name: str) -> dict[str, Any] | None:
        """Return a feature set; a network is one by its own name."""
        if name in self.names("feature_sets"):
            return self.sound("feature_sets", name)
        return {"network": name} if name in self.names("networks") else None


def check(catalogue: Catalogue, folder: str | os.PathLike[str]) -> None:
    add = catalogue.problems.add
    for key, section in (("datasets", "datasets"), ("splits", "splits")):
        for place, name in enumerate(catalogue.chosen(key)):
            catalogue.refer(f"study.{key}[{place}]", section, name)
    for name in catalogue.names("datasets"):
        if name in RESERVED:
            add(f"datasets.{name}", f"{listing(RESERVED)} are folders of results", repr(name))
    for name, dataset in catalogue.each("datasets"):
        if "tiling" in dataset:
            catalogue.refer(f"datasets.{name}.tiling", "tilings", dataset["tiling"])
        for place, task in enumerate(dataset["tasks"]):
            catalogue.refer(f"datasets.{name}.tasks[{place}]", "tasks", task)
            regions = (catalogue.sound("tasks", task) or {}).get("regions")
            if regions is not None and dataset["kind"] != "slides":
                legal = f"task {task} has regions, which are drawn on slides: it must be slides"
                add(f"datasets.{name}.kind", legal, repr(dataset["kind"]))
        streamed = catalogue.setting("pixels") == "stream" and name in catalogue.chosen("datasets")
        if streamed and dataset["kind"] != "slides":
            add("pixels", f"stream is for datasets of slides alone, and {name} has {dataset['kind']}", "'stream'")
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
    if recipes.SOFTMAX in catalogue.names("classifiers"):
        legal = "softmax is the own output of a trained network, and there without being defined: take another name"
        add(f"classifiers.{recipes.SOFTMAX}", legal, repr(recipes.SOFTMAX))
    for name, spec in catalogue.each("feature_sets"):
        feature_sets.check(name, spec, catalogue)
    for name, classifier in catalogue.each("classifiers"):
        if classifier["kind"] in segmenters.KINDS:
            segmenters.check(name, classifier, catalogue)
    for name, selection in catalogue.each("selections"):
        step = selection["step"]
        if isinstance(step, float) and step >= 1:
            add(f"selections.{name}.step", "a step of 1 or more is a whole number of features", f"{step:g}")
    for name, split in catalogue.each("splits"):
        _check_split(f"splits.{name}", split, catalogue.problems)
    _check_used_networks(catalogue, folder)
    if catalogue.setting("extraction", "engine") == "openvino":
        if catalogue.setting("gpus"):
            add("extraction.engine", "openvino runs on the CPU: set gpus to 0, or take keras", "'openvino'")
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
                legal = f"a label belongs to one class, and {label!r} belongs to {owner[label]!r} already"
                problems.add(f"{where}.classes.{name}", legal, repr(label))
    for label in task["leave_out"]:
        if label in owner:
            problems.add(f"{where}.leave_out", f"{label!r} belongs to the class {owner[label]!r}", repr(label))


def _check_network(name: str, network: Mapping[str, Any], problems: Problems) -> None:
    for key, legal, found in feature_sets.network_problems(network):
        problems.add(f"networks.{name}.{key}", legal, found)
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
    """Check what matters only of networks that methods of the study use: files, and splits to stop by."""
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
        legal = f"training_mean is for what is trained on tiles, and {taken_from} takes features: network or unit"
        catalogue.problems.add(f"networks.{name}.rescale", legal, "'training_mean'")


def _check_weights(where: str, weights: str, folder: str | os.PathLike[str], problems: Problems) -> None:
    if weights in ("imagenet", "random") or weights.lower().endswith(PICKLES):
        return
    if not os.path.isfile(os.path.join(folder, weights)):
        near = closest(weights, ("imagenet", "random"))
        problems.add(where, f"must be imagenet, random, or the path of a file{near}", f"{weights!r}, no such file")


def _check_split(where: str, split: Mapping[str, Any], problems: Problems) -> None:
    unit, reason = split["unit"], split["share_groups"]
    if unit == "given":
        if split["groups"] is None:
            legal = "the unit given needs `groups`: what is resampled and kept in one fold, patient, slide or image"
            problems.add(where, legal, "no groups")
        for key in ("test", "validation"):
            if split[key]:
                legal = "the sets are given by the sheet: leave it out"
                problems.add(f"{where}.{key}", legal, repr(split[key]))
    else:
        if split["groups"] is not None:
            legal = "only the unit given has `groups`: leave it out"
            problems.add(f"{where}.groups", legal, repr(split["groups"]))
        if split["test"] is None:
            problems.add(where, "needs `test`, the share of the groups held out, above 0 and below 1", "nothing")
        elif split["test"] + split["validation"] >= 1:
            legal = "test and validation together must be below 1, to leave groups to train"
            problems.add(where, legal, f"{split['test']:g} and {split['validation']:g}")
    if unit == "tile" and not reason:
        legal = (
            "the unit tile puts tiles of one slide on both sides: say in `share_groups` why that is wanted, in words "
            "that the report states first"
        )
        problems.add(where, legal, "no reason")
    if unit == "patient" and reason:
        problems.add(f"{where}.share_groups", "patients are held apart: leave it out", repr(reason))
    if split["train_tiles"] is not None and split["train_tiles_per_class"] is not None:
        problems.add(where, "give train_tiles or train_tiles_per_class", "both")


def methods_of(catalogue: Catalogue) -> dict[str, tuple[Method, ...]]:
    """Return the methods whose parts are known, by what the study lists; problems of the others.

    A method on a choice among layers is followed by one method a layer.
    """
    methods = {}
    for place, name in enumerate(catalogue.chosen("methods")):
        where = f"study.methods[{place}]"
        features, mark, classifier = name.partition("+")
        if not mark or "+" in classifier or not features or not classifier:
            catalogue.problems.add(where, "must be FEATURE_SET+CLASSIFIER", repr(name))
            continue
        if classifier == recipes.SOFTMAX:
            _check_trained_method(where, features, catalogue)
            methods[name] = (Method(name, features, classifier),)
            continue
        defined = catalogue.known("networks") and catalogue.known("feature_sets")
        legal = [*catalogue.names("feature_sets"), *catalogue.names("networks")]
        if features not in legal and defined:
            text = f"must begin with a feature set or a network: {listing(legal)}{closest(features, legal)}"
            catalogue.problems.add(where, text, repr(features))
        catalogue.refer(where, "classifiers", classifier)
        spec, settings = catalogue.feature_set(features), catalogue.sound("classifiers", classifier)
        _check_fit(where, spec, settings, catalogue.problems)
        segmenters.check_fit(where, features, spec, settings, catalogue)
        sets = [features]
        if spec is not None and feature_sets.is_choice(spec, catalogue):
            sets = [one.name for one in feature_sets.resolved(features, spec, catalogue.all_networks())]
        methods[name] = tuple(Method(f"{one}+{classifier}", one, classifier) for one in sets)
    return methods


def _check_trained_method(where: str, network: str, catalogue: Catalogue) -> None:
    found = catalogue.sound("networks", network)
    if found is not None and found["recipe"] is not None:
        return
    if not catalogue.known("networks") or ("networks", network) in catalogue.broken:
        return
    trained = [name for name, one in catalogue.each("networks") if one["recipe"] is not None]
    legal = f"softmax is the own output of a trained network (one with start and recipe): {listing(trained)}"
    catalogue.problems.add(where, legal + closest(network, trained), repr(network))


def _check_fit(
    where: str, spec: Mapping[str, Any] | None, settings: Mapping[str, Any] | None, problems: Problems
) -> None:
    """Add a problem where a classifier does not learn from what the feature set gives."""
    if spec is None or settings is None:
        return
    windows, leaves = spec.get("pixels") is not None, settings["kind"] == "leaf_frequencies"
    if windows and not leaves:
        legal = "random windows of pixels are for a classifier of the kind leaf_frequencies"
        problems.add(where, legal, settings["kind"])
    elif leaves and not windows:
        legal = "a classifier of the kind leaf_frequencies learns from random windows: a feature set with `pixels`"
        problems.add(where, legal, "features of a network")


@dataclass(frozen=True)
class Comparison:
    """Methods that are ranked against one another; differences are to the `reference`."""

    name: str
    title: str
    methods: tuple[str, ...]
    reference: str


def comparisons_of(catalogue: Catalogue, methods: Mapping[str, Sequence[Method]]) -> dict[str, Comparison]:
    """Return the study's comparisons; where it names none, one of all methods, if there are two."""
    every = [method.name for several in methods.values() for method in several]
    asked = _listed(catalogue, "comparisons")
    if asked == [] and len(every) > 1:
        asked = [
            {"name": "all-methods", "title": "All methods", "methods": "all", "each_layer": True, "reference": None}
        ]
    found: dict[str, Comparison] = {}
    for place, spec in enumerate(asked or ()):
        where = f"study.comparisons[{place}]"
        listed = list(methods) if spec["methods"] == "all" else spec["methods"]
        alone = {name: several[:1] for name, several in methods.items()}
        members = _expanded(f"{where}.methods", listed, methods if spec["each_layer"] else alone, catalogue.problems)
        if len(members) < 2:
            catalogue.problems.add(f"{where}.methods", "a comparison takes two methods or more", listing(members))
        reference = spec["reference"] or next(iter(members), "")
        if members and reference not in members:
            legal = f"must be one of the comparison's methods: {listing(members)}{closest(reference, members)}"
            catalogue.problems.add(f"{where}.reference", legal, repr(reference))
        if spec["name"] in found:
            catalogue.problems.add(f"{where}.name", "each comparison has a name of its own", repr(spec["name"]))
        found[spec["name"]] = Comparison(spec["name"], spec["title"] or spec["name"], tuple(members), reference)
    return found


def strategies_of(catalogue: Catalogue, methods: Mapping[str, Sequence[Method]]) -> dict[str, list[str]]:
    """Return the study's strategies, each with the methods that are its variants.

    Where it names none, each feature set is one, if there are two methods.
    """
    asked = _listed(catalogue, "strategies")
    if asked == [] and len(methods) > 1:
        sets = {name: name.partition("+")[0] for name in methods}
        asked = [
            {"name": one, "methods": [name for name in methods if sets[name] == one]}
            for one in dict.fromkeys(sets.values())
        ]
    found: dict[str, list[str]] = {}
    for place, spec in enumerate(asked or ()):
        where = f"study.strategies[{place}]"
        if spec["name"] in found:
            catalogue.problems.add(f"{where}.name", "each strategy has a name of its own", repr(spec["name"]))
        # what a choice gives is one of its layers: it is no variant of its own
        variants = {name: several[1:] or several for name, several in methods.items()}
        found[spec["name"]] = _expanded(f"{where}.methods", spec["methods"], variants, catalogue.problems)
    for place, name in enumerate(catalogue.chosen("friedman") if asked is not None else ()):
        if name not in found:
            legal = f"must be one of `study.strategies`: {listing(found)}{closest(name, found)}"
            catalogue.problems.add(f"study.friedman[{place}]", legal, repr(name))
    return found


def _listed(catalogue: Catalogue, key: str) -> list[dict[str, Any]] | None:
    """Return what ``study.KEY`` lists; None where the schema has something against it."""
    return None if ("study", key) in catalogue.broken else catalogue.setting("study", key)


def _expanded(
    where: str, listed: Sequence[str], methods: Mapping[str, Sequence[Method]], problems: Problems
) -> list[str]:
    """Return listed methods by name; one on a choice among layers stands for what `methods` has for it."""
    every = {*methods, *(method.name for several in methods.values() for method in several)}
    found: dict[str, None] = {}
    for place, name in enumerate(listed):
        if name not in every:
            legal = f"must be one of `study.methods`: {listing(methods)}{closest(name, methods)}"
            problems.add(f"{where}[{place}]", legal, repr(name))
        found.update((method.name, None) for method in methods.get(name, (Method(name, "", ""),)))
    return list(found)


def _used_networks(catalogue: Catalogue) -> dict[str, str]:
    """Return the networks of the study's methods, with one method that takes each."""
    names: dict[str, str] = {}
    for method in catalogue.chosen("methods"):
        spec = catalogue.feature_set(method.partition("+")[0]) or {}
        one = [spec["network"]] if isinstance(spec.get("network"), str) else []
        for name in (*one, *(spec.get("networks") or ())):
            names.setdefault(name, method)
    return names


def class_members(task: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the labels of the sheet that belong to each class."""
    classes = task["classes"]
    return {name: [name] for name in classes} if isinstance(classes, list) else classes
