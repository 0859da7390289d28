"""What a study's report holds: every file behind it with its path, its place on the page and its rule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from histotransfer import seeds
from histotransfer.definitions import Recipe
from histotransfer.feature_kinds import Source
from histotransfer.networks import groups
from histotransfer.plain_data import made
from histotransfer.report.entries import DescribedMethod, DescribedNetwork, Entry
from histotransfer.study import segmenters
from histotransfer.study.configuration import Dataset, Study
from histotransfer.study.methods import Method

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
        self._folder = f"results/studies/{study.name}"
        self._slides = {name: self._shown_slides(one) for name, one in study.datasets.items()}
        layers = (one.layers for one in study.feature_sets.values() if one.layers)
        of_layers = {name for each in layers for name in each.values()}
        #: Methods with pictures of their own: a single layer among many is a point of a curve.
        self.methods = [method for method in study.methods if method.features not in of_layers]
        #: Datasets of slides with their tasks whose labels come from drawn regions: those that are shown as maps.
        self.mapped = {
            name: tasks
            for name, one in study.datasets.items()
            if (tasks := [task for task, definition in one.tasks.items() if definition["regions"]])
        }

    def _shown_slides(self, dataset: Dataset) -> list[str]:
        if dataset.kind != "slides":
            return []
        return sample_slides(dataset.parts, at_most=SHOWN_SLIDES, master_seed=self._study.master_seed)

    # ---- files behind the pages

    def entries(self) -> list[Entry]:
        """Every file behind the report, in the order in which its last chapter lists them."""
        tables = self.tables()
        scores = Entry(f"{self._folder}/scores.tsv", "collect_scores", "scores", "scores")
        return [
            scores,
            *self._cohorts(),
            *self._split_counts(),
            *self._figures(tables),
            *tables,
            *self._friedman_tests(),
            *self._map_indexes(),
            *self._descriptions(),
            *self._predictions(),
        ]

    def costs(self) -> list[Entry]:
        """The files behind the page of what the run cost; methods are compared in the first split."""
        entries = [
            Entry(f"{self._folder}/cost.tsv", "collect_costs", "cost", "cost"),
            Entry(f"{self._folder}/figures/cost.svg", "draw_cost", "cost", "cost"),
        ]
        if len(self._study.methods) > 1:
            stem = f"{self._folder}/costs/{next(iter(self._study.splits))}/method_costs"
            entries.append(Entry(f"{stem}.csv", "cost_methods", "methods", "costs"))
            entries.append(Entry(f"{stem}.svg", "draw_method_costs", "methods", "costs"))
        return entries

    def tables(self) -> list[Entry]:
        """Every table that compares methods, in the order of the page."""
        entries = []
        for split in self._study.splits:
            entries += self._comparisons(split)
            home = f"{self._folder}/strategies/{split}"
            if self._study.strategies:
                table = Entry(f"{home}/strategies.csv", "tabulate_strategies", "strategies", "strategies", split=split)
                entries.append(table)
            home = f"{self._folder}/training/{split}"
            for kind in ("accuracy", "epochs", "steps") if self.trainings(split) else ():
                entries.append(Entry(f"{home}/{kind}.csv", "tabulate_training", "training", kind, split=split))
            entries += self._layers_and_importances(split)
            entries += self._selections(split)
            entries += self._maps(split)
        if self.segmentations():
            entries.append(Entry(f"{self._folder}/maps/canvases.csv", "tabulate_canvases", "maps", "canvases"))
        return entries

    def _cohorts(self) -> list[Entry]:
        return [
            Entry(
                f"results/{name}/slides.tsv",
                "cohort" if dataset.kind == "slides" else "cohort_of_table",
                *("attrition", "slides"),
                dataset=name,
            )
            for name, dataset in self._study.datasets.items()
        ]

    def _descriptions(self) -> list[Entry]:
        """What is known of each slide that is shown."""
        return [
            Entry(
                f"results/{name}/slides/{slide}.json",
                "inspect_slide",
                "slides",
                "description",
                dataset=name,
                slide=slide,
            )
            for name, slides in self._slides.items()
            for slide in slides
        ]

    def _split_counts(self) -> list[Entry]:
        """The tables of groups and tiles, one for each dataset, task, split and seed."""
        return [
            Entry(
                f"results/{name}/counts/{task}/{split}/{seed}.tsv",
                *("count_split", "splits", "counts"),
                **{"dataset": name, "task": task, "split": split, "seed": seed},
            )
            for name, dataset in self._study.datasets.items()
            for task in dataset.tasks
            for split in self._study.splits
            for seed in self._study.seeds
        ]

    def _predictions(self) -> list[Entry]:
        """What every model predicts."""
        rule_of = {method: self.rule_of_model(method) for method in self._study.methods}
        return [
            Entry(
                f"results/{name}/models/{task}/{split}/{seed}/{method.features}/{method.classifier}/predictions.h5",
                *(rule_of[method], "asked", "predictions"),
                **{"dataset": name, "task": task, "split": split, "seed": seed},
                **{"features": method.features, "classifier": method.classifier},
            )
            for name, dataset in self._study.datasets.items()
            for task in dataset.tasks
            for split in self._study.splits
            for seed in self._study.seeds
            for method in self._study.methods
        ]

    def rule_of_model(self, method: Method) -> str:
        """Return the rule that writes the model of a method, with its predictions."""
        kind = self._study.classifiers[method.classifier]["kind"]
        if kind == groups.SOFTMAX:
            return "attach_head" if self._study.trained[method.features].head_only else "train_network"
        if kind in segmenters.KINDS:
            return "train_end_to_end" if kind == segmenters.END_TO_END else "train_unet"
        return "choose_layer" if self._study.feature_sets[method.features].layers else "train_classifier"

    def _friedman_tests(self) -> list[Entry]:
        """The result of Friedman's test on each split."""
        return [
            Entry(
                f"{self._folder}/strategies/{split}/friedman.json",
                *("friedman_test", "strategies", "friedman"),
                split=split,
            )
            for split in (self._study.splits if self._study.strategies else ())
        ]

    def _map_indexes(self) -> list[Entry]:
        """The indexes of the maps' files: with the first seed, since GeoJSON of a whole study takes gigabytes."""
        folder = "results/{dataset}/models/{task}/{split}/{seed}/{features}/{classifier}"
        seed = next(iter(self._study.seeds))
        return [
            Entry(f"{folder}/maps.json".format(**run), "write_maps", "maps", "index", **_without_method(run))
            for run in self.map_runs(seed=seed)
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
        name, folder = dataset.name, f"results/{dataset.name}/figures"
        entries = [Entry(f"{folder}/attrition.svg", "draw_attrition", "attrition", "attrition", dataset=name)]
        for network in self._varied(dataset):
            path = f"{folder}/augmentation/{network}.jpg"
            about = ("draw_augmentation", "training", "augmentation")
            entries.append(Entry(path, *about, dataset=name, network=network))
        for slide in self._slides[name]:
            path = f"{folder}/slides/{slide}.jpg"
            entries.append(Entry(path, "draw_slide_tiles", "slides", "slides", dataset=name, slide=slide))
        if self._study.pixels == "stream" and dataset.kind == "slides":
            return entries
        for task, definition in dataset.tasks.items():
            for number, class_name in enumerate(definition["classes"]):
                path, of = f"{folder}/{task}/tiles-{number}.jpg", {"dataset": name, "task": task}
                entries.append(Entry(path, "draw_tiles", "tiles", "tiles", class_name=class_name, **of))
        return entries

    def _of_split(self, dataset: str, task: str, split: str) -> list[Entry]:
        of: dict[str, Any] = {"dataset": dataset, "task": task, "split": split}
        path = f"{self._folder}/figures/{dataset}/{task}/{split}/scores.svg"
        entries = [Entry(path, "draw_scores", "scores", "scores", **of)]
        for seed in self._study.seeds:
            of["seed"] = seed
            path = f"results/{dataset}/figures/{task}/{split}/{seed}/split.svg"
            entries.append(Entry(path, "draw_splits", "splits", "splits", **of))
            for method in self.methods:
                of_method = {"features": method.features, "classifier": method.classifier}
                folder = f"results/{dataset}/models/{task}/{split}/{seed}/{method.features}/{method.classifier}"
                path = f"{folder}/confusion.svg"
                entries.append(Entry(path, "draw_confusion", "confusion", "confusion", **of, **of_method))
        return entries

    def _varied(self, dataset: Dataset) -> list[str]:
        """Return networks whose training varies the tiles, one for each way to do it."""
        found: dict[str, str] = {}
        for name, one in self._study.trained.items():
            varied = {key: one.recipe[key] for key in ("augmentation", "crop_from")}
            if not one.head_only and any(varied.values()):
                found.setdefault(json.dumps([varied, one.start["px"]], sort_keys=True), name)
        return list(found.values())

    def _of_training(self, split: str) -> list[Entry]:
        """Return the learning curves of a split's trained networks, and what they look at with the first seed."""
        entries: list[Entry] = []
        trained = self._study.trained
        curves = {one.start["architecture"]: None for one in trained.values() if one.recipe["curve"] is not None}
        seed = next(iter(self._study.seeds))
        for dataset in self._study.datasets.values():
            for task in dataset.tasks:
                of = {"section": "training", "dataset": dataset.name, "task": task, "split": split}
                folder = f"{self._folder}/training/{split}/{dataset.name}/{task}"
                for name in curves:
                    path = f"{folder}/iterations/{name.lower()}.svg"
                    entries.append(Entry(path, "draw_iterations", kind="iterations", architecture=name, **of))
                for name, one in trained.items():
                    path = f"{folder}/epochs/{name}.svg"
                    entries.append(Entry(path, "draw_epochs", kind="epochs", network=name, **of))
                    if one.head_only and dataset.kind == "slides" and self._study.pixels == "stream":
                        # no tiles are stored for it, and cutting all of them for one picture takes too long
                        continue
                    path = f"results/{dataset.name}/models/{task}/{split}/{seed}/{name}/softmax/grad_cam.svg"
                    entries.append(Entry(path, "grad_cam", kind="grad_cam", network=name, seed=seed, **of))
        for run in self.segmentations(split=split):
            if run["seed"] == seed:
                folder = f"{self._folder}/training/{split}/{run['dataset']}/{run['task']}/epochs"
                path = f"{folder}/{run['features']}/{run['classifier']}.svg"
                of = {name: run[name] for name in ("dataset", "task", "split")}
                about = ("draw_segmentation_epochs", "training", "epochs")
                entries.append(Entry(path, *about, network=run["method"], **of))
        return entries

    def _of_maps(self) -> list[Entry]:
        """Return the slides with their regions, and with the first seed the maps of all methods side by side."""
        entries: list[Entry] = []
        seed = next(iter(self._study.seeds))
        for name, tasks in self.mapped.items():
            for task in tasks:
                of = {"dataset": name, "task": task}
                for slide in self._slides[name]:
                    path = f"results/{name}/figures/annotations/{task}/{slide}.jpg"
                    about = ("draw_annotation", "annotations", "annotations")
                    entries.append(Entry(path, *about, slide=slide, **of))
                for split in self._study.splits:
                    path = f"{self._folder}/maps/{split}/{name}/{task}/{seed}.svg"
                    entries.append(Entry(path, "draw_maps", "maps", "maps", split=split, seed=seed, **of))
        return entries

    # ---- tables

    def _maps(self, split: str) -> list[Entry]:
        place, entries = f"{self._folder}/maps/{split}", []
        rules = {"methods": "tabulate_map_methods", "points": "tabulate_points"} if self.mapped else {}
        if self.segmentations(segmenters.END_TO_END):
            rules["moved"] = "tabulate_moved"
        for kind, rule in rules.items():
            entries.append(Entry(f"{place}/{kind}.csv", rule, "maps", kind, split=split))
        place = f"{self._folder}/staging/{split}"
        for kind in ("stages", "left_out") if self.stagings(split) else ():
            entries.append(Entry(f"{place}/{kind}.csv", "collect_staging", "staging", kind, split=split))
        return entries

    def _comparisons(self, split: str) -> list[Entry]:
        entries = []
        for name, comparison in self._study.comparisons.items():
            folder = f"{self._folder}/comparisons/{name}/{split}"
            for kind, rule in (("ranks", "rank_methods"), ("differences", "compare_methods")):
                of = {"caption": comparison.title, "split": split, "comparison": name}
                entries.append(Entry(f"{folder}/{kind}.csv", rule, "comparison", kind, **of))
        return entries

    def _layers_and_importances(self, split: str) -> list[Entry]:
        entries = []
        for method in self._study.methods:
            features = self._study.feature_sets[method.features]
            trees = self._study.classifiers[method.classifier]["kind"] == "extratrees"
            of = {"split": split, "features": method.features, "classifier": method.classifier}
            place = f"{split}/{method.features}/{method.classifier}"
            if features.layers:
                path = f"{self._folder}/layers/{place}.csv"
                entries.append(Entry(path, "tabulate_layers", "layers", "layers", **of))
            elif features.merged and trees and features.selection is None:
                path = f"{self._folder}/importance/{place}.csv"
                entries.append(Entry(path, "share_importance", "importance", "importance", **of))
        return entries

    def _selections(self, split: str) -> list[Entry]:
        names = [one.name for one in self._study.feature_sets.values() if one.selection]
        folder, entries = f"{self._folder}/selection/{split}", []
        for name in names:
            of = {"split": split, "features": name}
            entries.append(Entry(f"{folder}/{name}.csv", "tabulate_curve", "selection", "curve", **of))
        for kind in ("kept", "pairs", "common") if names else ():
            path = f"{folder}/overlap/{kind}.csv"
            entries.append(Entry(path, "tabulate_overlap", "selection", kind, split=split))
        return entries

    # ---- models

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
        methods = [one for one in self.methods if self._study.classifiers[one.classifier]["kind"] in wanted]
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

    def stagings(self, split: str) -> list[str]:
        """How the stages of patients agree with the truth, for each model on slides of lymph nodes."""
        of_nodes = {name for name, one in self._study.datasets.items() if any(r.metastasis for r in one.rows.values())}
        folder = "results/{dataset}/models/{task}/{split}/{seed}/{features}/{classifier}"
        return [
            f"{folder}/staging/kappa.json".format(**run)
            for run in self.map_runs(split=split)
            if run["dataset"] in of_nodes
            and len(self._study.datasets[run["dataset"]].tasks[run["task"]]["classes"]) == 2
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
                "architecture": one.start["architecture"],
                "start": one.start_name,
                "recipe": one.recipe["name"],
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
                    **_without_method(one),
                    "network": one["method"],
                    "architecture": "U-Net",
                    "start": classifier.get("start") or one["features"],
                    "recipe": classifier["recipe"]["name"],
                    "transfer": classifier["kind"] == segmenters.END_TO_END,
                }
            )
        return found

    # ---- what the page explains

    def described_networks(self) -> list[DescribedNetwork]:
        """What each trained network is, for the page to say in words."""
        return [
            DescribedNetwork(name, one.start, one.start_name, made(Recipe, one.recipe))
            for name, one in self._study.trained.items()
        ]

    def described_methods(self) -> list[DescribedMethod]:
        """What each method of the chapter of maps is, for the page to say in words."""
        if not self.mapped and not self.segmentations():
            return []
        described = []
        for method in self.methods:
            features = self._study.feature_sets[method.features]
            classifier = self._study.classifiers[method.classifier]
            described.append(
                DescribedMethod(
                    method.name,
                    classifier["kind"],
                    sources=tuple(made(Source, source) for source in features.sources),
                    trained=tuple(name for name in features.networks if name in self._study.trained),
                    cell_px=features.cell_px,
                    start=classifier.get("start"),
                )
            )
        return described

    def architecture(self, name: str) -> str:
        """Return an architecture by its name in a path, which is in small letters."""
        return {one.start["architecture"].lower(): one.start["architecture"] for one in self._study.trained.values()}[
            name
        ]

    def tiles_explained(self, dataset: str, task: str) -> int:
        """Return how many test tiles of each class are shown with what a network looks at."""
        classes = len(self._study.datasets[dataset].tasks[task]["classes"])
        return max(1, min(EXPLAINED, EXPLAINED_IN_ALL // classes))


#: The rules that draw the tables of a section and kind.
_DRAWN_BY = {
    ("comparison", "ranks"): "draw_ranks",
    ("comparison", "differences"): "draw_differences",
    ("layers", "layers"): "draw_layers",
    ("importance", "importance"): "draw_importance",
    ("selection", "curve"): "draw_selection",
}


def _without_method(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name != "method"}
