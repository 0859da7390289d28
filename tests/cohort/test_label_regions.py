"""Labels of tiles by annotated regions, with areas that can be worked out by hand."""

from __future__ import annotations

import logging

import annotation_factory as factory
import numpy as np
import pytest
from annotation_factory import rectangle

from histotransfer import store
from histotransfer.cohort import labels
from histotransfer.regions import areas

# a slide of 400 x 300 px, twelve tiles of 100 px
SIZE = (400, 300)


def label_regions(folder, annotation, *, label="", size=SIZE, grid=None, class_names=("normal", "tumour"), **changes):
    """Label a slide, and return the labels and shares of its tiles, by tile."""
    grid = grid or factory.write_grid(folder / "g.h5", columns=4, rows=3, l0_size=100)
    labels.label_regions(
        grid=grid,
        description=factory.write_description(folder / "s.json", size),
        annotation=annotation,
        labels=str(folder / "labels.tsv"),
        fractions=str(folder / "fractions.tsv"),
        group={"slide": "Block 7", "patient": "P 1"},
        label=label,
        classes={"adenoma": "tumour", "carcinoma": "tumour", "normal": "normal"},
        class_names=class_names,
        regions=factory.regions(**changes),
    )
    rows, shares = store.read_table(folder / "labels.tsv"), store.read_table(folder / "fractions.tsv")
    assert [row["tile"] for row in rows] == [row["tile"] for row in shares]
    return (
        {row["tile"]: row["label"] for row in rows},
        {row.pop("tile"): {name: float(share) for name, share in row.items()} for row in shares},
    )


def test_the_tables_of_a_slide(tmp_path):
    grid = factory.write_grid(tmp_path / "g.h5", columns=2, rows=2, l0_size=100, dropped=[(1, 0)])
    annotation = factory.write_asap(
        tmp_path / "a.xml", [("Tumor", rectangle(0, 0, 30, 100)), ("Normal", rectangle(0, 100, 200, 190))]
    )
    label_regions(tmp_path, annotation, size=(200, 200), grid=grid)
    assert (tmp_path / "labels.tsv").read_text() == (
        "tile\timage\tslide\tpatient\tlabel\n"
        "0_0\tcase-1\tBlock 7\tP 1\ttumour\n"
        "0_1\tcase-1\tBlock 7\tP 1\tnormal\n"
        "1_1\tcase-1\tBlock 7\tP 1\tnormal\n"
    )
    assert (tmp_path / "fractions.tsv").read_text() == (
        "tile\tnormal\ttumour\n0_0\t0.000000\t0.300000\n0_1\t0.900000\t0.000000\n1_1\t0.900000\t0.000000\n"
    )


def drawn_by_hand(folder):
    """Tumour 200 x 100 px with a hole of 60 x 20; normal 100 x 100 that overlaps it, and a triangle."""
    return factory.write_geojson(
        folder / "a.geojson",
        factory.collection(
            factory.feature("Tumor", rectangle(50, 50, 250, 150), rectangle(120, 110, 180, 130)),
            factory.feature("Normal", rectangle(200, 100, 300, 200)),
            factory.feature("Normal", [(300, 200), (400, 200), (300, 300)]),
        ),
    )


def test_polygons_with_holes_and_overlaps_against_areas_worked_out_by_hand(tmp_path):
    found, shares = label_regions(tmp_path, drawn_by_hand(tmp_path))
    tumour = {"0_0": 0.25, "1_0": 0.5, "2_0": 0.25, "0_1": 0.25, "1_1": 0.5 - 60 * 20 / 10_000, "2_1": 0.25}
    # where both lie the tumour's rule stands first: 50 x 50 of the tile 2_1
    normal = {"2_1": 1 - 0.25, "3_2": 0.5}
    assert {tile: one["tumour"] for tile, one in shares.items() if one["tumour"]} == tumour
    assert {tile: one["normal"] for tile, one in shares.items() if one["normal"]} == normal
    assert {tile for tile, label in found.items() if label == "tumour"} == set(tumour)
    assert set(found.values()) == {"tumour", ""}


def test_where_classes_overlap_the_one_whose_rule_stands_first_has_the_area(tmp_path):
    rules = [{"class": "normal", "above": 0.8}, {"class": "tumour", "above": 0.2}]
    found, shares = label_regions(tmp_path, drawn_by_hand(tmp_path), rules=rules)
    assert shares["2_1"] == {"normal": 1, "tumour": 0}
    assert found["2_1"] == "normal"
    assert found["2_0"] == "tumour"


def test_what_lies_outside_every_region_counts_for_a_class_if_the_config_says_so(tmp_path):
    found, shares = label_regions(tmp_path, drawn_by_hand(tmp_path), outside="normal")
    # also what lies in a hole
    assert shares["1_1"] == {"normal": 0.62, "tumour": 0.38}
    assert shares["3_2"] == {"normal": 1, "tumour": 0}
    assert {label: list(found.values()).count(label) for label in found.values()} == {"tumour": 6, "normal": 6}


def test_areas_that_are_cut_out_lie_outside_and_ignored_ones_count_for_nothing(tmp_path):
    annotation = factory.write_asap(
        tmp_path / "a.xml",
        [
            ("Tumor", rectangle(0, 0, 100, 50)),
            ("_2", rectangle(0, 0, 100, 35)),
            ("Artefact", rectangle(0, 40, 100, 60)),
            # an area that is ignored is no part of what is cut out either
            ("Exclusion", rectangle(100, 0, 200, 100)),
            ("Artefact", rectangle(100, 0, 200, 30)),
        ],
    )
    _, shares = label_regions(tmp_path, annotation)
    assert shares["0_0"] == {"normal": 0, "tumour": 0.05}
    _, shares = label_regions(tmp_path, annotation, outside="normal")
    assert shares["0_0"] == {"normal": 0.75, "tumour": 0.05}
    assert shares["1_0"] == {"normal": 0.7, "tumour": 0}
    _, shares = label_regions(tmp_path, annotation, outside="tumour")
    assert shares["0_0"] == {"normal": 0, "tumour": 0.8}


def write_mask(folder, width):
    """Return a mask with a tumour of `width` px at the left edge of each tile of the slide's first row."""
    values = np.zeros(SIZE[::-1], np.uint8)
    for left in range(0, 400, 100):
        values[:100, left : left + width] = 1
    return factory.write_mask(folder / "a.png", values)


def write_polygons(folder, width):
    found = [("Tumor", rectangle(left, 0, left + width, 100)) for left in range(0, 400, 100)]
    return factory.write_asap(folder / "a.xml", found)


def write_triangles(folder, width):
    # as large as the rectangle
    return factory.write_geojson(
        folder / "a.json",
        factory.collection(
            *(factory.feature("Tumor", [(x, 0), (x + 2 * width, 33), (x, 100)]) for x in range(0, 400, 100))
        ),
    )


@pytest.mark.parametrize("write", [write_mask, write_polygons, write_triangles])
@pytest.mark.parametrize(("width", "label"), [(19, ""), (20, ""), (21, "tumour")])
def test_over_a_fifth_is_more_than_a_fifth(tmp_path, write, width, label):
    found, shares = label_regions(tmp_path, write(tmp_path, width))
    assert [found[f"{col}_0"] for col in range(4)] == [label] * 4
    assert [shares[f"{col}_0"]["tumour"] for col in range(4)] == [width / 100] * 4


@pytest.mark.parametrize(("right", "label"), [(20, ""), (20.0001, "tumour")])
@pytest.mark.parametrize("left", [0, 0.1, 1 / 3])
def test_shares_just_over_a_threshold_are_over_it_and_rounding_is_not(tmp_path, left, right, label):
    # 0.1 + 20 is not 20.1 to the last digit
    outline = [(left, 0), (left + right, 0), (left + right, 100), (left, 100)]
    found, _ = label_regions(tmp_path, factory.write_asap(tmp_path / "a.xml", [("Tumor", outline)]))
    assert found["0_0"] == label


def test_a_threshold_of_four_fifths_and_the_first_rule_that_holds(tmp_path):
    strips = [("Normal", rectangle(0, 0, 100, 80)), ("Normal", rectangle(100, 0, 200, 81))]
    # 81 % normal, and 21 % tumour in place of a part of it: 62 % are left
    strips += [("Normal", rectangle(200, 0, 300, 81)), ("Tumor", rectangle(200, 62, 300, 83))]
    found, shares = label_regions(tmp_path, factory.write_asap(tmp_path / "a.xml", strips))
    assert [found[f"{col}_0"] for col in range(4)] == ["", "normal", "tumour", ""]
    assert shares["2_0"] == {"normal": 0.62, "tumour": 0.21}


def test_the_three_formats_give_the_same_labels_and_shares(tmp_path):
    """Regions along the edges of the mask's pixels, one with a hole, one cut, one ignored; a mask at a tenth."""
    tumour, hole = rectangle(30, 40, 260, 170), rectangle(110, 60, 150, 120)
    normal, cut, ignored = rectangle(200, 100, 400, 300), rectangle(50, 130, 90, 170), rectangle(310, 210, 330, 300)
    asap = factory.write_asap(
        tmp_path / "a.xml",
        [("_0", tumour), ("_2", hole), ("Normal", normal), ("_2", cut), ("Artefact", ignored)],
    )
    geojson = factory.write_geojson(
        tmp_path / "a.geojson",
        [
            factory.feature("Normal", normal),
            factory.feature("Tumor", tumour, hole),
            factory.feature("Exclusion", cut),
            factory.feature("Artefact", ignored),
        ],
    )
    values = np.zeros((30, 40), np.uint8)
    values[10:30, 20:40] = 2
    values[4:17, 3:26] = 1
    values[6:12, 11:15] = 3
    values[13:17, 5:9] = 3
    values[21:30, 31:33] = 4
    mask = factory.write_mask(tmp_path / "a.png", values)
    # tiles that end between the mask's pixels, and overlap
    grid = factory.write_grid(tmp_path / "g.h5", columns=14, rows=10, l0_size=37, l0_step=25, l0_corner=(0, 5))
    how = {"grid": grid, "outside": "normal", "origin": "slide"}
    found = [label_regions(tmp_path, path, **how) for path in (asap, geojson, mask)]
    assert found[0] == found[1] == found[2]
    # and the same as pixels of the slide counted one by one
    pixels = np.kron(values, np.ones((10, 10), np.uint8))
    expected = {}
    for col, row in np.ndindex(14, 10):
        tile = pixels[5 + 25 * row : 42 + 25 * row, 25 * col : 25 * col + 37]
        tumour, normal = np.mean(tile == 1), np.mean(np.isin(tile, (0, 2, 3)))
        expected[f"{col}_{row}"] = "tumour" if tumour > 0.2 else "normal" if normal > 0.8 else ""
    assert found[0][0] == expected
    assert set(expected.values()) == {"tumour", "normal", ""}


def test_tiles_lie_where_their_grid_has_them(tmp_path):
    grid = factory.write_grid(tmp_path / "g.h5", columns=3, rows=2, l0_size=40, l0_step=60, l0_corner=(13, 7))
    # exactly the tile 1_1, from 73, 67 to 113, 107
    annotation = factory.write_asap(tmp_path / "a.xml", [("Tumor", rectangle(73, 67, 113, 107))])
    found, shares = label_regions(tmp_path, annotation, grid=grid)
    assert {tile for tile, label in found.items() if label} == {"1_1"}
    assert {tile: one["tumour"] for tile, one in shares.items() if one["tumour"]} == {"1_1": 1}


@pytest.mark.parametrize(
    ("without", "label", "expected"),
    [
        ("normal", "", "normal"),
        ("tumour", "normal", "tumour"),
        ("nolabel", "normal", ""),
        ("label", "carcinoma", "tumour"),
        ("label", "normal", "normal"),
        ("label", "", ""),
        ("label", "unsure", ""),
    ],
)
def test_a_slide_without_an_annotation(tmp_path, without, label, expected):
    found, shares = label_regions(tmp_path, [], label=label, without=without)
    assert list(found.values()) == [expected] * 12
    assert list(shares.values()) == [{name: float(name == expected) for name in ("normal", "tumour")}] * 12


@pytest.mark.parametrize("annotation", [[], "no-such-file.xml"])
def test_a_slide_that_cannot_be_used_has_no_rows_and_its_annotation_is_not_read(tmp_path, annotation):
    grid = factory.write_grid(tmp_path / "g.h5", columns=2, rows=2, l0_size=10, status="unreadable")
    assert label_regions(tmp_path, annotation, grid=grid, size=None) == ({}, {})
    assert (tmp_path / "labels.tsv").read_text() == "tile\timage\tslide\tpatient\tlabel\n"
    assert (tmp_path / "fractions.tsv").read_text() == "tile\tnormal\ttumour\n"


def test_shares_have_a_column_for_each_class_in_the_order_of_the_task(tmp_path):
    label_regions(
        tmp_path,
        factory.write_asap(tmp_path / "a.xml", [("b", rectangle(0, 0, 100, 50)), ("c", rectangle(0, 0, 100, 80))]),
        class_names=["a", "b", "c"],
        names={"b": ["b"], "c": ["c"]},
        rules=[{"class": "c", "above": 0.5}, {"class": "b", "above": 0.1}, {"class": "a", "above": 0.1}],
        outside="a",
    )
    first = store.read_table(tmp_path / "fractions.tsv")[0]
    assert first == {"tile": "0_0", "a": "0.200000", "b": "0.000000", "c": "0.800000"}
    assert store.read_table(tmp_path / "labels.tsv")[0]["label"] == "c"


def log_of(caplog):
    return [record.message for record in caplog.records]


def test_the_log_says_how_many_tiles_have_which_label(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="histotransfer")
    label_regions(tmp_path, drawn_by_hand(tmp_path))
    assert log_of(caplog) == ["case-1: 12 tiles: 0 normal, 6 tumour, 6 without a label"]


def test_a_slide_whose_annotation_leaves_no_labelled_tile_is_named_with_the_reason(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="histotransfer")
    annotation = factory.write_asap(
        tmp_path / "a.xml", [("Tumor", rectangle(0, 0, 15, 100)), ("Normal", rectangle(100, 0, 200, 75))]
    )
    found, _ = label_regions(tmp_path, annotation)
    assert set(found.values()) == {""}
    assert log_of(caplog) == [
        "case-1: none of 12 tiles has a label; the largest shares of a tile: tumour 0.150 of above 0.2, "
        "normal 0.750 of above 0.8"
    ]


def test_an_annotation_that_touches_no_tile_may_be_of_another_slide(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="histotransfer")
    grid = factory.write_grid(tmp_path / "g.h5", columns=4, rows=3, l0_size=100, dropped=[(0, 0)])
    annotation = factory.write_asap(tmp_path / "a.xml", [("Tumor", rectangle(0, 0, 90, 90))])
    found, _ = label_regions(tmp_path, annotation, grid=grid, outside="normal")
    assert set(found.values()) == {"normal"}
    assert log_of(caplog) == [
        f"{annotation}: no region lies on a tile; is it the annotation of case-1?",
        "case-1: 11 tiles: 11 normal, 0 tumour, 0 without a label",
    ]


def test_a_wrong_annotation_leaves_no_tables(tmp_path):
    annotation = factory.write_asap(tmp_path / "a.xml", [("Tumor", rectangle(0, 0, 4000, 3000))])
    with pytest.raises(areas.AnnotationError, match=r"a\.xml: 1 problem\n.*may be of another slide"):
        label_regions(tmp_path, annotation)
    assert not (tmp_path / "labels.tsv").exists()
    assert not (tmp_path / "fractions.tsv").exists()
