"""The config, checked before any job runs: what was asked for, as one :class:`Study`.

The schema says what each key may hold. Here stands what it cannot say: names that must exist in other catalogues,
layers that a network must have, and what the sample sheets must hold for the splits that were asked for. All
problems, of the config and of the sheets, are told together.

This module is used while the jobs are planned, so it imports nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from histotransfer.networks import specification
from histotransfer.networks.groups import SOFTMAX
from histotransfer.problems import Problems, counted, listing
from histotransfer.sheets import foreign_tables, samples
from histotransfer.sheets.samples import SlideRow
from histotransfer.study import definitions, paths, recipes, schema, segmenters
from histotransfer.study import feature_sets as study_feature_sets
from histotransfer.study.catalogue import Catalogue
from histotransfer.study.feature_sets import FeatureSet, by_depth
from histotransfer.study.methods import Comparison, Method, comparisons_of, methods_of, strategies_of
from histotransfer.study.trained import TrainedNetwork

#: What can be held out together, from fine to coarse.
UNITS = ("tile", "image", "slide", "patient")


class ConfigurationError(ValueError):
    """The config or a sample sheet is wrong; the message tells every problem, one a line, by file."""

    def __init__(self, problems: Mapping[str, Problems]) -> None:
        self.problems = {file: found for file, found in problems.items() if found}
        total = sum(found.count for found in self.problems.values())
        lines = [f"{counted(total, 'problem')} in the config and the sample sheets; nothing was run"]
        for file, found in self.problems.items():
            lines += [f"{file}:", *(f"  {line}" for line in found.lines())]
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Dataset:
    """One dataset of the study. Paths are relative to the working directory.

    Attributes
    ----------
    name : str
    kind : {'slides', 'patches', 'points'}
    sheet, root : str
        `sheet` is what jobs read: a target where it is made of somebody's table.
    table : dict or None
        Of patches whose sheet is made of somebody's table: ``source`` (the table) and what
        :func:`histotransfer.sheets.foreign_tables.filter_rows` takes of the config. None: the sheet is the user's own.
    drawn : bool
        Whether a rule makes the files.
    tiling : dict or None
        Of slides: ``size_um``, or ``size_px`` and ``mpp`` (the others None), ``overlap``, ``tissue_min``,
        ``homogeneity``, ``homogeneity_drop_at``, ``max_tiles_per_slide``, ``grayscale``, ``upsample``, ``level``.
    canvas : dict or None
        Of slides: ``size`` (grid cells, or ``fit``) and ``per`` (``slide`` or ``piece``) of a map.
    crop : dict or None
        Of points: ``px``, ``border``.
    grayscale : bool
        Of patches and points (slides: see `tiling`).
    mpp : float or None
        Of patches and points: micrometres per pixel, if known.
    tasks : dict
        Name to ``{"classes": [...], "labels": {label of the sheet: class}, "leave_out": [...], "regions": ...}``;
        `regions` is None where labels come from the sheet.
    parts : list of str
        What the per-slide files are made for: slides by safe id, or parts of the table.
    rows : dict
        Safe id to :class:`histotransfer.sheets.samples.SlideRow`; empty for patches and points.
    shards : dict
        ``shard-0`` and on to the parts in it; shards with nothing in them are left out.
    sheet_check : dict
        What :func:`histotransfer.sheets.samples.check_table` takes of the study: ``labels`` (legal ones in order, or
        None for any), ``needs`` (columns), ``given`` (units).
    """

    name: str
    kind: str
    sheet: str
    root: str
    table: dict[str, Any] | None
    drawn: bool
    tiling: dict[str, Any] | None
    canvas: dict[str, Any] | None
    crop: dict[str, Any] | None
    grayscale: bool
    mpp: float | None
    tasks: dict[str, dict[str, Any]]
    parts: list[str]
    rows: dict[str, SlideRow]
    shards: dict[str, list[str]]
    sheet_check: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What was asked for, with every default filled in and every name known to exist.

    Attributes
    ----------
    name : str
    methods : tuple of Method
        One on a choice among layers is followed by one a layer.
    comparisons : dict
        By name: :class:`histotransfer.study.methods.Comparison`.
    strategies : dict
        Name to the methods that are its variants.
    friedman : tuple of str
        Strategies to test.
    splits : dict
        The study's splits by name: ``unit``, ``test``, ``validation``, ``folds``, ``groups``, ``share_groups`` (a
        reason or ""), ``stratify``, ``train_tiles``, ``train_tiles_per_class``.
    seeds : tuple of int
    master_seed, gpus, n_shards : int
    on_bad_slide, missing_mpp, pixels : str
    datasets : dict
        The study's, by name: :class:`Dataset`.
    networks : dict
        Those whose features the methods use as they are: ``architecture``, ``alpha``, ``weights``, ``px``,
        ``rescale``, ``layer``, ``layers`` (inner ones to store besides it, by depth); see
        :func:`histotransfer.networks.specification.specification`.
    trained : dict
        Those that are trained, by name: :class:`histotransfer.study.trained.TrainedNetwork`.
    feature_sets : dict
        Those that the methods use, by name: :class:`histotransfer.study.feature_sets.FeatureSet`.
    selections, classifiers : dict
        Those that the methods use; the classifier ``softmax`` is a trained network's own output.
    evaluation, extraction, training, staging : dict
    config : dict
        The whole config with its defaults.
    """

    name: str
    methods: tuple[Method, ...]
    comparisons: dict[str, Comparison]
    strategies: dict[str, list[str]]
    friedman: tuple[str, ...]
    splits: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    master_seed: int
    gpus: int
    n_shards: int
    on_bad_slide: str
    missing_mpp: str
    pixels: str
    datasets: dict[str, Dataset]
    networks: dict[str, dict[str, Any]]
    trained: dict[str, TrainedNetwork]
    feature_sets: dict[str, FeatureSet]
    selections: dict[str, dict[str, Any]]
    classifiers: dict[str, dict[str, Any]]
    evaluation: dict[str, Any]
    extraction: dict[str, Any]
    training: dict[str, Any]
    staging: dict[str, Any]
    config: dict[str, Any]

    def px_of(self, dataset: str) -> list[int]:
        """Return the sizes (pixels) of the tiles that networks and random windows take of `dataset`, ascending."""
        if dataset not in self.datasets:
            raise ValueError(f"datasets of the study are {listing(self.datasets)}; found {dataset!r}")
        return sorted({network["px"] for network in self.networks.values()} | self._px_read_often())

    def px_stored(self, dataset: str) -> list[int]:
        """Return those sizes (pixels) whose tiles are files: all, or where pixels are streamed what is read often."""
        every = self.px_of(dataset)
        return every if self.pixels == "cache" else sorted(self._px_read_often())

    def _px_read_often(self) -> set[int]:
        windows = {one.windows["px"] for one in self.feature_sets.values() if one.windows is not None}
        return windows | {one.px for one in self.trained.values() if not one.head_only}


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
        The working directory, which every relative path is relative to.

    Raises
    ------
    ConfigurationError
        With all problems of the config and of the sheets.

    Notes
    -----
    Sheets of slides are read whole. Of sheets of patches and points, which may have a million rows, the header is
    read, and a job checks the rest (:func:`histotransfer.sheets.samples.check_table`).
    """
    with open(schema_file, encoding="utf-8") as file:
        rules = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    problems = {"config": Problems()}
    written = schema.plain(config, "", problems["config"])
    asked = schema.Defaults(rules).filled(written, rules)
    catalogue = Catalogue(asked, problems["config"], schema.refused(written, rules, problems["config"]))
    definitions.check(catalogue, folder)
    listed = methods_of(catalogue)
    comparisons = comparisons_of(catalogue, listed)
    strategies = strategies_of(catalogue, listed)
    datasets = {
        name: dataset
        for name in catalogue.chosen("datasets")
        if (dataset := _dataset(name, catalogue, problems, folder)) is not None
    }
    if any(problems.values()):
        raise ConfigurationError(problems)
    methods = tuple(dict.fromkeys(method for several in listed.values() for method in several))
    used = {
        one.name: one
        for name in dict.fromkeys(method.partition("+")[0] for method in listed)
        for one in study_feature_sets.resolved(name, catalogue.feature_set(name) or {}, catalogue.all_networks())
    }
    extracted = _extracted(methods, used)
    trained = _trained(catalogue, methods, extracted)
    heads = [one.start_name for one in trained.values() if one.on_features]
    return Study(
        name=asked["study"]["name"],
        methods=methods,
        comparisons=comparisons,
        strategies=strategies,
        friedman=tuple(asked["study"]["friedman"]),
        splits={name: _resolved_split(asked["splits"][name]) for name in asked["study"]["splits"]},
        seeds=tuple(asked["study"]["seeds"]),
        master_seed=asked["seed"],
        gpus=asked["gpus"],
        n_shards=asked["n_shards"],
        on_bad_slide=asked["on_bad_slide"],
        missing_mpp=asked["missing_mpp"],
        pixels=asked["pixels"],
        datasets=datasets,
        networks=_resolved_networks(asked["networks"], used, extracted, heads),
        trained=trained,
        feature_sets=used,
        selections={one.selection: asked["selections"][one.selection] for one in used.values() if one.selection},
        classifiers=_classifiers(asked, methods),
        evaluation=asked["evaluation"],
        extraction=asked["extraction"],
        training=asked["training"],
        staging=asked["staging"],
        config=asked,
    )


# ---- what is handed on


def _resolved_split(split: Mapping[str, Any]) -> dict[str, Any]:
    return {**split, "share_groups": split["share_groups"] or ""}


def _classifiers(asked: Mapping[str, Any], methods: Sequence[Method]) -> dict[str, dict[str, Any]]:
    """Return the classifiers in use; a segmentation network that another begins with is used too."""
    defined, found = asked["classifiers"], {}
    for name in dict.fromkeys(method.classifier for method in methods):
        if name == SOFTMAX:
            found[name] = {"kind": name}
        elif defined[name]["kind"] in segmenters.KINDS:
            found[name] = segmenters.resolved(name, defined, asked["recipes"])
            start = found[name].get("start")
            if start:
                found.setdefault(start, segmenters.resolved(start, defined, asked["recipes"]))
        else:
            found[name] = defined[name]
    return found


def _extracted(methods: Sequence[Method], used: Mapping[str, FeatureSet]) -> dict[str, list[str]]:
    """Return the networks whose features are extracted, each with the layers that feature sets need besides its own."""
    found: dict[str, list[str]] = {}
    for method in methods:
        if method.classifier == SOFTMAX:
            continue
        for source in used[method.features].sources:
            layers = found.setdefault(source["network"], [])
            if source["layer"] and source["layer"] not in layers:
                layers.append(source["layer"])
    return found


def _trained(
    catalogue: Catalogue, methods: Sequence[Method], extracted: Mapping[str, Sequence[str]]
) -> dict[str, TrainedNetwork]:
    """Return the trained networks in use, as methods of their own or by their features."""
    own = [method.features for method in methods if method.classifier == SOFTMAX]
    result = {}
    for name in dict.fromkeys([*own, *extracted]):
        entry = catalogue.sound("networks", name) or {}
        if entry["recipe"] is None:
            continue
        recipe = recipes.resolved(entry["recipe"], catalogue.sound("recipes", entry["recipe"]) or {})
        view = catalogue.network(name) or {}
        listed = by_depth(entry["layers"], view) if entry["layers"] else []
        start = _resolved_network({**(catalogue.sound("networks", entry["start"]) or {}), "layers": []})
        layer = view["layer"] or start["layer"]
        layers = by_depth([one for one in (*listed, *extracted.get(name, ())) if one != layer], view)
        result[name] = TrainedNetwork(name, entry["start"], start, recipe, layer, tuple(layers))
    return result


def _resolved_networks(
    defined: Mapping[str, Any],
    used: Mapping[str, FeatureSet],
    extracted: Mapping[str, Sequence[str]],
    heads: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Return the networks in use as they are, each with the inner layers that it lists and that the study needs.

    A choice among layers has the sources of its layers; a head that is trained on features needs its start's.
    """
    needed = {name: list(layers) for name, layers in extracted.items() if defined[name]["recipe"] is None}
    for name in heads:
        needed.setdefault(name, [])
    return {
        name: _resolved_network({**defined[name], "layers": _with(defined[name], layers)})
        for name, layers in needed.items()
    }


def _with(network: Mapping[str, Any], needed: Sequence[str]) -> list[str]:
    # "all" leaves dense layers out, and a feature set may need one
    own = {key: value for key, value in network.items() if key in specification.KEYS and value is not None}
    return [*specification.specification(own).layers, *needed]


def _resolved_network(network: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in network.items() if key in specification.KEYS and value is not None}
    found = specification.specification(own)
    return {
        "architecture": found.architecture.name,
        "alpha": found.alpha,
        "weights": found.weights,
        "px": found.px,
        "rescale": found.rescale,
        "layer": found.layer,
        "layers": list(found.layers),
    }


def _resolved_task(task: Mapping[str, Any]) -> dict[str, Any]:
    members = definitions.class_members(task)
    return {
        "classes": list(members),
        "labels": {label: name for name, labels in members.items() for label in labels},
        "leave_out": list(task["leave_out"]),
        "regions": task["regions"],
    }


# ---- datasets and their sheets


def _dataset(
    name: str, catalogue: Catalogue, problems: dict[str, Problems], folder: str | os.PathLike[str]
) -> Dataset | None:
    """Read what is known of one dataset before any job runs; problems of its sheet go under the sheet's name."""
    spec = catalogue.sound("datasets", name)
    if spec is None:
        return None
    tasks = {task: catalogue.sound("tasks", task) for task in spec["tasks"]}
    splits = {split: catalogue.sound("splits", split) for split in catalogue.chosen("splits")}
    splits = {split: found for split, found in splits.items() if found is not None}
    kind, sheet = spec["kind"], spec["sheet"]
    root = os.path.normpath(os.path.dirname(sheet) if spec["root"] is None else spec["root"])
    resolved = {task: _resolved_task(found) for task, found in tasks.items() if found is not None}
    check = {
        # a task that is wrong itself would make every label unknown
        "labels": _labels(resolved) if resolved and None not in tasks.values() else None,
        "needs": _needed_columns(kind, splits.values()),
        "given": _given_units(splits.values()),
    }
    rows: list[SlideRow] = []
    table = _table_of_others(spec)
    if table is not None:
        header = {key: table[key] for key in ("separator", "columns")}
        wanted = {key: value for key, value in check.items() if key != "given"}
        found = foreign_tables.check_header(sheet, folder=folder, **header, **wanted)
    elif kind == "slides":
        rows, found = samples.read_slide_sheet(sheet, root=root, drawn=spec["drawn"], folder=folder, **check)
        if not found:
            _check_groups(rows, resolved, splits, found)
    else:
        arguments = {key: value for key, value in check.items() if key != "given"}
        found = samples.check_header(sheet, kind=kind, folder=folder, **arguments)
    problems[sheet if sheet not in problems else f"{sheet} (dataset {name})"] = found
    n_shards, tiling = catalogue.setting("n_shards"), catalogue.sound("tilings", spec.get("tiling", ""))
    if not isinstance(n_shards, int) or n_shards < 1:
        return None
    parts = [row.id for row in rows] if kind == "slides" else samples.part_ids(n_shards)
    return Dataset(
        name=name,
        kind=kind,
        sheet=sheet if table is None else paths.SHEET.format(dataset=name),
        root=root,
        table=table,
        drawn=spec.get("drawn", False),
        tiling=None if tiling is None else {**tiling, "tissue_min": tiling["tissue_min"] or 0.0},
        canvas=spec.get("canvas"),
        crop=spec.get("crop"),
        grayscale=spec.get("grayscale", False),
        mpp=spec.get("mpp"),
        tasks=resolved,
        parts=parts,
        rows={row.id: row for row in rows},
        shards=_shards(parts, n_shards, by_hash=kind == "slides"),
        sheet_check=check,
    )


def _table_of_others(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how a sheet is made of somebody's table; None where the sheet is one already."""
    plain = {"separator": "tab", "columns": {}, "several_labels": None, "unlabelled": "keep", "repeated": "error"}
    plain["missing_files"] = "exclude"
    asked = {key: spec.get(key, default) for key, default in plain.items()}
    asked["columns"] = {name: column for name, column in asked["columns"].items() if column is not None}
    return None if asked == plain else {"source": spec["sheet"], **asked}


def _labels(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the labels that a sheet may hold: those of any task, in the order of the tasks."""
    legal: dict[str, None] = {}
    for task in tasks.values():
        legal.update(dict.fromkeys([*task["labels"], *task["leave_out"]]))
    return list(legal)


def _needed_columns(kind: str, splits: Collection[Mapping[str, Any]]) -> list[str]:
    """Return the columns that the splits need, besides those that every sheet of its kind has."""
    units = {split["groups"] if split["unit"] == "given" else split["unit"] for split in splits}
    given = any(split["unit"] == "given" for split in splits)
    return [*(["patient"] if "patient" in units else []), *(["split"] if given else [])]


def _given_units(splits: Collection[Mapping[str, Any]]) -> list[str]:
    """Return the units whose groups must each lie in one given set: the declared ones and all that are coarser."""
    units: set[str] = set()
    for split in splits:
        if split["unit"] == "given" and split["groups"] is not None and not split["share_groups"]:
            units.update(UNITS[UNITS.index(split["groups"]) :])
    return [unit for unit in UNITS if unit in units]


def _shards(parts: Sequence[str], n_shards: int, *, by_hash: bool) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for place, part in enumerate(parts):
        # a part of a table is a share already
        number = samples.bucket(part, n_shards) if by_hash else place
        members.setdefault(f"shard-{number}", []).append(part)
    return dict(sorted(members.items(), key=lambda item: int(item[0].removeprefix("shard-"))))


def _check_groups(
    rows: Sequence[SlideRow],
    tasks: Mapping[str, Mapping[str, Any]],
    splits: Mapping[str, Mapping[str, Any]],
    problems: Problems,
) -> None:
    """Check that every class has groups enough for every split, as far as the sheet tells."""
    for split_name, split in splits.items():
        unit = split["groups"] if split["unit"] == "given" else split["unit"]
        if split["unit"] in ("slide", "image") and not split["share_groups"]:
            _check_apart(split_name, unit, rows, problems)
        # tiles are not cut yet, regions are not read yet, and given sets may share their groups for a reason
        if unit in (None, "tile") or any(row.annotation for row in rows):
            continue
        if split["unit"] == "given" and split["share_groups"]:
            continue
        for task, resolved in tasks.items():
            classes: dict[str, list[SlideRow]] = {f"class {of!r} of task {task}": [] for of in resolved["classes"]}
            for row in rows:
                if row.label in resolved["labels"]:
                    classes[f"class {resolved['labels'][row.label]!r} of task {task}"].append(row)
            if split["stratify"] == "none":
                classes = {f"task {task}": [row for members in classes.values() for row in members]}
            for what, members in classes.items():
                _check_enough(f"split {split_name}, {what}", unit, split, members, problems)


def _check_enough(
    where: str, unit: str, split: Mapping[str, Any], rows: Sequence[SlideRow], problems: Problems
) -> None:
    folds = split["folds"]
    if split["unit"] == "given":
        held_out = {_group(row, unit) for row in rows if row.split == "test"}
        trained = {_group(row, unit) for row in rows if row.split != "test"}
        if len(trained) < folds or not held_out:
            legal = f"it takes {counted(folds, unit)} in train and validation (one a fold) and 1 in test"
            problems.add(where, legal, f"{len(trained)} and {len(held_out)}")
        return
    groups = {_group(row, unit) for row in rows}
    parts = f"{folds} to train (one a fold), 1 for the test" + (", 1 to validate" if split["validation"] else "")
    needed = folds + 1 + bool(split["validation"])
    if len(groups) < needed:
        problems.add(where, f"it takes {counted(needed, unit)}: {parts}", str(len(groups)))


def _check_apart(name: str, unit: str, rows: Sequence[SlideRow], problems: Problems) -> None:
    """Check that a unit finer than the patient parts no patient whom the sheet names, unless a reason is given."""
    for coarser in UNITS[UNITS.index(unit) + 1 :]:
        groups: dict[str, set[str]] = {}
        for row in rows:
            if _group(row, coarser):
                groups.setdefault(_group(row, coarser), set()).add(_group(row, unit))
        several = sorted(group for group, members in groups.items() if len(members) > 1)
        if several:
            legal = (
                f"the unit {unit} can put {unit}s of one {coarser} on both sides: split by {coarser}, or say in "
                "`share_groups` why they may be shared"
            )
            found = f"{counted(len(several), coarser)} with several {unit}s: {listing(several, 5)}"
            problems.add(f"split {name}", legal, found)
            return


def _group(row: SlideRow, unit: str) -> str:
    return {"image": row.image_in_sheet, "slide": row.slide, "patient": row.patient}[unit]
