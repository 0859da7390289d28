"""Slides at low resolution: whole pixels a cell, averages over areas, and what a canvas shows of them."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
import slide_factory

from histotransfer import store
from histotransfer.definitions import LearningTables, Split, Tiling
from histotransfer.feature_kinds import Reduction, SlideImage
from histotransfer.slides import reader, tissue
from histotransfer.slides.grid import read_kept, write_grid
from histotransfer.tables import slide_images, tile_table

TILING = Tiling(size_um=64.0, tissue_min=0.2)


def prepared(folder, name="s1", *, size=(1024, 768), **tiling):
    """Write a slide, its mask and its grid, as the rules do; return the arguments of ``write_slide_image``."""
    tiling = replace(TILING, **tiling)
    slide_file = str(slide_factory.write_slide(folder / f"{name}.svs", size=size, quality=95))
    paths = {key: str(folder / f"{name}.{key}") for key in ("json", "png", "jpg", "grid")}
    reader.inspect_slide(
        description=paths["json"],
        slide=name,
        image_in_sheet=name.upper(),
        path=slide_file,
        sheet_mpp=None,
        missing_mpp="fail",
        slide_file=slide_file,
    )
    about = {"slide_file": slide_file, "description": paths["json"], "mask": paths["png"]}
    tissue.write_mask(**about, overlay=paths["jpg"], threshold="otsu", exclude_pen=False)
    write_grid(**about, grid=paths["grid"], tiling=tiling, finest_px=32, master_seed=1)
    (folder / "images").mkdir(exist_ok=True)
    image = str(folder / "images" / f"{name}.h5")
    return {"slide_file": slide_file, "grid": paths["grid"], "image": image, "tiling": tiling}


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """Arguments for a slide of 8 x 6 cells of 128 px."""
    return prepared(tmp_path_factory.mktemp("slide"))


def written(arguments, cell_px, **changes):
    slide_images.write_slide_image(**{**arguments, **changes}, cell_px=cell_px)
    with h5py.File(changes.get("image", arguments["image"]), "r") as file:
        return file["pixels"][:], dict(file.attrs)


@pytest.mark.parametrize(("cell_px", "level", "factor"), [(128, 0, 1), (64, 1, 1), (16, 2, 2), (8, 2, 4)])
def test_pixels_are_means_over_squares_of_the_level_that_is_fine_enough(slide, cell_px, level, factor):
    found, said = written(slide, cell_px)
    assert found.shape == (6 * cell_px, 8 * cell_px, 3)
    assert found.dtype == np.uint8
    assert (said["level"], said["downsample"]) == (level, 128 / cell_px)
    with reader.Slide(slide["slide_file"]) as opened:
        plane = opened.levels[level]
        picture = opened.read(level=level, level_x=0, level_y=0, width=plane.width, height=plane.height)
    assert np.array_equal(found, reader.area_averaged(picture, factor))


def test_strict_reproduction_reads_level_0(slide):
    found, said = written(slide, 16, tiling=replace(slide["tiling"], level=0))
    assert said["level"] == 0
    with reader.Slide(slide["slide_file"]) as opened:
        picture = opened.read(level=0, level_x=0, level_y=0, width=1024, height=768)
    assert np.array_equal(found, reader.area_averaged(picture, 8))


def test_tiles_and_what_made_them_stand_in_the_file(slide):
    _, said = written(slide, 8, code="c")
    kept = read_kept(slide["grid"])
    with h5py.File(slide["image"], "r") as file:
        assert store.read_texts(file, "tile") == kept.tile
        assert store.read_texts(file, "image") == ["s1"] * len(kept.tile)
        assert np.array_equal(file["coords"][:], kept.coords)
    # the corners are glass
    assert 0 < len(kept.tile) < 48
    assert (said["slide"], said["image_in_sheet"], said["status"], said["cell_px"]) == ("s1", "S1", "ok", 8)
    assert said["tiles_digest"] == kept.attributes["tiles_digest"]
    assert (said["l0_x"], said["l0_y"], said["l0_step"]) == (0, 0, 128)
    assert written(slide, 8, code="other")[1]["digest"] != said["digest"]
    assert written(slide, 8, code="c")[1]["digest"] == said["digest"]


def test_background_is_as_it_was_scanned(slide):
    found, _ = written(slide, 16)
    # the noisy ground of the slide, 240 to 247, is no white
    corner = found[:16, :16].astype(int)
    assert 240 <= corner.min() <= corner.max() <= 247
    assert found[48:51, 60:68].mean() < 220


def test_of_overlapping_tiles_a_cell_is_a_step_in_the_middle_of_its_tile(tmp_path):
    arguments = prepared(tmp_path, overlap=0.5)
    found, said = written(arguments, 16, tiling=replace(arguments["tiling"], level=0))
    # tiles of 128 px every 64 px: 15 x 11 of them, whose middles begin at 32 px
    assert found.shape == (11 * 16, 15 * 16, 3)
    assert (said["l0_x"], said["l0_y"], said["l0_step"], said["downsample"]) == (32, 32, 64, 4)
    with reader.Slide(arguments["slide_file"]) as opened:
        picture = opened.read(level=0, level_x=32, level_y=32, width=960, height=704)
    assert np.array_equal(found, reader.area_averaged(picture, 4))


def test_grey_tilings_have_grey_images(slide):
    found, said = written(slide, 8, tiling=replace(slide["tiling"], grayscale=True))
    assert said["grayscale"]
    assert (found == found[..., :1]).all()


def test_means_count_the_edges_of_pixels_by_their_shares():
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[..., 0] = [[10, 20, 40], [50, 60, 80]]
    found = slide_images.area_means(picture, np.array([0, 2]), np.array([0, 1.5, 3]))
    # (10 + 50 + (20 + 60) / 2) / 3 = 33.3, ((20 + 60) / 2 + 40 + 80) / 3 = 53.3
    assert found[..., 0].tolist() == [[33, 53]]
    # what lies beyond the picture is left out: 1.5 to 4 has the mean of 1.5 to 3
    assert slide_images.area_means(picture, np.array([0, 2]), np.array([1.5, 4]))[..., 0].tolist() == [[53]]
    assert slide_images.area_means(picture, np.array([0.5, 1.5]), np.array([0, 1]))[..., 0].tolist() == [[30]]


def test_a_window_shows_the_cells_of_a_canvas_and_glass_beyond_the_grid(slide):
    found, _ = written(slide, 8)
    images = slide_images.open_images([slide["image"]], cell_px=8)
    inside = images.window("s1", first_row=2, first_col=3, size=4)
    assert np.array_equal(inside, found[16:48, 24:56])
    around = images.window("s1", first_row=-1, first_col=-2, size=12)
    assert around.shape == (96, 96, 3)
    assert np.array_equal(around[8:56, 16:80], found)
    around[8:56, 16:80] = slide_images.GLASS
    assert (around == 255).all()
    assert (images.window("s1", first_row=-8, first_col=0, size=4) == 255).all()


def test_the_table_has_the_tiles_of_slide_images_as_of_features(tmp_path, slide):
    import cohort_factory

    from histotransfer.cohort import labels

    written(slide, 8)
    kept = read_kept(slide["grid"]).tile
    rows = [{"tile": one, "image": "s1", "slide": "s1", "patient": "p", "label": "a"} for one in kept]
    store.write_table(tmp_path / "labels.tsv", labels.COLUMNS, ({c: r.get(c) for c in labels.COLUMNS} for r in rows))
    table = cohort_factory.write_slides_table(
        tmp_path / "slides.tsv", [cohort_factory.slides_row("s1", patient="p", labels={"a": len(kept)})]
    )
    place = {"group": "p", "unit": "patient", "set": "test", "fold": ""}
    store.write_table(tmp_path / "split.tsv", list(place), [place])
    index = tile_table.read(
        features=[slide["image"]],
        tables=LearningTables((str(tmp_path / "labels.tsv"),), table, str(tmp_path / "split.tsv")),
        split=Split(unit="patient", folds=2),
        feature_set=SlideImage(Reduction(8)),
        classes=["a"],
        master_seed=1,
    )
    assert index.tile.tolist() == sorted(kept)
    assert set(index.image) == {"s1"}
    assert index.n_features == 3
    assert (index.attributes["weights"], index.attributes["untrained"]) == ("none: the slide itself, reduced", False)
    assert list(index.attributes["tiles_digests"]) == ["s1"]
    assert [tuple(own) for own in index.columns] == [("the slide", "reduced", 0, 3)]


def test_cells_finer_than_the_slide_are_refused_unless_asked_for(slide):
    with pytest.raises(ValueError, match=r"slide S1: cells of 128 px .* at most 128, or .* upsample: true; found 256"):
        written(slide, 256)
    found, said = written(slide, 256, tiling=replace(slide["tiling"], upsample=True))
    assert (found.shape, said["downsample"]) == ((1536, 2048, 3), 0.5)
    assert (found[::2, ::2] == found[1::2, 1::2]).all()


def test_a_slide_that_turns_out_unreadable_gets_a_status_and_no_white_picture(tmp_path):
    arguments = prepared(tmp_path, size=(2048, 1536))
    slide_factory.corrupt_later_tiles(arguments["slide_file"])
    found, said = written(arguments, 128)
    assert found.size == 0
    assert said["status"] == "unreadable"
    assert said["reason"]
    with pytest.raises(ValueError, match=r"found none in .*s1\.h5"):
        slide_images.open_images([arguments["image"]], cell_px=128)


def test_the_status_of_a_bad_slide_is_passed_on(tmp_path):
    grid = str(tmp_path / "grid.h5")
    said = {"slide": "s", "image_in_sheet": "S", "status": "no mpp", "reason": "nobody states it"}
    with store.writing_hdf5(grid, said) as file:
        for name in ("col", "row", "l0_x", "l0_y", "status"):
            file[name] = np.empty(0, np.int64)
    image = str(tmp_path / "s.h5")
    slide_images.write_slide_image(slide_file=[], grid=grid, image=image, cell_px=8, tiling=TILING)
    with h5py.File(image, "r") as file:
        assert (file.attrs["status"], file.attrs["reason"]) == ("no mpp", "nobody states it")
        assert file["pixels"].shape == (0, 0, 3)


def test_files_that_do_not_fit_are_named(tmp_path, slide):
    written(slide, 8)
    with pytest.raises(ValueError, match=r"slide image .*s1.h5: a cell must have 16 px; found 8 px"):
        slide_images.open_images([slide["image"]], cell_px=16)
    with pytest.raises(ValueError, match="must stand in one file; found s1 in"):
        slide_images.open_images([slide["image"], slide["image"]], cell_px=8)
    with pytest.raises(ValueError, match=r"found no file .*gone\.h5"):
        slide_images.open_images([tmp_path / "gone.h5"], cell_px=8)
    broken = slide_factory.zero_bytes(tmp_path / "broken.h5")
    with pytest.raises(ValueError, match=r"slide image .*broken.h5 is damaged: delete the file"):
        slide_images.open_images([broken], cell_px=8)
