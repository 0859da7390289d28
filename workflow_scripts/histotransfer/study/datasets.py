"""The datasets of a study, and what their sample sheets must hold.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from histotransfer import plain_data
from histotransfer.definitions import GIVEN, UNITS, Canvas, Crop, Split, Task, Tiling
from histotransfer.problems import Problems
from histotransfer.sheets import foreign_tables, samples
from histotransfer.sheets.foreign_tables import ThirdPartyTable
from histotransfer.sheets.ids import bucket, part_ids
from histotransfer.sheets.reading import SheetCheck
from histotransfer.sheets.samples import SlideRow
from histotransfer.study import checks, group_counts, paths
from histotransfer.study.catalogue import Catalogue


@dataclass(frozen=True)
class Dataset:
    """One dataset of the study. Paths are relative to the working directory.

    Attributes
    ----------
    name : str
    kind : {'slides', 'patches', 'points'}
    sheet, root : str
        `sheet` is what jobs read: a target if it is made of a third-party table.
    table : ThirdPartyTable or None
        The table that the sheet is made of; None if the sheet is the user's own.
    drawn : bool
        Whether a rule makes the files.
    tiling : Tiling or None
        Of slides.
    canvas : Canvas or None
        Of slides.
    crop : Crop or None
        Of points.
    grayscale : bool
        Of patches and points (slides: see `tiling`).
    mpp : float or None
        Of patches and points: micrometres per pixel, if known.
    tasks : dict of str to Task
    parts : list of str
        What the per-slide files are made for: slides by safe id, or parts of the table.
    rows : dict of str to SlideRow
        By safe id; empty for patches and points.
    shards : dict of str to list of str
        Parts of each shard: ``shard-0`` and so on; empty shards are left out.
    sheet_check : SheetCheck
        What the sheet must hold.
    """

    name: str
    kind: str
    sheet: str
    root: str
    table: ThirdPartyTable | None
    drawn: bool
    tiling: Tiling | None
    canvas: Canvas | None
    crop: Crop | None
    grayscale: bool
    mpp: float | None
    tasks: dict[str, Task]
    parts: list[str]
    rows: dict[str, SlideRow]
    shards: dict[str, list[str]]
    sheet_check: SheetCheck


def read(
    name: str,
    catalogue: Catalogue,
    splits: Mapping[str, Split],
    problems: dict[str, Problems],
    folder: str | os.PathLike[str],
) -> Dataset | None:
    """Read what is known of a dataset before any job runs.

    Parameters
    ----------
    name : str
    catalogue : Catalogue
    splits : mapping
        The study's splits without problems, by name.
    problems : dict
        Problems by file; those of the sheet are added under its path.
    folder : path
        The working directory.

    Returns
    -------
    Dataset or None
        None if the config has problems that leave no dataset.

    Notes
    -----
    Sheets of slides are read whole. Of sheets of patches and points, which may have a million rows, the header is
    read, and a job checks the rest (:func:`histotransfer.sheets.samples.check_table`).
    """
    spec = catalogue.sound("datasets", name)
    if spec is None:
        return None
    entries = {task: catalogue.sound("tasks", task) for task in spec["tasks"]}
    tasks = {task: resolved_task(entry) for task, entry in entries.items() if entry is not None}
    # a task with problems would make every label unknown
    labels = _labels(tasks.values()) if tasks and len(tasks) == len(entries) else None
    check = SheetCheck(labels, _needed_columns(splits.values()), _given_units(splits.values()))
    kind, sheet = spec["kind"], spec["sheet"]
    root = os.path.normpath(os.path.dirname(sheet) if spec["root"] is None else spec["root"])
    table = _third_party_table(spec)
    rows: list[SlideRow] = []
    if table is not None:
        wrong = foreign_tables.check_header(table, check, folder=folder)
    elif kind == "slides":
        rows, wrong = samples.read_slide_sheet(sheet, root=root, check=check, drawn=spec["drawn"], folder=folder)
        if not wrong:
            group_counts.check(rows, tasks, splits, wrong)
    else:
        wrong = samples.check_header(sheet, kind=kind, check=check, folder=folder)
    problems[sheet if sheet not in problems else f"{sheet} (dataset {name})"] = wrong
    n_shards = catalogue.setting("n_shards")
    if not isinstance(n_shards, int) or n_shards < 1:
        return None
    parts = [row.id for row in rows] if kind == "slides" else part_ids(n_shards)
    return Dataset(
        name=name,
        kind=kind,
        sheet=sheet if table is None else paths.SHEET.format(dataset=name),
        root=root,
        table=table,
        drawn=spec.get("drawn", False),
        tiling=_tiling(catalogue.sound("tilings", spec.get("tiling", ""))),
        canvas=plain_data.made(Canvas | None, spec.get("canvas")),
        crop=plain_data.made(Crop | None, spec.get("crop")),
        grayscale=spec.get("grayscale", False),
        mpp=spec.get("mpp"),
        tasks=tasks,
        parts=parts,
        rows={row.id: row for row in rows},
        shards=_shards(parts, n_shards, by_hash=kind == "slides"),
        sheet_check=check,
    )


def resolved_task(entry: Mapping[str, Any]) -> Task:
    """Return an entry of ``tasks`` as the study has it."""
    members = checks.class_members(entry)
    task = {
        "classes": list(members),
        "labels": {label: name for name, labels in members.items() for label in labels},
        "leave_out": entry["leave_out"],
        "regions": entry["regions"],
    }
    return plain_data.made(Task, task)


def _tiling(entry: Mapping[str, Any] | None) -> Tiling | None:
    return None if entry is None else plain_data.made(Tiling, {**entry, "tissue_min": entry["tissue_min"] or 0.0})


def _third_party_table(spec: Mapping[str, Any]) -> ThirdPartyTable | None:
    """Return the table that the sheet of a dataset is made of; None if no key of such a table is set."""
    keys = [field.name for field in fields(ThirdPartyTable) if field.name != "source"]
    given = {key: spec[key] for key in keys if key in spec}
    if "columns" in given:
        given["columns"] = {name: column for name, column in given["columns"].items() if column is not None}
    table = ThirdPartyTable(spec["sheet"], **given)
    return None if table == ThirdPartyTable(spec["sheet"]) else table


def _labels(tasks: Collection[Task]) -> tuple[str, ...]:
    """Return the labels that a sheet may hold: those of any task, in the order of the tasks."""
    return tuple(dict.fromkeys(label for task in tasks for label in (*task.labels, *task.leave_out)))


def _needed_columns(splits: Collection[Split]) -> tuple[str, ...]:
    """Return the columns that the splits need, besides those that every sheet of its kind has."""
    units = {split.groups if split.unit == GIVEN else split.unit for split in splits}
    given = any(split.unit == GIVEN for split in splits)
    return (*(["patient"] if "patient" in units else []), *(["split"] if given else []))


def _given_units(splits: Collection[Split]) -> tuple[str, ...]:
    """Return the units whose groups must each be in one given set: the split's `groups` and all coarser ones."""
    units: set[str] = set()
    for split in splits:
        if split.unit == GIVEN and split.groups is not None and not split.share_groups:
            units.update(UNITS[UNITS.index(split.groups) :])
    return tuple(unit for unit in UNITS if unit in units)


def _shards(parts: Sequence[str], n_shards: int, *, by_hash: bool) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for place, part in enumerate(parts):
        # the parts of a table are equal shares already
        number = bucket(part, n_shards) if by_hash else place
        members.setdefault(f"shard-{number}", []).append(part)
    return dict(sorted(members.items(), key=lambda item: int(item[0].removeprefix("shard-"))))
