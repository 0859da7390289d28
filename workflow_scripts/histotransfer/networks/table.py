"""The table of networks: one row an architecture, with its blocks, cut points and sizes.

Imports no Keras, so that a workflow can be planned from it. Adding a network is one row of :data:`ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes
    ----------
    name : str
        As the config says it.
    builder : str
        The function of ``keras.applications``, or where `own` of :mod:`histotransfer.networks.architectures`.
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
    return row_of(name).layers


def row_of(name: Any) -> Architecture:
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture: legal are {', '.join(ARCHITECTURES)}; found {name!r}")
    return ARCHITECTURES[name]
