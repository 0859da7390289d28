"""Chance depends on what it is for, and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from histotransfer import seeds

USES = [
    (1, "bootstrap"),
    (2, "bootstrap"),
    (1, "cap"),
    (1, "bootstrap", "a"),
    (1, "bootstrap", "b"),
    (1, "bootstrap", "a", "b"),
    (1, "bootstrap", "b", "a"),
    (1, "bootstrap", "ab"),
    (1, "bootstrapa"),
    (1, "bootstrap", ""),
    (1, "bootstrap", 1),
    (1, "bootstrap", 2**40),
]


@pytest.mark.parametrize("draw", [seeds.integer, seeds.unit_hash, lambda *use: seeds.generator(*use).random()])
def test_every_use_has_its_own_stream_and_always_the_same(draw):
    found = [draw(*use) for use in USES]
    assert len(set(found)) == len(USES)
    assert [draw(*use) for use in reversed(USES)] == found[::-1]


def test_a_stream_does_not_depend_on_what_was_drawn_before():
    first = seeds.generator(1, "bootstrap", "a").random(3)
    seeds.generator(1, "cap").random(1000)
    np.random.default_rng().random(5)
    assert np.array_equal(seeds.generator(1, "bootstrap", "a").random(3), first)


def test_a_number_counts_by_its_text_whatever_its_type():
    assert seeds.integer(1, "fold", 3) == seeds.integer(1, "fold", "3") == seeds.integer(1, "fold", np.int32(3))
    assert seeds.unit_hash(1, "cap", 3) == seeds.unit_hash(1, "cap", "3") == seeds.unit_hash(1, "cap", np.int32(3))


def test_integers_have_31_bits_and_use_all_of_them():
    drawn = [seeds.integer(1, "network", k) for k in range(500)]
    assert 0 <= min(drawn) < 2**25
    assert 2**31 - 2**25 < max(drawn) < 2**31


def test_a_unit_hash_is_a_hash_by_hand():
    digest = hashlib.sha256(b"7\x1fcap\x1fslide-1\x1f4").hexdigest()
    assert seeds.unit_hash(7, "cap", "slide-1", 4) == int(digest[:16], 16) / 2**64


def test_unit_hashes_are_spread_evenly():
    drawn = [seeds.unit_hash(1, "cap", k) for k in range(1000)]
    counts = np.histogram(drawn, bins=10, range=(0, 1))[0]
    # 100 a bin expected, standard deviation 9.5
    assert counts.sum() == 1000
    assert counts.min() > 60
    assert counts.max() < 140


def test_the_streams_are_those_of_earlier_versions():
    """A change here changes every result of every study."""
    assert seeds.integer(2018, "bootstrap", "a", 1) == 1382963207
    assert seeds.generator(2018, "bootstrap").integers(0, 1000, 4).tolist() == [903, 871, 348, 578]
    assert seeds.unit_hash(2018, "cap", "a") == pytest.approx(0.6412601542369047, abs=1e-15)
