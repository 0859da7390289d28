"""Regions annotated on a slide, in any of three formats, and which share of each tile lies in which of them.

A task's ``regions`` say which names count for which class. A point of the slide belongs to one layer: to ``ignore``
before ``cut_out`` before the classes, and of these to the one whose rule stands first.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer.definitions import Regions
from histotransfer.problems import Problems, closest, counted, listing
from histotransfer.regions import asap, geojson, masks
from histotransfer.regions.areas import AnnotationError, DrawnRegion
from histotransfer.regions.shares import area_in_tiles, shares_of_picture
from histotransfer.slides import grid

log = logging.getLogger("histotransfer")


#: Endings of the formats.
ENDINGS = {
    ".xml": "ASAP",
    ".geojson": "GeoJSON",
    ".json": "GeoJSON",
    **dict.fromkeys((".png", ".tif", ".tiff"), "mask"),
}

#: The first two layers; then come the classes.
IGNORE, CUT_OUT = 0, 1

# ASSUME: a region may reach beyond the slide by this share of its longer side, as where a hand slipped over the edge;
# what reaches further was drawn on another slide, or at another scale.
BEYOND = 0.02


@dataclass(frozen=True)
class Layers:
    """What the names of a task's regions stand for.

    Attributes
    ----------
    classes : tuple of str
        In the order in which they take an area that several have: as their rules stand.
    layer_of : dict
        Number of the layer of each name: :data:`IGNORE`, :data:`CUT_OUT`, or 2 and the place in `classes`.
    legal : tuple of str
        The names with what they stand for, for messages.
    """

    classes: tuple[str, ...]
    layer_of: dict[str, int]
    legal: tuple[str, ...]


def layers_of(regions: Regions) -> Layers:
    """Return the layers of a task's regions, whose names are written as the config has them."""
    classes = tuple(dict.fromkeys([*(rule.of for rule in regions.rules), *regions.names]))
    members = [("ignore", regions.ignore), ("cut_out", regions.cut_out)]
    members += [(name, regions.names.get(name, ())) for name in classes]
    # values of a mask may stand in the config as numbers
    layer_of = {str(member): layer for layer, (_, of_layer) in enumerate(members) for member in of_layer}
    legal = tuple(f"{member} ({name})" for name, of_layer in members for member in of_layer)
    return Layers(classes, layer_of, legal)


@dataclass(frozen=True)
class DrawnAnnotation:
    """Regions given by their outlines.

    Attributes
    ----------
    polygons : list of list of shapely.Polygon
        The regions of each layer, as they were drawn: those of different layers may overlap, and of one too.
    l0_size : tuple of int
        Width and height of the slide.
    """

    polygons: list[list[Any]]
    l0_size: tuple[int, int]

    @property
    def is_empty(self) -> bool:
        """Whether there is no region at all."""
        return not any(self.polygons)

    def shares(self, l0_x: np.ndarray, l0_y: np.ndarray, l0_size: int) -> np.ndarray:
        """Return which share of each tile lies in each layer, float64 of shape (n_layers, n_tiles)."""
        import shapely

        covered = np.zeros((len(self.polygons), len(l0_x)))
        together, before = shapely.GeometryCollection(), 0.0
        for layer, polygons in enumerate(self.polygons):
            if polygons:
                together = shapely.union_all([together, *polygons])
                area = area_in_tiles(together, l0_x, l0_y, l0_size)
                covered[layer] = area - before
                before = area
        return np.clip(covered / float(l0_size) ** 2, 0.0, 1.0)

    def outlines(self, width: int, height: int) -> list[np.ndarray]:
        """Return the pixels on the outlines of each layer, in a picture of the slide: bool of shape (height, width)."""
        import shapely
        from PIL import Image, ImageDraw

        scale = np.array([width, height]) / self.l0_size
        drawn = []
        for polygons in self.polygons:
            picture = Image.new("1", (width, height))
            brush = ImageDraw.Draw(picture)
            for ring in shapely.get_rings(polygons):
                brush.line((shapely.get_coordinates(ring) * scale).ravel().tolist(), fill=1)
            drawn.append(np.asarray(picture))
        return drawn


@dataclass(frozen=True)
class MaskAnnotation:
    """Regions given by a picture.

    Attributes
    ----------
    picture : ndarray of shape (h, w), uint8
        Number of the layer of each pixel, :data:`masks.OUTSIDE` where there is none.
    n_layers : int
    l0_size : tuple of int
        Width and height of the slide, which the picture covers.
    """

    picture: np.ndarray
    n_layers: int
    l0_size: tuple[int, int]

    @property
    def is_empty(self) -> bool:
        """Whether there is no region at all."""
        return bool((self.picture == masks.OUTSIDE).all())

    def shares(self, l0_x: np.ndarray, l0_y: np.ndarray, l0_size: int) -> np.ndarray:
        """Return which share of each tile lies in each layer, float64 of shape (n_layers, n_tiles)."""
        where = {"l0_width": self.l0_size[0], "l0_height": self.l0_size[1], "l0_x": l0_x, "l0_y": l0_y}
        return shares_of_picture(self.picture, self.n_layers, **where, l0_size=l0_size)

    def outlines(self, width: int, height: int) -> list[np.ndarray]:
        """Return the pixels on the outlines of each layer, in a picture of the slide: bool of shape (height, width)."""
        from PIL import Image
        from scipy import ndimage

        picture = np.asarray(Image.fromarray(self.picture).resize((width, height), Image.Resampling.NEAREST))
        areas = [picture == layer for layer in range(self.n_layers)]
        # the slide's edge is no outline
        return [area & ~ndimage.binary_erosion(area, border_value=1) for area in areas]


Annotation = DrawnAnnotation | MaskAnnotation


def read(path: str, *, regions: Regions, l0_size: tuple[int, int], l0_scanned: tuple[int, int] = (0, 0)) -> Annotation:
    """Read the annotation of one slide.

    Parameters
    ----------
    path : path
        ASAP's ``.xml``, QuPath's ``.geojson`` or ``.json``, or a mask, ``.png``, ``.tif`` or ``.tiff``.
    regions : Regions
        The task's. ``origin`` is that of GeoJSON's coordinates, and needed where both differ: ``slide`` (the corner of
        level 0) or ``scanned`` (the corner of the scanned part, which is all that QuPath shows).
    l0_size : tuple of int
        Width and height of the slide.
    l0_scanned : tuple of int
        Upper left corner of the scanned part; it differs from 0, 0 in few formats (MIRAX).

    Returns
    -------
    DrawnAnnotation or MaskAnnotation

    Raises
    ------
    AnnotationError
        With every problem of the file.
    FileNotFoundError
        If there is no file.
    """
    layers, problems = layers_of(regions), Problems()
    form = ENDINGS.get(Path(path).suffix.lower())
    if form is None:
        legal = "an annotation is ASAP's XML (.xml), QuPath's GeoJSON (.geojson, .json) or a mask (.png, .tif, .tiff)"
        problems.add("file", legal, f"the ending {Path(path).suffix!r}")
        raise AnnotationError(path, problems)
    if form == "mask":
        picture = masks.read(path, l0_size=l0_size, layer_of=layers.layer_of, legal_names=layers.legal)
        return MaskAnnotation(picture, 2 + len(layers.classes), l0_size)
    drawn = (asap if form == "ASAP" else geojson).read(path, problems)
    shift = np.zeros(2)
    if form == "GeoJSON" and tuple(l0_scanned) != (0, 0):
        shift = _shift(regions, l0_scanned, problems)
    placed = _in_layers(drawn.regions, layers, problems)
    polygons = _polygons(placed, 2 + len(layers.classes), path, regions.repair, l0_size, shift, problems)
    if problems:
        raise AnnotationError(path, problems)
    if drawn.left_out:
        counts = sorted(drawn.left_out.items())
        log.info("%s: left out %s", path, listing(f"{what} ({number})" for what, number in counts))
    return DrawnAnnotation(polygons, l0_size)


def scanned_corner(kept: grid.KeptTiles) -> tuple[int, int]:
    """Return the upper left corner of the scanned part, where the grid's cell 0, 0 lies, in pixels of level 0."""
    col, row = map(int, kept.tile[0].split("_"))
    x, y = kept.coords[0].tolist()
    step = int(kept.attributes["l0_step"])
    return x - col * step, y - row * step


def _shift(regions: Regions, l0_scanned: tuple[int, int], problems: Problems) -> np.ndarray:
    if regions.origin not in ("slide", "scanned"):
        legal = (
            f"the scanned part of this slide begins at x {l0_scanned[0]}, y {l0_scanned[1]}: origin, in the task's "
            "regions, must be scanned (coordinates begin there, as QuPath exports them) or slide (they begin at the "
            "slide's corner)"
        )
        problems.add("file", legal, repr(regions.origin))
    return np.array(l0_scanned if regions.origin == "scanned" else (0, 0), np.float64)


def _in_layers(regions: Sequence[DrawnRegion], layers: Layers, problems: Problems) -> list[tuple[DrawnRegion, int]]:
    """Return the layer of each region: that of the first of its names that stands for one."""
    placed, unknown, first = [], Counter(), {}
    for region in regions:
        layer = next((layers.layer_of[name] for name in region.names if name in layers.layer_of), None)
        if layer is None:
            unknown[region.names] += 1
            first.setdefault(region.names, region.place)
        else:
            placed.append((region, layer))
    for names, number in unknown.items():
        place = first[names] + (f" and {number - 1} more" if number > 1 else "")
        legal = f"its name must be one that the task's regions list: {listing(layers.legal)}"
        within = f", in {' in '.join(map(repr, names[1:]))}" if len(names) > 1 else ""
        problems.add(place, legal + closest(names[0], layers.layer_of), repr(names[0]) + within)
    return placed


def _polygons(
    placed: Sequence[tuple[DrawnRegion, int]],
    n_layers: int,
    path: str,
    repair: bool,
    l0_size: tuple[int, int],
    shift: np.ndarray,
    problems: Problems,
) -> list[list[Any]]:
    """Return the valid polygons of each layer; outlines that are wrong become problems, or are repaired."""
    import shapely

    made: list[list[Any]] = [[] for _ in range(n_layers)]
    for region, layer in placed:
        rings = [ring + shift for ring in region.rings]
        if not _on_slide(rings[0], region.place, l0_size, problems):
            continue
        polygon = shapely.Polygon(rings[0], rings[1:])
        if shapely.is_valid(polygon):
            made[layer].append(polygon)
            continue
        # such as Self-intersection[512.5 20]
        reason = shapely.is_valid_reason(polygon).replace("[", " at x, y = ").replace("]", "")
        if not repair:
            legal = (
                "its outline must not cross or touch itself (repair: true in the task's regions repairs such outlines)"
            )
            problems.add(region.place, legal, reason)
            continue
        # ASSUME: what an outline goes round lies inside, however often it goes round it: by the winding number, as in
        # ASAP's own conversion to masks. The other way, by even and odd, makes holes where a hand closed a loop twice.
        whole = shapely.make_valid(polygon, method="structure", keep_collapsed=False)
        parts = [part for part in shapely.get_parts(whole).tolist() if part.geom_type == "Polygon" and part.area > 0]
        made[layer].extend(parts)
        area = sum(part.area for part in parts)
        log.info(
            "%s, %s: the outline crosses itself (%s); repaired, it is %s of %.0f px of level 0 (%.0f before)",
            *(path, region.place, reason, counted(len(parts), "polygon"), area, polygon.area),
        )
    return made


def _on_slide(ring: np.ndarray, place: str, l0_size: tuple[int, int], problems: Problems) -> bool:
    low, high, size = ring.min(axis=0), ring.max(axis=0), np.array(l0_size, np.float64)
    room = BEYOND * size.max()
    if (high > 0).all() and (low < size).all() and (low >= -room).all() and (high <= size + room).all():
        return True
    legal = f"must lie on the slide, {l0_size[0]} x {l0_size[1]} px of level 0 (the annotation may be of another slide)"
    found = f"x from {low[0]:g} to {high[0]:g}, y from {low[1]:g} to {high[1]:g}"
    problems.add(place, legal, found)
    return False


def class_shares(shares: np.ndarray, regions: Regions) -> dict[str, np.ndarray]:
    """Return which share of each tile's area counts for each class.

    Parameters
    ----------
    shares : ndarray of shape (n_layers, n), float64
        What the annotation's method ``shares`` gave.
    regions : Regions
        The task's; what lies in no region, or in an area that is cut out, counts for the class ``outside``.

    Returns
    -------
    dict of ndarray of shape (n,), float64
        0 to 1, by class; of a tile, at most 1 together.
    """
    by_class = dict(zip(layers_of(regions).classes, shares[2:], strict=True))
    if regions.outside != "nolabel":
        rest = 1.0 - shares.sum(axis=0) + shares[CUT_OUT]
        by_class[regions.outside] = np.clip(by_class.get(regions.outside, 0.0) + rest, 0.0, 1.0)
    return by_class
