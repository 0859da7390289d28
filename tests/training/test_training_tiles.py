"""Which tiles a network is trained on: all, or as many of each class as the rarest has."""

from __future__ import annotations

import cohort_factory
import numpy as np
import pytest

from histotransfer.tables import tile_table
from histotransfer.training import tiles

NO_CAPS = {"tiles": None, "tiles_per_class": None}
CLASSES = ["fibrous", "glandular", "lymphoid"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """18 patients of 8 tiles; lymphoid tiles are mostly without a label."""
    cohort = cohort_factory.separable(tmp_path_factory.mktemp("cohort"), n_features=3)
    for tile in cohort.tiles:
        if tile.label == "lymphoid" and int(tile.tile[0]) > 2:
            tile.label = ""
    inputs = cohort.write()
    path, split = cohort_factory.split_by_patient(cohort.folder, inputs["slides_table"], validation=0.2)
    return tile_table.read(
        features=inputs["features"],
        tables=cohort_factory.tables_of(inputs, path),
        split=split,
        feature_set=cohort_factory.FEATURES,
        classes=CLASSES,
        master_seed=1,
    )


def rows_of(table, *, seed=1, sampling="all", **caps):
    drawn = tile_table.draw(table, **{**NO_CAPS, **caps}, split_seed=seed, master_seed=1)
    return tiles.rows_of_sets(table, drawn, seed=seed, master_seed=1, sampling=sampling)


def counts(table, rows):
    return np.bincount(table.label[rows], minlength=3).tolist()


def test_balanced_takes_of_each_class_as_many_training_tiles_as_the_rarest_has(table):
    everything, balanced = rows_of(table), rows_of(table, sampling="balanced")
    many, other, rarest = counts(table, everything["train"])
    assert many > rarest
    assert other > rarest
    assert counts(table, balanced["train"]) == [rarest] * 3
    assert set(balanced["train"]) <= set(everything["train"])
    assert (np.diff(balanced["train"]) > 0).all()
    # of the rarest every one
    rare = everything["train"][table.label[everything["train"]] == 2]
    assert set(rare) <= set(balanced["train"])
    # an epoch is chosen, and a method scored, on tiles as they are
    for name in ("validation", "test"):
        assert np.array_equal(balanced[name], everything[name])


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_order(table):
    from dataclasses import replace

    drawn = rows_of(table, sampling="balanced")["train"]
    assert np.array_equal(rows_of(table, sampling="balanced")["train"], drawn)
    assert not np.array_equal(rows_of(table, seed=2, sampling="balanced")["train"], drawn)
    turned = replace(table, **{name: getattr(table, name)[::-1] for name in ("tile", "image", "label", "set")})
    names = {(table.image[k], table.tile[k]) for k in drawn}
    again = rows_of(turned, sampling="balanced")["train"]
    assert {(turned.image[k], turned.tile[k]) for k in again} == names


def test_a_cap_comes_before_the_balance(table):
    capped = rows_of(table, tiles_per_class=5)["train"]
    balanced = rows_of(table, tiles_per_class=5, sampling="balanced")["train"]
    assert set(balanced) <= set(capped)
    assert counts(table, balanced) == [min(counts(table, capped))] * 3


def test_a_class_that_is_missing_leaves_the_others_to_be_named(table):
    from dataclasses import replace

    bare = replace(table, label=np.where(table.label == 2, -1, table.label))
    found = counts(bare, rows_of(bare, sampling="balanced")["train"])
    assert found[0] == found[1] > 0
    assert found[2] == 0


def test_another_sampling_is_refused(table):
    with pytest.raises(ValueError, match="sampling must be one of all, balanced; found 'even'"):
        rows_of(table, sampling="even")
