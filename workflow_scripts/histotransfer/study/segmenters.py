"""Segmentation networks as the config declares them: classifiers that see the map of a whole slide at once.

The kind ``unet`` learns on maps of features, or on the slide itself at low resolution. The kind ``end_to_end`` begins
with such a network and with the trained network that gives its features, and trains both together.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from histotransfer import plain_data
from histotransfer.definitions import EndToEnd, Unet
from histotransfer.problems import closest, listing
from histotransfer.study import recipes

if TYPE_CHECKING:
    from histotransfer.study.catalogue import Catalogue

#: Kinds of classifiers.
UNET, END_TO_END = "unet", "end_to_end"
KINDS = (UNET, END_TO_END)
#: Groups of layers that can have their own learning rate, by kind.
GROUPS = {UNET: ("unet",), END_TO_END: ("extractor", "unet")}
#: Augmentation of maps; all other kinds are for tiles.
OF_MAPS = ("flip", "quarter_turns")


def resolved(
    name: str, defined: Mapping[str, Mapping[str, Any]], recipe_of: Mapping[str, Mapping[str, Any]]
) -> Unet | EndToEnd:
    """Return a segmentation network without problems as the study has it.

    Parameters
    ----------
    name : str
        Of a classifier of one of :data:`KINDS`.
    defined, recipe_of : mapping
        ``classifiers`` and ``recipes`` of the config.

    Returns
    -------
    Unet or EndToEnd
        An end-to-end network has the shape of the U-Net that it begins with.
    """
    spec = defined[name]
    recipe = recipes.resolved(spec["recipe"], recipe_of[spec["recipe"]])
    shape = defined[spec["start"]] if spec["kind"] == END_TO_END else {}
    return plain_data.made(Unet | EndToEnd, {**shape, **spec, "recipe": recipe})


def check(name: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Add what is wrong with a segmentation network, whatever it learns from, to the problems of the catalogue."""
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
            legal = "a segmentation network is trained as a whole: train must be all, and input must be left out"
            add(f"{at}.phases[{place}]", legal, f"train {phase['train']!r}, input {phase['input']!r}")
        for group in phase["rates"]:
            if group not in GROUPS[kind]:
                add(f"{at}.phases[{place}].rates", f"groups are {listing(GROUPS[kind])}", repr(group))
        if all(phase["rates"].get(group, 1) == 0 for group in GROUPS[kind]):
            add(f"{at}.phases[{place}].rates", "a phase must train something", "0 for every group")
    if recipe["precision"] != "float32":
        add(f"{at}.precision", "must be float32 for a segmentation network", repr(recipe["precision"]))
    if recipe["sampling"] != "all":
        legal = "must be all, since whole maps are used (balance the training of the network that gives the features)"
        add(f"{at}.sampling", legal, repr(recipe["sampling"]))
    if kind == UNET:
        none = {"none", 0, None}
        for key, value in (recipe["augmentation"] or {}).items():
            if key not in OF_MAPS and not (isinstance(value, (str, int, float, type(None))) and value in none):
                add(f"{at}.augmentation.{key}", f"maps can only be varied by {listing(OF_MAPS)}", repr(value))
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
        The feature set and the classifier; None if they have problems.
    catalogue : Catalogue
    """
    if spec is None or settings is None:
        return
    kind, add = settings["kind"], catalogue.problems.add
    if kind not in KINDS:
        if spec.get("cell_px") is not None:
            add(where, "a feature set with cell_px needs a classifier of the kind unet", kind)
        return
    for key in ("selection", "pixels"):
        if spec.get(key) is not None:
            add(
                where,
                f"{kind} uses maps of all features or of the slide: the feature set must not have `{key}`",
                f"{features} has it",
            )
    if spec.get("use") == "chosen":
        add(where, f"{kind} needs one layer, or several with use: merged", f"{features} is a choice among layers")
    for name in catalogue.chosen("datasets"):
        dataset = catalogue.sound("datasets", name)
        if dataset is not None and dataset["kind"] != "slides":
            add(where, f"{kind} needs slides, whose tiles lie on a grid", f"dataset {name} of {dataset['kind']}")
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
            "end_to_end continues the training of a network: the feature set must be one layer of a network trained on "
            "tiles (`network`, `layer`)"
        )
        add(where, legal, f"{features}")
        return
    own = catalogue.sound("recipes", settings["recipe"])
    if own is not None and own["crop_from"] != recipe["crop_from"]:
        legal = f"must be {recipe['crop_from']}, as in the recipe of {spec['network']}, whose tiles are used"
        add(f"recipes.{settings['recipe']}.crop_from", legal, repr(own["crop_from"]))


def check_regions(where: str, task: Mapping[str, Any], classes: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Add what is wrong with a task's ``regions`` to the problems of the catalogue.

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
                legal = f"a name of regions must not be repeated, and {member!r} is also under {owner[member]}"
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
                f"each class must have one rule, and {name!r} has {ruled.count(name)}",
                listing(ruled),
            )
    for key, others in (("outside", ("nolabel",)), ("without", ("nolabel", "label"))):
        legal = [*classes, *others]
        if regions[key] not in legal:
            add(f"{where}.regions.{key}", f"must be {listing(legal)}{closest(regions[key], legal)}", repr(regions[key]))
