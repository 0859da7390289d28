"""The networks: one table, and the way from a row of it to a model that turns tiles into features.

Importing this module imports no Keras, so the table can be asked while a workflow is planned.
Adding a network is one row of :data:`ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What an entry of ``networks`` in the config may say.
KEYS = ("architecture", "alpha", "weights", "px", "rescale", "layer", "layers")
#: ``rescale``: the network's own preprocessing, or grey values from 0 to 1 (Kieffer et al. 2017) in its place.
RESCALES = ("network", "unit")
#: Legal values of ``precision``. Features are stored as float32 in all of them.
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes
    ----------
    name : str
        As the config says it.
    builder : str
        The function of ``keras.applications``.
    px : int
        Edge of the input that the ImageNet weights were trained on.
    min_px : int
        Smallest edge that the network can take.
    preprocessing : str
        Keras' name of it: ``caffe`` (BGR, means subtracted), ``tf`` (-1 to 1) or ``torch`` (means and deviations).
    n_features : int
        Maps of the last layer, at alpha 1.
    blocks : tuple of (str, str)
        The cut points in order of depth: name and Keras layer whose output it is. A layer that begins with ``>``
        means what enters that layer (where Keras numbers the layer before it anew in every process).
    last : str
        The cut point that Mormont et al. (2018) call the last layer: the last maps before the first dense layer.
    imagenet_file : str
        Name under which Keras keeps the ImageNet weights without the top.
    has_alpha : bool
        Whether the network comes in widths.
    imagenet_alphas : dict
        Widths that have ImageNet weights, and how their file says it.
    imagenet_px : tuple of int
        Input sizes that have ImageNet weights of their own; others take those of `px`.
    dense : tuple of str
        Cut points that are dense layers: they need the network's top and an input of exactly `px`.
    imagenet_file_with_top : str
        The file with the top, where `dense` is not empty.
    """

    name: str
    builder: str
    px: int
    min_px: int
    preprocessing: str
    n_features: int
    blocks: tuple[tuple[str, str], ...]
    last: str
    imagenet_file: str
    has_alpha: bool = False
    imagenet_alphas: Mapping[float, str] | None = None
    imagenet_px: tuple[int, ...] = ()
    dense: tuple[str, ...] = ()
    imagenet_file_with_top: str = ""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the cut points, by depth."""
        return tuple(name for name, _ in self.blocks)


def _same(names: Iterable[str], ending: str = "") -> tuple[tuple[str, str], ...]:
    return tuple((name, name + ending) for name in names)


def _numbered(stem: str, first: int, last: int) -> list[str]:
    return [f"{stem}{number}" for number in range(first, last + 1)]


_VGG_BLOCKS = (*_same(_numbered("block", 1, 5), "_pool"), ("fc1", "fc1"), ("fc2", "fc2"))

# ASSUME the cut points ("bottlenecks") of Mormont et al. (2018) are the ends of the networks' blocks: their list is in
# a supplement that is not at hand. In a dense block every layer's output is the concatenation of all before it, so
# the averages at the end of the block contain those of each of its layers; 98 cut points would repeat them.
_DENSENET201_BLOCKS = (
    ("stem", "pool1"),
    ("block1", "conv2_block6_concat"),
    ("block2", "conv3_block12_concat"),
    ("block3", "conv4_block48_concat"),
    ("block4", "conv5_block32_concat"),
    ("relu", "relu"),
)

_RESNET50_BLOCKS = (
    ("stem", "pool1_pool"),
    *_same(_numbered("conv2_block", 1, 3), "_out"),
    *_same(_numbered("conv3_block", 1, 4), "_out"),
    *_same(_numbered("conv4_block", 1, 6), "_out"),
    *_same(_numbered("conv5_block", 1, 3), "_out"),
)

_INCEPTION_RESNET_V2_BLOCKS = (
    ("mixed_5b", "mixed_5b"),
    *_same(_numbered("block35_", 1, 10), "_ac"),
    ("mixed_6a", "mixed_6a"),
    *_same(_numbered("block17_", 1, 20), "_ac"),
    ("mixed_7a", "mixed_7a"),
    *_same(_numbered("block8_", 1, 9), "_ac"),
    # the tenth has no activation, and Keras gives its last layer no fixed name
    ("block8_10", ">conv_7b"),
    ("conv_7b", "conv_7b_ac"),
)

# a MobileNetV2 block ends in an addition where its input and output have the same shape
_MOBILENET_V2_ADDING = frozenset({2, 4, 5, 7, 8, 9, 11, 12, 14, 15})
_MOBILENET_V2_BLOCKS = (
    ("stem", "Conv1_relu"),
    ("block_0", "expanded_conv_project_BN"),
    *((f"block_{k}", f"block_{k}_{'add' if k in _MOBILENET_V2_ADDING else 'project_BN'}") for k in range(1, 17)),
    ("out", "out_relu"),
)

_KERNELS = "weights_tf_dim_ordering_tf_kernels"

#: The table. Names are those of ``keras.applications``.
ARCHITECTURES: dict[str, Architecture] = {
    row.name: row
    for row in (
        Architecture(
            name="VGG16",
            builder="VGG16",
            px=224,
            min_px=32,
            preprocessing="caffe",
            n_features=512,
            blocks=_VGG_BLOCKS,
            last="block5",
            imagenet_file=f"vgg16_{_KERNELS}_notop.h5",
            dense=("fc1", "fc2"),
            imagenet_file_with_top=f"vgg16_{_KERNELS}.h5",
        ),
        Architecture(
            name="VGG19",
            builder="VGG19",
            px=224,
            min_px=32,
            preprocessing="caffe",
            n_features=512,
            blocks=_VGG_BLOCKS,
            last="block5",
            imagenet_file=f"vgg19_{_KERNELS}_notop.h5",
            dense=("fc1", "fc2"),
            imagenet_file_with_top=f"vgg19_{_KERNELS}.h5",
        ),
        Architecture(
            name="InceptionV3",
            builder="InceptionV3",
            px=299,
            min_px=75,
            preprocessing="tf",
            n_features=2048,
            blocks=_same(_numbered("mixed", 0, 10)),
            last="mixed10",
            imagenet_file=f"inception_v3_{_KERNELS}_notop.h5",
        ),
        Architecture(
            name="ResNet50",
            builder="ResNet50",
            px=224,
            min_px=32,
            preprocessing="caffe",
            n_features=2048,
            blocks=_RESNET50_BLOCKS,
            last="conv5_block3",
            imagenet_file=f"resnet50_{_KERNELS}_notop.h5",
        ),
        Architecture(
            name="InceptionResNetV2",
            builder="InceptionResNetV2",
            px=299,
            min_px=75,
            preprocessing="tf",
            n_features=1536,
            blocks=_INCEPTION_RESNET_V2_BLOCKS,
            last="conv_7b",
            imagenet_file=f"inception_resnet_v2_{_KERNELS}_notop.h5",
        ),
        Architecture(
            name="DenseNet201",
            builder="DenseNet201",
            px=224,
            min_px=32,
            preprocessing="torch",
            n_features=1920,
            blocks=_DENSENET201_BLOCKS,
            last="relu",
            imagenet_file=f"densenet201_{_KERNELS}_notop.h5",
        ),
        Architecture(
            name="MobileNet",
            builder="MobileNet",
            px=224,
            min_px=32,
            preprocessing="tf",
            n_features=1024,
            blocks=(("stem", "conv1_relu"), *((f"block_{k}", f"conv_pw_{k}_relu") for k in range(1, 14))),
            last="block_13",
            imagenet_file="mobilenet_{alpha}_{px}_tf_no_top.h5",
            has_alpha=True,
            imagenet_alphas={0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"},
            imagenet_px=(128, 160, 192, 224),
        ),
        Architecture(
            name="MobileNetV2",
            builder="MobileNetV2",
            px=224,
            min_px=32,
            preprocessing="tf",
            n_features=1280,
            blocks=_MOBILENET_V2_BLOCKS,
            last="out",
            imagenet_file=f"mobilenet_v2_{_KERNELS}_{{alpha}}_{{px}}_no_top.h5",
            has_alpha=True,
            imagenet_alphas={alpha: str(alpha) for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)},
            imagenet_px=(96, 128, 160, 192, 224),
        ),
    )
}


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
        """What is done to grey values from 0 to 255: ``caffe``, ``tf``, ``torch`` or ``unit``."""
        return "unit" if self.rescale == "unit" else self.architecture.preprocessing

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


def legal_layers(name: str, alpha: float | None = None) -> tuple[str, ...]:
    """Return the cut points of an architecture, by depth. They are the same for every `alpha`.

    Raises
    ------
    ValueError
        If there is no such architecture.

    Examples
    --------
    >>> legal_layers("VGG16")
    ('block1', 'block2', 'block3', 'block4', 'block5', 'fc1', 'fc2')
    """
    return _row(name).layers


def _row(name: Any) -> Architecture:
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture: legal are {', '.join(ARCHITECTURES)}; found {name!r}")
    return ARCHITECTURES[name]


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
        row = _row(network.get("architecture"))
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
    elif dense and px != row.px:
        found.append(f"px: {', '.join(sorted(dense))} of {row.name} takes {row.px} alone; found {px}")
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


def build(
    spec: NetworkSpec, *, weights_file: str | None = None, seed: int | None = None, precision: str = "float32"
) -> Any:
    """Build the network with its weights and its preprocessing inside.

    Parameters
    ----------
    spec : NetworkSpec
        What to build.
    weights_file : str, optional
        The file to load, checked before use (see :mod:`histotransfer.weights`); None for random weights.
    seed : int, optional
        Of the random weights; needed for them, and no other weights use it. They are drawn by NumPy, so that they are
        the same on every backend.
    precision : str
        ``float32``, ``mixed_bfloat16`` or ``mixed_float16``: of the network; preprocessing and averages are float32.

    Returns
    -------
    keras.Model
        From tiles, uint8 of shape (n, px, px, 3), to a list of float32 arrays: the features of ``spec.layer``, then
        those of each of ``spec.layers``, each of shape (n, maps): averages over the places of a map, or a dense
        layer's own output.

    Raises
    ------
    ValueError
        If the file is refused or belongs to another network, or the precision is unknown.
    """
    import keras

    from histotransfer import weights

    if precision not in PRECISIONS:
        raise ValueError(f"precision: legal are {', '.join(PRECISIONS)}; found {precision!r}")
    if spec.untrained and seed is None:
        raise ValueError(f"{spec.title}: random weights need a seed; found None")
    if not spec.untrained and weights_file is None:
        raise ValueError(f"{spec.title}: weights {spec.weights!r} need a file; found None")

    policy_before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        base = _base(spec)
    finally:
        keras.config.set_dtype_policy(policy_before)
    if spec.untrained:
        _draw_weights(base, seed)
    else:
        official = spec.weights == "imagenet"
        weights.load(base, weights_file, network=spec.title, names_must_agree=not official)

    cut = keras.Model(base.input, [_cut_point(base, spec, name) for name in (spec.layer, *spec.layers)])
    tiles = keras.Input((spec.px, spec.px, 3), dtype="uint8", name="tiles")
    maps = cut(preprocess(tiles, spec.preprocessing))
    # float32 whatever the precision of the maps: an average over a thousand places in float16 loses digits
    pooled = [
        keras.layers.GlobalAveragePooling2D(dtype="float32")(each)
        if len(each.shape) == 4
        else keras.ops.cast(each, "float32")
        for each in (maps if isinstance(maps, (list, tuple)) else [maps])
    ]
    return keras.Model(tiles, pooled, name=f"{spec.architecture.name.lower()}-features")


def _base(spec: NetworkSpec) -> Any:
    """Return the network of ``keras.applications`` without weights of anybody's."""
    import keras

    arguments = {"weights": None, "include_top": spec.include_top, "input_shape": (spec.px, spec.px, 3)}
    if spec.architecture.has_alpha:
        arguments["alpha"] = spec.alpha
    return getattr(keras.applications, spec.architecture.builder)(**arguments)


def _draw_weights(base: Any, seed: int) -> None:
    """Give every kernel of a network random weights; biases and batch normalisation stay as Keras begins them.

    Normal, of deviation sqrt(2 / inputs of a unit), by which activations keep their size from layer to layer (He et
    al. 2015, equation 10).
    """
    # ASSUME an untrained network begins with He's weights, not with Keras' default (Glorot), which takes a depthwise
    # kernel for a full one: MobileNetV2's features would be of the order of 1e-11, less than trees and float16 can tell
    import numpy as np

    generator = np.random.default_rng(seed)
    for layer in base.layers:
        values = layer.get_weights()
        for k, value in enumerate(values):
            if value.ndim > 1:
                per_map = type(layer).__name__ == "DepthwiseConv2D"
                inputs = int(np.prod(value.shape[:2] if per_map else value.shape[:-1]))
                values[k] = generator.standard_normal(value.shape, np.float32) * np.float32(np.sqrt(2 / inputs))
        if values:
            layer.set_weights(values)


def _cut_point(base: Any, spec: NetworkSpec, name: str) -> Any:
    layer = dict(spec.architecture.blocks)[name]
    return base.get_layer(layer[1:]).input if layer.startswith(">") else base.get_layer(layer).output


def preprocess(tiles: Any, mode: str) -> Any:
    """Turn grey values into what a network was trained on, with ``keras.ops``.

    Parameters
    ----------
    tiles : tensor of shape (n, px, px, 3), RGB, values from 0 to 255
        An array or a symbolic tensor, of any dtype.
    mode : str
        ``caffe``, ``tf`` or ``torch``, as ``keras.applications.imagenet_utils.preprocess_input`` has them, or
        ``unit``: from 0 to 1.

    Returns
    -------
    tensor of the same shape, float32
    """
    import numpy as np
    from keras import ops

    x = ops.cast(tiles, "float32")
    if mode == "tf":
        return ops.subtract(ops.divide(x, 127.5), 1.0)
    if mode == "unit":
        return ops.divide(x, 255.0)
    if mode == "caffe":
        means = np.array([103.939, 116.779, 123.68], dtype="float32")
        return ops.subtract(ops.flip(x, axis=-1), means)
    if mode == "torch":
        means = np.array([0.485, 0.456, 0.406], dtype="float32")
        deviations = np.array([0.229, 0.224, 0.225], dtype="float32")
        return ops.divide(ops.subtract(ops.divide(x, 255.0), means), deviations)
    raise ValueError(f"preprocessing: legal are caffe, tf, torch and unit; found {mode!r}")
