"""Recipes: how a network is trained, as the config declares it and as the rules pass it on.

A trained network is a start (an entry of ``networks`` with weights, or random ones) and a recipe. Groups of layers
have learning rates of their own: each cut point of the architecture names the layers after the cut point before it up
to it, and ``head`` is what is put on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histotransfer import networks
from histotransfer.problems import closest, listing

if TYPE_CHECKING:
    from histotransfer.definitions import Catalogue

#: The group of what is put on the start's layer.
HEAD = "head"
#: The classifier of a trained network's own output.
SOFTMAX = "softmax"


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network with every default filled in.

    Attributes
    ----------
    name : str
    start_name : str
        Name of the network that training begins with.
    start : dict
        It, as :func:`networks.specification` takes it.
    recipe : dict
        What :func:`resolved` gives.
    layer : str or None
        The cut point, or dense layer of the head, whose outputs are its features; None: the start's own.
    layers : tuple of str
        Inner ones that are stored besides.
    """

    name: str
    start_name: str
    start: dict[str, Any]
    recipe: dict[str, Any]
    layer: str | None = None
    layers: tuple[str, ...] = ()

    @property
    def px(self) -> int:
        """Edge (pixels) of the stored tiles that it takes."""
        return self.recipe["crop_from"] or self.start["px"]

    @property
    def on_features(self) -> bool:
        """Whether its head is first trained on cached features of the start."""
        return self.recipe["phases"][0]["on"] == "features"

    @property
    def head_only(self) -> bool:
        """Whether nothing but the head is trained, on cached features alone."""
        return all(phase["on"] == "features" for phase in self.recipe["phases"])

    @property
    def start_features(self) -> dict[str, Any]:
        """The feature set that such a head learns from, as :func:`tile_table.read` takes it."""
        return {"sources": [{"network": self.start_name, "layer": None}]}

    @property
    def transfer(self) -> bool:
        """Whether training begins with weights that were trained before."""
        return self.start["weights"] != "random"

    @property
    def own_size(self) -> bool:
        """Whether patches are stored at their own shape, to be cropped to their largest square at random."""
        return bool((self.recipe["augmentation"] or {}).get("maximal_crop"))


def resolved(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sound recipe as the rules pass it on: JSON types alone."""
    phases = []
    for phase in spec["phases"]:
        own = {key: value for key, value in phase.items() if key != "input"}
        phases.append({**own, "on": phase["input"], "rates": dict(phase["rates"])})
    return {**spec, "name": name, "phases": phases}


def head_layers(recipe: Mapping[str, Any]) -> list[str]:
    """Return the names of the head's dense layers, which can be taken for features: ``head_1`` and on."""
    return [f"{HEAD}_{number}" for number in range(1, len(recipe["head"]["dense"]) + 1)]


def check(name: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Add what is wrong with a recipe, whatever the network, to the catalogue's problems."""
    where, add = f"recipes.{name}", catalogue.problems.add
    kind, deviation = spec["initialisation"]["kind"], spec["initialisation"]["deviation"]
    if (kind == "gaussian") != (deviation is not None):
        add(f"{where}.initialisation.deviation", "gaussian has a deviation, and no other kind", repr(deviation))
    for key, value in (spec["augmentation"] or {}).items():
        if isinstance(value, list) and value[0] > value[1]:
            add(f"{where}.augmentation.{key}", "the least factor stands first", repr(value))
    for place, phase in enumerate(spec["phases"]):
        _check_phase(f"{where}.phases[{place}]", place, phase, spec, catalogue)


def _check_phase(
    where: str, place: int, phase: Mapping[str, Any], spec: Mapping[str, Any], catalogue: Catalogue
) -> None:
    add = catalogue.problems.add
    if phase["rates"].get(HEAD) == 0 and phase["train"] == HEAD:
        add(f"{where}.rates.{HEAD}", "a phase must train something, and this one trains the head alone", "0")
    if phase["input"] == "features":
        if place:
            add(f"{where}.input", "only the first phase may take features", "'features'")
        if phase["train"] != HEAD:
            add(f"{where}.train", "on features only the head is trained: must be head", repr(phase["train"]))
        if spec["head"]["pool"] == "flatten":
            legal = "cached features are averages: take pool average, or train on tiles"
            add(f"{where}.input", legal, "'features' with pool flatten")
        if len(spec["phases"]) == 1 and (spec["augmentation"] or spec["crop_from"]):
            legal = "tiles are varied only where a phase takes tiles: leave augmentation and crop_from out"
            add(where, legal, "features alone")


def check_trained(name: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Add what is wrong with a trained network: names, groups that the start lacks, features that it has not."""
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
        add(f"{where}.start", "a start is no trained network itself", repr(spec["start"]))
        return
    if start["architecture"] not in networks.ARCHITECTURES or recipe is None:
        return
    groups = [*_groups(start), HEAD]
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
    px = start["px"] or networks.ARCHITECTURES[start["architecture"]].px
    if recipe["crop_from"] is not None and recipe["crop_from"] <= px:
        legal = f"must be above the input's edge, {px} px, to be cropped"
        add(f"{where}.recipe {spec['recipe']}.crop_from", legal, repr(recipe["crop_from"]))
    legal = [*groups[:-1], *head_layers(recipe)]
    asked = [("layer", spec["layer"]), *(("layers", one) for one in spec["layers"] if spec["layers"] != "all")]
    for key, layer in asked:
        if layer is not None and layer not in legal:
            add(f"{where}.{key}", f"legal are {listing(legal, 60)}{closest(layer, legal)}", repr(layer))


def legal_layers(network: Mapping[str, Any], catalogue: Catalogue) -> list[str]:
    """Return what can be taken for features of a trained network: cut points of its start, dense layers of its head.

    Parameters
    ----------
    network : mapping
        As :meth:`definitions.Catalogue.network` gives it.
    catalogue : Catalogue
    """
    start = catalogue.sound("networks", network["start"])
    return [*_groups(start), *head_layers(catalogue.sound("recipes", network["recipe"]))]


def _check_trained_part(where: str, asked: Any, groups: list[str], title: str, catalogue: Catalogue) -> None:
    if isinstance(asked, int):
        if asked > len(groups) - 1:
            catalogue.problems.add(where, f"{title} has {len(groups) - 1} blocks", repr(asked))
    elif asked not in ("all", *groups):
        legal = f"must be head, all, a number of blocks, or a cut point of {title}: {listing(groups[:-1], 60)}"
        catalogue.problems.add(where, legal + closest(asked, groups), repr(asked))


def trained_groups(asked: str | int, groups: list[str]) -> list[str]:
    """Return the groups that a phase trains.

    Parameters
    ----------
    asked : str or int
        ``all``, ``head``, the cut point from which on is trained, or the number of last blocks besides the head.
    groups : list of str
        Every group by depth, ``head`` last.

    Returns
    -------
    list of str
        Empty where there is no such group.

    Examples
    --------
    >>> trained_groups("block2", ["block1", "block2", "block3", "head"])
    ['block2', 'block3', 'head']
    >>> trained_groups(1, ["block1", "block2", "block3", "head"])
    ['block3', 'head']
    """
    if asked == "all":
        return list(groups)
    if isinstance(asked, int):
        return list(groups[-1 - asked :]) if asked < len(groups) else []
    return list(groups[groups.index(asked) :]) if asked in groups else []


def reached(start: Mapping[str, Any]) -> str:
    """Return the cut point of a start that a head is put on."""
    row = networks.ARCHITECTURES.get(start["architecture"])
    return "" if row is None else start["layer"] if start["layer"] in row.layers else row.last


def _groups(start: Mapping[str, Any]) -> list[str]:
    row = networks.ARCHITECTURES[start["architecture"]]
    return list(row.layers[: row.layers.index(reached(start)) + 1])


def check_splits(where: str, recipe_name: str, catalogue: Catalogue) -> None:
    """Add a problem where a recipe stops early and a split of the study holds nothing out to stop by."""
    recipe = catalogue.sound("recipes", recipe_name)
    if recipe is None or recipe["early_stopping"] is None:
        return
    for name in catalogue.chosen("splits"):
        split = catalogue.sound("splits", name)
        if split is not None and split["unit"] != "given" and not split["validation"]:
            legal = (
                f"recipe {recipe_name} has early_stopping, which needs validation tiles: give `validation`, the share "
                "of the groups held out for it, above 0"
            )
            catalogue.problems.add(f"splits.{name}.validation", legal, f"0 ({where})")
