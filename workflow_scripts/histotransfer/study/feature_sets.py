"""Feature sets: what a classifier learns from, as the config declares it and as the rules pass it on.

A set takes one layer of a network, the last layers of several networks side by side, several layers of one network
side by side, the layer that inner cross-validation chooses, or random windows of the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from histotransfer.networks import specification, table
from histotransfer.problems import Problem, closest, listing
from histotransfer.study import recipes

if TYPE_CHECKING:
    from histotransfer.study.catalogue import Catalogue

#: What several layers of one network are for: side by side as one set, or one after the other to choose from.
USES = ("merged", "chosen")

#: Keys that only random windows have, with their defaults. ASSUME these for what the supplement of Mormont et al.
#: (2018) has: Maree et al. (2016) resize windows to 16 x 16 pixels, and take them at least a quarter of the image wide
#: where objects fill it.
WINDOW_DEFAULTS = {"windows": 20, "window_px": 16, "smallest": 0.25, "largest": 1.0}

#: Keys that only features of networks have.
_OF_NETWORKS = ("layer", "layers", "use", "selection")


@dataclass(frozen=True)
class FeatureSet:
    """A feature set with every default filled in.

    Attributes
    ----------
    name : str
    sources : tuple of dict
        ``{"network": name, "layer": name or None}`` in the order of the columns; None is the network's own layer.
        Empty for random windows and for a choice among layers.
    windows : dict or None
        Of random windows: ``px``, ``windows``, ``window_px``, ``smallest``, ``largest``.
    cell_px : int or None
        Of the slide itself at low resolution: edge (pixels) of a grid cell.
    selection : str or None
        Name of `selections`: which of the columns are taken.
    layers : dict
        Of a choice among layers: layer by depth to the name of its own feature set. Otherwise empty.
    """

    name: str
    sources: tuple[dict[str, Any], ...] = ()
    windows: dict[str, Any] | None = None
    cell_px: int | None = None
    selection: str | None = None
    layers: Mapping[str, str] | None = None

    @property
    def definition(self) -> dict[str, Any]:
        """What the rules pass on: ``{"sources": [...]}``, ``{"windows": {...}}`` or ``{"image": {...}}``."""
        if self.cell_px is not None:
            return {"image": {"cell_px": self.cell_px}}
        return {"sources": list(self.sources)} if self.windows is None else {"windows": self.windows}

    @property
    def networks(self) -> list[str]:
        """Names of the networks that it reads, each once."""
        return list(dict.fromkeys(source["network"] for source in self.sources))

    @property
    def merged(self) -> bool:
        """Whether its columns come from several layers or networks."""
        return len(self.sources) > 1


def of_layer(name: str, layer: str) -> str:
    """Return the name of the feature set of one layer among those of `name`; it is looked up, never taken apart."""
    return f"{name}.{layer}"


def resolved(name: str, spec: Mapping[str, Any], defined: Mapping[str, Mapping[str, Any]]) -> list[FeatureSet]:
    """Return a sound definition as feature sets: itself, and of a choice among layers also those of each layer.

    Parameters
    ----------
    name : str
    spec : mapping
        An entry of ``feature_sets`` without problems, or of a network by its own name.
    defined : mapping
        The networks by name, as :meth:`definitions.Catalogue.network` gives them.
    """
    if spec.get("pixels") is not None:
        given = {key: default if spec.get(key) is None else spec[key] for key, default in WINDOW_DEFAULTS.items()}
        return [FeatureSet(name, windows={"px": spec["pixels"], **given})]
    if spec.get("cell_px") is not None:
        return [FeatureSet(name, cell_px=spec["cell_px"])]
    selection = spec.get("selection")
    if spec.get("networks") is not None:
        sources = tuple({"network": network, "layer": None} for network in spec["networks"])
        return [FeatureSet(name, sources=sources, selection=selection)]
    network = spec["network"]
    if spec.get("layers") is None:
        return [FeatureSet(name, sources=(_source(network, spec.get("layer"), defined),), selection=selection)]
    layers = by_depth(spec["layers"], defined[network])
    if spec["use"] == "merged":
        return [
            FeatureSet(name, sources=tuple(_source(network, layer, defined) for layer in layers), selection=selection)
        ]
    own = {layer: of_layer(name, layer) for layer in layers}
    each = [FeatureSet(one, sources=(_source(network, layer, defined),)) for layer, one in own.items()]
    return [FeatureSet(name, layers=own), *each]


def _source(network: str, layer: str | None, defined: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    own = defined[network].get("layer") or table.ARCHITECTURES[defined[network]["architecture"]].last
    return {"network": network, "layer": None if layer == own else layer}


def by_depth(layers: Any, network: Mapping[str, Any]) -> list[str]:
    """Return layers of a network by depth; of a trained one, those of its head come last.

    Parameters
    ----------
    layers : list of str, or ``all``
        All but dense ones.
    network : mapping
        As :meth:`definitions.Catalogue.network` gives it.
    """
    row = table.ARCHITECTURES[network["architecture"]]
    # a trained network has nothing of its start above the layer that its head was put on
    reached = row.layers[: row.layers.index(network["reaches"]) + 1] if network.get("reaches") else row.layers
    if layers == "all":
        return [name for name in reached if name not in row.dense]
    return [*(name for name in reached if name in layers), *(name for name in layers if name not in row.layers)]


def check(name: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Add what is wrong with an entry of ``feature_sets`` to the catalogue's problems."""
    add, where = catalogue.problems.add, f"feature_sets.{name}"
    if name in catalogue.names("networks"):
        add(where, "a network is a feature set by its own name: take another name", repr(name))
    given = [key for key in ("network", "networks", "pixels", "cell_px") if spec[key] is not None]
    if len(given) != 1:
        add(
            where,
            "give one of network, networks (merged), pixels (random windows) or cell_px (the slide itself); null "
            "unsets what an earlier file gave",
            listing(given) if given else "none of them",
        )
        return
    if spec["pixels"] is None:
        for key in WINDOW_DEFAULTS:
            if spec[key] is not None:
                add(f"{where}.{key}", "only a set of pixels has windows: leave it out", repr(spec[key]))
        if spec["selection"] is not None:
            catalogue.refer(f"{where}.selection", "selections", spec["selection"])
    checks = {"network": _check_network, "networks": _check_networks, "pixels": _check_windows, "cell_px": _check_image}
    checks[given[0]](where, spec, catalogue)
    if is_choice(spec, catalogue):
        for layer in by_depth(spec["layers"], catalogue.network(spec["network"])):
            own = of_layer(name, layer)
            if own in (*catalogue.names("feature_sets"), *catalogue.names("networks")):
                add(where, f"its layer {layer} is the feature set {own}, and another has that name", repr(own))


def is_choice(spec: Mapping[str, Any], catalogue: Catalogue) -> bool:
    """Return whether an entry of ``feature_sets`` is a choice among layers of a network that is known."""
    network = catalogue.network(spec.get("network") or "")
    known = network is not None and network["architecture"] in table.ARCHITECTURES
    return known and spec.get("use") == "chosen" and spec["layers"] is not None


def _check_image(where: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    for key in _OF_NETWORKS:
        if spec[key] is not None:
            catalogue.problems.add(f"{where}.{key}", "only features of networks have it: leave it out", repr(spec[key]))


def _check_windows(where: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    _check_image(where, spec, catalogue)
    smallest = WINDOW_DEFAULTS["smallest"] if spec["smallest"] is None else spec["smallest"]
    largest = WINDOW_DEFAULTS["largest"] if spec["largest"] is None else spec["largest"]
    if smallest > largest:
        catalogue.problems.add(f"{where}.smallest", f"must be at most `largest`, {largest:g}", f"{smallest:g}")


def _check_networks(where: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    for key in ("layer", "layers", "use"):
        if spec[key] is not None:
            legal = "merged networks give their own layers (`layer` of each network): leave it out"
            catalogue.problems.add(f"{where}.{key}", legal, repr(spec[key]))
    for place, network in enumerate(spec["networks"]):
        catalogue.refer(f"{where}.networks[{place}]", "networks", network)


def _check_network(where: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    add = catalogue.problems.add
    if spec["layer"] is not None and spec["layers"] is not None:
        add(where, "give layer or layers", "both")
        return
    if (spec["layers"] is None) != (spec["use"] is None):
        legal = "`layers` and `use` go together: use is merged (side by side) or chosen (by inner cross-validation)"
        add(where, legal, "layers alone" if spec["use"] is None else "use alone")
        return
    if spec["use"] == "chosen" and spec["selection"] is not None:
        add(f"{where}.selection", "a choice among layers has none: leave it out", repr(spec["selection"]))
    if not catalogue.refer(f"{where}.network", "networks", spec["network"]):
        return
    network = catalogue.network(spec["network"])
    if network is None:
        return
    asked = [("layer", spec["layer"])] if spec["layer"] is not None else []
    if isinstance(spec["layers"], list):
        asked = [(f"layers[{place}]", layer) for place, layer in enumerate(spec["layers"])]
    if network["recipe"] is not None:
        legal = recipes.legal_layers(network, catalogue)
        for key, layer in asked:
            if layer not in legal:
                add(f"{where}.{key}", f"legal are {listing(legal, 60)}{closest(layer, legal)}", repr(layer))
        return
    # what the network has against it without the layer is told of the network
    known = network_problems(network)
    for key, layer in asked:
        for problem in network_problems({**network, "layer": layer}):
            if problem in known:
                continue
            if problem.place == "layer":
                near = closest(layer, table.legal_layers(network["architecture"]))
                add(f"{where}.{key}", problem.legal + near, problem.found)
            else:
                add(f"networks.{spec['network']}.{problem.place}", problem.legal, problem.found)


def network_problems(network: Mapping[str, Any]) -> list[Problem]:
    """Return what the table of architectures has against an entry of ``networks``; places are its keys."""
    given = {key: value for key, value in network.items() if value is not None and key in specification.KEYS}
    near = closest(network["architecture"], table.ARCHITECTURES)
    return [
        replace(problem, legal=problem.legal + near) if problem.place == "architecture" else problem
        for problem in specification.problems(given)
    ]
