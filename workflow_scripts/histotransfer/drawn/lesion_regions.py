"""Annotations of drawn slides with lesions: outlines as a pathologist draws them, in three file formats."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from histotransfer import seeds, store
from histotransfer.drawn.lesion_plan import PATCH, SIZE, Plan, lay_out
from histotransfer.drawn.tissue import COARSE

if TYPE_CHECKING:
    from shapely import Polygon

#: Names of the areas in annotation files; in a mask the values 2, 1 and, as outside, 0.
TUMOUR, NORMAL, CUT_OUT = "Tumor", "Normal", "Exclusion"
#: Level-0 pixels per pixel of a mask.
MASK_CELL = 8


def draw_regions(
    *,
    annotation: str | Path,
    slide: str,
    label: str,
    drawing: str,
    master_seed: int,
    size: tuple[int, int] = SIZE,
) -> None:
    """Write the annotation of a slide of :func:`histotransfer.drawn.lesions.draw_lesions`, called with equal arguments.

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
        As in :func:`histotransfer.drawn.lesions.draw_lesions`.

    Raises
    ------
    ValueError
        As of :func:`histotransfer.drawn.lesions.draw_lesions`, or if the file's ending is none of the three.
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
        What :func:`histotransfer.drawn.lesion_plan.lay_out` gives.
    slide, drawing, master_seed, size
        As in :func:`histotransfer.drawn.lesions.draw_lesions`.

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
    # slivers that are left between a lesion and the tissue's edge are not annotated
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
