"""What a run cost: time and memory per rule and per method, from what Snakemake's ``benchmark:`` directive leaves."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from histotransfer import store
from histotransfer.evaluation import ranking, scoreboard
from histotransfer.networks.groups import SOFTMAX
from histotransfer.settings import DatasetParts, MethodParts

COLUMNS = (
    "rule",
    "jobs",
    "seconds_total",
    "seconds_median",
    "seconds_max",
    "cpu_seconds_total",
    "rss_mb_median",
    "rss_mb_max",
    "read_mb_total",
    "written_mb_total",
)

METHOD_COLUMNS = (
    *("method", "untrained", "metric", "score", "average_rank", "cpu_seconds", "gpu_seconds", "peak_mb", "disk_bytes"),
    *("shared_with", "jobs", "unmeasured", "note"),
)

#: What a trained network leaves, and a head that is trained first.
TRAINED_FILES = ("model.keras", "head.keras", "predictions.h5", "history.tsv", "curve.tsv")

#: What a fitted model leaves, scikit-learn's or a segmentation network.
FITTED_FILES = (
    *("model.skops", "predictions.h5", "tuning.tsv", "model.keras", "extractor.keras", "history.tsv", "curve.tsv"),
    *("canvases.tsv", "moved.tsv"),
)
#: Rules that fit a method's own models on a GPU, where there is one.
ON_GPU = ("train_unet", "train_end_to_end")

#: How Snakemake writes that a job was too short to be measured.
_NOT_MEASURED = ("NA", "-", "")


def collect(
    *, folders: Sequence[str | Path], rule_order: Sequence[str], cost: str | Path, after: Sequence[str | Path] = ()
) -> None:
    """Gather benchmark files into one table, a row a rule.

    Parameters
    ----------
    folders : sequence of path
        Folders that hold a folder, or one file ``RULE.tsv``, a rule; a folder that is not there is empty. The tables
        are Snakemake's: s, h:m:s, max_rss, max_vms, max_uss, max_pss (MiB), io_in, io_out (MiB), mean_load, cpu_time
        (s). A repeated benchmark has a row a repetition, and each counts as a job.
    rule_order : sequence of str
        Rules in the order of the table; others follow by name.
    cost : path
        Table to write. Memory is resident (``max_rss``), in MiB. A job too short to be measured has no memory and no
        processor time, and counts in neither; a column without any value is empty.
    after : sequence of path
        Files whose jobs the table is to cover. Not read.

    Raises
    ------
    ValueError
        If a file is no benchmark.
    """
    jobs: dict[str, list[dict[str, str]]] = {rule: [] for rule in rule_order}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.tsv")):
            rows = _benchmark(path)
            rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
            jobs.setdefault(rule, []).extend(rows)
    known = list(rule_order)
    ordered = known + sorted(jobs.keys() - set(known))
    store.write_table(cost, COLUMNS, (_summary(rule, jobs[rule]) for rule in ordered if jobs[rule]))


def _benchmark(path: Path) -> list[dict[str, str]]:
    rows = store.read_table(path)
    if rows and "s" not in rows[0]:
        found = ", ".join(rows[0])
        raise ValueError(f"{path} is no benchmark of Snakemake: column 's' is missing; found {found}")
    return rows


def _measured(row: Mapping[str, str], column: str) -> float | None:
    return None if (row.get(column) or "") in _NOT_MEASURED else float(row[column])


def _summary(rule: str, rows: list[dict[str, str]]) -> dict[str, object]:
    def values(column: str) -> list[float]:
        return [value for row in rows if (value := _measured(row, column)) is not None]

    def of(function: Callable[[list[float]], float], column: str) -> float | None:
        measured = values(column)
        return round(function(measured), 3) if measured else None

    return {
        "rule": rule,
        "jobs": len(rows),
        "seconds_total": of(sum, "s"),
        "seconds_median": of(statistics.median, "s"),
        "seconds_max": of(max, "s"),
        "cpu_seconds_total": of(sum, "cpu_time"),
        "rss_mb_median": of(statistics.median, "max_rss"),
        "rss_mb_max": of(max, "max_rss"),
        "read_mb_total": of(sum, "io_in"),
        "written_mb_total": of(sum, "io_out"),
    }


# ---- what a method costs


@dataclass
class _Jobs:
    """The jobs behind one method."""

    cpu_seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    gpu_seconds: float = 0.0
    count: int = 0
    unmeasured: int = 0

    def add(self, path: Path, *, on_gpu: bool = False) -> None:
        """Add the jobs of a benchmark file; one that is not there is a job that was not measured."""
        rows = _benchmark(path) if path.is_file() else [{}]
        for row in rows:
            cpu, memory, wall = (_measured(row, column) for column in ("cpu_time", "max_rss", "s"))
            self.count += 1
            self.unmeasured += cpu is None or memory is None
            self.cpu_seconds += [] if cpu is None else [cpu]
            self.peak_mb += [] if memory is None else [memory]
            self.gpu_seconds += wall or 0.0 if on_gpu else 0.0


def of_methods(
    *,
    scores: str,
    table: str,
    methods: Mapping[str, MethodParts],
    datasets: Mapping[str, DatasetParts],
    split: str,
    seeds: Sequence[int],
    gpus: int,
    extraction_rule: str = "extract_features",
    benchmarks: str | Path = "benchmarks",
    results: str | Path = "results",
    after: Sequence[str | Path] = (),
) -> None:
    """Write what each method costs beside its score and its average rank among all of them.

    Parameters
    ----------
    scores : path
        Table of :func:`histotransfer.evaluation.scores.collect`.
    table : path
        CSV to write, a row a method, in their order: ``untrained`` (yes, no); ``metric``, where all tasks have the
        same; ``score``, the mean over the tasks in which every method has one; ``average_rank`` over these tasks, as
        :func:`histotransfer.evaluation.ranking.rank` has it; the costs; ``shared_with``, how many of the other methods
        use a network of this one; the number of ``jobs``, and of those that are ``unmeasured``; ``note``. Named
        ``method_costs.csv``, it is no part of the results' content.
    methods : mapping of str to MethodParts
    datasets : mapping of str to DatasetParts
    split : str
    seeds : sequence of int
    gpus : int
        If any, extraction ran on them.
    extraction_rule : {'extract_features', 'stream_features'}
    benchmarks, results : path
        The folders that the rules write to.
    after : sequence of path
        Files whose jobs the table is to cover. Not read.

    Raises
    ------
    ValueError
        If a method has no scores or a file is no benchmark.

    Notes
    -----
    Counted are, over all datasets, tasks and seeds: the extraction of the method's networks, the training of those
    that are trained, the selection of its features, its training with cross-validation, and of a choice among layers
    the training on each of them. Seconds
    are those of the processor (``cpu_seconds``) and, of what ran on a GPU, of the clock (``gpu_seconds``, among them
    those of reading and writing); ``peak_mb`` is the highest resident memory of a job, in MiB. ``disk_bytes`` are those
    of the feature files, models, predictions, tuning tables and selections that are there; of a layer, the share of
    its columns in its network's files. An extraction serves every layer and every method of its network, and each
    method is charged the whole of it, as if it were alone: costs of methods with ``shared_with`` above 0 do not add
    up. What all methods need is left out: slides, tiles, pixels, labels and splits.

    ASSUME a mean of scores over tasks, also where the metric is ROC AUC in some and accuracy in others, which the
    ``note`` says: it places a method in a picture of costs; methods are compared by their ranks.
    """
    runs = scoreboard.read(scores)
    pairs = ranking.scored(runs, methods=list(methods), split=split, path=scores)
    ranked = [pair for pair in pairs if None not in [pair.mean(method) for method in methods]]
    ranks = [dict(zip(methods, ranking.mean_ranks([pair.mean(m) for m in methods]), strict=True)) for pair in ranked]
    untrained = {run.method for run in runs if run.untrained and run.split == split}
    metrics = sorted({pair.metric for pair in ranked})
    counter = _Counter(Path(benchmarks), datasets, split, seeds, extraction_rule, on_gpu=gpus > 0)
    disk = _Disk(Path(results), datasets)
    rows = []
    for name, one in methods.items():
        jobs = counter.jobs(one)
        notes = []
        if len(metrics) > 1:
            words = " and ".join(scoreboard.metric_name(metric) for metric in metrics)
            notes.append(f"the score is the mean over tasks of {words}, whichever the task has")
        if jobs.unmeasured:
            notes.append("jobs too short to be measured, or without a benchmark file, count in no cost")
        rows.append(
            {
                "method": name,
                "untrained": "yes" if name in untrained else "no",
                "metric": metrics[0] if len(metrics) == 1 else "",
                "score": ranking.mean_of(pair.mean(name) for pair in ranked),
                "average_rank": ranking.mean_of(float(of_pair[name]) for of_pair in ranks),
                "cpu_seconds": round(sum(jobs.cpu_seconds), 2) if jobs.cpu_seconds else None,
                "gpu_seconds": round(jobs.gpu_seconds, 2),
                "peak_mb": max(jobs.peak_mb, default=None),
                "disk_bytes": disk.of(one, split, seeds),
                "shared_with": sum(bool(one.networks & methods[other].networks) for other in methods if other != name),
                "jobs": jobs.count,
                "unmeasured": jobs.unmeasured,
                "note": "; ".join(notes),
            }
        )
    store.write_csv(table, METHOD_COLUMNS, rows)


@dataclass(frozen=True)
class _Counter:
    """Where the benchmark files of a study's jobs lie, and whether Keras ran on a GPU."""

    benchmarks: Path
    datasets: Mapping[str, DatasetParts]
    split: str
    seeds: Sequence[int]
    extraction_rule: str
    on_gpu: bool

    def jobs(self, method: MethodParts) -> _Jobs:
        """Return the jobs behind a method."""
        jobs = _Jobs()
        trained = {one.network for one in method.trained}
        for name, dataset in self.datasets.items():
            folder = self.benchmarks / name
            if method.cell_px:
                for part in dataset.parts:
                    jobs.add(folder / "slide_image" / str(method.cell_px) / f"{part}.tsv")
            for network in sorted(method.networks - trained):
                for shard in dataset.shards:
                    jobs.add(folder / self.extraction_rule / network / f"{shard}.tsv", on_gpu=self.on_gpu)
            for run in (Path(task, self.split, str(seed)) for task in dataset.tasks for seed in self.seeds):
                self._add_run(jobs, folder, run, method, dataset)
        return jobs

    def _add_run(self, jobs: _Jobs, folder: Path, run: Path, method: MethodParts, dataset: DatasetParts) -> None:
        """Add the jobs of one task and seed."""
        extracted = {source.network for source in method.sources}
        for training in method.trained:
            for rule in training.rules:
                jobs.add(folder / rule / run / f"{training.network}.tsv", on_gpu=self.on_gpu)
            if training.network in extracted:
                for shard in dataset.shards:
                    place = folder / "extract_trained_features" / run / training.network
                    jobs.add(place / f"{shard}.tsv", on_gpu=self.on_gpu)
        if method.selection:
            jobs.add(folder / "select_features" / run / f"{method.features}.tsv")
        for layer in method.choice:
            jobs.add(folder / "train_classifier" / run / layer / f"{method.classifier}.tsv")
        for fit in method.fitted:
            path = folder / fit.rule / run / method.features / f"{fit.classifier}.tsv"
            jobs.add(path, on_gpu=self.on_gpu and fit.rule in ON_GPU)


class _Disk:
    """Sizes of what methods leave on the disk; each network's feature files are looked at once."""

    def __init__(self, results: Path, datasets: Mapping[str, DatasetParts]) -> None:
        self._results = results
        self._datasets = datasets
        self._networks: dict[tuple[str, str], tuple[int, dict[str | None, int]]] = {}

    def of(self, method: MethodParts, split: str, seeds: Sequence[int]) -> int:
        """Return the bytes behind a method."""
        total = 0.0
        trained = {one.network for one in method.trained}
        layers: dict[str, set[str | None]] = {one.start: {None} for one in method.trained if one.start}
        for source in method.sources:
            layers.setdefault(source.network, set()).add(source.layer)
        for name, dataset in self._datasets.items():
            home = self._results / name
            for network in sorted(layers.keys() - trained):
                total += self._features(name, network, layers[network])
            if method.cell_px:
                images = home / "slide_images" / str(method.cell_px)
                total += sum(_size(images / f"{part}.h5") for part in dataset.parts)
            for run in (Path(task, split, str(seed)) for task in dataset.tasks for seed in seeds):
                for network in sorted(trained):
                    folders = (home / "models" / run / network / SOFTMAX, home / "heads" / run / network)
                    total += sum(_size(folder / file) for folder in folders for file in TRAINED_FILES)
                    if network in layers:
                        total += self._features(name, f"{run}/{network}", layers[network])
                total += _fitted_bytes(home, run, method)
        return round(total)

    def _features(self, dataset: str, network: str, layers: set[str | None]) -> float:
        if (dataset, network) not in self._networks:
            self._networks[dataset, network] = self._look(dataset, network)
        total, widths = self._networks[dataset, network]
        wanted = sum(widths.get(layer, 0) for layer in layers)
        return total * wanted / sum(widths.values()) if widths else 0.0

    def _look(self, dataset: str, network: str) -> tuple[int, dict[str | None, int]]:
        """Return the bytes of a network's feature files and the columns of each layer, None being its own."""
        import h5py

        folder = self._results / dataset / "features" / network
        files = []
        for shard in self._datasets[dataset].shards:
            manifest = folder / f"{shard}.json"
            slides = store.read_json(manifest)["slides"] if manifest.is_file() else []
            files += [folder / entry["file"] for entry in slides if entry["status"] == "ok"]
        files = [file for file in files if file.is_file()]
        widths: dict[str | None, int] = {}
        if files:
            with h5py.File(files[0], "r") as file:
                widths[None] = file["features"].shape[1]
                widths |= {layer: data.shape[1] for layer, data in file.get("layers", {}).items()}
        return sum(map(_size, files)), widths


def _fitted_bytes(home: Path, run: Path, method: MethodParts) -> int:
    """Return the bytes of a method's own models and selection, of one task and seed of a dataset."""
    if method.classifier == SOFTMAX:
        return 0
    models = home / "models" / run
    folders = [models / method.features / name for name in sorted({fit.classifier for fit in method.fitted})]
    folders += [models / layer / method.classifier for layer in method.choice]
    total = sum(_size(folder / file) for folder in folders for file in FITTED_FILES)
    if method.selection:
        folder = home / "selections" / run / method.features
        total += sum(_size(folder / file) for file in ("subsets.h5", "curve.tsv"))
    return total


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
