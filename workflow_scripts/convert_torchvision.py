"""Convert ImageNet weights of torchvision into a file for `weights` of a network, AlexNet or GoogLeNet.

Runs in an environment of its own (envs/requirements-convert.in), so that the workflow needs no PyTorch:

    python workflow_scripts/convert_torchvision.py AlexNet-torchvision alexnet-owt-7be5be79.pth alexnet.weights.h5

The file is read with `weights_only=True`: tensors alone, no code in it is run. The classifiers of ImageNet's 1000
classes are left out; GoogLeNet's auxiliary classifiers come along, without their last layers, where the file has them.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import provenance, store
from histotransfer.networks import building, specification, table

#: Layers of AlexNet by torchvision's names.
ALEXNET = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "fc6",
    "classifier.4": "fc7",
}
#: Parts of an Inception block by torchvision's names. Its third branch is 3x3 where the paper's is 5x5.
INCEPTION = {
    "branch1": "1x1",
    "branch2.0": "3x3_reduce",
    "branch2.1": "3x3",
    "branch3.0": "5x5_reduce",
    "branch3.1": "5x5",
    "branch4.1": "pool_proj",
}
#: Normalised convolutions of GoogLeNet by torchvision's names.
GOOGLENET = {
    "conv1": "conv1",
    "conv2": "conv2_reduce",
    "conv3": "conv2",
    **{
        f"inception{name}.{theirs}": f"inception_{name}_{ours}"
        for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
        for theirs, ours in INCEPTION.items()
    },
}
#: Last layers, for the 1000 classes of ImageNet.
CLASSIFIERS = {"classifier.6", "fc", "aux1.fc2", "aux2.fc2"}
ARCHITECTURES = ("AlexNet-torchvision", "GoogLeNet-torchvision")


def read(path: str) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict by name.

    Raises
    ------
    ValueError
        If the file holds anything but tensors by name.
    OSError
        If it cannot be read.
    """
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path}: legal is a state dict, tensors by name, and nothing else is read: {reason}"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError(f"{path}: legal is a state dict, tensors by name; found {type(found).__name__}")
    return {str(name): value.numpy() for name, value in found.items()}


def layers_of(architecture: str, state: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Return the weights of each layer of a row of the table of networks, from torchvision's.

    Parameters
    ----------
    architecture : str
        One of :data:`ARCHITECTURES`.
    state : mapping of str to ndarray
        A state dict. Of torch's convolutions (outputs, inputs, height, width) and dense layers (outputs, inputs);
        those after maps take them map by map, Keras' place by place.

    Returns
    -------
    dict of str to list of ndarray
        In the order in which the Keras layers have them.

    Raises
    ------
    ValueError
        If a tensor is missing, or one is not of this network.
    """
    left = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    for name in [name for name in left if name.rpartition(".")[0] in CLASSIFIERS]:
        del left[name]

    def take(name: str) -> np.ndarray:
        if name not in left:
            raise ValueError(f"{architecture} needs the tensor {name}; found {_some(state)}")
        return left.pop(name)

    def kernel(name: str) -> np.ndarray:
        return take(f"{name}.weight").transpose(2, 3, 1, 0)

    def dense(name: str, maps: int = 0) -> list[np.ndarray]:
        weight = take(f"{name}.weight")
        if maps:
            size = round((weight.shape[1] / maps) ** 0.5)
            weight = weight.reshape(len(weight), maps, size, size).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        return [weight.T, take(f"{name}.bias")]

    found: dict[str, list[np.ndarray]] = {}

    def normalised(theirs: str, ours: str) -> None:
        found[f"{ours}_conv"] = [kernel(f"{theirs}.conv")]
        found[f"{ours}_bn"] = [
            take(f"{theirs}.bn.{part}") for part in ("weight", "bias", "running_mean", "running_var")
        ]

    if architecture == "AlexNet-torchvision":
        for theirs, ours in ALEXNET.items():
            if ours.startswith("fc"):
                found[ours] = dense(theirs, maps=256 if ours == "fc6" else 0)
            else:
                found[ours] = [kernel(theirs), take(f"{theirs}.bias")]
    else:
        for theirs, ours in GOOGLENET.items():
            normalised(theirs, ours)
        for number in (1, 2) if any(name.startswith("aux") for name in left) else ():
            normalised(f"aux{number}.conv", f"loss{number}_1x1")
            found[f"loss{number}_fc"] = dense(f"aux{number}.fc1", maps=128)
    if left:
        raise ValueError(f"{architecture} has no place for the tensors {_some(left)}")
    return found


def _some(names: Mapping[str, Any]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


def convert(architecture: str, source: str, target: str) -> None:
    """Write the weights of a state dict as Keras has them.

    Raises
    ------
    ValueError
        If the file is no state dict of this network, or the target's name does not end in ``.weights.h5``.
    OSError
        If a file cannot be read or written.
    """
    if not target.endswith(".weights.h5"):
        raise ValueError(f"target: legal are names that end in .weights.h5; found {target}")
    found = layers_of(architecture, read(source))
    last = table.legal_layers(architecture)[-1]
    spec = specification.specification({"architecture": architecture, "weights": "random", "layer": last})
    trunk = building.trunk(spec, seed=0, auxiliary="loss1_fc" in found)
    for layer in trunk.layers:
        if layer.weights:
            own, given = ([tuple(one.shape) for one in each] for each in (layer.weights, found[layer.name]))
            if own != given:
                raise ValueError(f"{source}: {architecture} has {layer.name} of {own}; found {given}")
            layer.set_weights(found[layer.name])
    with store.replacing(target) as part, tempfile.TemporaryDirectory(dir=Path(part).parent) as folder:
        # Keras looks at the ending
        written = Path(folder) / "converted.weights.h5"
        trunk.save_weights(written)
        written.replace(part)


def main() -> None:
    """Convert the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=ARCHITECTURES, help="row of the table of networks")
    parser.add_argument("source", help="torchvision's file (.pth): a state dict")
    parser.add_argument("target", help="file to write (.weights.h5)")
    given = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        convert(given.architecture, given.source, given.target)
    except (ValueError, OSError) as error:
        sys.exit(f"convert_torchvision: {error}")
    print(f"{given.target} has the weights of {given.source} (SHA-256 {provenance.file_sha256(given.source)})")
    print(f"in the config: {{architecture: {given.architecture}, weights: {given.target}}}")


if __name__ == "__main__":
    main()
