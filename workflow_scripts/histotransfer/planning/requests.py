"""What the jobs of a study ask of a cluster: memory and minutes, from the study and the sizes of their input files.

A file that is not there yet counts nothing, so that there is always a number. Snakemake calls these functions with the
arguments that they name, and evaluates them again when the files are there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from histotransfer import store
from histotransfer.definitions import ExtraTrees, Recipe
from histotransfer.planning import needs
from histotransfer.planning.needs import Need
from histotransfer.study.configuration import Study
from histotransfer.study.feature_sets import WindowFeatures, cell_px_of, selection_of, sources_of

#: What a job takes, given its wildcards, its input files and its threads.
Size = Callable[[Any, Any, int], Need]

#: Bytes of a grid for each tile that is kept: a cell takes 33, and about half of the cells are kept.
GRID_BYTES = 63


def file_bytes(path: str) -> int:
    """Return the size of a file; of one that is not there, 0."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def total_bytes(paths: Iterable[str]) -> int:
    """Return the size of all of these files together."""
    return sum(map(file_bytes, paths))


def tiles_stored(paths: Iterable[str], px: int) -> float:
    """Return about how many tiles of `px` pixels these files of pixels hold."""
    return total_bytes(paths) / (3 * px**2)


def tiles_named(manifest: str) -> int:
    """Return how many tiles have features by a manifest; by one that is not there, 0."""
    try:
        return _tiles_named(manifest, os.stat(manifest).st_mtime_ns)
    except FileNotFoundError:
        return 0


@cache
def _tiles_named(manifest: str, changed_ns: int) -> int:
    return sum(entry["n_tiles"] for entry in store.read_json(manifest)["slides"])


class Requests:
    """What each kind of job takes, and what is asked for it.

    Parameters
    ----------
    study : Study
    rules : mapping, optional
        Names of rules in this run of Snakemake to those of :func:`histotransfer.planning.needs.of_files`: a module's
        user may give rules other names. It is looked at when a job asks, and may be filled until then. A rule that is
        not in it has its own name.
    """

    def __init__(self, study: Study, rules: Mapping[str, str] | None = None) -> None:
        self._study = study
        self._rules: Mapping[str, str] = {} if rules is None else rules
        self._slides = sum(len(dataset.rows) for dataset in study.datasets.values())
        self._gpu = 1 if study.gpus else 0

    def by(self, size: Size) -> dict[str, Callable[..., int]]:
        """Return the resources ``mem_mb`` and ``runtime`` (minutes) of jobs of this size, more at each attempt."""

        def mem_mb(wildcards: Any, input: Any, threads: int, attempt: int) -> int:
            return needs.memory_mb(size(wildcards, input, threads), attempt=attempt, slides=self._slides)

        def runtime(wildcards: Any, input: Any, threads: int, attempt: int) -> int:
            return needs.minutes(size(wildcards, input, threads), attempt=attempt)

        return {"mem_mb": mem_mb, "runtime": runtime}

    def by_files(self) -> dict[str, Callable[..., int]]:
        """Return these resources of jobs that take as much as their files are large and many, by their rule."""

        def mem_mb(wildcards: Any, input: Any, attempt: int, rulename: str) -> int:
            return needs.memory_mb(self.files(input, rulename), attempt=attempt, slides=self._slides)

        def runtime(wildcards: Any, input: Any, attempt: int, rulename: str) -> int:
            return needs.minutes(self.files(input, rulename), attempt=attempt)

        return {"mem_mb": mem_mb, "runtime": runtime}

    def files(self, input: Iterable[str], rule: str) -> Need:
        """Return what a job of a rule takes that reads these files."""
        paths = list(input)
        return needs.of_files(self._rules.get(rule, rule)).need(total_bytes(paths) / 1e6, len(paths))

    # ---- networks

    def extraction(self, wildcards: Any, input: Any, threads: int) -> Need:
        """Return what an extraction takes: of the tiles in `tiles`, or of those in `grids`, cut from the slides."""
        trained = self._study.trained.get(wildcards.network)
        network = trained.start if trained else self._study.networks[wildcards.network]
        px = trained.px if trained else network.px
        cut = hasattr(input, "grids")
        tiles = total_bytes(input.grids) / GRID_BYTES if cut else tiles_stored(input.tiles, px)
        batch = self._study.extraction.batch
        return needs.extraction(network, px=px, tiles=tiles, batch=batch, threads=threads, gpu=self._gpu, cut=cut)

    def training(self, wildcards: Any, input: Any, threads: int) -> Need:
        """Return what it takes to train a network on tiles."""
        trained = self._study.trained[wildcards.network]
        tiles = self._learnt(wildcards, tiles_stored(input.pixels, trained.px))
        passes = {"epochs": _epochs(trained.recipe, "tiles"), "batch": trained.recipe.batch}
        return needs.training(trained.start, px=trained.px, tiles=tiles, **passes, threads=threads, gpu=self._gpu)

    def head(self, wildcards: Any, input: Any, threads: int) -> Need:
        """Return what it takes to train a head on features."""
        trained = self._study.trained[wildcards.network]
        tiles = sum(map(tiles_named, input.features))
        mb = 4 * tiles * self._columns(trained.start_name) / 1e6
        return needs.head(tiles=tiles, mb=mb, epochs=_epochs(trained.recipe, "features"))

    # ---- segmentation

    def segmentation(self, wildcards: Any, input: Any, threads: int) -> Need:
        """Return what it takes to train a U-Net on maps of features, or on reduced slides."""
        cell_px = cell_px_of(self._study.feature_sets[wildcards.features])
        if cell_px is not None:
            mb = total_bytes(input.features) / 1e6
            return self._unet(wildcards, threads, cells=1e6 * mb / (3 * cell_px**2), mb=mb, cell_px=cell_px)
        rows, _, row_bytes = self._table(wildcards, input)
        return self._unet(wildcards, threads, cells=2 * rows, mb=rows * row_bytes / 1e6)

    def end_to_end(self, wildcards: Any, input: Any, threads: int) -> Need:
        """Return what it takes to train a network and the U-Net on its features together."""
        [source] = sources_of(self._study.feature_sets[wildcards.features])
        extractor = self._study.trained[source.network]
        recipe = self._study.classifiers[wildcards.classifier].recipe
        tiles = tiles_stored(input.pixels, extractor.px)
        # the tiles pass once more than in a training of their own
        passes = {"epochs": 2 * _epochs(recipe), "batch": recipe.batch}
        both = (
            needs.training(extractor.start, px=extractor.px, tiles=tiles, **passes, threads=threads, gpu=self._gpu),
            self._unet(wildcards, threads, cells=2 * tiles, mb=0, batch=1),
        )
        return Need(sum(need.mb for need in both), sum(need.seconds for need in both))

    def _unet(
        self, wildcards: Any, threads: int, *, cells: float, mb: float, cell_px: int = 1, batch: int | None = None
    ) -> Need:
        """Return what a U-Net takes on maps of so many cells in all, unless the canvas fixes how many each has."""
        unet, dataset = self._study.classifiers[wildcards.classifier], self._study.datasets[wildcards.dataset]
        size, maps = dataset.canvas.size, len(dataset.parts)
        pixels = (cells / maps if size == "fit" else size**2) * cell_px**2
        recipe = unet.recipe
        passes = {"epochs": _epochs(recipe), "batch": batch or recipe.batch, "filters": unet.filters}
        return needs.segmentation(pixels=pixels, maps=maps, **passes, mb=mb, threads=threads, gpu=self._gpu)

    # ---- classifiers

    def classifier(self, wildcards: Any, input: Any, threads: int) -> Need:
        """Return what it takes to train a classifier on rows of features."""
        classifier, split = self._study.classifiers[wildcards.classifier], self._study.splits[wildcards.split]
        rows, columns, row_bytes = self._table(wildcards, input)
        return needs.classifier(
            classifier.kind,
            tiles=rows,
            rows=self._learnt(wildcards, rows),
            row_bytes=row_bytes,
            held_out=rows * (split.test or 0.5),
            fits=needs.grid_points(classifier) * (split.folds + 1),
            slower=needs.forest_slowness(classifier, columns) if isinstance(classifier, ExtraTrees) else 1,
        )

    def selection(self, wildcards: Any, input: Any, threads: int) -> Need:
        """Return what it takes to select features."""
        rows, columns, row_bytes = self._table(wildcards, input)
        return needs.selection(
            self._study.selections[selection_of(self._study.feature_sets[wildcards.features])],
            tiles=rows,
            rows=self._learnt(wildcards, rows),
            row_bytes=row_bytes,
            columns=columns,
            folds=self._study.splits[wildcards.split].folds,
            threads=threads,
        )

    # ---- of the study

    def _learnt(self, wildcards: Any, tiles: float) -> float:
        """Return how many of so many tiles a split lets learn on."""
        split = self._study.splits[wildcards.split]
        classes = self._study.datasets[wildcards.dataset].tasks[wildcards.task].classes
        of_each = split.train_tiles_per_class
        caps = (split.train_tiles, of_each and of_each * len(classes))
        return min([tiles * (1 - (split.test or 0)), *(cap for cap in caps if cap)])

    def _columns(self, network: str, layer: str | None = None) -> int:
        """Return the features of a layer, or nearly: inner layers have no more than the last, dense ones 4,096."""
        trained = self._study.trained.get(network)
        start = trained.start if trained else self._study.networks[network]
        row = start.architecture
        return 4096 if (layer or start.layer) in row.dense else round(row.n_features * (start.alpha or 1))

    def _table(self, wildcards: Any, input: Any) -> tuple[float, int, int]:
        """Return the tiles of a feature set, and columns and bytes of each."""
        features = self._study.feature_sets[wildcards.features]
        if isinstance(features, WindowFeatures):
            windows = features.definition.windows
            columns = 3 * windows.windows * windows.window_px**2
            return tiles_stored(input.features, windows.px), columns, columns
        sources = sources_of(features)
        columns = sum(self._columns(source.network, source.layer) for source in sources)
        networks = {source.network for source in sources}
        return sum(map(tiles_named, input.features)) / max(1, len(networks)), columns, 4 * columns


def _epochs(recipe: Recipe, on: str | None = None) -> int:
    """Return the epochs of a recipe's phases, or of those on tiles or on features."""
    return sum(phase.epochs for phase in recipe.phases if on in (None, phase.on))
