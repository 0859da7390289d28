"""Which images are in the study: every one asked for has a row, and a reason if it is not used."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import slide_factory

from histotransfer import store
from histotransfer.cohort import cohort
from histotransfer.sheets import samples

HEADER = (
    "image\timage_in_sheet\tslide\tpatient\tlabels\tsplit\tstatus\treason\ttiles\texcluded_tiles\tnotice\tstands_for\n"
)


# slides


class Slides:
    """Files of slides as the stages before write them."""

    def __init__(self, folder):
        self.folder = folder
        self.descriptions, self.grids, self.rows = [], [], {}

    def add(self, slide, status="ok", reason="", *, tiles=3, label="tumour", notice="", **row):
        """Add a slide with so many kept tiles and one of background."""
        description, grid = self.folder / f"{slide}.json", self.folder / f"{slide}.h5"
        store.write_json(description, {"slide": slide, "image_in_sheet": slide.upper(), "status": status})
        n = tiles + 1 if status == "ok" else 0
        with store.writing_hdf5(grid, {"slide": slide, "status": status, "reason": reason, "notice": notice}) as file:
            for name in ("col", "row", "l0_x", "l0_y"):
                file[name] = np.arange(n)
            file["status"] = np.array([1] + [0] * tiles if n else [], np.uint8)
        self.descriptions.append(str(description))
        self.grids.append(str(grid))
        self.rows[slide] = {"slide": f"block {slide}", "patient": f"p-{slide}", "label": label, "split": "", **row}

    def pixel_file(self, slide, px, status="ok", reason=""):
        path = self.folder / f"{px}-{slide}.h5"
        with store.writing_hdf5(path, {"slide": slide, "status": status, "reason": reason}):
            pass
        return str(path)

    def manifest(self, name, *entries):
        path = self.folder / f"{name}.json"
        keys = ("slide", "status", "reason")
        store.write_json(path, {"slides": [dict(zip(keys, entry, strict=True)) for entry in entries]})
        return str(path)

    def gather(self, cut=(), on_bad_slide="exclude"):
        cohort.gather_slides(
            descriptions=self.descriptions,
            grids=self.grids,
            cut=list(cut),
            slides_table=str(self.folder / "slides.tsv"),
            sheet_rows=self.rows,
            on_bad_slide=on_bad_slide,
        )
        return store.read_table(self.folder / "slides.tsv")


@pytest.fixture
def given(tmp_path):
    return Slides(tmp_path)


@pytest.fixture
def mixed(given):
    """Two slides that can be used, and one each that cannot for every reason."""
    given.add("a", notice="3 tiles, 60 asked")
    given.add("b", "missing", "no file at b.svs")
    given.add("c", "unreadable", "Unsupported or missing image file")
    given.add("d", label="", split="test")
    given.add("e", "no mpp", "the file states neither")
    given.add("f", "mpp conflict", "the file states two")
    given.add("g", "no tissue", "no region above")
    return given


def test_the_table_of_slides(mixed):
    mixed.gather()
    assert (mixed.folder / "slides.tsv").read_text("utf-8") == HEADER + (
        'a\tA\tblock a\tp-a\t"{""tumour"": 3}"\t\tok\t\t3\t0\t3 tiles, 60 asked\t1\n'
        'b\tB\tblock b\tp-b\t"{""tumour"": 0}"\t\tmissing\tno file at b.svs\t0\t0\t\t1\n'
        'c\tC\tblock c\tp-c\t"{""tumour"": 0}"\t\tunreadable\tUnsupported or missing image file\t0\t0\t\t1\n'
        "d\tD\tblock d\tp-d\t{}\ttest\tok\t\t3\t0\t\t1\n"
        'e\tE\tblock e\tp-e\t"{""tumour"": 0}"\t\tno mpp\tthe file states neither\t0\t0\t\t1\n'
        'f\tF\tblock f\tp-f\t"{""tumour"": 0}"\t\tmpp conflict\tthe file states two\t0\t0\t\t1\n'
        'g\tG\tblock g\tp-g\t"{""tumour"": 0}"\t\tno tissue\tno region above\t0\t0\t\t1\n'
    )


def test_the_run_is_summed_up_in_one_line(mixed, caplog):
    caplog.set_level(logging.INFO, logger="histotransfer")
    mixed.gather()
    assert [record.message for record in caplog.records] == [
        "2 of 7 images are used; excluded: 1 missing, 1 mpp conflict, 1 no mpp, 1 no tissue, 1 unreadable, "
        "see slides.tsv and the report"
    ]


def test_a_run_without_bad_slides_says_only_that(given, caplog):
    caplog.set_level(logging.DEBUG, logger="histotransfer")
    given.add("a")
    assert given.gather(on_bad_slide="fail")[0]["status"] == "ok"
    assert [record.message for record in caplog.records] == ["1 of 1 images are used"]


def test_fail_names_every_bad_slide_at_once_and_writes_no_table(mixed):
    with pytest.raises(cohort.ExcludedSlidesError) as caught:
        mixed.gather(on_bad_slide="fail")
    assert str(caught.value).splitlines() == [
        "2 of 7 images are used; excluded: 1 missing, 1 mpp conflict, 1 no mpp, 1 no tissue, 1 unreadable "
        "(on_bad_slide: fail)",
        "  B: missing: no file at b.svs",
        "  C: unreadable: Unsupported or missing image file",
        "  E: no mpp: the file states neither",
        "  F: mpp conflict: the file states two",
        "  G: no tissue: no region above",
    ]
    assert isinstance(caught.value, ValueError)
    assert not (mixed.folder / "slides.tsv").exists()


def test_without_any_slide_left_the_run_stops_in_any_case(given):
    given.add("a", "missing", "no file at a.svs")
    given.add("b", "missing", "no file at b.svs")
    with pytest.raises(
        cohort.ExcludedSlidesError, match=r"^no image is left: 0 of 2 images are used; excluded: 2 miss"
    ):
        given.gather()


def late(given):
    """Three slides of which the second breaks when its pixels are read; ways in which that is told."""
    for slide in "abc":
        given.add(slide, notice="few")
    failed = ("b", "unreadable", "Not a JPEG file")
    fine = [("a", "ok", ""), ("c", "ok", "")]
    return {
        "one size of two": [
            *[given.pixel_file(slide, 224, status, reason) for slide, status, reason in [*fine, ("b", "ok", "")]],
            *[given.pixel_file(slide, 299, status, reason) for slide, status, reason in [*fine, failed]],
        ],
        "the first of two": [
            *[given.pixel_file(slide, 32, status, reason) for slide, status, reason in [*fine, failed]],
            *[given.pixel_file(slide, 96, status, reason) for slide, status, reason in [*fine, ("b", "ok", "")]],
        ],
        "a manifest": [given.manifest("net-0", fine[0]), given.manifest("net-1", failed, fine[1])],
        "one network of two": [
            *[
                given.manifest("one-0", fine[0], ("b", "ok", ""), fine[1]),
                given.manifest("two-0", fine[0], failed, fine[1]),
            ]
        ],
    }


@pytest.mark.parametrize("way", ["one size of two", "the first of two", "a manifest", "one network of two"])
def test_a_slide_that_breaks_later_is_in_no_method(given, way):
    cut = late(given)[way]
    assert [(row["image"], row["status"], row["reason"], row["tiles"]) for row in given.gather(cut)] == [
        ("a", "ok", "", "3"),
        ("b", "unreadable", "Not a JPEG file", "0"),
        ("c", "ok", "", "3"),
    ]
    with pytest.raises(cohort.ExcludedSlidesError, match=r"2 of 3 .*\n  B: unreadable: Not a JPEG file$"):
        given.gather(cut, on_bad_slide="fail")


def test_what_is_known_before_the_pixels_stays_the_reason(given):
    given.add("a")
    given.add("b", "no tissue", "no region above")
    cut = [given.pixel_file("a", 224), given.pixel_file("b", 224, "no tissue", "no region above, it says")]
    assert given.gather(cut)[1]["reason"] == "no region above"


# tables of patches and points


ROWS = [
    {"tile": "t1", "path": "1.png", "image": "i2", "slide": "s", "patient": "p1", "label": "x", "split": "train"},
    {"tile": "t2", "path": "2.png", "image": "i2", "slide": "s", "patient": "p1", "label": "y", "split": "train"},
    {"tile": "t3", "path": "3.png", "image": "i2", "slide": "s", "patient": "p1", "label": "x", "split": "train"},
    {"tile": "t4", "path": "4.png", "image": "i1", "patient": "p2", "label": ""},
    {"tile": "t5", "path": "5.png", "image": "i3", "patient": "p3", "label": "y"},
    {"tile": "t6", "path": "6.png", "image": "i3", "patient": "p3", "label": "y"},
]


def gather_table(folder, excluded=((),), on_bad_slide="exclude", left_out=()):
    """Write the sheet and a pixel file for each list of excluded rows (tile, image, reason), and gather."""
    sheet = slide_factory.write_sheet(folder / "sheet.tsv", ROWS)
    samples.check_table(sheet=str(sheet), table_file=str(folder / "table.json"), kind="patches", root=str(folder))
    cut = []
    for number, rows in enumerate(excluded):
        cut.append(str(folder / f"{number}.h5"))
        with store.writing_hdf5(cut[-1], {"slide": f"part-{number:02d}", "status": "ok", "reason": ""}) as file:
            gone = file.create_group("excluded")
            for column, name in enumerate(("tile", "image", "reason")):
                store.write_texts(gone, name, [row[column] for row in rows])
    cohort.gather_table(
        sheet=str(sheet),
        table=str(folder / "table.json"),
        cut=cut,
        slides_table=str(folder / "slides.tsv"),
        kind="patches",
        root=str(folder),
        on_bad_slide=on_bad_slide,
        left_out=left_out,
    )
    return (folder / "slides.tsv").read_text("utf-8")


def test_the_table_of_images(tmp_path):
    assert gather_table(tmp_path) == HEADER + (
        "i1\ti1\ti1\tp2\t{}\t\tok\t\t1\t0\t\t1\n"
        'i2\ti2\ts\tp1\t"{""x"": 2, ""y"": 1}"\ttrain\tok\t\t3\t0\t\t1\n'
        'i3\ti3\ti3\tp3\t"{""y"": 2}"\t\tok\t\t2\t0\t\t1\n'
    )


def test_rows_without_a_tile_are_counted_and_their_reasons_told(tmp_path):
    gone = [[("t1", "i2", "no such file")], [("t5", "i3", "truncated"), ("t6", "i3", "truncated")]]
    assert gather_table(tmp_path, gone) == HEADER + (
        "i1\ti1\ti1\tp2\t{}\t\tok\t\t1\t0\t\t1\n"
        'i2\ti2\ts\tp1\t"{""x"": 1, ""y"": 1}"\ttrain\tok\t\t2\t1\tleft out: no such file (1)\t1\n'
        "i3\ti3\ti3\tp3\t{}\t\tunreadable\ttruncated (2)\t0\t2\t\t1\n"
    )


def test_a_row_counts_once_however_many_sizes_it_was_cut_at(tmp_path):
    twice = [[("t1", "i2", "no such file")], [("t1", "i2", "no such file")]]
    assert "\t2\t1\tleft out: no such file (1)\t1\n" in gather_table(tmp_path, twice)


def test_a_row_is_left_out_even_if_nobody_says_why(tmp_path):
    assert "\t2\t1\tleft out:  (1)\t1\n" in gather_table(tmp_path, [[("t1", "i2", "")]])


def test_the_most_frequent_reasons_are_told(tmp_path):
    gone = [[("t1", "i2", "a"), ("t2", "i2", "b"), ("t3", "i2", "b")]]
    assert "\tunreadable\tb (2); a (1)\t0\t3\t\t1\n" in gather_table(tmp_path, gone)


def test_images_fail_like_slides(tmp_path):
    gone = [[("t4", "i1", "no such file"), ("t5", "i3", "truncated"), ("t6", "i3", "truncated")]]
    with pytest.raises(cohort.ExcludedSlidesError) as caught:
        gather_table(tmp_path, gone, on_bad_slide="fail")
    assert str(caught.value).splitlines() == [
        "1 of 3 images are used; excluded: 2 unreadable (on_bad_slide: fail)",
        "  i1: unreadable: no such file (1)",
        "  i3: unreadable: truncated (2)",
    ]
    # an image of which some rows gave a tile is no bad one
    assert "left out" in gather_table(tmp_path, [[("t1", "i2", "no such file")]], on_bad_slide="fail")
    with pytest.raises(cohort.ExcludedSlidesError, match=r"^no image is left: 0 of 3"):
        gather_table(tmp_path, [[(row["tile"], row["image"], "gone") for row in ROWS]])


def test_what_was_left_out_of_somebodys_table_stands_in_a_row_a_reason(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="histotransfer")
    gone = [
        {"status": "no path", "reason": "the row names no image file", "images": 2, "first_row": 9, "example": ""},
        {"status": "missing", "reason": "no such file", "images": 412003, "first_row": 3, "example": "b.jpg"},
    ]
    summary = {"source": "pairs.csv", "rows": 1000000, "kept": 6, "left_out": gone}
    store.write_json(tmp_path / "left_out.json", {**summary, "repeated": 0, "repeated_otherwise": 0})
    gather_table(tmp_path, left_out=str(tmp_path / "left_out.json"), on_bad_slide="fail")
    rows = store.read_table(tmp_path / "slides.tsv")
    assert [(row["image"], row["status"], row["stands_for"]) for row in rows] == [
        ("i1", "ok", "1"),
        ("i2", "ok", "1"),
        ("i3", "ok", "1"),
        ("", "no path", "2"),
        ("", "missing", "412003"),
    ]
    assert rows[4]["image_in_sheet"] == "412,003 of 1,000,000 rows of pairs.csv"
    assert [row["reason"] for row in rows[3:]] == [
        "the row names no image file; the first is row 9",
        "no such file; the first is row 3, b.jpg",
    ]
    assert [record.message for record in caplog.records] == [
        "3 of 3 images are used",
        "pairs.csv: 1,000,000 rows, 6 images used; left out: 2 no path, 412,003 missing",
    ]
