from __future__ import annotations

import map_factory
import numpy as np
import pytest

from histotransfer import store
from histotransfer.maps import tumour_points
from histotransfer.maps.tumour_points import Points


def count(true: list[str], predicted: list[str], **changes) -> Points:
    return tumour_points.count(map_factory.part({"s": true}, {"s": map_factory.signs(predicted)}), **changes)


class TestRegions:
    def test_cells_that_touch_by_a_corner_are_one_region(self):
        cells = np.array([[0, 0], [1, 1], [2, 0], [4, 0], [4, 2]])
        assert tumour_points.regions(cells, np.ones(5, bool)).tolist() == [1, 1, 1, 2, 3]

    def test_what_is_not_chosen_parts_regions_and_has_no_number(self):
        cells = np.array([[0, 0], [1, 0], [2, 0]])
        assert tumour_points.regions(cells, np.array([True, False, True])).tolist() == [1, 0, 2]

    def test_no_cell_no_region(self):
        assert tumour_points.regions(np.empty((0, 2), np.int64), np.empty(0, bool)).tolist() == []

    def test_the_grid_begins_anywhere(self):
        cells = np.array([[100, 7], [101, 8]])
        assert tumour_points.regions(cells, np.ones(2, bool)).tolist() == [1, 1]


class TestCount:
    def test_by_hand(self):
        true = [
            "tt nnnnn",
            "tn nnnnn",
            "nn nnnn.",
            "nn nnn..",
        ]
        predicted = [
            "+- +----",
            "-+ -+---",
            "-- ----+",
            "+- ---+-",
        ]
        # 1_1 touches 0_0, which is tumour: wrong, but no point. 3_0 and 4_1 are one point of two tiles, 0_3 is one of
        # one tile. 7_2 and 6_3 have no label: they do not count as false. Missed: 1_0 and 0_1.
        assert count(true, predicted) == Points(
            slides=1,
            tiles=25,
            positive_tiles=3,
            false_tiles=4,
            isolated_tiles=3,
            isolated_regions=2,
            missed_tiles=2,
        )

    def test_tiles_without_label_join_a_region_to_the_tumour(self):
        joined = count(["t..n"], ["++++"])
        assert (joined.false_tiles, joined.isolated_tiles, joined.isolated_regions) == (1, 0, 0)
        apart = count(["t..n"], ["+-++"])
        assert (apart.false_tiles, apart.isolated_tiles, apart.isolated_regions) == (1, 1, 1)

    def test_a_tumour_tile_that_is_missed_joins_nothing(self):
        found = count(["ntn"], ["+-+"])
        assert (found.isolated_tiles, found.isolated_regions, found.missed_tiles) == (2, 2, 1)

    def test_even_odds_are_not_positive(self):
        assert count(["nn"], ["56"]).false_tiles == 1

    def test_slides_do_not_touch_each_other(self):
        true = {"a": ["t"], "b": [" n"], "c": ["."]}
        probability = {slide: map_factory.signs(rows) for slide, rows in {"a": ["+"], "b": [" +"], "c": ["+"]}.items()}
        part = map_factory.part(true, probability)
        both = tumour_points.count(part)
        assert (both.slides, both.tiles, both.isolated_tiles) == (2, 2, 1)
        assert tumour_points.count(part, ["a"]) == Points(1, 1, 1, 0, 0, 0, 0)

    def test_a_tile_that_is_on_no_grid_is_named(self):
        part = map_factory.part({"s": ["n"]}, {"s": {"0_0": 0.9}})
        part.tile[0] = "17"
        with pytest.raises(ValueError, match=r"must be called COL_ROW; found '17'"):
            tumour_points.count(part)


def test_table_of_methods_and_seeds(tmp_path):
    true = {"s": ["tn n"]}
    runs = []
    for number, (predicted, about) in enumerate(
        (
            ("++ +", {"features": "extractor", "classifier": "softmax", "untrained": True}),
            ("+- -", {"seed": 2}),
            ("++ +", {"split": "at-random"}),
            ("-+ +", {"split": "by-tile", "group_unit": "tile", "unit": "tile"}),
        )
    ):
        part = map_factory.part(true, {"s": map_factory.signs([predicted])})
        runs.append(map_factory.write_run(tmp_path / f"{number}.h5", part, **about))
    three = map_factory.part(true, {"s": {"0_0": (0.1, 0.2, 0.7)}}, ("normal", "tumour", "necrosis"))
    runs.append(map_factory.write_run(tmp_path / "three.h5", three, classes=["normal", "tumour", "necrosis"]))
    tumour_points.tabulate(predictions=runs, table=str(tmp_path / "p.csv"), split="by-patient")
    rows = store.read_csv(tmp_path / "p.csv")
    assert [tuple(row.values()) for row in rows] == [
        ("biopsies", "tumour", "1", "extractor+softmax", "yes", "tumour", *"1312110", ""),
        ("biopsies", "tumour", "2", "vectors+unet", "no", "tumour", *"1310000", ""),
    ]
    tumour_points.tabulate(predictions=runs, table=str(tmp_path / "t.csv"), split="by-tile")
    [row] = store.read_csv(tmp_path / "t.csv")
    assert row["note"] == "tiles are held out one by one: regions of a slide's test tiles have gaps"
    assert (row["isolated_tiles"], row["isolated_regions"], row["missed_tiles"]) == ("2", "2", "1")
