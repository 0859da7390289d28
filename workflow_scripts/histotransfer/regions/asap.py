"""Regions drawn in ASAP, as Camelyon16 and Camelyon17 have them: XML, read by a parser that refuses entities.

The file has ``Annotations``, each with its ``Coordinate`` points in pixels of level 0 and with the group that it is
``PartOfGroup`` of, and ``AnnotationGroups``, which may lie in one another.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from histotransfer.problems import Problems, as_number, closest, listing
from histotransfer.regions.areas import DrawnRegion, DrawnRegions, read_ring

#: Types of annotations that have an area, and those that have none.
# ASSUME: a spline is the polygon of its points, as in ASAP's own conversion to masks (AnnotationToMask.cpp, 2022).
WITH_AREA, WITHOUT_AREA = ("Polygon", "Spline", "Rectangle"), ("Dot", "PointSet", "Measurement", "None")

_ROOT = "ASAP_Annotations"


def read(path: str, problems: Problems) -> DrawnRegions:
    """Read the regions of a file; what is wrong with it is added to `problems`.

    A region's names are its group and the groups around it; annotations without an area are left out.
    """
    from xml.etree.ElementTree import ParseError

    import defusedxml
    from defusedxml.ElementTree import DefusedXMLParser

    builder = _Builder(problems)
    # ASAP writes neither a document type nor entities, and a file that has them may be made to fill the memory
    parser = DefusedXMLParser(target=builder, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    legal = f"must be ASAP's XML, with the root {_ROOT}"
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                parser.feed(block)
        parser.close()
    except defusedxml.DTDForbidden as error:
        problems.add("file", f"{legal}, without a document type and entities", f"the document type {error.name!r}")
    except defusedxml.DefusedXmlException as error:
        problems.add("file", f"{legal}, without a document type and entities", type(error).__name__)
    except ParseError as error:
        problems.add("file", legal, f"broken XML ({error})")
    except _OtherRootError as error:
        problems.add("file", legal, f"the root {str(error)!r}")
    return DrawnRegions(builder.regions(), builder.left_out)


class _OtherRootError(Exception):
    """The file is XML with another root."""


class _Builder:
    """What the parser tells as it reads: no tree of a million points is held."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._open: list[str] = []
        self._found: list[tuple[str, str, Any]] = []
        self._parent: dict[str, str] = {}
        self._number = 0
        self._points: list[tuple[str | None, str | None]] = []
        self._orders: list[str | None] = []
        self._current: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._open and tag != _ROOT:
            raise _OtherRootError(tag)
        self._open.append(tag)
        if tag == "Coordinate":
            self._points.append((attributes.get("X"), attributes.get("Y")))
            self._orders.append(attributes.get("Order"))
        elif tag == "Annotation":
            self._number += 1
            self._current, self._points, self._orders = attributes, [], []
        elif tag == "Group":
            self._parent[attributes.get("Name", "")] = attributes.get("PartOfGroup", "None")

    def end(self, tag: str) -> None:
        self._open.pop()
        if tag != "Annotation":
            return
        place = f"annotation {self._number}" + (f" ({self._current['Name']!r})" if self._current.get("Name") else "")
        kind = self._current.get("Type", "")
        if kind in WITHOUT_AREA:
            self.left_out[f"annotations of type {kind}"] += 1
        elif kind not in WITH_AREA:
            legal = f"Type must be one of {listing((*WITH_AREA, *WITHOUT_AREA))}"
            self._problems.add(place, legal + closest(kind, (*WITH_AREA, *WITHOUT_AREA)), repr(kind))
        else:
            ring = read_ring(self._in_order(), place, self._problems)
            if ring is not None:
                self._found.append((place, self._current.get("PartOfGroup") or "None", ring))

    def data(self, text: str) -> None:
        """Pass over text between the tags."""

    def close(self) -> None:
        """End the file."""

    def _in_order(self) -> list[tuple[str | None, str | None]]:
        """Return the points by ``Order``, where every point has one; else as they stand."""
        orders = [as_number(order or "") for order in self._orders]
        if None in orders:
            return self._points
        return [self._points[k] for k in sorted(range(len(orders)), key=orders.__getitem__)]

    def regions(self) -> list[DrawnRegion]:
        # groups stand after the annotations
        return [DrawnRegion(place, self._groups(group), [ring]) for place, group, ring in self._found]

    def _groups(self, name: str) -> tuple[str, ...]:
        names = [name]
        while (name := self._parent.get(name, "None")) not in ("None", *names):
            names.append(name)
        return tuple(names)
