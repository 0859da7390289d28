"""What a study's report holds: every figure and table with its path, its place on the page and the rule behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from histotransfer import seeds
from histotransfer.definitions import Augmentation, EndToEnd, ExtraTrees
from histotransfer.networks import groups
from histotransfer.plain_data import plain
from histotransfer.study import paths, segmenters
from histotransfer.study.configuration import Dataset, Study
from histotransfer.study.feature_sets import cell_px_of, layers_of, selection_of, sources_of

#: Slides of a dataset whose pictures the report shows; of more, so many are drawn by the master seed.
SHOWN_SLIDES = 40

#: Test tiles of each class beside their Grad-CAM maps, and of all classes together, at most.
EXPLAINED, EXPLAINED_IN_ALL = 4, 48

#: A file, and what the page needs to know to place it.
Entry = tuple[str, dict[str, str]]


def sample_slides(slides: Sequence[str], *, at_most: int = 40, master_seed: int) -> list[str]:
    """Return the slides whose pictures the report shows: all, or `at_most` drawn by the master seed.

    An added slide takes the place of at most one other. The order of `slides` is kept.
    """
    ranked = sorted(slides, key=lambda slide: (seeds.unit_hash(master_seed, "slides shown", slide), slide))
    shown = set(ranked[:at_most])
    return [slide for slide in slides if slide in shown]


@dataclass(frozen=True)
class Chapter:
    """One table of numbers that compares methods.

    Attributes
    ----------
    stem : str
        Its path without the ending: ``.csv`` for the numbers, ``.svg`` for the figure.
    about : dict
        ``section``, ``kind``, ``split`` and what tells it from others.
    rule, drawn_by : str
        The rules behind table and figure; `drawn_by` is empty where there is no figure.
    """

    stem: str
    about: dict[str, str]
    rule: str
    drawn_by: str = ""


class Contents:
    """The report of a study. Paths are relative to the working directory.

    Parameters
    ----------
    study : Study
    """

    def __init__(self, study: Study) -> None:
        self._study = study
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

    def _path(self, pattern: str, **about: Any) -> str:
        """Return a path of :mod:`histotransfer.study.paths` in this study."""
        return pattern.format(study=self._study.name, **about)

    def _shown_slides(self, dataset: Dataset) -> list[str]:
        if dataset.kind != "slides":
            return []
        return sample_slides(dataset.parts, at_most=SHOWN_SLIDES, master_seed=self._study.master_seed)

    def descriptions(self) -> list[Entry]:
        """What is known of each slide that is shown."""
        return [
            (paths.DESCRIPTION.format(dataset=name, slide=slide), {"dataset": name})
            for name, slides in self._slides.items()
            for slide in slides
        ]

    def split_counts(self) -> list[Entry]:
        """The tables of groups and tiles, one for each dataset, task, split and seed."""
        return [
            (paths.SPLIT_COUNTS.format(**about), about)
            for name, dataset in self._study.datasets.items()
            for task in dataset.tasks
            for split in self._study.splits
            for seed in self._study.seeds
            for about in [{"dataset": name, "task": task, "split": split, "seed": str(seed)}]
        ]

    def figures(self) -> list[Entry]:
        """Every figure."""
        found = [
            (f"{chapter.stem}.svg", {**chapter.about, "rule": chapter.drawn_by})
            for chapter in self.chapters()
            if chapter.drawn_by
        ]
        for dataset in self._study.datasets.values():
            found += self._of_dataset(dataset)
            for task in dataset.tasks:
                for split in self._study.splits:
                    found += self._of_split(dataset.name, task, split)
        for split in self._study.splits:
            found += self._of_training(split)
        return found + self._of_maps()

    def _of_dataset(self, dataset: Dataset) -> list[Entry]:
        home = {"dataset": dataset.name}
        found = [
            (paths.ATTRITION_FIGURE.format(**home), {"section": "attrition", "rule": "draw_attrition", **home}),
        ]
        for name in self._varied(dataset):
            about = {"kind": "augmentation", "rule": "draw_augmentation", "network": name, **home}
            found.append((paths.AUGMENTATION_PICTURE.format(**about), {"section": "training", **about}))
        for slide in self._slides[dataset.name]:
            about = {"section": "slides", "rule": "draw_slide_tiles", "slide": slide, **home}
            found.append((paths.SLIDE_PICTURE.format(**about), about))
        if self._study.pixels == "stream" and dataset.kind == "slides":
            return found
        return found + [
            (
                paths.TILES_PICTURE.format(task=task, class_number=number, **home),
                {"section": "tiles", "rule": "draw_tiles", "task": task, "class": name, **home},
            )
            for task, definition in dataset.tasks.items()
            for number, name in enumerate(definition.classes)
        ]

    def _of_split(self, dataset: str, task: str, split: str) -> list[Entry]:
        key = {"dataset": dataset, "task": task, "split": split}
        scores = self._path(paths.SCORES_FIGURE, **key)
        found = [(scores, {"section": "scores", "rule": "draw_scores", **key})]
        for seed in self._study.seeds:
            about = {"section": "splits", "rule": "draw_splits", "seed": str(seed), **key}
            found.append((paths.SPLIT_FIGURE.format(**about), about))
            about = {"section": "confusion", "rule": "draw_confusion", "seed": str(seed), **key}
            for method in self.methods:
                of_method = {"features": method.features, "classifier": method.classifier}
                found.append((paths.CONFUSION_FIGURE.format(**of_method, **about), about))
        return found

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
        found: list[Entry] = []
        trained = self._study.trained
        curves = {one.start.architecture.name: None for one in trained.values() if one.recipe.curve is not None}
        seed = next(iter(self._study.seeds))
        for dataset in self._study.datasets.values():
            for task in dataset.tasks:
                home = {"section": "training", "dataset": dataset.name, "task": task, "split": split}
                for name in curves:
                    about = {"kind": "iterations", "rule": "draw_iterations", "architecture": name, **home}
                    named = {**about, "architecture": name.lower()}
                    found.append((self._path(paths.ITERATIONS_FIGURE, **named), about))
                for name, one in trained.items():
                    about = {"kind": "epochs", "rule": "draw_epochs", "network": name, **home}
                    found.append((self._path(paths.EPOCHS_FIGURE, **about), about))
                    if one.head_only and dataset.kind == "slides" and self._study.pixels == "stream":
                        # no tiles are stored for it, and a picture is not worth cutting all of them
                        continue
                    about = {"kind": "grad_cam", "rule": "grad_cam", "network": name, "seed": str(seed), **home}
                    found.append((paths.GRAD_CAM.format(**about), about))
        for one in self.segmentations(split=split):
            if one["seed"] != seed:
                continue
            about = {"kind": "epochs", "rule": "draw_segmentation_epochs", "network": one["method"]}
            about |= {"section": "training", **{name: one[name] for name in ("dataset", "task", "split")}}
            found.append((self._path(paths.SEGMENTATION_EPOCHS_FIGURE, **one), about))
        return found

    def _of_maps(self) -> list[Entry]:
        """Return the slides with their regions, and with the first seed the maps of all methods side by side."""
        found: list[Entry] = []
        seed = next(iter(self._study.seeds))
        for name, tasks in self.mapped.items():
            for task in tasks:
                home = {"dataset": name, "task": task}
                for slide in self._slides[name]:
                    about = {"section": "annotations", "rule": "draw_annotation", "slide": slide, **home}
                    found.append((paths.ANNOTATION_PICTURE.format(**about), about))
                for split in self._study.splits:
                    about = {"section": "maps", "kind": "maps", "rule": "draw_maps", "split": split, **home}
                    about["seed"] = str(seed)
                    found.append((self._path(paths.MAPS_FIGURE, **about), about))
        return found

    def map_runs(
        self, *, split: str | None = None, dataset: str | None = None, task: str | None = None, seed: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the factors of every model whose predictions are shown as maps, or of those of some factors."""
        return [
            {
                "dataset": name,
                "task": of,
                "split": by,
                "seed": number,
                "features": method.features,
                "classifier": method.classifier,
                "method": method.name,
            }
            for name, tasks in self.mapped.items()
            for of in tasks
            for by in self._study.splits
            for number in self._study.seeds
            for method in self.methods
            if dataset in (None, name) and task in (None, of) and split in (None, by) and seed in (None, number)
        ]

    def segmentations(self, *kinds: str, split: str | None = None) -> list[dict[str, Any]]:
        """Return the factors of every segmentation network (of these kinds), whatever the labels come from."""
        wanted = kinds or segmenters.KINDS
        methods = [one for one in self.methods if self._study.classifiers[one.classifier].kind in wanted]
        return [
            {
                "dataset": dataset.name,
                "task": task,
                "split": by,
                "seed": seed,
                "features": method.features,
                "classifier": method.classifier,
                "method": method.name,
            }
            for dataset in self._study.datasets.values()
            for task in dataset.tasks
            for by in self._study.splits
            for seed in self._study.seeds
            for method in methods
            if split in (None, by)
        ]

    def maps(self) -> list[str]:
        """The indexes of the maps' files: with the first seed, since GeoJSON of a whole study takes gigabytes."""
        seed = next(iter(self._study.seeds))
        return [paths.MAPS_INDEX.format(**one) for one in self.map_runs(seed=seed)]

    def map_methods(self) -> list[dict[str, Any]]:
        """What each method of the chapter of maps is, for the page to say in words."""
        if not self.mapped and not self.segmentations():
            return []
        found = []
        for method in self.methods:
            features, classifier = (
                self._study.feature_sets[method.features],
                self._study.classifiers[method.classifier],
            )
            networks = [source.network for source in sources_of(features)]
            found.append(
                {
                    "name": method.name,
                    "kind": classifier.kind,
                    "cell_px": cell_px_of(features),
                    "sources": plain(sources_of(features)),
                    "trained": [name for name in dict.fromkeys(networks) if name in self._study.trained],
                    "start": classifier.start if isinstance(classifier, EndToEnd) else None,
                }
            )
        return found

    def stagings(self, split: str) -> list[Entry]:
        """How the stages of patients agree with the truth, for each model on slides of lymph nodes."""
        of_nodes = {name for name, one in self._study.datasets.items() if any(r.metastasis for r in one.rows.values())}
        return [
            (paths.KAPPA.format(**one), {**one, "rule": "stage_patients"})
            for one in self.map_runs(split=split)
            if one["dataset"] in of_nodes and len(self._study.datasets[one["dataset"]].tasks[one["task"]].classes) == 2
        ]

    def trainings(self, split: str) -> list[dict[str, Any]]:
        """What was trained on a split: the factors of each network, and what it is."""
        found = [
            {
                "dataset": dataset.name,
                "task": task,
                "split": split,
                "seed": seed,
                "features": name,
                "classifier": groups.SOFTMAX,
                "network": name,
                "architecture": one.start.architecture.name,
                "start": one.start_name,
                "recipe": one.recipe.name,
                "transfer": one.transfer,
            }
            for dataset in self._study.datasets.values()
            for task in dataset.tasks
            for name, one in self._study.trained.items()
            for seed in self._study.seeds
        ]
        for one in self.segmentations(split=split):
            classifier = self._study.classifiers[one["classifier"]]
            found.append(
                {
                    **{name: value for name, value in one.items() if name != "method"},
                    "network": one["method"],
                    "architecture": "U-Net",
                    "start": classifier.start if isinstance(classifier, EndToEnd) else one["features"],
                    "recipe": classifier.recipe.name,
                    "transfer": isinstance(classifier, EndToEnd),
                }
            )
        return found

    def trained(self) -> list[dict[str, Any]]:
        """What each trained network is, for the page to say in words."""
        return [
            {"name": name, "start": plain(one.start), "start_name": one.start_name, "recipe": plain(one.recipe)}
            for name, one in self._study.trained.items()
        ]

    def architecture(self, name: str) -> str:
        """Return an architecture by its name in a path, which is in small letters."""
        names = (one.start.architecture.name for one in self._study.trained.values())
        return {architecture.lower(): architecture for architecture in names}[name]

    def tiles_explained(self, dataset: str, task: str) -> int:
        """Return how many test tiles of each class are shown with what a network looks at."""
        classes = len(self._study.datasets[dataset].tasks[task].classes)
        return max(1, min(EXPLAINED, EXPLAINED_IN_ALL // classes))

    def tables(self) -> list[Entry]:
        """The numbers of each chapter."""
        return [(f"{chapter.stem}.csv", {**chapter.about, "rule": chapter.rule}) for chapter in self.chapters()]

    def friedman_tests(self) -> list[Entry]:
        """The result of Friedman's test on each split."""
        splits = self._study.splits if self._study.strategies else ()
        return [(self._path(paths.FRIEDMAN, split=split), {"split": split}) for split in splits]

    def chapters(self) -> list[Chapter]:
        """Every table that compares methods, in the order of the page."""
        found = []
        for split in self._study.splits:
            found += self._comparisons(split)
            if self._study.strategies:
                about = {"section": "strategies", "kind": "strategies", "split": split}
                found.append(Chapter(self._path(paths.STRATEGIES, split=split), about, "tabulate_strategies"))
            for kind in ("accuracy", "epochs", "steps") if self.trainings(split) else ():
                about = {"section": "training", "kind": kind, "split": split}
                found.append(Chapter(f"{self._path(paths.CURVES, split=split)}/{kind}", about, "tabulate_training"))
            found += self._layers_and_importances(split)
            found += self._selections(split)
            found += self._maps(split)
        if self.segmentations():
            about = {"section": "maps", "kind": "canvases"}
            found.append(Chapter(f"{self._path(paths.STUDY_MAPS)}/canvases", about, "tabulate_canvases"))
        return found

    def _maps(self, split: str) -> list[Chapter]:
        place, found = self._path(paths.MAPS, split=split), []
        rules = {"methods": "tabulate_map_methods", "points": "tabulate_points"} if self.mapped else {}
        if self.segmentations(segmenters.END_TO_END):
            rules["moved"] = "tabulate_moved"
        for kind, rule in rules.items():
            found.append(Chapter(f"{place}/{kind}", {"section": "maps", "kind": kind, "split": split}, rule))
        for kind in ("stages", "left_out") if self.stagings(split) else ():
            about = {"section": "staging", "kind": kind, "split": split}
            found.append(Chapter(f"{self._path(paths.STAGES, split=split)}/{kind}", about, "collect_staging"))
        return found

    def _comparisons(self, split: str) -> list[Chapter]:
        found = []
        for name, one in self._study.comparisons.items():
            home = {"section": "comparison", "split": split, "comparison": name, "title": one.title}
            about = {"kind": "ranks", **home}
            found.append(Chapter(self._path(paths.RANKS, **home), about, "rank_methods", "draw_ranks"))
            about = {"kind": "differences", **home}
            found.append(Chapter(self._path(paths.DIFFERENCES, **home), about, "compare_methods", "draw_differences"))
        return found

    def _layers_and_importances(self, split: str) -> list[Chapter]:
        found = []
        for method in self._study.methods:
            features = self._study.feature_sets[method.features]
            trees = isinstance(self._study.classifiers[method.classifier], ExtraTrees)
            about = {"split": split, "features": method.features, "classifier": method.classifier}
            if layers_of(features):
                about |= {"section": "layers", "kind": "layers"}
                stem = self._path(paths.LAYERS, **about)
                found.append(Chapter(stem, about, "tabulate_layers", "draw_layers"))
            elif len(sources_of(features)) > 1 and trees and selection_of(features) is None:
                about |= {"section": "importance", "kind": "importance"}
                stem = self._path(paths.IMPORTANCE, **about)
                found.append(Chapter(stem, about, "share_importance", "draw_importance"))
        return found

    def _selections(self, split: str) -> list[Chapter]:
        names = [one.name for one in self._study.feature_sets.values() if selection_of(one)]
        home = {"section": "selection", "split": split}
        found = []
        for name in names:
            about: dict[str, Any] = {"kind": "curve", "features": name, **home}
            stem = self._path(paths.SELECTION_CURVE, **about)
            found.append(Chapter(stem, about, "tabulate_curve", "draw_selection"))
        for kind in ("kept", "pairs", "common") if names else ():
            stem = f"{self._path(paths.OVERLAP, split=split)}/{kind}"
            found.append(Chapter(stem, {"kind": kind, **home}, "tabulate_overlap"))
        return found
