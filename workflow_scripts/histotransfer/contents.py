"""What a study's report holds: every figure and table with its path, its place on the page and the rule behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from histotransfer import pictures
from histotransfer.configuration import Dataset, Study

#: Slides of a dataset whose pictures the report shows; of more, so many are drawn by the master seed.
SHOWN_SLIDES = 40

#: A file, and what the page needs to know to place it.
Entry = tuple[str, dict[str, str]]


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
        self._folder = f"results/studies/{study.name}"
        self._slides = {name: self._shown_slides(one) for name, one in study.datasets.items()}
        layers = (one.layers for one in study.feature_sets.values() if one.layers)
        of_layers = {name for each in layers for name in each.values()}
        #: Methods with pictures of their own: a single layer among many is a point of a curve.
        self.methods = [method for method in study.methods if method.features not in of_layers]

    def _shown_slides(self, dataset: Dataset) -> list[str]:
        if dataset.kind != "slides":
            return []
        return pictures.sample_slides(dataset.parts, at_most=SHOWN_SLIDES, master_seed=self._study.master_seed)

    def descriptions(self) -> list[Entry]:
        """What is known of each slide that is shown."""
        return [
            (f"results/{name}/slides/{slide}.json", {"dataset": name})
            for name, slides in self._slides.items()
            for slide in slides
        ]

    def split_counts(self) -> list[Entry]:
        """The tables of groups and tiles, one for each dataset, task, split and seed."""
        return [
            (
                f"results/{name}/counts/{task}/{split}/{seed}.tsv",
                {"dataset": name, "task": task, "split": split, "seed": str(seed)},
            )
            for name, dataset in self._study.datasets.items()
            for task in dataset.tasks
            for split in self._study.splits
            for seed in self._study.seeds
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
        return found

    def _of_dataset(self, dataset: Dataset) -> list[Entry]:
        home, folder = {"dataset": dataset.name}, f"results/{dataset.name}/figures"
        found = [(f"{folder}/attrition.svg", {"section": "attrition", "rule": "draw_attrition", **home})]
        found += [
            (f"{folder}/slides/{slide}.jpg", {"section": "slides", "rule": "draw_slide_tiles", "slide": slide, **home})
            for slide in self._slides[dataset.name]
        ]
        if self._study.pixels == "stream" and dataset.kind == "slides":
            return found
        return found + [
            (
                f"{folder}/{task}/tiles-{number}.jpg",
                {"section": "tiles", "rule": "draw_tiles", "task": task, "class": name, **home},
            )
            for task, definition in dataset.tasks.items()
            for number, name in enumerate(definition["classes"])
        ]

    def _of_split(self, dataset: str, task: str, split: str) -> list[Entry]:
        key = {"dataset": dataset, "task": task, "split": split}
        scores = f"{self._folder}/figures/{dataset}/{task}/{split}/scores.svg"
        found = [(scores, {"section": "scores", "rule": "draw_scores", **key})]
        for seed in self._study.seeds:
            path = f"results/{dataset}/figures/{task}/{split}/{seed}/split.svg"
            found.append((path, {"section": "splits", "rule": "draw_splits", "seed": str(seed), **key}))
            about = {"section": "confusion", "rule": "draw_confusion", "seed": str(seed), **key}
            folder = f"results/{dataset}/models/{task}/{split}/{seed}"
            found += [(f"{folder}/{one.features}/{one.classifier}/confusion.svg", about) for one in self.methods]
        return found

    def tables(self) -> list[Entry]:
        """The numbers of each chapter."""
        return [(f"{chapter.stem}.csv", {**chapter.about, "rule": chapter.rule}) for chapter in self.chapters()]

    def friedman_tests(self) -> list[Entry]:
        """The result of Friedman's test on each split."""
        splits = self._study.splits if self._study.strategies else ()
        return [(f"{self._folder}/strategies/{split}/friedman.json", {"split": split}) for split in splits]

    def chapters(self) -> list[Chapter]:
        """Every table that compares methods, in the order of the page."""
        found = []
        for split in self._study.splits:
            found += self._comparisons(split)
            if self._study.strategies:
                about = {"section": "strategies", "kind": "strategies", "split": split}
                found.append(Chapter(f"{self._folder}/strategies/{split}/strategies", about, "tabulate_strategies"))
            found += self._layers_and_importances(split)
            found += self._selections(split)
        return found

    def _comparisons(self, split: str) -> list[Chapter]:
        found = []
        for name, one in self._study.comparisons.items():
            home = {"section": "comparison", "split": split, "comparison": name, "title": one.title}
            stem = f"{self._folder}/comparisons/{name}/{split}"
            found.append(Chapter(f"{stem}/ranks", {"kind": "ranks", **home}, "rank_methods", "draw_ranks"))
            about = {"kind": "differences", **home}
            found.append(Chapter(f"{stem}/differences", about, "compare_methods", "draw_differences"))
        return found

    def _layers_and_importances(self, split: str) -> list[Chapter]:
        found = []
        for method in self._study.methods:
            features = self._study.feature_sets[method.features]
            trees = self._study.classifiers[method.classifier]["kind"] == "extratrees"
            about = {"split": split, "features": method.features, "classifier": method.classifier}
            place = f"{split}/{method.features}/{method.classifier}"
            if features.layers:
                about |= {"section": "layers", "kind": "layers"}
                found.append(Chapter(f"{self._folder}/layers/{place}", about, "tabulate_layers", "draw_layers"))
            elif features.merged and trees and features.selection is None:
                about |= {"section": "importance", "kind": "importance"}
                stem = f"{self._folder}/importance/{place}"
                found.append(Chapter(stem, about, "share_importance", "draw_importance"))
        return found

    def _selections(self, split: str) -> list[Chapter]:
        names = [one.name for one in self._study.feature_sets.values() if one.selection]
        home = {"section": "selection", "split": split}
        found = []
        for name in names:
            about: dict[str, Any] = {"kind": "curve", "features": name, **home}
            found.append(Chapter(f"{self._folder}/selection/{split}/{name}", about, "tabulate_curve", "draw_selection"))
        for kind in ("kept", "pairs", "common") if names else ():
            stem = f"{self._folder}/selection/{split}/overlap/{kind}"
            found.append(Chapter(stem, {"kind": kind, **home}, "tabulate_overlap"))
        return found
