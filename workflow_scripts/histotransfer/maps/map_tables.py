"""Tables of the chapter of slides as maps: methods over seeds, what canvases cut off, what end-to-end steps moved."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from histotransfer import store
from histotransfer.definitions import Factors
from histotransfer.evaluation import scoreboard
from histotransfer.maps import tumour_points
from histotransfer.problems import listing

METHOD_COLUMNS = (
    *("dataset", "task", "method", "untrained", "positive", "seeds", "tiles", "accuracy", "accuracy_sd"),
    *("pr_auc", "pr_auc_sd", "isolated_tiles", "isolated_tiles_sd", "isolated_regions", "note"),
)

#: What ``canvases.tsv`` and ``moved.tsv`` of a run hold.
CANVAS_COLUMNS = ("image", "piece", "tiles", "canvas", "cut_off")
MOVED_COLUMNS = ("epoch", "group", "weights", "steps", "step_mean", "step_least", "step_most", "since_start")

CANVASES_COLUMNS = ("dataset", *CANVAS_COLUMNS, "methods")
MOVEMENT_COLUMNS = ("dataset", "task", "seed", "method", *MOVED_COLUMNS)


def tabulate_methods(
    *, scores: str, points: str, table: str, methods: Sequence[str], datasets: Sequence[str], split: str
) -> None:
    """Write accuracy, PR AUC and isolated false tiles of each method, as mean and standard deviation over seeds.

    Parameters
    ----------
    scores : path
        Table of :func:`histotransfer.evaluation.scores.collect`.
    points : path
        Table of :func:`histotransfer.maps.tumour_points.tabulate` of the same split.
    table : path
        CSV to write, a row a dataset, task and method, in the order of `datasets` and `methods`; of labelled test
        tiles: ``accuracy`` of the class with the higher score (over 0.5 where scores are probabilities of two),
        ``pr_auc`` of the second of two classes (of more the mean over classes, as the note says), each with ``_sd``;
        ``isolated_tiles`` and ``isolated_regions`` (:class:`histotransfer.maps.tumour_points.Points`), empty unless
        there are two classes; ``tiles`` of each seed in turn, once where they are equal; ``positive``, the second of
        two classes; ``note``: what is undefined, and which method is scored on fewer tiles than others.
    methods, datasets : sequence of str
        Those of the table; a method without scores on a dataset has no row.
    split : str

    Raises
    ------
    ValueError
        If a table lacks a column.

    Notes
    -----
    Standard deviations are of a sample (n - 1 in the denominator), empty for one seed. Takahama et al. (2019) give
    those of three initialisations on one split; here a seed draws the split as well, unless it is given.
    """
    counted = _read(store.read_csv(points), tumour_points.COLUMNS, points)
    isolated: dict[tuple[str, str, str, str], Mapping[str, str]] = {}
    for row in counted:
        isolated[row["dataset"], row["task"], row["method"], row["seed"]] = row
    rows = []
    for (dataset, task, _), runs in _sorted(scoreboard.read(scores), datasets, split):
        of_method = {name: [run for run in runs if run.method == name] for name in methods}
        most = _labelled(runs)
        for method, own in of_method.items():
            if own:
                found = [isolated.get((dataset, task, method, run.seed)) for run in own]
                rows.append({"dataset": dataset, "task": task, "method": method, **_over_seeds(own, found, most)})
    store.write_csv(table, METHOD_COLUMNS, rows)


def _sorted(
    runs: Iterable[scoreboard.Run], datasets: Sequence[str], split: str
) -> list[tuple[tuple[str, str, str], list[scoreboard.Run]]]:
    found = [
        (key, of_task)
        for key, of_task in scoreboard.comparisons(run for run in runs if run.split == split).items()
        if key[0] in datasets
    ]
    return sorted(found, key=lambda pair: datasets.index(pair[0][0]))


def _labelled(runs: Iterable[scoreboard.Run]) -> dict[str, int]:
    """Return by seed how many labelled tiles the method with most of them is scored on."""
    most: dict[str, int] = {}
    for run in runs:
        if ("tile", "accuracy", "") in run.estimates:
            most[run.seed] = max(most.get(run.seed, 0), run.estimates["tile", "accuracy", ""].n)
    return most


def _over_seeds(
    runs: Sequence[scoreboard.Run], points: Sequence[Mapping[str, str] | None], most: Mapping[str, int]
) -> dict[str, Any]:
    row: dict[str, Any] = {"seeds": len(runs), "untrained": "yes" if any(run.untrained for run in runs) else "no"}
    notes: dict[str, None] = {}
    for metric in ("accuracy", "pr_auc"):
        estimates = [run.estimates.get(("tile", metric, "")) for run in runs]
        row |= _spread(metric, [one.value for one in estimates if one is not None and one.value is not None])
        undefined = sum(one is None or one.value is None for one in estimates)
        if undefined:
            reasons = dict.fromkeys(one.note for one in estimates if one is not None and one.value is None)
            why = ", ".join(reason for reason in reasons if reason) or "not scored"
            notes[f"{scoreboard.metric_name(metric)} of {len(runs) - undefined} of {len(runs)} seeds: {why}"] = None
    sizes = {run.seed: run.estimates["tile", "accuracy", ""].n for run in runs if run.seed in most}
    texts = [f"{n}" for n in sizes.values()]
    row["tiles"] = texts[0] if len(set(texts)) == 1 else ", ".join(texts)
    fewer = [seed for seed, n in sizes.items() if n < most[seed]]
    if fewer:
        scored, all_tiles = (sum(tiles[seed] for seed in fewer) for tiles in (sizes, most))
        which = ("seed " if len(fewer) == 1 else "seeds ") + ", ".join(fewer)
        notes[f"scored on {scored:,} of the {all_tiles:,} tiles that others are scored on, {which}"] = None
    known = [one for one in points if one is not None]
    if known:
        row["positive"] = known[0]["positive"]
        row |= _spread("isolated_tiles", [float(one["isolated_tiles"]) for one in known])
        row["isolated_regions"] = statistics.fmean(float(one["isolated_regions"]) for one in known)
        notes.update((one["note"], None) for one in known if one["note"])
    if len(scoreboard.classes(runs)) > 2:
        notes["PR AUC is the mean over classes; isolated tiles are counted of two classes alone"] = None
    return {**row, "note": "; ".join(notes)}


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Return mean and standard deviation of a sample, None where there are too few values."""
    return {
        name: statistics.fmean(values) if values else None,
        f"{name}_sd": statistics.stdev(values) if len(values) > 1 else None,
    }


def tabulate_canvases(*, canvases: Sequence[str], runs: Sequence[Factors], table: str) -> None:
    """Write how each piece of a slide lies on its canvas, once for all tasks, splits and seeds that agree.

    Parameters
    ----------
    canvases : sequence of path
        ``canvases.tsv`` of runs: a row a piece, with ``image``, number of the ``piece``, its ``tiles``, edge of the
        ``canvas`` in cells, and how many tiles are ``cut_off``.
    runs : sequence of Factors
        Of each.
    table : path
        CSV to write: ``dataset``, the columns of the runs, and the ``methods`` that agree.

    Raises
    ------
    ValueError
        If the lists are not equally long, or a table lacks a column.
    """
    methods: dict[tuple[str, ...], dict[str, None]] = {}
    for run, rows in _read_each(canvases, runs, CANVAS_COLUMNS):
        for row in rows:
            key = (run.dataset, *(row[name] for name in CANVAS_COLUMNS))
            methods.setdefault(key, {})[run.method] = None
    rows = ({**dict(zip(CANVASES_COLUMNS, key, strict=False)), "methods": ", ".join(methods[key])} for key in methods)
    store.write_csv(table, CANVASES_COLUMNS, rows)


def tabulate_moved(*, moved: Sequence[str], runs: Sequence[Factors], table: str) -> None:
    """Write what share of the weights the steps of end-to-end learning moved, of all runs of a split.

    Parameters
    ----------
    moved : sequence of path
        ``moved.tsv`` of runs: a row an epoch and group of layers, with the number of ``weights``, the share of them
        that a step moved (mean, least and most over the epoch's steps), and the share that differs from the start.
    runs : sequence of Factors
        Of each.
    table : path
        CSV to write: what each run is of, and its rows.

    Raises
    ------
    ValueError
        If the lists are not equally long, or a table lacks a column.
    """
    rows = [
        {**{name: getattr(run, name) for name in MOVEMENT_COLUMNS[:4]}, **{name: row[name] for name in MOVED_COLUMNS}}
        for run, own in _read_each(moved, runs, MOVED_COLUMNS)
        for row in own
    ]
    store.write_csv(table, MOVEMENT_COLUMNS, rows)


def _read_each(
    paths: Sequence[str], runs: Sequence[Factors], columns: Sequence[str]
) -> list[tuple[Factors, list[dict[str, str]]]]:
    if len(paths) != len(runs):
        found = f"{len(paths)} tables and {len(runs)} descriptions"
        raise ValueError(f"each table must be told what it is of; found {found}")
    return [(run, _read(store.read_table(path), columns, path)) for path, run in zip(paths, runs, strict=True)]


def _read(rows: list[dict[str, str]], columns: Sequence[str], path: str | Path) -> list[dict[str, str]]:
    missing = [name for name in columns if rows and name not in rows[0]]
    if missing:
        raise ValueError(f"{path}: column {listing(missing)} is missing; found {listing(rows[0])}")
    return rows
