"""Which groups train, which validate, which are held out: written once, read with a guard against leaks.

A group is what is held out together: a patient, slide, image or tile (the split's `unit`). Its place comes from a
hash of the seed and its name, ranked among the groups of its class, so that an added slide moves few others.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from histotransfer import seeds, store
from histotransfer.definitions import GIVEN, SETS, UNITS, Split

COLUMNS = ("group", "unit", "stratum", "set", "fold")

#: Stratum of the groups whose label is too rare to be ranked on its own, though each class has groups enough.
POOLED = "(pooled)"

#: How many groups an error lists.
NAMED = 5


class Place(NamedTuple):
    """Where a group stands: its set, and its fold if it is no test group (else None)."""

    set: str
    fold: int | None


@dataclass(frozen=True)
class Places:
    """Where the tiles of a table stand.

    Attributes
    ----------
    unit : str
        What a group is: ``tile``, ``image``, ``slide`` or ``patient``.
    group : list of str
        Each tile's group.
    set : ndarray of str, shape (n,)
        ``train``, ``validation`` or ``test``.
    fold : ndarray of int16, shape (n,)
        Fold of the cross-validation inside train and validation; -1 in the test set.
    """

    unit: str
    group: list[str]
    set: np.ndarray
    fold: np.ndarray


def assign_groups(
    *,
    slides_table: str,
    tile_files: Sequence[str],
    split_file: str,
    split: Split,
    split_seed: int,
    master_seed: int,
    tasks: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Write each group's set and fold.

    Within a stratum the groups are ranked by a hash: the first ``test`` of them are held out, the next ``validation``
    validate, the others train. Folds are contiguous blocks of a second hash's ranking of the groups that are not
    held out. Every class gets at least one test group, one validation group if there is a validation set, and one
    group a fold.

    Parameters
    ----------
    slides_table : path
        The cohort's table. Images that are not ``ok`` or have no tile belong to no group.
    tile_files : sequence of path
        For the unit ``tile``: grids or cut tiles of the images. Else unused.
    split_file : path
        Written: ``group``, ``unit``, ``stratum``, ``set``, ``fold``, sorted by group.
    split : Split
        Without its caps on training tiles, which do not matter here.
    split_seed, master_seed : int
        Of this draw, and of the study.
    tasks : mapping, optional
        By task: the class of each raw label that it counts; labels that no task counts are then no labels. None: every
        label is a class.

    Raises
    ------
    ValueError
        If an image lacks the unit, if a class has too few groups, or if given sets share a group.

    Notes
    -----
    The stratum of a group is its most frequent raw label, ties by code point. A stratum with too few groups whose
    label stands in groups enough (images with nuclei of several classes) is pooled with the others like it.
    """
    unit = split.unit
    if unit not in (*UNITS, GIVEN):
        raise ValueError(f"split unit must be one of {', '.join((*UNITS, GIVEN))}; found {unit!r}")
    counted = None if tasks is None else {label for classes in tasks.values() for label in classes}
    images = _usable_images(slides_table, counted)
    tiles_of_label: Counter[str] | None = None
    if unit == GIVEN:
        unit = split.groups
        _check_given(images, unit, split.share_groups)
        labels = _labels_of_groups(images, unit)
        sets = {image.group(unit): image.set for image in images}
    elif unit == "tile":
        groups, owners = _tiles_of(images, tile_files)
        # a tile's own label is joined later: its image's most frequent one stands for it
        majority = {image.name: Counter(filter(None, [_majority(image.labels)])) for image in images}
        labels = {group: majority[image] for group, image in zip(groups, owners, strict=True)}
        tiles_of_label = sum((image.labels for image in images), Counter())
        sets = {}
    else:
        _require_unit(images, unit)
        labels = _labels_of_groups(images, unit)
        sets = {}
    strata, guaranteed = _strata(labels, split, unit, sets, tasks, tiles_of_label)
    place_of: dict[str, Place] = {}
    for name, members in strata.items():
        drawn = sets or _draw_sets(members, split, split_seed, master_seed, guaranteed=name in guaranteed)
        place_of.update(_with_folds(members, drawn, split.folds, split_seed, master_seed))
    stratum_of = {group: name for name, members in strata.items() for group in members}
    rows = (
        {"group": group, "unit": unit, "stratum": stratum_of[group], "set": place.set, "fold": place.fold}
        for group, place in sorted(place_of.items())
    )
    store.write_table(split_file, COLUMNS, rows)


def read(split_file: str, rows: Sequence[Mapping[str, str]], unit: str, share_groups: str) -> Places:
    """Join tiles to their sets and folds, and refuse what is known to stand on both sides.

    Parameters
    ----------
    split_file : path
        What :func:`assign_groups` wrote.
    rows : sequence of mapping
        One per tile, with ``tile``, ``image``, ``slide`` and ``patient`` (empty where unknown).
    unit : str
        The split's unit as the study has it, or ``given``.
    share_groups : str
        Why groups may be shared between sets and folds; where it is empty, they may not.

    Raises
    ------
    ValueError
        If a tile's group is not in the split, or if images, slides or patients coarser than the unit stand in
        two sets, or in two folds, and no reason is given.
    """
    place_of: dict[str, Place] = {}
    found_unit = unit
    for row in store.read_table(split_file):
        place_of[row["group"]] = Place(row["set"], int(row["fold"]) if row["fold"] else None)
        found_unit = row["unit"]
    if unit not in (GIVEN, found_unit):
        raise ValueError(f"{split_file}: must be made for the study's unit {unit!r}; found {found_unit!r}")
    groups = [_group_of(row, found_unit) for row in rows]
    absent = sorted(set(groups) - place_of.keys())
    if absent:
        raise ValueError(
            f"{split_file}: every {found_unit} with tiles must stand in it; not found: {_listing(absent)}. "
            "Make the split again from the present slides"
        )
    if not share_groups:
        _refuse_shared(split_file, rows, [place_of[group] for group in groups], found_unit)
    places = [place_of[group] for group in groups]
    return Places(
        unit=found_unit,
        group=groups,
        set=np.array([place.set for place in places], dtype="<U10"),
        fold=np.array([-1 if place.fold is None else place.fold for place in places], dtype=np.int16),
    )


def tile_group(image: str, tile: str) -> str:
    """Return the group of a tile where each tile stands for itself: tile ids are unique within an image."""
    return f"{image}/{tile}"


@dataclass(frozen=True)
class _Image:
    """A usable image: what it is part of, its set in the sheet, and how many of its tiles bear each label."""

    name: str
    slide: str
    patient: str
    set: str
    labels: Counter[str]

    def group(self, unit: str) -> str:
        """Return the group that the image belongs to, of a unit that is no tile; empty where it is unknown."""
        return {"image": self.name, "slide": self.slide, "patient": self.patient}[unit]


def _usable_images(slides_table: str, counted: set[str] | None) -> list[_Image]:
    images: list[_Image] = []
    for row in store.read_table(slides_table):
        if row["status"] == "ok" and int(row["tiles"] or 0) > 0:
            labels = Counter(json.loads(row["labels"] or "{}"))
            if counted is not None:
                labels = Counter({label: count for label, count in labels.items() if label in counted})
            labels.pop("", None)
            images.append(_Image(row["image"], row["slide"] or row["image"], row["patient"], row["split"], labels))
    if not images:
        raise ValueError(f"{slides_table}: a split takes images with status 'ok' and tiles; found none")
    return sorted(images, key=lambda image: image.name)


def _majority(labels: Mapping[str, int]) -> str:
    return min(labels, key=lambda label: (-labels[label], label)) if labels else ""


def _labels_of_groups(images: Iterable[_Image], unit: str) -> dict[str, Counter[str]]:
    labels: dict[str, Counter[str]] = {}
    for image in images:
        labels.setdefault(image.group(unit), Counter()).update(image.labels)
    return labels


def _require_unit(images: Iterable[_Image], unit: str) -> None:
    without = [image.name for image in images if not image.group(unit)]
    if without:
        raise ValueError(
            f"the split's unit is {unit!r}, so every image needs a {unit} in the sample sheet (or choose another unit, "
            f"which every number then says); without one: {_listing(without)}"
        )


def _check_given(images: Sequence[_Image], unit: str | None, reason: str) -> None:
    """Raise if an image has no set, a group has two, or something coarser has two without a reason."""
    legal = ("image", "slide", "patient")
    if unit not in legal:
        raise ValueError(f"a given split needs `groups`, one of {', '.join(legal)}; found {unit!r}")
    _require_unit(images, unit)
    without = [image.name for image in images if image.set not in SETS]
    if without:
        raise ValueError(
            f"the split is given, so the column `split` must hold one of {', '.join(SETS)} for every image; "
            f"not so: {_listing(without)}"
        )
    for coarser in UNITS[UNITS.index(unit) :]:
        sets_of: dict[str, set[str]] = {}
        for image in images:
            if image.group(coarser):
                sets_of.setdefault(image.group(coarser), set()).add(image.set)
        shared = sorted(group for group, sets in sets_of.items() if len(sets) > 1)
        if shared and (coarser == unit or not reason):
            remedy = f"choose finer `groups` than {unit}" if coarser == unit else "give the reason in `share_groups`"
            raise ValueError(
                f"given sets must not share {coarser}s: {_listing(shared)}. Correct the column `split`, or {remedy}"
            )
    if not any(image.set == "test" for image in images):
        raise ValueError("a given split needs images with `test` in the column `split`; found none")


def _tiles_of(images: Iterable[_Image], tile_files: Iterable[str]) -> tuple[list[str], list[str]]:
    import h5py

    usable = {image.name for image in images}
    groups: list[str] = []
    owners: list[str] = []
    for path in tile_files:
        with h5py.File(path, "r") as file:
            if "tile" in file:
                tiles, of_image = store.read_texts(file, "tile"), store.read_texts(file, "image")
            elif "col" in file:
                kept = json.loads(file.attrs["status_names"]).index("kept")
                cells = np.stack([file["col"][:], file["row"][:]], axis=1)[file["status"][:] == kept]
                tiles = [f"{col}_{row}" for col, row in cells.tolist()]
                of_image = [str(file.attrs["slide"])] * len(tiles)
            else:
                tiles, of_image = [], []
        for tile, image in zip(tiles, of_image, strict=True):
            if image in usable:
                groups.append(tile_group(image, tile))
                owners.append(image)
    if not groups:
        raise ValueError("the split's unit is 'tile', and the tile files hold no tile of a usable image")
    return groups, owners


def _strata(
    labels: Mapping[str, Mapping[str, int]],
    split: Split,
    unit: str,
    sets: Mapping[str, str],
    tasks: Mapping[str, Mapping[str, str]] | None,
    tiles_of_label: Mapping[str, int] | None,
) -> tuple[dict[str, list[str]], set[str]]:
    """Return the groups of each stratum by name, and the strata of which every set and fold gets a group.

    Where tiles are the groups, `tiles_of_label` has how many bear each label: `labels` has their images' alone.
    """
    if split.stratify not in ("label", "none"):
        raise ValueError(f"`stratify` must be label or none; found {split.stratify!r}")
    needed, parts = _needed(split, given=bool(sets))
    if split.stratify == "none" or not any(labels.values()):
        n = sum(sets.get(group) != "test" for group in labels)
        if n < needed:
            raise ValueError(f"too few {unit}s with usable tiles: it takes {needed} ({parts}), and there are {n}")
        return {"": list(labels)}, {""}
    every = sorted(set().union(*labels.values(), tiles_of_label or ()))
    few: dict[str, int] = {}
    for class_of in [{label: label for label in every}] if tasks is None else tasks.values():
        holders: Counter[str] = Counter(dict.fromkeys(class_of.values(), 0))
        for label, n in (tiles_of_label or {}).items():
            if label in class_of:
                holders[class_of[label]] += n
        for group, counted in labels.items() if tiles_of_label is None else ():
            if sets.get(group) != "test":
                holders.update({class_of[label] for label in counted if label in class_of})
        few |= {f"class {name!r}": n for name, n in holders.items() if n < needed}
    _refuse_few(few, unit, needed, parts)
    strata: dict[str, list[str]] = {}
    for group, counted in labels.items():
        strata.setdefault(_majority(counted), []).append(group)
    guaranteed = {name for name, members in strata.items() if name and len(members) >= needed}
    for name in sorted(set(strata) - guaranteed - {""}):
        strata.setdefault(POOLED, []).extend(strata.pop(name))
    if not guaranteed:
        # no label dominates groups enough: all labelled groups together still fill every set
        guaranteed = {POOLED}
    return strata, guaranteed


def _needed(split: Split, *, given: bool) -> tuple[int, str]:
    """Return how many groups of a class a split takes, and for what, in words."""
    folds = split.folds
    if folds < 2:
        raise ValueError(f"`folds` must be 2 or more, since every method is tuned by cross-validation; found {folds}")
    if given:
        return folds, f"{folds} folds of what is not `test`"
    test, validation = split.test or 0, split.validation
    if not 0 < test < 1 or not 0 <= validation < 1 or test + validation >= 1:
        raise ValueError(
            f"`test` and `validation` are shares of the groups that leave some to train; found {test:g} and "
            f"{validation:g}"
        )
    parts = f"{folds} folds, 1 for test" + (", 1 for validation" if validation else "")
    return folds + 1 + bool(validation), parts


def _refuse_few(few: Mapping[str, int], unit: str, needed: int, parts: str) -> None:
    if few:
        lacking = "; ".join(f"{name} has {count}" for name, count in few.items())
        raise ValueError(
            f"too few {unit}s with usable tiles: it takes {needed} of each class ({parts}), and {lacking}. "
            f"Add {unit}s, ask for fewer folds, or leave the class out of the task"
        )


def _draw_sets(
    members: Sequence[str], split: Split, split_seed: int, master_seed: int, *, guaranteed: bool
) -> dict[str, str]:
    n = len(members)
    n_test, n_validation = _round(split.test * n), _round(split.validation * n)
    if guaranteed:
        # ASSUME a fold without a class is worse than a test share somewhat below the asked one: with few groups,
        # what is held out gives way until each fold has a group, and never below one. Validation groups are in
        # the folds too.
        least = 1 if split.validation else 0
        n_test = max(1, min(n_test, n - split.folds))
        n_validation = max(least, min(n_validation, n - n_test - 1))
    ranked = sorted(members, key=lambda group: (seeds.unit_hash(master_seed, "split", split_seed, group), group))
    names = ["test"] * n_test + ["validation"] * n_validation
    names += ["train"] * (n - len(names))
    return dict(zip(ranked, names[:n], strict=True))


def _with_folds(
    members: Iterable[str], drawn: Mapping[str, str], folds: int, split_seed: int, master_seed: int
) -> dict[str, Place]:
    places = {group: Place("test", None) for group in members if drawn[group] == "test"}
    tuned = [group for group in members if drawn[group] != "test"]
    tuned.sort(key=lambda group: (seeds.unit_hash(master_seed, "fold", split_seed, group), group))
    for rank, group in enumerate(tuned):
        places[group] = Place(drawn[group], rank * folds // len(tuned))
    return places


def _round(value: float) -> int:
    # halves go up: Python's own rounding would make 2.5 groups 2 and 3.5 groups 4
    return math.floor(value + 0.5)


def _group_of(row: Mapping[str, str], unit: str) -> str:
    return tile_group(row["image"], row["tile"]) if unit == "tile" else row[unit]


def _refuse_shared(split_file: str, rows: Sequence[Mapping[str, str]], places: Sequence[Place], unit: str) -> None:
    for coarser in reversed(UNITS[UNITS.index(unit) + 1 :]):
        for what, side in (("sets", 0), ("folds", 1)):
            sides_of: dict[str, set[str | int]] = {}
            for row, place in zip(rows, places, strict=True):
                if row.get(coarser) and place[side] is not None:
                    sides_of.setdefault(row[coarser], set()).add(place[side])
            shared = sorted(group for group, sides in sides_of.items() if len(sides) > 1)
            if shared:
                raise ValueError(
                    f"{split_file}: the split's unit is {unit!r}, and {len(shared)} of {len(sides_of)} {coarser}s "
                    f"stand in two {what}: {_listing(shared)}. Split by {coarser}, or say in `share_groups` why "
                    "they may be shared; the report then states it first"
                )


def _listing(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(repr(name) for name in names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
