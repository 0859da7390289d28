"""Patterns of paths: no two mean the same file, and each is filled by the factors of what lies there."""

from __future__ import annotations

import itertools
import re

import pytest

from histotransfer.definitions import Draw, Factors
from histotransfer.study import paths

PATTERNS = {name: pattern for name, pattern in vars(paths).items() if name.isupper()}

RUN = {"dataset": "d", "task": "t", "split": "s", "seed": 1, "features": "f", "classifier": "c"}


def test_every_pattern_lies_among_the_results():
    assert all(pattern.startswith("results/") for pattern in PATTERNS.values())


def test_no_two_names_are_of_one_pattern():
    assert len(set(PATTERNS.values())) == len(PATTERNS)


def test_wildcards_are_those_that_rules_constrain():
    names = {name for pattern in PATTERNS.values() for name in re.findall(r"\{(.*?)\}", pattern)}
    assert names == {
        *("dataset", "slide", "px", "cell_px", "shard", "network", "task", "split", "seed", "features", "classifier"),
        *("study", "comparison", "class_number", "architecture"),
    }


@pytest.mark.parametrize(
    ("pattern", "factors", "path"),
    [
        (paths.GRID, {"dataset": "d", "slide": "a"}, "results/d/tiles/a.h5"),
        (paths.PIXELS, {"dataset": "d", "slide": "a", "px": 224}, "results/d/pixels/224/a.h5"),
        (paths.PREDICTIONS, RUN, "results/d/models/t/s/1/f/c/predictions.h5"),
        (paths.KAPPA, RUN, "results/d/models/t/s/1/f/c/staging/kappa.json"),
        (paths.METHOD_COSTS, {"study": "x", "split": "s"}, "results/studies/x/costs/s/method_costs"),
        (paths.MAPS_FIGURE, {**RUN, "study": "x"}, "results/studies/x/maps/s/d/t/1.svg"),
    ],
)
def test_a_pattern_is_filled(pattern, factors, path):
    assert pattern.format(**factors) == path


def test_a_trained_network_is_the_run_of_its_own_output():
    of_run = paths.RUN.format(**{**RUN, "classifier": "softmax"})
    assert paths.TRAINING.format(**RUN, network="f") == of_run


def test_what_differs_in_a_factor_lies_elsewhere():
    """Each factor is a part of the path of its own."""
    runs = [
        Factors(dataset, task, split, Draw(seed), features, classifier)
        for dataset, task, split, features, classifier in itertools.product("xy", repeat=5)
        for seed in (1, 2)
    ]
    assert len(set(paths.filled(paths.RUN, runs))) == len(runs) == 64


def test_a_pattern_is_filled_for_several_in_their_order():
    factors = [Factors(dataset, "t", "s", Draw(1)) for dataset in ("b", "a")]
    assert paths.filled(paths.LABELS, factors) == ["results/b/labels/t.tsv", "results/a/labels/t.tsv"]
    assert paths.filled(paths.LABELS, []) == []
