"""Friedman's test and the Nemenyi distance, against what Demšar (2006) printed."""

from __future__ import annotations

import pytest

from histotransfer import store
from histotransfer.evaluation import friedman, ranking


def run(folder, scores, *, tested=None):
    """Test the scores {(dataset, task): {strategy: chosen or None}}; return what was written."""
    rows = [
        # the oracle would say something else
        {"strategy": name, "dataset": dataset, "task": task, "chosen": value, "oracle": 1.0}
        for (dataset, task), of in scores.items()
        for name, value in of.items()
    ]
    table, result = folder / "strategies.csv", folder / "friedman.json"
    store.write_csv(table, ranking.STRATEGY_COLUMNS, rows)
    tested = list(next(iter(scores.values()))) if tested is None else tested
    friedman.test(strategies_table=str(table), result=str(result), tested=tested, split="s")
    return store.read_json(result)


def test_critical_values_are_those_in_print():
    # Demšar (2006), table 5 (a), made from a table of the studentized range with two or three decimals
    printed = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    assert [friedman.critical_value(k) for k in range(2, 11)] == pytest.approx(printed, abs=0.0011)


#: Ranks (1 is best) of C4.5 with two parameters tuned or not on 14 datasets: Demšar (2006), table 6.
RANKS_IN_PRINT = [
    *((4, 3, 2, 1), (1, 2, 3, 4), (4, 1, 2, 3), (4, 1, 3, 2), (4, 2, 3, 1), (1, 2.5, 4, 2.5), (3, 2, 4, 1)),
    *((2.5, 2.5, 4, 1), (4, 3, 2, 1), (2.5, 2.5, 2.5, 2.5), (4, 2.5, 1, 2.5), (3, 2, 4, 1), (4, 1, 2, 3), (3, 1, 4, 2)),
]
NAMES = ("c4.5", "c4.5+m", "c4.5+cf", "c4.5+m+cf")


def test_the_example_in_print(tmp_path):
    scores = {
        (f"d{k}", "t"): {n: 1 - r / 10 for n, r in zip(NAMES, of, strict=True)} for k, of in enumerate(RANKS_IN_PRINT)
    }
    found = run(tmp_path, scores)
    assert found["tested"] is True
    # his ranks are 1 for the best, ours for the worst of four
    average = {name: round(5 - rank, 3) for name, rank in found["average_ranks"].items()}
    assert average == {"c4.5": 3.143, "c4.5+m": 2.0, "c4.5+cf": 2.893, "c4.5+m+cf": 1.964}
    # 9.28 in print, without the correction for ties: three pairs and one set of four
    ties = (3 * (2**3 - 2) + (4**3 - 4)) / (14 * 4 * (4**2 - 1))
    assert found["chi2"] == pytest.approx(9.28 / (1 - ties), abs=0.01)
    assert found["degrees_of_freedom"] == 3
    assert found["p"] == pytest.approx(0.0167, abs=0.0005)
    assert found["critical_distance"] == pytest.approx(1.25, abs=0.005)
    # as he finds: none of the pairs differs, the largest distance is 1.18
    assert found["different"] == []
    assert found["sentence"].startswith(
        "Friedman test of 4 strategies over 14 datasets: chi-squared 10.23 on 3 degrees"
    )
    assert found["datasets"] == [f"d{k}" for k in range(14)]


def ordered(n, *names):
    return {(f"d{k:02d}", "t"): {name: 0.9 - 0.1 * place for place, name in enumerate(names)} for k in range(n)}


def test_pairs_that_differ(tmp_path):
    # always in this order: chi-squared is N (k - 1) = 20, and the distance q sqrt(2 / 10) = 1.05
    found = run(tmp_path, ordered(10, "a", "b", "c"))
    assert found["chi2"] == pytest.approx(20)
    assert found["average_ranks"] == {"a": 3.0, "b": 2.0, "c": 1.0}
    assert found["critical_distance"] == pytest.approx(2.3437 * 0.2**0.5, abs=1e-4)
    assert found["different"] == [["a", "c"]]
    said = "p < 0.001; average ranks at least 1.05 apart differ at 0.05 (Nemenyi)."
    assert found["sentence"].endswith(said)


def test_no_difference_is_told(tmp_path):
    scores = ordered(10, "a", "b", "c")
    for k, of in enumerate(scores.values()):
        of |= {"abc"[(k + shift) % 3]: 0.1 * shift for shift in range(3)}
    found = run(tmp_path, scores)
    assert found["tested"] is True
    assert found["different"] == []
    assert found["sentence"].endswith("that all strategies are equal is not rejected at 0.05.")


def test_pairs_are_not_told_apart_unless_the_test_rejects(tmp_path):
    # average ranks 2.5, 2.05, 1.45: a and c are 1.05 apart, just more than the distance, and p is above 0.05
    orders = [(3, 2, 1)] * 3 + [(2, 3, 1)] * 3 + [(3, 1, 2)] * 2 + [(1, 2, 3), (3, 1.5, 1.5)]
    found = run(tmp_path, {(f"d{k}", "t"): dict(zip("abc", order, strict=True)) for k, order in enumerate(orders)})
    assert found["average_ranks"] == pytest.approx({"a": 2.5, "b": 2.05, "c": 1.45})
    assert found["critical_distance"] < 1.05
    # without ties 10 times the sum of 0.5, 0.05 and 0.55 squared; one pair of ties
    assert found["chi2"] == pytest.approx(5.55 / (1 - 6 / (10 * 3 * 8)))
    assert found["p"] > 0.05
    assert found["different"] == []


def test_datasets_count_and_not_their_tasks(tmp_path):
    nine = ordered(9, "a", "b", "c")
    found = run(tmp_path, {**nine, **{(dataset, "u"): of for (dataset, _), of in nine.items()}})
    assert found == {
        "split": "s",
        "strategies": ["a", "b", "c"],
        "datasets": [f"d{k:02d}" for k in range(9)],
        "tested": False,
        "sentence": "No Friedman test: it is made from 10 datasets on, and every strategy has a score in 9; tasks of "
        "one dataset share their tiles, and count as one.",
    }
    # d00 has three tasks: the mean ranks are a 7/3, b 2, c 5/3
    ten = ordered(10, "a", "b", "c")
    more = {("d00", "u"): {"a": 0.5, "b": 0.6, "c": 0.55}, ("d00", "v"): {"a": 0.9, "b": 0.1, "c": 0.5}}
    assert run(tmp_path, {**ten, **more})["average_ranks"] == {"a": 3.0, "b": 2.0, "c": 1.0}


def test_datasets_without_a_score_are_left_out(tmp_path):
    scores = ordered(11, "a", "b", "c")
    scores["d03", "t"]["b"] = None
    found = run(tmp_path, scores)
    assert (found["tested"], len(found["datasets"]), "d03" in found["datasets"]) == (True, 10, False)
    scores["d04", "t"]["c"] = None
    assert "every strategy has a score in 9" in run(tmp_path, scores)["sentence"]
    # a strategy that is not tested is no reason to leave a dataset out
    scores = {key: {**of, "d": None} for key, of in ordered(10, "a", "b", "c").items()}
    assert run(tmp_path, scores, tested=["a", "b", "c"])["tested"] is True


def test_strategies_that_cannot_be_tested(tmp_path):
    two = run(tmp_path, ordered(12, "a", "b"))
    assert two["sentence"] == (
        "No Friedman test: it compares 3 or more strategies, named beforehand in the config; named: 2."
    )
    assert run(tmp_path, ordered(12, "a", "b", "c"), tested=[])["sentence"].endswith("named: 0.")
    equal = {(f"d{k}", "t"): dict.fromkeys("abc", 0.5) for k in range(10)}
    assert run(tmp_path, equal)["sentence"] == "No Friedman test: the strategies have equal ranks in every dataset."
    with pytest.raises(ValueError, match=r"strategies\.csv: strategies to test are in the table: a, b, c; found e"):
        run(tmp_path, ordered(10, "a", "b", "c"), tested=["a", "b", "e"])
