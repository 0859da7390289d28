"""From a row of the table of architectures to a Keras model: the network with its weights and preprocessing.

Importing this module imports no Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from histotransfer.definitions import Initialisation
from histotransfer.networks.random_weights import draw_weights
from histotransfer.networks.specification import PRECISIONS, NetworkSpec
from histotransfer.networks.table import ARCHITECTURES


def build(
    spec: NetworkSpec, *, weights_file: str | None = None, seed: int | None = None, precision: str = "float32"
) -> Any:
    """Build the network with its weights and its preprocessing inside.

    Parameters
    ----------
    spec : NetworkSpec
        What to build.
    weights_file : str, optional
        The file to load, checked before use (see :mod:`histotransfer.networks.weights`); None for random weights.
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
    cut = keras.Model(base.input, [cut_point(base, spec, name) for name in (spec.layer, *spec.layers)])
    tiles = keras.Input((spec.px, spec.px, 3), dtype="uint8", name="tiles")
    maps = cut(preprocess(tiles, spec.preprocessing))
    pooled = [pooled_maps(each) for each in (maps if isinstance(maps, (list, tuple)) else [maps])]
    return keras.Model(tiles, pooled, name=f"{spec.architecture.name.lower()}-features")


def pooled_maps(maps: Any) -> Any:
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
    initialisation: Initialisation | None = None,
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
    initialisation : Initialisation, optional
        Of the random weights, see :func:`draw_weights`; He's by default.
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

    below = auxiliary_layers(spec) if auxiliary else ()
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
    maps = cut_point(base, spec, spec.layer)
    outputs = [maps, *(base.get_layer(layer).output for layer in below)] if auxiliary else maps
    return keras.Model(base.input, outputs, name="trunk")


def auxiliary_layers(spec: NetworkSpec) -> tuple[str, ...]:
    """Return the names of the layers that the auxiliary classifiers' last dense layers take, up to ``spec.layer``."""
    names = spec.architecture.layers
    return tuple(layer for start, layer in spec.architecture.auxiliary if names.index(start) <= names.index(spec.layer))


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


def _loaded(
    spec: NetworkSpec,
    *,
    weights_file: str | None,
    seed: int | None,
    precision: str,
    initialisation: Initialisation | None,
    auxiliary: bool = False,
) -> Any:
    """Return the whole network with its weights."""
    import keras

    from histotransfer.networks import weights

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
        layer.name for layer in keras.Model(base.input, cut_point(base, spec, spec.architecture.layers[-1])).layers
    ]
    return [layer for layer in base.layers if layer.name not in names]


def _base(spec: NetworkSpec, *, seed: int | None = None, auxiliary: bool = False) -> Any:
    """Return the network of ``keras.applications``, or of :mod:`architectures`, with the weights that Keras draws."""
    import keras

    row = spec.architecture
    if row.own:
        from histotransfer.networks import architectures

        return architectures.BUILDERS[row.builder](
            px=spec.px, include_top=spec.include_top, auxiliary=auxiliary, seed=seed or 0
        )
    arguments = {"weights": None, "include_top": spec.include_top, "input_shape": (spec.px, spec.px, 3)}
    if row.has_alpha:
        arguments["alpha"] = spec.alpha
    return getattr(keras.applications, row.builder)(**arguments)


def cut_point(base: Any, spec: NetworkSpec, name: str) -> Any:
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
