"""Images of a large table, known by hashes."""

import numpy as np

from histotransfer.sheets import hashes


def test_first_rows_are_found_across_blocks():
    rng = np.random.default_rng(0)
    images = [f"i{k}" for k in rng.integers(0, 300, 1000)]
    given = [f"l{k}" for k in rng.integers(0, 2, 1000)]
    first_label = {}
    expected = [(image not in first_label, first_label.setdefault(image, label) == label)
                for image, label in zip(images, given, strict=True)]  # fmt: skip
    rows, found = hashes.FirstRows(), []
    for start in range(0, 1000, 70):
        is_first, same = rows.find(images[start : start + 70], given[start : start + 70])
        found += zip(is_first.tolist(), same.tolist(), strict=True)
    assert found == expected
