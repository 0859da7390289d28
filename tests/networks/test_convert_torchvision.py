"""Weights of torchvision, converted: the networks compute what the originals compute.

The originals are written here anew, with torchvision's names of parameters and random weights. They need PyTorch,
which the workflow does not: envs/requirements-convert.in.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from repository import SCRIPTS

from histotransfer.networks import building, specification

torch = pytest.importorskip("torch", reason="torch is not installed (envs/requirements-convert.in)")
from torch import nn  # noqa: E402

SCRIPT = SCRIPTS / "convert_torchvision.py"


class AlexNet(nn.Module):
    """As torchvision 0.x has it since 2017."""

    def __init__(self):
        super().__init__()
        relu, pool = nn.ReLU, lambda: nn.MaxPool2d(3, 2)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, 4, 2), relu(), pool()),
            *(nn.Conv2d(64, 192, 5, padding=2), relu(), pool()),
            *(nn.Conv2d(192, 384, 3, padding=1), relu()),
            *(nn.Conv2d(384, 256, 3, padding=1), relu()),
            *(nn.Conv2d(256, 256, 3, padding=1), relu(), pool()),
        )
        self.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), relu()),
            *(nn.Dropout(), nn.Linear(4096, 4096), relu()),
            nn.Linear(4096, 1000),
        )

    def outputs(self, x):
        maps = self.features(x)
        return {"conv5": maps, "fc7": self.classifier[:6](maps.flatten(1))}


class BasicConv2d(nn.Module):
    def __init__(self, inputs, maps, **arguments):
        super().__init__()
        self.conv = nn.Conv2d(inputs, maps, bias=False, **arguments)
        self.bn = nn.BatchNorm2d(maps, eps=0.001)

    def forward(self, x):
        return nn.functional.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, inputs, one, before_three, three, before_five, five, pooled):
        super().__init__()
        self.branch1 = BasicConv2d(inputs, one, kernel_size=1)
        self.branch2 = nn.Sequential(
            BasicConv2d(inputs, before_three, kernel_size=1),
            BasicConv2d(before_three, three, kernel_size=3, padding=1),
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(inputs, before_five, kernel_size=1),
            BasicConv2d(before_five, five, kernel_size=3, padding=1),
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(inputs, pooled, kernel_size=1))

    def forward(self, x):
        return torch.cat([branch(x) for branch in (self.branch1, self.branch2, self.branch3, self.branch4)], 1)


class Auxiliary(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.conv = BasicConv2d(inputs, 128, kernel_size=1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, 1000)

    def forward(self, x):
        x = self.conv(nn.functional.adaptive_avg_pool2d(x, (4, 4)))
        return nn.functional.relu(self.fc1(x.flatten(1)))


class GoogLeNet(nn.Module):
    def __init__(self, auxiliary=True):
        super().__init__()
        self.conv1 = BasicConv2d(3, 64, kernel_size=7, stride=2, padding=3)
        self.conv2 = BasicConv2d(64, 64, kernel_size=1)
        self.conv3 = BasicConv2d(64, 192, kernel_size=3, padding=1)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        if auxiliary:
            self.aux1, self.aux2 = Auxiliary(512), Auxiliary(528)
        self.fc = nn.Linear(1024, 1000)

    def outputs(self, x):
        def pool(x, size=3):
            return nn.functional.max_pool2d(x, size, 2, ceil_mode=True)

        x = pool(self.conv1(x))
        x = pool(self.conv3(self.conv2(x)))
        x = pool(self.inception3b(self.inception3a(x)))
        first = self.inception4a(x)
        second = self.inception4d(self.inception4c(self.inception4b(first)))
        x = pool(self.inception4e(second), 2)
        found = {"inception_5b": self.inception5b(self.inception5a(x))}
        if hasattr(self, "aux1"):
            found |= {"loss1": self.aux1(first), "loss2": self.aux2(second)}
        return found


def original(kind, **arguments):
    """Return a network whose biases and statistics are random too, so that each must be in its place."""
    torch.manual_seed(1)
    model = kind(**arguments).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.1)
        elif name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("weight") and tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
    return model


def convert(folder, state, architecture, *, name="original.pth"):
    """Save a state dict, convert it as a user does, and return what came of it."""
    torch.save(state, folder / name)
    return run(architecture, folder / name, folder / "converted.weights.h5")


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": str(SCRIPT.parent)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def image():
    """Two tiles, uint8, of the size that the published weights take."""
    return np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)


def as_torchvision(image, *, transform_input):
    """Return torch's tensor after torchvision's preprocessing; GoogLeNet's published weights transform it once more."""
    means, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = (image / 255 - means) / deviations
    if transform_input:
        x = x * (deviations / 0.5) + (means - 0.5) / 0.5
    return torch.from_numpy(x.astype(np.float32).transpose(0, 3, 1, 2))


def numbers(tensor):
    import keras

    return keras.ops.convert_to_numpy(tensor)


def outputs_of(architecture, folder, image, *, layer, auxiliary=False):
    file = folder / "converted.weights.h5"
    spec = specification.specification({"architecture": architecture, "weights": str(file), "layer": layer})
    trunk = building.trunk(spec, weights_file=file, auxiliary=auxiliary)
    found = trunk(building.preprocess(image, spec.preprocessing), training=False)
    return [numbers(each) for each in (found if auxiliary else [found])]


def assert_agrees(ours, theirs):
    theirs = theirs.detach().numpy()
    theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
    assert ours.shape == theirs.shape
    assert theirs.max() > 0.1
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_alexnet_computes_what_torchvisions_does(image, tmp_path):
    model = original(AlexNet)
    done = convert(tmp_path, model.state_dict(), "AlexNet-torchvision")
    assert done.returncode == 0, done.stderr
    assert "weights: " in done.stdout
    expected = model.outputs(as_torchvision(image, transform_input=False))
    for layer in ("conv5", "fc7"):
        (found,) = outputs_of("AlexNet-torchvision", tmp_path, image, layer=layer)
        assert_agrees(found, expected[layer])


@pytest.mark.parametrize("auxiliary", [True, False])
def test_googlenet_computes_what_torchvisions_does(auxiliary, image, tmp_path):
    model = original(GoogLeNet, auxiliary=auxiliary)
    done = convert(tmp_path, model.state_dict(), "GoogLeNet-torchvision")
    assert done.returncode == 0, done.stderr
    expected = model.outputs(as_torchvision(image, transform_input=True))
    found = outputs_of("GoogLeNet-torchvision", tmp_path, image, layer="inception_5b", auxiliary=auxiliary)
    for ours, theirs in zip(found, expected.values(), strict=True):
        assert_agrees(ours, theirs)


class MarksItsOpening:
    """An object whose unpickling leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_is_no_state_dict_of_the_network_is_refused(tmp_path):
    state = original(AlexNet).state_dict()
    without = {name: value for name, value in state.items() if name != "features.6.bias"}
    narrow = {**state, "features.0.weight": state["features.0.weight"][:32]}
    cases = [
        (without, "AlexNet-torchvision needs the tensor features.6.bias; found"),
        ({**state, "extra.weight": state["features.0.bias"]}, "has no place for the tensors extra.weight"),
        (narrow, "has conv1 of [(11, 11, 3, 64), (64,)]; found [(11, 11, 3, 32), (64,)]"),
        ([state["features.0.bias"]], "legal is a state dict, tensors by name; found list"),
    ]
    for content, message in cases:
        done = convert(tmp_path, content, "AlexNet-torchvision")
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
        assert not (tmp_path / "converted.weights.h5").exists()


def test_no_code_of_a_file_is_run(tmp_path):
    opened = tmp_path / "opened"
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(MarksItsOpening(opened)))
    torch.save(MarksItsOpening(opened), tmp_path / "archive.pth")
    for name in ("plain.pth", "archive.pth"):
        done = run("AlexNet-torchvision", tmp_path / name, tmp_path / "converted.weights.h5")
        assert done.returncode == 1
        assert f"{name}: legal is a state dict, tensors by name, and nothing else is read" in done.stderr
    assert not opened.exists()


def test_names_that_are_wrong_are_said(tmp_path):
    done = run("AlexNet-torchvision", tmp_path / "nothing.pth", tmp_path / "x.weights.h5")
    assert (done.returncode, "nothing.pth" in done.stderr) == (1, True)
    done = run("AlexNet-torchvision", tmp_path / "nothing.pth", tmp_path / "x.h5")
    assert "target: legal are names that end in .weights.h5" in done.stderr
    done = run("--help")
    assert (done.returncode, "weights_only=True" in done.stdout) == (0, True)
