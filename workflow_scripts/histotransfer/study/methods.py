"""The methods, comparisons and strategies of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from histotransfer.networks.groups import SOFTMAX
from histotransfer.problems import Problems, closest, listing
from histotransfer.study import feature_sets, segmenters
from histotransfer.study.catalogue import Catalogue


@dataclass(frozen=True)
class Method:
    """A feature set with a classifier; `name` is FEATURES+CLASSIFIER."""

    name: str
    features: str
    classifier: str


def methods_of(catalogue: Catalogue) -> dict[str, tuple[Method, ...]]:
    """Return the methods whose parts are known, by their names in ``study.methods``; add problems of the others.

    A method on a choice among layers is followed by one method per layer.
    """
    methods = {}
    for place, name in enumerate(catalogue.chosen("methods")):
        where = f"study.methods[{place}]"
        features, mark, classifier = name.partition("+")
        if not mark or "+" in classifier or not features or not classifier:
            catalogue.problems.add(where, "must be FEATURE_SET+CLASSIFIER", repr(name))
            continue
        if classifier == SOFTMAX:
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
            resolved = feature_sets.resolved(features, spec, catalogue.all_networks())
            sets = [feature_set.name for feature_set in resolved]
        methods[name] = tuple(Method(f"{each}+{classifier}", each, classifier) for each in sets)
    return methods


def _check_trained_method(where: str, network: str, catalogue: Catalogue) -> None:
    entry = catalogue.sound("networks", network)
    if entry is not None and entry["recipe"] is not None:
        return
    if not catalogue.known("networks") or ("networks", network) in catalogue.broken:
        return
    trained = [name for name, other in catalogue.each("networks") if other["recipe"] is not None]
    legal = f"softmax is the output of a trained network (one with start and recipe): {listing(trained)}"
    catalogue.problems.add(where, legal + closest(network, trained), repr(network))


def _check_fit(
    where: str, spec: Mapping[str, Any] | None, settings: Mapping[str, Any] | None, problems: Problems
) -> None:
    """Add a problem where a classifier cannot learn from what the feature set gives."""
    if spec is None or settings is None:
        return
    windows, leaves = spec.get("pixels") is not None, settings["kind"] == "leaf_frequencies"
    if windows and not leaves:
        legal = "random windows of pixels need a classifier of the kind leaf_frequencies"
        problems.add(where, legal, settings["kind"])
    elif leaves and not windows:
        legal = "a classifier of the kind leaf_frequencies needs random windows: a feature set with `pixels`"
        problems.add(where, legal, "features of a network")


@dataclass(frozen=True)
class Comparison:
    """Methods that are ranked against one another; differences are measured from the `reference`."""

    name: str
    title: str
    methods: tuple[str, ...]
    reference: str


def comparisons_of(catalogue: Catalogue, methods: Mapping[str, Sequence[Method]]) -> dict[str, Comparison]:
    """Return the study's comparisons; if it names none, one of all methods, where there are at least two."""
    every = [method.name for several in methods.values() for method in several]
    asked = _listed(catalogue, "comparisons")
    if asked == [] and len(every) > 1:
        asked = [
            {"name": "all-methods", "title": "All methods", "methods": "all", "each_layer": True, "reference": None}
        ]
    comparisons: dict[str, Comparison] = {}
    for place, spec in enumerate(asked or ()):
        where = f"study.comparisons[{place}]"
        listed = list(methods) if spec["methods"] == "all" else spec["methods"]
        alone = {name: several[:1] for name, several in methods.items()}
        members = _expanded(f"{where}.methods", listed, methods if spec["each_layer"] else alone, catalogue.problems)
        if len(members) < 2:
            catalogue.problems.add(f"{where}.methods", "a comparison needs two or more methods", listing(members))
        reference = spec["reference"] or next(iter(members), "")
        if members and reference not in members:
            legal = f"must be one of the comparison's methods: {listing(members)}{closest(reference, members)}"
            catalogue.problems.add(f"{where}.reference", legal, repr(reference))
        if spec["name"] in comparisons:
            catalogue.problems.add(f"{where}.name", "names of comparisons must be unique", repr(spec["name"]))
        comparisons[spec["name"]] = Comparison(spec["name"], spec["title"] or spec["name"], tuple(members), reference)
    return comparisons


def strategies_of(catalogue: Catalogue, methods: Mapping[str, Sequence[Method]]) -> dict[str, list[str]]:
    """Return the study's strategies, each with the methods that are its variants.

    If it names none, each feature set is a strategy, where there are at least two methods.
    """
    asked = _listed(catalogue, "strategies")
    if asked == [] and len(methods) > 1:
        sets = {name: name.partition("+")[0] for name in methods}
        asked = [
            {"name": features, "methods": [name for name in methods if sets[name] == features]}
            for features in dict.fromkeys(sets.values())
        ]
    strategies: dict[str, list[str]] = {}
    for place, spec in enumerate(asked or ()):
        where = f"study.strategies[{place}]"
        if spec["name"] in strategies:
            catalogue.problems.add(f"{where}.name", "names of strategies must be unique", repr(spec["name"]))
        # a choice gives one of its layers, so only the layers are variants
        variants = {name: several[1:] or several for name, several in methods.items()}
        strategies[spec["name"]] = _expanded(f"{where}.methods", spec["methods"], variants, catalogue.problems)
    for place, name in enumerate(catalogue.chosen("friedman") if asked is not None else ()):
        if name not in strategies:
            legal = f"must be one of `study.strategies`: {listing(strategies)}{closest(name, strategies)}"
            catalogue.problems.add(f"study.friedman[{place}]", legal, repr(name))
    return strategies


def _listed(catalogue: Catalogue, key: str) -> list[dict[str, Any]] | None:
    """Return what ``study.KEY`` lists; None if the schema refuses it."""
    return None if ("study", key) in catalogue.broken else catalogue.setting("study", key)


def _expanded(
    where: str, listed: Sequence[str], methods: Mapping[str, Sequence[Method]], problems: Problems
) -> list[str]:
    """Return the names of listed methods; a method on a choice among layers becomes what `methods` has for it."""
    every = {*methods, *(method.name for several in methods.values() for method in several)}
    names: dict[str, None] = {}
    for place, name in enumerate(listed):
        if name not in every:
            legal = f"must be one of `study.methods`: {listing(methods)}{closest(name, methods)}"
            problems.add(f"{where}[{place}]", legal, repr(name))
        names.update((method.name, None) for method in methods.get(name, (Method(name, "", ""),)))
    return list(names)
