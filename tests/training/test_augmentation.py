"""Augmentation: each kind against NumPy, SciPy or Pillow, the same on every backend, and chance by the seed alone."""

from __future__ import annotations

import colorsys
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from repository import ROOT, SCRIPTS
from scipy import ndimage

from histotransfer import seeds
from histotransfer.definitions import Augmentation
from histotransfer.training import augmentation

ALL = {
    "maximal_crop": True,
    "quarter_turns": True,
    "flip": "both",
    "rotate": 30.0,
    "zoom": [0.8, 1.2],
    "shear": 10.0,
    "shift": 0.1,
    **{name: [0.75, 1.25] for name in augmentation.COLOURS},
}
PX = 12


def noise(n=1, px=PX, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, px, px, 3), np.uint8)


def applied(tiles, px=PX, **drawn):
    import keras

    return keras.ops.convert_to_numpy(augmentation.apply(tiles, drawn, px=px))


def asked(wanted):
    """Return what a recipe asks for as an object."""
    return None if wanted is None else Augmentation(**wanted)


def draw(wanted, n=1000, px_stored=PX, px=PX, seed=1):
    generator = np.random.default_rng(seed)
    return augmentation.draw(asked(wanted), n=n, px_stored=px_stored, px=px, generator=generator)


def turned(turns=0, left_right=0, up_down=0):
    one = augmentation.turn(
        quarter_turns=np.array([turns]), left_right=np.array([left_right]), up_down=np.array([up_down])
    )
    return {"turn": one}


def moved(*, rotate=0.0, zoom=1.0, shear=0.0, shift=(0.0, 0.0), px=PX):
    matrix = augmentation.affine(
        rotate=np.array([rotate]), zoom=np.array([zoom]), shear=np.array([shear]), shift=np.array([shift]), px=px
    )
    return {"affine": matrix}


def factor(**factors):
    return {name: np.array([value], np.float32) for name, value in factors.items()}


def in_hsv(tile, change):
    """Return a tile of which `change` has changed saturation and value (arrays of 0 to 1)."""
    hue, saturation, value = np.vectorize(colorsys.rgb_to_hsv)(*np.moveaxis(tile / 255, -1, 0))
    saturation, value = change(saturation, value)
    return 255 * np.stack(np.vectorize(colorsys.hsv_to_rgb)(hue, saturation, value), axis=-1)


def test_what_is_not_asked_for_changes_nothing():
    for wanted in (None, {}, {**dict.fromkeys(ALL), "maximal_crop": True, "flip": "none"}):
        assert draw(wanted) == {}
    tiles = noise(3)
    found = applied(tiles)
    assert found.dtype == np.float32
    assert (found == tiles).all()


@pytest.mark.parametrize("turns", range(4))
def test_quarter_turns_and_flips_move_each_pixel_and_change_none(turns):
    [tile] = tiles = noise()
    for left_right, up_down in itertools.product((0, 1), repeat=2):
        expected = np.rot90(tile, turns)
        expected = expected[:, ::-1] if left_right else expected
        expected = expected[::-1] if up_down else expected
        assert (applied(tiles, **turned(turns, left_right, up_down))[0] == expected).all()


def test_a_crop_is_the_pixels_there_and_is_turned_as_a_tile_would_be():
    tiles = noise(4)
    corner = np.array([[0, 0], [4, 4], [1, 3], [2, 0]], np.int32)
    expected = np.array([tile[top : top + 8, left : left + 8] for tile, (top, left) in zip(tiles, corner, strict=True)])
    assert (applied(tiles, px=8, corner=corner) == expected).all()
    turn = np.concatenate([turned(turns, turns % 2, turns // 2)["turn"] for turns in range(4)])
    found = applied(tiles, px=8, corner=corner, turn=turn)
    assert (found == applied(expected.astype(np.uint8), px=8, turn=turn)).all()


def test_a_tile_that_is_larger_than_the_input_needs_a_corner():
    with pytest.raises(ValueError, match="tiles of 8 px are needed, or the corners of their crops; found tiles of 12"):
        applied(noise(), px=8)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"rotate": 90.0}, lambda tile: np.rot90(tile)),
        ({"rotate": -90.0}, lambda tile: np.rot90(tile, -1)),
        ({"rotate": 180.0}, lambda tile: np.rot90(tile, 2)),
        # to the right and down; what comes in is the mirror image of the edge
        ({"shift": (2 / PX, 0.0)}, lambda tile: np.concatenate([tile[:, 1::-1], tile[:, :-2]], axis=1)),
        ({"shift": (0.0, 3 / PX)}, lambda tile: np.concatenate([tile[2::-1], tile[:-3]])),
        ({"shift": (-1 / PX, -1 / PX)}, lambda tile: np.pad(tile, ((0, 1), (0, 1), (0, 0)), "symmetric")[1:, 1:]),
    ],
)
def test_rotations_and_shifts_by_whole_pixels(asked, expected):
    [tile] = tiles = noise()
    # the rotation by 90 degrees has a cosine of 6e-17, and places are multiples of 2 ** -18 px
    assert applied(tiles, **moved(**asked))[0] == pytest.approx(expected(tile.astype(float)), abs=0.01)


@pytest.mark.parametrize("corner", [None, (3, 9)])
@pytest.mark.parametrize(
    "asked",
    [
        {"rotate": 17.0},
        {"zoom": 1.3},
        {"zoom": 0.4},
        {"shear": 25.0},
        {"shift": (0.13, -0.21)},
        {"rotate": -130.0, "zoom": 0.7, "shear": 12.0, "shift": (0.4, 0.3)},
    ],
    ids=str,
)
def test_an_affine_tile_is_one_bilinear_interpolation_of_the_mirrored_tile(asked, corner):
    """A crop is moved about its own middle and shows what lies around it in the stored tile."""
    px, stored = (12, 12) if corner is None else (8, 20)
    [tile] = tiles = noise(px=stored)
    angle, lean = np.deg2rad(asked.get("rotate", 0.0)), np.tan(np.deg2rad(asked.get("shear", 0.0)))
    # in (x, y), y down: zoom, then lean to the right, then rotate against the clock
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    forwards = rotation @ np.array([[1, -lean], [0, 1]]) * asked.get("zoom", 1.0)
    backwards = np.linalg.inv(forwards)[::-1, ::-1]
    middle = np.full(2, (px - 1) / 2)
    shift = np.array(asked.get("shift", (0.0, 0.0)))[::-1] * px
    expected = np.stack(
        [
            ndimage.affine_transform(
                tile[:, :, channel].astype(float),
                backwards,
                offset=middle + (corner or (0, 0)) - backwards @ (middle + shift),
                output_shape=(px, px),
                order=1,
                mode="reflect",
            )
            for channel in range(3)
        ],
        axis=-1,
    )
    drawn = moved(**asked, px=px) | ({} if corner is None else {"corner": np.array([corner], np.int32)})
    assert np.abs(applied(tiles, px=px, **drawn)[0] - expected).max() < 0.02


def test_turns_come_after_the_rotation():
    tiles = noise()
    both = applied(tiles, **moved(rotate=20.0, shift=(0.1, 0.0)), **turned(1, 1, 0))
    assert both == pytest.approx(np.rot90(applied(tiles, **moved(rotate=20.0, shift=(0.1, 0.0)))[0])[None, :, ::-1])


def test_pixels_that_would_come_from_too_far_away():
    with pytest.raises(ValueError, match="from no farther than 4096 px; found 60012 px"):
        moved(zoom=1e-4)
    with pytest.raises(ValueError, match="rotated must have at most 4096 px; found 5000 px"):
        draw({"rotate": 1.0}, n=1, px_stored=5000)


@pytest.mark.parametrize("times", [0.0, 0.5, 0.75, 1.0, 1.25, 5.0])
def test_saturation_is_that_of_hsv(times):
    [tile] = tiles = noise()
    expected = in_hsv(tile, lambda s, v: (np.minimum(times * s, 1), v))
    assert np.abs(applied(tiles, **factor(saturation=times))[0] - expected).max() < 1e-3


@pytest.mark.parametrize("times", [0.0, 0.5, 0.75, 1.0, 1.25, 5.0])
def test_brightness_is_the_value_of_hsv(times):
    [tile] = tiles = noise()
    expected = in_hsv(tile, lambda s, v: (s, np.minimum(times * v, 1)))
    assert np.abs(applied(tiles, **factor(brightness=times))[0] - expected).max() < 1e-3


@pytest.mark.parametrize("times", [0.0, 0.5, 0.75, 1.0, 1.25, 5.0])
def test_contrast_is_the_distance_of_the_value_from_its_mean(times):
    [tile] = tiles = noise()
    expected = in_hsv(tile, lambda s, v: (s, np.clip(v.mean() + times * (v - v.mean()), 0, 1)))
    assert np.abs(applied(tiles, **factor(contrast=times))[0] - expected).max() < 1e-3


@pytest.mark.parametrize("times", [0.0, 0.5, 0.75, 1.0, 1.25, 5.0])
def test_sharpness_is_the_distance_of_the_value_from_a_smoothed_one(times):
    def sharpened(s, v):
        smooth = ndimage.convolve(v, np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13)
        inside = np.zeros(v.shape, bool)
        inside[1:-1, 1:-1] = True
        return s, np.where(inside, np.clip(smooth + times * (v - smooth), 0, 1), v)

    [tile] = tiles = noise()
    assert np.abs(applied(tiles, **factor(sharpness=times))[0] - in_hsv(tile, sharpened)).max() < 1e-3


@pytest.mark.parametrize("name", ["contrast", "brightness", "sharpness"])
@pytest.mark.parametrize("times", [0.75, 1.25])
def test_of_a_grey_tile_they_are_what_pillow_has(name, times):
    grey = np.repeat(noise()[..., :1], 3, axis=-1)
    expected = getattr(ImageEnhance, name.capitalize())(Image.fromarray(grey[0])).enhance(times)
    # Pillow rounds the mean, or the smoothed picture, and the result
    assert np.abs(applied(grey, **factor(**{name: times}))[0] - np.asarray(expected)).max() <= 1.5


def test_the_order_of_colours_is_fixed():
    tiles = noise()
    times = {"saturation": 1.25, "contrast": 1.6, "brightness": 0.8, "sharpness": 3.0}
    [step] = tiles.astype(float)

    def sharpened(s, v):
        mean = v.mean()
        v = np.minimum(0.8 * np.clip(mean + 1.6 * (v - mean), 0, 1), 1)
        smooth = ndimage.convolve(v, np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13)
        inner = np.clip(smooth + 3.0 * (v - smooth), 0, 1)
        v = v.copy()
        v[1:-1, 1:-1] = inner[1:-1, 1:-1]
        return np.minimum(1.25 * s, 1), v

    assert np.abs(applied(tiles, **factor(**times))[0] - in_hsv(step, sharpened)).max() < 1e-3


def test_black_and_white_tiles():
    black, white = np.zeros((1, PX, PX, 3), np.uint8), np.full((1, PX, PX, 3), 255, np.uint8)
    for name, times in itertools.product(augmentation.COLOURS, (0.5, 2.0)):
        assert (applied(black, **factor(**{name: times})) == 0).all()
        expected = 127.5 if (name, times) == ("brightness", 0.5) else 255
        assert applied(white, **factor(**{name: times})) == pytest.approx(expected, abs=1e-3)
    # a black pixel that becomes brighter has no colour: it becomes grey
    black[0, :, 3:] = (200, 100, 0)
    found = applied(black, **factor(contrast=0.5))[0]
    mean = 200 * (PX - 3) / PX
    assert found[0, 0] == pytest.approx([mean / 2] * 3, abs=1e-3)
    assert found[0, -1] == pytest.approx(np.array([1, 0.5, 0]) * (mean + 200) / 2, abs=1e-3)


def test_what_is_drawn_lies_in_its_range_and_fills_it():
    drawn = draw(ALL, n=4000, px_stored=PX + 4)
    assert set(drawn) == {"corner", "turn", "affine", *augmentation.COLOURS}
    for name in augmentation.COLOURS:
        assert (drawn[name].dtype, drawn[name].shape) == (np.float32, (4000,))
        quarters = np.histogram(drawn[name], bins=4, range=(0.75, 1.25))[0]
        # each 1000; a standard deviation is 27
        assert quarters == pytest.approx([1000] * 4, abs=140)
    assert drawn["corner"].dtype == np.int32
    for axis in range(2):
        assert np.bincount(drawn["corner"][:, axis], minlength=5) == pytest.approx([800] * 5, abs=130)
    # eight ways to lay a square down, each from two of the sixteen draws
    ways, counts = np.unique(drawn["turn"].reshape(-1, 4), axis=0, return_counts=True)
    assert len(ways) == 8
    assert counts == pytest.approx([500] * 8, abs=110)


@pytest.mark.parametrize(
    ("wanted", "ways"),
    [
        ({"quarter_turns": True}, 4),
        ({"flip": "horizontal"}, 2),
        ({"flip": "both"}, 4),
        ({"quarter_turns": True, "flip": "horizontal"}, 8),
    ],
    ids=str,
)
def test_only_the_turns_and_flips_that_are_asked_for_are_drawn(wanted, ways):
    drawn = draw(wanted)
    assert set(drawn) == {"turn"}
    assert len(np.unique(drawn["turn"].reshape(-1, 4), axis=0)) == ways
    [tile] = noise()
    if "quarter_turns" not in wanted:
        found = applied(np.repeat(tile[None], 8, axis=0), **draw(wanted, n=8))
        legal = [tile, tile[:, ::-1]] + ([tile[::-1], tile[::-1, ::-1]] if wanted["flip"] == "both" else [])
        assert all(any((each == one).all() for one in legal) for each in found)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        # a rotation's determinant is 1, and its angle that of its first column
        ({"rotate": 30.0}, lambda m: np.rad2deg(np.arctan2(m[:, 1, 0], m[:, 0, 0]))),
        ({"shear": 30.0}, lambda m: np.rad2deg(np.arctan(m[:, 1, 0]))),
        ({"shift": 30 / PX}, lambda m: -m[:, 0, 2]),
        ({"shift": 30 / PX}, lambda m: -m[:, 1, 2]),
    ],
)
def test_affine_parts_are_drawn_evenly_to_both_sides(wanted, expected):
    drawn = draw(wanted, n=4000)
    assert set(drawn) == {"affine"}
    matrix = drawn["affine"] / np.array([2.0**17, 2.0**17, 2.0**18])
    found = expected(matrix)
    assert np.abs(found).max() <= 30.001
    assert np.histogram(found, bins=4, range=(-30, 30))[0] == pytest.approx([1000] * 4, abs=140)


def test_one_zoom_for_both_directions_by_which_things_become_larger():
    matrix = draw({"zoom": [0.5, 2.0]}, n=4000)["affine"] / 2.0**17
    assert (matrix[:, 0, 0] == matrix[:, 1, 1]).all()
    assert (matrix[:, [0, 1], [1, 0]] == 0).all()
    assert np.histogram(1 / matrix[:, 0, 0], bins=4, range=(0.5, 2))[0] == pytest.approx([1000] * 4, abs=140)


def test_what_is_drawn_depends_on_the_generator_alone():
    of = ("training", "a", "task", "split", 1, "net", "augmentation")
    first, same, other = (
        augmentation.draw(asked(ALL), n=5, px_stored=16, px=12, generator=seeds.generator(7, *of, epoch, 3))
        for epoch in (1, 1, 2)
    )
    for name, values in first.items():
        assert (values == same[name]).all()
        assert (values != other[name]).any()


def test_crops_of_images_at_their_own_shape():
    generator = np.random.default_rng(0)
    for wanted in (None, {}, {**ALL, "maximal_crop": False}):
        assert augmentation.draw_crops(asked(wanted), n=5, generator=generator) is None
    found = augmentation.draw_crops(asked(ALL), n=4000, generator=generator)
    assert found.dtype == np.float32
    assert 0 <= found.min() < found.max() < 1
    assert np.histogram(found, bins=4, range=(0, 1))[0] == pytest.approx([1000] * 4, abs=140)


def test_tiles_that_are_smaller_than_the_input():
    with pytest.raises(ValueError, match="at least the 12 px of the input; found 11 px"):
        draw(None, px_stored=11)


def compiled(function):
    """Compile a function of arrays on the backend in use."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        traced = tf.function(function, autograph=False)
        return lambda tiles, drawn: traced(tf.constant(tiles), {name: tf.constant(v) for name, v in drawn.items()})
    if backend == "jax":
        import jax

        return jax.jit(function)
    import torch

    return lambda tiles, drawn: function(
        torch.as_tensor(tiles), {name: torch.as_tensor(values) for name, values in drawn.items()}
    )


def compiled_results():
    """Return what a compiled function makes of the same tiles, with everything and with crops and turns alone."""
    import keras

    for wanted in (ALL, {"quarter_turns": True, "flip": "both"}):
        drawn = draw(wanted, n=6, px_stored=40, px=32)
        function = compiled(lambda tiles, drawn: augmentation.apply(tiles, drawn, px=32))
        yield keras.ops.convert_to_numpy(function(noise(6, px=40), drawn))


def test_compiled_and_eager_give_the_same():
    drawn = draw(ALL, n=6, px_stored=40, px=32)
    everything, turned_alone = compiled_results()
    assert np.abs(everything - applied(noise(6, px=40), px=32, **drawn)).max() < 1e-3
    drawn = draw({"quarter_turns": True, "flip": "both"}, n=6, px_stored=40, px=32)
    assert (turned_alone == applied(noise(6, px=40), px=32, **drawn)).all()


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same(backend, tmp_path):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    library = str(SCRIPTS)
    code = "import sys, numpy, test_augmentation as own\nnumpy.savez(sys.argv[1], *own.compiled_results())"
    path = os.pathsep.join([library, str(ROOT / "tests"), *sys.path])
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "found.npz")],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path},
        check=True,
    )
    with np.load(tmp_path / "found.npz") as found:
        everything, turned_alone = compiled_results()
        assert np.abs(found["arr_0"] - everything).max() < 1e-3
        assert (found["arr_1"] == turned_alone).all()
