"""What a study's report holds: every file behind it with its path, its place on the page and its rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from histotransfer import seeds
from histotransfer.definitions import Augmentation, EndToEnd, ExtraTrees, Factors
from histotransfer.networks import groups
from histotransfer.report.entries import DescribedMethod, Entry
from histotransfer.settings import TrainedModel
from histotransfer.study import paths, runs, segmenters
from histotransfer.study.configuration import Dataset, Study
from histotransfer.study.feature_sets import cell_px_of, layers_of, selection_of, sources_of

#: Slides of a dataset whose pictures the report shows; of more, so many are drawn by the master seed.
SHOWN_SLIDES = 40

#: Test tiles of each class beside their Grad-CAM maps, and of all classes together, at most.
EXPLAINED, EXPLAINED_IN_ALL = 4, 48


def sample_slides(slides: Sequence[str], *, at_most: int = 40, master_seed: int) -> list[str]:
    """Return the slides whose pictures the report shows: all, or `at_most` drawn by the master seed.

    An added slide takes the place of at most one other. The order of `slides` is kept.
    """
    ranked = sorted(slides, key=lambda slide: (seeds.unit_hash(master_seed, "slides shown", slide), slide))
    shown = set(ranked[:at_most])
    return [slide for slide in slides if slide in shown]


class Contents:
    """The report of a study. Paths are relative to the working directory.

    Parameters
    ----------
    study : Study
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._runs = runs.Runs(study)
        self._first_seed = next(iter(study.seeds))
        self._slides = {name: self._shown_slides(one) for name, one in study.datasets.items()}
        of_layers = {name for one in study.feature_sets.values() for name in layers_of(one).values()}
        #: Methods with pictures of their own: a single layer among many is a point of a curve.
        self.methods = [method for method in study.methods if method.features not in of_layers]
        #: Datasets of slides with their tasks whose labels come from drawn regions: those that are shown as maps.
        self.mapped = {
            name: tasks
            for name, one in study.datasets.items()
            if (tasks := [task for task, definition in one.tasks.items() if definition.regions])
        }

    def _shown_slides(self, dataset: Dataset) -> list[str]:
        if dataset.kind != "slides":
            return []
        return sample_slides(dataset.parts, at_most=SHOWN_SLIDES, master_seed=self._study.master_seed)

    # ---- files behind the pages

    def entries(self) -> list[Entry]:
        """Every file behind the report, in the order in which its last chapter lists them."""
        tables = self.tables()
        return [
            self._entry(paths.SCORES, "collect_scores", "scores", "scores"),
            *self._cohorts(),
            *(
                self._entry(paths.SPLIT_COUNTS, "count_split", "splits", "counts", **_draw(factors))
                for factors in self._runs.draws()
            ),
            *self._figures(tables),
            *tables,
            *(
                self._entry(paths.FRIEDMAN, "friedman_test", "strategies", "friedman", split=split)
                for split in (self._study.splits if self._study.strategies else ())
            ),
            # of the first seed, since GeoJSON of a whole study takes gigabytes
            *(
                self._entry(paths.MAPS_INDEX, "write_maps", "maps", "index", **run.wildcards)
                for run in self.map_runs(seed=self._first_seed)
            ),
            *(
                self._entry(paths.DESCRIPTION, "inspect_slide", "slides", "description", dataset=name, slide=slide)
                for name, slides in self._slides.items()
                for slide in slides
            ),
            *self._predictions(),
        ]

    def costs(self) -> list[Entry]:
        """The files behind the page of what the run cost; methods are compared in the first split."""
        entries = [
            self._entry(paths.COST, "collect_costs", "cost", "cost"),
            self._entry(paths.COST_FIGURE, "draw_cost", "cost", "cost"),
        ]
        if len(self._study.methods) > 1:
            split = next(iter(self._study.splits))
            for ending, rule in ((".csv", "cost_methods"), (".svg", "draw_method_costs")):
                entries.append(self._entry(paths.METHOD_COSTS + ending, rule, "methods", "costs", split=split))
        return entries

    def tables(self) -> list[Entry]:
        """Every table that compares methods, in the order of the page."""
        entries = []
        for split in self._study.splits:
            entries += self._comparisons(split)
            if self._study.strategies:
                about = ("tabulate_strategies", "strategies", "strategies")
                entries.append(self._entry(f"{paths.STRATEGIES}.csv", *about, split=split))
            for kind in ("accuracy", "epochs", "steps") if self.trainings(split) else ():
                path = f"{paths.CURVES}/{kind}.csv"
                entries.append(self._entry(path, "tabulate_training", "training", kind, split=split))
            entries += self._layers_and_importances(split)
            entries += self._selections(split)
            entries += self._maps(split)
        if self.segmentations():
            path = f"{paths.STUDY_MAPS}/canvases.csv"
            entries.append(self._entry(path, "tabulate_canvases", "maps", "canvases"))
        return entries

    def _entry(self, pattern: str, rule: str, section: str, kind: str, **fields: Any) -> Entry:
        """Return an entry with its path: a pattern of :mod:`histotransfer.study.paths`, filled with the fields."""
        return Entry(pattern.format(study=self._study.name, **fields), rule, section, kind, **fields)

    def _cohorts(self) -> list[Entry]:
        return [
            self._entry(
                paths.SLIDES_TABLE,
                "cohort" if dataset.kind == "slides" else "cohort_of_table",
                *("attrition", "slides"),
                dataset=name,
            )
            for name, dataset in self._study.datasets.items()
        ]

    def _predictions(self) -> list[Entry]:
        """What every model predicts."""
        rule_of = {method.name: runs.rule_of_model(self._study, method) for method in self._study.methods}
        return [
            self._entry(paths.PREDICTIONS, rule_of[run.method], "asked", "predictions", **run.wildcards)
            for run in self._runs.factors()
        ]

    # ---- figures

    def _figures(self, tables: Sequence[Entry]) -> list[Entry]:
        """Every figure: those drawn of tables, then those of datasets, splits, training and maps."""
        entries = [
            replace(table, path=f"{table.path.removesuffix('.csv')}.svg", rule=rule)
            for table in tables
            if (rule := _DRAWN_BY.get((table.section, table.kind)))
        ]
        for dataset in self._study.datasets.values():
            entries += self._of_dataset(dataset)
            for task in dataset.tasks:
                for split in self._study.splits:
                    entries += self._of_split(dataset.name, task, split)
        for split in self._study.splits:
            entries += self._of_training(split)
        return entries + self._of_maps()

    def _of_dataset(self, dataset: Dataset) -> list[Entry]:
        name = dataset.name
        entries = [self._entry(paths.ATTRITION_FIGURE, "draw_attrition", "attrition", "attrition", dataset=name)]
        for network in self._varied(dataset):
            about = ("draw_augmentation", "training", "augmentation")
            entries.append(self._entry(paths.AUGMENTATION_PICTURE, *about, dataset=name, network=network))
        for slide in self._slides[name]:
            about = ("draw_slide_tiles", "slides", "slides")
            entries.append(self._entry(paths.SLIDE_PICTURE, *about, dataset=name, slide=slide))
        if self._study.pixels == "stream" and dataset.kind == "slides":
            return entries
        for task, definition in dataset.tasks.items():
            for number, class_name in enumerate(definition.classes):
                path = paths.TILES_PICTURE.format(dataset=name, task=task, class_number=number)
                about = ("draw_tiles", "tiles", "tiles")
                entries.append(Entry(path, *about, dataset=name, task=task, class_name=class_name))
        return entries

    def _of_split(self, dataset: str, task: str, split: str) -> list[Entry]:
        factors: dict[str, Any] = {"dataset": dataset, "task": task, "split": split}
        entries = [self._entry(paths.SCORES_FIGURE, "draw_scores", "scores", "scores", **factors)]
        for seed in self._study.seeds:
            factors["seed"] = seed
            entries.append(self._entry(paths.SPLIT_FIGURE, "draw_splits", "splits", "splits", **factors))
            for method in self.methods:
                of_method = {"features": method.features, "classifier": method.classifier}
                about = ("draw_confusion", "confusion", "confusion")
                entries.append(self._entry(paths.CONFUSION_FIGURE, *about, **factors, **of_method))
        return entries

    def _varied(self, dataset: Dataset) -> list[str]:
        """Return networks whose training varies the tiles, one for each way to do it."""
        found: dict[tuple[Augmentation | int | None, ...], str] = {}
        for name, one in self._study.trained.items():
            varied = (one.recipe.augmentation, one.recipe.crop_from)
            if not one.head_only and any(varied):
                found.setdefault((*varied, one.start.px), name)
        return list(found.values())

    def _of_training(self, split: str) -> list[Entry]:
        """Return the learning curves of a split's trained networks, and what they look at with the first seed."""
        entries: list[Entry] = []
        for dataset in self._study.datasets.values():
            for task in dataset.tasks:
                entries += self._of_trained(dataset, task, split)
        for run in self.segmentations(split=split):
            if run.seed == self._first_seed:
                path = paths.SEGMENTATION_EPOCHS_FIGURE.format(study=self._study.name, **run.wildcards)
                about = ("draw_segmentation_epochs", "training", "epochs")
                factors = {"dataset": run.dataset, "task": run.task, "split": split}
                entries.append(Entry(path, *about, network=run.method, **factors))
        return entries

    def _of_trained(self, dataset: Dataset, task: str, split: str) -> list[Entry]:
        entries: list[Entry] = []
        factors = {"section": "training", "dataset": dataset.name, "task": task, "split": split}
        trained = self._study.trained
        curves = {one.start.architecture.name: None for one in trained.values() if one.recipe.curve is not None}
        for architecture in curves:
            path = paths.ITERATIONS_FIGURE.format(study=self._study.name, architecture=architecture.lower(), **factors)
            entries.append(Entry(path, "draw_iterations", kind="iterations", architecture=architecture, **factors))
        for name, network in trained.items():
            entries.append(self._entry(paths.EPOCHS_FIGURE, "draw_epochs", kind="epochs", network=name, **factors))
            if network.head_only and dataset.kind == "slides" and self._study.pixels == "stream":
                # no tiles are stored for it, and cutting all of them for one picture takes too long
                continue
            of_network = {"network": name, "seed": self._first_seed}
            entries.append(self._entry(paths.GRAD_CAM, "grad_cam", kind="grad_cam", **of_network, **factors))
        return entries

    def _of_maps(self) -> list[Entry]:
        """Return the slides with their regions, and with the first seed the maps of all methods side by side."""
        entries: list[Entry] = []
        for name, tasks in self.mapped.items():
            for task in tasks:
                factors = {"dataset": name, "task": task}
                for slide in self._slides[name]:
                    about = ("draw_annotation", "annotations", "annotations")
                    entries.append(self._entry(paths.ANNOTATION_PICTURE, *about, slide=slide, **factors))
                for split in self._study.splits:
                    of_split = {"split": split, "seed": self._first_seed, **factors}
                    entries.append(self._entry(paths.MAPS_FIGURE, "draw_maps", "maps", "maps", **of_split))
        return entries

    # ---- tables

    def _maps(self, split: str) -> list[Entry]:
        entries = []
        rules = {"methods": "tabulate_map_methods", "points": "tabulate_points"} if self.mapped else {}
        if self.segmentations(segmenters.END_TO_END):
            rules["moved"] = "tabulate_moved"
        for kind, rule in rules.items():
            entries.append(self._entry(f"{paths.MAPS}/{kind}.csv", rule, "maps", kind, split=split))
        for kind in ("stages", "left_out") if self.stagings(split) else ():
            entries.append(self._entry(f"{paths.STAGES}/{kind}.csv", "collect_staging", "staging", kind, split=split))
        return entries

    def _comparisons(self, split: str) -> list[Entry]:
        entries = []
        for name, comparison in self._study.comparisons.items():
            of_split = {"caption": comparison.title, "split": split, "comparison": name}
            for pattern, rule, kind in (
                (paths.RANKS, "rank_methods", "ranks"),
                (paths.DIFFERENCES, "compare_methods", "differences"),
            ):
                entries.append(self._entry(f"{pattern}.csv", rule, "comparison", kind, **of_split))
        return entries

    def _layers_and_importances(self, split: str) -> list[Entry]:
        entries = []
        for method in self._study.methods:
            features = self._study.feature_sets[method.features]
            trees = isinstance(self._study.classifiers[method.classifier], ExtraTrees)
            of_method = {"split": split, "features": method.features, "classifier": method.classifier}
            if layers_of(features):
                path = f"{paths.LAYERS}.csv"
                entries.append(self._entry(path, "tabulate_layers", "layers", "layers", **of_method))
            elif len(sources_of(features)) > 1 and trees and selection_of(features) is None:
                path = f"{paths.IMPORTANCE}.csv"
                entries.append(self._entry(path, "share_importance", "importance", "importance", **of_method))
        return entries

    def _selections(self, split: str) -> list[Entry]:
        names = [one.name for one in self._study.feature_sets.values() if selection_of(one)]
        entries = []
        for name in names:
            path, about = f"{paths.SELECTION_CURVE}.csv", ("tabulate_curve", "selection", "curve")
            entries.append(self._entry(path, *about, split=split, features=name))
        for kind in ("kept", "pairs", "common") if names else ():
            path = f"{paths.OVERLAP}/{kind}.csv"
            entries.append(self._entry(path, "tabulate_overlap", "selection", kind, split=split))
        return entries

    # ---- models

    def map_runs(
        self, *, split: str | None = None, dataset: str | None = None, task: str | None = None, seed: int | None = None
    ) -> list[Factors]:
        """Return what every model is of whose predictions are shown as maps, or those of some factors."""
        names = {method.name for method in self.methods}
        return [
            run
            for run in self._runs.factors(names, split)
            if run.task in self.mapped.get(run.dataset, ())
            and dataset in (None, run.dataset)
            and task in (None, run.task)
            and seed in (None, run.seed)
        ]

    def segmentations(self, *kinds: str, split: str | None = None) -> list[Factors]:
        """Return what every segmentation network (of these kinds) is of, whatever the labels come from."""
        wanted = kinds or segmenters.KINDS
        names = [one.name for one in self.methods if self._study.classifiers[one.classifier].kind in wanted]
        return self._runs.factors(names, split)

    def stagings(self, split: str) -> list[Factors]:
        """Return what every model is of whose maps stage patients: those on slides of lymph nodes."""
        of_nodes = {name for name, one in self._study.datasets.items() if any(r.metastasis for r in one.rows.values())}
        return [
            run
            for run in self.map_runs(split=split)
            if run.dataset in of_nodes and len(self._study.datasets[run.dataset].tasks[run.task].classes) == 2
        ]

    def trainings(self, split: str) -> list[TrainedModel]:
        """Return what was trained on a split: networks, then segmentation networks, each with what it is of."""
        trainings = [
            TrainedModel(
                factors=replace(factors, features=name, classifier=groups.SOFTMAX),
                network=name,
                architecture=network.start.architecture.name,
                start=network.start_name,
                recipe=network.recipe.name,
                transfer=network.transfer,
            )
            for draws in self._draws_of_tasks(split)
            for name, network in self._study.trained.items()
            for factors in draws
        ]
        for run in self.segmentations(split=split):
            classifier = self._study.classifiers[run.classifier]
            trainings.append(
                TrainedModel(
                    factors=run,
                    network=run.method,
                    architecture="U-Net",
                    start=classifier.start if isinstance(classifier, EndToEnd) else run.features,
                    recipe=classifier.recipe.name,
                    transfer=isinstance(classifier, EndToEnd),
                )
            )
        return trainings

    def _draws_of_tasks(self, split: str) -> list[list[Factors]]:
        """Return the factors of every seed, by dataset and task."""
        by_task: dict[tuple[str, str], list[Factors]] = {}
        for factors in self._runs.draws(split):
            by_task.setdefault((factors.dataset, factors.task), []).append(factors)
        return list(by_task.values())

    # ---- what the page explains

    def described_methods(self) -> list[DescribedMethod]:
        """What each method of the chapter of maps is, for the page to say in words."""
        if not self.mapped and not self.segmentations():
            return []
        described = []
        for method in self.methods:
            features = self._study.feature_sets[method.features]
            classifier = self._study.classifiers[method.classifier]
            networks = dict.fromkeys(source.network for source in sources_of(features))
            described.append(
                DescribedMethod(
                    *(method.features, method.classifier, classifier.kind),
                    sources=sources_of(features),
                    trained=tuple(name for name in networks if name in self._study.trained),
                    cell_px=cell_px_of(features),
                    start=classifier.start if isinstance(classifier, EndToEnd) else None,
                )
            )
        return described

    def architecture(self, name: str) -> str:
        """Return an architecture by its name in a path, which is in small letters."""
        names = (one.start.architecture.name for one in self._study.trained.values())
        return {architecture.lower(): architecture for architecture in names}[name]

    def tiles_explained(self, dataset: str, task: str) -> int:
        """Return how many test tiles of each class are shown with what a network looks at."""
        classes = len(self._study.datasets[dataset].tasks[task].classes)
        return max(1, min(EXPLAINED, EXPLAINED_IN_ALL // classes))


#: The rules that draw the tables of a section and kind.
_DRAWN_BY = {
    ("comparison", "ranks"): "draw_ranks",
    ("comparison", "differences"): "draw_differences",
    ("layers", "layers"): "draw_layers",
    ("importance", "importance"): "draw_importance",
    ("selection", "curve"): "draw_selection",
}


def _draw(factors: Factors) -> dict[str, Any]:
    """Return dataset, task, split and seed."""
    return {name: getattr(factors, name) for name in ("dataset", "task", "split", "seed")}
