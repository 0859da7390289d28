from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
import report_factory
from PIL import Image

from histotransfer import canvas, store
from histotransfer.cohort import split_counts
from histotransfer.evaluation import (
    compared_tables,
    costs,
    differences,
    importance,
    layer_choice,
    overlap,
    ranking,
    scoreboard,
)
from histotransfer.figures import figures, layer_figures, method_cost_figure, pictures, rank_figures, score_figures
from histotransfer.report import contents


def svg_texts(path: Path) -> list[str]:
    return [
        "".join(node.itertext()).strip() for node in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    ]


class TestCanvas:
    def test_wide_enough_text_stays_one_line(self):
        assert canvas.wrap("resnet50+svm", 200) == "resnet50+svm"

    def test_breaks_after_signs_that_part_names(self):
        width = canvas.text_width("mobilenetv2-narrow+")
        assert canvas.wrap("mobilenetv2-narrow+extratrees", width) == "mobilenetv2-narrow+\nextratrees"

    def test_breaks_a_word_that_is_wider_than_a_line_and_loses_nothing(self):
        wrapped = canvas.wrap("x" * 50, 60, lines=20)
        assert wrapped.replace("\n", "") == "x" * 50
        assert max(canvas.text_width(line) for line in wrapped.split("\n")) <= 60

    def test_what_does_not_fit_ends_in_an_ellipsis_within_the_width(self):
        wrapped = canvas.wrap("one two three four five six", 40, lines=2)
        assert wrapped.count("\n") == 1
        assert wrapped.endswith("…")
        assert max(canvas.text_width(line) for line in wrapped.split("\n")) <= 40

    def test_a_glyph_that_the_font_lacks_counts_as_a_wide_one(self):
        assert canvas.text_width("🧬", 10) == pytest.approx(13)

    def test_shrinks_until_the_widest_fits(self):
        size = canvas.shrink(["a", "wide label"], 30, 9)
        assert 5.5 < size < 9
        assert canvas.text_width("wide label", size) == pytest.approx(30)

    def test_same_chart_same_bytes_and_its_sentence_in_it(self, tmp_path):
        for name in ("a.svg", "b.svg"):
            chart = canvas.new(100)
            canvas.axes(chart, 10, 10, 200, 50).plot([0, 1], [1, 2])
            canvas.write(chart, "$5 & <b>", 0, 0)
            canvas.save(chart, tmp_path / name, 'what <it> shows & "says"')
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
        assert canvas.read_statement(tmp_path / "a.svg") == 'what <it> shows & "says"'
        assert "$5 & <b>" in svg_texts(tmp_path / "a.svg")
        assert canvas.read_size(tmp_path / "a.svg") == pytest.approx((canvas.WIDTH * 96 / 72, 100 * 96 / 72))

    def test_charts_name_the_fonts_of_viewers(self, tmp_path):
        chart = canvas.new(20)
        canvas.write(chart, "text", 0, 0)
        canvas.save(chart, tmp_path / "a.svg", "")
        families = re.findall(r"font(?:-family|: [^;\"]*px)?:? ([^;\"]*serif)", (tmp_path / "a.svg").read_text("utf-8"))
        assert families == [canvas.VIEWER_FONTS]

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_a_picture_carries_its_sentence(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        canvas.save_picture(Image.new("RGB", (30, 20), "pink"), path, "30 µm, “quoted”")
        assert canvas.read_statement(path) == "30 µm, “quoted”"
        assert canvas.read_size(path) == (30, 20)

    def test_another_format_is_an_error(self, tmp_path):
        with pytest.raises(ValueError, match=r"\.png or \.jpg, not as 'a\.gif'"):
            canvas.save_picture(Image.new("RGB", (3, 2)), tmp_path / "a.gif", "")


class TestAttrition:
    def draw(self, tmp_path, statuses, **more):
        store.write_table(tmp_path / "slides.tsv", ("image", "status"), [{"image": "x", "status": s} for s in statuses])
        return figures.draw_attrition(slides=tmp_path / "slides.tsv", figure=tmp_path / "a.svg", **more)

    def test_says_what_was_lost_in_the_order_of_the_checks(self, tmp_path):
        said = self.draw(tmp_path, ["ok", "no tissue", "missing", "ok", "no tissue"])
        assert said == "5 slides asked for, 2 used; excluded: 1 file missing, 2 no tissue."
        assert [text for text in svg_texts(tmp_path / "a.svg") if text in ("5", "−1", "−2", "2")] == [
            "5",
            "−1",
            "−2",
            "2",
        ]
        assert canvas.read_statement(tmp_path / "a.svg") == said

    def test_nothing_lost(self, tmp_path):
        assert self.draw(tmp_path, ["ok"], noun="image") == "1 image asked for, 1 used; none excluded."

    def test_a_row_may_stand_for_many_images(self, tmp_path):
        rows = [("ok", 1), ("ok", 1), ("missing", 412003), ("several labels", 7)]
        columns = ("image", "status", "stands_for")
        store.write_table(
            tmp_path / "slides.tsv", columns, [dict(zip(columns, ("x", *row), strict=True)) for row in rows]
        )
        said = figures.draw_attrition(slides=tmp_path / "slides.tsv", figure=tmp_path / "a.svg", noun="image")
        assert said == "412,012 images asked for, 2 used; excluded: 412,003 file missing, 7 several labels."

    def test_a_status_that_it_does_not_know_is_shown_by_its_name(self, tmp_path):
        assert self.draw(tmp_path, ["odd"]) == "1 slide asked for, 0 used; excluded: 1 odd."


class TestSplits:
    @pytest.fixture
    def counts(self, tmp_path):
        groups = {"p1": ("train", 0), "p2": ("train", 1), "p3": ("test", "")}
        store.write_table(
            tmp_path / "split.tsv",
            ("group", "unit", "stratum", "set", "fold"),
            [
                {"group": group, "unit": "patient", "stratum": "x", "set": name, "fold": fold}
                for group, (name, fold) in groups.items()
            ],
        )
        tiles = [
            ("s1", "p1", "a"),
            ("s1", "p1", "a"),
            ("s1", "p1", "b"),
            ("s1b", "p1", "a"),
            ("s2", "p2", "b"),
            ("s3", "p3", "a"),
            ("s3", "p3", ""),
            ("s4", "unsplit", "a"),
        ]
        store.write_table(
            tmp_path / "labels.tsv",
            ("tile", "image", "slide", "patient", "label"),
            [
                {"tile": f"{n}_0", "image": slide, "slide": slide, "patient": patient, "label": label}
                for n, (slide, patient, label) in enumerate(tiles)
            ],
        )
        self.count(tmp_path, ["a", "b"])
        return tmp_path / "counts.tsv"

    def count(self, folder, classes):
        split_counts.count(
            split_file=folder / "split.tsv",
            label_files=[folder / "labels.tsv"],
            counts=folder / "counts.tsv",
            classes=classes,
        )

    def test_counts_groups_slides_and_labelled_tiles(self, counts):
        rows = [
            tuple(row[name] for name in ("set", "fold", "class", "groups", "groups_of_set", "slides", "tiles"))
            for row in store.read_table(counts)
        ]
        assert rows == [
            ("train", "0", "a", "1", "1", "2", "3"),
            ("train", "0", "b", "1", "1", "1", "1"),
            ("train", "1", "a", "0", "1", "0", "0"),
            ("train", "1", "b", "1", "1", "1", "1"),
            ("test", "", "a", "1", "1", "1", "1"),
            ("test", "", "b", "0", "1", "0", "0"),
        ]

    def test_the_chart_says_how_many_groups_are_where(self, counts, tmp_path):
        said = figures.draw_splits(counts=counts, figure=tmp_path / "a.svg")
        assert said == "2 patients in train, 1 patient in test."
        assert {"train, fold 0", "train, fold 1", "test", "patients", "tiles", "a", "b"} <= set(
            svg_texts(tmp_path / "a.svg")
        )

    def test_a_label_of_no_class_is_an_error(self, counts, tmp_path):
        with pytest.raises(ValueError, match=r"label 'b' is no class of the task; legal are \['a'\]"):
            self.count(tmp_path, ["a"])

    def test_where_tiles_are_groups_they_are_counted_once(self, tmp_path):
        store.write_table(
            tmp_path / "split.tsv",
            ("group", "unit", "stratum", "set", "fold"),
            [
                {"group": "s/0_0", "unit": "tile", "set": "train", "fold": 0},
                {"group": "s/1_0", "unit": "tile", "set": "test"},
            ],
        )
        rows = [{"tile": tile, "image": "s", "slide": "s", "patient": "p", "label": "a"} for tile in ("0_0", "1_0")]
        store.write_table(tmp_path / "labels.tsv", list(rows[0]), rows)
        self.count(tmp_path, ["a"])
        assert [row["tiles"] for row in store.read_table(tmp_path / "counts.tsv")] == ["1", "1"]
        figures.draw_splits(counts=tmp_path / "counts.tsv", figure=tmp_path / "a.svg")
        assert svg_texts(tmp_path / "a.svg").count("tiles") == 1


def write_scores(path: Path, values: dict[str, list[float | None]], **more: object) -> Path:
    """One row a method and seed: `values` by ``FEATURES+CLASSIFIER``."""
    rows = []
    for method, of_seed in values.items():
        features, classifier = method.split("+")
        for seed, value in enumerate(of_seed, start=1):
            row = {"dataset": "d", "task": "t", "split": "s", "seed": seed, "features": features}
            row |= {"classifier": classifier, "weights": "imagenet", "level": "tile", "metric": "accuracy"}
            row |= {"n": 10, "groups": 3, "unit": "patient"}
            row |= {"note": "no label"} if value is None else {"value": value, "low": value - 0.1, "high": value + 0.1}
            rows.append(row | more)
    store.write_table(path, report_factory.SCORE_COLUMNS, rows)
    return path


class TestScores:
    def draw(self, scores, **more):
        return score_figures.draw_scores(
            scores=scores,
            figure=scores.with_suffix(".svg"),
            **{"dataset": "d", "task": "t", "split": "s", "metric": "accuracy", **more},
        )

    def test_names_the_best_with_its_interval_and_what_the_interval_is_over(self, tmp_path):
        scores = write_scores(tmp_path / "scores.tsv", {"a+svm": [0.5], "b+svm": [0.75], "c+svm": [None]})
        said = self.draw(scores)
        assert said == "Highest accuracy of tiles: b+svm, 0.750 (95 % interval 0.650 to 0.850), over 3 patients."
        texts = svg_texts(scores.with_suffix(".svg"))
        assert [text for text in texts if "+svm" in text] == ["b+svm", "a+svm", "c+svm"]
        assert "tiles, 95 % interval over 3 patients" in texts
        assert "tiles: undefined" in texts

    def test_several_seeds_are_ranked_by_their_mean(self, tmp_path):
        scores = write_scores(tmp_path / "scores.tsv", {"a+svm": [0.9, 0.1], "b+svm": [0.6, 0.6]})
        assert self.draw(scores) == "Highest accuracy of tiles: b+svm, 0.600 (mean of 2 seeds), over 3 patients."

    def test_an_untrained_network_is_said_to_be_one(self, tmp_path):
        scores = write_scores(tmp_path / "scores.tsv", {"a+svm": [0.5]}, weights="untrained")
        assert self.draw(scores).endswith("; untrained network.")
        assert "untrained" in svg_texts(scores.with_suffix(".svg"))

    def test_single_layers_are_counted_where_they_are_left_out(self, tmp_path):
        scores = write_scores(tmp_path / "scores.tsv", {"i+svm": [0.5], "i.one+svm": [0.75], "i.two+svm": [0.5]})
        said = self.draw(scores, methods=["i+svm"])
        assert said.startswith("Highest accuracy of tiles: i+svm, 0.500")
        assert said.endswith("over 3 patients. 2 single layers left out, which have a chapter of their own.")
        assert not {"i.one+svm", "i.two+svm"} & set(svg_texts(scores.with_suffix(".svg")))
        with pytest.raises(ValueError, match=r"must have a method of x\+svm; found i\+svm, i\.one\+svm, i\.two\+svm"):
            self.draw(scores, methods=["x+svm"])

    def test_all_undefined(self, tmp_path):
        scores = write_scores(tmp_path / "scores.tsv", {"a+svm": [None]})
        assert self.draw(scores) == "No method has a defined accuracy of tiles."

    def test_names_what_the_table_has_instead(self, tmp_path):
        scores = write_scores(tmp_path / "scores.tsv", {"a+svm": [0.5]})
        with pytest.raises(ValueError, match=r"no metric 'f1' for d/t/s; it has \['accuracy'\]"):
            self.draw(scores, metric="f1")
        with pytest.raises(ValueError, match="no scores of dataset 'x', task 't', split 's'; found d/t/s"):
            self.draw(scores, dataset="x")

    def test_a_table_without_a_column_is_an_error(self, tmp_path):
        store.write_table(tmp_path / "scores.tsv", ("dataset", "task"), [{"dataset": "d", "task": "t"}])
        with pytest.raises(ValueError, match=r"column class, classifier, .* is missing; found dataset, task"):
            scoreboard.read(tmp_path / "scores.tsv")


class TestConfusion:
    def draw(self, folder, rows, **about):
        columns = ("level", "true", "predicted", "count")
        store.write_table(folder / "c.tsv", columns, [dict(zip(columns, row, strict=True)) for row in rows])
        known = {"features": "resnet50", "classifier": "svm", "seed": 1, "untrained": False}
        report_factory.write_predictions(folder / "p.h5", **known | about)
        return score_figures.draw_confusion(
            confusions=[folder / "c.tsv"], predictions=[folder / "p.h5"], figures=[folder / "c.svg"]
        )

    def test_counts_shares_and_the_most_frequent_error(self, tmp_path):
        rows = [("tile", "a", "a", 3), ("tile", "a", "b", 1), ("tile", "b", "a", 4), ("tile", "b", "b", 4)]
        assert self.draw(tmp_path, rows) == ["resnet50+svm, seed 1: of 8 tiles of b, 4 are taken for a."]
        texts = svg_texts(tmp_path / "c.svg")
        assert {"75%", "25%"} <= set(texts)
        assert [texts.count(count) for count in ("3", "1", "4", "50%", "12 tiles")] == [1, 1, 2, 2, 1]

    def test_an_untrained_network_is_said_to_be_one(self, tmp_path):
        said = self.draw(tmp_path, [("tile", "a", "a", 1), ("tile", "b", "b", 1)], untrained=True)
        assert said == ["resnet50+svm, seed 1 (untrained network): none is put into a wrong class."]
        assert "resnet50+svm, seed 1 (untrained network)" in svg_texts(tmp_path / "c.svg")

    def test_nothing_held_out_is_a_figure_that_says_so(self, tmp_path):
        assert self.draw(tmp_path, []) == ["resnet50+svm, seed 1: nothing with a label was held out."]

    def test_lists_must_be_equally_long(self):
        with pytest.raises(ValueError, match="one by one; found 1, 0 and 1"):
            score_figures.draw_confusion(confusions=["a"], predictions=[], figures=["b"])


def write_rows(path: Path, rows: list[dict]) -> Path:
    store.write_csv(path, list(rows[0]), rows)
    return path


@pytest.mark.parametrize(
    ("read", "written"),
    [
        (compared_tables.RANK_COLUMNS, (*ranking.RANK_COLUMNS, "note")),
        (compared_tables.DIFFERENCE_COLUMNS, differences.COLUMNS),
        (compared_tables.LAYER_COLUMNS, layer_choice.LAYER_COLUMNS),
        (compared_tables.COST_COLUMNS, costs.METHOD_COLUMNS),
        (compared_tables.IMPORTANCE_COLUMNS, importance.COLUMNS),
        (compared_tables.SELECTION_COLUMNS, overlap.CURVE_COLUMNS),
    ],
)
def test_charts_read_columns_that_are_written(read, written):
    assert set(read) <= set(written)


class TestRanks:
    def write(self, path, rows, tasks=("d/t accuracy", "e/u roc_auc"), note=""):
        """`rows`: method, kind, untrained, average rank, then score and rank of each task."""
        columns = ["method", "kind", "untrained", "average_rank"]
        columns += [name for task in tasks for name in (task, f"{task.split()[0]} rank")]
        return write_rows(path, [dict(zip(columns, row, strict=True)) | {"note": note} for row in rows])

    def draw(self, ranks):
        said = rank_figures.draw_ranks(
            ranks=ranks, figure=ranks.with_suffix(".svg"), title="Last layer", split="by-patient"
        )
        assert canvas.read_statement(ranks.with_suffix(".svg")) == said
        return said, svg_texts(ranks.with_suffix(".svg"))

    def test_names_the_highest_average_rank_over_datasets(self, tmp_path):
        rows = [
            ("a+svm", "libsvm", "no", 2.5, 0.9, 2, 0.8, 3),
            ("b+et", "extratrees", "yes", 2.25, 0.95, 2.5, 0.7, 2),
            ("c+fc", "perceptron", "no", 1, 0.5, 1, 0.6, 1),
        ]
        said, texts = self.draw(self.write(tmp_path / "r.csv", rows))
        assert said == "Highest average rank of 3 methods over 2 datasets: a+svm, 2.5 where 3 is best."
        assert [text for text in texts if text in ("a+svm", "b+et", "c+fc")] == ["a+svm", "b+et", "c+fc"]
        assert {"SVM", "extremely randomised trees", "perceptron", "untrained", "rank in one dataset"} <= set(texts)
        assert {"Last layer", "split by-patient", "2.5", "2.2", "1.0", "average rank, 3 is best"} <= set(texts)

    def test_draws_what_ranking_writes(self, tmp_path):
        scores = write_scores(tmp_path / "scores.tsv", {"a+svm": [0.5, 0.7], "b+svm": [0.75, 0.75]})
        kinds = {"a+svm": "libsvm", "b+svm": "liblinear"}
        about = {"methods": list(kinds), "kinds": kinds, "split": "s"}
        ranking.rank(scores=str(scores), ranks=str(tmp_path / "r.csv"), **about)
        said, texts = self.draw(tmp_path / "r.csv")
        assert said == "Ranks of 2 methods are the order of their accuracy on d/t: highest is b+svm, 0.750."
        assert "0.600" in texts

    def test_equal_ones_are_all_named_and_an_untrained_one_marked(self, tmp_path):
        rows = [("a+x", "odd", "no", 1.5, 0.9, 2, 0.7, 1), ("b+svm", "liblinear", "yes", 1.5, 0.8, 1, 0.8, 2)]
        said, texts = self.draw(self.write(tmp_path / "r.csv", rows))
        assert said == (
            "Highest average rank of 2 methods over 2 datasets: a+x, b+svm, 1.5 where 2 is best; untrained network."
        )
        assert "odd" in texts

    def test_two_tasks_of_one_dataset_illustrate(self, tmp_path):
        rows = [("a+svm", "libsvm", "no", 1, 0.9, 1, 0.8, 1)]
        said, texts = self.draw(self.write(tmp_path / "r.csv", rows, ("d/t accuracy", "d/u roc_auc")))
        assert said == (
            "Highest average rank of 1 method over 2 tasks of d, which share their tiles (an illustration): "
            "a+svm, 1.0 where 1 is best."
        )
        assert "rank on one task" in texts

    def test_ranks_on_one_task_are_the_order_of_its_scores(self, tmp_path):
        rows = [("a+svm", "libsvm", "no", 2, 0.9125, 2), ("b+svm", "libsvm", "no", 1, 0.5, 1)]
        said, texts = self.draw(self.write(tmp_path / "r.csv", rows, ("d/t roc_auc",)))
        assert said == "Ranks of 2 methods are the order of their ROC AUC on d/t: highest is a+svm, 0.912."
        assert {"ROC AUC", "0.912", "0.500", "order of scores, 2 is best"} <= set(texts)

    def test_a_task_that_is_left_out_does_not_count_and_the_note_says_so(self, tmp_path):
        rows = [("a+svm", "libsvm", "no", 2, 0.9, 2, 0.7, None), ("b+svm", "libsvm", "no", 1, 0.8, 1, None, None)]
        said, texts = self.draw(self.write(tmp_path / "r.csv", rows, note="e/u is left out"))
        assert said == "Ranks of 2 methods are the order of their accuracy on d/t: highest is a+svm, 0.900."
        assert "e/u is left out" in texts

    def test_nothing_can_be_ranked(self, tmp_path):
        rows = [("a+svm", "libsvm", "no", None, None, None)]
        said, texts = self.draw(self.write(tmp_path / "r.csv", rows, ("d/t accuracy",)))
        assert said == "No method can be ranked: no dataset has a score of every method."
        assert "not ranked" in texts

    def test_a_missing_column_and_what_is_no_number_are_errors(self, tmp_path):
        write_rows(tmp_path / "a.csv", [{"method": "a", "kind": "svm"}])
        with pytest.raises(ValueError, match=r"a\.csv: column untrained, average_rank, note is missing; found method"):
            self.draw(tmp_path / "a.csv")
        (tmp_path / "empty.csv").write_text("")
        with pytest.raises(ValueError, match=r"column method, .* is missing; found nothing"):
            self.draw(tmp_path / "empty.csv")
        rows = [("a+svm", "libsvm", "no", "high", 0.9, 1)]
        with pytest.raises(ValueError, match="column average_rank holds finite numbers or nothing; found 'high'"):
            self.draw(self.write(tmp_path / "b.csv", rows, ("d/t accuracy",)))


class TestDifferences:
    def write(self, path, rows):
        """`rows`: dataset, method, difference, low, high, groups."""
        about = {"task": "t", "metric": "roc_auc", "reference": "r+svm", "unit": "patient", "seeds": 3, "note": ""}
        columns = ("dataset", "method", "difference", "low", "high", "groups")
        return write_rows(path, [about | dict(zip(columns, row, strict=True)) for row in rows])

    def test_counts_whole_intervals_beside_zero_and_says_what_they_are_over(self, tmp_path):
        rows = [
            ("d", "a+svm", 0.05, 0.01, 0.09, 12),
            ("d", "b+svm", -0.05, -0.09, -0.01, 12),
            ("d", "c+svm", 0.0, -0.02, 0.02, 12),
            ("e", "a+svm", -0.1, -0.2, -0.05, 6),
            ("e", "b+svm", None, None, None, 6),
            ("e", "c+svm", 0.01, 0.0, 0.02, 6),
        ]
        table = self.write(tmp_path / "d.csv", rows)
        said = rank_figures.draw_differences(table=table, figure=tmp_path / "d.svg")
        assert said == (
            "Of 5 differences to r+svm (3 methods, 2 tasks), 1 lies above and 2 below zero with the whole 95 % "
            "interval, from resampling 6 to 12 patients."
        )
        texts = svg_texts(tmp_path / "d.svg")
        # by mean difference: c 0.005, a -0.025, b -0.05
        assert [text for text in texts if text.endswith("+svm") and len(text) == 5] == ["c+svm", "a+svm", "b+svm"]
        assert {"d/t", "e/t", "undefined", "Difference to r+svm"} <= set(texts)
        assert any("patients" in text for text in texts)

    def test_no_other_method(self, tmp_path):
        store.write_csv(tmp_path / "d.csv", compared_tables.DIFFERENCE_COLUMNS, [])
        said = rank_figures.draw_differences(table=tmp_path / "d.csv", figure=tmp_path / "d.svg")
        assert said == "There is no other method to compare with the reference."

    def test_a_missing_column_is_an_error(self, tmp_path):
        write_rows(tmp_path / "d.csv", [{"method": "a"}])
        with pytest.raises(ValueError, match=r"column dataset, task, .* is missing; found method"):
            rank_figures.draw_differences(table=tmp_path / "d.csv", figure=tmp_path / "d.svg")


class TestLayers:
    def draw(self, path, rows, metric="accuracy"):
        """`rows`: dataset, layer, depth, score, validation, chosen."""
        about = {"task": "t", "metric": metric, "validation_metric": "accuracy", "seeds": 3}
        columns = ("dataset", "layer", "depth", "score", "validation", "chosen")
        table = write_rows(path, [about | dict(zip(columns, row, strict=True)) for row in rows])
        said = layer_figures.draw_layers(table=table, figure=path.with_suffix(".svg"))
        return said, svg_texts(path.with_suffix(".svg"))

    def test_names_the_best_layer_and_the_one_chosen(self, tmp_path):
        rows = [("d", "late", 3, 0.7, 0.9, 0), ("d", "first", 1, 0.8, 0.7, 1), ("d", "middle", 2, 0.75, 0.95, 2)]
        said, texts = self.draw(tmp_path / "l.csv", rows)
        assert said == (
            "The highest accuracy on d/t is 0.800 with first (depth 1 of 3); inner cross-validation chooses middle "
            "(0.750, 2 of 3 seeds)."
        )
        assert [text for text in texts if text in ("first", "middle", "late")] == ["first", "middle", "late"]
        assert "accuracy" in texts
        assert [text for text in texts if text.endswith("/3")] == ["1/3", "2/3"]

    def test_says_where_the_layer_was_chosen_by_another_metric_than_the_one_of_the_scores(self, tmp_path):
        _, texts = self.draw(tmp_path / "l.csv", [("d", "first", 1, 0.8, 0.7, 3)], metric="roc_auc")
        assert "ROC AUC; in inner cross-validation accuracy" in " ".join(texts)

    def test_over_several_tasks_the_choice_is_set_against_the_best(self, tmp_path):
        rows = [("d", "a", 1, 0.8, 0.9, 3), ("d", "b", 2, 0.7, 0.8, 0), ("e", "a", 1, 0.9, 0.6, 0)]
        said, _ = self.draw(tmp_path / "l.csv", [*rows, ("e", "b", 2, 0.85, 0.7, 3)])
        assert said == (
            "The layer that inner cross-validation chooses most often is the best of 2 on the groups held out in 1 of "
            "2 tasks, and at most 0.050 below the best."
        )

    def test_undefined_scores_leave_gaps(self, tmp_path):
        said, texts = self.draw(tmp_path / "l.csv", [("d", "a", 1, None, None, 0), ("d", "b", 2, 0.5, 0.5, 0)])
        assert said == "The highest accuracy on d/t is 0.500 with b (depth 2 of 2)."
        assert "a" in texts


class TestImportance:
    def test_names_the_largest_and_the_densest_source(self, tmp_path):
        columns = compared_tables.IMPORTANCE_COLUMNS
        rows = [("big", 900, 0.9, 0.02, 0.1, 0.3, 0.7), ("dense", 100, 0.1, 0.08, 0.15, 0.2, 0.3)]
        table = write_rows(tmp_path / "i.csv", [dict(zip(columns, row, strict=True)) for row in rows])
        said = layer_figures.draw_importance(table=table, figure=tmp_path / "i.svg")
        assert said == (
            "big brings the largest share of the importance, 70 % with 90 % of the features, dense the most for its "
            "size, 3 times its share."
        )
        texts = svg_texts(tmp_path / "i.svg")
        assert {"big", "dense", "70 %", "90 %", "30 %", "10 %", "100 % of the information"} <= set(texts)

    def test_bars_are_cut_at_10_25_50_and_100_percent(self, tmp_path):
        columns = compared_tables.IMPORTANCE_COLUMNS
        row = dict(zip(columns, ("one", 4, 1.0, 0.1, 0.25, 0.5, 1.0), strict=True))
        write_rows(tmp_path / "i.csv", [row])
        layer_figures.draw_importance(table=tmp_path / "i.csv", figure=tmp_path / "i.svg")
        text = (tmp_path / "i.svg").read_text("utf-8")
        widths = {}
        for style in ("BLUE", "ORANGE", "GREEN", "VERMILION"):
            colour = getattr(canvas, style).lower()
            bars = re.findall(rf'<path d="M ([\d.]+) [\d.]+ \nL ([\d.]+) [^"]*"[^>]*style="fill: {colour}', text)
            widths[style] = max(abs(float(right) - float(left)) for left, right in bars if float(left) > 50)
        total = sum(widths.values())
        shares = [widths[name] / total for name in ("BLUE", "ORANGE", "GREEN", "VERMILION")]
        assert shares == pytest.approx([0.1, 0.15, 0.25, 0.5], abs=0.001)


class TestSelection:
    def draw(self, path, rows):
        """`rows`: dataset, size, share, score, kept."""
        columns = ("dataset", "size", "share", "score", "kept")
        table = write_rows(path, [{"task": "t", "seeds": 3} | dict(zip(columns, row, strict=True)) for row in rows])
        said = layer_figures.draw_selection(table=table, figure=path.with_suffix(".svg"))
        return said, svg_texts(path.with_suffix(".svg"))

    def test_says_how_many_are_kept_and_what_they_score(self, tmp_path):
        rows = [("d", 1000, 1.0, 0.9, 0), ("d", 100, 0.1, 0.88, 1), ("d", 10, 0.01, 0.87, 2), ("d", 1, 0.001, 0.5, 0)]
        said, texts = self.draw(tmp_path / "s.csv", rows)
        assert said == (
            "On d/t 10 to 100 of 1,000 features are kept (1.0 % to 10 %), with a cross-validated score of 0.870 to "
            "0.880 where all features give 0.900."
        )
        assert {"d/t: 10 to 100 of 1,000 features kept", "1", "10", "100", "1,000"} <= set(texts)

    def test_over_several_tasks_the_share_is_averaged_over_seeds(self, tmp_path):
        rows = [("d", 100, 1.0, 0.9, 1), ("d", 10, 0.1, 0.9, 2), ("e", 100, 1.0, 0.9, 0), ("e", 5, 0.05, 0.9, 3)]
        said, _ = self.draw(tmp_path / "s.csv", rows)
        # (1 + 2 * 0.1 + 3 * 0.05) / 6
        assert said == "Over 2 tasks 5.0 % to 100 % of the features are kept, 22 % on average."

    def test_no_size_is_an_error(self, tmp_path):
        with pytest.raises(ValueError, match="column size holds a number of features in every row; found nothing"):
            self.draw(tmp_path / "s.csv", [("d", None, 0.1, 0.5, 0)])


class TestMethodCosts:
    def draw(self, path, rows):
        columns = ("method", "score", "cpu_seconds", "untrained")
        table = write_rows(path, [{"metric": "accuracy"} | dict(zip(columns, row, strict=True)) for row in rows])
        said = method_cost_figure.draw_method_costs(table=table, figure=path.with_suffix(".svg"))
        return said, svg_texts(path.with_suffix(".svg"))

    def test_names_the_best_and_what_comes_close_for_less(self, tmp_path):
        rows = [("best", 0.9, 7200, "no"), ("near", 0.895, 90, "no"), ("dear", 0.7, 9000, "no"), ("low", 0.5, 2, "no")]
        said, texts = self.draw(tmp_path / "c.csv", rows)
        assert said == (
            "The highest score is 0.900 by best, for 2.0 h of processor time; near comes within 0.01 of it for 90 s."
        )
        # what something cheaper beats is a dot without a name
        assert [text for text in texts if text.split(":")[0] in ("best", "near", "dear", "low")] == [
            "low: 0.500, 2 s",
            "near: 0.895, 90 s",
            "best: 0.900, 2.0 h",
        ]

    def test_what_was_not_measured_is_left_out(self, tmp_path):
        rows = [("a", 0.9, None, "no"), ("b", None, 5, "no"), ("c", 0.5, 7.0, "yes")]
        said, _ = self.draw(tmp_path / "c.csv", rows)
        assert said == "The highest score is 0.500 by c, for 7 s of processor time; untrained network."
        said, texts = self.draw(tmp_path / "d.csv", rows[:2])
        assert said == "No method has both a score and a measured processor time."
        assert " ".join(texts) == said


class TestPictures:
    def test_kept_tiles_are_drawn_where_they_are(self, tmp_path):
        Image.new("RGB", (512, 1024), "white").save(tmp_path / "overlay.png")
        store.write_json(tmp_path / "slide.json", {"slide": "s", "size": [1024, 2048]})
        about = {"status": "ok", "reason": "", "status_names": ["kept", "background"], "l0_size": 256}
        with store.writing_hdf5(tmp_path / "tiles.h5", about) as file:
            file["l0_x"], file["l0_y"] = np.array([256, 512]), np.array([512, 512])
            file["status"] = np.array([0, 1], np.uint8)
        said = pictures.draw_slide(
            overlay=tmp_path / "overlay.png",
            grid=tmp_path / "tiles.h5",
            description=tmp_path / "slide.json",
            figure=tmp_path / "out.png",
        )
        assert said == "1 of 2 grid cells kept as tiles"
        # 720 px high, so 0.3516 px a level-0 pixel: the kept tile is 90 to 180 wide, 180 to 270 high
        drawn = np.asarray(Image.open(tmp_path / "out.png").convert("RGB"))
        assert drawn.shape == (720, 360, 3)
        changed = np.argwhere((drawn != 255).any(axis=2))
        assert changed.min(axis=0).tolist() == [180, 90]
        assert changed.max(axis=0).tolist() == [270, 180]

    def test_an_unusable_slide_keeps_its_card_and_says_why(self, tmp_path):
        Image.new("RGB", (100, 50), "gray").save(tmp_path / "overlay.jpg")
        store.write_json(tmp_path / "slide.json", {"slide": "s", "size": None})
        with store.writing_hdf5(tmp_path / "tiles.h5", {"status": "unreadable", "reason": "no header"}):
            pass
        said = pictures.draw_slide(
            overlay=tmp_path / "overlay.jpg",
            grid=tmp_path / "tiles.h5",
            description=tmp_path / "slide.json",
            figure=tmp_path / "out.jpg",
        )
        assert said == "unreadable: no header"
        assert canvas.read_statement(tmp_path / "out.jpg") == "unreadable: no header"

    def draw_tiles(self, folder, tiles_of, px=16, excluded=(), **more):
        """Slides by name with their labels; each slide's tiles have one grey level of their own."""
        for place, (slide, labels) in enumerate(tiles_of.items()):
            kept = [n for n in range(len(labels)) if (slide, n) not in excluded]
            with store.writing_hdf5(folder / f"{slide}.h5", {}) as file:
                file["tiles"] = np.full((len(kept), px, px, 3), 10 * (place + 1), np.uint8)
                store.write_texts(file, "tile", [f"{n}_0" for n in kept])
                store.write_texts(file, "image", [slide] * len(kept))
            rows = [
                {"tile": f"{n}_0", "image": slide, "slide": slide, "label": label} for n, label in enumerate(labels)
            ]
            store.write_table(folder / f"{slide}.tsv", ("tile", "image", "slide", "patient", "label"), rows)
        said, levels = [], []
        for name in "ab":
            arguments = {
                "pixels": [folder / f"{slide}.h5" for slide in tiles_of],
                "label_files": [folder / f"{slide}.tsv" for slide in tiles_of],
                "figure": folder / f"{name}.png",
                "class_name": name,
                "per_class": 6,
                "master_seed": 1,
            }
            said.append(pictures.draw_tiles(**arguments | more))
            sheet = np.asarray(Image.open(folder / f"{name}.png"))
            pitch = pictures.TILE_SIDE + pictures.GAP
            levels.append([int(sheet[100, 100 + pitch * place, 0]) for place in range(pictures.COLUMNS)])
        return said, levels

    def test_every_slide_has_a_tile_before_any_has_two(self, tmp_path):
        said, (of_a, of_b) = self.draw_tiles(tmp_path, {"s1": "a" * 50, "s2": "aaa", "s3": "aab", "s4": "bb"})
        assert {level: of_a.count(level) for level in of_a} == {10: 2, 20: 2, 30: 2}
        assert sorted(of_b) == [30, 40, 40, 255, 255, 255]
        assert said == [
            "6 of 55 tiles of 3 slides, drawn by the master seed",
            "3 of 3 tiles of 2 slides, drawn by the master seed",
        ]

    def test_another_seed_draws_others_and_the_same_the_same(self, tmp_path):
        first = self.draw_tiles(tmp_path, {f"s{n}": "a" for n in range(20)})
        assert first == self.draw_tiles(tmp_path, {f"s{n}": "a" for n in range(20)})
        assert first[1] != self.draw_tiles(tmp_path, {f"s{n}": "a" for n in range(20)}, master_seed=2)[1]

    def test_an_excluded_tile_is_not_shown_and_a_class_may_be_empty(self, tmp_path):
        said, (of_a, of_b) = self.draw_tiles(tmp_path, {"s1": "aa"}, excluded={("s1", 1)}, noun="image")
        assert of_a == [10, 255, 255, 255, 255, 255]
        assert set(of_b) == {255}
        assert said == ["1 of 2 tiles of 1 image, drawn by the master seed", "No tile has this label"]

    def test_lists_must_be_equally_long(self, tmp_path):
        with pytest.raises(ValueError, match="found 0 and 1"):
            self.draw_tiles(tmp_path, {"s1": "a"}, pixels=[])

    def test_a_sample_of_slides_keeps_their_order_and_changes_by_one(self):
        slides = [f"s{n:03d}" for n in range(100)]
        shown = contents.sample_slides(slides, at_most=40, master_seed=1)
        assert len(shown) == 40
        assert shown == sorted(shown)
        assert shown != slides[:40]
        more = contents.sample_slides([*slides, "new"], at_most=40, master_seed=1)
        assert len(set(shown) - set(more)) <= 1
        assert contents.sample_slides(slides[:7], at_most=40, master_seed=1) == slides[:7]


class TestCost:
    def collect(self, folder, **more):
        costs.collect(
            folders=[folder / "d", folder / "absent"], rule_order=["second", "none"], cost=folder / "c.tsv", **more
        )
        return store.read_table(folder / "c.tsv")

    def test_sums_up_each_rule(self, tmp_path):
        columns = ("s", "max_rss", "cpu_time", "io_in", "io_out")
        for name, values in {
            "first/x/1.tsv": (1.0, 100, 0.5, 1, 2),
            "first/x/2.tsv": (3.0, 300, 2.5, 1, 2),
            "first/3.tsv": (5.0, "NA", "NA", "-", "-"),
            "second.tsv": (7.0, 50, 7.0, 0, 0),
        }.items():
            store.write_table(tmp_path / "d" / name, columns, [dict(zip(columns, values, strict=True))])
        second, first = self.collect(tmp_path, after=["any"])
        assert (second["rule"], second["jobs"], second["seconds_total"]) == ("second", "1", "7.0")
        assert first == {
            "rule": "first",
            "jobs": "3",
            "seconds_total": "9.0",
            "seconds_median": "3.0",
            "seconds_max": "5.0",
            "cpu_seconds_total": "3.0",
            "rss_mb_median": "200.0",
            "rss_mb_max": "300.0",
            "read_mb_total": "2.0",
            "written_mb_total": "4.0",
        }
        said = figures.draw_cost(cost=tmp_path / "c.tsv", figure=tmp_path / "c.svg")
        assert said == "first takes 56% of the time of all jobs; first needs the most memory, 300 MiB."
        assert {"3 jobs", "1 job", "All jobs, s", "Memory, MiB"} <= set(svg_texts(tmp_path / "c.svg"))

    def test_another_table_is_an_error(self, tmp_path):
        store.write_table(tmp_path / "d/x.tsv", ("a", "b"), [{"a": 1, "b": 2}])
        with pytest.raises(ValueError, match="is no benchmark of Snakemake: column 's' is missing; found a, b"):
            self.collect(tmp_path)

    def test_nothing_measured_is_a_figure_that_says_so(self, tmp_path):
        assert self.collect(tmp_path) == []
        assert figures.draw_cost(cost=tmp_path / "c.tsv", figure=tmp_path / "c.svg") == "No job left a benchmark."


def test_hdf5_of_the_factory_is_what_the_pictures_read(tmp_path):
    rows = report_factory.write_slides_table(tmp_path / "slides.tsv", "demo", n=1)
    report_factory.write_slide_files(tmp_path, rows[0], 0)
    with h5py.File(tmp_path / "tiles/s00.h5") as grid:
        assert (grid["status"][:] == 0).sum() == 60
