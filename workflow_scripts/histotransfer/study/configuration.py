"""The config, checked before any job runs: what was asked for, as one :class:`Study`.

The schema has what each key may hold. This module adds what a schema cannot say: names that must exist in other
sections, layers that a network must have, and what the sample sheets must hold for the splits of the study. All
problems of the config and of the sheets are reported together.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from histotransfer import plain_data
from histotransfer.definitions import Classifier, RowClassifier, Selection, Softmax, Split
from histotransfer.networks.groups import SOFTMAX
from histotransfer.networks.specification import NetworkSpec
from histotransfer.problems import Problems, counted, listing
from histotransfer.settings import Evaluation, Extraction, Staging, Training
from histotransfer.study import checks, datasets, networks_in_use, schema, segmenters
from histotransfer.study import feature_sets as study_feature_sets
from histotransfer.study.catalogue import Catalogue
from histotransfer.study.datasets import Dataset
from histotransfer.study.feature_sets import FeatureSet, WindowFeatures, selection_of
from histotransfer.study.methods import Comparison, Method, comparisons_of, methods_of, strategies_of
from histotransfer.study.trained import TrainedNetwork


class ConfigurationError(ValueError):
    """The config or a sample sheet is wrong; the message has every problem, one a line, by file."""

    def __init__(self, problems: Mapping[str, Problems]) -> None:
        self.problems = {file: of_file for file, of_file in problems.items() if of_file}
        total = sum(of_file.count for of_file in self.problems.values())
        lines = [f"{counted(total, 'problem')} in the config and the sample sheets; nothing was run"]
        for file, of_file in self.problems.items():
            lines += [f"{file}:", *(f"  {line}" for line in of_file.lines())]
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Study:
    """What was asked for, with every default filled in and every name known to exist.

    Attributes
    ----------
    name : str
    methods : tuple of Method
        A method on a choice among layers is followed by one method per layer.
    comparisons : dict of str to Comparison
    strategies : dict of str to list of str
        Names of the methods that are variants of each strategy.
    friedman : tuple of str
        Strategies to test.
    splits : dict of str to Split
    seeds : tuple of int
    master_seed, gpus, n_shards : int
    on_bad_slide, missing_mpp, pixels : str
    datasets : dict of str to Dataset
    networks : dict of str to NetworkSpec
        Networks whose features the methods use as they are.
    trained : dict of str to TrainedNetwork
        Networks that are trained.
    feature_sets : dict of str to FeatureSet
        Those that the methods use.
    selections : dict of str to Selection
        Those that the methods use.
    classifiers : dict of str to Classifier
        Those that the methods use; ``softmax`` is the output of a trained network.
    evaluation, extraction, training, staging : Evaluation, Extraction, Training, Staging
    config : dict
        The whole config with its defaults.
    """

    name: str
    methods: tuple[Method, ...]
    comparisons: dict[str, Comparison]
    strategies: dict[str, list[str]]
    friedman: tuple[str, ...]
    splits: dict[str, Split]
    seeds: tuple[int, ...]
    master_seed: int
    gpus: int
    n_shards: int
    on_bad_slide: str
    missing_mpp: str
    pixels: str
    datasets: dict[str, Dataset]
    networks: dict[str, NetworkSpec]
    trained: dict[str, TrainedNetwork]
    feature_sets: dict[str, FeatureSet]
    selections: dict[str, Selection]
    classifiers: dict[str, Classifier]
    evaluation: Evaluation
    extraction: Extraction
    training: Training
    staging: Staging
    config: dict[str, Any]

    def px_of(self, dataset: str) -> list[int]:
        """Return the sizes (pixels) of the tiles that networks and random windows take of `dataset`, ascending."""
        if dataset not in self.datasets:
            raise ValueError(f"datasets of the study are {listing(self.datasets)}; found {dataset!r}")
        return sorted({network.px for network in self.networks.values()} | self._px_read_often())

    def px_stored(self, dataset: str) -> list[int]:
        """Return the sizes (pixels) whose tiles are files: all, or with streamed pixels those that are read often."""
        every = self.px_of(dataset)
        return every if self.pixels == "cache" else sorted(self._px_read_often())

    def _px_read_often(self) -> set[int]:
        windows = {
            feature_set.definition.windows.px
            for feature_set in self.feature_sets.values()
            if isinstance(feature_set, WindowFeatures)
        }
        return windows | {network.px for network in self.trained.values() if not network.head_only}


def load(
    config: Mapping[str, Any], schema_file: str | os.PathLike[str], *, folder: str | os.PathLike[str] = "."
) -> Study:
    """Check a config and the sample sheets that it names, and return the study.

    Parameters
    ----------
    config : mapping
        As Snakemake merged it. It is not changed.
    schema_file : path
        The JSON schema of the config, as YAML.
    folder : path
        The working directory, which all relative paths are relative to.

    Raises
    ------
    ConfigurationError
        With all problems of the config and of the sheets.
    """
    with open(schema_file, encoding="utf-8") as file:
        rules = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    problems = {"config": Problems()}
    written = schema.plain(config, "", problems["config"])
    asked = schema.Defaults(rules).filled(written, rules)
    catalogue = Catalogue(asked, problems["config"], schema.refused(written, rules, problems["config"]))
    checks.check(catalogue, folder)
    listed = methods_of(catalogue)
    comparisons = comparisons_of(catalogue, listed)
    strategies = strategies_of(catalogue, listed)
    splits = {
        name: _split(entry)
        for name in catalogue.chosen("splits")
        if (entry := catalogue.sound("splits", name)) is not None
    }
    of_study = {
        name: dataset
        for name in catalogue.chosen("datasets")
        if (dataset := datasets.read(name, catalogue, splits, problems, folder)) is not None
    }
    if any(problems.values()):
        raise ConfigurationError(problems)
    methods = tuple(dict.fromkeys(method for several in listed.values() for method in several))
    feature_sets = _feature_sets(catalogue, listed)
    layers = networks_in_use.needed_layers(methods, feature_sets)
    trained = networks_in_use.trained_networks(catalogue, methods, layers)
    selections = dict.fromkeys(selection_of(feature_set) for feature_set in feature_sets.values())
    return Study(
        name=asked["study"]["name"],
        methods=methods,
        comparisons=comparisons,
        strategies=strategies,
        friedman=tuple(asked["study"]["friedman"]),
        splits=splits,
        seeds=tuple(asked["study"]["seeds"]),
        master_seed=asked["seed"],
        gpus=asked["gpus"],
        n_shards=asked["n_shards"],
        on_bad_slide=asked["on_bad_slide"],
        missing_mpp=asked["missing_mpp"],
        pixels=asked["pixels"],
        datasets=of_study,
        networks=networks_in_use.untrained_networks(asked["networks"], layers, trained),
        trained=trained,
        feature_sets=feature_sets,
        selections={name: plain_data.made(Selection, asked["selections"][name]) for name in selections if name},
        classifiers=_classifiers(asked, methods),
        evaluation=plain_data.made(Evaluation, asked["evaluation"]),
        extraction=plain_data.made(Extraction, asked["extraction"]),
        training=plain_data.made(Training, asked["training"]),
        staging=plain_data.made(Staging, asked["staging"]),
        config=asked,
    )


def _split(entry: Mapping[str, Any]) -> Split:
    return plain_data.made(Split, {**entry, "share_groups": entry["share_groups"] or ""})


def _feature_sets(catalogue: Catalogue, methods: Mapping[str, Sequence[Method]]) -> dict[str, FeatureSet]:
    """Return the feature sets in use, by name; a choice among layers is followed by those of the layers."""
    networks = catalogue.all_networks()
    return {
        feature_set.name: feature_set
        for name in dict.fromkeys(method.partition("+")[0] for method in methods)
        for feature_set in study_feature_sets.resolved(name, catalogue.feature_set(name) or {}, networks)
    }


def _classifiers(asked: Mapping[str, Any], methods: Sequence[Method]) -> dict[str, Classifier]:
    """Return the classifiers in use; a segmentation network that another begins with is used too."""
    defined, recipes = asked["classifiers"], asked["recipes"]
    classifiers: dict[str, Classifier] = {}
    for name in dict.fromkeys(method.classifier for method in methods):
        if name == SOFTMAX:
            classifiers[name] = Softmax()
        elif defined[name]["kind"] in segmenters.KINDS:
            classifiers[name] = segmenters.resolved(name, defined, recipes)
            start = defined[name].get("start")
            if start:
                classifiers.setdefault(start, segmenters.resolved(start, defined, recipes))
        else:
            classifiers[name] = plain_data.made(RowClassifier, defined[name])
    return classifiers
