"""Intervals from resampling whole groups with replacement: the percentile bootstrap.

References
----------
Efron B, Tibshirani RJ (1993). An Introduction to the Bootstrap, chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Percentiles of the resampled values that bound the interval.
INTERVAL = (2.5, 97.5)

#: Resamples in which a value is undefined are left out; from this share of them on the note says so,
NOTED = 0.05
#: and from this one on there is no interval. ASSUME what is left then is no picture of the spread: with one group
#: a class, it would be the same sample again and again, and the interval would have no width.
TOO_MANY = 0.5

#: Numbers in an array of resampled weights: 8 MB, so that a chunk of resamples stays near the cores.
_CHUNK = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A 95 % interval: its ends, None where there is none; `note` says why, or which resamples are left out."""

    low: float | None = None
    high: float | None = None
    note: str = ""


def resampled(
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    n_groups: int,
    bootstrap: int,
    random: np.random.Generator,
    n_rows: int = 0,
) -> np.ndarray:
    """Return a statistic of resamples of groups, drawn with replacement.

    Parameters
    ----------
    statistic : callable
        Takes how often each group counts, float64 of shape (n_groups, r), and returns values of shape (..., r).
    n_groups : int
        As many are drawn in each resample.
    bootstrap : int
        Resamples, 1 or more.
    random : Generator
    n_rows : int
        Rows of the largest array that `statistic` makes: resamples are drawn in chunks that keep it small. Changes the
        memory, not the result.

    Returns
    -------
    ndarray, shape (..., bootstrap)
    """
    at_once = max(1, min(bootstrap, _CHUNK // max(n_groups, n_rows)))
    parts = []
    for start in range(0, bootstrap, at_once):
        size = min(at_once, bootstrap - start)
        drawn = random.integers(0, n_groups, size=(size, n_groups))
        drawn += np.arange(size)[:, None] * n_groups
        times = np.bincount(drawn.ravel(), minlength=size * n_groups).reshape(size, n_groups).T.astype(np.float64)
        parts.append(statistic(times))
    return np.concatenate(parts, axis=-1)


def percentile_interval(
    values: np.ndarray | None,
    *,
    n_groups: int,
    unit: str,
    bootstrap: int,
    lacking: str = "a class that it takes",
) -> Interval:
    """Return the interval of a value from those that resampled groups gave.

    Parameters
    ----------
    values : ndarray of float64, shape (bootstrap,), or None
        NaN where a resample leaves the value undefined; None if nothing was resampled.
    n_groups : int
        Groups that were resampled, each a `unit`.
    unit : str
    bootstrap : int
        Resamples that were asked for.
    lacking : str
        What a resample lacks in which the value is undefined, for the note.
    """
    if n_groups < 2:
        return Interval(note=f"no interval: it takes two {unit}s to resample")
    if values is None:
        return Interval()
    defined = values[~np.isnan(values)]
    left_out = f"{bootstrap - len(defined)} of {bootstrap} resamples lack {lacking}"
    if len(defined) <= (1 - TOO_MANY) * bootstrap:
        return Interval(note=f"no interval: {left_out}")
    low, high = np.percentile(defined, INTERVAL)
    note = f"interval without the resamples in which it is undefined: {left_out}"
    return Interval(float(low), float(high), note if len(defined) < (1 - NOTED) * bootstrap else "")
