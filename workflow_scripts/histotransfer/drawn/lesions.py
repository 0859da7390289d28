"""Drawn slides with annotated lesions: tiles that are ambiguous one by one and clear among their neighbours.

A slide is one piece of tissue on a grid of patches of :data:`PATCH` level-0 pixels (64 µm at :data:`demo.MPP`), which
are the tiles of a tiling of that size. Each patch has a latent grade z, drawn for itself:

============ ==================================================================================================
normal       z ~ N(0, 1)
tumour       z ~ N(d, 1) with d = :data:`SHIFT` = 1.4
look-alike   z as tumour has it above d + 1, its highest sixth; :data:`LOOK_ALIKES` = 2.5 % of the normal patches,
             none beside another or beside a tumour
============ ==================================================================================================

With z grow number, size, darkness and unevenness of the nuclei, and nothing else tells tumour from normal: no sign of
a border, no stain, no place. Tumour patches lie together, in regions of 15 to 120.

What one patch can tell is therefore known. Whoever reads z without error and decides by the likelihood ratio of the
mixtures above cannot be beaten by one who sees one z (Neyman and Pearson 1933): with one tumour tile in five, a ROC AUC
of 0.822 and a PR-AUC of 0.520. (Without look-alikes the ROC AUC is Phi(d / sqrt 2) = 0.839.) By the height of z alone
it is 0.820 and 0.495. That reader, taking the likelier class, calls 7.1 % of the normal tiles tumour, and all
look-alikes. The mean z of nine tiles, all inside a region or all outside, has a ROC AUC of Phi(3 d / sqrt 2) = 0.9985.

The pixels of a tile tell a little more, since nuclei of its neighbours reach some 10 px into it, so that no border is a
straight line: with the neighbours' mean z they change by a tenth of what they change by with the tile's own. On the
study's test slides the height of z has 0.817 and 0.495; five numbers of each tile (share of dark pixels; number, size,
thickness and contrast of what is dark), fitted to z on the training slides, 0.827 and 0.520. Their correlation with z
is 0.98.

What belongs to the patient (stain, fibres, focus) is drawn by the patient's id alone, as in
:mod:`histotransfer.drawn.demo`; nuclei are alike in all patients, so that z can be read from a patient never seen.

The numbers in this module were fixed by looking at pictures and by what is said above, before any method was run on
the slides.

Coordinates are level-0 pixels; rows and columns of patches count from the slide's upper left corner.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage, special

from histotransfer import seeds, store
from histotransfer.drawn import patients, pyramid
from histotransfer.drawn.tissue import (
    COARSE,
    FibreCourse,
    draw_ground,
    draw_outlines,
    draw_stray_lymphocytes,
    ellipses,
    enlarge,
    fibre_course,
    grid_shape,
    mottle,
    scattered,
    smooth_noise,
    values_at,
)

if TYPE_CHECKING:
    from shapely import Polygon

#: Labels of a slide: whether there are lesions on it.
LABELS = ("tumour", "clear")
#: What can be drawn: tissue, annotated throughout; the same with a strip that nobody annotated; a lesion with a hole;
#: a slide file cut off in the middle.
DRAWINGS = ("tissue", "strip", "hole", "truncated")
#: Width and height of a drawn slide at level 0, pixels.
SIZE = (3072, 3072)
#: Edge of a patch, level-0 pixels: 64 µm.
PATCH = 128

#: How much higher the grade of a tumour patch is, in standard deviations.
SHIFT = 1.4
#: Share of the normal patches that look like tumour, and how far above `SHIFT` their grade begins.
LOOK_ALIKES, LOOK_ALIKE_FROM = 0.025, 1.0
#: Least and greatest number of patches in a region, and the greatest share of all patches that regions cover.
REGION = (15, 120)
MOST_TUMOUR = 0.45

#: Names of the areas in annotation files; in a mask the values 2, 1 and, as outside, 0.
TUMOUR, NORMAL, CUT_OUT = "Tumor", "Normal", "Exclusion"
#: Level-0 pixels per pixel of a mask.
MASK_CELL = 8


@dataclass(frozen=True)
class Plan:
    """What a slide is, before it is drawn; arrays of patches have the shape (rows, columns).

    Attributes
    ----------
    tissue : ndarray of float32
        Positive in tissue; on the coarse grid of :mod:`histotransfer.drawn.demo`.
    solid : ndarray of bool
        Patches of which at least four fifths are tissue.
    tumour, look_alike : ndarray of bool
    hole : ndarray of bool
        Normal patches that a region runs around.
    grade : ndarray of float64
        The latent z of each patch.
    """

    tissue: np.ndarray
    solid: np.ndarray
    tumour: np.ndarray
    look_alike: np.ndarray
    hole: np.ndarray
    grade: np.ndarray


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
    """Draw one slide as :func:`histotransfer.drawn.demo.draw_slide` does; :func:`draw_regions` annotates it.

    The same arguments give the same bytes (with the same versions of the libraries).

    Parameters
    ----------
    slide_file : str or Path
        The file to write; its folder is made.
    slide : str
        Id of the slide: where its tissue and its lesions lie, and the grade of each patch.
    patient : str
        Id of the patient: stain, fibres and focus.
    label : str
        One of :data:`LABELS`.
    drawing : str
        One of :data:`DRAWINGS`.
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
    content = pyramid.encode_pyramid(rgb)
    if drawing == "truncated":
        content = content[: len(content) // 2]
    with store.replacing(slide_file) as part:
        part.write_bytes(content)


# --- where what lies ---------------------------------------------------------------------------------------------


def lay_out(*, slide: str, label: str, drawing: str, master_seed: int, size: tuple[int, int] = SIZE) -> Plan:
    """Return where tissue, lesions and look-alikes lie on a slide, and the grade of each patch.

    Parameters and errors are those of :func:`draw_lesions`.
    """
    if drawing not in DRAWINGS:
        raise ValueError(f"slide {slide}: drawing must be one of {', '.join(DRAWINGS)}; found {drawing!r}")
    if label not in LABELS:
        raise ValueError(f"slide {slide}: label of a drawn slide must be one of {', '.join(LABELS)}; found {label!r}")
    if drawing == "hole" and label != "tumour":
        raise ValueError(f"slide {slide}: label of a slide with a hole in a lesion must be tumour; found {label!r}")
    if min(size) < 8 * PATCH:
        raise ValueError(
            f"slide {slide}: width and height must be at least {8 * PATCH} px; found {size[0]} x {size[1]}"
        )
    rng = seeds.generator(master_seed, "lesion plan", slide)
    tissue = _tissue_field(rng, size)
    solid = _share_of_patches(tissue > 0, size) >= 0.8
    tumour, hole = np.zeros_like(solid), np.zeros_like(solid)
    if label == "tumour":
        tumour, hole = _regions(rng, solid, with_hole=drawing == "hole")
    if (_grown_by(hole, 1) & ~(tumour | hole)).any():
        raise ValueError(
            f"slide {slide}: width and height must leave a rim around the hole in a lesion; found {size[0]} x {size[1]}"
        )
    look_alike = _look_alikes(rng, solid, tumour)
    grade = rng.standard_normal(solid.shape) + SHIFT * tumour
    # as the tumour's grades above SHIFT + LOOK_ALIKE_FROM: the inverse of the distribution, from there on
    upper = rng.uniform(special.ndtr(LOOK_ALIKE_FROM), 1, solid.shape)
    grade = np.where(look_alike, SHIFT + special.ndtri(upper), grade)
    return Plan(tissue=tissue, solid=solid, tumour=tumour, look_alike=look_alike, hole=hole, grade=grade)


def _tissue_field(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a field on the coarse grid that is positive in tissue: one piece, two thirds of the slide."""
    shape = grid_shape(size, COARSE)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    radius_x, radius_y = rng.uniform(0.86, 0.98, 2)
    field = 1 - np.abs(x / radius_x) ** 2.6 - np.abs(y / radius_y) ** 2.6
    field += 0.2 * smooth_noise(rng, shape, shape[1] / 14) + 0.05 * smooth_noise(rng, shape, shape[1] / 60)
    # Nothing reaches the edge of the slide.
    field -= 12 * np.clip(np.maximum(np.abs(x), np.abs(y)) - 0.93, 0, None)
    field -= np.quantile(field, 1 - rng.uniform(0.64, 0.74))
    pieces, _ = ndimage.label(field > 0)
    largest = np.argmax(np.bincount(pieces.ravel())[1:]) + 1
    return np.where((field > 0) & (pieces != largest), -0.1, field).astype(np.float32)


def _share_of_patches(inside: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the share of each whole patch that is inside, of a mask on the coarse grid."""
    cells = PATCH // COARSE
    rows, columns = size[1] // PATCH, size[0] // PATCH
    return inside[: rows * cells, : columns * cells].reshape(rows, cells, columns, cells).mean(axis=(1, 3))


def _regions(rng: np.random.Generator, solid: np.ndarray, *, with_hole: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the patches of one to three regions, and those of the hole in the first of them."""
    tumour, hole = np.zeros_like(solid), np.zeros_like(solid)
    room = int(MOST_TUMOUR * solid.sum())
    least = min(REGION[0], room)
    deepest = int(np.argmax(ndimage.distance_transform_edt(np.pad(solid, 1))[1:-1, 1:-1]))
    for number in range(int(rng.choice((1, 2, 3), p=(0.15, 0.4, 0.45)))):
        n = int(rng.integers(REGION[0], round(0.92 * REGION[1])))
        n = min(n, room - int(tumour.sum()))
        # Two patches at least lie between regions, and a lesion begins where there is room around it.
        free = solid & ~_grown_by(tumour | hole, 2)
        roomy = np.flatnonzero(ndimage.minimum_filter(free, size=3, mode="constant"))
        if with_hole and not number:
            # large and round, in the middle of the tissue, so that the hole has a rim
            region = _connected(free, min(100, room), deepest, np.zeros(free.shape))
            hole = _hole_in(region)
        elif n >= least and len(roomy):
            rough = smooth_noise(rng, free.shape, 1.5)
            region = _connected(free, n, int(rng.choice(roomy)), rough)
            if region.sum() < least and not number:
                region = _connected(free, n, deepest, rough)
        else:
            break
        # a place too narrow for the smallest region holds none
        if region.sum() >= least:
            tumour |= region & ~hole
    return tumour, hole


def _connected(free: np.ndarray, n: int, start: int, rough: np.ndarray) -> np.ndarray:
    """Return a connected set of at most `n` free patches around one of them, without holes, as bool of its shape."""
    rows, columns = free.shape
    y, x = divmod(start, columns)
    distance = np.hypot(*np.ogrid[-y : rows - y, -x : columns - x]) + rough
    # Where there is no room for a round one, it stays small: no lesion is a thread.
    free = free & (distance < 1.5 * (n / np.pi) ** 0.5 + 1)
    region, queue, seen = np.zeros_like(free), [(0.0, y, x)], {(y, x)}
    while queue and region.sum() < n:
        _, row, column = heapq.heappop(queue)
        region[row, column] = True
        for neighbour in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            on_slide = 0 <= neighbour[0] < rows and 0 <= neighbour[1] < columns
            if on_slide and free[neighbour] and neighbour not in seen:
                seen.add(neighbour)
                heapq.heappush(queue, (float(distance[neighbour]), *neighbour))
    return ndimage.binary_fill_holes(region) & free


def _hole_in(region: np.ndarray) -> np.ndarray:
    """Return the 3 x 3 patches of a region that are farthest from its border."""
    depth = ndimage.distance_transform_cdt(np.pad(region, 1), "chessboard")[1:-1, 1:-1]
    middle = np.zeros_like(region)
    middle.flat[np.argmax(depth)] = True
    return _grown_by(middle, 1)


def _look_alikes(rng: np.random.Generator, solid: np.ndarray, tumour: np.ndarray) -> np.ndarray:
    """Return single normal patches, none beside another or beside a tumour, corners included."""
    chosen = np.zeros_like(solid)
    barred = ~solid | _grown_by(tumour, 1)
    wanted = round(LOOK_ALIKES * int((solid & ~tumour).sum()))
    for place in rng.permutation(solid.size).tolist():
        if wanted and not barred.flat[place]:
            one = np.zeros_like(solid)
            one.flat[place] = True
            chosen |= one
            barred |= _grown_by(one, 1)
            wanted -= 1
    return chosen


def _grown_by(mask: np.ndarray, n: int) -> np.ndarray:
    """Return a mask of patches with all that lie within `n` of it, corners included."""
    return ndimage.maximum_filter(mask, size=2 * n + 1, mode="constant")


# --- what is drawn there -----------------------------------------------------------------------------------------


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
    # Dust, and the noise of the camera: a few hundredths of optical density, everywhere.
    noise = np.frombuffer(rng.bytes(size[0] * size[1]), np.uint8).reshape(size[::-1])
    hematoxylin += noise & 3
    eosin += (noise >> 2) & 3
    return patients.beer_lambert(hematoxylin, eosin, stain)


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
    maps = []
    for drawn, depth in ((hematoxylin, texture.chromatin), (eosin, 0.25)):
        amount = np.asarray(drawn).astype(np.uint16)
        amount *= mottle(rng, (height, width), depth)
        amount >>= 7
        amount *= thickness
        amount >>= 7
        np.minimum(amount, 240, out=amount)
        amount *= inside
        amount >>= 8
        maps.append(ndimage.gaussian_filter(amount.astype(np.uint8), texture.blur, truncate=2))
    return maps[0], maps[1]


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


# --- how it is annotated -----------------------------------------------------------------------------------------


def draw_regions(
    *,
    annotation: str | Path,
    slide: str,
    label: str,
    drawing: str,
    master_seed: int,
    size: tuple[int, int] = SIZE,
) -> None:
    """Write the annotation of a slide that :func:`draw_lesions` draws of the same arguments.

    Lesions are outlined as a pathologist does it, following the patches without their corners, and so is the tissue,
    which is normal everywhere else. What lies in the hole of a lesion is cut out, and what lies in the strip of a slide
    whose `drawing` is ``strip`` is in no region.

    Parameters
    ----------
    annotation : str or Path
        The file to write: ASAP's ``.xml`` (groups Tumor, Normal and Exclusion; a region is all within its outline, and
        tumour and exclusion lie upon normal), ``.geojson`` as QuPath exports it (classes Tumor and Normal, with holes),
        or a ``.png`` mask (2, 1 and 0) of one pixel per 8 x 8 px of the slide.
    slide, label, drawing, master_seed, size
        As in :func:`draw_lesions`.

    Raises
    ------
    ValueError
        As of :func:`draw_lesions`, or if the file's ending is none of the three.
    """
    ending = Path(annotation).suffix
    if ending not in WRITERS:
        raise ValueError(f"{annotation}: the ending must be one of {', '.join(WRITERS)}; found {ending!r}")
    plan = lay_out(slide=slide, label=label, drawing=drawing, master_seed=master_seed, size=size)
    areas = annotated_areas(plan, slide=slide, drawing=drawing, master_seed=master_seed, size=size)
    with store.replacing(annotation) as part:
        WRITERS[ending](part, areas, slide, size)


def annotated_areas(
    plan: Plan, *, slide: str, drawing: str, master_seed: int, size: tuple[int, int] = SIZE
) -> dict[str, list[Polygon]]:
    """Return the polygons of each annotated area, in pixels of level 0, none of which overlap.

    Parameters
    ----------
    plan : Plan
        What :func:`lay_out` gives.
    slide, drawing, master_seed, size
        As in :func:`draw_lesions`.

    Returns
    -------
    dict of list of shapely.Polygon
        By the names Tumor, Normal and Exclusion.
    """
    import shapely

    rng = seeds.generator(master_seed, "lesion outlines", slide)
    lesions = shapely.union_all([_outline(rng, part) for part in _parts(plan.tumour | plan.hole)])
    hole = shapely.union_all([_outline(rng, part) for part in _parts(plan.hole)])
    around = ndimage.binary_dilation(plan.tissue > 0, iterations=2)
    tissue = shapely.union_all([_outline(rng, part, cell=COARSE) for part in _parts(around)])
    seen = tissue.difference(_strip(rng, size)) if drawing == "strip" else tissue
    areas = {
        TUMOUR: lesions.difference(hole).intersection(seen),
        NORMAL: seen.difference(lesions),
        CUT_OUT: hole,
    }
    # a sliver that is left between a lesion and the tissue's edge is nothing that anybody would annotate
    return {
        name: [part for part in shapely.get_parts(shapely.set_precision(area, 0.1)) if part.area > PATCH**2 / 4]
        for name, area in areas.items()
    }


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    """Return the connected parts of a mask, each without its holes."""
    labels, n = ndimage.label(mask)
    return [ndimage.binary_fill_holes(labels == number) for number in range(1, n + 1)]


def _outline(rng: np.random.Generator, mask: np.ndarray, *, cell: int = PATCH) -> Polygon:
    """Return a polygon around one connected part of a mask of square cells, drawn by hand: rounded, and not exact."""
    import shapely

    # one box for each run of cells in a row
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, first), (_, end) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    whole = shapely.union_all(shapely.box(first * cell, rows * cell, end * cell, (rows + 1) * cell))
    # two cells that touch at a corner alone make a ring that touches itself: the largest part is the outline
    ring = max(shapely.get_parts(whole), key=lambda part: part.area).exterior
    # a point every 16 px along the ring, each moved to the mean of those within some 60 px, and by a hand that is
    # not quite steady
    step = 16.0
    points = shapely.get_coordinates(shapely.line_interpolate_point(ring, np.arange(0, ring.length, step)))
    points = ndimage.gaussian_filter1d(points, 60 / step, axis=0, mode="wrap")
    unsteady = ndimage.gaussian_filter1d(rng.standard_normal(points.shape), 100 / step, axis=0, mode="wrap")
    points += 8 * unsteady / unsteady.std()
    polygon = shapely.make_valid(shapely.Polygon(points), method="structure", keep_collapsed=False)
    return max(shapely.get_parts(polygon), key=lambda part: part.area).simplify(10)


def _strip(rng: np.random.Generator, size: tuple[int, int]) -> Polygon:
    """Return a strip of three to five patches' width across the slide, in any direction, near its middle."""
    import shapely

    turn = rng.uniform(0, np.pi)
    along = np.array([np.cos(turn), np.sin(turn)]) * sum(size)
    middle = np.array(size) / 2 + rng.uniform(-0.15, 0.15, 2) * size
    return shapely.LineString([middle - along, middle + along]).buffer(rng.uniform(1.5, 2.5) * PATCH)


Areas = Mapping[str, "Sequence[Polygon]"]


def _rounded(ring: object) -> list[list[float]]:
    """Return the points of a ring, x and y, to a tenth of a pixel."""
    import shapely

    return np.round(shapely.get_coordinates(ring), 1).tolist()


def _write_asap(path: Path, areas: Areas, slide: str, size: tuple[int, int]) -> None:
    """Write outlines as ASAP does, which knows no holes: what lies in one is covered by another group's region."""
    from xml.etree import ElementTree

    colours = {TUMOUR: "#ff0000", NORMAL: "#00aa00", CUT_OUT: "#0000ff"}
    root = ElementTree.Element("ASAP_Annotations")
    regions, groups = ElementTree.SubElement(root, "Annotations"), ElementTree.SubElement(root, "AnnotationGroups")
    for name, polygons in areas.items():
        for polygon in polygons:
            of = {"Name": f"Annotation {len(regions)}", "Type": "Polygon", "PartOfGroup": name, "Color": colours[name]}
            points = ElementTree.SubElement(ElementTree.SubElement(regions, "Annotation", of), "Coordinates")
            # ASAP closes the ring itself
            for order, (x, y) in enumerate(_rounded(polygon.exterior)[:-1]):
                ElementTree.SubElement(points, "Coordinate", {"Order": str(order), "X": str(x), "Y": str(y)})
        if polygons:
            group = ElementTree.SubElement(
                groups, "Group", {"Name": name, "PartOfGroup": "None", "Color": colours[name]}
            )
            ElementTree.SubElement(group, "Attributes")
    ElementTree.indent(root, "\t")
    path.write_bytes(b'<?xml version="1.0"?>\n' + ElementTree.tostring(root) + b"\n")


def _write_geojson(path: Path, areas: Areas, slide: str, size: tuple[int, int]) -> None:
    """Write polygons with their holes as QuPath exports annotations."""
    colours = {TUMOUR: [200, 0, 0], NORMAL: [0, 170, 0]}
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{slide} {name} {number}")),
            "geometry": {
                "type": "Polygon",
                "coordinates": [_rounded(ring) for ring in (polygon.exterior, *polygon.interiors)],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": colours[name]},
            },
        }
        for name in colours
        for number, polygon in enumerate(areas[name])
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}) + "\n", "utf-8")


def _write_mask(path: Path, areas: Areas, slide: str, size: tuple[int, int]) -> None:
    """Write a picture of the areas: 2 in tumour, 1 in normal, 0 outside."""
    import shapely

    width, height = (max(1, round(side / MASK_CELL)) for side in size)
    # a pixel belongs to what lies at its middle
    x, y = np.meshgrid((np.arange(width) + 0.5) * size[0] / width, (np.arange(height) + 0.5) * size[1] / height)
    mask = np.zeros((height, width), np.uint8)
    for value, name in ((1, NORMAL), (2, TUMOUR)):
        for polygon in areas[name]:
            shapely.prepare(polygon)
            mask[shapely.contains_xy(polygon, x, y)] = value
    Image.fromarray(mask).save(path, format="PNG")


#: How annotations are written, by the ending of the file.
WRITERS: Mapping[str, Callable[[Path, Areas, str, tuple[int, int]], None]] = {
    ".xml": _write_asap,
    ".geojson": _write_geojson,
    ".png": _write_mask,
}
