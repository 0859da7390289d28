from __future__ import annotations

import pytest
from score_factory import factors

from histotransfer import store
from histotransfer.evaluation.scores import FACTOR_COLUMNS, SCORE_COLUMNS
from histotransfer.maps import map_tables, tumour_points
from histotransfer.segmentation import feature_maps, movement

METHODS = ["extractor+softmax", "vectors+unet"]


def score_row(method: str, seed: int, metric: str, value: float | None, **changes) -> dict:
    features, _, classifier = method.partition("+")
    row = {"dataset": "biopsies", "task": "tumour", "split": "by-patient", "seed": seed, "share_groups": ""}
    row |= {"features": features, "classifier": classifier, "weights": "trained", "level": "tile", "metric": metric}
    return row | {"class": "", "value": value, "n": 40, "groups": 4, "unit": "patient", "note": ""} | changes


def point_row(method: str, seed: int, isolated: int, regions: int, **changes) -> dict:
    row = dict.fromkeys(tumour_points.COLUMNS, 0) | {"dataset": "biopsies", "task": "tumour", "seed": seed}
    row |= {"method": method, "untrained": "no", "positive": "tumour", "isolated_tiles": isolated, "note": ""}
    return row | {"isolated_regions": regions} | changes


@pytest.fixture
def tabulate(tmp_path):
    def made(scores, points, **changes):
        store.write_table(tmp_path / "s.tsv", (*FACTOR_COLUMNS, *SCORE_COLUMNS), scores)
        store.write_csv(tmp_path / "p.csv", tumour_points.COLUMNS, points)
        asked = {"methods": METHODS, "datasets": ["biopsies"], "split": "by-patient", **changes}
        files = {"scores": str(tmp_path / "s.tsv"), "points": str(tmp_path / "p.csv"), "table": str(tmp_path / "m.csv")}
        map_tables.tabulate_methods(**files, **asked)
        return store.read_csv(tmp_path / "m.csv")

    return made


class TestMethods:
    def test_mean_and_standard_deviation_of_a_sample(self, tabulate):
        scores = [score_row("vectors+unet", k, "accuracy", one) for k, one in enumerate((0.9, 0.8, 1.0), 1)]
        scores += [score_row("vectors+unet", k, "pr_auc", one) for k, one in enumerate((0.5, 0.5, 0.8), 1)]
        scores.append(score_row("extractor+softmax", 1, "accuracy", 0.75))
        points = [point_row("vectors+unet", k, *one) for k, one in enumerate(((1, 1), (3, 2), (8, 3)), 1)]
        points.append(point_row("extractor+softmax", 1, 20, 11))
        alone, three = tabulate(scores, points)
        assert (alone["method"], three["method"]) == tuple(METHODS)
        numbers = {name: float(three[name]) for name in three if name.startswith(("acc", "pr", "iso"))}
        # of 0.9, 0.8, 1.0: squares 0 + 0.01 + 0.01 over 2; of 0.5, 0.5, 0.8: 0.01 + 0.01 + 0.04 over 2;
        # of 1, 3, 8: 9 + 1 + 16 over 2
        expected = {"accuracy": 0.9, "accuracy_sd": 0.1, "pr_auc": 0.6, "pr_auc_sd": 0.03**0.5}
        expected |= {"isolated_tiles": 4, "isolated_tiles_sd": 13**0.5, "isolated_regions": 2}
        assert numbers == pytest.approx(expected)
        assert (three["seeds"], three["tiles"], three["positive"], three["note"]) == ("3", "40", "tumour", "")
        # one seed has no spread
        assert (alone["accuracy"], alone["accuracy_sd"], alone["isolated_tiles_sd"]) == ("0.75", "", "")
        assert (alone["pr_auc"], alone["note"]) == ("", "PR AUC of 0 of 1 seeds: not scored")

    def test_who_is_scored_on_fewer_tiles_is_said(self, tabulate):
        scores = [score_row(method, seed, "accuracy", 0.9) for method in METHODS for seed in (1, 2)]
        scores[3]["n"] = 37
        points = [point_row(method, seed, 0, 0) for method in METHODS for seed in (1, 2)]
        most, fewer = tabulate([*scores, *(row | {"metric": "pr_auc"} for row in scores)], points)
        assert (most["tiles"], most["note"]) == ("40", "")
        assert fewer["tiles"] == "40, 37"
        assert fewer["note"] == "scored on 37 of the 40 tiles that others are scored on, seed 2"

    def test_an_undefined_value_says_why(self, tabulate):
        why = "undefined: absent from the test groups: tumour"
        scores = [score_row("vectors+unet", seed, "accuracy", 0.9) for seed in (1, 2)]
        scores += [score_row("vectors+unet", 1, "pr_auc", None, note=why), score_row("vectors+unet", 2, "pr_auc", 0.6)]
        [row] = tabulate(scores, [point_row("vectors+unet", seed, 0, 0) for seed in (1, 2)])
        assert (row["pr_auc"], row["pr_auc_sd"]) == ("0.6", "")
        assert row["note"] == f"PR AUC of 1 of 2 seeds: {why}"

    def test_untrained_weights_and_gaps_are_said(self, tabulate):
        scores = [score_row("vectors+unet", 1, metric, 0.9, weights="untrained") for metric in ("accuracy", "pr_auc")]
        [row] = tabulate(scores, [point_row("vectors+unet", 1, 0, 0, note="regions have gaps")])
        assert (row["untrained"], row["note"]) == ("yes", "regions have gaps")

    def test_other_datasets_and_splits_are_left_out(self, tabulate):
        scores = [score_row("vectors+unet", 1, metric, 0.9) for metric in ("accuracy", "pr_auc")]
        scores += [row | {"dataset": "nuclei"} for row in scores] + [row | {"split": "at-random"} for row in scores]
        assert len(tabulate(scores, [point_row("vectors+unet", 1, 0, 0)])) == 1
        rows = tabulate(scores, [], datasets=["nuclei", "biopsies"])
        assert [row["dataset"] for row in rows] == ["nuclei", "biopsies"]

    def test_more_classes_have_no_isolated_tiles(self, tabulate):
        scores = [score_row("vectors+unet", 1, metric, 0.9) for metric in ("accuracy", "pr_auc")]
        scores += [score_row("vectors+unet", 1, "f1", 0.9, **{"class": name}) for name in "abc"]
        [row] = tabulate(scores, [])
        assert (row["isolated_tiles"], row["positive"]) == ("", "")
        assert row["note"] == "PR AUC is the mean over classes; isolated tiles are counted of two classes alone"

    def test_a_table_that_lacks_a_column(self, tmp_path):
        store.write_csv(tmp_path / "p.csv", ("dataset", "task", "seed"), [{"dataset": "d"}])
        files = {"scores": str(tmp_path / "s.tsv"), "points": str(tmp_path / "p.csv"), "table": str(tmp_path / "m.csv")}
        said = r"p\.csv: column method, untrained, .* is missing; found dataset, task, seed"
        with pytest.raises(ValueError, match=said):
            map_tables.tabulate_methods(**files, methods=METHODS, datasets=["d"], split="s")


def test_columns_are_those_that_the_stages_write():
    assert map_tables.CANVAS_COLUMNS == feature_maps.COLUMNS
    assert map_tables.MOVED_COLUMNS == movement.MOVED


def write_canvases(path, *rows):
    columns = map_tables.CANVAS_COLUMNS
    store.write_table(path, columns, (dict(zip(columns, row, strict=True)) for row in rows))
    return str(path)


def test_canvases_stand_once_for_runs_that_agree(tmp_path):
    same = ("a", 1, 30, 32, 0), ("a", 2, 300, 32, 14)
    paths = [write_canvases(tmp_path / f"{k}.tsv", *same) for k in (1, 2)]
    paths.append(write_canvases(tmp_path / "3.tsv", same[0], ("a", 2, 300, 64, 0)))
    runs = [factors(method) for method in ("vectors+unet", "vectors+unet", "vectors+deep")]
    map_tables.tabulate_canvases(canvases=paths, runs=runs, table=str(tmp_path / "c.csv"))
    assert [tuple(row.values()) for row in store.read_csv(tmp_path / "c.csv")] == [
        ("d", "a", "1", "30", "32", "0", "vectors+unet, vectors+deep"),
        ("d", "a", "2", "300", "32", "14", "vectors+unet"),
        ("d", "a", "2", "300", "64", "0", "vectors+deep"),
    ]
    with pytest.raises(ValueError, match="each table must be told what it is of; found 3 tables and 2 descriptions"):
        map_tables.tabulate_canvases(canvases=paths, runs=runs[:2], table=str(tmp_path / "c.csv"))


def test_moved_says_what_each_row_is_of(tmp_path):
    row = {"epoch": 1, "group": "extractor", "weights": 200, "steps": 4, "step_mean": 0.01, "step_least": 0.0}
    store.write_table(tmp_path / "m.tsv", map_tables.MOVED_COLUMNS, [row | {"step_most": 0.03, "since_start": 0.02}])
    runs = [factors("vectors+end-to-end", seed=7)]
    map_tables.tabulate_moved(moved=[str(tmp_path / "m.tsv")], runs=runs, table=str(tmp_path / "m.csv"))
    [found] = store.read_csv(tmp_path / "m.csv")
    of_row = ("1", "extractor", "200", "4", "0.01", "0.0", "0.03", "0.02")
    assert tuple(found.values()) == ("d", "t", "7", "vectors+end-to-end", *of_row)
    store.write_table(tmp_path / "m.tsv", ("epoch", "group"), [{"epoch": 1, "group": "unet"}])
    with pytest.raises(ValueError, match=r"m\.tsv: column weights, steps, .* is missing; found epoch, group"):
        map_tables.tabulate_moved(moved=[str(tmp_path / "m.tsv")], runs=runs, table=str(tmp_path / "m.csv"))
