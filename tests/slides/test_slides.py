"""One reader for all slides: the same pixels as OpenSlide gives, and no pixel where a file has none."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest
import slide_factory
import tifffile
from repository import DATA

from histotransfer import store
from histotransfer.slides import jpeg_tiles, reader

CMU, TCGA = DATA / "slides/CMU-1-Small-Region.svs", DATA / "slides/TCGA-CR-7395-01A-01-TS1.svs"
needs_real_slides = [
    pytest.mark.real_data,
    pytest.mark.skipif(not CMU.exists(), reason=f"needs the real slides; none in {DATA} (HISTOTRANSFER_TEST_DATA)"),
]


def by_openslide(path, level, place):
    """Return pixels of OpenSlide alone; place is (x, y) in pixels of level 0, width and height in the level's."""
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region(place[:2], level, place[2:]).convert("RGB"))


def rectangles(level, n, seed=0, largest=400):
    """Return n rectangles inside a level, the whole corners among them."""
    rng = np.random.default_rng(seed)
    found = [(0, 0, 1, 1), (level.width - 1, level.height - 1, 1, 1)]
    for _ in range(n):
        width, height = (int(rng.integers(1, min(side, largest) + 1)) for side in (level.width, level.height))
        x, y = int(rng.integers(0, level.width - width + 1)), int(rng.integers(0, level.height - height + 1))
        found.append((x, y, width, height))
    return found


def read(slide, level, place):
    x, y, width, height = place
    return slide.read(level=level, level_x=x, level_y=y, width=width, height=height)


def edit_tile(path, edit, *, column=1, row=1):
    """Change the compressed bytes of a level-0 tile: `edit` takes them and returns as many or fewer."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        index = row * -(-page.imagewidth // page.tilewidth) + column
        offset, length = page.dataoffsets[index], page.databytecounts[index]
    with open(path, "r+b") as file:
        file.seek(offset)
        data = edit(file.read(length))
        file.seek(offset)
        file.write(data)


@pytest.fixture
def lossless(tmp_path):
    """Give a slide without JPEG, and its pixels; sizes of levels are no whole multiples."""
    import pyvips

    pixels = slide_factory.tissue_pixels((701, 503), seed=3)
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    path = tmp_path / "lossless.tif"
    image.tiffsave(str(path), tile=True, tile_width=128, tile_height=128, pyramid=True, compression="deflate")
    return path, pixels


# what a slide says about itself


@pytest.mark.parametrize("vendor", ["aperio", "generic-tiff"])
def test_vendor_and_levels_of_a_made_slide(tmp_path, vendor):
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768), vendor=vendor)
    with reader.Slide(path) as slide:
        assert slide.vendor == vendor
        assert slide.l0_size == (1024, 768)
        assert slide.l0_bounds == (0, 0, 1024, 768)
        assert slide.levels == (
            reader.Level(1024, 768, 1.0, 0),
            reader.Level(512, 384, 2.0, 1),
            reader.Level(256, 192, 4.0, 2),
        )


def test_levels_without_jpeg_have_no_page_of_tiles(lossless):
    with reader.Slide(lossless[0]) as slide:
        assert [level.tiff_page for level in slide.levels] == [None] * 4
        assert np.array_equal(read(slide, 0, (0, 0, 701, 503)), lossless[1])


class TestRealSlides:
    pytestmark = needs_real_slides

    def test_a_slide_with_label_macro_and_thumbnail(self):
        with reader.Slide(CMU) as slide:
            assert slide.vendor == "aperio"
            assert slide.levels == (reader.Level(2220, 2967, 1.0, 0),)
            assert reader.find_resolution(slide.properties, None) == reader.Resolution(0.499, "file")

    def test_a_slide_in_jpeg_2000_without_resolution(self):
        with reader.Slide(TCGA) as slide:
            assert slide.vendor == "aperio"
            assert [(level.width, level.height, level.tiff_page) for level in slide.levels] == [
                (4443, 3567, None),
                (2221, 1783, None),
            ]
            assert slide.levels[1].downsample == pytest.approx((4443 / 2221 + 3567 / 1783) / 2)
            found = reader.find_resolution(slide.properties, None)
            assert (found.mpp, found.status) == (None, "no mpp")
            assert reader.find_resolution(slide.properties, 0.25) == reader.Resolution(0.25, "sheet")

    def test_jpeg_pixels_are_openslides(self):
        with reader.Slide(CMU) as slide:
            for place in rectangles(slide.levels[0], 25):
                assert slide._jpeg[0].read(*place) is not None
                assert np.array_equal(read(slide, 0, place), by_openslide(CMU, 0, place)), place

    def test_jpeg_2000_pixels_are_openslides(self):
        with reader.Slide(TCGA) as slide:
            for place in rectangles(slide.levels[0], 4, largest=200):
                assert np.array_equal(read(slide, 0, place), by_openslide(TCGA, 0, place)), place
            assert np.array_equal(read(slide, 1, (0, 0, 200, 100)), by_openslide(TCGA, 1, (0, 0, 200, 100)))

    def test_squares_of_a_row_are_those_read_alone(self):
        """Level 1 has 2.0005 pixels of level 0 a pixel, and OpenSlide interpolates."""
        with reader.Slide(TCGA) as slide:
            places = [501, 601, 1001]
            row = slide.read_row(level=1, level_x=places, level_y=333, size=100)
            for x, square in zip(places, row, strict=True):
                assert np.array_equal(square, read(slide, 1, (x, 333, 100, 100)))


# the same pixels by either reader


@pytest.mark.parametrize("vendor", ["aperio", "generic-tiff"])
@pytest.mark.parametrize("tile", [128, 256])
def test_jpeg_pixels_are_openslides_at_every_level(tmp_path, vendor, tile):
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768), vendor=vendor, tile=tile)
    with reader.Slide(path) as slide:
        for index, level in enumerate(slide.levels):
            step = int(level.downsample)
            for x, y, width, height in rectangles(level, 20):
                assert slide._jpeg[index].read(x, y, width, height) is not None
                found = read(slide, index, (x, y, width, height))
                assert found.dtype == np.uint8
                assert np.array_equal(found, by_openslide(path, index, (x * step, y * step, width, height)))


@pytest.mark.parametrize("vendor", ["aperio", "generic-tiff"])
def test_jpeg_pixels_of_a_level_that_is_no_whole_fraction_are_the_levels_own(tmp_path, vendor):
    """OpenSlide gives a level's own pixels at its origin alone, elsewhere it interpolates."""
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1021, 763), vendor=vendor)
    with reader.Slide(path) as slide:
        for index, level in enumerate(slide.levels):
            whole = by_openslide(path, index, (0, 0, level.width, level.height))
            for x, y, width, height in rectangles(level, 20):
                assert np.array_equal(read(slide, index, (x, y, width, height)), whole[y : y + height, x : x + width])


def test_squares_of_a_row_are_those_read_alone(tmp_path, lossless):
    jpeg = slide_factory.write_slide(tmp_path / "a.tif", size=(1021, 763))
    for path in (jpeg, lossless[0]):
        with reader.Slide(path) as slide:
            for level in (0, 1):
                places = [10, 45, 70, 120, 121]
                row = slide.read_row(level=level, level_x=places, level_y=31, size=50)
                for x, square in zip(places, row, strict=True):
                    assert np.array_equal(square, read(slide, level, (x, 31, 50, 50)))


def test_threads_that_share_a_slide_read_the_same(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768))
    with reader.Slide(path) as slide:
        places = rectangles(slide.levels[0], 60)
        alone = [read(slide, 0, place) for place in places]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda place: read(slide, 0, place), places * 3))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 3, together, strict=True))


def test_what_one_slide_read_another_of_the_same_name_does_not(tmp_path):
    """libvips keeps results of operations by the file's name."""
    path = tmp_path / "a.tif"
    for seed in (1, 2):
        slide_factory.write_slide(path, size=(512, 512), seed=seed)
        with reader.Slide(path) as slide:
            assert np.array_equal(read(slide, 0, (0, 0, 512, 512)), by_openslide(path, 0, (0, 0, 512, 512)))


@pytest.mark.parametrize(
    "place", [(-1, 0, 10, 10), (0, -1, 10, 10), (503, 0, 10, 10), (0, 375, 10, 10), (0, 0, 513, 1)]
)
def test_a_place_beyond_the_level_is_an_error(tmp_path, place):
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768))
    x, y, width, height = place
    said = rf"a\.tif: level 1 has 512 x 384 pixels; asked for {width} x {height} at \({x}, {y}\)"
    with reader.Slide(path) as slide, pytest.raises(ValueError, match=said):
        read(slide, 1, place)
    if width == height:
        with reader.Slide(path) as slide, pytest.raises(ValueError, match=said):
            slide.read_row(level=1, level_x=[x], level_y=y, size=width)


def test_where_the_scanner_has_no_pixels_is_background(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768))
    before = by_openslide(path, 0, (0, 0, 1024, 768))
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[0]
        lengths = list(page.databytecounts)
        lengths[5] = 0
        page.tags["TileByteCounts"].overwrite(lengths)
    with reader.Slide(path) as slide:
        found = read(slide, 0, (0, 0, 1024, 768))
    assert (found[256:512, 256:512] == 255).all()
    elsewhere = np.ones((768, 1024), bool)
    elsewhere[256:512, 256:512] = False
    assert np.array_equal(found[elsewhere], before[elsewhere])


# files that cannot be read


@pytest.mark.parametrize("breaker", [slide_factory.zero_bytes, slide_factory.not_an_image, None])
def test_what_is_no_slide_is_refused(tmp_path, breaker):
    path = tmp_path / "a.svs"
    if breaker is None:
        slide_factory.truncate(slide_factory.write_slide(path, size=(1024, 768)))
    else:
        breaker(path)
    with pytest.raises(reader.UnreadableSlideError, match=r"^[^\n]+$"):
        reader.Slide(path)


def halved(data):
    return data[: len(data) // 2] + b"\xff" * (len(data) - len(data) // 2)


def without_end(data):
    return data[:-2] + b"\x00\x00"


def without_header(data):
    return b"\x00" * len(data)


def without_first_bytes(data):
    """Its end looks whole, so libvips is asked, and fails."""
    return b"\x00" * 20 + data[20:]


@pytest.mark.parametrize("vendor", ["aperio", "generic-tiff"])
@pytest.mark.parametrize("damage", [halved, without_header, without_first_bytes])
def test_a_damaged_tile_is_refused_however_often_and_by_whom_it_is_read(tmp_path, vendor, damage):
    """libvips says nothing of a stream that ends early, and after an error gives the tile as black pixels."""
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768), vendor=vendor)
    whole = by_openslide(path, 0, (0, 0, 1024, 768))
    edit_tile(path, damage)
    places = [(256, 256, 256, 256), (300, 300, 10, 10), (200, 200, 100, 100), (0, 0, 1024, 768)]
    outcomes = []

    def try_all(slide):
        for place in places * 2:
            try:
                read(slide, 0, place)
                outcomes.append(place)
            except reader.UnreadableSlideError:
                outcomes.append("refused")

    with reader.Slide(path) as slide:
        try_all(slide)
        thread = threading.Thread(target=try_all, args=(slide,))
        thread.start()
        thread.join()
        assert outcomes == ["refused"] * 16
    # what is not damaged is read as before
    with reader.Slide(path) as slide:
        for x, y in ((0, 0), (512, 256), (768, 512)):
            assert np.array_equal(read(slide, 0, (x, y, 256, 256)), whole[y : y + 256, x : x + 256])
        assert read(slide, 1, (0, 0, 512, 384)).shape == (384, 512, 3)


def test_a_stream_that_lacks_its_end_alone_is_left_to_openslide(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768))
    edit_tile(path, without_end)
    with reader.Slide(path) as slide:
        assert slide._jpeg[0].read(256, 256, 10, 10) is None
        assert slide._jpeg[0].read(0, 0, 10, 10) is not None
        with pytest.raises(reader.UnreadableSlideError):
            read(slide, 0, (256, 256, 256, 256))


def test_a_tile_beyond_the_end_of_the_file_is_refused(tmp_path):
    """As in a slide whose directory stands in front and whose copy broke off."""
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768))
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[0]
        offsets = list(page.dataoffsets)
        offsets[5] = path.stat().st_size + 1000
        page.tags["TileOffsets"].overwrite(offsets)
    with reader.Slide(path) as slide, pytest.raises(reader.UnreadableSlideError):
        read(slide, 0, (256, 256, 256, 256))


def test_a_directory_that_tifffile_fails_on_offers_no_pages(tmp_path):
    """OpenSlide, which opens the slide before, then reads it or has refused it."""
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768))
    with open(path, "rb") as file:
        assert set(jpeg_tiles.jpeg_pages(file)) == {(1024, 768), (512, 384), (256, 192)}
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags["SampleFormat"].valueoffset
    with open(path, "r+b") as file:
        # three sample formats of which one does not exist
        file.seek(place)
        file.write(b"\x01\x00\x01\x00\xf6\x00")
    with pytest.raises(TypeError), tifffile.TiffFile(path) as file:
        list(file.pages)
    with open(path, "rb") as file:
        assert jpeg_tiles.jpeg_pages(file) == {}


# resolution


def properties(mpp_x=None, mpp_y=None, power=None):
    named = {"mpp-x": mpp_x, "mpp-y": mpp_y, "objective-power": power}
    return {f"openslide.{name}": value for name, value in named.items() if value is not None}


@pytest.mark.parametrize(
    ("given", "sheet", "mpp", "source"),
    [
        (properties("0.25", "0.25", "40"), None, 0.25, "file"),
        (properties("0.499", "0.499", "20"), None, 0.499, "file"),
        (properties("0.2", "0.22"), None, 0.21, "file"),
        (properties("0.25"), None, 0.25, "file"),
        (properties(None, None, "40"), None, 0.25, "objective power"),
        (properties(None, None, "20"), None, 0.5, "objective power"),
        (properties("none", "none", "20"), None, 0.5, "objective power"),
        (properties("nan", "inf", "20"), None, 0.5, "objective power"),
        # exactly 10 % apart is no contradiction
        (properties("0.55", "0.55", "20"), None, 0.55, "file"),
        (properties("0.45", "0.45", "20"), None, 0.45, "file"),
        (properties("0.275", "0.275", "40"), None, 0.275, "file"),
        (properties("0.225", "0.225", "40"), None, 0.225, "file"),
        (properties("1", "1.1"), None, 1.05, "file"),
        # a power of 0 says nothing
        (properties("0.5", "0.5", "0"), None, 0.5, "file"),
        # the sheet decides over everything
        (properties("0.25", "0.25", "40"), 0.5, 0.5, "sheet"),
        (properties("0.5", "0.5", "40"), 0.5, 0.5, "sheet"),
        (properties("0.5", "0.9"), 0.3, 0.3, "sheet"),
        (properties("0", "0", "40"), 0.3, 0.3, "sheet"),
        (properties("352.8", "352.8"), 0.3, 0.3, "sheet"),
        (properties(), 0.3, 0.3, "sheet"),
    ],
)
def test_a_resolution_is_found_and_says_whose_it_is(given, sheet, mpp, source):
    found = reader.find_resolution(given, sheet)
    assert found == reader.Resolution(pytest.approx(mpp), source, "ok", "")


@pytest.mark.parametrize(
    ("given", "status", "why"),
    [
        (properties(), "no mpp", "states neither a resolution nor an objective power"),
        (properties(None, None, "0"), "no mpp", "states neither a resolution nor an objective power"),
        (properties(None, None, "-20"), "no mpp", "states neither a resolution nor an objective power"),
        (properties("0", "0", "20"), "no mpp", "states 0 x 0 um a pixel, outside the 0.05 to 10 of slide scanners"),
        (properties("-0.5", "-0.5"), "no mpp", "states -0.5 x -0.5 um a pixel, outside the 0.05 to 10"),
        (properties("352.778", "352.778"), "no mpp", "states 352.778 x 352.778 um a pixel, outside the 0.05 to 10"),
        (properties("0.5", "0.6"), "mpp conflict", "states 0.5 um a pixel across and 0.6 down"),
        (properties("1", "1.1001"), "mpp conflict", "states 1 um a pixel across and 1.1001 down"),
        (
            properties("0.5", "0.5", "40"),
            "mpp conflict",
            "states 0.5 um a pixel, and an objective power of 40x, that is 0.25 um",
        ),
        (
            properties("0.5501", "0.5501", "20"),
            "mpp conflict",
            "states 0.5501 um a pixel, and an objective power of 20x",
        ),
        (
            properties("0.4499", "0.4499", "20"),
            "mpp conflict",
            "states 0.4499 um a pixel, and an objective power of 20x",
        ),
    ],
)
def test_a_resolution_that_nobody_states_or_two_state_is_a_status_with_its_remedy(given, status, why):
    found = reader.find_resolution(given, None)
    assert (found.mpp, found.source, found.status) == (None, "", status)
    assert why in found.reason
    assert found.reason.endswith("write the resolution into the sheet's column mpp, or remove the slide")


# the description


def inspect(tmp_path, path, *, sheet_mpp=None, missing_mpp="exclude", exists=True):
    reader.inspect_slide(
        description=str(tmp_path / "s1.json"),
        slide="s1",
        image_in_sheet="S 1",
        path="scans/s1.svs",
        sheet_mpp=sheet_mpp,
        missing_mpp=missing_mpp,
        slide_file=str(path) if exists else [],
    )
    return store.read_json(tmp_path / "s1.json")


def test_the_description_of_a_slide(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.svs", size=(1024, 768), mpp=0.5, power=20)
    found = inspect(tmp_path, path)
    stat = path.stat()
    with openslide.OpenSlide(path) as slide:
        quickhash = slide.properties["openslide.quickhash-1"]
    assert found == {
        **{"slide": "s1", "image_in_sheet": "S 1", "path": "scans/s1.svs", "status": "ok", "reason": ""},
        **{"vendor": "aperio", "reader": "libjpeg-turbo", "size": [1024, 768], "mpp": 0.5, "mpp_source": "file"},
        "levels": [
            {"size": [1024, 768], "downsample": 1.0, "tiff_page": 0},
            {"size": [512, 384], "downsample": 2.0, "tiff_page": 1},
            {"size": [256, 192], "downsample": 4.0, "tiff_page": 2},
        ],
        **{"objective_power": 20.0, "quickhash": quickhash, "bytes": stat.st_size, "mtime": stat.st_mtime},
    }


def test_the_nominal_power_is_marked(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.svs", size=(512, 512), mpp=None, power=20)
    found = inspect(tmp_path, path, missing_mpp="fail")
    assert (found["mpp"], found["mpp_source"], found["status"]) == (0.5, "objective power", "ok")


def test_the_resolution_of_a_plain_tiff_is_found(tmp_path):
    path = slide_factory.write_generic_slide(tmp_path / "a.tif", size=(512, 512), mpp=0.25)
    found = inspect(tmp_path, path)
    assert (found["mpp"], found["mpp_source"], found["vendor"]) == (pytest.approx(0.25), "file", "generic-tiff")


@pytest.mark.parametrize(
    ("breaker", "reason"),
    [
        (slide_factory.zero_bytes, "the file is empty (0 bytes)"),
        (slide_factory.not_an_image, "Unsupported or missing image file"),
        (None, "Unsupported or missing image file"),
    ],
)
def test_a_file_that_is_no_slide_gets_a_status(tmp_path, breaker, reason):
    path = tmp_path / "a.svs"
    if breaker is None:
        slide_factory.truncate(slide_factory.write_slide(path, size=(512, 512)))
    else:
        breaker(path)
    assert inspect(tmp_path, path, missing_mpp="fail") == {
        **{"slide": "s1", "image_in_sheet": "S 1", "path": "scans/s1.svs"},
        **{"status": "unreadable", "reason": reason},
    }


def test_a_missing_file_gets_a_status(tmp_path):
    assert inspect(tmp_path, None, exists=False, missing_mpp="fail") == {
        **{"slide": "s1", "image_in_sheet": "S 1", "path": "scans/s1.svs"},
        **{"status": "missing", "reason": "no file at scans/s1.svs"},
    }


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"mpp": None, "power": None}, "no mpp"),
        ({"mpp": 0}, "no mpp"),
        ({"mpp": -0.5}, "no mpp"),
        ({"mpp": 0.5, "power": 40}, "mpp conflict"),
    ],
)
def test_a_slide_without_a_resolution_stops_the_job_or_gets_a_status(tmp_path, options, status):
    path = slide_factory.write_slide(tmp_path / "a.svs", size=(512, 512), **options)
    with pytest.raises(ValueError, match=r"slide S 1 \(scans/s1\.svs\): .* um|neither") as caught:
        inspect(tmp_path, path, missing_mpp="fail")
    assert "column mpp" in str(caught.value)
    assert "missing_mpp: exclude" in str(caught.value)
    assert not (tmp_path / "s1.json").exists()
    found = inspect(tmp_path, path, missing_mpp="exclude")
    assert (found["mpp"], found["mpp_source"], found["status"]) == (None, "", status)
    assert found["reason"] in str(caught.value)
    found = inspect(tmp_path, path, sheet_mpp=0.5, missing_mpp="fail")
    assert (found["mpp"], found["mpp_source"], found["status"]) == (0.5, "sheet", "ok")


def test_slides_without_a_quickhash_are_told_apart_by_their_ends(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"a" * 3_000_000)
    first = reader._ends_sha256(path)
    for place, same in ((0, False), (2_999_999, False), (1_500_000, True)):
        path.write_bytes(b"a" * 3_000_000)
        with open(path, "r+b") as file:
            file.seek(place)
            file.write(b"b")
        assert (reader._ends_sha256(path) == first) is same


# levels and overviews


@pytest.mark.parametrize(
    ("downsample", "level"),
    [
        (0.5, 0),
        (1.0, 0),
        (1.97, 0),
        # 2 is within 1 % of 1.99
        (1.99, 1),
        (2.0, 1),
        (3.9, 1),
        (3.97, 2),
        (100.0, 2),
    ],
)
def test_the_coarsest_level_that_is_fine_enough_is_taken(tmp_path, downsample, level):
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768))
    with reader.Slide(path) as slide:
        assert slide.level_for(downsample) == level
        assert slide.level_for(downsample, strict=True) == 0


@pytest.mark.parametrize(
    ("downsample", "level"),
    [(1.0, 0), (2.0, 1), (2.01, 1), (2.05, 0), (2.7, 0), (2.8, 1), (4.0, 2), (4.5, 1), (5.6, 2)],
)
def test_a_level_has_the_asked_resolution_or_is_finer_by_a_factor(tmp_path, downsample, level):
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1024, 768))
    with reader.Slide(path) as slide:
        assert slide.level_for(downsample, finer=1.4) == level


@pytest.mark.parametrize(
    ("asked", "level", "factor"), [(1, 0, 1), (3, 1, 1), (4, 2, 1), (12, 2, 3), (13.5, 2, 3), (16, 2, 4), (0.5, 0, 1)]
)
def test_an_overview_is_the_mean_of_what_each_pixel_covers(tmp_path, monkeypatch, asked, level, factor):
    # many strips, as on a large slide
    monkeypatch.setattr(reader, "OVERVIEW_STRIP", 10_000)
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(1000, 700))
    with reader.Slide(path) as slide:
        picture, downsample = slide.overview(asked)
        plane = slide.levels[level]
        pixels = read(slide, level, (0, 0, plane.width, plane.height)).astype(int)
    assert downsample == plane.downsample * factor
    assert picture.shape == (-(-plane.height // factor), -(-plane.width // factor), 3)
    for row in range(0, picture.shape[0], 7):
        for column in range(0, picture.shape[1], 5):
            under = pixels[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            assert np.array_equal(picture[row, column], np.rint(under.mean(axis=(0, 1))).astype(int))


def test_an_average_by_hand():
    picture = np.zeros((3, 5, 3), np.uint8)
    picture[..., 0] = [[0, 2, 10, 20, 7], [4, 6, 30, 40, 9], [100, 200, 50, 60, 255]]
    assert reader.area_averaged(picture, 2)[..., 0].tolist() == [[3, 25, 8], [150, 55, 255]]
    assert np.array_equal(reader.area_averaged(picture, 1), picture)
    # 793 / 15 = 52.9
    assert reader.area_averaged(picture, 100)[..., 0].tolist() == [[53]]


def test_an_overview_of_a_slide_without_a_pyramid(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(600, 500), levels=False)
    with reader.Slide(path) as slide:
        picture, downsample = slide.overview(16)
        pixels = read(slide, 0, (0, 0, 592, 496)).reshape(31, 16, 37, 16, 3).mean(axis=(1, 3))
        corner = read(slide, 0, (592, 496, 8, 4)).mean(axis=(0, 1))
    assert downsample == 16
    assert picture.shape == (32, 38, 3)
    assert np.array_equal(picture[:31, :37], np.rint(pixels).astype(np.uint8))
    assert np.array_equal(picture[31, 37], np.rint(corner).astype(np.uint8))


def test_an_overview_of_a_slide_smaller_than_one_of_its_pixels_has_one(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.tif", size=(20, 300), levels=False)
    with reader.Slide(path) as slide:
        picture, downsample = slide.overview(64)
    assert picture.shape == (5, 1, 3)
    assert downsample == 64
