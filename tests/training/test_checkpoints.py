"""Checkpoints: what is written comes back bit for bit, and another training's is refused by name."""

from __future__ import annotations

import logging
import shutil

import h5py
import numpy as np
import pytest

from histotransfer.training import checkpoints

IDENTITY = {"network": "tuned", "recipe": {"name": "slow", "batch": 8}, "classes": ["a", "b"], "tiles": "f00"}


def state():
    generator = np.random.default_rng(1)
    weights = [generator.standard_normal(shape).astype(np.float32) for shape in [(3, 4), (4,), ()]]
    # the states of Keras' random generators are whole numbers
    weights.append(np.array([7, 4_000_000_000], np.uint32))
    progress = {"epoch": 3, "best_value": -0.1 - 0.2, "history": [{"loss": 1 / 3, "train": "head"}]}
    return checkpoints.State(weights, [weights[0] * 2], [], progress)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    checkpoint = checkpoints.Checkpoint(tmp_path, IDENTITY)
    assert checkpoint.read() is None
    written = state()
    checkpoint.write(written)
    found = checkpoint.read()
    for name in checkpoints.LISTS:
        pairs = list(zip(getattr(found, name), getattr(written, name), strict=True))
        assert all(a.tobytes() == b.tobytes() and a.dtype == b.dtype and a.shape == b.shape for a, b in pairs), name
    assert found.progress == written.progress
    assert checkpoint.path.parent.parent == tmp_path


def test_more_arrays_than_attributes_could_hold_keep_their_order(tmp_path):
    checkpoint = checkpoints.Checkpoint(tmp_path, IDENTITY)
    arrays = [np.array([k], np.float32) for k in range(1200)]
    checkpoint.write(checkpoints.State(arrays, [], [], {"history": ["x" * 100] * 1000}))
    found = checkpoint.read()
    assert [int(array[0]) for array in found.weights] == list(range(1200))
    assert len(found.progress["history"]) == 1000


def test_success_leaves_nothing(tmp_path):
    checkpoint = checkpoints.Checkpoint(tmp_path, IDENTITY)
    checkpoint.write(state())
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []
    checkpoint.remove()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "other"}, 'its network must be "other"; found "tuned"'),
        ({"recipe": {"name": "fast", "batch": 8}}, 'its recipe must be .*"name": "fast".*; found .*"name": "slow"'),
        ({"classes": ["b", "a"]}, r'its classes must be \["b", "a"\]; found \["a", "b"\]'),
        ({"tiles": "f11"}, 'its tiles must be "f11"; found "f00"'),
    ],
)
def test_another_trainings_checkpoint_is_refused(tmp_path, changes, message):
    theirs = checkpoints.Checkpoint(tmp_path, IDENTITY)
    theirs.write(state())
    ours = checkpoints.Checkpoint(tmp_path, {**IDENTITY, **changes})
    assert ours.path != theirs.path
    assert ours.read() is None
    # a file that was put in its place
    ours.path.parent.mkdir()
    shutil.copy(theirs.path, ours.path)
    with pytest.raises(ValueError, match=f"checkpoint .*state.h5 is of another training.*{message}"):
        ours.read()


def test_tuples_are_the_lists_that_json_makes_of_them(tmp_path):
    checkpoints.Checkpoint(tmp_path, {**IDENTITY, "classes": ("a", "b")}).write(state())
    assert checkpoints.Checkpoint(tmp_path, IDENTITY).read() is not None


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, damage, caplog):
    checkpoint = checkpoints.Checkpoint(tmp_path, IDENTITY)
    checkpoint.write(state())
    if damage == "cut":
        content = checkpoint.path.read_bytes()
        checkpoint.path.write_bytes(content[: len(content) // 2])
    else:
        with h5py.File(checkpoint.path, "w") as file:
            file["something"] = [1]
    with caplog.at_level(logging.WARNING, "histotransfer"):
        assert checkpoint.read() is None
    assert f"checkpoint {checkpoint.path} is damaged" in caplog.text


def test_the_digest_of_tiles_depends_on_each_of_them():
    columns = [["i", "i"], ["0", "1"], [0, 1], ["train", "test"]]
    digest = checkpoints.digest_of_tiles(columns, {"px": 32})
    assert digest == checkpoints.digest_of_tiles([list(column) for column in columns], {"px": 32})
    others = {
        checkpoints.digest_of_tiles(columns, {"px": 64}),
        checkpoints.digest_of_tiles([*columns[:2], [1, 1], columns[3]], {"px": 32}),
        checkpoints.digest_of_tiles([*columns[:3], ["train", "train"]], {"px": 32}),
    }
    assert len(others | {digest}) == 4
