"""Tissue is parted from glass by one threshold a slide; pen, dust and empty slides are not tissue."""

from __future__ import annotations

import numpy as np
import pytest
import slide_factory
from PIL import Image
from repository import DATA

from histotransfer import store
from histotransfer.slides import reader, tissue

CMU, TCGA = DATA / "slides/CMU-1-Small-Region.svs", DATA / "slides/TCGA-CR-7395-01A-01-TS1.svs"

GLASS, PINK, PURPLE = (240, 240, 240), (220, 150, 190), (150, 60, 140)
BLUE_PEN, GREEN_PEN, BLACK_PEN = (40, 60, 160), (40, 140, 80), (36, 38, 44)


def plain(height, width, colour=GLASS):
    return np.full((height, width, 3), colour, np.uint8)


# Otsu's threshold


@pytest.mark.parametrize(
    ("values", "threshold"),
    [
        # all between two values part them alike: the lowest is taken
        ([0, 255], 0),
        ([10, 10, 10, 200, 200], 10),
        # sides {10, 12} and {90, 94, 98}; any other parting takes 90 or 12 to the wrong side
        ([10, 12, 90, 94, 98], 12),
        # {0, 0, 0, 0} and {4, 10}: 4 * 2 * 7^2 = 392 against 5 * 1 * 9.2^2 = 423.2 for {0, 0, 0, 0, 4} and {10}
        ([0, 0, 0, 0, 4, 10], 4),
        # one value alone has no two sides
        ([7, 7, 7], 0),
        ([0], 0),
    ],
)
def test_the_threshold_of_hand_made_histograms(values, threshold):
    assert tissue.otsu_threshold(np.array(values, np.uint8)) == threshold


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_is_the_best_of_all(seed):
    """Otsu 1979, equation 14: the variance between classes is w0 w1 (mu1 - mu0)^2."""
    rng = np.random.default_rng(seed)
    values = np.concatenate(
        [rng.normal(rng.uniform(0, 255), rng.uniform(1, 40), int(rng.integers(5, 400))) for _ in range(1 + seed % 4)]
    )
    values = np.clip(np.rint(values), 0, 255).astype(np.uint8)

    def between(threshold):
        low, high = values[values <= threshold], values[values > threshold]
        return len(low) * len(high) * (high.mean() - low.mean()) ** 2 if len(low) and len(high) else -1.0

    every = [between(threshold) for threshold in range(256)]
    assert between(tissue.otsu_threshold(values)) == pytest.approx(max(every), rel=1e-12)


# saturation and pen


@pytest.mark.parametrize(
    ("colour", "saturation"),
    [
        ((255, 0, 0), 255),
        ((0, 0, 255), 255),
        ((200, 100, 150), 128),
        ((100, 99, 98), 5),
        (GLASS, 0),
        ((0, 0, 0), 0),
        ((255, 255, 255), 0),
        ((1, 0, 0), 255),
    ],
)
def test_saturation_is_that_of_hsv(colour, saturation):
    assert tissue.saturation(plain(1, 1, colour)).tolist() == [[saturation]]


@pytest.mark.parametrize("colour", [BLUE_PEN, GREEN_PEN, BLACK_PEN])
def test_ink_of_blue_green_and_black_pen_is_pen(colour):
    assert tissue.is_pen(plain(1, 1, colour)).all()


@pytest.mark.parametrize(
    "colour",
    [PINK, PURPLE, (90, 60, 120), (120, 80, 40), GLASS, (255, 255, 255), (243, 244, 242), (236, 238, 241), (0, 0, 0)],
)
def test_stains_and_glass_are_no_pen(colour):
    assert not tissue.is_pen(plain(1, 1, colour)).any()


# the mask


def find(picture, *, um_per_px=10.0, threshold="otsu", exclude_pen=True):
    return tissue.find_tissue(picture, um_per_px=um_per_px, threshold=threshold, exclude_pen=exclude_pen)


@pytest.mark.parametrize("exclude_pen", [True, False])
@pytest.mark.parametrize("glass", [GLASS, (243, 241, 244), (240, 244, 242)])
def test_pale_tissue_is_parted_from_glass_and_not_from_dark_tissue(exclude_pen, glass):
    """Whatever the tint of the glass, it takes part in the threshold."""
    picture = plain(200, 200, glass)
    picture[50:150, 50:100] = PINK
    picture[50:150, 100:150] = PURPLE
    expected = np.zeros((200, 200), bool)
    expected[50:150, 50:150] = True
    mask, used = find(picture, exclude_pen=exclude_pen)
    assert np.array_equal(mask, expected)
    assert tissue.LEAST_SATURATION <= used < 70 / 220


def test_pen_is_no_tissue_on_glass_or_within_tissue():
    picture = plain(200, 200)
    picture[50:150, 50:150] = PINK
    picture[20:40, :] = BLUE_PEN
    picture[90:110, 60:140] = GREEN_PEN
    # smaller than any hole that is filled
    picture[70:74, 70:74] = BLACK_PEN
    expected = np.zeros((200, 200), bool)
    expected[50:150, 50:150] = True
    expected[90:110, 60:140] = False
    expected[70:74, 70:74] = False
    mask, _ = find(picture)
    assert np.array_equal(mask, expected)
    with_pen, _ = find(picture, exclude_pen=False)
    assert with_pen[20:40, :].all()


def test_specks_below_a_hundredth_of_a_square_millimetre_go_and_such_holes_are_filled():
    """At 10 um a pixel that is 100 pixels."""
    picture = plain(100, 200)
    picture[10:90, 10:90] = PINK
    picture[20:30, 20:30] = GLASS
    picture[40:50, 40:49] = GLASS
    picture[20:30, 120:130] = PINK
    picture[40:50, 140:149] = PINK
    expected = np.zeros((100, 200), bool)
    expected[10:90, 10:90] = True
    expected[20:30, 20:30] = False
    expected[20:30, 120:130] = True
    assert np.array_equal(find(picture)[0], expected)
    # the same picture at 20 um a pixel has no specks
    expected[40:50, 40:49] = False
    expected[40:50, 140:149] = True
    assert np.array_equal(find(picture, um_per_px=20.0)[0], expected)


def test_a_threshold_of_ones_own_is_exceeded_by_tissue():
    # saturation 0.2 exactly
    picture = plain(20, 20, (250, 200, 220))
    for threshold, is_tissue in ((0.19, True), (0.2, False), (0.0, True)):
        mask, used = find(picture, threshold=threshold)
        assert used == threshold
        assert mask.all() == mask.any() == is_tissue


@pytest.mark.parametrize("tint", [(0, 0, 0), (3, 0, 2), (0, 3, 1)])
def test_an_empty_slide_has_no_tissue_however_noisy(tint):
    rng = np.random.default_rng(0)
    picture = (np.array([238, 238, 238]) + tint + rng.integers(-4, 5, (300, 300, 3))).astype(np.uint8)
    mask, used = find(picture)
    assert not mask.any()
    assert used == tissue.LEAST_SATURATION


def test_a_picture_of_pen_alone_has_no_tissue():
    assert not find(plain(50, 50, BLUE_PEN))[0].any()


# the files


def written(folder, path, *, exists=True, **options):
    """Inspect a slide and write its mask; return the mask, what its text says, and the overlay."""
    reader.inspect_slide(
        description=str(folder / "s.json"),
        slide="s",
        image_in_sheet="S/1",
        path="s.svs",
        sheet_mpp=options.pop("sheet_mpp", None),
        missing_mpp="exclude",
        slide_file=str(path) if exists else [],
    )
    tissue.write_mask(
        slide_file=str(path) if exists else [],
        description=str(folder / "s.json"),
        mask=str(folder / "s.png"),
        overlay=str(folder / "s.jpg"),
        **{"threshold": "otsu", "exclude_pen": True, **options},
    )
    with Image.open(folder / "s.jpg") as overlay:
        assert overlay.format == "JPEG"
        return *tissue.read_mask(folder / "s.png"), np.asarray(overlay.convert("RGB"))


def test_the_mask_and_overlay_of_a_slide(tmp_path):
    # 0.5 um a pixel: a mask pixel of 8 um has 16 pixels
    path = slide_factory.write_slide(tmp_path / "a.svs", size=(2048, 1536))
    mask, said, overlay = written(tmp_path, path)
    assert mask.shape == (96, 128)
    assert mask.dtype == bool
    assert said.keys() == {"status", "reason", "threshold", "downsample"}
    assert (said["status"], said["reason"], float(said["downsample"])) == ("ok", "", 16.0)
    y, x = np.mgrid[-1:1:96j, -1:1:128j]
    expected = x**2 + y**2 < 0.8**2
    assert (mask != expected).mean() < 0.02
    with Image.open(tmp_path / "s.png") as image:
        assert (image.format, image.mode) == ("PNG", "L")
        assert set(np.unique(np.asarray(image))) == {0, 255}
    # the overlay: glass paled, the outline black, the tissue as it is
    assert overlay.shape == (750, 1000, 3)
    assert overlay[:40, :40].mean() > 240
    with reader.Slide(path) as slide:
        picture, _ = slide.overview(16)
    middle = np.s_[40:56, 54:74]
    in_overlay = overlay[int(40 * 7.8125) : int(56 * 7.8125), int(54 * 7.8125) : int(74 * 7.8125)]
    assert np.allclose(in_overlay.mean(axis=(0, 1)), picture[middle].mean(axis=(0, 1)), atol=4)
    dark = overlay.max(axis=2) < 60
    assert 2000 < dark.sum() < 12_000
    rows, columns = np.nonzero(dark)
    radius = np.hypot((columns + 0.5) / 500 - 1, (rows + 0.5) / 375 - 1)
    assert np.quantile(np.abs(radius - 0.8), 0.99) < 0.05


def test_a_blank_slide_has_no_tissue(tmp_path):
    path = slide_factory.write_slide(tmp_path / "a.svs", size=(1024, 1024), tissue=False)
    mask, said, overlay = written(tmp_path, path)
    assert (said["status"], said["reason"]) == ("no tissue", "no region above the saturation threshold of 0.050")
    assert mask.shape == (64, 64)
    assert not mask.any()
    assert overlay.shape == (1000, 1000, 3)


def is_card(picture):
    """Tell the grey card that says why there is no picture."""
    return picture.shape == (360, 640, 3) and 150 < picture.mean() < 220 and picture.min() < 120


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("missing", "missing", "no file at s.svs"),
        ("empty", "unreadable", "the file is empty (0 bytes)"),
        ("no mpp", "no mpp", "the file states neither"),
        ("conflict", "mpp conflict", "an objective power of 40x"),
        ("damaged", "unreadable", "JPEG"),
    ],
)
def test_a_slide_that_cannot_be_used_gets_a_mask_and_a_card_that_say_so(tmp_path, kind, status, reason):
    path = tmp_path / "a.svs"
    if kind == "empty":
        slide_factory.zero_bytes(path)
    elif kind != "missing":
        options = {"no mpp": {"mpp": None, "power": None}, "conflict": {"power": 40}, "damaged": {"levels": False}}
        slide_factory.write_slide(path, size=(512, 512), **options[kind])
    if kind == "damaged":
        slide_factory.corrupt_later_tiles(path)
    mask, said, overlay = written(tmp_path, path, exists=kind != "missing")
    assert said.keys() == {"status", "reason"}
    assert said["status"] == status
    assert reason in said["reason"]
    assert mask.tolist() == [[False]]
    assert is_card(overlay)


def test_a_reason_of_any_length_and_script_fits_on_the_card(tmp_path):
    store.write_json(
        tmp_path / "s.json",
        {
            "slide": "s",
            "image_in_sheet": "Präparat \N{MICROSCOPE} 試料",
            "status": "missing",
            "reason": "µ\N{SNOWMAN} " * 500,
        },
    )
    tissue.write_mask(
        slide_file=[],
        description=str(tmp_path / "s.json"),
        mask=str(tmp_path / "s.png"),
        overlay=str(tmp_path / "s.jpg"),
        threshold="otsu",
        exclude_pen=True,
    )
    assert tissue.read_mask(tmp_path / "s.png")[1]["reason"] == "µ\N{SNOWMAN} " * 500
    with Image.open(tmp_path / "s.jpg") as overlay:
        assert is_card(np.asarray(overlay))


@pytest.mark.real_data
@pytest.mark.skipif(not CMU.exists(), reason=f"needs the real slides; none in {DATA} (HISTOTRANSFER_TEST_DATA)")
@pytest.mark.parametrize(("path", "mpp", "share"), [(CMU, None, 0.33), (TCGA, 0.25, 0.63)])
def test_real_tissue(tmp_path, path, mpp, share):
    mask, said, _ = written(tmp_path, path, sheet_mpp=mpp)
    assert said["status"] == "ok"
    assert mask.mean() == pytest.approx(share, abs=0.03)
    # what Otsu's threshold alone says, without anything done to the mask, differs by specks and holes
    with reader.Slide(path) as slide:
        picture, _ = slide.overview(float(said["downsample"]))
    alone = tissue.saturation(picture) > float(said["threshold"]) * 255
    assert (alone != mask).mean() < 0.08
