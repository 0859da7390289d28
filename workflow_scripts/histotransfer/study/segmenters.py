"""Segmentation networks as the config declares them: classifiers that see the map of a whole slide at once.

One of the kind ``unet`` learns on maps of features, or on the slide itself at low resolution; one of the kind
``end_to_end`` begins with such a network and the trained network behind its features, and trains both together.

This module is used while the jobs are planned, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from histotransfer.problems import closest, listing
from histotransfer.study import recipes

if TYPE_CHECKING:
    from histotransfer.study.catalogue import Catalogue

#: Kinds of classifiers.
UNET, END_TO_END = "unet", "end_to_end"
KINDS = (UNET, END_TO_END)
#: Groups of layers with a rate of their own, by kind.
GROUPS = {UNET: ("unet",), END_TO_END: ("extractor", "unet")}
#: What varies a map: all else is for tiles.
OF_MAPS = ("flip", "quarter_turns")


def resolved(name: str, defined: Mapping[str, Mapping[str, Any]], recipe_of: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sound definition as the rules pass it on: JSON types alone, with its recipe.

    Parameters
    ----------
    name : str
        Of a classifier of one of :data:`KINDS`.
    defined, recipe_of : mapping
        ``classifiers`` and ``recipes`` of the config.

    Returns
    -------
    dict
        ``kind``, ``filters``, ``depth``, ``standardise``, ``recipe``; of end to end those of its start, and ``start``.
    """
    spec = defined[name]
    recipe = recipes.resolved(spec["recipe"], recipe_of[spec["recipe"]])
    if spec["kind"] == END_TO_END:
        return {**defined[spec["start"]], **spec, "recipe": recipe}
    return {**spec, "recipe": recipe}


def check(name: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Add what is wrong with a segmentation network, whatever it learns from, to the catalogue's problems."""
    where, kind, add = f"classifiers.{name}", spec["kind"], catalogue.problems.add
    if kind == END_TO_END:
        starts = [one for one, other in catalogue.each("classifiers") if other["kind"] == UNET]
        if spec["start"] not in starts:
            legal = f"must be a classifier of the kind unet: {listing(starts)}{closest(spec['start'], starts)}"
            add(f"{where}.start", legal, repr(spec["start"]))
    if not catalogue.refer(f"{where}.recipe", "recipes", spec["recipe"]):
        return
    recipe = catalogue.sound("recipes", spec["recipe"])
    if recipe is None:
        return
    at = f"{where}.recipe {spec['recipe']}"
    for place, phase in enumerate(recipe["phases"]):
        if phase["train"] != "all" or phase["input"] != "tiles":
            legal = "a segmentation network is trained whole: train must be all, and input left out"
            add(f"{at}.phases[{place}]", legal, f"train {phase['train']!r}, input {phase['input']!r}")
        for group in phase["rates"]:
            if group not in GROUPS[kind]:
                add(f"{at}.phases[{place}].rates", f"groups are {listing(GROUPS[kind])}", repr(group))
        if all(phase["rates"].get(group, 1) == 0 for group in GROUPS[kind]):
            add(f"{at}.phases[{place}].rates", "a phase must train something", "0 for every group")
    if recipe["precision"] != "float32":
        add(f"{at}.precision", "maps are trained in float32", repr(recipe["precision"]))
    if recipe["sampling"] != "all":
        legal = "a map is taken whole: sampling must be all (balance the network behind its features)"
        add(f"{at}.sampling", legal, repr(recipe["sampling"]))
    if kind == UNET:
        none = {"none", 0, None}
        for key, value in (recipe["augmentation"] or {}).items():
            if key not in OF_MAPS and not (isinstance(value, (str, int, float, type(None))) and value in none):
                add(f"{at}.augmentation.{key}", f"maps are varied by {listing(OF_MAPS)} alone", repr(value))
        if recipe["crop_from"] is not None:
            add(f"{at}.crop_from", "maps are not cropped: leave it out", repr(recipe["crop_from"]))


def check_fit(
    where: str, features: str, spec: Mapping[str, Any] | None, settings: Mapping[str, Any] | None, catalogue: Catalogue
) -> None:
    """Add a problem where a classifier cannot be put on a feature set, as far as maps of slides are concerned.

    Parameters
    ----------
    where, features : str
        The method's place in the config, and the name of its feature set.
    spec, settings : mapping or None
        The feature set and the classifier, None where they are too wrong to look into.
    catalogue : Catalogue
    """
    if spec is None or settings is None:
        return
    kind, add = settings["kind"], catalogue.problems.add
    if kind not in KINDS:
        if spec.get("cell_px") is not None:
            add(where, "a feature set with cell_px is a picture of the slide, for a classifier of the kind unet", kind)
        return
    for key in ("selection", "pixels"):
        if spec.get(key) is not None:
            add(where, f"{kind} learns on maps of whole features or of the slide: no `{key}`", f"{features} has it")
    if spec.get("use") == "chosen":
        add(where, f"{kind} takes one layer, or several with use: merged", f"{features} is a choice among layers")
    for name in catalogue.chosen("datasets"):
        dataset = catalogue.sound("datasets", name)
        if dataset is not None and dataset["kind"] != "slides":
            add(where, f"{kind} takes slides, whose tiles lie on a grid", f"dataset {name} of {dataset['kind']}")
    if kind == END_TO_END:
        _check_extractor(where, features, spec, settings, catalogue)


def _check_extractor(
    where: str, features: str, spec: Mapping[str, Any], settings: Mapping[str, Any], catalogue: Catalogue
) -> None:
    add = catalogue.problems.add
    network = catalogue.network(spec.get("network") or "") or {}
    recipe = catalogue.sound("recipes", network.get("recipe") or "")
    if recipe is None or spec.get("layers") is not None or all(one["input"] == "features" for one in recipe["phases"]):
        legal = (
            "end_to_end goes on with the training of one network: a feature set {network: one trained on tiles, layer}"
        )
        add(where, legal, f"{features}")
        return
    own = catalogue.sound("recipes", settings["recipe"])
    if own is not None and own["crop_from"] != recipe["crop_from"]:
        legal = f"takes the tiles of {spec['network']}: must be {recipe['crop_from']}, as in its recipe"
        add(f"recipes.{settings['recipe']}.crop_from", legal, repr(own["crop_from"]))


def check_regions(where: str, task: Mapping[str, Any], classes: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Add what is wrong with a task's ``regions`` to the catalogue's problems.

    Parameters
    ----------
    where : str
        The task's place in the config.
    task : mapping
    classes : mapping
        Its classes by name.
    catalogue : Catalogue
    """
    regions, add = task["regions"], catalogue.problems.add
    owner: dict[str, str] = {}
    listed = {**regions["names"], "cut_out": regions["cut_out"], "ignore": regions["ignore"]}
    for name, members in listed.items():
        for member in members:
            if owner.setdefault(member, name) != name:
                legal = f"a name of regions stands once, and {member!r} stands under {owner[member]}"
                add(f"{where}.regions.{'' if name in ('cut_out', 'ignore') else 'names.'}{name}", legal, repr(member))
    for key, names in (("names", regions["names"]), ("rules", [rule["class"] for rule in regions["rules"]])):
        for name in names:
            if name not in classes:
                legal = f"must be a class of the task: {listing(classes)}{closest(name, classes)}"
                add(f"{where}.regions.{key}", legal, repr(name))
    ruled = [rule["class"] for rule in regions["rules"]]
    for name in classes:
        if ruled.count(name) != 1:
            add(
                f"{where}.regions.rules",
                f"each class has one rule, and {name!r} has {ruled.count(name)}",
                listing(ruled),
            )
    for key, others in (("outside", ("nolabel",)), ("without", ("nolabel", "label"))):
        legal = [*classes, *others]
        if regions[key] not in legal:
            add(f"{where}.regions.{key}", f"must be {listing(legal)}{closest(regions[key], legal)}", repr(regions[key]))
