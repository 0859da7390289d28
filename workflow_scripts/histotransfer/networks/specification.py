"""A network as the config defines it, checked against its row of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from histotransfer.networks.table import ARCHITECTURES, Architecture, row_of

#: What an entry of ``networks`` in the config may say.
KEYS = ("architecture", "alpha", "weights", "px", "rescale", "layer", "layers")
#: ``rescale``: the network's own preprocessing; or grey values from 0 to 1 (Kieffer et al. 2017) in its place; or the
#: network's own with the channel means of the training tiles in place of its own means (Bayramoglu and Heikkila 2016),
#: which only a network that is trained has.
RESCALES = ("network", "unit", "training_mean")
#: Legal values of ``precision``. Features are stored as float32 in all of them.
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
#: Name of the last group of layers: what is put on the network, and its auxiliary classifiers.
HEAD = "head"


@dataclass(frozen=True)
class NetworkSpec:
    """An entry of the config's ``networks``, checked, with every default filled in.

    Attributes
    ----------
    architecture : Architecture
        The row of the table.
    alpha : float or None
        Width; None where the architecture has none.
    weights : str
        ``imagenet``, ``random`` or a path.
    px : int
        Edge of the input in pixels.
    rescale : str
        ``network`` or ``unit``.
    layer : str
        Cut point of the features proper.
    layers : tuple of str
        Inner cut points that come with them, by depth, without `layer`.
    """

    architecture: Architecture
    alpha: float | None
    weights: str
    px: int
    rescale: str
    layer: str
    layers: tuple[str, ...]

    @property
    def untrained(self) -> bool:
        """Whether the weights are random."""
        return self.weights == "random"

    @property
    def include_top(self) -> bool:
        """Whether a dense cut point is asked for, so that the network is built with its top."""
        return bool({self.layer, *self.layers} & set(self.architecture.dense))

    @property
    def preprocessing(self) -> str:
        """What is done to grey values from 0 to 255: ``caffe``, ``tf``, ``torch`` or ``unit``; see `needs_means`."""
        return "unit" if self.rescale == "unit" else self.architecture.preprocessing

    @property
    def needs_means(self) -> bool:
        """Whether the preprocessing takes the channel means of the training tiles."""
        return self.rescale == "training_mean"

    @property
    def title(self) -> str:
        """The network in words, for messages: ``MobileNetV2 (alpha 0.35)``."""
        width = "" if self.alpha is None else f" (alpha {self.alpha:g})"
        return f"{self.architecture.name}{width}"

    @property
    def imagenet_file(self) -> str:
        """Name under which Keras keeps the ImageNet weights of this network."""
        row = self.architecture
        if self.include_top:
            return row.imagenet_file_with_top
        px = self.px if self.px in row.imagenet_px else row.px
        return row.imagenet_file.format(alpha=(row.imagenet_alphas or {}).get(self.alpha, ""), px=px)


def problems(network: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an entry of ``networks``, one sentence each; an empty list if nothing is.

    Parameters
    ----------
    network : dict
        ``architecture`` and ``weights``; as needed ``alpha``, ``px``, ``rescale`` (``network`` or ``unit``), ``layer``
        (default: the last maps) and ``layers`` (inner cut points to store as well: a list, or ``all``: every one
        that the network without its dense layers has).
    """
    found = [f"unknown key {key!r}; legal are {', '.join(KEYS)}" for key in network if key not in KEYS]
    try:
        row = row_of(network.get("architecture"))
    except ValueError as error:
        return [*found, str(error)]

    alpha = network.get("alpha")
    if alpha is not None and not row.has_alpha:
        found.append(f"alpha: {row.name} comes in one width, so legal is none; found {alpha!r}")
    elif alpha is not None and (isinstance(alpha, (bool, str)) or not alpha > 0):
        found.append(f"alpha: legal are numbers above 0; found {alpha!r}")
    elif row.has_alpha and network.get("weights") == "imagenet" and (alpha or 1.0) not in row.imagenet_alphas:
        legal = ", ".join(f"{value:g}" for value in row.imagenet_alphas)
        found.append(f"alpha: ImageNet weights of {row.name} exist for {legal}; found {alpha!r}")

    weights = network.get("weights")
    if not isinstance(weights, str) or not weights:
        found.append(f"weights: legal are imagenet, random, or the path of a weights file; found {weights!r}")
    elif weights == "imagenet" and not row.imagenet_file:
        found.append(f"weights: Keras has no ImageNet weights of {row.name}; {row.no_imagenet}; found 'imagenet'")

    if network.get("rescale", "network") not in RESCALES:
        found.append(f"rescale: legal are {', '.join(RESCALES)}; found {network['rescale']!r}")

    layer, layers = network.get("layer"), network.get("layers")
    if layer is not None and layer not in row.layers:
        found.append(f"layer: legal for {row.name} are {', '.join(row.layers)}; found {layer!r}")
    if layers is not None and layers != "all" and (isinstance(layers, str) or not isinstance(layers, Sequence)):
        found.append(f"layers: legal is all or a list of cut points of {row.name}; found {layers!r}")
        layers = None
    if layers is not None and layers != "all":
        for name in layers:
            if name not in row.layers:
                found.append(f"layers: legal for {row.name} are all or {', '.join(row.layers)}; found {name!r}")

    px = network.get("px", row.px)
    dense = {layer, *(layers or ())} & set(row.dense) if layers != "all" else {layer} & set(row.dense)
    if not isinstance(px, int) or isinstance(px, bool) or px < row.min_px:
        found.append(f"px: legal for {row.name} are integers of at least {row.min_px}; found {px!r}")
    elif dense and px != row.px and weights != "random":
        found.append(
            f"px: {', '.join(sorted(dense))} of {row.name} takes {row.px} alone, unless weights are random; found {px}"
        )
    return found


def specification(network: Mapping[str, Any]) -> NetworkSpec:
    """Return an entry of ``networks`` with its defaults filled in.

    Raises
    ------
    ValueError
        With every problem that :func:`problems` finds.
    """
    found = problems(network)
    if found:
        raise ValueError("network: " + "; ".join(found))
    row = ARCHITECTURES[network["architecture"]]
    layer = network.get("layer") or row.last
    layers = network.get("layers") or ()
    if layers == "all":
        layers = [name for name in row.layers if name not in row.dense]
    return NetworkSpec(
        architecture=row,
        alpha=float(network.get("alpha") or 1.0) if row.has_alpha else None,
        weights=network["weights"],
        px=int(network.get("px", row.px)),
        rescale=network.get("rescale", "network"),
        layer=layer,
        layers=tuple(name for name in row.layers if name in layers and name != layer),
    )


def group_names(network: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the groups of layers below the head, by depth: the cut points up to ``layer``.

    Parameters
    ----------
    network : dict
        An entry of ``networks`` (see :func:`problems`) that training begins from.

    Raises
    ------
    ValueError
        If it has problems.

    Examples
    --------
    >>> group_names({"architecture": "VGG16", "weights": "random", "layer": "block3"})
    ('block1', 'block2', 'block3')
    """
    spec = specification(network)
    names = spec.architecture.layers
    return names[: names.index(spec.layer) + 1]
