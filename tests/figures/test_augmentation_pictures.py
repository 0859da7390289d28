"""The picture of what augmentation does: the tiles that training would take, each under its caption."""

from __future__ import annotations

import numpy as np
import pytest
import training_factory
from PIL import Image
from pixel_factory import noise, write_images, write_pixels
from pixel_factory import picture as random_picture

from histotransfer import canvas
from histotransfer.figures import augmentation_pictures
from histotransfer.training import augmentation

#: Where tiles stand, and how large they are, in pixels of the picture.
SIDE, PITCH, FIRST = 232, 244, 40
NOTHING = {
    "maximal_crop": False,
    "quarter_turns": False,
    "flip": "none",
    "rotate": 0.0,
    "zoom": None,
    "shear": 0.0,
    "shift": 0.0,
    **dict.fromkeys(augmentation.COLOURS),
}


def draw(folder, pixels, *, px=8, crop_from=None, suffix="png", seed=1, **wanted):
    figure = folder / f"figure.{suffix}"
    statement = augmentation_pictures.draw_augmentation(
        pixels=pixels,
        figure=figure,
        recipe=training_factory.recipe(augmentation={**NOTHING, **wanted}, crop_from=crop_from),
        px=px,
        master_seed=seed,
    )
    assert canvas.read_statement(figure) == statement
    with Image.open(figure) as opened:
        return statement, np.asarray(opened.convert("RGB"))


def shown(picture, row, px=8, top=FIRST):
    """Return the tiles of a row of the picture as they were before they were enlarged."""
    first = top + row * 278 + row * 46
    places = (np.arange(px) * SIDE + SIDE // 2) // px
    return [picture[first:][places][:, column * PITCH + places] for column in range(3)]


def test_each_transformation_stands_beside_the_tile_as_it_is(tmp_path):
    tiles = noise(1)
    path = write_pixels(tmp_path / "a.h5", tiles)
    statement, picture = draw(tmp_path, [path], quarter_turns=True, brightness=[0.5, 1.5])
    assert statement == (
        "What training does to tile 0_0 of image a, drawn by the master seed: quarter turns, brightness; each at its "
        "extremes, then all of them at random"
    )
    assert picture.shape[1] == 720
    turns, brightness = shown(picture, 0), shown(picture, 1)
    for number, found in enumerate(turns, start=1):
        assert (found == np.rot90(tiles[0], number)).all()
    assert (brightness[1] == tiles[0]).all()
    assert np.abs(brightness[0] - tiles[0] / 2).max() <= 0.5
    assert (brightness[2].max(axis=-1) == np.minimum(np.rint(1.5 * tiles[0].max(axis=-1)), 255)).mean() > 0.9


def test_crops_from_a_larger_tile_and_from_an_image_of_its_own_shape(tmp_path):
    own = random_picture(12, 30)
    path, _ = write_images(tmp_path / "a", [random_picture(12, 12), own, random_picture(12, 12)], px=12)
    statement, picture = draw(tmp_path, [path], crop_from=12, maximal_crop=True)
    # the only image that is not square
    assert "tile t1 of image image-1" in statement
    squares, crops = shown(picture, 0), shown(picture, 1)
    for found, left in zip(squares, (0, 9, 18), strict=True):
        assert (found == own[2:10, left + 2 : left + 10]).all()
    for found, corner in zip(crops, (0, 2, 4), strict=True):
        assert (found == own[corner : corner + 8, 9 + corner : 17 + corner]).all()


def test_every_transformation_of_a_recipe_has_its_row(tmp_path):
    path = write_pixels(tmp_path / "a.h5", noise(3, px=40))
    everything = {
        **{"quarter_turns": True, "flip": "both", "rotate": 10.0, "zoom": [0.9, 1.1], "shear": 5.0, "shift": 0.1},
        **{name: [0.75, 1.25] for name in augmentation.COLOURS},
    }
    statement, picture = draw(tmp_path, [path], px=32, crop_from=40, **everything)
    assert (
        "crop of 32 from 40 px, rotation, zoom, shear, shift, right and down, quarter turns, flips, saturation, "
        "contrast, brightness, sharpness;" in statement
    )
    # eleven rows with captions, and two of examples
    assert len(picture) == 11 * (SIDE + 34 + 12) + 2 * (SIDE + 12) + 12 * (34 + 12)


def test_a_recipe_that_varies_nothing(tmp_path):
    tiles = noise(1)
    path = write_pixels(tmp_path / "a.h5", tiles)
    statement, picture = draw(tmp_path, [path])
    assert statement == "Training takes tiles as they are: tile 0_0 of image a"
    assert (shown(picture, 0)[0] == tiles[0]).all()


def test_the_tile_is_drawn_by_the_seed_and_files_without_tiles_are_passed_over(tmp_path):
    paths = [write_pixels(tmp_path / f"{name}.h5", noise(9, seed=k)) for k, name in enumerate("abcd")]
    empty = write_pixels(tmp_path / "e.h5", noise(0), status="unreadable")
    statements = {seed: draw(tmp_path, [*paths, empty], seed=seed)[0] for seed in range(8)}
    assert len(set(statements.values())) > 4
    again, _ = draw(tmp_path, [empty, *paths[::-1]], seed=3, suffix="jpg", flip="horizontal")
    assert again.partition(":")[0].endswith("drawn by the master seed")
    assert statements[3].split("tile ")[1] in again.partition(", drawn")[0]
    content = (tmp_path / "figure.jpg").read_bytes()
    draw(tmp_path, paths, seed=3, suffix="jpg", flip="horizontal")
    assert (tmp_path / "figure.jpg").read_bytes() == content
    with pytest.raises(ValueError, match=r"found none in .*e\.h5"):
        draw(tmp_path, [empty])
