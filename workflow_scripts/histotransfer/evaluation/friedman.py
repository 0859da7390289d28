"""Whether strategies differ over datasets: Friedman's test, and the distance of average ranks that Nemenyi's takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from histotransfer import store
from histotransfer.evaluation import ranking
from histotransfer.problems import listing

#: Datasets from which on there is a test: with fewer, the chi-squared distribution is no good approximation, and
#: hardly any difference could be found (Demšar 2006, section 3.2.2: "N > 10 and k > 5", as a rule of thumb).
FEWEST_DATASETS = 10

#: Strategies from which on Friedman's test is one: of two it is a sign test.
FEWEST_STRATEGIES = 3

ALPHA = 0.05


def test(*, strategies_table: str, result: str, tested: Sequence[str], split: str) -> None:
    """Write Friedman's test of the strategies' scores over datasets, or a sentence why there is none.

    Parameters
    ----------
    strategies_table : path
        Table of :func:`histotransfer.evaluation.ranking.tabulate_strategies`, of whose scores ``chosen`` is tested:
        the oracle is a maximum over variants on the test set, and grows with their number.
    result : path
        JSON to write: ``tested``, ``sentence``, ``split``, ``strategies`` and ``datasets``; if tested ``alpha``,
        ``chi2``, ``degrees_of_freedom``, ``p``, ``average_ranks`` by strategy (highest is best), ``q``,
        ``critical_distance``, and ``different``, the pairs whose average ranks are further apart than that, the better
        one first.
    tested : sequence of str
        The strategies that were named beforehand, in the config: chosen by their results, they would differ anyway.
    split : str

    Raises
    ------
    ValueError
        If a strategy is not in the table.

    Notes
    -----
    Friedman (1937) as in Demšar (2006), equations for chi2_F (section 3.2.2), with the correction for ties of
    ``scipy.stats.friedmanchisquare``; critical distance q sqrt(k (k + 1) / (6 N)) of Nemenyi (1963) for k strategies
    and N datasets (same section). Datasets in which a strategy has no score are left out.

    ASSUME a dataset counts once, however many tasks it has: they share their tiles, so their ranks are not
    independent, as the test takes them to be. A dataset's ranks are those of the mean ranks over its tasks; scores
    themselves cannot be averaged, since the metric depends on the number of classes.
    """
    strategies = list(dict.fromkeys(tested))
    found = _ranks_by_dataset(store.read_csv(strategies_table), strategies, strategies_table)
    content: dict[str, Any] = {"split": split, "strategies": strategies, "datasets": list(found)}
    ranks = np.array(list(found.values()), dtype=np.float64).reshape(len(found), len(strategies))
    why_not = _why_not(strategies, found, ranks)
    content |= {"tested": False, "sentence": why_not} if why_not else {"tested": True, **_tested(strategies, ranks)}
    store.write_json(result, content)


def critical_value(k: int) -> float:
    """Return q at :data:`ALPHA` for `k` strategies, the studentized range at infinite degrees of freedom over sqrt(2).

    References
    ----------
    Demšar (2006), table 5 (a).
    """
    from scipy import stats

    return float(stats.studentized_range.ppf(1 - ALPHA, k, np.inf)) / math.sqrt(2)


def critical_distance(k: int, n: int) -> float:
    """Return how far average ranks of two of `k` strategies over `n` datasets must be apart (Nemenyi 1963)."""
    return critical_value(k) * math.sqrt(k * (k + 1) / (6 * n))


def _ranks_by_dataset(rows: Sequence[dict[str, str]], strategies: Sequence[str], path: str) -> dict[str, np.ndarray]:
    """Return the strategies' ranks, highest is best, for each dataset in which all of them have a score."""
    there = list(dict.fromkeys(row["strategy"] for row in rows))
    absent = [name for name in strategies if name not in there]
    if absent:
        raise ValueError(f"{path}: strategies to test are in the table: {listing(there)}; found {listing(absent)}")
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        of_task = scores.setdefault((row["dataset"], row["task"]), {})
        if row["chosen"]:
            of_task[row["strategy"]] = float(row["chosen"])
    of_tasks: dict[str, list[np.ndarray]] = {}
    for (dataset, _), of_task in scores.items():
        if strategies and all(name in of_task for name in strategies):
            of_tasks.setdefault(dataset, []).append(ranking.mean_ranks([of_task[name] for name in strategies]))
    return {dataset: ranking.mean_ranks(np.mean(ranks, axis=0)) for dataset, ranks in of_tasks.items()}


def _why_not(strategies: Sequence[str], found: dict[str, np.ndarray], ranks: np.ndarray) -> str:
    if len(strategies) < FEWEST_STRATEGIES:
        return (
            f"No Friedman test: it compares {FEWEST_STRATEGIES} or more strategies, named beforehand in the config; "
            f"named: {len(strategies)}."
        )
    if len(found) < FEWEST_DATASETS:
        return (
            f"No Friedman test: it is made from {FEWEST_DATASETS} datasets on, and every strategy has a score in "
            f"{len(found)}; tasks of one dataset share their tiles, and count as one."
        )
    if (ranks == ranks[:, :1]).all():
        return "No Friedman test: the strategies have equal ranks in every dataset."
    return ""


def _tested(strategies: Sequence[str], ranks: np.ndarray) -> dict[str, Any]:
    from scipy import stats

    n, k = ranks.shape
    chi2, p = (float(value) for value in stats.friedmanchisquare(*ranks.T))
    average = dict(zip(strategies, (float(value) for value in ranks.mean(axis=0)), strict=True))
    distance = critical_distance(k, n)
    best_first = sorted(strategies, key=lambda name: -average[name])
    different = [
        [better, worse]
        for better, worse in itertools.combinations(best_first, 2)
        if average[better] - average[worse] >= distance
    ]
    return {
        "alpha": ALPHA,
        "chi2": chi2,
        "degrees_of_freedom": k - 1,
        "p": p,
        "average_ranks": average,
        "q": critical_value(k),
        "critical_distance": distance,
        # pairs are compared by the distance only after the test has found that not all are equal
        "different": different if p < ALPHA else [],
        "sentence": _sentence(n, k, chi2, p, distance),
    }


def _sentence(n: int, k: int, chi2: float, p: float, distance: float) -> str:
    found = f"Friedman test of {k} strategies over {n} datasets: chi-squared {chi2:.2f} on {k - 1} degrees of freedom"
    found += f", p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    if p >= ALPHA:
        return f"{found}; that all strategies are equal is not rejected at {ALPHA:.2f}."
    return f"{found}; average ranks at least {distance:.2f} apart differ at {ALPHA:.2f} (Nemenyi)."
