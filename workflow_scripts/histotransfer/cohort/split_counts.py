"""What a split holds: groups, slides and labelled tiles of each class in each set and fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from histotransfer import store
from histotransfer.cohort import splits
from histotransfer.definitions import SETS

COLUMNS = ("set", "fold", "class", "unit", "groups", "groups_of_set", "slides", "tiles")


def count(*, split_file: str | Path, label_files: Sequence[str | Path], counts: str | Path, classes: list[str]) -> None:
    """Count a split class by class.

    Parameters
    ----------
    split_file : path
        ``splits/{split}/{seed}.tsv``: group, unit, stratum, set, fold.
    label_files : sequence of path
        ``labels/{task}/{slide}.tsv`` of every slide: tile, image, slide, patient, label.
    counts : path
        Table to write, one row a set, fold and class: ``groups`` with tiles of that class, ``groups_of_set`` with
        tiles of any class, ``slides`` and ``tiles`` of that class. Tiles without a label count nowhere.
    classes : list of str
        The task's classes in their declared order.

    Raises
    ------
    ValueError
        If the split file has no rows, or a label is none of `classes`.
    """
    rows = store.read_table(split_file)
    if not rows:
        raise ValueError(f"{split_file} has no rows: nothing was split")
    unit = rows[0]["unit"]
    places = {row["group"]: (row["set"], row["fold"]) for row in rows}
    parts = sorted(set(places.values()), key=lambda part: (_rank(part[0]), _fold(part[1])))
    groups: dict[tuple[str, str, str], set[str]] = {(*part, name): set() for part in parts for name in classes}
    slides: dict[tuple[str, str, str], set[str]] = {key: set() for key in groups}
    tiles = dict.fromkeys(groups, 0)
    for path in label_files:
        for row in store.read_table(path):
            group = group_of(row, unit)
            if not row["label"] or group not in places:
                continue
            if row["label"] not in classes:
                raise ValueError(f"{path}: label {row['label']!r} is no class of the task; legal are {classes}")
            key = (*places[group], row["label"])
            groups[key].add(group)
            slides[key].add(row["slide"])
            tiles[key] += 1
    counted = []
    for part in parts:
        together = set().union(*(groups[*part, name] for name in classes))
        for name in classes:
            key = (*part, name)
            values = (*part, name, unit, len(groups[key]), len(together), len(slides[key]), tiles[key])
            counted.append(dict(zip(COLUMNS, values, strict=True)))
    store.write_table(counts, COLUMNS, counted)


def group_of(row: dict[str, str], unit: str) -> str:
    """Return the group of a row of a label file, as the split file names it."""
    return splits.tile_group(row["image"], row["tile"]) if unit == "tile" else row[unit]


def _rank(name: str) -> tuple[int, str]:
    return (SETS.index(name) if name in SETS else len(SETS), name)


def _fold(fold: str) -> tuple[int, str]:
    return (int(fold) if fold.isdigit() else -1, fold)
