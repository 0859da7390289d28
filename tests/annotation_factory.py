"""Small annotation files as ASAP and QuPath write them, masks, and grids of tiles to label."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

from histotransfer import store
from histotransfer.definitions import Regions
from histotransfer.plain_data import made

Points = Sequence[tuple[float, float]]


def rectangle(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    """Return the corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def write_asap(
    path: str | Path,
    annotations: Iterable[tuple[str, Points]],
    *,
    groups: Mapping[str, str] | None = None,
    kind: str = "Polygon",
) -> str:
    """Write annotations (group, points) as ASAP does; `groups` says which group lies in which."""
    lines = ['<?xml version="1.0"?>', "<ASAP_Annotations>", "\t<Annotations>"]
    for number, (group, points) in enumerate(annotations):
        lines.append(
            f'\t\t<Annotation Name="Annotation {number}" Type="{kind}" PartOfGroup={quoteattr(group)} Color="#F4FA58">'
        )
        lines.append("\t\t\t<Coordinates>")
        lines += [f'\t\t\t\t<Coordinate Order="{k}" X="{x}" Y="{y}" />' for k, (x, y) in enumerate(points)]
        lines += ["\t\t\t</Coordinates>", "\t\t</Annotation>"]
    lines += ["\t</Annotations>", "\t<AnnotationGroups>"]
    for name, parent in (groups or {}).items():
        lines.append(f'\t\t<Group Name={quoteattr(name)} PartOfGroup={quoteattr(parent)} Color="#64FE2E">')
        lines += ["\t\t\t<Attributes />", "\t\t</Group>"]
    lines += ["\t</AnnotationGroups>", "</ASAP_Annotations>", ""]
    Path(path).write_text("\n".join(lines), "utf-8")
    return str(path)


def feature(
    name: str | None, *rings: Points, geometry: Any = None, object_type: str = "annotation", **members: Any
) -> dict[str, Any]:
    """Return a feature as QuPath exports it: a polygon of an outline and its holes, or another geometry."""
    closed = [[*map(list, ring), list(ring[0])] for ring in rings]
    classified = {} if name is None else {"classification": {"name": name, "color": [200, 0, 0]}}
    return {
        "type": "Feature",
        "id": "8a2a2a52-4e3c-4f2c-9f53-3d5f0d0d9d1a",
        "geometry": geometry if geometry is not None else {"type": "Polygon", "coordinates": closed},
        "properties": {"objectType": object_type, **classified},
        **members,
    }


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    """Return a collection of features."""
    return {"type": "FeatureCollection", "features": list(features), **members}


def write_geojson(path: str | Path, content: Any) -> str:
    """Write GeoJSON, or anything else that JSON can hold."""
    Path(path).write_text(json.dumps(content), "utf-8")
    return str(path)


def write_mask(path: str | Path, values: Any, mode: str | None = None) -> str:
    """Write an array as a picture."""
    Image.fromarray(np.asarray(values)).convert(mode).save(path)
    return str(path)


def regions(**changes: Any) -> Regions:
    """Return a task's regions with the paper's rules; changes are plain data."""
    plain = {
        "names": {"tumour": ["Tumor", "_0", "1"], "normal": ["Normal", "2"]},
        "cut_out": ["_2", "Exclusion", "3"],
        "ignore": ["Artefact", "4"],
        "rules": [{"class": "tumour", "above": 0.2}, {"class": "normal", "above": 0.8}],
    }
    return made(Regions, {**plain, **changes})


def write_grid(
    path: str | Path,
    *,
    columns: int,
    rows: int,
    l0_size: int,
    l0_step: int | None = None,
    l0_corner: tuple[int, int] = (0, 0),
    dropped: Iterable[tuple[int, int]] = (),
    status: str = "ok",
) -> str:
    """Write a grid of tiles; the cells `dropped` (col, row) are background."""
    step = l0_step or l0_size
    row, col = (plane.ravel() for plane in np.mgrid[:rows, :columns])
    said = {"slide": "case-1", "image_in_sheet": "case-1", "status": status, "reason": "", "l0_size": l0_size}
    names = ["kept", "background", "homogeneous", "capped"]
    with store.writing_hdf5(path, {**said, "l0_step": step, "status_names": names}) as file:
        file["col"], file["row"] = col.astype(np.int32), row.astype(np.int32)
        file["l0_x"], file["l0_y"] = l0_corner[0] + col * step, l0_corner[1] + row * step
        file["status"] = np.array([(c, r) in set(dropped) for c, r in zip(col, row, strict=True)], np.uint8)
    return str(path)


def write_description(path: str | Path, size: tuple[int, int] | None) -> str:
    """Write what is known of a slide: its size."""
    store.write_json(path, {"slide": "case-1"} if size is None else {"slide": "case-1", "size": list(size)})
    return str(path)
