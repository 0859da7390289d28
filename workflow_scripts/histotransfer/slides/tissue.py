"""Where the tissue is on a slide: Otsu's threshold on a low level, one threshold a slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from histotransfer import store
from histotransfer.slides import reader

# ASSUME: 8 um a pixel shows tissue borders well enough for tiles of 100 um and more; against full resolution the
# fractions agreed for 99.3 to 100 % of the tiles.
OVERVIEW_UM = 8.0

# ASSUME: a saturation below 0.05 is glass, whatever Otsu says: on an empty slide it would split the noise.
LEAST_SATURATION = 0.05

# ASSUME: specks of less than 0.01 mm2 (100 um x 100 um) are dust, holes smaller than that belong to the tissue.
SPECK_UM2 = 1e4


def otsu_threshold(values: np.ndarray) -> int:
    """Return Otsu's threshold: the value that parts a histogram with the greatest variance between its two sides.

    Parameters
    ----------
    values : ndarray of uint8, any shape

    Returns
    -------
    int
        Values above it belong to the upper class.

    References
    ----------
    Otsu 1979, A threshold selection method from gray-level histograms, equation 18.
    """
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    omega = np.cumsum(counts)
    mu = np.cumsum(counts * np.arange(256))
    below, above = omega, omega[-1] - omega
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mu[-1] * omega / omega[-1] - mu) ** 2 / (below * above)
    return int(np.argmax(np.where(np.isfinite(between), between, -1.0)))


def saturation(picture: np.ndarray) -> np.ndarray:
    """Return the HSV saturation of an RGB picture, scaled to 0..255.

    Parameters
    ----------
    picture : ndarray of shape (h, w, 3), uint8

    Returns
    -------
    ndarray of shape (h, w), uint8
    """
    high = picture.max(axis=2).astype(np.float32)
    low = picture.min(axis=2)
    return np.rint(255.0 * (high - low) / np.maximum(high, 1.0)).astype(np.uint8)


def is_pen(picture: np.ndarray) -> np.ndarray:
    """Return the coloured pixels whose green reaches their red: blue, green and black pen, never H&E or DAB.

    Parameters
    ----------
    picture : ndarray of shape (h, w, 3), uint8

    Returns
    -------
    ndarray of shape (h, w), bool
    """
    # ASSUME: haematoxylin, eosin and DAB all pass more red than green light; blue and green ink does not. Red ink looks
    # like eosin and stays. Glass is grey and no pen: it belongs to the histogram that parts it from the tissue.
    return (picture[:, :, 1] >= picture[:, :, 0]) & (saturation(picture) > LEAST_SATURATION * 255.0)


def find_tissue(
    picture: np.ndarray, *, um_per_px: float, threshold: str | float, exclude_pen: bool
) -> tuple[np.ndarray, float]:
    """Return the mask of the tissue on an overview picture.

    Parameters
    ----------
    picture : ndarray of shape (h, w, 3), uint8
        The slide at low resolution.
    um_per_px : float
        Its resolution in micrometres.
    threshold : 'otsu' or float
        A number is a saturation in 0..1 that tissue exceeds.
    exclude_pen : bool
        Leave out pixels of blue, green and black pen, and keep them out of the threshold.

    Returns
    -------
    mask : ndarray of shape (h, w), bool
    threshold : float
        The saturation in 0..1 that was used.
    """
    from scipy import ndimage

    values = saturation(picture)
    usable = ~is_pen(picture) if exclude_pen else np.ones(values.shape, bool)
    if threshold == "otsu":
        otsu = otsu_threshold(values[usable]) / 255.0 if usable.any() else 1.0
        used = max(otsu, LEAST_SATURATION)
    else:
        used = float(threshold)
    mask = usable & (values > used * 255.0)
    speck = SPECK_UM2 / um_per_px**2
    mask = _without_small(mask, speck, ndimage)
    # pen inside the tissue stays out, whatever the size of the hole
    mask = ~_without_small(~mask, speck, ndimage) & usable
    return mask, used


def _without_small(mask: np.ndarray, n_pixels: float, ndimage: object) -> np.ndarray:
    labels, n = ndimage.label(mask)
    if not n:
        return mask
    keep = np.bincount(labels.ravel()) >= n_pixels
    keep[0] = False
    return keep[labels]


def write_mask(
    *, slide_file: str | list[str], description: str, mask: str, overlay: str, threshold: str | float, exclude_pen: bool
) -> None:
    """Write a slide's tissue mask, and the overlay in which a person checks it.

    Parameters
    ----------
    slide_file : path, or empty list
    description : path
        What :func:`histotransfer.slides.reader.inspect_slide` wrote.
    mask : path
        PNG to write, 255 for tissue, at about 8 um a pixel. Its text says ``status``, ``reason``, ``threshold``
        (saturation, 0..1) and ``downsample`` (level-0 pixels per mask pixel).
    overlay : path
        JPEG to write: the slide with the outline of the tissue; for an unusable slide a card with the reason.
    threshold, exclude_pen
        See :func:`find_tissue`.
    """
    known = store.read_json(description)
    status, reason = known["status"], known["reason"]
    tissue = None
    if status == "ok":
        try:
            with reader.Slide(slide_file) as slide:
                picture, downsample = slide.overview(OVERVIEW_UM / known["mpp"])
        except reader.UnreadableSlideError as error:
            status, reason = "unreadable", str(error)
        else:
            tissue, used = find_tissue(
                picture, um_per_px=downsample * known["mpp"], threshold=threshold, exclude_pen=exclude_pen
            )
            if not tissue.any():
                status, reason = "no tissue", f"no region above the saturation threshold of {used:.3f}"
    if tissue is None:
        _write_png(mask, np.zeros((1, 1), bool), {"status": status, "reason": reason})
        _write_card(overlay, known["image_in_sheet"], status, reason)
        return
    texts = {"status": status, "reason": reason, "threshold": repr(used), "downsample": repr(downsample)}
    _write_png(mask, tissue, texts)
    _write_overlay(overlay, picture, tissue)


def read_mask(path: str | Path) -> tuple[np.ndarray, dict[str, str]]:
    """Read a mask of :func:`write_mask`: the picture as bool of shape (h, w), and what its text says."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("L")) > 127, {name: str(text) for name, text in image.text.items()}


def _write_png(path: str, mask: np.ndarray, texts: dict[str, str]) -> None:
    from PIL import Image, PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        chunks.add_itxt(name, text)
    with store.replacing(path) as part:
        Image.fromarray(mask.astype(np.uint8) * 255, "L").save(part, format="PNG", pnginfo=chunks)


def _write_overlay(path: str, picture: np.ndarray, mask: np.ndarray) -> None:
    """Draw the tissue's outline in black on the picture, the rest paled, at most 1,000 px wide or high."""
    from PIL import Image
    from scipy import ndimage

    image = Image.fromarray(np.where(mask[:, :, None], picture, picture // 2 + 128).astype(np.uint8))
    scale = 1000 / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    shown = np.asarray(image.resize(size, Image.Resampling.BILINEAR)).copy()
    sized = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    outline = ndimage.binary_dilation(sized, iterations=2) & ~sized
    shown[outline] = 20
    with store.replacing(path) as part:
        Image.fromarray(shown).save(part, format="JPEG", quality=85)


def _write_card(path: str, name: str, status: str, reason: str) -> None:
    """Draw a grey card that says why there is no picture: never a white one in place of a slide."""
    from PIL import Image, ImageDraw

    card = Image.new("RGB", (640, 360), (214, 214, 214))
    draw = ImageDraw.Draw(card)
    lines = [name, status.upper(), *[reason[i : i + 90] for i in range(0, min(len(reason), 540), 90)]]
    for number, line in enumerate(lines):
        draw.text((24, 24 + 28 * number), line.encode("latin-1", "replace").decode("latin-1"), fill=(60, 20, 20))
    with store.replacing(path) as part:
        card.save(part, format="JPEG", quality=85)
