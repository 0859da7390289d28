"""Drawn slides of the demo: three kinds of tissue, and patients whose stains and textures differ.

A slide is drawn as two maps, how much hematoxylin and how much eosin lies on each pixel, which become
colours by the law of Beer and Lambert with the patient's own stain vectors [1]_. What belongs to the
patient (stain, section thickness, size of nuclei, course of fibres, focus, how much of the slide is other
tissue) is drawn by the patient's id alone, never by the label, so that colour tells nothing about the
class and a held-out patient looks like none of the training set.

The numbers in this module were fixed by looking at pictures, before any method was run on the slides.

Coordinates are level-0 pixels, x before y for points and rows before columns for arrays. Smooth fields
live on a `coarse` grid of one value per 16 x 16 level-0 pixels, fibres on a `half` grid of one per 2 x 2.

References
----------
.. [1] A. C. Ruifrok, D. A. Johnston (2001), "Quantification of histochemical staining by color
   deconvolution", Analytical and Quantitative Cytology and Histology 23, 291-299, equation 1 (I = I0 exp(-A c))
   and the normalised optical densities of hematoxylin and eosin.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from histotransfer import seeds
from histotransfer.drawn.patients import Texture, patient_stain, patient_texture
from histotransfer.drawn.pyramid import TILE, write_slide
from histotransfer.drawn.tissue import (
    COARSE,
    FibreCourse,
    draw_ground,
    draw_lymphocytes,
    draw_outlines,
    draw_stray_lymphocytes,
    drawn_amounts,
    ellipses,
    enlarge,
    fibre_course,
    finished_maps,
    grid_shape,
    scanned,
    scattered,
    smooth_noise,
    values_at,
)

#: The kinds of tissue that can be drawn: the legal labels of a drawn slide.
CLASSES = ("fibrous", "glandular", "lymphoid")
#: What can be drawn: tissue; the same in a file cut off in the middle; an empty slide.
DRAWINGS = ("tissue", "truncated", "blank")
#: Width and height of a drawn slide at level 0, pixels.
SIZE = (6000, 4500)

# ASSUME Inks of a marker pen, as optical densities (red, green, blue): what is seen on scanned slides.
INKS = {"blue": (1.5, 0.9, 0.15), "green": (1.3, 0.35, 0.9)}

# ASSUME What else lies on a slide of each class, as relative weights: infiltrates of lymphocytes are the
# commonest stranger in fibrous and glandular tissue, fibrous septa in lymphoid tissue.
NEIGHBOURS: Mapping[str, Mapping[str, float]] = {
    "fibrous": {"lymphoid": 0.6, "glandular": 0.4},
    "glandular": {"lymphoid": 0.5, "fibrous": 0.5},
    "lymphoid": {"fibrous": 0.7, "glandular": 0.3},
}


def draw_slide(
    *,
    slide_file: str | Path,
    slide: str,
    patient: str,
    label: str,
    drawing: str,
    master_seed: int,
    size: tuple[int, int] = SIZE,
) -> None:
    """Draw one slide as a pyramidal, JPEG-tiled TIFF that OpenSlide takes for an Aperio scan.

    The same arguments give the same bytes (with the same versions of the libraries).

    Parameters
    ----------
    slide_file : str or Path
        The file to write; its folder is made.
    slide : str
        Id of the slide: where its tissue lies.
    patient : str
        Id of the patient: stain and texture.
    label : str
        One of :data:`CLASSES`: what most of the tissue is. Not looked at where `drawing` is ``blank``.
    drawing : str
        One of :data:`DRAWINGS`.
    master_seed : int
        The study's seed.
    size : tuple of 2 ints
        Width and height at level 0, pixels; at least 256 each.

    Raises
    ------
    ValueError
        If `drawing` or `label` is none of the legal words, or `size` is too small.
    OSError
        If the file cannot be written.
    """
    if drawing not in DRAWINGS:
        raise ValueError(f"slide {slide}: drawing must be one of {', '.join(DRAWINGS)}, found {drawing!r}")
    if drawing != "blank" and label not in CLASSES:
        raise ValueError(f"slide {slide}: label of a drawn slide must be one of {', '.join(CLASSES)}, found {label!r}")
    if min(size) < TILE:
        raise ValueError(f"slide {slide}: width and height must be at least {TILE} px, found {size[0]} x {size[1]}")

    rgb = draw_pixels(
        slide=slide,
        patient=patient,
        label=None if drawing == "blank" else label,
        master_seed=master_seed,
        size=size,
    )
    write_slide(slide_file, rgb, truncated=drawing == "truncated")


def draw_pixels(
    *, slide: str, patient: str, label: str | None, master_seed: int, size: tuple[int, int] = SIZE
) -> np.ndarray:
    """Draw the pixels of a slide.

    Parameters
    ----------
    slide, patient, master_seed, size
        As in :func:`draw_slide`.
    label : str or None
        One of :data:`CLASSES`, or None for a slide without tissue.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
    """
    width, height = size
    stain = patient_stain(patient=patient, master_seed=master_seed)
    rng = seeds.generator(master_seed, "demo slide", slide)
    if label is None:
        hematoxylin = np.zeros((height, width), np.uint8)
        eosin = np.zeros((height, width), np.uint8)
        tissue = None
    else:
        texture = patient_texture(patient=patient, master_seed=master_seed)
        tissue = _tissue_field(rng, size)
        hematoxylin, eosin = _stain_maps(rng, size, tissue=tissue, label=label, texture=texture)
    rgb = scanned(rng, hematoxylin, eosin, stain)
    # ASSUME Two slides in five carry a pen mark, whatever their class.
    if rng.random() < 0.4:
        _draw_pen_mark(rng, rgb, tissue)
    return rgb


def _tissue_field(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a field on the coarse grid that is positive in tissue: one to three pieces with ragged outlines."""
    shape = grid_shape(size, COARSE)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    pieces = int(rng.integers(1, 4))
    field = np.full(shape, -np.inf)
    for piece in range(pieces):
        centre_x = (piece + 0.5) * 2 / pieces - 1 + rng.uniform(-0.08, 0.08)
        centre_y = rng.uniform(-0.15, 0.15)
        radius_x, radius_y = rng.uniform(0.75, 0.95) / pieces, rng.uniform(0.65, 0.85)
        field = np.maximum(field, 1 - ((x - centre_x) / radius_x) ** 2 - ((y - centre_y) / radius_y) ** 2)
    scale = shape[1] / 25
    field = field + 0.28 * smooth_noise(rng, shape, scale) + 0.1 * smooth_noise(rng, shape, scale / 4)
    # Nothing reaches the edge of the slide.
    field -= 12 * np.clip(np.hypot(x**4, y**4) - 0.45, 0, None)
    share = rng.uniform(0.42, 0.56)
    return (field - np.quantile(field, 1 - share)).astype(np.float32)


def _class_weights(
    rng: np.random.Generator, tissue: np.ndarray, *, label: str, neighbour_share: float
) -> dict[str, np.ndarray]:
    """Return how much of each coarse cell belongs to each class, float32 that adds up to 1 everywhere.

    Patches of neighbouring tissue cover `neighbour_share` of the tissue, and change over into the slide's
    own class within about 100 level-0 pixels.
    """
    shape = tissue.shape
    inside = tissue > 0
    place = smooth_noise(rng, shape, 14)
    foreign = np.clip((place - np.quantile(place[inside], 1 - neighbour_share)) * 3 + 0.5, 0, 1)
    kind = smooth_noise(rng, shape, 20)
    first, second = NEIGHBOURS[label]
    border = np.quantile(kind[inside], NEIGHBOURS[label][first])
    is_first = np.clip((border - kind) * 3 + 0.5, 0, 1)
    return {label: 1 - foreign, first: foreign * is_first, second: foreign * (1 - is_first)}


# --- what is drawn there -----------------------------------------------------------------------------------------


def _stain_maps(
    rng: np.random.Generator, size: tuple[int, int], *, tissue: np.ndarray, label: str, texture: Texture
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps of hematoxylin and eosin, uint8 of shape (height, width)."""
    weights = _class_weights(rng, tissue, label=label, neighbour_share=texture.neighbour_share)
    course = fibre_course(rng, tissue.shape, texture)
    eosin_half, inside_half = draw_ground(rng, size, tissue=tissue, weights=weights, course=course, texture=texture)
    hematoxylin = Image.new("L", size, 6)
    eosin = Image.fromarray(eosin_half).resize(size, Image.Resampling.BILINEAR)

    _draw_fibroblasts(rng, hematoxylin, tissue=tissue, weights=weights, course=course, texture=texture)
    draw_stray_lymphocytes(rng, hematoxylin, tissue=tissue, texture=texture)
    _draw_lymphoid_nuclei(rng, hematoxylin, tissue=tissue, weights=weights, texture=texture)
    _draw_glands(rng, hematoxylin, eosin, tissue=tissue, weights=weights, texture=texture)

    inside = np.asarray(Image.fromarray(inside_half).resize(size, Image.Resampling.BILINEAR))
    return finished_maps(rng, hematoxylin, eosin, inside=inside, texture=texture)


def _draw_lymphoid_nuclei(
    rng: np.random.Generator,
    hematoxylin: Image.Image,
    *,
    tissue: np.ndarray,
    weights: Mapping[str, np.ndarray],
    texture: Texture,
) -> None:
    """Draw small, round, dark nuclei, densely packed, in clusters."""
    points = scattered(rng, hematoxylin.size, 16.5 * texture.nucleus, 0.3)
    crowd = smooth_noise(rng, tissue.shape, 4)
    density = texture.crowding * (0.85 + 0.2 * crowd)
    density = np.clip(values_at(density, points), 0.25, 1)
    keep = rng.random(len(points)) < density * values_at(weights["lymphoid"], points)
    draw_lymphocytes(rng, hematoxylin, points[keep & (values_at(tissue, points) > 0)], texture)


def _draw_fibroblasts(
    rng: np.random.Generator,
    hematoxylin: Image.Image,
    *,
    tissue: np.ndarray,
    weights: Mapping[str, np.ndarray],
    course: FibreCourse,
    texture: Texture,
) -> None:
    """Draw few, elongated nuclei along the fibres, in fibrous tissue and in the stroma between glands."""
    points = scattered(rng, hematoxylin.size, 46, 0.45)
    density = texture.crowding * (0.75 * weights["fibrous"] + 0.6 * weights["glandular"] + 0.1 * weights["lymphoid"])
    points = points[(rng.random(len(points)) < values_at(density, points)) & (values_at(tissue, points) > 0)]
    n = len(points)
    half_axes = np.stack([rng.normal(13, 2.5, n).clip(7), rng.normal(3.6, 0.7, n).clip(2.2)], axis=1)
    angles = values_at(course.angle, points) + rng.normal(0, 0.15, n)
    outlines = ellipses(rng, points, half_axes * texture.nucleus, angles)
    draw_outlines(hematoxylin, outlines, drawn_amounts(rng, n, 115, 22))


def _draw_glands(
    rng: np.random.Generator,
    hematoxylin: Image.Image,
    eosin: Image.Image,
    *,
    tissue: np.ndarray,
    weights: Mapping[str, np.ndarray],
    texture: Texture,
) -> None:
    """Draw glands: a round lumen, a wall of cytoplasm, and a row of nuclei near the wall's outer side."""
    points = scattered(rng, hematoxylin.size, 2.35 * texture.gland_radius, 0.14)
    keep = (values_at(weights["glandular"], points) > 0.5) & (values_at(tissue, points) > 0.06)
    points = points[keep & (rng.random(len(points)) < 0.92)]
    n = len(points)
    outer = texture.gland_radius * rng.uniform(0.72, 1.1, n)
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    # Each outline is a circle with three slow waves around it; wall, nuclei and lumen follow the same one.
    waves = np.zeros((n, len(turn)))
    for frequency, height in ((2, 0.14), (3, 0.07), (5, 0.03)):
        phase = rng.uniform(0, 2 * np.pi, (n, 1))
        waves += height * rng.uniform(0.2, 1, (n, 1)) * np.cos(frequency * turn + phase)

    def outlines(share: np.ndarray) -> np.ndarray:
        radius = (outer * share)[:, None] * (1 + waves)
        return points[:, None] + np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=2)

    wall, lumen = outlines(np.ones(n)), outlines(texture.lumen * rng.uniform(0.75, 1.2, n))
    draw_outlines(eosin, wall, drawn_amounts(rng, n, 62, 6))
    draw_outlines(hematoxylin, wall, drawn_amounts(rng, n, 24, 3))
    _draw_wall_nuclei(rng, hematoxylin, points=points, outer=outer, waves=waves, texture=texture)
    draw_outlines(eosin, lumen, np.full(n, 3))
    draw_outlines(hematoxylin, lumen, np.full(n, 2))


def _draw_wall_nuclei(
    rng: np.random.Generator,
    hematoxylin: Image.Image,
    *,
    points: np.ndarray,
    outer: np.ndarray,
    waves: np.ndarray,
    texture: Texture,
) -> None:
    """Draw the nuclei of glands at `points` (n, 2) with radii `outer` (n,) and outlines `waves` (n, corners)."""
    row = outer * 0.83
    counts = np.maximum(6, (2 * np.pi * row * texture.crowding / (13.5 * texture.nucleus)).astype(int))
    gland = np.repeat(np.arange(len(points)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    spread = rng.uniform(-0.3, 0.3, len(gland))
    around = 2 * np.pi * (np.arange(len(gland)) - first + spread) / counts[gland]
    wave = waves[gland, (around / (2 * np.pi) * waves.shape[1]).astype(int) % waves.shape[1]]
    radius = row[gland] * (1 + wave) * rng.normal(1, 0.035, len(gland))
    centres = points[gland] + np.stack([radius * np.cos(around), radius * np.sin(around)], axis=1)
    half_axes = np.stack([rng.normal(9, 1.2, len(gland)), rng.normal(5.6, 0.6, len(gland))], axis=1)
    outlines = ellipses(rng, centres, half_axes * texture.nucleus, around + rng.normal(0, 0.2, len(gland)))
    draw_outlines(hematoxylin, outlines, drawn_amounts(rng, len(gland), 112, 14))


def _draw_pen_mark(rng: np.random.Generator, rgb: np.ndarray, tissue: np.ndarray | None) -> None:
    """Draw one stroke of a marker pen on `rgb` in place; it starts on empty glass and goes in any direction.

    Parameters
    ----------
    rgb : ndarray of shape (height, width, 3), uint8
    tissue : ndarray or None
        The field of :func:`_tissue_field`; without it the stroke starts anywhere.
    """
    height, width = rgb.shape[:2]
    ink = np.array(INKS[str(rng.choice(sorted(INKS)))])
    margin = np.s_[height // (8 * COARSE) : -height // (8 * COARSE), width // (8 * COARSE) : -width // (8 * COARSE)]
    free = np.zeros(grid_shape((width, height), COARSE), bool)
    free[margin] = True if tissue is None else tissue[margin] < -0.1
    rows, columns = np.nonzero(free if free.any() else np.ones_like(free))
    start = int(rng.integers(len(rows)))
    # 30 steps that turn a little at each: a third of the slide's width, on a grid of 4 x 4 level-0 pixels.
    cell = 4
    turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12, 30))
    step = width / 90 / cell
    x = columns[start] * COARSE / cell + step * np.cumsum(np.cos(turns))
    y = rows[start] * COARSE / cell + step * np.cumsum(np.sin(turns))
    stroke = Image.new("L", grid_shape((width, height), cell)[::-1])
    thickness = max(2, round(rng.uniform(0.8, 1.3) * step))
    ImageDraw.Draw(stroke).line(np.stack([x, y], axis=1).ravel().tolist(), fill=255, width=thickness, joint="curve")
    left, top, right, bottom = stroke.getbbox() or (0, 0, 1, 1)
    window = rgb[top * cell : bottom * cell, left * cell : right * cell]
    enlarged = stroke.crop((left, top, right, bottom)).resize(window.shape[1::-1], Image.Resampling.BILINEAR)
    cover = np.asarray(enlarged, np.float32)[..., None] / 255
    streaks = 0.9 + 0.12 * enlarge(smooth_noise(rng, (bottom - top, right - left), 2), window.shape[:2])[..., None]
    window[:] = np.rint(window * np.exp(-cover * streaks * ink)).astype(np.uint8)
