"""Weights files: which are legal, whether one belongs to a network, and how it gets into it.

A file is read by what it is, never by its name, and before anything of it is used: pickles are refused unread, since
a pickle runs code when it is opened; of a ``.keras`` file the arrays are read and nothing in it is brought to life,
which is stricter than Keras' safe mode. Layer names and shapes are compared with the network's before any is set.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import itertools
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import provenance
from histotransfer.networks.specification import NetworkSpec

LEGAL = "legal are HDF5 files that Keras wrote (.h5, .weights.h5) and .keras files"
#: Layers above the last maps; a file may have them though the network is built without.
TOP_LAYERS = frozenset({"fc1", "fc2", "predictions", "conv_preds"})

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_KERAS_MEMBERS = {"config.json", "model.weights.h5"}


@dataclass(frozen=True)
class LayerWeights:
    """One layer's weights: in a file (HDF5 datasets) or in a model (its variables).

    Attributes
    ----------
    name : str
        The layer's name.
    kind : str
        Its class in snake case and a number counted in the network's order (``conv2d_4``), which is how Keras 3
        files it; empty in older files, which go by name and order.
    arrays : tuple
        With ``shape``, in the layer's own order.
    """

    name: str
    kind: str
    arrays: tuple[Any, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the arrays."""
        return tuple(tuple(array.shape) for array in self.arrays)


def load(
    base: Any, path: str | Path, *, network: str, names_must_agree: bool = True, may_lack: Sequence[str] = ()
) -> list[str]:
    """Put the weights of a file into a network, once all of them are known to fit.

    Parameters
    ----------
    base : keras.Model
        The network of ``keras.applications``.
    path : path
        The file.
    network : str
        The network in words, for messages.
    names_must_agree : bool
        False for the files that Keras itself publishes for this network: those go by order and shape, as Keras
        loads them, since some carry layer names of older versions.
    may_lack : sequence of str
        Layers that are left as they are if the file has none of them.

    Returns
    -------
    list of str
        The layers that were left as they are.

    Raises
    ------
    ValueError
        If the file is a pickle or no weights file, is damaged, or belongs to another network. The message names the
        file, the network and what differs.
    OSError
        If the file is missing or cannot be read.
    """
    layers = [layer for layer in base.layers if layer.weights]
    with _opened(path) as file:
        stored = _stored_layers(file)
        in_file = {_plain(layer.name) for layers_of_network in stored for layer in layers_of_network}
        left = [layer.name for layer in layers if layer.name in may_lack]
        if in_file.isdisjoint(map(_plain, left)):
            layers = [layer for layer in layers if layer.name not in left]
        else:
            left = []
        wanted = _of_model(layers)
        chosen, differences = _match(wanted, stored, names_must_agree=names_must_agree)
        if differences:
            raise ValueError(
                f"weights file {path} is not of {network}, which was asked for: {'; '.join(differences[:3])}"
                + (f"; and {len(differences) - 3} more differences" if len(differences) > 3 else "")
            )
        for layer, weights in zip(layers, chosen, strict=True):
            layer.set_weights([np.asarray(array) for array in weights.arrays])
    return left


def arrays_sha256(path: str | Path) -> str:
    """Return the SHA-256 of the weights in a file: places, shapes and numbers, without states of random generators.

    Two files of one network with the same weights have the same, whatever else Keras writes with them (times, names
    that it makes up).

    Raises
    ------
    ValueError
        If the file is a pickle or no weights file, or is damaged.
    OSError
        If the file is missing or cannot be read.
    """
    digest = hashlib.sha256()
    with _opened(path) as file:
        names: list[str] = []
        file.visit(names.append)
        for name in sorted(names):
            parts = name.split("/")
            if not hasattr(file[name], "shape") or {"seed_generator", "optimizer"} & set(parts):
                continue
            array = np.ascontiguousarray(_dataset(file, name))
            digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """Give the HDF5 file that holds the weights, which in a ``.keras`` file is a member."""
    import h5py

    kind = kind_of_file(path)
    try:
        if kind == "keras":
            with zipfile.ZipFile(path) as archive:
                source: Any = io.BytesIO(archive.read("model.weights.h5"))
        else:
            source = path
        file = h5py.File(source, "r")
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"weights file {path} is damaged or incomplete: {reason}") from error
    with file:
        try:
            yield file
        except (OSError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"weights file {path} is damaged or incomplete: {reason}") from error


def kind_of_file(path: str | Path) -> str:
    """Return ``hdf5`` or ``keras``, from the file's first bytes and, for an archive, the names of its members.

    Raises
    ------
    ValueError
        If it is neither; a pickle, or an archive with one, is named as such. Nothing in it is opened.
    OSError
        If the file is missing or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist")
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(_HDF5):
        return "hdf5"
    if start.startswith(_ZIP):
        try:
            with zipfile.ZipFile(path) as archive:
                members = set(archive.namelist())
        except zipfile.BadZipFile as error:
            raise ValueError(f"weights file {path} is damaged or incomplete: {error}") from error
        if members >= _KERAS_MEMBERS:
            return "keras"
        pickles = sorted(name for name in members if name.endswith((".pkl", ".pickle")))
        if pickles:
            raise ValueError(
                f"weights file {path} is an archive with a pickle, as PyTorch writes them; pickles are refused unread, "
                f"since opening one runs its code; {LEGAL}; found {pickles[0]}"
            )
        raise ValueError(f"weights file {path} is an archive without Keras' weights; {LEGAL}; found {_some(members)}")
    if len(start) >= 2 and start[0] == 0x80 and 2 <= start[1] <= 5:
        raise ValueError(
            f"weights file {path} is a pickle; pickles are refused unread, since opening one runs its code; {LEGAL}"
        )
    found = "an empty file" if not start else f"the first bytes {start.hex(' ')}"
    raise ValueError(f"weights file {path} is no weights file; {LEGAL}; found {found}")


def _some(names: Sequence[str] | set[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _of_model(layers: Sequence[Any]) -> list[LayerWeights]:
    counts: dict[str, int] = {}
    weights = []
    for layer in layers:
        stem = _snake_case(type(layer).__name__)
        number = counts.get(stem, 0)
        counts[stem] = number + 1
        kind = f"{stem}_{number}" if number else stem
        weights.append(LayerWeights(layer.name, kind, tuple(layer.weights)))
    return weights


def _snake_case(name: str) -> str:
    """Return a class name as Keras 3 files it: ``BatchNormalization`` as ``batch_normalization``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _stored_layers(file: Any) -> list[list[LayerWeights]]:
    """Return the layers with weights of each network in the file, outermost first."""
    root = file.get("model_weights", file)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        return [_legacy_layers(root)]
    networks = []

    def visit(name: str, node: Any) -> None:
        if name.split("/")[-1] == "layers" and hasattr(node, "keys"):
            networks.append(_keras3_layers(node))

    file.visititems(visit)
    return networks


def _legacy_layers(root: Any) -> list[LayerWeights]:
    layers = []
    for name in _texts(root, "layer_names"):
        arrays = tuple(_dataset(root[name], weight) for weight in _texts(root[name], "weight_names"))
        if arrays:
            layers.append(LayerWeights(name, "", arrays))
    return layers


def _keras3_layers(group: Any) -> list[LayerWeights]:
    layers = []
    for kind in group:
        variables = group[kind].get("vars") if hasattr(group[kind], "keys") else None
        if variables is not None and len(variables):
            arrays = tuple(_dataset(variables, number) for number in sorted(variables, key=int))
            layers.append(LayerWeights(str(variables.attrs.get("name", kind)), kind, arrays))
    return layers


def _texts(node: Any, name: str) -> list[str]:
    """Read a list of names, which Keras splits over attributes ``name0``, ``name1``, ... where it is long."""
    pieces = itertools.takewhile(node.attrs.__contains__, (f"{name}{number}" for number in itertools.count()))
    keys = [name] if name in node.attrs else list(pieces)
    texts = [text for key in keys for text in node.attrs[key]]
    return [text.decode("utf-8") if isinstance(text, bytes) else str(text) for text in texts]


def _dataset(group: Any, name: str) -> Any:
    dataset = group[name]
    if dataset.dtype.kind not in "fiu" or dataset.external or dataset.is_virtual:
        raise ValueError(
            f"weights file {group.file.filename}: {dataset.name} is no array of numbers within the file; "
            f"found dtype {dataset.dtype}"
        )
    return dataset


def _match(
    wanted: list[LayerWeights], networks: list[list[LayerWeights]], *, names_must_agree: bool
) -> tuple[list[LayerWeights], list[str]]:
    """Return for each wanted layer its stored one, and what differs (then nothing may be loaded)."""
    attempts = [_match_one(wanted, stored, names_must_agree=names_must_agree) for stored in networks]
    if not attempts:
        return [], ["the file has no layers with weights"]
    return min(attempts, key=lambda attempt: len(attempt[1]))


def _match_one(
    wanted: list[LayerWeights], stored: list[LayerWeights], *, names_must_agree: bool
) -> tuple[list[LayerWeights], list[str]]:
    by_kind = {layer.kind: layer for layer in stored if layer.kind}
    by_name = {_plain(layer.name): layer for layer in stored}
    fixed = not any(_numbered_by_keras(layer.name, layer.kind) for layer in wanted)
    if fixed and all(_plain(layer.name) in by_name for layer in wanted):
        pairs = [(layer, by_name[_plain(layer.name)]) for layer in wanted]
    elif by_kind:
        pairs = [(layer, by_kind.get(layer.kind)) for layer in wanted]
    else:
        while stored and len(stored) > len(wanted) and _plain(stored[-1].name) in TOP_LAYERS:
            stored = stored[:-1]
        if len(stored) != len(wanted):
            missing = [layer.name for layer in wanted if _plain(layer.name) not in by_name]
            also = f"; the file has no {_some(missing)}" if fixed and missing else ""
            return [], [f"{len(wanted)} layers with weights are expected, and the file has {len(stored)}{also}"]
        pairs = list(zip(wanted, stored, strict=True))

    differences = []
    for layer, found in pairs:
        if found is None:
            differences.append(f"the file has no layer {layer.name}")
        elif found.shapes != layer.shapes:
            differences.append(
                f"layer {layer.name} has weights of {_shapes(layer.shapes)}, the file's {found.name} of "
                f"{_shapes(found.shapes)}"
            )
        elif names_must_agree and not _same_layer(layer, found):
            differences.append(f"where the network has layer {layer.name}, the file has {found.name}")
    return [found for _, found in pairs if found is not None], differences


def _plain(name: str) -> str:
    # Keras 3 forbids the slashes that DenseNet's layers had
    return name.replace("/", "_")


def _numbered_by_keras(name: str, kind: str) -> bool:
    """Return whether a name is one that Keras makes up, with a number that depends on what was built before."""
    stem = re.sub(r"_\d+$", "", kind)
    return re.fullmatch(rf"{re.escape(stem)}(_\d+)?", name) is not None


def _same_layer(layer: LayerWeights, found: LayerWeights) -> bool:
    if _plain(found.name) == _plain(layer.name):
        return True
    return _numbered_by_keras(layer.name, layer.kind) and _numbered_by_keras(found.name, layer.kind)


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join("x".join(map(str, shape)) or "a scalar" for shape in shapes)


def file_of(spec: NetworkSpec, given: str | Sequence[str] | None) -> tuple[str | None, str]:
    """Return the file of a network's weights and its SHA-256; None and "" for random weights.

    Parameters
    ----------
    spec : NetworkSpec
    given : path, list of path or None
        The file where the config gives a path; empty otherwise.

    Raises
    ------
    ValueError, OSError
        If the file is no weights file, or ImageNet weights cannot be had.
    """
    if spec.untrained:
        return None, ""
    if spec.weights == "imagenet":
        path = str(imagenet_file(spec))
    else:
        files = [given] if isinstance(given, str) else list(given or ())
        path = files[0] if files else spec.weights
    kind_of_file(path)
    return path, provenance.file_sha256(path)


def keras_cache() -> Path:
    """Return the folder where Keras keeps downloaded weights."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return Path(home) / "models"


def imagenet_file(spec: NetworkSpec) -> Path:
    """Return the file of a network's ImageNet weights, which Keras downloads if it is not there.

    Parameters
    ----------
    spec : NetworkSpec
        With ``weights: imagenet``.

    Raises
    ------
    OSError
        If it is not there and cannot be downloaded: where to put it, and what else can be done.
    """
    path = keras_cache() / spec.imagenet_file
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # two jobs that download the same file at once would each find the other's half
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            _download(spec, path)
    return path


def _download(spec: NetworkSpec, path: Path) -> None:
    import keras

    arguments = {"weights": "imagenet", "include_top": spec.include_top, "input_shape": (spec.px, spec.px, 3)}
    if spec.architecture.has_alpha:
        arguments["alpha"] = spec.alpha
    try:
        getattr(keras.applications, spec.architecture.builder)(**arguments)
    # Keras raises a bare Exception when it cannot reach the server
    except Exception as error:
        reason = " ".join(str(error).split())
        raise OSError(
            f"the ImageNet weights of {spec.title} are not on this machine and could not be downloaded ({reason}). "
            f"Run the rule once where there is a network, or put {path.name} into {path.parent}, or give the path of a "
            "weights file as `weights`, or take `weights: random` and have every number marked as untrained"
        ) from error
    if not path.is_file():
        raise OSError(f"Keras downloaded the ImageNet weights of {spec.title}, but {path} is not there")
