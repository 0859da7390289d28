"""Regions drawn in QuPath: GeoJSON as it exports objects, a collection of features, a list of them, or one.

Coordinates are pixels of the full resolution. An object's name is its classification; only annotations count, not
detections, cells and tiles.

References
----------
Butler H et al. (2016). The GeoJSON Format. RFC 7946.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from histotransfer.problems import Problems, closest, listing
from histotransfer.regions.areas import DrawnRegion, DrawnRegions, read_ring

#: Types of geometries that have an area, and those that have none.
WITH_AREA = ("Polygon", "MultiPolygon", "GeometryCollection")
WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")

#: The name of an object without a classification.
UNCLASSIFIED = "Unclassified"

_LEGAL = "must be GeoJSON: a FeatureCollection, a list of Features, or one Feature"


def read(path: str, problems: Problems) -> DrawnRegions:
    """Read the regions of a file; what is wrong with it is added to `problems`.

    Objects that are no annotations and geometries without an area are left out.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file)
        features = _features(content, problems)
        reader = _Reader(problems)
        for number, feature in enumerate(features, 1):
            reader.take(feature, number)
        return DrawnRegions(reader.regions, reader.left_out)
    except UnicodeDecodeError as error:
        problems.add("file", f"{_LEGAL}, in UTF-8", f"the byte {error.object[error.start]:#04x}")
    except json.JSONDecodeError as error:
        problems.add("file", _LEGAL, f"broken JSON ({error})")
    except RecursionError:
        problems.add("file", _LEGAL, "arrays or objects in one another, too deep to read")
    return DrawnRegions([], Counter())


def _features(content: Any, problems: Problems) -> list[Any]:
    if isinstance(content, list):
        return content
    kind = content.get("type") if isinstance(content, dict) else type(content).__name__
    if kind == "Feature":
        return [content]
    if kind != "FeatureCollection":
        problems.add("file", _LEGAL, f"type {kind!r}")
        return []
    _refuse_crs(content, "file", problems)
    if not isinstance(content.get("features"), list):
        problems.add("file", "a FeatureCollection must have a list of features", repr(content.get("features")))
        return []
    return content["features"]


def _refuse_crs(content: Mapping[str, Any], place: str, problems: Problems) -> None:
    if content.get("crs") is not None:
        legal = "must have no crs: coordinates are pixels of level 0, which no coordinate reference system has"
        found = json.dumps(content["crs"])
        problems.add(place, legal, found if len(found) <= 80 else found[:77] + "...")


class _Reader:
    """Takes features one by one."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self.regions: list[DrawnRegion] = []
        self.left_out: Counter[str] = Counter()

    def take(self, feature: Any, number: int) -> None:
        place = f"feature {number}"
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            found = feature.get("type") if isinstance(feature, dict) else type(feature).__name__
            self._problems.add(place, "must be a Feature", repr(found))
            return
        properties = feature.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        if isinstance(properties.get("name"), str) and properties["name"]:
            place += f" ({properties['name']!r})"
        _refuse_crs(feature, place, self._problems)
        kind = _object_type(feature, properties)
        if kind != "annotation":
            self.left_out[f"objects of type {kind}"] += 1
            return
        name = _classification(properties, place, self._problems)
        if name is None:
            return
        polygons = list(self._polygons(feature.get("geometry"), place))
        for part, rings in enumerate(polygons, 1):
            where = f"{place}, polygon {part}" if len(polygons) > 1 else place
            self._add(rings, where, name)

    def _add(self, rings: Any, place: str, name: str) -> None:
        if not isinstance(rings, list) or not rings or not all(isinstance(ring, list) and ring for ring in rings):
            found = "an empty one" if isinstance(rings, list) else repr(rings)
            self._problems.add(place, "a polygon must have rings of coordinates", found)
            return
        places = [place, *(f"{place}, hole {number}" for number in range(1, len(rings)))]
        read = [read_ring(ring, where, self._problems) for ring, where in zip(rings, places, strict=True)]
        if all(ring is not None for ring in read):
            self.regions.append(DrawnRegion(place, (name,), read))

    def _polygons(self, geometry: Any, place: str) -> Iterator[Any]:
        """Yield the coordinates of every polygon of a geometry; empty ones become problems."""
        if not isinstance(geometry, dict):
            found = "an empty one (null)" if geometry is None else repr(geometry)
            self._problems.add(place, "must have a geometry", found)
            return
        _refuse_crs(geometry, place, self._problems)
        kind = geometry.get("type")
        if kind in WITHOUT_AREA:
            self.left_out[f"geometries of type {kind}"] += 1
            return
        if kind not in WITH_AREA:
            legal = f"a geometry must be one of {listing((*WITH_AREA, *WITHOUT_AREA))}"
            self._problems.add(place, legal + closest(kind, (*WITH_AREA, *WITHOUT_AREA)), repr(kind))
            return
        content = geometry.get("geometries" if kind == "GeometryCollection" else "coordinates")
        if not isinstance(content, list) or not content:
            self._problems.add(place, "a geometry must not be empty", f"{kind} with {content!r}")
        elif kind == "GeometryCollection":
            for part in content:
                yield from self._polygons(part, place)
        elif kind == "MultiPolygon":
            yield from content
        else:
            yield content


def _object_type(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """Return QuPath's type of an object, in words; what names none is an annotation."""
    kind = properties.get("objectType") or properties.get("object_type")
    # before QuPath 0.3 the id was PathAnnotationObject, PathDetectionObject, PathCellObject, PathTileObject
    old = str(feature.get("id", ""))
    if not kind and old.startswith("Path") and old.endswith("Object"):
        kind = old.removeprefix("Path").removesuffix("Object").lower()
    return str(kind or "annotation")


def _classification(properties: Mapping[str, Any], place: str, problems: Problems) -> str | None:
    found = properties.get("classification")
    name = found.get("name", found.get("names")) if isinstance(found, dict) else found
    if isinstance(name, list) and name and all(isinstance(part, str) for part in name):
        # as QuPath writes a class that is derived from another
        name = ": ".join(name)
    if name is None:
        return UNCLASSIFIED
    if not isinstance(name, str) or not name:
        problems.add(place, "classification must be a name, or an object with a name", repr(found))
        return None
    return name
