from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import browser
import comparison_factory
import pytest
import report_factory
from report_factory import EMOJI, LONG, SCRIPT

from histotransfer import store
from histotransfer.amounts import duration
from histotransfer.evaluation import compared_tables, ranking
from histotransfer.figures import layer_figures, method_cost_figure, rank_figures
from histotransfer.report import chapters, pages, run_page
from histotransfer.report.entries import Entry, chosen


class Page(HTMLParser):
    """Text, elements and the text of chosen elements of a page."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._found: list[tuple[list[str], str]] = []
        self.source = Path(path).read_text("utf-8")
        # a place where a line may break is no gap in the text
        self.feed(self.source.replace("<wbr>", ""))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        marks = [f"{tag}.{name}" for tag, attrs in self._open for name in (attrs.get("class") or "-").split()]
        self._found.append((marks + [tag for tag, _ in self._open], data))

    def text(self, mark: str = "body") -> str:
        """Text inside every element with that tag, or ``tag.class``."""
        return " ".join(" ".join(data for marks, data in self._found if mark in marks).split())


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> report_factory.Tree:
    made = report_factory.make_tree(tmp_path_factory.mktemp("tree"))
    pages.write_report(**made.arguments)
    run_page.write_run_page(**made.run_arguments)
    return made


@pytest.fixture(scope="module")
def page(tree) -> Page:
    return Page(tree.arguments["page"])


@pytest.fixture
def write(tree, tmp_path):
    """Write the page anew with some entries in place of those of their kind, and some arguments changed."""

    def written(*instead: Entry, **changed) -> Page:
        entries = report_factory.replaced(tree.arguments["entries"], *instead)
        arguments = {**tree.arguments, "entries": entries, "page": tmp_path / "report.html", **changed}
        pages.write_report(**arguments)
        return Page(arguments["page"])

    return written


def scores(tmp_path: Path, methods: list[tuple[str, str, str]], splits: list[str], seeds=(1,)) -> Path:
    path = tmp_path / "scores.tsv"
    rows = report_factory.score_rows(["demo"], splits, methods, list(seeds))
    store.write_table(path, report_factory.SCORE_COLUMNS, rows)
    return path


def scored(path: Path) -> Entry:
    """The study's table of scores."""
    return Entry(str(path), "collect_scores", "scores", "scores")


def without_tables(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return tuple(entry for entry in entries if not entry.is_table)


class TestOneFile:
    def test_asks_nothing_outside_and_runs_nothing(self, page):
        assert "script" not in {tag for tag, _ in page.elements}
        assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
        sources = [attrs["src"] for tag, attrs in page.elements if tag == "img"]
        assert sources
        assert all(source.startswith("data:image/") for source in sources)
        links = {attrs["href"] for tag, attrs in page.elements if tag in ("a", "link")}
        outside = {link for link in links if not link.startswith(("#", "data:text/csv;base64,"))}
        assert outside == {"data:,", "run.html"}
        assert "url(" not in page.source
        assert "@import" not in page.source
        policies = [attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv")]
        assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]

    @pytest.mark.parametrize("name", [SCRIPT, EMOJI, LONG])
    def test_a_name_is_shown_as_it_is(self, page, name):
        assert name in page.text("figure.slide")

    def test_a_class_and_a_reason_are_shown_as_they_are(self, page):
        assert f"lymphoid {SCRIPT}" in page.text("figcaption")
        assert f"its leak is measured here {SCRIPT}" in page.text("blockquote")

    def test_same_inputs_same_bytes(self, tree, write):
        assert write().source == Path(tree.arguments["page"]).read_text("utf-8")

    def test_every_picture_says_in_words_what_it_shows(self, page):
        assert [attrs["alt"] for tag, attrs in page.elements if tag == "img" and not attrs["alt"]] == []

    def test_every_figure_and_table_names_its_file_and_rule(self, page, tree):
        listed = page.text("table.stack")
        captions = page.text("figcaption")
        for figure in tree.figures:
            assert figure.path in captions
            assert figure.path in listed
            assert figure.rule in listed
        for entry in tree.arguments["entries"]:
            assert f"{entry.path} {entry.rule} " in listed

    def test_a_file_behind_the_page_must_be_an_input_of_its_rule(self, tree, write):
        paths = [entry.path for entry in tree.arguments["entries"]]
        write(files=paths)
        with pytest.raises(ValueError, match=f"must be an input of its rule; found {re.escape(paths[-1])}$"):
            write(files=paths[:-1])

    def test_the_page_needs_one_table_of_scores(self, tree, write):
        with pytest.raises(ValueError, match="a page needs one file of scores/scores; found 0"):
            write(entries=tree.arguments["entries"][1:])
        with pytest.raises(ValueError, match="a page needs one file of scores/scores; found 2"):
            write(entries=(tree.arguments["entries"][0], *tree.arguments["entries"]))


class TestWhatIsSaidFirst:
    def test_the_reason_for_sharing_groups_stands_before_everything(self, page):
        text = page.text()
        reason = text.index("“the paper splits nuclei at random")
        assert reason < text.index("holds out by tile and not by patient")
        assert reason < text.index("Untrained network: these numbers say nothing about transfer.")
        assert reason < text.index("Highest balanced accuracy")

    def test_a_unit_other_than_patients_stands_beside_every_table_of_its_split(self, page):
        headings = re.findall(r"<h3[^>]*>([^<]*at-random[^<]*)(<span class=\"badge\">[^<]*</span>)?", page.source)
        # splits, scores, confusion matrices of two datasets, and the comparison and the maps that both splits have
        assert len(headings) == 8
        assert {badge for _, badge in headings} == {'<span class="badge">split by tile, not by patient</span>'}

    def test_nothing_is_said_where_patients_are_held_apart_and_networks_trained(self, tree, tmp_path, write):
        entries = report_factory.replaced(
            without_tables(tree.arguments["entries"]),
            scored(scores(tmp_path, [("resnet50", "svm", "imagenet")], ["by-patient"])),
        )
        written = write(entries=entries)
        assert written.text("div.banner") == ""
        assert "untrained" not in written.text("table.scores")

    def test_every_number_of_an_untrained_network_is_marked(self, tree, tmp_path, write):
        methods = [("resnet50", "svm", "imagenet"), ("mobilenet", "svm", "untrained")]
        instead = scored(scores(tmp_path, methods, ["by-patient"]))
        written = write(entries=report_factory.replaced(without_tables(tree.arguments["entries"]), instead))
        source = written.source.replace("<wbr>", "")
        cells = re.findall(r"<td class=\"number\">(?:<b>)?0\.\d+.*?</td>", source)
        assert cells
        rows = re.findall(r"<tr><th>(\S+).*?</tr>", source, flags=re.DOTALL)
        assert {"resnet50+svm", "mobilenet+svm"} <= {re.sub("<.*", "", row) for row in rows}
        for row in re.findall(r"<tr><th>(?:resnet50|mobilenet)\+svm.*?</tr>", source, flags=re.DOTALL):
            numbers = len(re.findall(r"<td class=\"number\">(?:<b>)?\d", row))
            marks = row.split("</th>")[1].count(">untrained</span>")
            assert marks == (numbers if "mobilenet+svm" in row else 0)

    def test_the_answer_names_the_best_and_counts_the_patients(self, tmp_path, write):
        path = tmp_path / "scores.tsv"
        rows = report_factory.score_rows(
            ["demo"], ["by-patient"], [("a", "svm", "imagenet"), ("b", "svm", "imagenet")], [1]
        )
        for row in rows:
            if row["metric"] == "balanced_accuracy":
                value = {"a": 0.9, "b": 0.6}[row["features"]]
                row |= {"value": value, "low": value - 0.2, "high": value + 0.05}
        store.write_table(path, report_factory.SCORE_COLUMNS, rows)
        answer = write(scored(path)).text("div.answer").replace("\N{NO-BREAK SPACE}", " ")
        assert answer.startswith(
            "The highest balanced accuracy for tiles is 0.900 (95 % interval 0.700 to 0.950) by a+svm , on 6 patients "
            "held out. The interval of the other method lies below it."
        )
        assert "For slides (mean probability of their tiles) it is 0.900" in answer

    def test_several_seeds_give_a_mean(self, tmp_path, write):
        path = tmp_path / "scores.tsv"
        rows = report_factory.score_rows(["demo"], ["by-patient"], [("a", "svm", "imagenet")], [1, 2])
        for row in rows:
            value = {1: 0.4, 2: 0.6}[row["seed"]]
            row |= {"value": value, "low": value - 0.1, "high": value + 0.1}
        store.write_table(path, report_factory.SCORE_COLUMNS, rows)
        answer = write(scored(path)).text("div.answer").replace("\N{NO-BREAK SPACE}", " ")
        assert "0.500 (mean of 2 seeds; their 95 % intervals span 0.300 to 0.700)" in answer


class TestManyMethods:
    def test_long_tables_are_folded_and_long_lists_counted(self, tree, tmp_path, write):
        methods = [(f"network-{n}", "svm", "imagenet" if n > 9 else "untrained") for n in range(30)]
        instead = scored(scores(tmp_path, methods, ["by-patient"]))
        config = tree.arguments["config"]
        study = {**config["study"], "methods": [f"{name}+svm" for name, _, _ in methods]}
        entries = report_factory.replaced(without_tables(tree.arguments["entries"]), instead)
        written = write(entries=entries, config={**config, "study": study})
        summaries = written.text("summary")
        assert "The methods, 30 rows" in summaries
        assert "The table, 30 rows" in summaries
        assert "Networks with random weights are used by 10 methods." in written.text("div.banner")

    def test_short_ones_are_not(self, page):
        assert "The methods, " not in page.text("summary")
        assert "The table, " not in page.text("summary")


class TestContent:
    def test_excluded_slides_stand_with_their_reasons(self, page):
        excluded = page.text("table.stack")
        for name, status, reason in (
            ("slide-03", "unreadable", "Unsupported or missing image file"),
            ("slide-07", "file missing", "no file at data/slides/s07.svs"),
            ("slide-09", "no tissue", "Otsu found no tissue above saturation 0.05"),
        ):
            assert re.search(rf"{name} p\d\d {status} {reason}", excluded)
        assert "slide-05 41 tiles, 60 asked 2" in excluded

    def test_slides_say_their_resolution_and_where_it_comes_from(self, page):
        cards = page.text("figure.slide")
        assert "mpp 0.499 (objective power)" in cards
        assert "mpp 0.499 (sheet)" in cards
        assert "60 of 384 grid cells kept as tiles" in cards

    def test_what_ran_stands_with_versions_seeds_and_config(self, page):
        facts = page.text("dl")
        assert "1 (of the splits); master seed 2018" in facts
        assert "histotransfer 0.1.0, sklearn 1.9.1" in facts
        assert "0.1.0, 3fb3da0" in facts
        assert "weights: random" in page.text("pre")
        assert "C 0.01" in page.text("details")

    def test_intervals_say_what_they_are_over(self, page):
        legends = page.text("p.legend").replace("\N{NO-BREAK SPACE}", " ")
        assert "312 tiles; 95 % intervals from resampling 6 patients" in legends
        assert "312 tiles; 95 % intervals from resampling 312 tiles" in legends
        assert "6 slides; 95 % intervals from resampling 6 slides" in legends

    def test_an_undefined_value_says_why(self, page):
        assert "the held-out slides hold one class only" in page.text("ol.notes")

    def test_splits_count_groups_and_tiles(self, page):
        # 5 of the 8 patients train; the tile of each seven that has no label counts nowhere
        assert "train, fold 0 1 51 tiles 1 patient" in page.text("table")

    def test_the_files_are_listed_with_their_digests(self, page, tree):
        import hashlib

        [path] = tree.paths("scores", "scores")[:1]
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
        listed = page.text("table.stack")
        assert f"{path} collect_scores all scores of the study, with intervals {digest}" in listed

    def test_the_cost_page_says_what_each_method_costs(self, tree):
        run = Page(tree.run_arguments["page"])
        assert "What each method costs" in run.text("h2")
        [costs] = [entry for entry in tree.run_arguments["entries"] if entry.is_table]
        row = store.read_csv(costs.path)[-1]
        time, memory = duration(float(row["cpu_seconds"])), f"{float(row['peak_mb']) / 1024:.1f} GiB"
        disk = f"{int(row['disk_bytes']) / 2**30:.1f} GiB"
        said = f"{row['method']} {float(row['score']):.3f} 1.0 {time} 0.0 s {memory} {disk} {row['shared_with']}"
        assert said in run.text("table.numbers")
        assert "not measured" in run.text("table.numbers")

    def test_without_costs_of_methods_there_is_no_such_chapter(self, tree, tmp_path):
        entries = tree.run_arguments["entries"][:1]
        run_page.write_run_page(**{**tree.run_arguments, "page": tmp_path / "run.html", "entries": entries})
        assert "What each method costs" not in Page(tmp_path / "run.html").text()

    def test_the_cost_page_sums_up(self, tree):
        run = Page(tree.run_arguments["page"])
        assert run.text("div.answer").startswith("52 jobs took 5 min 16 s of wall time")
        assert "extract_features 2 2 min 47 s" in run.text("table.scores")
        assert "script" not in {tag for tag, _ in run.elements}


def table(path: Path, section: str, kind: str, **fields: str) -> Entry:
    """One table of a chapter."""
    return Entry(str(path), "some_rule", section, kind, **{"split": "by-patient", **fields})


def predicted(path: Path) -> Entry:
    """The predictions of one model."""
    return Entry(str(path), "train_classifier", "asked", "predictions")


class TestChapters:
    def test_chapters_stand_between_scores_and_confusion_matrices_and_are_numbered(self, page):
        contents = page.text("nav").replace(f"Every method {SCRIPT}", "Every method")
        assert contents.endswith(
            "6 Scores 7 Every method 8 Last layer features 9 Best score of each strategy "
            "10 Trained networks 11 Slides as maps 12 Inner layers 13 Where the information lies 14 Selected features "
            "15 Confusion matrices 16 Files behind this page Time and memory"
        )
        headings = page.text("h2").replace(f"Every method {SCRIPT}", "Every method")
        assert headings.startswith("1 What was asked")
        assert "6 Scores 7 Every method 8 Last layer features 9 Best score" in headings

    def test_without_comparisons_there_is_no_chapter_of_them(self, tree, write):
        written = write(entries=[one for one in tree.arguments["entries"] if one.section not in chapters.SECTIONS])
        assert written.text("nav").endswith("6 Scores 7 Confusion matrices 8 Files behind this page Time and memory")
        assert not [attrs for tag, attrs in written.elements if attrs.get("download")]

    def test_each_table_is_handed_out_as_it_lies_on_disk(self, page, tree):
        links = [attrs for tag, attrs in page.elements if tag == "a" and attrs.get("download")]
        paths = [entry.path for entry in tree.tables]
        assert len(links) == len(paths)
        contents = sorted(base64.b64decode(link["href"].removeprefix("data:text/csv;base64,")) for link in links)
        assert contents == sorted(Path(path).read_bytes() for path in paths)
        names = [link["download"] for link in links]
        assert len(set(names)) == len(names)
        assert names[0] == "every-method-ranks-by-patient.csv"

    def test_tables_are_listed_with_rule_and_digest(self, page, tree):
        import hashlib

        [path] = tree.paths("strategies", "strategies")
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
        holds = "each strategy's best score and the one that validation chooses"
        listed = page.text("table.stack")
        assert f"{path} tabulate_strategies {holds} {digest}" in listed
        digest = hashlib.sha256(Path(tree.paths("strategies", "friedman")[0]).read_bytes()).hexdigest()[:16]
        assert f"friedman_test whether strategies differ by more than chance {digest}" in listed

    def test_ranks_stand_with_their_scores_and_the_note(self, tmp_path, write):
        columns = ("method", "kind", "untrained", "average_rank", "d/t roc_auc", "d/t rank", "note")
        rows = [("a+svm", "libsvm", "no", 2.0, 0.91, 2.0, "e/u is left out"), ("b+svm", "libsvm", "yes", 1.0, 0.5, 1.0)]
        store.write_csv(tmp_path / "r.csv", columns, [dict(zip(columns, row, strict=False)) for row in rows])
        fields = {"comparison": "c", "caption": "A comparison"}
        written = write(table(tmp_path / "r.csv", "comparison", "ranks", **fields))
        text = written.text("table.numbers")
        assert text.startswith("Method Classifier average rank d/t ROC AUC d/t rank a+svm libsvm 2.00 0.910 2 b+svm")
        # the method and its three numbers
        assert text.endswith("untrained libsvm 1.00 untrained 0.500 untrained 1 untrained")
        assert "e/u is left out" in written.text("p.notes")

    def test_an_average_over_tasks_of_one_dataset_is_an_illustration(self, page):
        said = "Ranks are averaged over 2 tasks of nuclei, which share their tiles (an illustration)."
        assert said in page.text("p.legend")

    def test_differences_name_reference_and_unit(self, tmp_path, write):
        about = {"dataset": "d", "task": "t", "metric": "roc_auc", "method": "a+b", "reference": "mobilenet+svm"}
        row = about | {"difference": -0.0301, "low": -0.05, "high": 0.01, "groups": 6, "unit": "patient", "seeds": 3}
        store.write_csv(tmp_path / "d.csv", compared_tables.DIFFERENCE_COLUMNS, [row])
        found = scores(tmp_path, [("mobilenet", "svm", "untrained")], ["by-patient"])
        fields = {"comparison": "c", "caption": "A comparison"}
        written = write(scored(found), table(tmp_path / "d.csv", "comparison", "differences", **fields))
        text = written.text("table.numbers")
        assert "a+b d t ROC AUC −0.030 untrained −0.050 untrained +0.010 untrained 6 patient 3" in text
        assert "Score of each method minus that of mobilenet+svm" in written.text("p.legend")

    def test_strategies_mark_best_and_second_and_call_the_oracle_so(self, tmp_path, write):
        columns = (
            *("strategy", "dataset", "task", "metric", "oracle", "oracle_method", "chosen", "chosen_methods"),
            *("oracle_untrained", "chosen_untrained"),
        )
        rows = [
            ("merged", "d", "t", "accuracy", 0.9, "m+svm", 0.7, "m+svm (2 of 3 seeds), m+et (1 of 3)", "no", "yes"),
            ("last layer", "d", "t", "accuracy", 0.8, "a+svm", 0.8, "a+svm (3 of 3 seeds)", "no", "no"),
            ("baseline", "d", "t", "accuracy", None, "", None, "", "", ""),
            ("inner", "d", "t", "accuracy", 0.5, "i+svm", 0.5, "i+svm (3 of 3 seeds)", "no", "no"),
        ]
        rows = [{**dict(zip(columns, row, strict=True)), "variants": 2, "seeds": 3} for row in rows]
        store.write_csv(tmp_path / "s.csv", ranking.STRATEGY_COLUMNS, rows)
        written = write(table(tmp_path / "s.csv", "strategies", "strategies"))
        text = written.text("table.numbers")
        head = "d/t accuracy oracle: the best variant on the test set d/t accuracy the variant chosen by validation"
        assert head in text
        assert "merged 0.9000 0.7000 untrained last layer 0.8000 0.8000 baseline – – inner 0.5000 0.5000" in text
        assert written.text("td.best") == "0.9000 0.8000"
        assert written.text("td.second") == "0.7000 untrained 0.8000"
        assert "merged d t m+svm m+svm (2 of 3 seeds), m+et (1 of 3) 2 3" in text
        assert "No Friedman test: it takes ten datasets, and there are 8." in written.text("p.legend")

    def test_a_friedman_test_names_ranks_and_what_is_apart(self, tmp_path, write):
        said = {"tested": True, "sentence": "Friedman test of 3 strategies.", "different": [["a", "c"], ["b", "c"]]}
        store.write_json(tmp_path / "f.json", {**said, "average_ranks": {"a": 2.75, "b": 2.0, "c": 1.25}})
        written = write(Entry(str(tmp_path / "f.json"), "friedman_test", "strategies", "friedman", split="by-patient"))
        text = " ".join(written.text("p.legend").split())
        assert "Average ranks: a 2.75, b 2.00, c 1.25. Significant differences: a above c; b above c." in text

    def test_selections_from_an_untrained_network_are_marked(self, tmp_path, write):
        row = {"dataset": "d", "task": "t", "size": 3, "share": 0.5, "score": 0.75, "seeds": 1, "kept": 1}
        store.write_csv(tmp_path / "c.csv", list(row), [row])
        instead = table(tmp_path / "c.csv", "selection", "curve", features="few")
        found = scores(tmp_path, [("few", "et", "untrained")], ["by-patient"])
        assert "d t 3 50.0 % untrained 0.7500 untrained 1 1" in write(scored(found), instead).text("table.numbers")
        found = scores(tmp_path, [("few", "et", "imagenet")], ["by-patient"])
        assert "untrained" not in write(scored(found), instead).text("table.numbers")

    def test_layers_of_an_untrained_network_are_marked(self, tmp_path, write):
        row = {"dataset": "d", "task": "t", "layer": "block_1", "depth": 1, "features": 24, "metric": "accuracy"}
        row |= {"score": 0.75, "validation_metric": "roc_auc", "validation": 0.5, "seeds": 3, "chosen": 2}
        row |= {"untrained": "yes"}
        store.write_csv(tmp_path / "l.csv", list(row), [row])
        written = write(table(tmp_path / "l.csv", "layers", "layers", features="inner", classifier="svm"))
        assert "block_1 d t 1 24 accuracy 0.750 untrained 0.500 untrained 2 3" in written.text("table.numbers")
        assert "ROC AUC in the cross-validation inside the training data, by which" in written.text()

    def test_what_is_kept_and_shared_stands_in_tables(self, page):
        text = page.text("table.numbers")
        assert "cells tissue resnet50 1 2,048 90 4.4 % 0.9312 0.9271" in text
        assert "cells/tissue prostate/tissue resnet50 1 90 97 11 4.3 0.062 12.2 %" in text
        assert "resnet50 1 8 311 15.2 %" in text

    def test_of_log_loss_the_lowest_is_the_best(self, tree, tmp_path, write):
        path = tmp_path / "scores.tsv"
        methods = [("a", "svm", "imagenet"), ("b", "svm", "imagenet")]
        rows = report_factory.score_rows(["demo"], ["by-patient"], methods, [1])
        rows = [row for row in rows if row["metric"] in ("accuracy", "log_loss") and row["level"] == "tile"]
        for row in rows:
            low, high = {"a": (0.25, 0.5), "b": (0.75, 1.5)}[row["features"]]
            row |= {"value": low if row["metric"] == "accuracy" else high, "low": None, "high": None}
        store.write_table(path, report_factory.SCORE_COLUMNS, rows)
        entries = report_factory.replaced(without_tables(tree.arguments["entries"]), scored(path))
        written = write(entries=entries, metric="accuracy")
        table = next(part for part in written.source.split("<table")[1:] if ">log loss</th>" in part)
        assert re.findall(r"<b>(\d\.\d+)</b>", table) == ["0.750", "0.500"]
        assert "The best of each column is bold (for log loss, the lowest)." in written.text("p.legend")

    def test_a_table_of_another_kind_is_an_error(self, tmp_path, write):
        store.write_csv(tmp_path / "x.csv", ("a",), [{"a": 1}])
        with pytest.raises(ValueError, match=r"a table is one of comparison/ranks, .*; found layers/odd"):
            write(table(tmp_path / "x.csv", "layers", "odd"))
        with pytest.raises(ValueError, match=r"x\.csv: column .*k_min.* is missing; found a"):
            write(table(tmp_path / "x.csv", "selection", "kept"))


class TestTrainedNetworks:
    def test_each_network_stands_with_its_recipe_and_a_way_to_its_pictures(self, page):
        facts = page.text("dl.recipe")
        assert "Start MobileNetV2, up to out, ImageNet weights (network mobilenetv2)" in facts
        assert "Phase 1 the head alone, on features of the start, 5 epochs: SGD (momentum 0.9), rate 0.01" in facts
        assert "Trained on 1,190 to 1,210 tiles of nuclei/nucleus, split by-patient" in facts
        links = [attrs["href"] for tag, attrs in page.elements if tag == "a" and "#training-" in (attrs["href"] or "")]
        anchors = {attrs.get("id") for _, attrs in page.elements}
        assert len(links) == 4
        assert {link.removeprefix("#") for link in links} <= anchors

    def test_the_highest_point_of_a_test_curve_is_no_result(self, page, tree):
        [path] = tree.paths("training", "accuracy")
        row = next(row for row in store.read_csv(path) if row["network"] == "mobilenet-from-scratch")
        text = page.text("table.numbers")
        assert "at the epoch kept the result epoch kept highest point of the test curve chosen on the test set" in text
        numbers = " ".join(f"{float(row[name]):.3f}" for name in ("first_epoch", "last_epoch", "kept"))
        assert f"mobilenet-from-scratch nuclei/nucleus random weights {numbers}" in text
        assert f"of 10 {float(row['highest']):.3f}" in text
        assert "The highest point of a test curve is no result: it is chosen on the test set" in page.text("p.legend")

    def test_long_tables_are_files_alone(self, page, tree):
        rows = len(store.read_csv(tree.paths("training", "steps")[0]))
        assert rows > 1000
        assert f"The numbers, {rows:,} rows" not in page.text("summary")
        downloads = {attrs["download"] for tag, attrs in page.elements if tag == "a" and attrs.get("download")}
        assert {f"training-{kind}-by-patient.csv" for kind in ("accuracy", "epochs", "steps")} <= downloads

    def test_an_untrained_network_is_marked(self, tree, tmp_path, write):
        [path] = tree.paths("training", "accuracy")
        rows = [row | {"untrained": "yes", "network": "blank"} for row in store.read_csv(path)[:1]]
        store.write_csv(tmp_path / "a.csv", list(rows[0]), rows)
        text = write(table(tmp_path / "a.csv", "training", "accuracy")).text("table.numbers")
        shown = " ".join(f"{float(rows[0][name]):.3f} untrained" for name in ("first_epoch", "last_epoch", "kept"))
        assert f"blank untrained nuclei/nucleus trained weights {shown}" in text

    def test_where_a_network_saw_the_labels_inner_scores_are_called_too_high(self, tree, tmp_path, write):
        path = tmp_path / "predictions.h5"
        about = {"dataset": "demo", "task": "tissue", "split": "by-patient", "seed": 1, "untrained": False}
        report_factory.write_predictions(path, **about, features="fine.block_1", classifier="svm", saw_labels=True)
        row = {"dataset": "d", "task": "t", "layer": "block_1", "depth": 1, "features": 24, "metric": "accuracy"}
        row |= {"score": 0.75, "validation_metric": "accuracy", "validation": 0.9, "seeds": 3, "chosen": 2}
        store.write_csv(tmp_path / "l.csv", list(row), [row])
        instead = table(tmp_path / "l.csv", "layers", "layers", features="fine", classifier="svm")
        others = chosen(tree.arguments["entries"], "asked", "predictions")
        written = write(*others, predicted(path), instead)
        said = (
            "Inner cross-validation is optimistic for fine.block_1+svm. The network that extracts these features was "
            "trained on the same tiles, so it has seen the labels of every fold."
        )
        assert said in written.text("p.notes")
        assert "Scores of inner cross-validation are too high here" in written.text("p.notes")
        without = write(instead)
        assert "too high" not in without.text("p.notes")
        assert "optimistic for" not in without.text()

    def test_a_selection_on_features_that_saw_the_labels_is_too_good(self, tree, tmp_path, write):
        path = tmp_path / "predictions.h5"
        about = {"dataset": "d", "task": "t", "split": "by-patient", "seed": 1, "untrained": False}
        report_factory.write_predictions(path, **about, features="few", classifier="et", saw_labels=True)
        row = {"dataset": "d", "task": "t", "size": 3, "share": 0.5, "score": 0.75, "seeds": 1, "kept": 1}
        store.write_csv(tmp_path / "c.csv", list(row), [row])
        instead = table(tmp_path / "c.csv", "selection", "curve", features="few")
        written = write(predicted(path), instead)
        assert written.text("p.notes").count("Scores of inner cross-validation are too high here") == 1

    def test_predictions_stand_with_the_rule_that_makes_them(self, tmp_path, write):
        rules = ("train_classifier", "choose_layer", "attach_head", "train_network", "train_unet", "train_end_to_end")
        instead = []
        for rule in rules:
            path = tmp_path / f"{rule}.h5"
            report_factory.write_predictions(path, features="fine", classifier="any", chosen={"epoch": 3})
            instead.append(Entry(str(path), rule, "asked", "predictions"))
        listed = write(*instead).text("table.stack")
        for entry in instead:
            assert f"{entry.path} {entry.rule} what a model predicts for the tiles held out" in listed


def tables_of_maps(tree, kind: str) -> list[list[dict[str, str]]]:
    """Rows of the tables of maps of that kind, one a split."""
    return [store.read_csv(path) for path in tree.paths("maps", kind)]


class TestSlidesAsMaps:
    def test_each_method_is_told_in_a_sentence(self, page):
        facts = page.text("dl.methods")
        assert "extractor+softmax Classifier only: extractor judges each tile by itself" in facts
        assert "reduced until a tile is 32 x 32 pixels. It sees the context" in facts
        assert "map of the features of googlenet, which no tile of this task has trained." in facts
        assert "learns from the map of its vectors (layer head_1 of extractor)" in facts
        assert "begins with the weights of extractor and of vectors+unet, and trains both together" in facts

    def test_methods_stand_with_mean_and_spread_and_untrained_ones_are_marked(self, page, tree):
        text = page.text("table.numbers")
        for row in tables_of_maps(tree, "methods")[0]:
            mark = " untrained" if row["untrained"] == "yes" else ""
            shown = [f"{float(row[name]):.3f} ± {float(row[name + '_sd']):.3f}" for name in ("accuracy", "pr_auc")]
            shown.append(f"{float(row['isolated_tiles']):.1f} ± {float(row['isolated_tiles_sd']):.1f}")
            shown.append(f"{float(row['isolated_regions']):.1f}")
            numbers = " ".join(one + mark for one in shown)
            assert f"{row['method']}{mark} demo/tumour {numbers} 2 {int(row['tiles']):,}" in text

    def test_the_fewest_isolated_tiles_are_the_best(self, tree, tmp_path, write):
        rows = [
            row | {"isolated_tiles": k, "isolated_tiles_sd": ""}
            for k, row in enumerate(tables_of_maps(tree, "methods")[0])
        ]
        rows = [row | {"accuracy": 0.5, "accuracy_sd": "", "pr_auc": ""} for row in rows]
        store.write_csv(tmp_path / "m.csv", list(rows[0]), rows)
        written = write(table(tmp_path / "m.csv", "maps", "methods"))
        # equal methods are all the best, and none is second
        assert written.text("td.best") == "0.500 0.0 0.500 0.500 untrained 0.500 0.500"
        assert written.text("td.second") == "1.0"

    def test_isolated_tiles_stand_seed_by_seed(self, page, tree):
        row = tables_of_maps(tree, "points")[0][0]
        numbers = " ".join(row[name] for name in ("missed_tiles", "false_tiles", "isolated_tiles", "isolated_regions"))
        assert f"{row['method']} demo/tumour 1 7 {int(row['tiles']):,} {row['positive_tiles']} {numbers}" in page.text(
            "table.numbers"
        )

    def test_a_split_that_is_not_by_patient_is_called_so_where_its_maps_stand(self, page):
        source = page.source[page.source.index('<h2 id="maps">') : page.source.index('<h2 id="layers">')]
        [of_patients, of_tiles] = re.split(r"<h3>split at-random", source)
        badge = "split by tile, not by patient"
        assert badge not in of_patients
        # at the head of the split, and at its figure; the table of stages has a row a split
        assert of_tiles.count(f'<span class="badge">{badge}</span>') == 2
        assert page.text("table.numbers").count("at-random (by tile, not by patient)") == 4

    def test_maps_of_the_first_seed_stand_open_and_those_of_others_folded(self, page):
        assert page.text("h4").count("demo, tumour, seed 1: maps side by side") == 2
        assert page.text("summary").count("The same, seed 2") == 2
        assert "tumour, split by-patient, seed 2: 6 of 7 test slides" in page.text("details")

    def test_what_is_cut_off_is_named_by_the_slide_s_own_name(self, page):
        said = f"1 piece of 7 is larger than the canvas, on 1 slide: {LONG}. What is cut off, 6 tiles in all, trains no"
        assert said in page.text("p.legend")
        shown = f"{LONG} demo 1 288 32 6 tissue-image+unet-image, googlenet+unet, vectors+unet"
        assert shown in page.text("table.numbers")

    def test_nothing_cut_off_is_said_too(self, tmp_path, write):
        columns = ("dataset", "image", "piece", "tiles", "canvas", "cut_off", "methods")
        store.write_csv(
            tmp_path / "c.csv", columns, [dict(zip(columns, ("demo", "s00", 1, 9, 32, 0, "a+b"), strict=True))]
        )
        written = write(table(tmp_path / "c.csv", "maps", "canvases", split=""))
        assert "What canvases cut off : each of 1 piece of tissue lies whole on its canvas." in written.text("p.legend")

    def test_what_steps_moved_is_said_by_group(self, page):
        said = (
            "a step moves on average 0.31 % of the weights of the extractor of vectors+end-to-end on demo/tumour; 42 %"
        )
        assert said in page.text("p.legend")
        # the last of two epochs: twice what one moved
        numbers = "extractor 6,000,000 0.31 % 0.155 % to 0.465 % 0.62 % 2 2"
        assert f"vectors+end-to-end demo/tumour {numbers}" in page.text("table.numbers")

    def test_map_files_are_listed_with_their_folders_and_indexes(self, page, tree):
        listed = page.text("table.stack")
        for path in tree.paths("maps", "index"):
            assert f"{path} write_maps names 28 files of maps with their SHA-256" in listed
            files = [file for slide in store.read_json(path)["slides"] for file in slide["files"]]
            size = sum(file["bytes"] for file in files) / 2**20
            assert f"demo/tumour 2 7 {size:.1f} MiB {path.removesuffix('.json')}/" in listed

    def test_annotations_stand_with_slide_names(self, page):
        cards = page.text("figure.slide")
        assert f"{EMOJI} 23 tiles tumour, 301 normal, 20 without label" in cards
        assert "demo, tumour: annotations and labels of tiles" in page.text("h3")

    def test_stages_stand_with_intervals_and_notes(self, page):
        row = "vectors+end-to-end demo/tumour, by-patient 2 0.700 (0.300 to 0.800) 0.700 (0.600 to 0.800) 20 1 100"
        assert row in page.text("table.numbers")
        assert "1 slide is missing: extractor+softmax, vectors+end-to-end" in page.text("p.notes")
        assert "Patients without a stage, with the reason" in page.text("p.legend")
        assert "demo tumour by-patient p07 3 of 5 slides 4" in page.text("table.numbers")
        assert "how the stages of patients agree with the truth" in page.text("table.stack")

    def test_nobody_left_out_is_said_too(self, tmp_path, write):
        store.write_csv(tmp_path / "l.csv", ("patient", "reason"), [])
        written = write(table(tmp_path / "l.csv", "staging", "left_out"))
        assert "Patients without a stage, with the reason : none." in written.text("p.legend")

    def test_another_table_of_staging_is_shown_as_it_is(self, tmp_path, write):
        rows = [
            {"patient": "p<1>", "true": "pN0", "kappa": 0.51239, "slides": 5, "untrained": "yes", "note": "one left"}
        ]
        store.write_csv(tmp_path / "x.csv", list(rows[0]), rows)
        fields = {"caption": "Patients", "words": "all of them."}
        written = write(table(tmp_path / "x.csv", "staging", "anything", **fields))
        assert "Patients : all of them." in written.text("p.legend")
        shown = "patient true kappa slides p<1> untrained pN0 0.512 untrained 5 untrained"
        assert shown in written.text("table.numbers")
        assert "one left" in written.text("p.notes")
        assert f"{tmp_path / 'x.csv'} some_rule Patients" in written.text("table.stack")

    def test_a_table_that_lacks_a_column_or_is_of_no_kind(self, tmp_path, write):
        store.write_csv(tmp_path / "x.csv", ("a",), [{"a": 1}])
        for kind in ("methods", "points", "canvases", "moved"):
            with pytest.raises(ValueError, match=r"x\.csv: column .*dataset.* is missing; found a"):
                write(table(tmp_path / "x.csv", "maps", kind))
        with pytest.raises(ValueError, match=r"a table is one of .*, maps/methods, .*; found maps/odd"):
            write(table(tmp_path / "x.csv", "maps", "odd"))


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Browser]:
    if browser.find() is None:
        pytest.skip(f"no browser is installed: none of {', '.join(browser.NAMES)}")
    with browser.running() as running:
        yield running


# Every element that is wider than its box, or reaches out of the window, unless it may scroll or is there for
# screen readers alone.
OVERFLOWING = """(() => {
  for (const details of document.querySelectorAll('details')) details.open = true;
  const root = document.documentElement, found = [];
  if (root.scrollWidth > root.clientWidth) found.push(`page ${root.scrollWidth} > ${root.clientWidth}`);
  for (const one of document.body.querySelectorAll('*')) {
    const style = getComputedStyle(one), box = one.getBoundingClientRect();
    const head = one.closest('thead');
    if (head && getComputedStyle(head).clipPath !== 'none' || !box.width || !box.height) continue;
    const scrolls = ['auto', 'scroll'].includes(style.overflowX);
    const name = `${one.tagName}.${one.className}: ${one.textContent.trim().slice(0, 60)}`;
    if (!scrolls && one.clientWidth && one.scrollWidth > one.clientWidth + 1) found.push(`wide ${name}`);
    if (!one.parentElement.closest('.scroll') && box.right > root.clientWidth + 1) found.push(`out ${name}`);
  }
  return found;
})()"""

NOT_LOADED = """[...document.images].filter(one => !one.complete || !one.naturalWidth).map(one => one.alt)"""

# Texts of a chart that reach out of it, and pairs that cover each other.
CHART_FAULTS = """(() => {
  const frame = document.documentElement.getBoundingClientRect(), found = [];
  const texts = [...document.querySelectorAll('text')].map(one => [one.textContent, one.getBoundingClientRect()]);
  for (const [text, box] of texts) {
    const across = box.left < frame.left - 1 || box.right > frame.right + 1;
    if (across || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) found.push(`cut: ${text}`);
  }
  texts.forEach(([text, a], index) => { for (const [other, b] of texts.slice(0, index)) {
    const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (width > 1.5 && height > 0.45 * Math.min(a.height, b.height)) found.push(`covered: ${text} / ${other}`);
  }});
  return found;
})()"""


@pytest.mark.browser
class TestInBrowser:
    @pytest.mark.parametrize("width", [1280, 390])
    @pytest.mark.parametrize("which", ["arguments", "run_arguments"])
    def test_opens_quietly_and_nothing_is_cut_off(self, tree, tab, which, width):
        address = Path(getattr(tree, which)["page"]).as_uri()
        tab.open(address, width=width, phone=width < 600)
        assert tab.evaluate(OVERFLOWING) == []
        assert tab.evaluate(NOT_LOADED) == []
        figures = [entry for entry in getattr(tree, which)["entries"] if entry.is_figure]
        assert tab.evaluate("document.images.length") == len(figures)
        assert tab.evaluate("document.scripts.length") == 0
        assert tab.complaints() == []
        requests = tab.requests()
        assert requests[0] == address
        assert [asked for asked in requests[1:] if not asked.startswith("data:")] == []

    def test_a_table_can_be_saved_under_the_page_s_own_policy(self, tree, tab, tmp_path):
        tab.open(Path(tree.arguments["page"]).as_uri(), width=1280)
        saved = tab.download("document.querySelector('a[download$=\"ranks-by-patient.csv\"]').click()", tmp_path)
        of = {"comparison": "every-method", "split": "by-patient"}
        [path] = [path for path in tree.paths("comparison", "ranks", **of) if path.endswith(".csv")]
        assert saved == {"every-method-ranks-by-patient.csv": Path(path).read_bytes()}
        assert tab.complaints() == []

    def test_a_table_can_be_copied_without_its_marks(self, tree, tab):
        tab.open(Path(tree.arguments["page"]).as_uri(), width=1280)
        copied = tab.evaluate(
            """(() => {
              for (const details of document.querySelectorAll('details')) details.open = true;
              const table = document.querySelector('#comparison-1 ~ details table');
              getSelection().selectAllChildren(table);
              return getSelection().toString();
            })()"""
        )
        line = next(line for line in copied.splitlines() if line.startswith("vgg19+svm "))
        assert re.fullmatch(r"vgg19\+svm untrained\tlibsvm\t\d\.\d\d(\t0\.\d{3}\t\d+){8}", line)

    @pytest.mark.parametrize(("n", "sizes"), [(30, (1, 2, 3, 8)), (100, (2,))])
    def test_charts_of_comparisons_hold_many_methods(self, tab, tmp_path, n, sizes):
        tasks = comparison_factory.PAPER_TASKS
        ranks = comparison_factory.write_ranks(tmp_path / "ranks.csv", n)
        about = {"title": "A comparison " * 12, "split": "x" * 90}
        rank_figures.draw_ranks(ranks=ranks, figure=tmp_path / "ranks.svg", **about)
        alone = comparison_factory.write_ranks(tmp_path / "ranks-1.csv", n, tasks[:1], note="left out: " + "x" * 300)
        rank_figures.draw_ranks(ranks=alone, figure=tmp_path / "ranks-1.svg", **about)
        for k in sizes:
            table = comparison_factory.write_differences(tmp_path / "d.csv", n, tasks[:k])
            rank_figures.draw_differences(table=table, figure=tmp_path / f"differences-{k}.svg")
            table = comparison_factory.write_layers(tmp_path / "l.csv", 44 if n < 50 else 4, tasks[:k])
            layer_figures.draw_layers(table=table, figure=tmp_path / f"layers-{k}.svg")
            table = comparison_factory.write_selection(tmp_path / "s.csv", tasks[:k], 9600 // k)
            layer_figures.draw_selection(table=table, figure=tmp_path / f"selection-{k}.svg")
        costs = comparison_factory.write_method_costs(tmp_path / "c.csv", n)
        method_cost_figure.draw_method_costs(table=costs, figure=tmp_path / "costs.svg")
        charts = sorted(tmp_path.glob("*.svg"))
        assert len(charts) == 3 + 3 * len(sizes)
        for path in charts:
            tab.open(path.as_uri(), width=600)
            assert (path.name, tab.evaluate(CHART_FAULTS)) == (path.name, [])

    def test_no_text_of_a_chart_is_cut_off_or_covered(self, tree, tab):
        entries = (*tree.arguments["entries"], *tree.run_arguments["entries"])
        charts = [entry.path for entry in entries if entry.path.endswith(".svg")]
        assert len(charts) > 10
        for path in charts:
            tab.open(Path(path).as_uri(), width=600)
            assert (path, tab.evaluate(CHART_FAULTS)) == (path, [])

    def test_charts_hold_many_methods_and_classes(self, tab, tmp_path):
        from histotransfer.figures import score_figures

        networks = [("resnet50", "imagenet"), ("x" * 60, "imagenet"), ("mobilenetv2-narrow", "untrained")]
        names = ("svm", "svm-one-vs-rest", "perceptron", "extratrees", *(f"other-{n}" for n in range(6)))
        methods = [(network, classifier, weights) for network, weights in networks for classifier in names]
        score_figures.draw_scores(
            scores=scores(tmp_path, methods, ["by-patient"], seeds=(1, 2)),
            figure=tmp_path / "scores.svg",
            **{"dataset": "demo", "task": "tissue", "split": "by-patient", "metric": "balanced_accuracy"},
        )
        sizes = (2, 4, 5, 9, 24)
        about = {"features": "resnet50", "classifier": "svm", "seed": 1, "untrained": True}
        report_factory.write_predictions(tmp_path / "predictions.h5", **about)
        for n in sizes:
            classes = [f"class {k} of some tissue"[: 10 + 4 * (k % 4)].strip() for k in range(n)]
            report_factory.write_confusion(tmp_path / f"{n}.tsv", classes, n)
        score_figures.draw_confusion(
            confusions=[tmp_path / f"{n}.tsv" for n in sizes],
            predictions=[tmp_path / "predictions.h5"] * len(sizes),
            figures=[tmp_path / f"{n}.svg" for n in sizes],
        )
        for path in sorted(tmp_path.glob("*.svg")):
            tab.open(path.as_uri(), width=600)
            assert (path.name, tab.evaluate(CHART_FAULTS)) == (path.name, [])

    def test_the_checks_find_faults(self, tab, tmp_path):
        page = tmp_path / "bad.html"
        page.write_text(
            "<!DOCTYPE html><meta name=viewport content='width=device-width'><body>"
            "<p style='white-space: nowrap'>" + "far too wide " * 40 + "</p>"
            "<img src='absent.png' alt='absent' width=5 height=5><script>console.error('wrong')</script>"
        )
        tab.open(page.as_uri(), width=390, phone=True)
        assert [fault.split()[0] for fault in tab.evaluate(OVERFLOWING)] == ["page", "wide"]
        assert tab.evaluate(NOT_LOADED) == ["absent"]
        assert "console.error" in tab.complaints()
        assert [Path(asked).name for asked in tab.requests()] == ["bad.html", "absent.png"]
        chart = tmp_path / "bad.svg"
        text = "<text x='{}' y='20' font-size='12'>{}</text>"
        chart.write_text(
            "<svg xmlns='http://www.w3.org/2000/svg' width='100' height='40' viewBox='0 0 100 40'>"
            + text.format(10, "one")
            + text.format(12, "two")
            + text.format(90, "three")
            + "</svg>"
        )
        tab.open(chart.as_uri(), width=390)
        assert tab.evaluate(CHART_FAULTS) == ["cut: three", "covered: two / one"]
