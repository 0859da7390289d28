"""Tiles as pixels: the slide's own at native resolution, the same however they are read, stored or streamed."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import slide_factory
from PIL import Image
from repository import DATA

from histotransfer import store
from histotransfer.definitions import Tiling
from histotransfer.features import sources, streaming
from histotransfer.slides import pixels, reader
from histotransfer.slides.grid import place_grid, tiles_digest

CMU, TCGA = DATA / "slides/CMU-1-Small-Region.svs", DATA / "slides/TCGA-CR-7395-01A-01-TS1.svs"
needs_real_slides = pytest.mark.skipif(
    not CMU.exists(), reason=f"needs the real slides; none in {DATA} (HISTOTRANSFER_TEST_DATA)"
)

TILING = Tiling()


def write_grid(path, l0_size, *, size, step=None, status="ok", reason=""):
    """Write a grid of all tiles of a slide of a given size, none filtered out."""
    col, row, l0_x, l0_y = place_grid((0, 0, *size), l0_size, step or l0_size)
    if status != "ok":
        col, row, l0_x, l0_y = (column[:0] for column in (col, row, l0_x, l0_y))
    said = {"slide": "s", "status": status, "reason": reason}
    if status == "ok":
        digest = tiles_digest("quickhash", l0_size, l0_x, l0_y)
        said |= {"l0_size": l0_size, "size_um": l0_size * 0.5, "tiles_digest": digest, "notice": "few"}
    with store.writing_hdf5(path, said) as file:
        for name, values in {"col": col, "row": row, "l0_x": l0_x, "l0_y": l0_y}.items():
            file[name] = values
        file["status"] = np.zeros(len(col), np.uint8)
    return str(path)


def cut(slide_file, grid, px, *, batch=32, threads=1, **tiling):
    """Return all tiles of a slide, in their order."""
    source = pixels.SlideTiles(
        slide_file=str(slide_file), grid=grid, px=px, tiling=replace(TILING, **tiling), threads=threads
    )
    blocks = []
    for start, block in source.blocks(batch):
        assert start == sum(map(len, blocks))
        assert block.dtype == np.uint8
        assert len(block) <= batch
        blocks.append(block)
    return np.concatenate(blocks)


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory):
    """A JPEG pyramid whose levels are halves and quarters."""
    return slide_factory.write_slide(tmp_path_factory.mktemp("jpeg") / "a.svs", size=(1024, 768))


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """The same in a coarser grain, which is still there on the smallest level."""
    return slide_factory.write_slide(tmp_path_factory.mktemp("coarse") / "a.svs", size=(1024, 768), kind=3)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A JPEG pyramid whose levels are no whole fractions."""
    return slide_factory.write_slide(tmp_path_factory.mktemp("odd") / "a.svs", size=(1021, 763))


@pytest.fixture(scope="module")
def lossless(tmp_path_factory):
    """A pyramid that OpenSlide reads, whose levels are no whole fractions; and its pixels."""
    import pyvips

    picture = slide_factory.tissue_pixels((1021, 763), seed=5)
    path = tmp_path_factory.mktemp("lossless") / "a.tif"
    image = pyvips.Image.new_from_array(picture).copy(interpretation="srgb")
    image.tiffsave(str(path), tile=True, tile_width=128, tile_height=128, pyramid=True, compression="deflate")
    return path, picture


# reducing


def test_a_picture_of_the_right_size_is_left_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert pixels.resized(picture, 20) is picture


@pytest.mark.parametrize(("size", "px"), [(40, 20), (224, 56), (1000, 224), (37, 12), (250, 224), (20, 40)])
def test_a_reduced_picture_keeps_its_mean_and_is_antialiased(size, px):
    board = np.indices((size, size)).sum(axis=0) % 2 * 255
    picture = np.repeat(board.astype(np.uint8)[:, :, None], 3, axis=2)
    found = pixels.resized(picture, px)
    assert found.shape == (px, px, 3)
    assert found.mean() == pytest.approx(127.5, abs=1.5)
    if size >= 2 * px:
        # a checkerboard of single pixels is grey; without antialiasing it would stay black and white
        assert np.abs(found.astype(float) - 127.5).max() < 70
    assert np.array_equal(pixels.resized(np.full((size, size, 3), 77, np.uint8), px), np.full((px, px, 3), 77))


def test_a_reduced_picture_is_not_shifted():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32, :32] = 200
    found = pixels.resized(picture, 16)[:, :, 0].astype(int)
    assert (found[:6, :6] == 200).all()
    assert (found[10:, :] == 0).all()
    assert (found[:, 10:] == 0).all()
    assert np.array_equal(found, found.T)


def test_grey_is_luma_in_three_equal_channels():
    picture = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
    found = pixels.in_grey(picture)
    # 0.299, 0.587 and 0.114 of 255; 2.99 + 11.74 + 3.42
    assert found[0, :, 0].tolist() == [76, 150, 29, 18]
    assert found.shape == picture.shape
    assert np.array_equal(found[..., 0], found[..., 1])
    assert np.array_equal(found[..., 0], found[..., 2])


# the slide's own pixels


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("step", [100, 60, 130])
def test_tiles_at_native_resolution_are_the_slides_own_pixels(tmp_path, jpeg, lossless, step, threads):
    for path, size in ((jpeg, (1024, 768)), (lossless[0], (1021, 763))):
        grid = write_grid(tmp_path / "s.h5", 100, size=size, step=step)
        found = cut(path, grid, 100, threads=threads)
        _, _, l0_x, l0_y = place_grid((0, 0, *size), 100, step)
        assert found.shape == (len(l0_x), 100, 100, 3)
        with reader.Slide(path) as slide:
            for tile, x, y in zip(found, l0_x.tolist(), l0_y.tolist(), strict=True):
                assert np.array_equal(tile, slide.read(level=0, level_x=x, level_y=y, width=100, height=100))


def test_lossless_tiles_are_the_picture(tmp_path, lossless):
    path, picture = lossless
    found = cut(path, write_grid(tmp_path / "s.h5", 200, size=(1021, 763)), 200)
    for number, tile in enumerate(found):
        row, col = divmod(number, 5)
        assert np.array_equal(tile, picture[row * 200 : (row + 1) * 200, col * 200 : (col + 1) * 200])


@pytest.mark.parametrize(
    ("l0_size", "px", "level"), [(224, 112, 1), (250, 64, 1), (256, 64, 2), (256, 90, 1), (250, 56, 1), (256, 100, 0)]
)
def test_reduced_tiles_come_from_the_coarsest_level_that_is_fine_enough(tmp_path, coarse, l0_size, px, level):
    grid = write_grid(tmp_path / "s.h5", l0_size, size=(1024, 768))
    source = pixels.SlideTiles(slide_file=str(coarse), grid=grid, px=px, tiling=TILING)
    found = np.concatenate([block for _, block in source.blocks(7)])
    assert source.attributes["level"] == level
    strict = pixels.SlideTiles(slide_file=str(coarse), grid=grid, px=px, tiling=replace(TILING, level=0))
    from_level_0 = np.concatenate([block for _, block in strict.blocks(7)])
    assert strict.attributes["level"] == 0
    with reader.Slide(coarse) as slide:
        for tile, by_level_0, (x, y) in zip(found, from_level_0, source.coords().tolist(), strict=True):
            read = slide.read(level=0, level_x=x, level_y=y, width=l0_size, height=l0_size)
            kernels = (Image.Resampling.BILINEAR, Image.Resampling.BOX)
            plainly, averaged = (np.asarray(Image.fromarray(read).resize((px, px), kernel)) for kernel in kernels)
            assert mean_difference(by_level_0, plainly) < 0.5
            # the levels themselves are averages of two by two pixels
            assert min(mean_difference(tile, plainly), mean_difference(tile, averaged)) < 3


def mean_difference(tile, other):
    return np.abs(tile.astype(float) - other).mean()


def test_reduced_tiles_of_odd_levels_lie_where_they_should(tmp_path, odd):
    """A level of 254 pixels for 1021 of level 0: four of them are not quite one."""
    l0_size = 128
    grid = write_grid(tmp_path / "s.h5", l0_size, size=(1021, 763))
    source = pixels.SlideTiles(slide_file=str(odd), grid=grid, px=32, tiling=TILING)
    found = np.concatenate([block for _, block in source.blocks(32)])
    with reader.Slide(odd) as slide:
        assert slide.levels[source.attributes["level"]].downsample == pytest.approx(4.01, abs=0.01)

        def reduced(x, y):
            read = slide.read(level=0, level_x=x, level_y=y, width=l0_size, height=l0_size)
            return np.asarray(Image.fromarray(read).resize((32, 32), Image.Resampling.BOX))

        places = source.coords().tolist()
        inside = [k for k, (x, y) in enumerate(places) if 8 <= x <= 1021 - 136 and 8 <= y <= 763 - 136]
        here = np.mean([mean_difference(found[k], reduced(*places[k])) for k in inside])
        for dx, dy in ((-8, 0), (8, 0), (0, -8), (0, 8)):
            there = [mean_difference(found[k], reduced(places[k][0] + dx, places[k][1] + dy)) for k in inside]
            assert here < np.mean(there) / 1.5


@pytest.mark.real_data
@needs_real_slides
def test_real_tiles_are_openslides_pixels(tmp_path):
    import openslide

    grid = write_grid(tmp_path / "s.h5", 224, size=(2220, 2967))
    found = cut(CMU, grid, 224, threads=2)
    assert len(found) == 9 * 13
    with openslide.OpenSlide(CMU) as slide:
        for number, tile in enumerate(found):
            row, col = divmod(number, 9)
            read = slide.read_region((col * 224, row * 224), 0, (224, 224)).convert("RGB")
            assert np.array_equal(tile, np.asarray(read))


# by either reader


@pytest.mark.parametrize("kind", ["jpeg", "odd", "lossless"])
@pytest.mark.parametrize(("l0_size", "step", "px"), [(100, 100, 50), (100, 37, 100), (130, 65, 30)])
def test_neighbours_blocks_and_threads_change_no_pixel(tmp_path, monkeypatch, request, kind, l0_size, step, px):
    given = request.getfixturevalue(kind)
    path = given[0] if kind == "lossless" else given
    grid = write_grid(tmp_path / "s.h5", l0_size, size=(1021, 400), step=step)
    with monkeypatch.context() as alone:
        alone.setattr(pixels, "LARGEST_READ", 1)
        expected = cut(path, grid, px, batch=1)
    for options in ({}, {"batch": 5}, {"batch": 1000}, {"threads": 2}, {"threads": 3, "batch": 7}):
        assert np.array_equal(cut(path, grid, px, **options), expected), options
    # runs of a few tiles
    monkeypatch.setattr(pixels, "LARGEST_READ", 3 * l0_size**2)
    assert np.array_equal(cut(path, grid, px), expected)


def test_a_gap_in_a_row_of_the_grid_changes_no_pixel(tmp_path, jpeg):
    grid = write_grid(tmp_path / "s.h5", 100, size=(1024, 300))
    every = cut(jpeg, grid, 100)
    with h5py.File(grid, "a") as file:
        file["status"][...] = np.arange(30) % 10 % 4 == 3
        kept = file["status"][:] == 0
    assert kept.sum() == 24
    assert np.array_equal(cut(jpeg, grid, 100), every[kept])


def test_tiles_on_a_diagonal_are_no_neighbours(tmp_path, jpeg):
    grid = write_grid(tmp_path / "s.h5", 100, size=(1024, 768))
    every = cut(jpeg, grid, 100)
    with h5py.File(grid, "a") as file:
        file["status"][...] = file["col"][:] != file["row"][:]
    assert np.array_equal(cut(jpeg, grid, 100), every[::11])


@pytest.mark.real_data
@needs_real_slides
def test_neighbours_change_no_pixel_of_a_real_slide_in_jpeg_2000(tmp_path, monkeypatch):
    grid = write_grid(tmp_path / "s.h5", 448, size=(4443, 900))
    together = cut(TCGA, grid, 224)
    monkeypatch.setattr(pixels, "LARGEST_READ", 1)
    assert np.array_equal(cut(TCGA, grid, 224), together)


def test_grey_tiles_are_the_colour_tiles_in_grey(tmp_path, jpeg):
    grid = write_grid(tmp_path / "s.h5", 128, size=(1024, 768))
    colour, grey = cut(jpeg, grid, 64), cut(jpeg, grid, 64, grayscale=True)
    assert np.ptp(colour.astype(int), axis=3).max() > 20
    assert np.ptp(grey.astype(int), axis=3).max() == 0
    assert np.array_equal(grey, np.stack([pixels.in_grey(tile) for tile in colour]))


def test_small_tiles_are_enlarged_and_marked(tmp_path, jpeg):
    grid = write_grid(tmp_path / "s.h5", 128, size=(1024, 768))
    for px, upsampled in ((160, True), (128, False), (64, False)):
        source = pixels.SlideTiles(slide_file=str(jpeg), grid=grid, px=px, tiling=TILING)
        assert source.attributes["upsampled"] is upsampled
        assert source.attributes["mpp"] == 64 / px
    assert cut(jpeg, grid, 160).shape == (48, 160, 160, 3)


# the file


def write(folder, slide_file, grid, px=64, *, threads=1, code="c0de", **tiling):
    pixels.write_pixels(
        slide_file=slide_file if slide_file == [] else str(slide_file),
        grid=grid,
        pixels=str(folder / "pixels.h5"),
        px=px,
        tiling=replace(TILING, **tiling),
        threads=threads,
        code=code,
    )
    with h5py.File(folder / "pixels.h5") as file:
        texts = {name: store.read_texts(file, name) for name in ("tile", "image")}
        return file["tiles"][:], file["coords"][:], texts, dict(file.attrs)


def test_the_file_of_a_slides_tiles(tmp_path, jpeg):
    grid = write_grid(tmp_path / "s.h5", 128, size=(1024, 768))
    found, coords, texts, said = write(tmp_path, jpeg, grid)
    assert np.array_equal(found, cut(jpeg, grid, 64))
    assert coords.dtype == np.int64
    assert coords[:9].tolist() == [[128 * k, 0] for k in range(8)] + [[0, 128]]
    assert texts["tile"][:9] == [f"{k}_0" for k in range(8)] + ["0_1"]
    assert texts["image"] == ["s"] * 48
    digests = {name: said.pop(name) for name in ("digest", "tiles_digest")}
    assert all(len(digest) == 64 for digest in digests.values())
    assert "openslide" in json.loads(said.pop("versions"))
    assert said == {
        **{"slide": "s", "status": "ok", "reason": "", "px": 64, "mpp": 1.0, "size_um": 64.0, "upsampled": False},
        **{"grayscale": False, "kernel": pixels.KERNEL, "level": 1, "notice": "few"},
    }
    with h5py.File(tmp_path / "pixels.h5") as file:
        assert file["tiles"].chunks is None
        assert file["tiles"].compression is None


def test_the_digest_tells_what_decides_the_pixels(tmp_path, jpeg):
    grid = write_grid(tmp_path / "s.h5", 128, size=(1024, 768))
    other = write_grid(tmp_path / "t.h5", 128, size=(1024, 768), step=64)

    def digest(*arguments, **options):
        return write(tmp_path, *arguments, **options)[3]["digest"]

    first = digest(jpeg, grid)
    assert digest(jpeg, grid, threads=2) == digest(jpeg, grid, upsample=True) == first
    others = [
        *[digest(jpeg, grid, 32), digest(jpeg, grid, level=0), digest(jpeg, grid, grayscale=True)],
        *[digest(jpeg, other), digest(jpeg, grid, code="other")],
    ]
    assert len({first, *others}) == 6


@pytest.mark.parametrize("status", ["missing", "unreadable", "no mpp", "mpp conflict", "no tissue"])
def test_a_slide_that_is_unusable_already_has_no_tiles(tmp_path, status):
    grid = write_grid(tmp_path / "s.h5", 128, size=(1024, 768), status=status, reason="for a reason")
    found, coords, texts, said = write(tmp_path, [], grid)
    assert (found.shape, coords.shape, texts) == ((0, 64, 64, 3), (0, 2), {"tile": [], "image": []})
    assert (said["status"], said["reason"], said["upsampled"]) == (status, "for a reason", False)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tile", [(0, 0), (2, 1), (3, 2)])
def test_a_slide_that_breaks_at_a_later_tile_has_no_tiles_and_says_why(tmp_path, tile, threads):
    path = slide_factory.write_slide(tmp_path / "a.svs", size=(1024, 768))
    grid = write_grid(tmp_path / "s.h5", 64, size=(1024, 768))
    whole = write(tmp_path, path, grid, threads=threads)[3]["digest"]
    slide_factory.corrupt_later_tiles(path, column=tile[0], row=tile[1])
    found, coords, texts, said = write(tmp_path, path, grid, threads=threads)
    assert (found.shape, coords.shape, texts) == ((0, 64, 64, 3), (0, 2), {"tile": [], "image": []})
    assert said["status"] == "unreadable"
    assert "JPEG" in said["reason"]
    assert said["digest"] != whole
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.svs", "pixels.h5", "s.h5"]


def test_a_slide_that_can_no_longer_be_opened_has_no_tiles_and_says_why(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.svs", size=(1024, 768))
    grid = write_grid(tmp_path / "s.h5", 128, size=(1024, 768))
    slide_factory.truncate(path)
    found, _, _, said = write(tmp_path, path, grid)
    assert (len(found), said["status"], said["reason"]) == (0, "unreadable", "Unsupported or missing image file")


def test_a_full_disk_fails_the_job_and_is_no_status(tmp_path, jpeg):
    import resource

    grid = write_grid(tmp_path / "s.h5", 128, size=(1024, 768))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"while writing .*pixels\.h5"):
            write(tmp_path, jpeg, grid)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["s.h5"]


# streamed


def test_streamed_tiles_are_the_stored_ones(tmp_path, odd):
    grid = write_grid(tmp_path / "s.h5", 100, size=(1021, 763), step=70)
    stored, coords, texts, said = write(tmp_path, odd, grid, 40)
    source = streaming.StreamedSlide(slide_file=str(odd), grid=grid, px=40, tiling=TILING, threads=2)
    assert np.array_equal(np.concatenate([block for _, block in source.blocks(11)]), stored)
    assert (source.n, source.px, source.status) == (len(stored), 40, "ok")
    assert (source.tile_ids(), source.image_ids()) == (texts["tile"], texts["image"])
    assert np.array_equal(source.coords(), coords)
    for name, value in source.attributes.items():
        assert said[name] == value


def test_blocks_are_the_receivers_own(tmp_path, jpeg):
    grid = write_grid(tmp_path / "s.h5", 128, size=(1024, 768))
    source = pixels.SlideTiles(slide_file=str(jpeg), grid=grid, px=64, tiling=TILING)
    blocks = list(source.blocks(10))
    before = [block.copy() for _, block in blocks]
    blocks[0][1][:] = 0
    assert all(np.array_equal(block, kept) for (_, block), kept in zip(blocks[1:], before[1:], strict=True))


def test_a_streamed_slide_that_breaks_says_so_to_the_extraction(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.svs", size=(1024, 768))
    grid = write_grid(tmp_path / "s.h5", 64, size=(1024, 768))
    slide_factory.corrupt_later_tiles(path, column=0, row=2)
    source = streaming.StreamedSlide(slide_file=str(path), grid=grid, px=64, tiling=TILING)
    given = []
    with pytest.raises(sources.SourceError, match=r"unreadable: .*JPEG") as caught:
        given.extend(start for start, _ in source.blocks(16))
    assert caught.value.status == "unreadable"
    # eight rows of sixteen tiles stand above the destroyed one
    assert given == [16 * k for k in range(8)]


def test_a_streamed_slide_without_tiles_gives_none(tmp_path):
    grid = write_grid(tmp_path / "s.h5", 64, size=(1024, 768), status="missing", reason="no file")
    source = streaming.StreamedSlide(slide_file=[], grid=grid, px=64, tiling=TILING)
    assert (source.n, source.status, source.reason, list(source.blocks(8))) == (0, "missing", "no file", [])
