"""The models of a study by their factors, and the rules that make them.

A run is one model: a method, trained for one task of one dataset, on one split with one seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from histotransfer.definitions import Classifier, Draw, EndToEnd, Factors, Softmax, Unet
from histotransfer.networks.groups import SOFTMAX
from histotransfer.settings import DatasetParts, Fit, MethodParts, NetworkTraining
from histotransfer.study import paths, segmenters
from histotransfer.study.configuration import Study
from histotransfer.study.feature_sets import cell_px_of, layers_of, selection_of, sources_of
from histotransfer.study.methods import Method
from histotransfer.study.trained import TrainedNetwork


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
            replace(draw, features=method.features, classifier=method.classifier)
            for draw in self.draws(split)
            for method in self._study.methods
            if wanted is None or method.name in wanted
        ]

    def paths_of(self, pattern: str, methods: Iterable[str] | None = None, split: str | None = None) -> list[str]:
        """Return the paths of a pattern for the runs of :meth:`factors`."""
        return paths.filled(pattern, self.factors(methods, split))

    def of_layers(self, features: str, classifier: str, split: str) -> list[Factors]:
        """Return the factors of the runs behind a choice among layers."""
        layers = layers_of(self._study.feature_sets[features]).values()
        return self.factors([f"{name}+{classifier}" for name in layers], split)

    def models(self) -> list[str]:
        """Return the file of every trained model: Keras' own format, or skops for those of scikit-learn."""
        by_keras = (SOFTMAX, *segmenters.KINDS)
        kinds = {name: classifier.kind for name, classifier in self._study.classifiers.items()}
        return [
            f"{paths.RUN}/model.{'keras' if kinds[run.classifier] in by_keras else 'skops'}".format(**run.wildcards)
            for run in self.factors()
        ]

    def trainings(self, pattern: str) -> list[str]:
        """Return the paths of a pattern for every trained network, as each dataset, task, split and seed trains it."""
        return [pattern.format(network=name, **draw.wildcards) for draw in self.draws() for name in self._study.trained]

    def selections(self, split: str, features: str | None = None) -> list[Factors]:
        """Return the factors, without a classifier, of the selections of a split, or of those of one feature set."""
        selected = [name for name, feature_set in self._study.feature_sets.items() if selection_of(feature_set)]
        return [
            replace(draw, features=name) for name in selected if features in (None, name) for draw in self.draws(split)
        ]

    def draws(self, split: str | None = None) -> list[Factors]:
        """Return the factors of every task, split and seed, without those of a method."""
        return [
            Factors(dataset.name, task, name, Draw(seed))
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


def parts(study: Study, method: Method) -> MethodParts:
    """Return what a method is made of, to count what it costs."""
    features = study.feature_sets[method.features]
    choice = tuple(layers_of(features).values())
    read = [study.feature_sets[name] for name in choice] or [features]
    sources = tuple(source for feature_set in read for source in sources_of(feature_set))
    trained = sorted({source.network for source in sources} & study.trained.keys())
    return MethodParts(
        features=method.features,
        classifier=method.classifier,
        sources=() if method.classifier == SOFTMAX else sources,
        selection=selection_of(features) is not None,
        choice=choice,
        fitted=_fitted(study.classifiers[method.classifier], method.classifier, choosing=bool(choice)),
        cell_px=cell_px_of(features),
        trained=tuple(_training(study.trained[name]) for name in trained),
    )


def parts_of_datasets(study: Study) -> dict[str, DatasetParts]:
    """Return what each dataset is made of, to count what methods cost."""
    return {
        name: DatasetParts(tuple(dataset.tasks), tuple(dataset.shards), tuple(dataset.parts))
        for name, dataset in study.datasets.items()
    }


def rule_of_model(study: Study, method: Method) -> str:
    """Return the rule that writes the model of a method, with its predictions."""
    if method.classifier == SOFTMAX:
        return _training(study.trained[method.features]).rules[-1]
    choosing = bool(layers_of(study.feature_sets[method.features]))
    return _fitted(study.classifiers[method.classifier], method.classifier, choosing=choosing)[-1].rule


def _fitted(classifier: Classifier, name: str, *, choosing: bool) -> tuple[Fit, ...]:
    match classifier:
        case Softmax():
            return ()
        case EndToEnd():
            return (Fit("train_unet", classifier.start), Fit("train_end_to_end", name))
        case Unet():
            return (Fit("train_unet", name),)
    return (Fit("choose_layer" if choosing else "train_classifier", name),)


def _training(network: TrainedNetwork) -> NetworkTraining:
    """Return a trained network, the start whose features its head is trained on, and the rules that train it."""
    head = ("train_head",) if network.on_features else ()
    last = "attach_head" if network.head_only else "train_network"
    return NetworkTraining(network.name, network.start_name if head else "", (*head, last))
