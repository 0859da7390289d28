"""Recipes: how a network is trained, as the config declares it and as the study has it.

A trained network is a start (an entry of ``networks``, with trained or random weights) and a recipe. Each group of
layers can have its own learning rate: a cut point of the architecture names the layers from the cut point before it up
to itself, and ``head`` is what is put on top.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from histotransfer import plain_data
from histotransfer.definitions import GIVEN, Recipe
from histotransfer.networks import table
from histotransfer.networks.groups import HEAD, groups_of_start, head_layers, trained_groups
from histotransfer.problems import closest, listing

if TYPE_CHECKING:
    from histotransfer.study.catalogue import Catalogue


def resolved(name: str, spec: Mapping[str, Any]) -> Recipe:
    """Return an entry of ``recipes`` without problems as the study has it; `name` is the entry's name."""
    phases = [
        {"on": phase["input"], **{key: value for key, value in phase.items() if key != "input"}}
        for phase in spec["phases"]
    ]
    return plain_data.made(Recipe, {**spec, "name": name, "phases": phases})


def check(name: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Add what is wrong with a recipe, whatever the network, to the catalogue's problems."""
    where, add = f"recipes.{name}", catalogue.problems.add
    kind, deviation = spec["initialisation"]["kind"], spec["initialisation"]["deviation"]
    if (kind == "gaussian") != (deviation is not None):
        add(
            f"{where}.initialisation.deviation",
            "must be given for the kind gaussian, and for no other kind",
            repr(deviation),
        )
    for key, value in (spec["augmentation"] or {}).items():
        if isinstance(value, list) and value[0] > value[1]:
            add(f"{where}.augmentation.{key}", "the smaller factor must come first", repr(value))
    for place, phase in enumerate(spec["phases"]):
        _check_phase(f"{where}.phases[{place}]", place, phase, spec, catalogue)


def _check_phase(
    where: str, place: int, phase: Mapping[str, Any], spec: Mapping[str, Any], catalogue: Catalogue
) -> None:
    add = catalogue.problems.add
    if phase["rates"].get(HEAD) == 0 and phase["train"] == HEAD:
        add(f"{where}.rates.{HEAD}", "a phase must train something, and this one trains only the head", "0")
    if phase["input"] == "features":
        if place:
            add(f"{where}.input", "only the first phase can use features", "'features'")
        if phase["train"] != HEAD:
            add(f"{where}.train", "must be head: on features, only the head can be trained", repr(phase["train"]))
        if spec["head"]["pool"] == "flatten":
            legal = "cached features are averages: set pool to average, or train on tiles"
            add(f"{where}.input", legal, "'features' with pool flatten")
        if len(spec["phases"]) == 1 and (spec["augmentation"] or spec["crop_from"]):
            legal = "augmentation and crop_from need a phase on tiles: leave them out"
            add(where, legal, "features alone")


def check_trained(name: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Add what is wrong with a trained network: unknown names, groups and layers that do not exist."""
    add, where = catalogue.problems.add, f"networks.{name}"
    if name == spec["start"] or spec["start"] not in catalogue.names("networks"):
        names = [other for other in catalogue.names("networks") if other != name]
        legal = f"must be one of `networks`: {listing(names)}{closest(spec['start'], names)}"
        add(f"{where}.start", legal, repr(spec["start"]))
        return
    start = catalogue.sound("networks", spec["start"])
    known = catalogue.refer(f"{where}.recipe", "recipes", spec["recipe"])
    recipe = catalogue.sound("recipes", spec["recipe"]) if known else None
    if start is None:
        return
    if start["recipe"] is not None:
        add(f"{where}.start", "a start must not be a trained network itself", repr(spec["start"]))
        return
    if start["architecture"] not in table.ARCHITECTURES or recipe is None:
        return
    groups = [*groups_of_start(start), HEAD]
    title = f"{start['architecture']} up to {groups[-2]}"
    for place, phase in enumerate(recipe["phases"]):
        at = f"{where}.recipe {spec['recipe']}.phases[{place}]"
        _check_trained_part(f"{at}.train", phase["train"], groups, title, catalogue)
        for group in phase["rates"]:
            if group not in groups:
                legal = f"groups of {title} are {listing(groups, 60)}{closest(group, groups)}"
                add(f"{at}.rates", legal, repr(group))
        trained = trained_groups(phase["train"], groups)
        if trained and all(phase["rates"].get(group, 1) == 0 for group in trained):
            add(f"{at}.rates", f"a phase must train something: one of {listing(trained, 60)}", "0 for all of them")
    px = start["px"] or table.ARCHITECTURES[start["architecture"]].px
    if recipe["crop_from"] is not None and recipe["crop_from"] <= px:
        legal = f"must be above the edge of the input, {px} px, so that tiles can be cropped"
        add(f"{where}.recipe {spec['recipe']}.crop_from", legal, repr(recipe["crop_from"]))
    legal = [*groups[:-1], *head_layers(recipe["head"]["dense"])]
    listed = [] if spec["layers"] == "all" else spec["layers"]
    asked = [("layer", spec["layer"]), *(("layers", layer) for layer in listed)]
    for key, layer in asked:
        if layer is not None and layer not in legal:
            add(f"{where}.{key}", f"legal are {listing(legal, 60)}{closest(layer, legal)}", repr(layer))


def legal_layers(network: Mapping[str, Any], catalogue: Catalogue) -> list[str]:
    """Return what can be features of a trained network: cut points of its start, dense layers of its head.

    Parameters
    ----------
    network : mapping
        As :meth:`histotransfer.study.catalogue.Catalogue.network` returns it.
    catalogue : Catalogue
    """
    start = catalogue.sound("networks", network["start"])
    return [*groups_of_start(start), *head_layers(catalogue.sound("recipes", network["recipe"])["head"]["dense"])]


def _check_trained_part(where: str, asked: Any, groups: list[str], title: str, catalogue: Catalogue) -> None:
    if isinstance(asked, int):
        if asked > len(groups) - 1:
            catalogue.problems.add(where, f"must be at most {len(groups) - 1}, the blocks of {title}", repr(asked))
    elif asked not in ("all", *groups):
        legal = f"must be head, all, a number of blocks, or a cut point of {title}: {listing(groups[:-1], 60)}"
        catalogue.problems.add(where, legal + closest(asked, groups), repr(asked))


def check_splits(where: str, recipe_name: str, catalogue: Catalogue) -> None:
    """Add a problem where a recipe stops early and a split of the study has no validation set."""
    recipe = catalogue.sound("recipes", recipe_name)
    if recipe is None or recipe["early_stopping"] is None:
        return
    for name in catalogue.chosen("splits"):
        split = catalogue.sound("splits", name)
        if split is not None and split["unit"] != GIVEN and not split["validation"]:
            legal = (
                f"recipe {recipe_name} has early_stopping, which needs validation tiles: give `validation`, the share "
                "of the groups that are held out for it, above 0"
            )
            catalogue.problems.add(f"splits.{name}.validation", legal, f"0 ({where})")
