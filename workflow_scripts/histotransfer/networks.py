"""The networks: one table, and the way from a row of it to a model that turns tiles into features.

Importing this module imports no Keras, so the table can be asked while a workflow is planned.
Adding a network is one row of :data:`ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What an entry of ``networks`` in the config may say.
KEYS = ("architecture", "alpha", "weights", "px", "rescale", "layer", "layers")
#: ``rescale``: the network's own preprocessing; or grey values from 0 to 1 (Kieffer et al. 2017) in its place; or the
#: network's own with the channel means of the training tiles in place of its own means (Bayramoglu and Heikkila 2016),
#: which only a network that is trained has.
RESCALES = ("network", "unit", "training_mean")
#: Legal values of ``precision``. Features are stored as float32 in all of them.
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
#: Legal values of an initialisation's ``kind``.
INITIALISATIONS = ("glorot", "he", "xavier", "gaussian")
#: Deviation of Gaussian weights where none is given.
# ASSUME Bayramoglu and Heikkila (2016) name no deviation; Caffe's AlexNet has 0.01 in its convolutions
GAUSSIAN_DEVIATION = 0.01
#: Name of the last group of layers: what is put on the network, and its auxiliary classifiers.
HEAD = "head"


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes
    ----------
    name : str
        As the config says it.
    builder : str
        The function of ``keras.applications``, or where `own` of :mod:`histotransfer.architectures`.
    px : int
        Edge of the input that the published weights were trained on.
    min_px : int
        Smallest edge that the network can take.
    preprocessing : str
        Keras' name of it: ``caffe`` (BGR, means subtracted), ``tf`` (-1 to 1) or ``torch`` (means and deviations); or
        ``unit`` (0 to 1).
    n_features : int
        Maps of the last layer, at alpha 1.
    blocks : tuple of (str, str)
        The cut points in order of depth: name and Keras layer whose output it is. A layer that begins with ``>``
        means what enters that layer (where Keras numbers the layer before it anew in every process).
    last : str
        The cut point that Mormont et al. (2018) call the last layer: the last maps before the first dense layer.
    imagenet_file : str
        Name under which Keras keeps the ImageNet weights without the top; empty where Keras has none.
    has_alpha : bool
        Whether the network comes in widths.
    imagenet_alphas : dict
        Widths that have ImageNet weights, and how their file says it.
    imagenet_px : tuple of int
        Input sizes that have ImageNet weights of their own; others take those of `px`.
    dense : tuple of str
        Cut points that are dense layers: they need the network's top and, unless weights are random, an input of
        exactly `px`.
    imagenet_file_with_top : str
        The file with the top, where `dense` is not empty and Keras has one.
    own : bool
        Whether the network is built by this package.
    auxiliary : tuple of (str, str)
        Cut points that auxiliary classifiers begin at, and the Keras layer whose output the last dense layer of each
        takes.
    no_imagenet : str
        Where Keras has no ImageNet weights: what there is in their place, for messages.
    """

    name: str
    builder: str
    px: int
    min_px: int
    preprocessing: str
    n_features: int
    blocks: tuple[tuple[str, str], ...]
    last: str
    imagenet_file: str = ""
    has_alpha: bool = False
    imagenet_alphas: Mapping[float, str] | None = None
    imagenet_px: tuple[int, ...] = ()
    dense: tuple[str, ...] = ()
    imagenet_file_with_top: str = ""
    own: bool = False
    auxiliary: tuple[tuple[str, str], ...] = ()
    no_imagenet: str = ""

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

_ALEXNET_BLOCKS = (
    ("conv1", "pool1"),
    ("conv2", "pool2"),
    ("conv3", "conv3"),
    ("conv4", "conv4"),
    ("conv5", "pool5"),
    ("fc6", "fc6"),
    ("fc7", "fc7"),
)
_GOOGLENET_BLOCKS = (
    ("conv1", "pool1"),
    ("conv2", "pool2"),
    *_same(f"inception_{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")),
)
_GOOGLENET_AUXILIARY = (("inception_4a", "loss1_dropout"), ("inception_4d", "loss2_dropout"))
_CONVERTED = "make a file of torchvision's with workflow_scripts/convert_torchvision.py and give its path"

_KERNELS = "weights_tf_dim_ordering_tf_kernels"

#: The table. Names are those of ``keras.applications``; of what that lacks, of the publication.
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
        Architecture(
            name="AlexNet",
            builder="alexnet",
            px=227,
            min_px=39,
            preprocessing="caffe",
            n_features=256,
            blocks=_ALEXNET_BLOCKS,
            last="conv5",
            dense=("fc6", "fc7"),
            own=True,
            no_imagenet="give the path of a file with Caffe's; torchvision's fit the row AlexNet-torchvision",
        ),
        Architecture(
            name="AlexNet-torchvision",
            builder="alexnet_torchvision",
            px=224,
            min_px=63,
            preprocessing="torch",
            n_features=256,
            blocks=_ALEXNET_BLOCKS,
            last="conv5",
            dense=("fc6", "fc7"),
            own=True,
            no_imagenet=_CONVERTED,
        ),
        Architecture(
            name="GenderNet",
            builder="gendernet",
            px=227,
            min_px=35,
            # ASSUME the authors subtract the mean image of their faces, which is not published as three means
            preprocessing="caffe",
            n_features=384,
            blocks=(("conv1", "norm1"), ("conv2", "norm2"), ("conv3", "pool5"), ("fc6", "fc6"), ("fc7", "fc7")),
            last="conv3",
            dense=("fc6", "fc7"),
            own=True,
            no_imagenet="GenderNet has no public ImageNet source, its own is faces (Levi and Hassner 2015): give the "
            "path of a file",
        ),
        Architecture(
            name="GoogLeNet",
            builder="googlenet",
            px=224,
            min_px=31,
            preprocessing="caffe",
            n_features=1024,
            blocks=_GOOGLENET_BLOCKS,
            last="inception_5b",
            own=True,
            auxiliary=_GOOGLENET_AUXILIARY,
            no_imagenet="give the path of a file with Caffe's; torchvision's fit the row GoogLeNet-torchvision",
        ),
        Architecture(
            name="GoogLeNet-torchvision",
            builder="googlenet_torchvision",
            px=224,
            min_px=15,
            # torchvision turns its usual means and deviations into 0.5 and 0.5 before this network (transform_input)
            preprocessing="tf",
            n_features=1024,
            blocks=_GOOGLENET_BLOCKS,
            last="inception_5b",
            own=True,
            auxiliary=_GOOGLENET_AUXILIARY,
            no_imagenet=_CONVERTED,
        ),
        Architecture(
            name="KiefferCNN",
            builder="kieffer_cnn",
            px=224,
            min_px=16,
            preprocessing="unit",
            n_features=256,
            blocks=tuple((f"conv{k}", f"pool{k}") for k in range(1, 5)),
            last="conv4",
            own=True,
            no_imagenet="KiefferCNN was trained from scratch alone: take random, or give the path of a file",
        ),
        Architecture(
            name="JoyceCNN",
            builder="joyce_cnn",
            px=224,
            min_px=8,
            # ASSUME the paper does not say how grey values are scaled; 0 to 1 is usual where all weights are random
            preprocessing="unit",
            n_features=128,
            blocks=(*((f"conv{k}", f"dropout{k}") for k in range(1, 4)), ("fc1", "fc1")),
            last="conv3",
            dense=("fc1",),
            own=True,
            no_imagenet="JoyceCNN was trained from scratch alone: take random, or give the path of a file",
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
        If the file is refused or belongs to another network, the precision is unknown, or the preprocessing needs
        means of training tiles, which a network that is not trained has none of.
    """
    import keras

    if spec.needs_means:
        raise ValueError(
            f"{spec.title}: features of a network that is not trained have no training tiles, so rescale: legal are "
            f"network, unit; found {spec.rescale!r}"
        )
    base = _loaded(spec, weights_file=weights_file, seed=seed, precision=precision, initialisation=None)
    cut = keras.Model(base.input, [_cut_point(base, spec, name) for name in (spec.layer, *spec.layers)])
    tiles = keras.Input((spec.px, spec.px, 3), dtype="uint8", name="tiles")
    maps = cut(preprocess(tiles, spec.preprocessing))
    pooled = [_pooled(each) for each in (maps if isinstance(maps, (list, tuple)) else [maps])]
    return keras.Model(tiles, pooled, name=f"{spec.architecture.name.lower()}-features")


def _pooled(maps: Any) -> Any:
    """Return averages over the places of each map, or a dense layer's output as it is; float32."""
    import keras

    if len(maps.shape) == 4:
        # float32 whatever the precision of the maps: an average over a thousand places in float16 loses digits
        return keras.layers.GlobalAveragePooling2D(dtype="float32")(maps)
    return keras.ops.cast(maps, "float32")


def trunk(
    spec: NetworkSpec,
    *,
    weights_file: str | None = None,
    seed: int | None = None,
    precision: str = "float32",
    initialisation: Mapping[str, Any] | None = None,
    auxiliary: bool = False,
) -> Any:
    """Build what training begins from: the network up to ``spec.layer``, with its weights.

    Layers keep their architecture's names. ``spec.layers`` does not matter here.

    Parameters
    ----------
    spec : NetworkSpec
        What to build.
    weights_file : str, optional
        The file to load; None for random weights.
    seed : int, optional
        Of what is random: all weights where the network is untrained, those of auxiliary classifiers that the file
        has not, and the noise of dropout layers (0 where none is given). The weights of a random network are those
        that :func:`build` gives it with the same seed and no `initialisation`.
    precision : str
        ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    initialisation : dict, optional
        ``{"kind": ..., "deviation": ...}`` of the random weights, see :func:`draw_weights`; He's by default.
    auxiliary : bool
        Whether the architecture's auxiliary classifiers are built, those that begin at or below ``spec.layer``.

    Returns
    -------
    keras.Model
        Named ``trunk``, from preprocessed tiles, float32 of shape (n, px, px, 3), to the maps (n, height, width, maps)
        or the dense layer's output (n, units) of ``spec.layer``, in the precision's own dtype; with `auxiliary` to a
        list of that and, for each auxiliary classifier, the tensor (n, units) that its last dense layer takes.

    Raises
    ------
    ValueError
        If the file is refused or belongs to another network, the precision or the initialisation is unknown, a seed
        is missing, or there are no auxiliary classifiers below ``spec.layer``.
    """
    import keras

    below = _auxiliary_layers(spec) if auxiliary else ()
    if auxiliary and not below:
        having = ", ".join(name for name, row in ARCHITECTURES.items() if row.auxiliary)
        raise ValueError(
            f"{spec.title} has no auxiliary classifiers up to layer {spec.layer}; legal are architectures with some "
            f"({having}), cut at or above them"
        )
    base = _loaded(
        spec,
        weights_file=weights_file,
        seed=seed,
        precision=precision,
        initialisation=initialisation,
        auxiliary=auxiliary,
    )
    maps = _cut_point(base, spec, spec.layer)
    outputs = [maps, *(base.get_layer(layer).output for layer in below)] if auxiliary else maps
    return keras.Model(base.input, outputs, name="trunk")


def _auxiliary_layers(spec: NetworkSpec) -> tuple[str, ...]:
    """Return the Keras layers that the auxiliary classifiers' last dense layers take, of those up to ``spec.layer``."""
    names = spec.architecture.layers
    return tuple(layer for start, layer in spec.architecture.auxiliary if names.index(start) <= names.index(spec.layer))


def groups(trunk: Any, spec: NetworkSpec) -> dict[str, list[Any]]:
    """Return the layers of a trunk by the cut point that needs them first.

    Parameters
    ----------
    trunk : keras.Model
        As :func:`trunk` builds it, or that part of a trained network.
    spec : NetworkSpec
        What it was built from.

    Returns
    -------
    dict
        For each of :func:`group_names`, by depth, the layers that are needed up to that cut point and not for those
        below it, with and without weights, in order of depth. ``head`` follows, with the layers of the auxiliary
        classifiers, where the trunk has some.
    """
    import keras

    names = spec.architecture.layers
    cuts = names[: names.index(spec.layer) + 1]
    seen: set[str] = set()
    found: dict[str, list[Any]] = {}
    for name in (*cuts, HEAD):
        if name == HEAD:
            part = trunk
        else:
            # the last cut point is the trunk's own output: the layer after it, which names some, is not there
            part = keras.Model(trunk.input, trunk.outputs[0] if name == spec.layer else _cut_point(trunk, spec, name))
        found[name] = [
            layer for layer in part.layers if layer.name not in seen and not isinstance(layer, keras.layers.InputLayer)
        ]
        seen |= {layer.name for layer in found[name]}
    if not found[HEAD]:
        del found[HEAD]
    return found


def image_layers(spec: NetworkSpec, *, px_stored: int, means: Sequence[float] | None = None) -> Any:
    """Return the way from stored tiles to what a trunk takes, as a model to be put before it.

    Parameters
    ----------
    spec : NetworkSpec
        The network that training begins from.
    px_stored : int
        Edge of the tiles; where it is larger than ``spec.px``, their centre is taken. Of an odd difference the larger
        part is cut off below and to the right.
    means : sequence of 3 floats, optional
        Red, green and blue means of the training tiles, 0 to 255; needed where ``spec.rescale`` is ``training_mean``.

    Returns
    -------
    keras.Model
        Named ``image``, from uint8 of shape (n, px_stored, px_stored, 3) to float32 of shape (n, px, px, 3). It is of
        Keras' own operations alone, so a model with it is loaded in Keras' safe mode.

    Raises
    ------
    ValueError
        If the tiles are smaller than the network's input, or means are missing or not asked for.
    """
    import keras

    if px_stored < spec.px:
        raise ValueError(f"px: tiles for {spec.title} must have {spec.px} px at least; found {px_stored}")
    if spec.needs_means != (means is not None):
        legal = "3 means of the training tiles" if spec.needs_means else "none"
        raise ValueError(f"means: with rescale {spec.rescale} legal are {legal}; found {means!r}")
    tiles = keras.Input((px_stored, px_stored, 3), dtype="uint8", name="tiles")
    before, rest = divmod(px_stored - spec.px, 2)
    after = before + rest
    x = keras.layers.Cropping2D(((before, after), (before, after)), name="centre")(tiles) if after else tiles
    return keras.Model(tiles, preprocess(x, spec.preprocessing, means=means), name="image")


def load_trained(path: str | Path) -> Any:
    """Load a trained network, whole, in Keras' safe mode and without its optimizer.

    Parameters
    ----------
    path : path
        A ``.keras`` file.

    Returns
    -------
    keras.Model

    Raises
    ------
    ValueError
        If the file is no ``.keras`` file, is damaged, or has a lambda or a class that Keras does not know. The message
        names the file.
    OSError
        If the file is missing or cannot be read.
    """
    import keras

    from histotransfer import architectures, weights

    if weights.kind_of_file(path) != "keras" or Path(path).suffix != ".keras":
        raise ValueError(f"trained network {path}: legal is a .keras file of a whole network; found another form")
    try:
        return keras.models.load_model(path, custom_objects=architectures.LAYERS, compile=False, safe_mode=True)
    # a file of somebody's can fail in any class of error, and an error of any class must name it
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"trained network {path} is refused or damaged: {reason}") from error


def trained_features(model: Any, spec: NetworkSpec, *, names: Sequence[str], precision: str = "float32") -> Any:
    """Return the way from tiles to features of a trained network, all of them from one pass.

    Parameters
    ----------
    model : keras.Model
        As training leaves it: layers ``image``, ``trunk`` and, one after the other, those of the head. It is changed
        by a `precision` that is not its own.
    spec : NetworkSpec
        What training began from.
    names : sequence of str
        Cut points up to ``spec.layer``, and dense layers of the head (``head_1``, ...).
    precision : str
        ``float32``, ``mixed_bfloat16`` or ``mixed_float16``: of the trunk; all else is float32.

    Returns
    -------
    keras.Model
        From uint8 of shape (n, px, px, 3) to a list of float32 arrays (n, d), in the order of `names`: averages over
        the places of a map, or a dense layer's own output.

    Raises
    ------
    ValueError
        If it is no such network, lacks a layer, or the precision is unknown.
    """
    import keras

    if precision not in PRECISIONS:
        raise ValueError(f"precision: legal are {', '.join(PRECISIONS)}; found {precision!r}")
    found = [layer.name for layer in model.layers]
    if "image" not in found or "trunk" not in found:
        raise ValueError(f"a trained network has the layers image, trunk and a head; found {', '.join(found)}")
    image, trunk = model.get_layer("image"), model.get_layer("trunk")
    above = model.layers[found.index("trunk") + 1 :]
    cuts = spec.architecture.layers[: spec.architecture.layers.index(spec.layer) + 1]
    legal = [*cuts, *(layer.name for layer in above if layer.name.startswith(f"{HEAD}_"))]
    for name in names:
        if name not in legal:
            raise ValueError(
                f"layer: legal for {spec.title}, trained, with its head are {', '.join(legal)}; found {name!r}"
            )
    for layer in trunk.layers:
        layer.dtype_policy = keras.dtype_policies.DTypePolicy(precision)
    below = [name for name in names if name in cuts]
    taken = [trunk.outputs[0] if name == spec.layer else _cut_point(trunk, spec, name) for name in below]
    tiles = keras.Input(model.input_shape[1:], dtype="uint8", name="tiles")
    x, *maps = keras.Model(trunk.input, [trunk.outputs[0], *taken])(image(tiles))
    tensors = dict(zip(below, maps, strict=True))
    for layer in above:
        if tensors.keys() >= set(names):
            break
        x = layer(x)
        tensors[layer.name] = x
    return keras.Model(tiles, [_pooled(tensors[name]) for name in names], name="trained-features")


def _loaded(
    spec: NetworkSpec,
    *,
    weights_file: str | None,
    seed: int | None,
    precision: str,
    initialisation: Mapping[str, Any] | None,
    auxiliary: bool = False,
) -> Any:
    """Return the whole network with its weights."""
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
        base = _base(spec, seed=seed, auxiliary=auxiliary)
    finally:
        keras.config.set_dtype_policy(policy_before)
    # auxiliary classifiers come last, so that the other weights do not depend on whether they are built
    above = _above(base, spec) if auxiliary else []
    layers = [*(layer for layer in base.layers if layer not in above), *above]
    if spec.untrained:
        draw_weights(layers, seed=seed, initialisation=initialisation)
    else:
        left = weights.load(
            base,
            weights_file,
            network=spec.title,
            names_must_agree=spec.weights != "imagenet",
            may_lack=[layer.name for layer in above],
        )
        if left and seed is None:
            raise ValueError(
                f"{spec.title}: {weights_file} lacks the auxiliary classifiers, whose random weights need a seed; "
                "found None"
            )
        if left:
            draw_weights(above, seed=seed, initialisation=initialisation)
    return base


def _above(base: Any, spec: NetworkSpec) -> list[Any]:
    """Return the layers of a whole network that belong to its auxiliary classifiers."""
    import keras

    names = [
        layer.name for layer in keras.Model(base.input, _cut_point(base, spec, spec.architecture.layers[-1])).layers
    ]
    return [layer for layer in base.layers if layer.name not in names]


def _base(spec: NetworkSpec, *, seed: int | None = None, auxiliary: bool = False) -> Any:
    """Return the network of ``keras.applications``, or of :mod:`architectures`, without weights of anybody's."""
    import keras

    row = spec.architecture
    if row.own:
        from histotransfer import architectures

        return architectures.BUILDERS[row.builder](
            px=spec.px, include_top=spec.include_top, auxiliary=auxiliary, seed=seed or 0
        )
    arguments = {"weights": None, "include_top": spec.include_top, "input_shape": (spec.px, spec.px, 3)}
    if row.has_alpha:
        arguments["alpha"] = spec.alpha
    return getattr(keras.applications, row.builder)(**arguments)


def draw_weights(layers: Iterable[Any], *, seed: int, initialisation: Mapping[str, Any] | None = None) -> None:
    """Give every kernel of new layers random weights; biases (0) and batch normalisation stay as Keras begins them.

    The weights are drawn by NumPy, one layer after the other, so they are the same on every backend.

    Parameters
    ----------
    layers : iterable of keras.Layer
        Built layers, in the order of drawing; those without kernels are passed over.
    seed : int
        Of the generator.
    initialisation : dict, optional
        ``kind``, with n inputs and m outputs of a unit (a convolution's over its whole window; a depthwise one's of
        one map):

        - ``he`` (default): normal, of deviation sqrt(2 / n) (He et al. 2015, equation 10);
        - ``glorot``: uniform within +-sqrt(6 / (n + m)) (Glorot and Bengio 2010, equation 16);
        - ``xavier``: as Caffe has it, uniform within +-sqrt(3 / n) (Jia et al. 2014, ``XavierFiller``);
        - ``gaussian``: normal, of the ``deviation`` given, or of 0.01.

    Raises
    ------
    ValueError
        If the kind is unknown, or a deviation is not above 0 or given to another kind.
    """
    # ASSUME an untrained network begins with He's weights, not with Keras' default (Glorot), which takes a depthwise
    # kernel for a full one: MobileNetV2's features would be of the order of 1e-11, less than trees and float16 can tell
    import numpy as np

    kind, deviation = _initialisation(initialisation)
    generator = np.random.default_rng(seed)
    for layer in layers:
        values = layer.get_weights()
        for k, value in enumerate(values):
            if value.ndim > 1:
                per_map = type(layer).__name__ == "DepthwiseConv2D"
                window = int(np.prod(value.shape[:2])) if value.ndim == 4 else 1
                inputs = int(np.prod(value.shape[:2] if per_map else value.shape[:-1]))
                outputs = window * value.shape[-1]
                if kind in ("he", "gaussian"):
                    size = np.sqrt(2 / inputs) if kind == "he" else deviation
                    drawn = generator.standard_normal(value.shape, np.float32)
                else:
                    size = np.sqrt(3 / inputs if kind == "xavier" else 6 / (inputs + outputs))
                    drawn = 2 * generator.random(value.shape, np.float32) - 1
                values[k] = drawn * np.float32(size)
        if values:
            layer.set_weights(values)


def _initialisation(given: Mapping[str, Any] | None) -> tuple[str, float]:
    """Return the kind and, for Gaussian weights, the deviation."""
    given = given or {"kind": "he"}
    kind, deviation = given.get("kind"), given.get("deviation")
    if kind not in INITIALISATIONS:
        raise ValueError(f"initialisation.kind: legal are {', '.join(INITIALISATIONS)}; found {kind!r}")
    if deviation is not None and kind != "gaussian":
        raise ValueError(f"initialisation.deviation: legal with gaussian alone; found {deviation!r} with {kind}")
    if deviation is not None and not deviation > 0:
        raise ValueError(f"initialisation.deviation: legal are numbers above 0; found {deviation!r}")
    return kind, GAUSSIAN_DEVIATION if deviation is None else float(deviation)


def _cut_point(base: Any, spec: NetworkSpec, name: str) -> Any:
    layer = dict(spec.architecture.blocks)[name]
    return base.get_layer(layer[1:]).input if layer.startswith(">") else base.get_layer(layer).output


def preprocess(tiles: Any, mode: str, means: Sequence[float] | None = None) -> Any:
    """Turn grey values into what a network was trained on, with ``keras.ops``.

    Parameters
    ----------
    tiles : tensor of shape (n, px, px, 3), RGB, values from 0 to 255
        An array or a symbolic tensor, of any dtype.
    mode : str
        ``caffe``, ``tf`` or ``torch``, as ``keras.applications.imagenet_utils.preprocess_input`` has them, or
        ``unit``: from 0 to 1.
    means : sequence of 3 floats, optional
        Red, green and blue, from 0 to 255: subtracted in place of the mode's own (127.5 of ``tf``, 0 of ``unit``).
        Scale and order of the channels stay the mode's.

    Returns
    -------
    tensor of the same shape, float32
    """
    import numpy as np
    from keras import ops

    x = ops.cast(tiles, "float32")
    if means is not None:
        x = ops.subtract(x, np.asarray(means, dtype="float32"))
    if mode == "tf":
        x = ops.divide(x, 127.5)
        return ops.subtract(x, 1.0) if means is None else x
    if mode == "unit":
        return ops.divide(x, 255.0)
    if mode == "caffe":
        x = ops.flip(x, axis=-1)
        return ops.subtract(x, np.array([103.939, 116.779, 123.68], dtype="float32")) if means is None else x
    if mode == "torch":
        x = ops.divide(x, 255.0)
        if means is None:
            x = ops.subtract(x, np.array([0.485, 0.456, 0.406], dtype="float32"))
        return ops.divide(x, np.array([0.229, 0.224, 0.225], dtype="float32"))
    raise ValueError(f"preprocessing: legal are caffe, tf, torch and unit; found {mode!r}")
