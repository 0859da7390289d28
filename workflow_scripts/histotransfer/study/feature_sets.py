"""Feature sets: what a classifier learns from, as the config declares it and as the study has it.

A feature set is one layer of a network, the layers of several networks side by side, several layers of one network side
by side, the layer that inner cross-validation chooses, random windows of the pixels, or the slide at low resolution.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from histotransfer.feature_kinds import Layers, Reduction, SlideImage, Source, Windows, WindowSet
from histotransfer.networks import specification, table
from histotransfer.problems import Problem, closest, listing
from histotransfer.study import recipes

if TYPE_CHECKING:
    from histotransfer.study.catalogue import Catalogue

#: Keys of random windows alone. ASSUME that the defaults of :class:`histotransfer.feature_kinds.Windows` are the values
#: in the supplement of Mormont et al. (2018), which was not available: Maree et al. (2016) resize windows to 16 x 16
#: pixels, and take windows of at least a quarter of the image's edge where objects fill it.
WINDOW_KEYS = ("windows", "window_px", "smallest", "largest")

#: Keys of features of networks alone.
NETWORK_KEYS = ("layer", "layers", "use", "selection")


@dataclass(frozen=True)
class LayerFeatures:
    """Features of layers of networks, side by side, or a selection of them.

    Attributes
    ----------
    name : str
    definition : Layers
        Networks and layers in the order of the columns; None is the network's own layer.
    selection : str or None
        Name in ``selections``: which of the columns are used; None: all.
    """

    name: str
    definition: Layers
    selection: str | None = None

    @property
    def networks(self) -> list[str]:
        """Names of the networks that it reads, each once."""
        return list(dict.fromkeys(source.network for source in self.definition.sources))

    @property
    def merged(self) -> bool:
        """Whether its columns come from several layers or networks."""
        return len(self.definition.sources) > 1


@dataclass(frozen=True)
class LayerChoice:
    """A choice among layers of one network, made by inner cross-validation.

    Attributes
    ----------
    name : str
    layers : dict of str to str
        Layer, by depth, to the name of its own feature set.
    """

    name: str
    layers: Mapping[str, str]


@dataclass(frozen=True)
class WindowFeatures:
    """Random windows of the tiles' pixels."""

    name: str
    definition: WindowSet


@dataclass(frozen=True)
class SlideFeatures:
    """The slide itself at low resolution."""

    name: str
    definition: SlideImage


FeatureSet = LayerFeatures | LayerChoice | WindowFeatures | SlideFeatures


def sources_of(feature_set: FeatureSet) -> tuple[Source, ...]:
    """Return the networks and layers that a feature set reads; none where it reads pixels or is a choice."""
    return feature_set.definition.sources if isinstance(feature_set, LayerFeatures) else ()


def selection_of(feature_set: FeatureSet) -> str | None:
    """Return the name of the selection of a feature set, or None."""
    return feature_set.selection if isinstance(feature_set, LayerFeatures) else None


def layers_of(feature_set: FeatureSet) -> Mapping[str, str]:
    """Return the layers that a feature set chooses from, each with its own feature set; none if it is no choice."""
    return feature_set.layers if isinstance(feature_set, LayerChoice) else {}


def cell_px_of(feature_set: FeatureSet) -> int | None:
    """Return the edge (pixels) of a grid cell of the slide at low resolution; None for other kinds."""
    return feature_set.definition.image.cell_px if isinstance(feature_set, SlideFeatures) else None


def of_layer(name: str, layer: str) -> str:
    """Return the name of the feature set of one layer among those of `name`; it is looked up, never parsed."""
    return f"{name}.{layer}"


def resolved(name: str, spec: Mapping[str, Any], defined: Mapping[str, Mapping[str, Any]]) -> list[FeatureSet]:
    """Return an entry of ``feature_sets`` as feature sets: itself, and of a choice among layers also each layer.

    Parameters
    ----------
    name : str
    spec : mapping
        An entry of ``feature_sets`` without problems, or ``network`` alone for a network under its own name.
    defined : mapping
        The networks by name, as :meth:`histotransfer.study.catalogue.Catalogue.network` returns them.
    """
    if spec.get("pixels") is not None:
        return [WindowFeatures(name, WindowSet(_windows(spec)))]
    if spec.get("cell_px") is not None:
        return [SlideFeatures(name, SlideImage(Reduction(spec["cell_px"])))]
    if spec.get("networks") is not None:
        sources = tuple(Source(network) for network in spec["networks"])
        return [LayerFeatures(name, Layers(sources), spec.get("selection"))]
    network = spec["network"]
    if spec.get("layers") is None:
        source = _source(network, spec.get("layer"), defined)
        return [LayerFeatures(name, Layers((source,)), spec.get("selection"))]
    layers = by_depth(spec["layers"], defined[network])
    if spec["use"] == "merged":
        sources = tuple(_source(network, layer, defined) for layer in layers)
        return [LayerFeatures(name, Layers(sources), spec.get("selection"))]
    names = {layer: of_layer(name, layer) for layer in layers}
    each = [LayerFeatures(own, Layers((_source(network, layer, defined),))) for layer, own in names.items()]
    return [LayerChoice(name, names), *each]


def _windows(spec: Mapping[str, Any]) -> Windows:
    given = {key: spec[key] for key in WINDOW_KEYS if spec.get(key) is not None}
    return Windows(px=spec["pixels"], **given)


def _source(network: str, layer: str | None, defined: Mapping[str, Mapping[str, Any]]) -> Source:
    own = defined[network].get("layer") or table.ARCHITECTURES[defined[network]["architecture"]].last
    return Source(network, None if layer == own else layer)


def by_depth(layers: Any, network: Mapping[str, Any]) -> list[str]:
    """Return layers of a network by depth; of a trained network, those of its head come last.

    Parameters
    ----------
    layers : list of str, or ``all``
        ``all``: every layer except dense ones.
    network : mapping
        As :meth:`histotransfer.study.catalogue.Catalogue.network` returns it.
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
        add(where, "a network is also a feature set under its own name: choose another name", repr(name))
    given = [key for key in ("network", "networks", "pixels", "cell_px") if spec[key] is not None]
    if len(given) != 1:
        add(
            where,
            "give one of network, networks (merged), pixels (random windows) or cell_px (the slide itself); null "
            "removes a key of an earlier file",
            listing(given) if given else "none of them",
        )
        return
    if spec["pixels"] is None:
        for key in WINDOW_KEYS:
            if spec[key] is not None:
                add(f"{where}.{key}", "only for a feature set with pixels: leave it out", repr(spec[key]))
        if spec["selection"] is not None:
            catalogue.refer(f"{where}.selection", "selections", spec["selection"])
    checks = {
        "network": _check_network,
        "networks": _check_networks,
        "pixels": _check_windows,
        "cell_px": _check_no_network,
    }
    checks[given[0]](where, spec, catalogue)
    if is_choice(spec, catalogue):
        for layer in by_depth(spec["layers"], catalogue.network(spec["network"])):
            own = of_layer(name, layer)
            if own in (*catalogue.names("feature_sets"), *catalogue.names("networks")):
                add(where, f"its layer {layer} becomes the feature set {own}, which exists already", repr(own))


def is_choice(spec: Mapping[str, Any], catalogue: Catalogue) -> bool:
    """Return whether an entry of ``feature_sets`` is a choice among layers of a network that is known."""
    network = catalogue.network(spec.get("network") or "")
    known = network is not None and network["architecture"] in table.ARCHITECTURES
    return known and spec.get("use") == "chosen" and spec["layers"] is not None


def _check_no_network(where: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    for key in NETWORK_KEYS:
        if spec[key] is not None:
            catalogue.problems.add(f"{where}.{key}", "only for features of networks: leave it out", repr(spec[key]))


def _check_windows(where: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    _check_no_network(where, spec, catalogue)
    windows = _windows(spec)
    if windows.smallest > windows.largest:
        legal = f"must be at most `largest`, {windows.largest:g}"
        catalogue.problems.add(f"{where}.smallest", legal, f"{windows.smallest:g}")


def _check_networks(where: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    for key in ("layer", "layers", "use"):
        if spec[key] is not None:
            legal = "merged networks use the `layer` in their own definitions: leave it out"
            catalogue.problems.add(f"{where}.{key}", legal, repr(spec[key]))
    for place, network in enumerate(spec["networks"]):
        catalogue.refer(f"{where}.networks[{place}]", "networks", network)


def _check_network(where: str, spec: Mapping[str, Any], catalogue: Catalogue) -> None:
    add = catalogue.problems.add
    if spec["layer"] is not None and spec["layers"] is not None:
        add(where, "give layer or layers", "both")
        return
    if (spec["layers"] is None) != (spec["use"] is None):
        legal = (
            "`layers` and `use` must be given together: use is merged (side by side) or chosen (by inner "
            "cross-validation)"
        )
        add(where, legal, "layers alone" if spec["use"] is None else "use alone")
        return
    if spec["use"] == "chosen" and spec["selection"] is not None:
        add(f"{where}.selection", "a choice among layers has no selection: leave it out", repr(spec["selection"]))
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
    # problems that the network has without the layer are reported with the network
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
    """Return what is wrong with an entry of ``networks`` by the table of architectures; each place is a key."""
    return [
        replace(problem, legal=problem.legal + closest(network["architecture"], table.ARCHITECTURES))
        if problem.place == "architecture"
        else problem
        for problem in specification.problems(specification.given(network))
    ]
