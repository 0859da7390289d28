"""Where tissue, lesions and look-alikes lie on a drawn slide, and the grade of each patch.

:mod:`histotransfer.drawn.lesions` says what that means and draws it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, special

from histotransfer import seeds
from histotransfer.drawn.tissue import COARSE, grid_shape, smooth_noise

#: Labels of a slide: whether there are lesions on it.
LABELS = ("tumour", "clear")
#: What can be drawn: tissue, annotated throughout; the same with a strip that is not annotated; a lesion with a hole;
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


def lay_out(*, slide: str, label: str, drawing: str, master_seed: int, size: tuple[int, int] = SIZE) -> Plan:
    """Return where tissue, lesions and look-alikes lie on a slide, and the grade of each patch.

    Parameters and errors are those of :func:`histotransfer.drawn.lesions.draw_lesions`.
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
