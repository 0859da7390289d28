"""Numbers of tumour maps, drawn as letters and worked by hand; forests that never see the fold they predict."""

from __future__ import annotations

import math

import numpy as np
import pytest

from histotransfer import store
from histotransfer.maps import metastases
from histotransfer.predictions import Predictions

#: What a letter of a drawn map stands for; a blank is no tile.
PROBABILITY = {".": 0.1, "a": 0.6, "b": 0.8, "c": 0.95}


def drawn(*lines, step_mm=0.5, unpredicted=0):
    cells = [(col, row, PROBABILITY[x]) for row, line in enumerate(lines) for col, x in enumerate(line) if x != " "]
    col, row, probability = zip(*cells, strict=True)
    return metastases.TumourMap("s", np.array(col), np.array(row), np.array(probability), step_mm, unpredicted)


def numbers(*lines, thresholds=(0.5, 0.7, 0.9), **about):
    return metastases.map_features(drawn(*lines, **about), thresholds)


def at(found, threshold):
    """Return what was found at a threshold, by short names."""
    ending = f"_over_{threshold:g}"
    return {name.removesuffix(ending): value for name, value in found.items() if name.endswith(ending)}


def test_two_regions_at_three_thresholds():
    found = numbers(
        "..........",
        ".abb....c.",
        ".abb......",
        "..........",
    )
    # 6 tiles of 0.25 mm2, and one; the larger is 3 x 2 tiles, its diagonal sqrt(13) tiles of 0.5 mm
    assert at(found, 0.5) == {
        "regions": 2,
        "area_mm2": 7 * 0.25,
        "largest_area_mm2": 6 * 0.25,
        "largest_axis_mm": math.sqrt(13) * 0.5,
        "longest_axis_mm": math.sqrt(13) * 0.5,
        "largest_mean_probability": pytest.approx((2 * 0.6 + 4 * 0.8) / 6),
        "share": 7 / 40,
    }
    assert at(found, 0.7) == {
        "regions": 2,
        "area_mm2": 5 * 0.25,
        "largest_area_mm2": 4 * 0.25,
        "largest_axis_mm": math.sqrt(8) * 0.5,
        "longest_axis_mm": math.sqrt(8) * 0.5,
        "largest_mean_probability": pytest.approx(0.8),
        "share": 5 / 40,
    }
    assert at(found, 0.9) == {
        "regions": 1,
        "area_mm2": 0.25,
        "largest_area_mm2": 0.25,
        "largest_axis_mm": math.sqrt(2) * 0.5,
        "longest_axis_mm": math.sqrt(2) * 0.5,
        "largest_mean_probability": pytest.approx(0.95),
        "share": 1 / 40,
    }
    assert found["max_probability"] == 0.95
    assert found["mean_probability"] == pytest.approx((33 * 0.1 + 2 * 0.6 + 4 * 0.8 + 0.95) / 40)


def test_names_stand_in_the_order_of_the_numbers():
    assert list(numbers(".", thresholds=[0.25, 0.5])) == metastases.feature_names([0.25, 0.5])
    assert len(metastases.feature_names()) == 3 * 7 + 5


def test_a_map_without_tumour_is_all_zeros_but_for_its_probabilities():
    found = numbers("..", "..")
    assert set(at(found, 0.5).values()) == {0.0}
    assert [found[f"quantile_{percent}"] for percent in (50, 90, 99)] == pytest.approx([0.1] * 3)


def test_a_tile_is_tumour_over_the_threshold_and_not_at_it():
    assert at(numbers("a.", thresholds=[0.6]), 0.6)["regions"] == 0
    assert at(numbers("a.", thresholds=[0.59]), 0.59)["regions"] == 1


def test_quantiles_are_interpolated():
    found = numbers("....c")
    # sorted 0.1 0.1 0.1 0.1 0.95: place 3.6 of 0..4 is 0.6 of the way up, place 3.96 is 0.96 of it
    assert found["quantile_50"] == pytest.approx(0.1)
    assert found["quantile_90"] == pytest.approx(0.1 + 0.6 * 0.85)
    assert found["quantile_99"] == pytest.approx(0.1 + 0.96 * 0.85)


def test_corners_join_and_gaps_without_a_tile_part():
    assert at(numbers("c.", ".c"), 0.5)["regions"] == 1
    assert at(numbers("c c"), 0.5)["regions"] == 2
    # a tile is missing where there is no tissue: it is no part of any share either
    assert at(numbers("c c"), 0.5)["share"] == 1.0


def test_the_largest_region_need_not_be_the_longest():
    found = at(numbers("ccc....", "ccc....", "ccc....", ".......", "cccccc."), 0.5)
    assert found["largest_area_mm2"] == 9 * 0.25
    assert found["largest_axis_mm"] == math.sqrt(18) * 0.5
    assert found["longest_axis_mm"] == math.sqrt(37) * 0.5


def test_of_equal_regions_the_first_row_by_row_is_the_largest():
    found = at(numbers("..bb", "....", "c...", "c..."), 0.5)
    assert found["largest_mean_probability"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("lines", "squared"),
    [
        (["c"], 2),
        (["cc"], 5),
        (["c", "c", "c"], 10),
        # along the other diagonal: from the upper right corner of one to the lower left one of the other
        ([".c", "c."], 8),
        # an L: from the upper left corner of the stem to the lower right one of the foot
        (["c..", "c..", "ccc"], 18),
        # a plus: between the tips of opposite arms, 3 long and 1 wide
        ([".c.", "ccc", ".c."], 10),
        # a ring is as long as the square that it bounds
        (["cccc", "c..c", "c..c", "cccc"], 32),
        # a U: the tips of its arms are 5 apart, its corners sqrt(25 + 9)
        (["c...c", "c...c", "ccccc"], 34),
    ],
)
def test_longest_axis_by_hand(lines, squared):
    cells = np.array([(col, row) for row, line in enumerate(lines) for col, x in enumerate(line) if x == "c"])
    assert metastases.longest_axis(cells[:, 0], cells[:, 1]) == math.sqrt(squared)


def test_longest_axis_is_the_largest_distance_of_all_corners():
    random = np.random.default_rng(3)
    for _ in range(30):
        cells = np.unique(random.integers(-8, 9, size=(random.integers(1, 30), 2)), axis=0)
        corners = np.concatenate([cells + corner for corner in [(0, 0), (0, 1), (1, 0), (1, 1)]])
        squared = ((corners[:, None] - corners[None]) ** 2).sum(axis=2).max()
        turned = random.permutation(cells)
        assert metastases.longest_axis(turned[:, 0], turned[:, 1]) == math.sqrt(squared)


def test_place_and_turn_of_a_map_change_nothing():
    lines = ["..a..c", ".bb...", ".bb..c", "......"]
    expected = numbers(*lines)
    for turned in (
        lines[::-1],
        [line[::-1] for line in lines],
        ["".join(column) for column in zip(*lines, strict=True)],
    ):
        assert numbers(*turned) == pytest.approx(expected)
    moved = drawn(*lines)
    moved = metastases.TumourMap("s", moved.col + 700, moved.row + 40, moved.probability, moved.step_mm)
    assert metastases.map_features(moved) == expected


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.5, 0.50000001], [0.0], [1.0], [0.5, 1.2]])
def test_thresholds_must_lie_between_0_and_1(thresholds):
    with pytest.raises(ValueError, match=r"between 0 and 1, each once; found \["):
        numbers("c", thresholds=thresholds)


def write_grid(folder, slide, kept, *, dropped=(), l0_step=200, mpp=0.5, l0_size=200):
    """Write a grid of cells (col, row); return its path."""
    path = str(folder / f"{slide}.h5")
    cells = np.array([*kept, *dropped], dtype=np.int64).reshape(-1, 2)
    said = {"slide": slide, "image_in_sheet": slide, "status_names": ["kept", "background"], "status": "ok"}
    said |= {"reason": "", "l0_size": l0_size, "l0_step": l0_step, "mpp": mpp}
    with store.writing_hdf5(path, said) as file:
        for name, values in {"col": cells[:, 0], "row": cells[:, 1]}.items():
            file[name], file[f"l0_{'x' if name == 'col' else 'y'}"] = values.astype(np.int32), values * l0_step
        file["status"] = np.array([0] * len(kept) + [1] * len(dropped), dtype=np.uint8)
    return path


def predicted(*tiles):
    """Return predictions of (image, tile, probability of tumour)."""
    image, tile, p = zip(*tiles, strict=True)
    probability = np.stack([1 - np.array(p), np.array(p)], axis=1)
    true = np.full(len(p), -1, dtype=np.int16)
    return Predictions(
        tile=tile, image=image, slide=image, group=image, true=true, score=probability, probability=probability
    )


def test_predictions_are_put_on_their_grids(tmp_path):
    grids = [
        write_grid(tmp_path, "s1", [(7, 3), (8, 3), (7, 4)], dropped=[(0, 0)], l0_step=150),
        write_grid(tmp_path, "s2", [(0, 0)]),
    ]
    held_out = predicted(("s2", "0_0", 0.3), ("s1", "7_4", 0.25), ("other", "1_1", 0.5), ("s1", "7_3", 0.75))
    maps = metastases.tumour_maps(held_out, grids, ["s1", "s2", "s3"])
    assert list(maps) == ["s1", "s2"]
    one = maps["s1"]
    assert (one.col.tolist(), one.row.tolist()) == ([7, 7], [4, 3])
    assert one.probability.tolist() == [0.25, 0.75]
    # cells lie 150 px of 0.5 um apart, tiles of 200 px overlap; one kept tile has no prediction
    assert one.step_mm == pytest.approx(0.075)
    assert one.unpredicted == 1
    assert maps["s2"].unpredicted == 0


@pytest.mark.parametrize(
    ("tiles", "match"),
    [
        ([("s1", "0_0", 0.3)], r"image 's1': predicted tiles must be kept tiles of .*s1.h5, each once; found '0_0'"),
        ([("s1", "7_3", 0.3), ("s1", "7_3", 0.4)], "found '7_3' twice"),
        ([("s9", "7_3", 0.3)], "image 's9' has predictions, so a grid of its tiles must be given; found none"),
    ],
)
def test_predictions_of_other_tiles_are_refused(tmp_path, tiles, match):
    grids = [write_grid(tmp_path, "s1", [(7, 3)], dropped=[(0, 0)])]
    with pytest.raises(ValueError, match=match):
        metastases.tumour_maps(predicted(*tiles), grids, ["s1", "s9"])


def forest(features, label, fold, **more):
    features = np.array(features, dtype=float).reshape(len(label), -1)
    settings = {"trees": 20, "balanced": True, "seed_of": lambda fold: 5 + fold, **more}
    return metastases.classify_out_of_fold(features, np.array(label), np.array(fold), **settings).tolist()


def test_each_fold_is_predicted_by_the_others():
    # sizes of 0, 1 and 9 are the classes 0, 1 and 3 in both folds
    assert forest([0, 0, 1, 9, 0, 1, 9, 9], [0, 0, 1, 3, 0, 1, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1]) == [
        0,
        0,
        1,
        3,
        0,
        1,
        3,
        3,
    ]
    # in fold 1 size 9 is called micro: fold 0 learns that, and the other way round
    assert forest([0, 0, 9, 9, 0, 0, 9, 9], [0, 0, 3, 3, 0, 0, 2, 2], [0, 0, 0, 0, 1, 1, 1, 1]) == [
        0,
        0,
        2,
        2,
        0,
        0,
        3,
        3,
    ]


def test_a_class_of_one_fold_is_never_predicted_there():
    assert 1 not in forest([0, 0, 5, 9, 0, 0, 9, 9], [0, 0, 1, 3, 0, 0, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1])[:4]


def test_threads_change_nothing():
    random = np.random.default_rng(0)
    features, label = random.random((60, 5)), random.integers(0, 4, 60)
    assert forest(features, label, np.arange(60) % 5) == forest(features, label, np.arange(60) % 5, threads=2)


@pytest.mark.parametrize(
    ("label", "fold", "found"),
    [([0, 3], [0, 0], "1 fold and the classes negative, macro"), ([2, 2], [0, 1], "2 folds and the classes micro")],
)
def test_one_fold_or_one_class_is_refused(label, fold, found):
    with pytest.raises(ValueError, match=f"two folds or more.*two classes or more; found {found}"):
        forest([[0], [1]], label, fold)


def test_unknown_classes_are_refused():
    metastases.check_classes({"s1": "itc", "s2": ""})
    with pytest.raises(
        ValueError, match=r"one of negative, itc, micro, macro, or empty; .*the first is 's2'; found \"ITC\""
    ):
        metastases.check_classes({"s1": "itc", "s2": "ITC"})
