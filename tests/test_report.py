from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import browser
import pytest
import report_factory
from report_factory import EMOJI, LONG, SCRIPT

from histotransfer import report, store


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
    report.write_report(**made.arguments)
    report.write_run_page(**made.run_arguments)
    return made


@pytest.fixture(scope="module")
def page(tree) -> Page:
    return Page(tree.arguments["page"])


@pytest.fixture
def write(tree, tmp_path):
    """Write the page anew with some arguments changed."""

    def written(**changed) -> Page:
        arguments = {**tree.arguments, "page": tmp_path / "report.html", **changed}
        report.write_report(**arguments)
        return Page(arguments["page"])

    return written


def scores(tmp_path: Path, methods: list[tuple[str, str, str]], splits: list[str], seeds=(1,)) -> Path:
    path = tmp_path / "scores.tsv"
    rows = report_factory.score_rows(["demo"], splits, methods, list(seeds))
    store.write_table(path, report_factory.SCORE_COLUMNS, rows)
    return path


class TestOneFile:
    def test_asks_nothing_outside_and_runs_nothing(self, page):
        assert "script" not in {tag for tag, _ in page.elements}
        assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
        sources = [attrs["src"] for tag, attrs in page.elements if tag == "img"]
        assert sources
        assert all(source.startswith("data:image/") for source in sources)
        links = {attrs["href"] for tag, attrs in page.elements if tag in ("a", "link")}
        assert {link for link in links if not link.startswith("#")} == {"data:,", "run.html"}
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
        for path, about in zip(tree.arguments["figures"], tree.arguments["figures_of"], strict=True):
            assert path in captions
            assert path in listed
            assert about["rule"] in listed
        for name in ("slides_tables", "split_counts", "predictions", "descriptions"):
            assert all(path in listed for path in tree.arguments[name])

    def test_lists_that_go_together_must_be_equally_long(self, write):
        with pytest.raises(ValueError, match="figures and figures_of go together; found 0 and"):
            write(figures=[])
        with pytest.raises(ValueError, match="slides_tables and datasets go together; found 0 and 2"):
            write(slides_tables=[])


class TestWhatIsSaidFirst:
    def test_the_reason_for_sharing_groups_stands_before_everything(self, page):
        text = page.text()
        reason = text.index("“the paper splits nuclei at random")
        assert reason < text.index("holds out by tile and not by patient")
        assert reason < text.index("Untrained network: these numbers say nothing about transfer.")
        assert reason < text.index("Highest balanced accuracy")

    def test_a_unit_other_than_patients_stands_beside_every_table_of_its_split(self, page):
        headings = re.findall(r"<h3[^>]*>([^<]*at-random[^<]*)(<span class=\"badge\">[^<]*</span>)?", page.source)
        assert len(headings) == 6
        assert {badge for _, badge in headings} == {'<span class="badge">split by tile, not by patient</span>'}

    def test_nothing_is_said_where_patients_are_held_apart_and_networks_trained(self, tmp_path, write):
        written = write(scores=scores(tmp_path, [("resnet50", "svm", "imagenet")], ["by-patient"]))
        assert written.text("div.banner") == ""
        assert "untrained" not in written.text("table.scores")

    def test_every_number_of_an_untrained_network_is_marked(self, tmp_path, write):
        methods = [("resnet50", "svm", "imagenet"), ("mobilenet", "svm", "untrained")]
        written = write(scores=scores(tmp_path, methods, ["by-patient"]))
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
        answer = write(scores=path).text("div.answer").replace("\N{NO-BREAK SPACE}", " ")
        assert answer.startswith(
            "The highest balanced accuracy of tiles is 0.900 (95 % interval 0.700 to 0.950) by a+svm , on 6 patients "
            "held out. The interval of the other method lies below it."
        )
        assert "Of slides (mean probability of their tiles) it is 0.900" in answer

    def test_several_seeds_give_a_mean(self, tmp_path, write):
        path = tmp_path / "scores.tsv"
        rows = report_factory.score_rows(["demo"], ["by-patient"], [("a", "svm", "imagenet")], [1, 2])
        for row in rows:
            value = {1: 0.4, 2: 0.6}[row["seed"]]
            row |= {"value": value, "low": value - 0.1, "high": value + 0.1}
        store.write_table(path, report_factory.SCORE_COLUMNS, rows)
        answer = write(scores=path).text("div.answer").replace("\N{NO-BREAK SPACE}", " ")
        assert "0.500 (mean of 2 seeds; their 95 % intervals span 0.300 to 0.700)" in answer


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

        digest = hashlib.sha256(Path(tree.arguments["scores"]).read_bytes()).hexdigest()[:16]
        assert (
            f"{tree.arguments['scores']} collect_scores all scores of the study, with intervals {digest}"
            in page.text("table.stack")
        )

    def test_the_cost_page_sums_up(self, tree):
        run = Page(tree.run_arguments["page"])
        assert run.text("div.answer").startswith("52 jobs took 5 min 16 s of wall time")
        assert "extract_features 2 2 min 47 s" in run.text("table.scores")
        assert "script" not in {tag for tag, _ in run.elements}

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [
            (0.04, "0.0 s"),
            (59.9, "59.9 s"),
            (59.96, "1 min 00 s"),
            (125, "2 min 05 s"),
            (3600, "1 h 00 min"),
            (11250, "3 h 08 min"),
        ],
    )
    def test_durations(self, seconds, said):
        assert report.duration(seconds) == said


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
        assert tab.evaluate("document.images.length") == (len(getattr(tree, which)["figures"]))
        assert tab.evaluate("document.scripts.length") == 0
        assert tab.complaints() == []
        requests = tab.requests()
        assert requests[0] == address
        assert [asked for asked in requests[1:] if not asked.startswith("data:")] == []

    def test_no_text_of_a_chart_is_cut_off_or_covered(self, tree, tab):
        charts = [
            path for path in (*tree.arguments["figures"], *tree.run_arguments["figures"]) if path.endswith(".svg")
        ]
        assert len(charts) > 10
        for path in charts:
            tab.open(Path(path).as_uri(), width=600)
            assert (path, tab.evaluate(CHART_FAULTS)) == (path, [])

    def test_charts_hold_many_methods_and_classes(self, tab, tmp_path):
        from histotransfer import score_figures

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
