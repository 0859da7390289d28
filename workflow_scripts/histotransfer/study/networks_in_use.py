"""Which networks the methods of a study use: those that are extracted from as they are, and those that are trained.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from histotransfer.networks import specification
from histotransfer.networks.groups import SOFTMAX
from histotransfer.networks.specification import NetworkSpec
from histotransfer.study import recipes
from histotransfer.study.catalogue import Catalogue
from histotransfer.study.feature_sets import FeatureSet, by_depth, sources_of
from histotransfer.study.methods import Method
from histotransfer.study.trained import TrainedNetwork


def needed_layers(methods: Sequence[Method], feature_sets: Mapping[str, FeatureSet]) -> dict[str, list[str]]:
    """Return the networks that features are extracted from, each with the layers that are needed besides its own."""
    needed: dict[str, list[str]] = {}
    for method in methods:
        if method.classifier == SOFTMAX:
            continue
        for source in sources_of(feature_sets[method.features]):
            layers = needed.setdefault(source.network, [])
            if source.layer and source.layer not in layers:
                layers.append(source.layer)
    return needed


def trained_networks(
    catalogue: Catalogue, methods: Sequence[Method], needed: Mapping[str, Sequence[str]]
) -> dict[str, TrainedNetwork]:
    """Return the trained networks in use, either by their own output or by their features.

    Parameters
    ----------
    catalogue : Catalogue
    methods : sequence of Method
    needed : mapping
        What :func:`needed_layers` returns.
    """
    by_output = [method.features for method in methods if method.classifier == SOFTMAX]
    trained = {}
    for name in dict.fromkeys([*by_output, *needed]):
        entry = catalogue.sound("networks", name) or {}
        if entry["recipe"] is None:
            continue
        network = catalogue.network(name) or {}
        start = network_spec(catalogue.sound("networks", entry["start"]) or {}, layers=())
        layer = network["layer"] or start.layer
        listed = by_depth(entry["layers"], network) if entry["layers"] else []
        inner = [each for each in (*listed, *needed.get(name, ())) if each != layer]
        trained[name] = TrainedNetwork(
            name=name,
            start_name=entry["start"],
            start=start,
            recipe=recipes.resolved(entry["recipe"], catalogue.sound("recipes", entry["recipe"]) or {}),
            layer=layer,
            layers=tuple(by_depth(inner, network)),
        )
    return trained


def untrained_networks(
    defined: Mapping[str, Mapping[str, Any]],
    needed: Mapping[str, Sequence[str]],
    trained: Mapping[str, TrainedNetwork],
) -> dict[str, NetworkSpec]:
    """Return the networks that are used as they are, each with the inner layers that it lists or the study needs.

    A head that is trained on features needs the features of its start.

    Parameters
    ----------
    defined : mapping
        ``networks`` of the config.
    needed : mapping
        What :func:`needed_layers` returns.
    trained : mapping
        What :func:`trained_networks` returns.
    """
    layers_of = {name: layers for name, layers in needed.items() if defined[name]["recipe"] is None}
    for network in trained.values():
        if network.on_features:
            layers_of.setdefault(network.start_name, ())
    networks = {}
    for name, layers in layers_of.items():
        # "all" leaves dense layers out, and a feature set may need one
        listed = network_spec(defined[name]).layers
        networks[name] = network_spec(defined[name], layers=(*listed, *layers))
    return networks


def network_spec(entry: Mapping[str, Any], layers: Sequence[str] | None = None) -> NetworkSpec:
    """Return an entry of ``networks`` with the defaults of its architecture, and with other `layers` if given."""
    own = specification.given(entry)
    return specification.specification(own if layers is None else {**own, "layers": list(layers)})
