"""Networks that ``keras.applications`` lacks, built of Keras layers.

Importing this module imports Keras: it is imported where a network is built, and the table of networks
(:data:`histotransfer.networks.table.ARCHITECTURES`) is asked without it. Layers carry fixed names, by which weights
files are read. Networks are built without a classifier: dense layers end with the last but one.

References
----------
Krizhevsky, Sutskever and Hinton (2012). ImageNet classification with deep convolutional neural networks. NIPS.
Jia et al. (2014). Caffe: convolutional architecture for fast feature embedding. arXiv:1408.5093.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from histotransfer import seeds


@keras.saving.register_keras_serializable(package="histotransfer")
class LocalResponseNormalization(layers.Layer):
    """Local response normalisation across maps (Krizhevsky et al. 2012, section 3.3), with Caffe's constants.

    ``y_i = x_i / (k + alpha / size * sum of x_j^2 over the `size` maps around i) ** beta``; maps beyond the first and
    the last count as 0. Krizhevsky et al. print alpha without the division by the number of maps and k = 2; Caffe
    divides (``LRNLayer``), and has k = 1 where a network's definition says nothing.

    Parameters
    ----------
    size : int
        Number of maps, odd.
    alpha, beta, k : float

    Raises
    ------
    ValueError
        If `size` is not an odd number of at least 1.
    """

    def __init__(
        self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size: legal are odd integers of at least 1; found {size!r}")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def call(self, inputs: Any) -> Any:
        """Return maps of shape (n, height, width, maps), of the inputs' dtype."""
        # squares of float16 run over at 256
        x = ops.cast(inputs, "float32")
        n, half = x.shape[-1], self.size // 2
        squares = ops.pad(ops.square(x), ((0, 0), (0, 0), (0, 0), (half, half)))
        around = sum(squares[..., shift : shift + n] for shift in range(self.size))
        return ops.cast(x * ops.power(self.k + self.alpha / self.size * around, -self.beta), inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of what enters."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is built from."""
        return {**super().get_config(), "size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}


#: Layers of this package in networks that are saved, by the name under which a ``.keras`` file has them.
LAYERS = {"histotransfer>LocalResponseNormalization": LocalResponseNormalization}


def _same_convolution(x: Any, maps: int, size: int, name: str) -> Any:
    """Return a convolution of stride 1 with a ReLU, whose maps are as large as what enters."""
    return layers.Conv2D(maps, size, padding="same", activation="relu", name=name)(x)


def _ceil_max_pooling(x: Any, size: int, stride: int, name: str) -> Any:
    """Return the maxima over windows that may reach over the lower and right border, as Caffe rounds up.

    Caffe's height is ceil((height - size) / stride) + 1, where Keras' is rounded down. What enters must not be
    negative, since the border is filled with zeros.
    """
    missing = [-(edge - size) % stride for edge in x.shape[1:3]]
    if any(missing):
        x = layers.ZeroPadding2D(((0, missing[0]), (0, missing[1])), name=f"{name}_border")(x)
    return layers.MaxPooling2D(size, stride, name=name)(x)


def _halves(x: Any, maps: int, size: int, name: str) -> Any:
    """Return a convolution in two groups, each on its half of the maps, with a ReLU.

    As two convolutions: TensorFlow has no gradient of grouped ones on a CPU.
    """
    first, second = ops.split(x, 2, axis=-1)
    return layers.Concatenate(name=name)(
        [
            _same_convolution(first, maps // 2, size, f"{name}_a"),
            _same_convolution(second, maps // 2, size, f"{name}_b"),
        ]
    )


def _dropout(x: Any, rate: float, seed: int, name: str) -> Any:
    return layers.Dropout(rate, seed=seeds.integer(seed, "dropout", name), name=name)(x)


def _dense_with_dropout(x: Any, names: tuple[str, ...], units: int, seed: int) -> Any:
    """Return dense layers with ReLUs and a dropout of 0.5 before each but the first; the last one's is the head's."""
    x = layers.Flatten(name="flatten")(x)
    for number, name in enumerate(names):
        x = layers.Dense(units, activation="relu", name=name)(
            x if not number else _dropout(x, 0.5, seed, f"{name}_dropout")
        )
    return x


def alexnet(*, px: int, include_top: bool, auxiliary: bool, seed: int) -> keras.Model:
    """Build AlexNet (Krizhevsky et al. 2012) as Caffe has it (``bvlc_alexnet``), in two groups and for 227 px.

    Parameters
    ----------
    px : int
        Edge of the input.
    include_top : bool
        Whether the dense layers are built.
    auxiliary : bool
        Whether auxiliary classifiers are built; this network has none.
    seed : int
        Of the dropout layers' noise.

    Returns
    -------
    keras.Model
        From float32 of shape (n, px, px, 3) to the last layer.
    """
    image = x = keras.Input((px, px, 3), name="image")
    x = layers.Conv2D(96, 11, strides=4, activation="relu", name="conv1")(x)
    x = LocalResponseNormalization(name="norm1")(x)
    x = _ceil_max_pooling(x, 3, 2, "pool1")
    x = _halves(x, 256, 5, "conv2")
    x = LocalResponseNormalization(name="norm2")(x)
    x = _ceil_max_pooling(x, 3, 2, "pool2")
    x = _same_convolution(x, 384, 3, "conv3")
    x = _halves(x, 384, 3, "conv4")
    x = _halves(x, 256, 3, "conv5")
    x = _ceil_max_pooling(x, 3, 2, "pool5")
    if include_top:
        x = _dense_with_dropout(x, ("fc6", "fc7"), 4096, seed)
    return keras.Model(image, x, name="alexnet")


def alexnet_torchvision(*, px: int, include_top: bool, auxiliary: bool, seed: int) -> keras.Model:
    """Build torchvision's AlexNet: one tower, fewer maps, no normalisation layers (Krizhevsky 2014, arXiv:1404.5997).

    Parameters and result are those of :func:`alexnet`.
    """
    image = x = keras.Input((px, px, 3), name="image")
    x = layers.ZeroPadding2D(2, name="conv1_border")(x)
    x = layers.Conv2D(64, 11, strides=4, activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = _same_convolution(x, 192, 5, "conv2")
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = _same_convolution(x, 384, 3, "conv3")
    x = _same_convolution(x, 256, 3, "conv4")
    x = _same_convolution(x, 256, 3, "conv5")
    x = layers.MaxPooling2D(3, 2, name="pool5")(x)
    if include_top:
        x = _dropout(x, 0.5, seed, "fc6_dropout")
        x = _dense_with_dropout(x, ("fc6", "fc7"), 4096, seed)
    return keras.Model(image, x, name="alexnet-torchvision")


def gendernet(*, px: int, include_top: bool, auxiliary: bool, seed: int) -> keras.Model:
    """Build the network of Levi and Hassner (2015), three convolutions and two dense layers, as their Caffe files say.

    Parameters and result are those of :func:`alexnet`.
    """
    image = x = keras.Input((px, px, 3), name="image")
    x = layers.Conv2D(96, 7, strides=4, activation="relu", name="conv1")(x)
    x = _ceil_max_pooling(x, 3, 2, "pool1")
    x = LocalResponseNormalization(name="norm1")(x)
    x = _same_convolution(x, 256, 5, "conv2")
    x = _ceil_max_pooling(x, 3, 2, "pool2")
    x = LocalResponseNormalization(name="norm2")(x)
    x = _same_convolution(x, 384, 3, "conv3")
    x = _ceil_max_pooling(x, 3, 2, "pool5")
    if include_top:
        x = _dense_with_dropout(x, ("fc6", "fc7"), 512, seed)
    return keras.Model(image, x, name="gendernet")


#: Inception blocks (Szegedy et al. 2015, table 1): maps of the 1x1 convolution; before and of the 3x3; before and of
#: the 5x5; after the pooling.
_INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
#: Blocks that an auxiliary classifier begins at, with its number.
_AUXILIARY = {"4a": 1, "4d": 2}


def _normalised_convolution(x: Any, maps: int, size: int, name: str, *, stride: int = 1) -> Any:
    """Return torchvision's ``BasicConv2d``: convolution without biases, batch normalisation, ReLU."""
    if stride > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_border")(x)
    padding = "valid" if stride > 1 else "same"
    x = layers.Conv2D(maps, size, strides=stride, padding=padding, use_bias=False, name=f"{name}_conv")(x)
    # torch's momentum of 0.1 is the share of the new value, Keras' that of the old one
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(name=name)(x)


def _inception(x: Any, name: str, convolution: Any, widest: int) -> Any:
    """Return an Inception block; `widest` is the window of the branch that the paper has 5x5."""
    one, before_three, three, before_five, five, pooled = _INCEPTION[name]
    name = f"inception_{name}"
    branches = [
        convolution(x, one, 1, f"{name}_1x1"),
        convolution(convolution(x, before_three, 1, f"{name}_3x3_reduce"), three, 3, f"{name}_3x3"),
        convolution(convolution(x, before_five, 1, f"{name}_5x5_reduce"), five, widest, f"{name}_5x5"),
        convolution(layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x), pooled, 1, f"{name}_pool_proj"),
    ]
    return layers.Concatenate(name=name)(branches)


def _auxiliary_classifier(pooled: Any, number: int, convolution: Any, seed: int) -> Any:
    """Return an auxiliary classifier up to what its last dense layer takes: 1x1, dense 1024, dropout of 0.7."""
    name = f"loss{number}"
    x = layers.Flatten(name=f"{name}_flatten")(convolution(pooled, 128, 1, f"{name}_1x1"))
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    return _dropout(x, 0.7, seed, f"{name}_dropout")


def _inception_blocks(
    x: Any, convolution: Any, *, widest: int, last_pool: int, auxiliary_pool: Any, seed: int
) -> list[Any]:
    """Return the last maps of GoogLeNet, and what its auxiliary classifiers end in where they have a pooling."""
    ends = []
    for name in _INCEPTION:
        x = _inception(x, name, convolution, widest)
        if name == "3b":
            x = _ceil_max_pooling(x, 3, 2, "pool3")
        if name == "4e":
            x = _ceil_max_pooling(x, last_pool, 2, "pool4")
        if auxiliary_pool and name in _AUXILIARY:
            number = _AUXILIARY[name]
            ends.append(_auxiliary_classifier(auxiliary_pool(x, f"loss{number}_pool"), number, convolution, seed))
    return [x, *ends]


def _fives(x: Any, name: str) -> Any:
    """Return averages over windows of 5x5 every 3 places, of which 14x14 maps (an input of 224 px) have 4x4."""
    # ASSUME maps of less than 5x5, which only smaller inputs have, are averaged as a whole
    return layers.AveragePooling2D(min(5, *x.shape[1:3]), 3, name=name)(x)


def _four_by_four(x: Any, name: str) -> Any:
    """Return averages over 4x4 parts of the maps, whatever their size, as torchvision has them."""
    # ASSUME maps of 4x4 and less, which only smaller inputs have, are left as they are; torchvision repeats places
    return layers.AdaptiveAveragePooling2D(4, name=name)(x) if min(x.shape[1:3]) > 4 else layers.Identity(name=name)(x)


def googlenet(*, px: int, include_top: bool, auxiliary: bool, seed: int) -> keras.Model:
    """Build GoogLeNet (Szegedy et al. 2015) as Caffe has it (``bvlc_googlenet``).

    Parameters are those of :func:`alexnet`.

    Returns
    -------
    keras.Model
        From float32 of shape (n, px, px, 3) to the last maps; with `auxiliary` to a list of these and of the tensors
        (n, 1024) that the two auxiliary classifiers' last dense layers take.
    """
    image = x = keras.Input((px, px, 3), name="image")
    x = layers.ZeroPadding2D(3, name="conv1_border")(x)
    x = layers.Conv2D(64, 7, strides=2, activation="relu", name="conv1")(x)
    x = _ceil_max_pooling(x, 3, 2, "pool1")
    x = LocalResponseNormalization(name="norm1")(x)
    x = _same_convolution(x, 64, 1, "conv2_reduce")
    x = _same_convolution(x, 192, 3, "conv2")
    x = LocalResponseNormalization(name="norm2")(x)
    x = _ceil_max_pooling(x, 3, 2, "pool2")
    pool = _fives if auxiliary else None
    outputs = _inception_blocks(x, _same_convolution, widest=5, last_pool=3, auxiliary_pool=pool, seed=seed)
    return keras.Model(image, outputs if auxiliary else outputs[0], name="googlenet")


def googlenet_torchvision(*, px: int, include_top: bool, auxiliary: bool, seed: int) -> keras.Model:
    """Build torchvision's GoogLeNet: batch normalisation, 3x3 convolutions where the paper has 5x5.

    Parameters are those of :func:`alexnet`, the result is that of :func:`googlenet`.
    """
    image = x = keras.Input((px, px, 3), name="image")
    x = _normalised_convolution(x, 64, 7, "conv1", stride=2)
    x = _ceil_max_pooling(x, 3, 2, "pool1")
    x = _normalised_convolution(x, 64, 1, "conv2_reduce")
    x = _normalised_convolution(x, 192, 3, "conv2")
    x = _ceil_max_pooling(x, 3, 2, "pool2")
    pool = _four_by_four if auxiliary else None
    outputs = _inception_blocks(x, _normalised_convolution, widest=3, last_pool=2, auxiliary_pool=pool, seed=seed)
    return keras.Model(image, outputs if auxiliary else outputs[0], name="googlenet-torchvision")


def _plain(maps: tuple[int, ...], *, px: int, dropout: float, seed: int) -> tuple[Any, Any]:
    """Return the input and the last maps of 3x3 convolutions, each with 2x2 maxima and, as asked, dropout."""
    image = x = keras.Input((px, px, 3), name="image")
    for number, n in enumerate(maps, start=1):
        x = _same_convolution(x, n, 3, f"conv{number}")
        x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
        if dropout:
            x = _dropout(x, dropout, seed, f"dropout{number}")
    return image, x


def kieffer_cnn(*, px: int, include_top: bool, auxiliary: bool, seed: int) -> keras.Model:
    """Build the network for CNN_1 of Kieffer et al. (2017): 3x3 convolutions with 32, 64, 128 and 256 maps.

    Parameters and result are those of :func:`alexnet`; there are no dense layers.
    """
    # ASSUME the paper quotes CNN_1 from its reference 17 and says no more than "trained from scratch": a small network
    # whose field of view at the end is 46 px, with averages and the head of the paper's other networks on top
    image, x = _plain((32, 64, 128, 256), px=px, dropout=0.0, seed=seed)
    return keras.Model(image, x, name="kieffer-cnn")


def joyce_cnn(*, px: int, include_top: bool, auxiliary: bool, seed: int) -> keras.Model:
    """Build the custom CNN of Joyce (2024, section 2.2): three 3x3 convolutions with maxima and dropout, dense 128.

    Parameters and result are those of :func:`alexnet`. The dropout of 0.5 after the dense layer is the head's.
    """
    # ASSUME the paper says neither the numbers of maps nor the rate of the dropout between convolutions
    image, x = _plain((32, 64, 128), px=px, dropout=0.25, seed=seed)
    if include_top:
        x = _dense_with_dropout(x, ("fc1",), 128, seed)
    return keras.Model(image, x, name="joyce-cnn")


#: Builders by the name that the table of networks has them under.
BUILDERS = {
    "alexnet": alexnet,
    "alexnet_torchvision": alexnet_torchvision,
    "gendernet": gendernet,
    "googlenet": googlenet,
    "googlenet_torchvision": googlenet_torchvision,
    "kieffer_cnn": kieffer_cnn,
    "joyce_cnn": joyce_cnn,
}
