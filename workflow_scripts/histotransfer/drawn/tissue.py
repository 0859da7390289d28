"""Noise, fibres, nuclei and outlines that drawn slides are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from histotransfer.drawn.patients import Stain, Texture, beer_lambert

#: Level-0 pixels per cell of the two reduced grids.
COARSE, HALF = 16, 2


# --- where what lies ---------------------------------------------------------------------------------------------


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float, mode: str = "nearest") -> np.ndarray:
    """Return Gaussian noise of mean 0 and deviation 1 that changes over about `scale` cells, float32."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), scale, mode=mode, truncate=3)
    return (noise - noise.mean()) / noise.std()


def enlarge(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a float32 field on the coarse grid brought to `shape` (rows, columns), bilinear."""
    return np.asarray(Image.fromarray(field.astype(np.float32)).resize(shape[::-1], Image.Resampling.BILINEAR))


def grid_shape(size: tuple[int, int], cell: int) -> tuple[int, int]:
    """Return rows and columns of a grid of `cell` x `cell` level-0 pixels over a slide of `size` (width, height)."""
    return -(-size[1] // cell), -(-size[0] // cell)


def values_at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the values of a field on the coarse grid at level-0 `points` (n, 2)."""
    columns, rows = (points // COARSE).astype(np.intp).T
    return field[np.clip(rows, 0, field.shape[0] - 1), np.clip(columns, 0, field.shape[1] - 1)]


def scattered(rng: np.random.Generator, size: tuple[int, int], spacing: float, jitter: float) -> np.ndarray:
    """Return points (n, 2) on a triangular lattice of `spacing`, each moved by up to `jitter` spacings."""
    width, height = size
    y, x = np.mgrid[0 : height : spacing * 3**0.5 / 2, 0:width:spacing]
    x = x + spacing / 2 * (np.arange(len(x)) % 2)[:, None]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    return points + rng.uniform(-jitter, jitter, points.shape) * spacing


def mottle(rng: np.random.Generator, shape: tuple[int, int], depth: float) -> np.ndarray:
    """Return factors in 128ths, uint16 of `shape`, around 128: a fine grain, repeated every 512 pixels."""
    grain = np.tanh(smooth_noise(rng, (512, 512), 1.2, mode="wrap"))
    factors = np.rint(128 * (1 + depth * grain)).astype(np.uint16)
    repeats = [-(-side // 512) for side in shape]
    return np.tile(factors, repeats)[: shape[0], : shape[1]]


@dataclass(frozen=True)
class FibreCourse:
    """Where fibres run: `along` and `across` are a fibre's own coordinates (px), `angle` its direction (radians).

    All three lie on the coarse grid, float32.
    """

    along: np.ndarray
    across: np.ndarray
    angle: np.ndarray


def fibre_course(rng: np.random.Generator, shape: tuple[int, int], texture: Texture) -> FibreCourse:
    """Draw where fibres run, on a coarse grid of `shape`: one direction a slide, with the texture's waves."""
    theta = rng.uniform(0, np.pi)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] * float(COARSE)
    along = x * np.cos(theta) + y * np.sin(theta) + texture.fibre_wave * smooth_noise(rng, shape, 12)
    across = -x * np.sin(theta) + y * np.cos(theta)
    across = across + texture.fibre_wave * (2.5 * smooth_noise(rng, shape, 16) + 0.5 * smooth_noise(rng, shape, 5))
    # A fibre runs where `across` does not change: at right angles to its gradient.
    gradient_y, gradient_x = np.gradient(across)
    angle = np.arctan2(-gradient_x, gradient_y)
    return FibreCourse(*(field.astype(np.float32) for field in (along, across, angle)))


def draw_ground(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    tissue: np.ndarray,
    weights: Mapping[str, np.ndarray],
    course: FibreCourse,
    texture: Texture,
) -> tuple[np.ndarray, np.ndarray]:
    """Return, on the half grid and as uint8, the eosin between the cells and what is inside the tissue (0 or 255).

    Fibres are a strip of noise, long in one direction, that is looked up in the coordinates of the fibres' course.
    """
    shape = grid_shape(size, HALF)
    # One cell of the strip is a level-0 pixel across the fibre and 4 along it.
    strip = smooth_noise(rng, (1024, 256), (2.2 * texture.fibre_width, 14), mode="wrap")
    strip += 0.8 * smooth_noise(rng, (1024, 256), (7 * texture.fibre_width, 22), mode="wrap")
    strip = 1 / (1 + np.exp(-2.5 * strip))
    rows = enlarge(course.across, shape).astype(np.int32) & 1023
    columns = (enlarge(course.along, shape) / 4).astype(np.int32) & 255
    fibres = strip[rows, columns]

    lymphoid, glandular = (enlarge(weights[name], shape) for name in ("lymphoid", "glandular"))
    # ASSUME Amounts of eosin: dense collagen most, stroma between glands less, lymphoid tissue little.
    amount = 88 - 62 * lymphoid - 30 * glandular
    amount *= 1 - texture.fibre_contrast * (1 - 0.8 * lymphoid - 0.35 * glandular) * (1 - fibres)
    cloud = enlarge(smooth_noise(rng, tissue.shape, 10), shape)
    amount *= 1 + 0.1 * cloud

    edge = enlarge(tissue, shape) + 0.05 * (fibres - 0.5)
    return np.clip(amount, 0, 200).astype(np.uint8), np.where(edge > 0, np.uint8(255), np.uint8(0))


def finished_maps(
    rng: np.random.Generator,
    hematoxylin: Image.Image,
    eosin: Image.Image,
    *,
    inside: np.ndarray,
    texture: Texture,
    thickness: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps of both stains as a scanner sees them: mottled, in the tissue alone, and in its focus.

    Parameters
    ----------
    rng : numpy.random.Generator
    hematoxylin, eosin : PIL.Image.Image
        The amounts that were drawn, 8 bits.
    inside : ndarray of shape (height, width), uint8
        255 in the tissue, 0 outside.
    texture : Texture
    thickness : ndarray of shape (height, width), uint16, optional
        Thickness of the section, in 128ths.

    Returns
    -------
    tuple of 2 ndarrays of shape (height, width), uint8
    """
    maps = []
    for drawn, depth in ((hematoxylin, texture.chromatin), (eosin, 0.25)):
        amount = np.asarray(drawn).astype(np.uint16)
        amount *= mottle(rng, amount.shape, depth)
        amount >>= 7
        if thickness is not None:
            amount *= thickness
            amount >>= 7
        np.minimum(amount, 240, out=amount)
        amount *= inside
        amount >>= 8
        maps.append(ndimage.gaussian_filter(amount.astype(np.uint8), texture.blur, truncate=2))
    return maps[0], maps[1]


def scanned(rng: np.random.Generator, hematoxylin: np.ndarray, eosin: np.ndarray, stain: Stain) -> np.ndarray:
    """Return the colours of two stain maps (uint8), to which dust and noise are added in place.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
    """
    # Dust, and the noise of the camera: a few hundredths of optical density, everywhere.
    noise = np.frombuffer(rng.bytes(hematoxylin.size), np.uint8).reshape(hematoxylin.shape)
    hematoxylin += noise & 3
    eosin += (noise >> 2) & 3
    return beer_lambert(hematoxylin, eosin, stain)


def draw_outlines(image: Image.Image, outlines: np.ndarray, amounts: np.ndarray) -> None:
    """Fill polygons `outlines` (n, corners, 2) of level-0 points with `amounts` (n,)."""
    draw = ImageDraw.Draw(image)
    for corners, amount in zip(
        outlines.reshape(len(outlines), 2 * outlines.shape[1]).tolist(), amounts.tolist(), strict=True
    ):
        draw.polygon(corners, fill=amount)


def ellipses(
    rng: np.random.Generator,
    centres: np.ndarray,
    half_axes: np.ndarray,
    angles: np.ndarray,
    *,
    corners: int = 11,
    uneven: float = 0.08,
) -> np.ndarray:
    """Return outlines (n, corners, 2) of slightly uneven ellipses.

    Parameters
    ----------
    centres, half_axes : ndarray of shape (n, 2)
        Level-0 pixels; the first half axis points along the angle.
    angles : ndarray of shape (n,)
        Radians, from the x axis to the y axis (which points down).
    """
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = 1 + rng.uniform(-uneven, uneven, (len(centres), corners))
    a = half_axes[:, :1] * radius * np.cos(turn)
    b = half_axes[:, 1:] * radius * np.sin(turn)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return np.stack([centres[:, :1] + a * cos - b * sin, centres[:, 1:] + a * sin + b * cos], axis=2)


def drawn_amounts(rng: np.random.Generator, n: int, mean: float, deviation: float) -> np.ndarray:
    """Return `n` amounts of a stain, integers of 20 to 220."""
    return np.clip(rng.normal(mean, deviation, n), 20, 220).astype(int)


def draw_stray_lymphocytes(
    rng: np.random.Generator, hematoxylin: Image.Image, *, tissue: np.ndarray, texture: Texture
) -> None:
    """Draw single lymphocytes everywhere, more in some places than in others."""
    points = scattered(rng, hematoxylin.size, 40, 0.5)
    per_point = texture.stray_lymphocytes * (40 * 40 * 3**0.5 / 2) / 100**2
    density = per_point * np.exp(0.8 * smooth_noise(rng, tissue.shape, 6) - 0.32)
    keep = rng.random(len(points)) < values_at(density, points)
    draw_lymphocytes(rng, hematoxylin, points[keep & (values_at(tissue, points) > 0)], texture)


def draw_lymphocytes(rng: np.random.Generator, hematoxylin: Image.Image, points: np.ndarray, texture: Texture) -> None:
    """Draw the round, dark nuclei of lymphocytes at level-0 `points` (n, 2)."""
    n = len(points)
    half_axes = rng.normal(6.6, 0.6, (n, 1)) * texture.nucleus * rng.uniform(0.88, 1.0, (n, 2))
    outlines = ellipses(rng, points, half_axes, rng.uniform(0, np.pi, n))
    draw_outlines(hematoxylin, outlines, drawn_amounts(rng, n, 150, 18))
