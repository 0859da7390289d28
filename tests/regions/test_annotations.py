"""Annotation files: what is read from the three formats, and every way in which one can be wrong, with its words."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import annotation_factory as factory
import numpy as np
import pytest
from annotation_factory import rectangle
from PIL import Image

from histotransfer.regions import annotations, areas
from histotransfer.slides.grid import read_kept

SIZE = (400, 300)

NAMES = "Artefact (ignore), 4 (ignore), _2 (cut_out), Exclusion (cut_out), 3 (cut_out), Tumor (tumour), _0 (tumour), "
NAMES += "1 (tumour), Normal (normal), 2 (normal)"
MADE_OF = "must be ASAP's XML, with the root ASAP_Annotations"


def read(path, size=SIZE, scanned=(0, 0), **changes):
    return annotations.read(path, regions=factory.regions(**changes), l0_size=size, l0_scanned=scanned)


def whole_slide(annotation, size=SIZE):
    """Return how many pixels of the slide lie in each layer: ignore, cut_out, tumour, normal."""
    side = max(size)
    shares = annotation.shares(np.array([0]), np.array([0]), side)
    return [round(share * side**2, 6) for share in shares[:, 0]]


def problems(path, **how):
    with pytest.raises(areas.AnnotationError) as raised:
        read(str(path), **how)
    first, *lines = str(raised.value).split("\n  ")
    assert first.startswith(f"{path}: ")
    return lines


# ---- ASAP


def test_the_regions_of_asap_go_by_their_group(tmp_path):
    path = factory.write_asap(
        tmp_path / "a.xml",
        [
            ("Tumor", rectangle(0, 0, 100, 50)),
            ("_0", rectangle(200, 0, 210, 10)),
            ("Normal", rectangle(0, 100, 10, 110)),
        ],
    )
    assert whole_slide(read(path)) == [0, 0, 5100, 100]


def test_the_files_of_camelyon_have_splines_decimals_and_closed_outlines(tmp_path):
    (tmp_path / "a.xml").write_text(
        '<?xml version="1.0"?><ASAP_Annotations><Annotations>'
        '<Annotation Name="_0" Type="Spline" PartOfGroup="None" Color="#F4FA58"><Coordinates>'
        '<Coordinate Order="0" X="10.5" Y="20.25"/><Coordinate Order="1" X="30.5" Y="20.25"/>'
        '<Coordinate Order="2" X="30.5" Y="40.25"/><Coordinate Order="3" X="10.5" Y="20.25"/>'
        "</Coordinates></Annotation></Annotations></ASAP_Annotations>"
    )
    assert whole_slide(read(str(tmp_path / "a.xml"), names={"tumour": ["None"], "normal": ["x"]})) == [0, 0, 200, 0]


def test_a_region_may_go_by_a_group_around_its_own_and_the_nearest_decides(tmp_path):
    path = factory.write_asap(
        tmp_path / "a.xml",
        [("lobular", rectangle(0, 0, 10, 10)), ("necrosis", rectangle(20, 0, 21, 1))],
        groups={
            "lobular": "carcinoma",
            "carcinoma": "Tumor",
            "Tumor": "None",
            "necrosis": "Artefact",
            "Artefact": "Tumor",
        },
    )
    assert whole_slide(read(path)) == [1, 0, 100, 0]


def test_groups_that_lie_in_each_other_are_no_endless_loop(tmp_path):
    path = factory.write_asap(tmp_path / "a.xml", [("a", rectangle(0, 0, 9, 9))], groups={"a": "b", "b": "a"})
    assert problems(path)[0].endswith("found 'a', in 'b'")


def test_points_are_taken_by_their_order(tmp_path):
    path = Path(factory.write_asap(tmp_path / "a.xml", [("Tumor", rectangle(0, 0, 10, 10))]))
    lines = path.read_text().splitlines()
    # the third and the fourth point change places in the file: by place the outline would cross itself
    lines[7], lines[8] = lines[8], lines[7]
    path.write_text("\n".join(lines))
    assert whole_slide(read(str(path))) == [0, 0, 100, 0]
    # one without an order: all by place
    path.write_text("\n".join(lines).replace('Order="0" ', ""))
    assert "must not cross" in problems(path)[0]


def test_annotations_without_an_area_are_left_out_and_counted_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="histotransfer")
    path = factory.write_asap(tmp_path / "a.xml", [("any", [(5, 5)]), ("thing", [(6, 6)])], kind="Dot")
    assert read(path).is_empty
    assert [record.message for record in caplog.records] == [f"{path}: left out annotations of type Dot (2)"]


def test_a_file_without_annotations_is_one_of_a_slide_without_regions(tmp_path):
    assert read(factory.write_asap(tmp_path / "a.xml", [])).is_empty
    assert read(factory.write_geojson(tmp_path / "a.json", factory.collection())).is_empty
    assert read(factory.write_mask(tmp_path / "a.png", np.zeros((3, 4), np.uint8))).is_empty


LAUGHS = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 10))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f'<!DOCTYPE lolz [<!ENTITY l0 "lol">{LAUGHS}]><ASAP_Annotations>&l9;</ASAP_Annotations>',
            f"file: {MADE_OF}, without a document type and entities; found the document type 'lolz'",
        ),
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><ASAP_Annotations>&x;</ASAP_Annotations>',
            f"file: {MADE_OF}, without a document type and entities; found the document type 'a'",
        ),
        (
            '<!DOCTYPE b SYSTEM "http://example.org/b.dtd"><ASAP_Annotations/>',
            f"file: {MADE_OF}, without a document type and entities; found the document type 'b'",
        ),
        (
            "<ASAP_Annotations>&x;</ASAP_Annotations>",
            f"file: {MADE_OF}; found broken XML (undefined entity: line 1, column 18)",
        ),
        ("", f"file: {MADE_OF}; found broken XML (no element found: line 1, column 0)"),
        ("<ASAP_Annotations><Annotations>", f"file: {MADE_OF}; found broken XML (no element found: line 1, column 31)"),
        ("{}", f"file: {MADE_OF}; found broken XML (not well-formed (invalid token): line 1, column 0)"),
        # what Aperio's ImageScope writes
        ('<Annotations MicronsPerPixel="0.25"/>', f"file: {MADE_OF}; found the root 'Annotations'"),
    ],
)
def test_xml_that_is_refused(tmp_path, text, expected):
    (tmp_path / "a.xml").write_text(text)
    started = time.monotonic()
    assert problems(tmp_path / "a.xml") == [expected]
    assert time.monotonic() - started < 2, "seconds"


def test_a_group_that_nobody_listed(tmp_path):
    path = factory.write_asap(
        tmp_path / "a.xml",
        [("Tumour", rectangle(0, 0, 9, 9)), ("Tumour", rectangle(20, 0, 29, 9)), ("other", rectangle(40, 0, 49, 9))],
        groups={"other": "else"},
    )
    assert problems(path) == [
        f"annotation 1 ('Annotation 0') and 1 more: its name must be one that the task's regions list: {NAMES} "
        "(did you mean 'Tumor'?); found 'Tumour'",
        f"annotation 3 ('Annotation 2'): its name must be one that the task's regions list: {NAMES}; "
        "found 'other', in 'else'",
    ]


def test_all_problems_of_a_file_come_at_once(tmp_path):
    path = factory.write_asap(
        tmp_path / "a.xml",
        [
            ("Tumor", [(0, 0), (5, 5)]),
            ("Tumor", [(0, 0), (5, 5), (0, 0)]),
            ("Tumor", [(0, 0), ("nan", 5), (5, 0)]),
            ("Tumor", [(0, 0), (1, 5), (5, "3,5")]),
            ("Tumor", []),
            ("Tumor", [(0, 0), (10, 10), (10, 0), (0, 10)]),
        ],
    )
    assert problems(path) == [
        "annotation 1 ('Annotation 0'): an outline must have at least 3 points; found 2",
        "annotation 2 ('Annotation 1'): an outline must have at least 3 points; found 2",
        "annotation 3 ('Annotation 2'), point 2: x and y must be finite numbers, pixels of level 0; found nan, 5",
        "annotation 4 ('Annotation 3'), point 3: x and y must be finite numbers, pixels of level 0; found 5, 3,5",
        "annotation 5 ('Annotation 4'): an outline must have at least 3 points; found 0",
        "annotation 6 ('Annotation 5'): its outline must not cross or touch itself (repair: true in the task's regions "
        "repairs such outlines); found Self-intersection at x, y = 5 5",
    ]


def test_a_type_that_asap_does_not_have(tmp_path):
    path = factory.write_asap(tmp_path / "a.xml", [("Tumor", rectangle(0, 0, 9, 9))], kind="polygon")
    assert problems(path) == [
        "annotation 1 ('Annotation 0'): Type must be one of Polygon, Spline, Rectangle, Dot, PointSet, Measurement, "
        "None (did you mean 'Polygon'?); found 'polygon'"
    ]


# ---- GeoJSON


HOLED = factory.feature("Tumor", rectangle(0, 0, 100, 50), rectangle(10, 10, 20, 20))
TWO = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[0, 0], [10, 0], [10, 10], [0, 0]]],
        [[[20, 0], [30, 0], [30, 10], [20, 10], [20, 0]], [[22, 2], [24, 2], [24, 4], [22, 4], [22, 2]]],
    ],
}


@pytest.mark.parametrize("content", [factory.collection(HOLED), [HOLED], HOLED], ids=["collection", "list", "feature"])
@pytest.mark.parametrize("ending", ["geojson", "json", "GeoJSON"])
def test_the_three_ways_in_which_qupath_writes_a_polygon_with_a_hole(tmp_path, content, ending):
    assert whole_slide(read(factory.write_geojson(tmp_path / f"a.{ending}", content))) == [0, 0, 4900, 0]


def test_several_polygons_of_one_feature(tmp_path):
    mixed = {"type": "GeometryCollection", "geometries": [TWO, {"type": "Point", "coordinates": [1, 1]}]}
    for geometry in (TWO, mixed):
        path = factory.write_geojson(tmp_path / "a.json", [factory.feature("Normal", geometry=geometry)])
        assert whole_slide(read(path)) == [0, 0, 0, 146]


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"objectType": "annotation", "classification": {"name": "Stroma", "colorRGB": -1}}, "Stroma"),
        ({"classification": "Stroma"}, "Stroma"),
        ({"classification": {"names": ["Stroma", "Positive"]}}, "Stroma: Positive"),
        ({"classification": None}, "Unclassified"),
        ({"objectType": "annotation"}, "Unclassified"),
        (None, "Unclassified"),
    ],
)
def test_the_name_is_the_classification_or_unclassified(tmp_path, properties, name):
    found = {**factory.feature("x", rectangle(0, 0, 5, 5)), "properties": properties}
    path = factory.write_geojson(tmp_path / "a.json", found)
    assert whole_slide(read(path, names={"tumour": [name], "normal": ["n"]})) == [0, 0, 25, 0]
    assert problems(path)[0].endswith(f"; found {name!r}")


def test_objects_that_are_no_annotations_are_left_out_and_counted_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="histotransfer")
    square = rectangle(0, 0, 5, 5)
    old = {**factory.feature("Cells", square), "id": "PathDetectionObject", "properties": {}}
    others = [factory.feature("any", square, object_type=kind) for kind in ("detection", "cell", "cell", "tile")]
    line = factory.feature("any", geometry={"type": "LineString", "coordinates": [[0, 0], [1, 1]]})
    path = factory.write_geojson(
        tmp_path / "a.json", factory.collection(factory.feature("Tumor", square), *others, old, line)
    )
    assert whole_slide(read(path)) == [0, 0, 25, 0]
    assert [record.message for record in caplog.records] == [
        f"{path}: left out geometries of type LineString (1), objects of type cell (2), objects of type detection (2), "
        "objects of type tile (1)"
    ]


POLYGON = "a geometry must be one of Polygon, MultiPolygon, GeometryCollection, Point, MultiPoint, LineString, "
POLYGON += "MultiLineString"
CRS = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
NO_CRS = "must have no crs: coordinates are pixels of level 0, which no coordinate reference system has"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            factory.feature("Tumor", [(0, 0), (20, 20), (20, 0), (0, 20)]),
            "feature 1: its outline must not cross or touch itself (repair: true in the task's regions repairs such "
            "outlines); found Self-intersection at x, y = 10 10",
        ),
        (
            [HOLED, factory.feature("Tumor", rectangle(0, 0, 9, 9), rectangle(20, 20, 29, 29))],
            "feature 2: its outline must not cross or touch itself (repair: true in the task's regions repairs such "
            "outlines); found Hole lies outside shell at x, y = 20 20",
        ),
        (
            factory.feature("Tumor", geometry={"type": "Polygon", "coordinates": []}),
            "feature 1: a geometry must not be empty; found Polygon with []",
        ),
        (
            factory.feature("Tumor", geometry={"type": "Polygon", "coordinates": [[]]}),
            "feature 1: a polygon must have rings of coordinates; found an empty one",
        ),
        (
            factory.feature("Tumor", geometry={"type": "GeometryCollection", "geometries": []}),
            "feature 1: a geometry must not be empty; found GeometryCollection with []",
        ),
        (
            {**HOLED, "geometry": None},
            "feature 1: must have a geometry; found an empty one (null)",
        ),
        (
            factory.feature("Tumor", geometry={"type": "polygon", "coordinates": []}),
            f"feature 1: {POLYGON} (did you mean 'Polygon'?); found 'polygon'",
        ),
        (
            factory.feature(
                "Tumor", geometry={"type": "Polygon", "coordinates": [[[0, 0], [1, float("nan")], [2, 0]]]}
            ),
            "feature 1, point 2: x and y must be finite numbers, pixels of level 0; found 1, nan",
        ),
        (
            factory.feature("Tumor", geometry={"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2]]]}),
            "feature 1, point 3: x and y must be finite numbers, pixels of level 0; found 2",
        ),
        (
            factory.feature("Tumor", rectangle(0, 0, 9, 9), [(1, 1), (2, 2)]),
            "feature 1, hole 1: an outline must have at least 3 points; found 2",
        ),
        (
            factory.feature("Tumor", geometry={**TWO, "coordinates": [*TWO["coordinates"], [[[0, 0], [1, 1]]]]}),
            "feature 1, polygon 3: an outline must have at least 3 points; found 2",
        ),
        (factory.collection(HOLED, crs=CRS), f"file: {NO_CRS}; found {json.dumps(CRS)}"),
        ({**HOLED, "crs": CRS}, f"feature 1: {NO_CRS}; found {json.dumps(CRS)}"),
        (
            {**HOLED, "geometry": {**HOLED["geometry"], "crs": CRS}},
            f"feature 1: {NO_CRS}; found {json.dumps(CRS)}",
        ),
        (
            {"type": "Polygon", "coordinates": []},
            "file: must be GeoJSON: a FeatureCollection, a list of Features, or one Feature; found type 'Polygon'",
        ),
        ("text", "file: must be GeoJSON: a FeatureCollection, a list of Features, or one Feature; found type 'str'"),
        ([7], "feature 1: must be a Feature; found 'int'"),
        ({"type": "FeatureCollection"}, "file: a FeatureCollection must have a list of features; found None"),
        (
            {**HOLED, "properties": {"classification": {"name": 7}}},
            "feature 1: classification must be a name, or an object with a name; found {'name': 7}",
        ),
    ],
)
def test_geojson_that_is_refused(tmp_path, content, expected):
    assert problems(factory.write_geojson(tmp_path / "a.geojson", content)) == [expected]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "broken JSON (Expecting value: line 1 column 1 (char 0))"),
        (b'{"type": "FeatureColl', "broken JSON (Unterminated string starting at: line 1 column 10 (char 9))"),
        (b"[" * 200_000, "arrays or objects in one another, too deep to read"),
    ],
)
def test_what_is_no_json(tmp_path, content, found):
    (tmp_path / "a.geojson").write_bytes(content)
    legal = "must be GeoJSON: a FeatureCollection, a list of Features, or one Feature"
    assert problems(tmp_path / "a.geojson") == [f"file: {legal}; found {found}"]


def test_json_that_is_not_utf_8(tmp_path):
    (tmp_path / "a.geojson").write_bytes(json.dumps(HOLED).encode("utf-16"))
    assert problems(tmp_path / "a.geojson")[0].endswith("one Feature, in UTF-8; found the byte 0xff")
    (tmp_path / "a.geojson").write_bytes(b"\xef\xbb\xbf" + json.dumps(HOLED).encode())
    assert whole_slide(read(str(tmp_path / "a.geojson"))) == [0, 0, 4900, 0]


def test_where_the_scanned_part_begins_elsewhere_the_config_says_what_coordinates_begin_at(tmp_path):
    path = factory.write_geojson(tmp_path / "a.json", factory.feature("Tumor", rectangle(0, 0, 10, 10)))
    assert problems(path, scanned=(50, 20)) == [
        "file: the scanned part of this slide begins at x 50, y 20: origin, in the task's regions, must be scanned "
        "(coordinates begin there, as QuPath exports them) or slide (they begin at the slide's corner); found None"
    ]
    tile = {"l0_x": np.array([50]), "l0_y": np.array([20]), "l0_size": 10}
    assert read(path, scanned=(50, 20), origin="scanned").shares(**tile)[2].tolist() == [1]
    assert read(path, scanned=(50, 20), origin="slide").shares(**tile)[2].tolist() == [0]
    # ASAP's coordinates begin at the slide's corner, whatever the scanned part
    path = factory.write_asap(tmp_path / "a.xml", [("Tumor", rectangle(50, 20, 60, 30))])
    assert read(path, scanned=(50, 20)).shares(**tile)[2].tolist() == [1]


# ---- outlines of both formats


def write_outline(folder, form, points):
    if form == "xml":
        return factory.write_asap(folder / "a.xml", [("Tumor", points)])
    return factory.write_geojson(folder / "a.json", factory.feature("Tumor", points))


@pytest.mark.parametrize("form", ["xml", "json"])
@pytest.mark.parametrize(
    ("outline", "found"),
    [
        # 2 % of 400 px are 8 px
        (rectangle(-9, 0, 10, 10), "x from -9 to 10, y from 0 to 10"),
        (rectangle(0, 0, 10, 309), "x from 0 to 10, y from 0 to 309"),
        # on no pixel of the slide, though near
        (rectangle(-5, 0, 0, 10), "x from -5 to 0, y from 0 to 10"),
        (rectangle(401, 0, 405, 10), "x from 401 to 405, y from 0 to 10"),
        (rectangle(5000, 7000, 5100, 7100), "x from 5000 to 5100, y from 7000 to 7100"),
    ],
)
def test_regions_beyond_the_slide_were_drawn_on_another(tmp_path, form, outline, found):
    (line,) = problems(write_outline(tmp_path, form, outline))
    assert line.endswith(
        f": must lie on the slide, 400 x 300 px of level 0 (the annotation may be of another slide); found {found}"
    )


@pytest.mark.parametrize("form", ["xml", "json"])
def test_a_hand_may_slip_over_the_edge_of_the_slide(tmp_path, form):
    annotation = read(write_outline(tmp_path, form, rectangle(-8, -8, 408, 10)))
    assert annotation.shares(np.array([0]), np.array([0]), 20)[2].tolist() == [0.5]


@pytest.mark.parametrize("form", ["xml", "json"])
@pytest.mark.parametrize(
    ("outline", "area", "said"),
    [
        # a bow tie is two triangles
        ([(0, 0), (10, 10), (10, 0), (0, 10)], 50, "2 polygons of 50 px of level 0 (0 before)"),
        # a loop that runs over its own beginning: 10 x 10 with a strip 2 x 2 above; drawn twice is not outside
        (
            [(0, 2), (10, 2), (10, 12), (4, 12), (4, 0), (6, 0), (6, 10), (0, 10)],
            96,
            "1 polygon of 96 px of level 0 (112 before)",
        ),
        # a spike and a line have no area of their own
        ([(0, 0), (10, 0), (10, 10), (10, 30), (10, 10), (0, 10)], 100, "1 polygon of 100 px of level 0 (100 before)"),
        ([(0, 0), (5, 5), (10, 10)], 0, "0 polygons of 0 px of level 0 (0 before)"),
    ],
)
def test_outlines_that_cross_themselves_are_repaired_if_the_config_says_so(tmp_path, form, outline, area, said, caplog):
    caplog.set_level(logging.INFO, logger="histotransfer")
    path = write_outline(tmp_path, form, outline)
    assert "must not cross or touch itself" in problems(path)[0]
    assert not caplog.records
    assert whole_slide(read(path, repair=True)) == [0, 0, area, 0]
    (record,) = caplog.records
    assert record.message.startswith(f"{path}, {'annotation 1' if form == 'xml' else 'feature 1'}")
    assert record.message.endswith(f"; repaired, it is {said}")


# ---- masks


MASK = np.zeros((30, 40), np.uint8)
MASK[:10, :20], MASK[2:4, 2:4], MASK[20:, 30:], MASK[29, 39] = 1, 3, 2, 4


@pytest.mark.parametrize("ending", ["png", "tif", "tiff", "TIF"])
@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_values_of_a_mask_are_names(tmp_path, ending, mode):
    image = Image.fromarray(MASK.astype(np.uint16) if mode == "I;16" else MASK)
    if mode == "P":
        image.putpalette([k % 256 for k in range(768)])
    assert image.mode == mode
    image.save(tmp_path / f"a.{ending}")
    # a pixel of the mask is 10 x 10 px of the slide
    assert whole_slide(read(str(tmp_path / f"a.{ending}"))) == [100, 400, 19_600, 9_900]


def test_a_mask_of_one_bit_has_the_value_1(tmp_path):
    path = factory.write_mask(tmp_path / "a.png", MASK == 1, "1")
    assert whole_slide(read(path)) == [0, 0, 19_600, 0]


def test_large_values_of_a_mask_and_names_that_are_numbers_in_the_config(tmp_path):
    path = factory.write_mask(tmp_path / "a.png", np.array([[0, 255], [60_000, 255]], np.uint16))
    annotation = read(path, size=(20, 20), names={"tumour": [60_000], "normal": ["255"]})
    assert whole_slide(annotation, (20, 20)) == [0, 0, 100, 200]


@pytest.mark.parametrize("shape", [(30, 40), (300, 400), (1, 1), (3, 5), (15, 20), (31, 40), (150, 201), (3, 4)])
def test_masks_whose_sides_are_rounded_have_the_slides_shape(tmp_path, shape):
    path = factory.write_mask(tmp_path / "a.png", np.ones(shape, np.uint8))
    assert whole_slide(read(path, size=(400, 300))) == [0, 0, 120_000, 0]


@pytest.mark.parametrize("shape", [(40, 30), (30, 30), (32, 40), (150, 203)])
def test_a_mask_of_another_shape_is_one_of_another_slide(tmp_path, shape):
    path = factory.write_mask(tmp_path / "a.png", np.ones(shape, np.uint8))
    height, width = shape
    assert problems(path) == [
        f"file: a mask covers its slide of 400 x 300 px, so it must be {width} x {round(width * 0.75)} px or another "
        f"size of that shape (it may be the mask of another slide); found {width} x {height} px"
    ]


@pytest.mark.parametrize(
    ("mode", "ending"), [("RGB", "png"), ("RGB", "tif"), ("RGBA", "png"), ("LA", "png"), ("F", "tif")]
)
def test_a_mask_of_colours_is_refused(tmp_path, mode, ending):
    path = factory.write_mask(tmp_path / f"a.{ending}", MASK, mode)
    assert problems(path) == [
        "file: a mask has one channel, whose values are the names of regions (Pillow's modes 1, L, P and I;16); "
        f"found mode {mode}"
    ]


def test_values_that_no_name_stands_for(tmp_path):
    path = factory.write_mask(tmp_path / "a.png", np.where(MASK == 2, 7, MASK * np.uint8(50)))
    lines = problems(path)
    legal = f"values: must be 0 (outside) or a name that the task's regions list: {NAMES}"
    assert lines == [
        f"{legal}; found 7 in 99 pixels",
        f"{legal}; found 50 in 196 pixels",
        f"{legal}; found 150 in 4 pixels",
        f"{legal}; found 200 in 1 pixel",
    ]


def test_values_beyond_16_bits(tmp_path):
    Image.fromarray(np.full((30, 40), 70_000, np.int32)).save(tmp_path / "a.tif")
    assert problems(tmp_path / "a.tif") == ["values: must be whole numbers of at most 16 bits; found 70000 to 70000"]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_mask_that_is_cut_off(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 5, (300, 400), np.uint8)
    path = Path(factory.write_mask(tmp_path / f"a.{ending}", noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (line,) = problems(path)
    assert line.startswith("file: a mask must be a ")


@pytest.mark.parametrize("content", [b"", b"text"])
def test_a_mask_that_is_no_picture(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert problems(tmp_path / "a.png") == ["file: a mask must be a PNG or TIFF image; found none that Pillow can read"]


def test_a_picture_with_losses_is_no_mask_whatever_its_name(tmp_path):
    Image.fromarray(MASK).save(tmp_path / "a.png", format="JPEG")
    assert problems(tmp_path / "a.png") == ["file: a mask must be a PNG or TIFF image; found none that Pillow can read"]


def test_a_mask_too_large_to_hold(tmp_path, monkeypatch):
    path = factory.write_mask(tmp_path / "a.png", MASK)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert problems(path) == [
        "file: a mask must have at most 1,000 pixels: reduce it, without interpolation; found more"
    ]


def test_of_a_tiff_with_several_pages_the_first_is_read(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="histotransfer")
    Image.fromarray(MASK).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(MASK[::2, ::2])])
    assert whole_slide(read(str(tmp_path / "a.tif"))) == [100, 400, 19_600, 9_900]
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'a.tif'} has 2 pages, of which the first is read"
    ]


# ---- any format


@pytest.mark.parametrize("name", ["a.svs", "a", "a.xml.gz", "a.geojsonl"])
def test_other_endings(tmp_path, name):
    assert problems(tmp_path / name) == [
        "file: an annotation is ASAP's XML (.xml), QuPath's GeoJSON (.geojson, .json) or a mask (.png, .tif, .tiff); "
        f"found the ending {Path(name).suffix!r}"
    ]


@pytest.mark.parametrize("name", ["a.xml", "a.json", "a.png"])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        read(str(tmp_path / name))


def test_areas_lie_in_one_layer_ignored_before_cut_out_before_the_classes_in_the_order_of_their_rules(tmp_path):
    # four squares of 10 x 10 that overlap their neighbours by 4 x 10, in a row
    names = ["Normal", "Tumor", "Exclusion", "Artefact"]
    squares = [(name, rectangle(6 * k, 0, 6 * k + 10, 10)) for k, name in enumerate(names)]
    path = factory.write_asap(tmp_path / "a.xml", squares)
    assert whole_slide(read(path)) == [100, 60, 60, 60]
    turned = list(reversed(factory.regions().rules))
    # normal, whose rule stands first now, has all of its square
    assert whole_slide(read(path, rules=turned)) == [100, 60, 100, 20]


def test_regions_of_one_class_count_once_where_they_overlap(tmp_path):
    path = factory.write_asap(tmp_path / "a.xml", [("Tumor", rectangle(0, 0, 10, 10)), ("_0", rectangle(5, 5, 15, 15))])
    assert whole_slide(read(path)) == [0, 0, 175, 0]


def test_the_corner_of_the_scanned_part_follows_from_any_tile(tmp_path):
    grid = factory.write_grid(
        tmp_path / "g.h5", columns=4, rows=3, l0_size=20, l0_step=15, l0_corner=(7, 9), dropped=[(0, 0), (1, 0)]
    )
    assert annotations.scanned_corner(read_kept(grid)) == (7, 9)
