"""Drawn slides with annotated lesions: tiles that are ambiguous one by one and clear among their neighbours.

A slide is one piece of tissue on a grid of patches of ``PATCH`` level-0 pixels (64 µm at
:data:`histotransfer.drawn.pyramid.MPP`). Patches are the tiles of a tiling of that size. Each patch has a latent grade
z, drawn for itself (numbers: :mod:`histotransfer.drawn.lesion_plan`):

============ ==================================================================================================
normal       z ~ N(0, 1)
tumour       z ~ N(d, 1) with d = ``SHIFT`` = 1.4
look-alike   z as tumour has it above d + 1, its highest sixth; ``LOOK_ALIKES`` = 2.5 % of the normal patches,
             none beside another or beside a tumour
============ ==================================================================================================

Number, size, darkness and unevenness of the nuclei grow with z. Nothing else distinguishes tumour from normal: no sign
of a border, no stain, no place. Tumour patches lie together, in regions of 15 to 120.

The best score of a classifier of single patches is therefore known. A reader of z without error who decides by the
likelihood ratio of the mixtures above is the best that sees one z (Neyman and Pearson 1933): with one tumour tile in
five, its ROC AUC is 0.822 and its PR-AUC 0.520. (Without look-alikes the ROC AUC is Phi(d / sqrt 2) = 0.839.) By the
height of z alone it is 0.820 and 0.495. That reader, taking the likelier class, calls 7.1 % of the normal tiles tumour,
and all look-alikes. The mean z of nine tiles, all inside a region or all outside, has a ROC AUC of
Phi(3 d / sqrt 2) = 0.9985.

The pixels of a tile show a little more. Nuclei of its neighbours reach some 10 px into it, so that no border is a
straight line: pixels change with the neighbours' mean z by a tenth of what they change by with the tile's own. On the
study's test slides the height of z has 0.817 and 0.495; five numbers of each tile (share of dark pixels; number, size,
thickness and contrast of what is dark), fitted to z on the training slides, 0.827 and 0.520. Their correlation with z
is 0.98.

What belongs to the patient (stain, fibres, focus) is drawn by the patient's id alone, as in
:mod:`histotransfer.drawn.demo`. Nuclei are alike in all patients, so that z can be read from a patient never seen.

The numbers were fixed by looking at pictures and by the scores above, before any method was run on the slides.

Coordinates are level-0 pixels. Rows and columns of patches count from the slide's upper left corner.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from histotransfer import seeds
from histotransfer.drawn import patients, pyramid
from histotransfer.drawn.lesion_plan import PATCH, SIZE, Plan, lay_out
from histotransfer.drawn.tissue import (
    COARSE,
    FibreCourse,
    draw_ground,
    draw_outlines,
    draw_stray_lymphocytes,
    ellipses,
    enlarge,
    fibre_course,
    finished_maps,
    scanned,
    scattered,
    smooth_noise,
    values_at,
)


def draw_lesions(
    *,
    slide_file: str | Path,
    slide: str,
    patient: str,
    label: str,
    drawing: str,
    master_seed: int,
    size: tuple[int, int] = SIZE,
) -> None:
    """Draw one slide as :func:`histotransfer.drawn.demo.draw_slide` does.

    :func:`histotransfer.drawn.lesion_regions.draw_regions` writes its annotation. The same arguments give the same
    bytes, with the same versions of the libraries.

    Parameters
    ----------
    slide_file : str or Path
        The file to write; its folder is made.
    slide : str
        Id of the slide: where its tissue and its lesions lie, and the grade of each patch.
    patient : str
        Id of the patient: stain, fibres and focus.
    label : str
        One of :data:`histotransfer.drawn.lesion_plan.LABELS`.
    drawing : str
        One of :data:`histotransfer.drawn.lesion_plan.DRAWINGS`.
    master_seed : int
        The study's seed.
    size : tuple of 2 ints
        Width and height at level 0, pixels; at least 8 patches each.

    Raises
    ------
    ValueError
        If `drawing` or `label` is none of the legal words, if a slide without a lesion should have a hole in it, or if
        `size` is too small.
    OSError
        If the file cannot be written.
    """
    plan = lay_out(slide=slide, label=label, drawing=drawing, master_seed=master_seed, size=size)
    rgb = draw_pixels(plan, slide=slide, patient=patient, master_seed=master_seed, size=size)
    pyramid.write_slide(slide_file, rgb, truncated=drawing == "truncated")


def draw_pixels(plan: Plan, *, slide: str, patient: str, master_seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Draw the pixels of a slide, uint8 of shape (height, width, 3); parameters as in :func:`draw_lesions`."""
    rng = seeds.generator(master_seed, "lesion pixels", slide)
    stain = patients.patient_stain(patient=patient, master_seed=master_seed)
    texture = patients.patient_texture(patient=patient, master_seed=master_seed)
    # ASSUME Nuclei are alike in all patients, and lymphocytes, which are dark at any grade, are rare: else the best
    # that can be done with one tile would not be known.
    stray = 0.35 * texture.stray_lymphocytes
    texture = dataclasses.replace(texture, nucleus=1.0, crowding=1.0, stray_lymphocytes=stray)
    hematoxylin, eosin = _stain_maps(rng, size, plan=plan, texture=texture)
    return scanned(rng, hematoxylin, eosin, stain)


def level_of(grade: np.ndarray) -> np.ndarray:
    """Return how far a grade shows, from 0 (z of -2.5 and below) to 1 (4.5 and above)."""
    return np.clip((grade + 2.5) / 7, 0, 1)


def _stain_maps(
    rng: np.random.Generator, size: tuple[int, int], *, plan: Plan, texture: patients.Texture
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps of hematoxylin and eosin, uint8 of shape (height, width)."""
    width, height = size
    shape = plan.tissue.shape
    warp = np.stack([6 * smooth_noise(rng, shape, 2.5) for _ in range(2)], axis=-1)
    levels = _level_field(plan.grade, warp)
    # Cells of a high grade have more cytoplasm and less collagen between them; and tissue differs from place to place.
    cellular = np.clip(0.35 + 0.15 * smooth_noise(rng, shape, 12) + 0.5 * levels, 0, 1)
    weights = {"fibrous": 1 - cellular, "glandular": cellular, "lymphoid": np.zeros(shape, np.float32)}
    course = fibre_course(rng, shape, texture)
    eosin_half, inside_half = draw_ground(
        rng, size, tissue=plan.tissue, weights=weights, course=course, texture=texture
    )
    hematoxylin = Image.fromarray(np.rint(enlarge(6 + 22 * levels, (height, width))).astype(np.uint8))
    eosin = Image.fromarray(eosin_half).resize(size, Image.Resampling.BILINEAR)
    _draw_nuclei(rng, hematoxylin, plan=plan, warp=warp, course=course)
    draw_stray_lymphocytes(rng, hematoxylin, tissue=plan.tissue, texture=texture)

    inside = np.asarray(Image.fromarray(inside_half).resize(size, Image.Resampling.BILINEAR))
    # ASSUME The section is thicker in some places than in others, by a tenth, over some four patches.
    thickness = enlarge(128 * (1 + 0.1 * smooth_noise(rng, shape, 9)), (height, width)).astype(np.uint16)
    return finished_maps(rng, hematoxylin, eosin, inside=inside, texture=texture, thickness=thickness)


def _patch_at(points: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the patch that each level-0 point (n, 2) lies in; the nearest one beyond the last."""
    columns, rows = (points // PATCH).astype(np.intp).T
    return np.clip(rows, 0, shape[0] - 1), np.clip(columns, 0, shape[1] - 1)


def _level_field(grade: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Return the levels on the coarse grid, float32, with the borders between patches moved by `warp`, in pixels."""
    shape = warp.shape[:2]
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] * float(COARSE) + COARSE / 2
    points = np.stack([x, y], axis=-1) + warp
    levels = level_of(grade)[_patch_at(points.reshape(-1, 2), grade.shape)].reshape(shape)
    return ndimage.gaussian_filter(levels, 1).astype(np.float32)


def _draw_nuclei(
    rng: np.random.Generator, hematoxylin: Image.Image, *, plan: Plan, warp: np.ndarray, course: FibreCourse
) -> None:
    """Draw nuclei whose number, size, darkness and unevenness follow the grade of the patch that they lie in.

    A nucleus near a border may follow the patch beyond it, so that no border is a straight line.
    """
    spacing = 19.0
    points = scattered(rng, hematoxylin.size, spacing, 0.24)
    places = points + values_at(warp, points) + rng.normal(0, 5, points.shape)
    levels = level_of(plan.grade)[_patch_at(places, plan.grade.shape)]
    # An additive recurrence over the lattice thins it evenly: by chance alone the number of nuclei would say less of z.
    columns = int(np.ceil(hematoxylin.width / spacing))
    row, column = divmod(np.arange(len(points)), columns)
    even = (0.7548776662466927 * column + 0.5698402909980532 * row + rng.random()) % 1
    keep = (even < 0.3 + 0.7 * levels) & (values_at(plan.tissue, points) > 0)
    points, levels = points[keep], levels[keep]
    n = len(points)
    # At a low grade spindles along the fibres, at a high one round and uneven in every direction.
    size = (4.8 + 3.9 * levels) * (1 + (0.05 + 0.13 * levels) * rng.standard_normal(n).clip(-2, 2))
    stretch = np.sqrt(1.9 - 0.8 * levels) * rng.uniform(0.93, 1.07, n)
    half_axes = np.stack([size * stretch, size / stretch], axis=1)
    angles = values_at(course.angle, points) + rng.normal(0, 0.2 + 1.5 * levels)
    amounts = np.clip(rng.normal(88 + 72 * levels, 9), 20, 220).astype(int)
    for atypical in (False, True):
        chosen = (levels > 0.5) == atypical
        outlines = ellipses(rng, points[chosen], half_axes[chosen], angles[chosen], uneven=0.2 if atypical else 0.07)
        draw_outlines(hematoxylin, outlines, amounts[chosen])
