"""The models of a study by their factors, and the rules that make them.

A run is one model: a method, trained for one task of one dataset, on one split with one seed. Its factors are a
dictionary with the wildcards of :data:`histotransfer.study.paths.RUN`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from histotransfer.definitions import Classifier, EndToEnd, Softmax, Unet
from histotransfer.networks.groups import SOFTMAX
from histotransfer.plain_data import plain
from histotransfer.study import paths, segmenters
from histotransfer.study.configuration import Study
from histotransfer.study.feature_sets import cell_px_of, layers_of, selection_of, sources_of
from histotransfer.study.methods import Method
from histotransfer.study.trained import TrainedNetwork

#: What identifies a run: `dataset`, `task`, `split`, `seed`, `features`, `classifier`.
Factors = dict[str, Any]


class Runs:
    """The runs of a study.

    Parameters
    ----------
    study : Study
    """

    def __init__(self, study: Study) -> None:
        self._study = study

    def factors(self, methods: Iterable[str] | None = None, split: str | None = None) -> list[Factors]:
        """Return the factors of every run, or of those of some methods (by name) and of one split."""
        wanted = None if methods is None else set(methods)
        return [
            {**draw, "features": method.features, "classifier": method.classifier}
            for draw in self._draws(split)
            for method in self._study.methods
            if wanted is None or method.name in wanted
        ]

    def paths_of(self, pattern: str, methods: Iterable[str] | None = None, split: str | None = None) -> list[str]:
        """Return the paths of a pattern for the runs of :meth:`factors`."""
        return paths.filled(pattern, self.factors(methods, split))

    def of_layers(self, features: str, classifier: str, split: str) -> list[Factors]:
        """Return the factors, with ``layer``, of the runs behind a choice among layers."""
        layers = {name: layer for layer, name in layers_of(self._study.feature_sets[features]).items()}
        methods = [f"{name}+{classifier}" for name in layers]
        return [{**run, "layer": layers[run["features"]]} for run in self.factors(methods, split)]

    def models(self) -> list[str]:
        """Return the file of every trained model: Keras' own format, or skops for those of scikit-learn."""
        by_keras = (SOFTMAX, *segmenters.KINDS)
        kinds = {name: classifier.kind for name, classifier in self._study.classifiers.items()}
        return [
            f"{paths.RUN}/model.{'keras' if kinds[run['classifier']] in by_keras else 'skops'}".format(**run)
            for run in self.factors()
        ]

    def trainings(self, pattern: str) -> list[str]:
        """Return the paths of a pattern for every trained network, as each dataset, task, split and seed trains it."""
        return [pattern.format(network=name, **draw) for draw in self._draws() for name in self._study.trained]

    def selections(self, split: str, features: str | None = None) -> list[Factors]:
        """Return the factors, without a classifier, of the selections of a split, or of those of one feature set."""
        selected = [name for name, feature_set in self._study.feature_sets.items() if selection_of(feature_set)]
        return [
            {**draw, "features": name} for name in selected if features in (None, name) for draw in self._draws(split)
        ]

    def _draws(self, split: str | None = None) -> list[Factors]:
        """Return the factors of every task and seed, whatever is trained there."""
        return [
            {"dataset": dataset.name, "task": task, "split": name, "seed": seed}
            for dataset in self._study.datasets.values()
            for task in dataset.tasks
            for name in (self._study.splits if split is None else [split])
            for seed in self._study.seeds
        ]


# ---- what methods are made of


def variants(study: Study) -> list[str]:
    """Return the methods that are variants of a strategy, each once."""
    return list(dict.fromkeys(name for methods in study.strategies.values() for name in methods))


def kinds(study: Study, methods: Sequence[str]) -> dict[str, str]:
    """Return the kind of classifier of each of these methods."""
    of_all = {method.name: study.classifiers[method.classifier].kind for method in study.methods}
    return {name: of_all[name] for name in methods}


def parts(study: Study, method: Method) -> dict[str, Any]:
    """Return what a method is made of, to count what it costs (:func:`histotransfer.evaluation.costs.of_methods`).

    Returns
    -------
    dict
        ``features``, ``classifier``, ``sources`` (networks whose features it learns from), ``selection`` (whether it
        selects features), ``choice`` (feature sets of the layers that it chooses from), ``fitted`` (pairs of the rule
        and the classifier that fit its own models), ``cell_px``, ``trained`` (:func:`_training` of each network that
        is trained for it).
    """
    features = study.feature_sets[method.features]
    choice = list(layers_of(features).values())
    read = [study.feature_sets[name] for name in choice] or [features]
    sources = [source for feature_set in read for source in sources_of(feature_set)]
    trained = sorted({source.network for source in sources} & study.trained.keys())
    return {
        "features": method.features,
        "classifier": method.classifier,
        "sources": [] if method.classifier == SOFTMAX else plain(sources),
        "selection": selection_of(features) is not None,
        "choice": choice,
        "fitted": _fitted(study.classifiers[method.classifier], method.classifier, choosing=bool(choice)),
        "cell_px": cell_px_of(features),
        "trained": [_training(study.trained[name]) for name in trained],
    }


def _fitted(classifier: Classifier, name: str, *, choosing: bool) -> list[tuple[str, str]]:
    match classifier:
        case Softmax():
            return []
        case EndToEnd():
            return [("train_unet", classifier.start), ("train_end_to_end", name)]
        case Unet():
            return [("train_unet", name)]
    return [("choose_layer" if choosing else "train_classifier", name)]


def _training(network: TrainedNetwork) -> dict[str, Any]:
    """Return a trained network, the start whose features its head is trained on, and the rules that train it."""
    head = ["train_head"] if network.on_features else []
    last = "attach_head" if network.head_only else "train_network"
    return {"network": network.name, "start": network.start_name if head else "", "rules": [*head, last]}
