"""Networks that a study has trained: loaded from their file, and features of their layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from histotransfer.networks.building import cut_point, pooled_maps
from histotransfer.networks.groups import HEAD
from histotransfer.networks.specification import PRECISIONS, NetworkSpec


def groups(trunk: Any, spec: NetworkSpec) -> dict[str, list[Any]]:
    """Return the layers of a trunk by the cut point that needs them first.

    Parameters
    ----------
    trunk : keras.Model
        As :func:`histotransfer.networks.building.trunk` builds it, or that part of a trained network.
    spec : NetworkSpec
        What it was built from.

    Returns
    -------
    dict
        For each of :attr:`NetworkSpec.group_names`, by depth, the layers that are needed up to that cut point and not
        for those below it, with and without weights, in order of depth. ``head`` follows, with the layers of the
        auxiliary classifiers, where the trunk has some.
    """
    import keras

    cuts = spec.group_names
    seen: set[str] = set()
    found: dict[str, list[Any]] = {}
    for name in (*cuts, HEAD):
        if name == HEAD:
            part = trunk
        else:
            # the last cut point is the trunk's own output: the layer after it, which names some, is not there
            part = keras.Model(trunk.input, trunk.outputs[0] if name == spec.layer else cut_point(trunk, spec, name))
        found[name] = [
            layer for layer in part.layers if layer.name not in seen and not isinstance(layer, keras.layers.InputLayer)
        ]
        seen |= {layer.name for layer in found[name]}
    if not found[HEAD]:
        del found[HEAD]
    return found


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

    from histotransfer.networks import architectures, weights

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
    cuts = spec.group_names
    legal = [*cuts, *(layer.name for layer in above if layer.name.startswith(f"{HEAD}_"))]
    for name in names:
        if name not in legal:
            raise ValueError(
                f"layer: legal for {spec.title}, trained, with its head are {', '.join(legal)}; found {name!r}"
            )
    for layer in trunk.layers:
        layer.dtype_policy = keras.dtype_policies.DTypePolicy(precision)
    below = [name for name in names if name in cuts]
    taken = [trunk.outputs[0] if name == spec.layer else cut_point(trunk, spec, name) for name in below]
    tiles = keras.Input(model.input_shape[1:], dtype="uint8", name="tiles")
    x, *maps = keras.Model(trunk.input, [trunk.outputs[0], *taken])(image(tiles))
    tensors = dict(zip(below, maps, strict=True))
    for layer in above:
        if tensors.keys() >= set(names):
            break
        x = layer(x)
        tensors[layer.name] = x
    return keras.Model(tiles, [pooled_maps(tensors[name]) for name in names], name="trained-features")
