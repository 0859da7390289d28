"""The library as a package: what is in the wheel, and saved models that load where it alone is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser

import numpy as np
import pytest
from packaging.requirements import Requirement
from repository import PACKAGE, ROOT

import histotransfer
from histotransfer.classifiers import fitting, kinds
from histotransfer.definitions import ExtraTrees, LeafFrequencies, LinearSvm, Perceptron
from histotransfer.feature_kinds import Windows

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CLASSES = ["normal", "tumour"]

#: Runs first in the process that loads a model: of all that is installed, it lets the declared packages be imported,
#: and what these need. Arguments: extras, by commas; a script; the script's arguments.
DECLARED_ALONE = """
import re, runpy, sys
from importlib import metadata
from packaging.requirements import Requirement

def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()

installed = {canonical(one.name) for one in metadata.distributions()}
#: The lock has TensorFlow for CPUs, whose package has another name.
same = {"tensorflow": "tensorflow-cpu"} if "tensorflow-cpu" in installed else {}

def needed(name, extras):
    return {
        same.get(one.name, canonical(one.name)): one.extras
        for one in map(Requirement, metadata.distribution(name).requires or ())
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras or [""])
    }

allowed, waiting = {"histotransfer"}, needed("histotransfer", ["", *sys.argv[1].split(",")])
while waiting:
    name, extras = waiting.popitem()
    if name not in allowed:
        allowed.add(name)
        waiting |= needed(name, extras)
of_module = {module: set(map(canonical, names)) for module, names in metadata.packages_distributions().items()}

class Refused:
    def find_spec(self, name, path=None, target=None):
        owners = of_module.get(name.partition(".")[0])
        if owners and not owners & allowed:
            raise ModuleNotFoundError(f"{name} is of {owners}, which is not declared", name=name)

sys.modules.pop("packaging", None)
sys.meta_path.insert(0, Refused())
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

LOAD_CLASSIFIER = """
import sys
import numpy as np
import skops.io
model = skops.io.load(sys.argv[1], trusted=skops.io.get_untrusted_types(file=sys.argv[1]))
from histotransfer.classifiers import fitting
checked = fitting.load_model(sys.argv[1])
x = np.load(sys.argv[2])
assert (checked.predict_proba(x) == model.predict_proba(x)).all()
np.save(sys.argv[3], model.predict_proba(x))
"""

LOAD_NETWORK = """
import sys
import numpy as np
import histotransfer.networks.architectures
import keras
model = keras.models.load_model(sys.argv[1])
from histotransfer.networks import trained
x = np.load(sys.argv[2])
assert (trained.load_trained(sys.argv[1]).predict(x, verbose=0) == model.predict(x, verbose=0)).all()
np.save(sys.argv[3], model.predict(x, verbose=0))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a package index of a copy of what it is made from."""
    source, folder = tmp_path_factory.mktemp("source") / "copy", tmp_path_factory.mktemp("wheel")
    shutil.copytree(PACKAGE.parent, source / PACKAGE.parent.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    [path] = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder that the wheel is installed into."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", str(folder), str(wheel))
    return folder


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, "--no-index"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def loaded(script, installed, folder, model, x, *, extras=""):
    """Return what a saved model predicts in a new process that has the package, outside the repository."""
    (folder / "declared_alone.py").write_text(DECLARED_ALONE)
    (folder / "script.py").write_text(script)
    np.save(folder / "x.npy", x)
    environment = {**os.environ, "PYTHONPATH": str(installed), "CUDA_VISIBLE_DEVICES": "-1"}
    files = ["declared_alone.py", extras, "script.py", model, "x.npy", "y.npy"]
    done = subprocess.run(
        [sys.executable, *files], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "y.npy")


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = Parser().parsestr(
            archive.read(f"histotransfer-{histotransfer.__version__}.dist-info/METADATA").decode()
        )
        assert not any(name.endswith("entry_points.txt") for name in archive.namelist())
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert names == {path.relative_to(PACKAGE.parent).as_posix() for path in files}
    assert "histotransfer/report/templates/look.css" in names
    assert (metadata["Version"], metadata["License-Expression"]) == (histotransfer.__version__, "MIT")


def test_what_the_package_needs_is_in_the_locks_as_it_needs_it():
    locked = {}
    for name in ("requirements.txt", "requirements-test.txt"):
        text = (ROOT / "envs" / name).read_text("utf-8")
        locked |= dict(re.findall(r"^([A-Za-z0-9-]+)==([^\\s;]+)", text, re.MULTILINE))
    # which is of the same version
    locked["tensorflow"] = locked["tensorflow-cpu"]
    extras = PROJECT["optional-dependencies"]
    for text in (*PROJECT["dependencies"], *extras["tensorflow"], *extras["jax"]):
        asked = Requirement(text)
        assert asked.specifier.contains(locked[asked.name]), text


#: Two windows of 2 px a tile, for kinds of classifiers that look at windows.
WINDOWS, COLUMNS = Windows(px=4, windows=2, window_px=2), 24
#: A classifier of each kind, and the point of its grid that is fitted.
CLASSIFIERS = [
    (LinearSvm("libsvm", C=(1.0,)), {"C": 1.0}),
    (LinearSvm("liblinear", C=(1.0,)), {"C": 1.0}),
    (ExtraTrees(max_features=("sqrt",), trees=5), {"max_features": "sqrt"}),
    (Perceptron(learning_rate=(0.5,), iterations=(20,)), {"learning_rate": 0.5, "iterations": 20}),
    (LeafFrequencies(C=(1.0,), trees=3, min_samples_leaf=2), {"C": 1.0}),
]


@pytest.mark.parametrize(("classifier", "point"), CLASSIFIERS, ids=lambda value: getattr(value, "kind", ""))
def test_a_classifier_predicts_the_same_where_the_package_alone_is_installed(installed, tmp_path, classifier, point):
    generator = np.random.default_rng(1)
    x = generator.integers(0, 256, (40, COLUMNS), np.uint8)
    y = np.repeat([0, 1], 20)
    x[y == 1] //= 2
    if classifier.kind != "leaf_frequencies":
        x = x.astype(np.float32) / 255
    [estimator] = kinds.prepare(classifier, x, y, windows=WINDOWS)(np.arange(len(x)), [point], 1)
    sigmoids = np.array([[-1.0, 0.1], [-2.0, 0.2]]) if kinds.KINDS[classifier.kind].margins else None
    model = fitting.TileClassifier(estimator, CLASSES, sigmoids)
    fitting.save_model(str(tmp_path / "model.skops"), model)
    assert (loaded(LOAD_CLASSIFIER, installed, tmp_path, "model.skops", x) == model.predict_proba(x)).all()


def test_a_classifier_of_each_kind_is_loaded():
    assert [classifier.kind for classifier, _ in CLASSIFIERS] == list(kinds.KINDS)


def test_a_network_predicts_the_same_where_the_package_and_a_backend_are_installed(installed, tmp_path):
    """Of the library's own layer: the others are Keras'."""
    import keras

    from histotransfer.networks import architectures
    from histotransfer.training import results

    [layer] = architectures.LAYERS.values()
    tiles = keras.Input((8, 8, 3), dtype="uint8")
    maps = layer(size=3)(keras.layers.Rescaling(1 / 255)(tiles))
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(tiles, keras.layers.Dense(2, activation="softmax")(pooled))
    results.save_network(str(tmp_path / "model.keras"), model)
    x = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
    found = loaded(LOAD_NETWORK, installed, tmp_path, "model.keras", x, extras=keras.backend.backend())
    assert found == pytest.approx(model.predict(x, verbose=0), abs=1e-6)


def test_a_package_that_is_not_declared_is_not_there(installed, tmp_path):
    """As it would be elsewhere: else a model could load here alone."""
    (tmp_path / "model").touch()
    with pytest.raises(AssertionError, match=r"ModuleNotFoundError: yaml is of \{'pyyaml'\}, which is not declared"):
        loaded("import yaml", installed, tmp_path, "model", np.zeros(1))
