"""A network as the config defines it, checked against its row of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from histotransfer.networks.table import ARCHITECTURES, Architecture
from histotransfer.problems import Problem

#: What an entry of ``networks`` in the config may say.
KEYS = ("architecture", "alpha", "weights", "px", "rescale", "layer", "layers")
#: ``rescale``: the network's own preprocessing; or grey values from 0 to 1 (Kieffer et al. 2017) in its place; or the
#: network's own with the channel means of the training tiles in place of its own means (Bayramoglu and Heikkila 2016),
#: which only a network that is trained has.
RESCALES = ("network", "unit", "training_mean")
#: Legal values of ``precision``. Features are stored as float32 in all of them.
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


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
        One of :data:`RESCALES`.
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

    @classmethod
    def from_plain(cls, network: Mapping[str, Any]) -> NetworkSpec:
        """Return what :meth:`plain`, or an entry of ``networks``, describes; see :func:`specification`."""
        return specification(network)

    def plain(self) -> dict[str, Any]:
        """Return the entry with every key of :data:`KEYS`, as rules pass it on and files store it."""
        return {
            "architecture": self.architecture.name,
            "alpha": self.alpha,
            "weights": self.weights,
            "px": self.px,
            "rescale": self.rescale,
            "layer": self.layer,
            "layers": list(self.layers),
        }

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the groups of layers below the head, by depth: the cut points up to `layer`."""
        names = self.architecture.layers
        return names[: names.index(self.layer) + 1]

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


def given(network: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an entry of ``networks`` says about the network itself, without keys that are null or not of it."""
    return {key: value for key, value in network.items() if key in KEYS and value is not None}


def problems(network: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with an entry of ``networks``; an empty list if nothing is.

    Parameters
    ----------
    network : dict
        ``architecture`` and ``weights``; as needed ``alpha``, ``px``, ``rescale`` (one of :data:`RESCALES`), ``layer``
        (default: the last maps) and ``layers`` (inner cut points to store as well: a list, or ``all``: every one
        that the network without its dense layers has).

    Returns
    -------
    list of Problem
        Their places are keys of the entry.
    """
    unknown = [key for key in network if key not in KEYS]
    wrong = [Problem("keys", f"legal are {', '.join(KEYS)}", repr(key)) for key in unknown]
    row = ARCHITECTURES.get(network.get("architecture"))
    if row is None:
        legal = f"legal are {', '.join(ARCHITECTURES)}"
        return [*wrong, Problem("architecture", legal, repr(network.get("architecture")))]
    checks = (_alpha_problem, _weights_problem, _rescale_problem)
    wrong += [problem for check in checks if (problem := check(network, row)) is not None]
    return [*wrong, *_layer_problems(network, row), *_px_problems(network, row)]


def _alpha_problem(network: Mapping[str, Any], row: Architecture) -> Problem | None:
    alpha = network.get("alpha")
    if alpha is not None and not row.has_alpha:
        return Problem("alpha", f"{row.name} comes in one width, so legal is none", repr(alpha))
    if alpha is not None and (isinstance(alpha, (bool, str)) or not alpha > 0):
        return Problem("alpha", "legal are numbers above 0", repr(alpha))
    if row.has_alpha and network.get("weights") == "imagenet" and (alpha or 1.0) not in row.imagenet_alphas:
        legal = ", ".join(f"{value:g}" for value in row.imagenet_alphas)
        return Problem("alpha", f"ImageNet weights of {row.name} exist for {legal}", repr(alpha))
    return None


def _weights_problem(network: Mapping[str, Any], row: Architecture) -> Problem | None:
    weights = network.get("weights")
    if not isinstance(weights, str) or not weights:
        return Problem("weights", "legal are imagenet, random, or the path of a weights file", repr(weights))
    if weights == "imagenet" and not row.imagenet_file:
        return Problem("weights", f"Keras has no ImageNet weights of {row.name}; {row.no_imagenet}", repr(weights))
    return None


def _rescale_problem(network: Mapping[str, Any], _: Architecture) -> Problem | None:
    rescale = network.get("rescale", "network")
    return None if rescale in RESCALES else Problem("rescale", f"legal are {', '.join(RESCALES)}", repr(rescale))


def _listed_layers(network: Mapping[str, Any]) -> Sequence[str] | None:
    """Return the inner cut points that are listed one by one; None where the value is no list."""
    layers = network.get("layers")
    if layers is None:
        return ()
    return layers if isinstance(layers, Sequence) and not isinstance(layers, str) else None


def _layer_problems(network: Mapping[str, Any], row: Architecture) -> list[Problem]:
    layer, layers, listed = network.get("layer"), network.get("layers"), _listed_layers(network)
    wrong = []
    if layer is not None and layer not in row.layers:
        wrong.append(Problem("layer", f"legal for {row.name} are {', '.join(row.layers)}", repr(layer)))
    if listed is None and layers != "all":
        wrong.append(Problem("layers", f"legal is all or a list of cut points of {row.name}", repr(layers)))
    legal = f"legal for {row.name} are all or {', '.join(row.layers)}"
    return [*wrong, *(Problem("layers", legal, repr(name)) for name in listed or () if name not in row.layers)]


def _px_problems(network: Mapping[str, Any], row: Architecture) -> list[Problem]:
    px = network.get("px", row.px)
    if not isinstance(px, int) or isinstance(px, bool) or px < row.min_px:
        return [Problem("px", f"legal for {row.name} are integers of at least {row.min_px}", repr(px))]
    dense = sorted({network.get("layer"), *(_listed_layers(network) or ())} & set(row.dense))
    if dense and px != row.px and network.get("weights") != "random":
        legal = f"{', '.join(dense)} of {row.name} takes {row.px} alone, unless weights are random"
        return [Problem("px", legal, repr(px))]
    return []


def specification(network: Mapping[str, Any]) -> NetworkSpec:
    """Return an entry of ``networks`` with its defaults filled in.

    Parameters
    ----------
    network : dict
        See :func:`problems`.

    Raises
    ------
    ValueError
        With every problem that :func:`problems` finds.
    """
    wrong = problems(network)
    if wrong:
        raise ValueError("network: " + "; ".join(map(str, wrong)))
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
