"""The tests' own slides: whole ones are read by both libraries, broken ones are refused as their makers promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import pyvips
import slide_factory
from PIL import Image

from histotransfer import store


def by_openslide(path: Path, level: int, place: tuple[int, int, int, int]) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region(place[:2], level, place[2:]).convert("RGB"))


def by_vips(path: Path, level: int, place: tuple[int, int, int, int]) -> np.ndarray:
    # Without revalidate libvips answers from its cache, where a destroyed tile is black and no error.
    image = pyvips.Image.tiffload(str(path), page=level, revalidate=True)
    data = pyvips.Region.new(image).fetch(*place)
    return np.frombuffer(data, np.uint8).reshape(place[3], place[2], 3)


@pytest.mark.parametrize(
    ("options", "vendor", "mpp", "power"),
    [
        ({}, "aperio", "0.5", "20"),
        ({"mpp": 0.25, "power": 40}, "aperio", "0.25", "40"),
        ({"mpp": None}, "aperio", None, "20"),
        ({"mpp": None, "power": None}, "aperio", None, None),
        ({"mpp": 0}, "aperio", "0", "20"),
        ({"mpp": -0.5}, "aperio", "-0.5", "20"),
        ({"vendor": "generic-tiff"}, "generic-tiff", "0.5", None),
        ({"vendor": "generic-tiff", "mpp": None}, "generic-tiff", None, None),
    ],
)
def test_openslide_sees_what_was_asked_for(tmp_path, options, vendor, mpp, power):
    path = slide_factory.write_slide(tmp_path / "slide.tif", size=(1024, 768), **options)
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == vendor
        assert slide.properties.get("openslide.mpp-x") == mpp
        assert slide.properties.get("openslide.objective-power") == power
        assert slide.level_dimensions == ((1024, 768), (512, 384), (256, 192))


def test_a_slide_without_levels_has_level_0_alone(tmp_path):
    path = slide_factory.write_generic_slide(tmp_path / "slide.tif", size=(600, 500), levels=False, tile=128)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((600, 500),)
        assert slide.properties["openslide.level[0].tile-width"] == "128"


def test_seed_kind_and_tissue_change_the_pixels(tmp_path):
    def pixels(**options):
        return slide_factory.tissue_pixels((400, 300), **options)

    assert np.array_equal(pixels(seed=1), pixels(seed=1))
    assert not np.array_equal(pixels(seed=1), pixels(seed=2))
    assert pixels(tissue=False).min() >= 240
    inside = np.s_[130:170, 180:220]
    assert pixels(kind=0)[inside].mean(axis=(0, 1))[0] > pixels(kind=1)[inside].mean(axis=(0, 1))[0] + 40


@pytest.mark.parametrize("breaker", [slide_factory.zero_bytes, slide_factory.not_an_image, None])
def test_what_is_no_slide_is_opened_by_nobody(tmp_path, breaker):
    path = tmp_path / "slide.svs"
    if breaker is None:
        slide_factory.truncate(slide_factory.write_slide(path, size=(1024, 768)))
    else:
        breaker(path)
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(path)
    with pytest.raises(pyvips.Error):
        pyvips.Image.new_from_file(str(path))


@pytest.mark.parametrize("options", [{}, {"vendor": "generic-tiff"}, {"levels": False}])
def test_a_destroyed_tile_fails_in_both_libraries_and_nothing_else_does(tmp_path, options):
    path = slide_factory.write_slide(tmp_path / "slide.tif", size=(1024, 768), **options)
    elsewhere = (0, 0, 256, 256)
    before = by_openslide(path, 0, elsewhere)
    place = slide_factory.corrupt_later_tiles(path)
    assert place == (512, 256, 256, 256)
    assert np.array_equal(by_openslide(path, 0, elsewhere), before)
    assert np.array_equal(by_vips(path, 0, elsewhere), before)
    for read in (by_openslide, by_vips):
        with pytest.raises((openslide.OpenSlideError, pyvips.Error), match="Not a JPEG file"):
            read(path, 0, place)
        if options.get("levels", True):
            # Both count in pixels from the top left corner here: the second level whole.
            assert read(path, 1, (0, 0, 512, 384)).shape == (384, 512, 3)


def test_the_destroyed_tile_can_be_chosen(tmp_path):
    path = slide_factory.write_slide(tmp_path / "slide.tif", size=(1024, 768))
    assert slide_factory.corrupt_later_tiles(path, column=1, row=2) == (256, 512, 256, 256)
    with pytest.raises(openslide.OpenSlideError):
        by_openslide(path, 0, (256, 512, 10, 10))
    assert by_openslide(path, 0, (512, 256, 10, 10)).shape == (10, 10, 3)


def test_slides_of_a_sheet(tmp_path):
    sheet = tmp_path / "sheets" / "slides.tsv"
    rows = slide_factory.write_slides(tmp_path / "scans", sheet, patients_per_class=2, size=(512, 512))
    assert store.read_table(sheet) == rows
    assert [row["label"] for row in rows] == ["alpha", "beta", "alpha", "beta"]
    assert len({row["patient"] for row in rows}) == 4
    assert all(openslide.OpenSlide(sheet.parent / row["path"]).dimensions == (512, 512) for row in rows)


def test_patches_of_a_sheet(tmp_path):
    sheet = tmp_path / "patches.tsv"
    rows = slide_factory.write_patches(tmp_path / "png", sheet, patients=2, images=2, tiles=3, px=20)
    assert store.read_table(sheet) == rows
    assert len({row["tile"] for row in rows}) == 12
    assert [row["label"] for row in rows[:3]] == ["alpha", "beta", "alpha"]
    assert {row["image"]: row["patient"] for row in rows} == {
        "p00-i0": "p00",
        "p00-i1": "p00",
        "p01-i0": "p01",
        "p01-i1": "p01",
    }
    assert all(Image.open(tmp_path / row["path"]).size == (20, 20) for row in rows)
    assert len({(tmp_path / row["path"]).read_bytes() for row in rows}) == 12


def test_unmixed_patches_give_each_patient_one_class(tmp_path):
    rows = slide_factory.write_patches(tmp_path / "png", tmp_path / "patches.tsv", patients=4, mixed=False)
    assert {row["patient"]: row["label"] for row in rows} == {
        "p00": "alpha",
        "p01": "beta",
        "p02": "alpha",
        "p03": "beta",
    }


def test_points_lie_on_discs_of_their_class(tmp_path):
    sheet = tmp_path / "points.tsv"
    rows = slide_factory.write_points(tmp_path / "png", sheet, patients=2, points=6)
    assert store.read_table(sheet) == rows
    for row in rows:
        rgb = np.asarray(Image.open(tmp_path / row["path"]))
        x, y = int(row["x"]), int(row["y"])
        assert 16 <= x <= rgb.shape[1] - 16
        assert 16 <= y <= rgb.shape[0] - 16
        red, green, blue = rgb[y - 4 : y + 5, x - 4 : x + 5].astype(int).mean(axis=(0, 1))
        assert green < 190
        assert (red > blue) == (row["label"] == "alpha")


def test_too_many_points_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has room for 4 points, found 5"):
        slide_factory.write_points(tmp_path / "png", tmp_path / "points.tsv", points=5, size=(64, 64))
