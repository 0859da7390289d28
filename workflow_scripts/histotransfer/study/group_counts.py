"""Whether a sheet of slides has enough groups for the study's splits, and whether a split divides patients.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from histotransfer.definitions import GIVEN, UNITS, Split, Task
from histotransfer.problems import Problems, counted, listing
from histotransfer.sheets.samples import SlideRow


def check(rows: Sequence[SlideRow], tasks: Mapping[str, Task], splits: Mapping[str, Split], problems: Problems) -> None:
    """Add a problem for each class that has too few groups for a split, as far as the sheet shows it.

    Parameters
    ----------
    rows : sequence of SlideRow
    tasks, splits : mapping
        By name.
    problems : Problems
        Of the sheet.
    """
    for name, split in splits.items():
        unit = split.groups if split.unit == GIVEN else split.unit
        if split.unit in ("slide", "image") and not split.share_groups:
            _check_undivided(name, unit, rows, problems)
        # tiles are not cut yet, regions are not read yet, and given sets may share their groups for a reason
        if unit in (None, "tile") or any(row.annotation for row in rows):
            continue
        if split.unit == GIVEN and split.share_groups:
            continue
        for task_name, task in tasks.items():
            for what, members in _strata(task_name, task, split, rows).items():
                _check_enough(f"split {name}, {what}", unit, split, members, problems)


def _strata(name: str, task: Task, split: Split, rows: Sequence[SlideRow]) -> dict[str, list[SlideRow]]:
    """Return the labelled rows of each class, or of all classes together if the split is not stratified."""
    classes: dict[str, list[SlideRow]] = {label: [] for label in task.classes}
    for row in rows:
        if row.label in task.labels:
            classes[task.labels[row.label]].append(row)
    if split.stratify == "none":
        return {f"task {name}": [row for members in classes.values() for row in members]}
    return {f"class {label!r} of task {name}": members for label, members in classes.items()}


def _check_enough(where: str, unit: str, split: Split, rows: Sequence[SlideRow], problems: Problems) -> None:
    folds = split.folds
    if split.unit == GIVEN:
        held_out = {_group(row, unit) for row in rows if row.split == "test"}
        trained = {_group(row, unit) for row in rows if row.split != "test"}
        if len(trained) < folds or not held_out:
            legal = f"needs {counted(folds, unit)} in train and validation (one per fold) and 1 in test"
            problems.add(where, legal, f"{len(trained)} and {len(held_out)}")
        return
    groups = {_group(row, unit) for row in rows}
    parts = f"{folds} for training (one per fold), 1 for testing" + (", 1 for validation" if split.validation else "")
    needed = folds + 1 + bool(split.validation)
    if len(groups) < needed:
        problems.add(where, f"needs {counted(needed, unit)}: {parts}", str(len(groups)))


def _check_undivided(name: str, unit: str, rows: Sequence[SlideRow], problems: Problems) -> None:
    """Check that a unit finer than the patient divides no patient or slide of the sheet."""
    for coarser in UNITS[UNITS.index(unit) + 1 :]:
        groups: dict[str, set[str]] = {}
        for row in rows:
            if _group(row, coarser):
                groups.setdefault(_group(row, coarser), set()).add(_group(row, unit))
        several = sorted(group for group, members in groups.items() if len(members) > 1)
        if several:
            legal = (
                f"the unit {unit} can put {unit}s of one {coarser} into training and test: split by {coarser}, or give "
                "the reason in `share_groups`"
            )
            divided = f"{counted(len(several), coarser)} with several {unit}s: {listing(several, 5)}"
            problems.add(f"split {name}", legal, divided)
            return


def _group(row: SlideRow, unit: str) -> str:
    return {"image": row.image_in_sheet, "slide": row.slide, "patient": row.patient}[unit]
