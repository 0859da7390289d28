"""A network as the config defines it, checked against its row of the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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

    def plain(self) -> dict[str, Any]:
        """Return the entry, with the architecture by its name, as rules pass it on and files store it."""
        return {
            "architecture": self.architecture.name,
            "alpha": self.alpha,
            "weights": self.weights,
            "px": self.px,
            "rescale": self.rescale,
            "layer": self.layer,
            "layers": list(self.layers),
        }

    @classmethod
    def from_plain(cls, entry: Mapping[str, Any]) -> NetworkSpec:
        """Return what :func:`specification` makes of an entry, for :func:`histotransfer.plain_data.made`."""
        return specification(entry)

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
    """Return what is wrong with an entry of ``networks``; each problem's place is the key.

    Parameters
    ----------
    network : mapping
        ``architecture`` and ``weights``; as needed ``alpha``, ``px``, ``rescale`` (see :data:`RESCALES`), ``layer``
        (default: the last maps) and ``layers`` (inner cut points to store as well: a list, or ``all``: every cut point
        except dense layers).
    """
    unknown = [
        Problem(key, f"unknown key; legal are {', '.join(KEYS)}", repr(key)) for key in network if key not in KEYS
    ]
    row = ARCHITECTURES.get(network.get("architecture") or "")
    if row is None:
        legal = f"legal are {', '.join(ARCHITECTURES)}"
        return [*unknown, Problem("architecture", legal, repr(network.get("architecture")))]
    checks = (_alpha_problem, _weights_problem, _rescale_problem, _layer_problem)
    single = [problem for check in checks if (problem := check(network, row)) is not None]
    layers = network.get("layers")
    wrong = _layers_problems(layers, row)
    # a text that is not a list names no dense layers
    named = layers if _is_list(layers) else ()
    px = _px_problem(network, row, {network.get("layer"), *named} & set(row.dense))
    return [*unknown, *single, *wrong, *([px] if px else [])]


def _alpha_problem(network: Mapping[str, Any], row: Architecture) -> Problem | None:
    alpha = network.get("alpha")
    if alpha is not None and not row.has_alpha:
        legal = f"{row.name} comes in one width, so legal is none"
    elif alpha is not None and (isinstance(alpha, (bool, str)) or not alpha > 0):
        legal = "legal are numbers above 0"
    elif row.has_alpha and network.get("weights") == "imagenet" and (alpha or 1.0) not in row.imagenet_alphas:
        exist = ", ".join(f"{value:g}" for value in row.imagenet_alphas)
        legal = f"ImageNet weights of {row.name} exist for {exist}"
    else:
        return None
    return Problem("alpha", legal, repr(alpha))


def _weights_problem(network: Mapping[str, Any], row: Architecture) -> Problem | None:
    weights = network.get("weights")
    if not isinstance(weights, str) or not weights:
        return Problem("weights", "legal are imagenet, random, or the path of a weights file", repr(weights))
    if weights == "imagenet" and not row.imagenet_file:
        return Problem("weights", f"Keras has no ImageNet weights of {row.name}; {row.no_imagenet}", repr(weights))
    return None


def _rescale_problem(network: Mapping[str, Any], row: Architecture) -> Problem | None:
    rescale = network.get("rescale", "network")
    return None if rescale in RESCALES else Problem("rescale", f"legal are {', '.join(RESCALES)}", repr(rescale))


def _layer_problem(network: Mapping[str, Any], row: Architecture) -> Problem | None:
    layer = network.get("layer")
    if layer is None or layer in row.layers:
        return None
    return Problem("layer", f"legal for {row.name} are {', '.join(row.layers)}", repr(layer))


def _layers_problems(layers: Any, row: Architecture) -> list[Problem]:
    if layers is None or layers == "all":
        return []
    if not _is_list(layers):
        return [Problem("layers", f"legal is all or a list of cut points of {row.name}", repr(layers))]
    legal = f"legal for {row.name} are all or {', '.join(row.layers)}"
    return [Problem("layers", legal, repr(name)) for name in layers if name not in row.layers]


def _px_problem(network: Mapping[str, Any], row: Architecture, dense: Collection[str]) -> Problem | None:
    px = network.get("px", row.px)
    if not isinstance(px, int) or isinstance(px, bool) or px < row.min_px:
        return Problem("px", f"legal for {row.name} are integers of at least {row.min_px}", repr(px))
    if dense and px != row.px and network.get("weights") != "random":
        legal = f"{', '.join(sorted(dense))} of {row.name} takes {row.px} alone, unless weights are random"
        return Problem("px", legal, repr(px))
    return None


def _is_list(layers: Any) -> bool:
    return isinstance(layers, Sequence) and not isinstance(layers, str)


def specification(network: Mapping[str, Any]) -> NetworkSpec:
    """Return an entry of ``networks`` with its defaults filled in.

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
