"""Sample sheets: what is read, and every way in which a sheet can be wrong, with the words that a person gets."""

import json
import tracemalloc
from pathlib import Path

import pytest

from histotransfer.sheets import ids, samples
from histotransfer.sheets.reading import SheetCheck


def write(path, *rows, encoding="utf-8", end="\n"):
    """Write rows of cells, given as texts with spaces between the cells."""
    path.write_bytes("".join("\t".join(row.split(" ")) + end for row in rows).encode(encoding))
    return str(path)


def problems_of_slides(path, **how):
    return samples.read_slide_sheet(path, root=".", check=SheetCheck(**how))[1].lines()


def problems_of_table(path, kind, **how):
    with pytest.raises(samples.SheetError) as raised:
        samples.check_table(sheet=path, table_file=f"{path}.json", kind=kind, root=".", **how)
    assert not Path(f"{path}.json").exists()
    first, *lines = str(raised.value).split("\n  ")
    assert first.startswith(f"{path}: ")
    return lines


# ---- sheets of slides


def test_a_sheet_of_slides_is_read_with_its_defaults(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "b.svs").touch()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "regions.json").touch()
    write(
        tmp_path / "slides.tsv",
        "patient image path slide label mpp scanner annotation drawing",
        "P1 A/1 a.svs S1 tumour 0.25 x regions.json ",
        "P2 b scans/b.svs    x  tissue",
    )
    rows, problems = samples.read_slide_sheet("slides.tsv", root="in", folder=tmp_path)
    assert problems.lines() == []
    assert rows[0] == samples.SlideRow(
        id=ids.safe_id("A/1"),
        image_in_sheet="A/1",
        path_in_sheet="a.svs",
        path="in/a.svs",
        exists=False,
        slide="S1",
        patient="P1",
        label="tumour",
        annotation="in/regions.json",
        metastasis="",
        split="",
        drawing="",
        mpp=0.25,
        row=2,
    )
    assert (rows[1].slide, rows[1].label, rows[1].mpp, rows[1].row) == ("b", "", None, 3)
    assert not rows[1].exists
    assert samples.read_slide_sheet("slides.tsv", root=".", folder=tmp_path)[0][-1].exists
    assert samples.read_slide_sheet("slides.tsv", root="in", folder=tmp_path, drawn=True)[0][1].exists


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_bom_line_ends_spaces_blank_lines_and_quotes_make_no_difference(tmp_path, start, end):
    lines = [b" image \tpath\t label", b"", b"a \t a.svs\t\xc3\xa9 ", b"\t\t", b'"b ""2"""\t"b.svs"']
    (tmp_path / "s.tsv").write_bytes(start + end.join(lines))
    rows, problems = samples.read_slide_sheet("s.tsv", root=".", folder=tmp_path)
    assert problems.lines() == []
    assert [(row.row, row.image_in_sheet, row.path, row.label) for row in rows] == [
        (3, "a", "a.svs", "é"),
        (5, 'b "2"', "b.svs", ""),
    ]


def test_all_problems_of_a_sheet_come_at_once_with_their_rows(tmp_path):
    sheet = write(
        tmp_path / "s.tsv",
        "image path patient label mpp split slide",
        "a a.svs p1 tumor 0.25 train s1",
        "a b.svs  normal 0 train s2",
        "",
        "c ./a.svs p2 normal -1 test s2",
        "d d.svs p1 normal 0,5 test s1",
        " e.svs p3 normal nan trian s3",
        "f f.svs p3 x 0.5 trian s3 1",
        "g g.svs p4 <script> 0.5 train s1",
    )
    assert problems_of_slides(sheet, labels=["normal", "tumour"], needs=["patient", "split"], given=["patient"]) == [
        "row 2, column label: must be one of normal, tumour, or empty (did you mean 'tumour'?); found 'tumor'",
        "row 3, column patient: must have a value; found an empty cell",
        "row 5, column path: must be unique, and row 2 has the same path; found './a.svs'",
        "row 5, column mpp: must be a number above 0, micrometres per pixel, with a point as decimal mark; found '-1'",
        "row 6, column mpp: must be a number above 0, micrometres per pixel, with a point as decimal mark; found '0,5'",
        "row 6, column split: patient 'p1' must be in one set, and above it is in 'train'; found 'test'",
        "row 7, column image: must have a value; found an empty cell",
        "row 8: a row must have as many cells as the header, 7; found 8 cells",
        "row 9, column label: must be one of normal, tumour, or empty; found '<script>'",
        "row 9, column patient: slide 's1' must have one patient, and above it has 'p1'; found 'p4'",
    ]


def test_more_problems_of_a_sheet(tmp_path):
    sheet = write(
        tmp_path / "s.tsv",
        "image path patient label mpp split",
        "a a.svs p1 x 0 train",
        "a b.svs p1 x inf Train",
        "b c.svs p1 x 1_0 validation",
    )
    mpp = "must be a number above 0, micrometres per pixel, with a point as decimal mark"
    assert problems_of_slides(sheet, given=["patient", "image"], needs=["split"]) == [
        f"row 2, column mpp: {mpp}; found '0'",
        "row 3, column image: must be unique, and row 2 has the same image; found 'a'",
        f"row 3, column mpp: {mpp}; found 'inf'",
        "row 3, column split: must be one of train, validation, test (did you mean 'train'?); found 'Train'",
        f"row 4, column mpp: {mpp}; found '1_0'",
        "row 4, column split: patient 'p1' must be in one set, and above it is in 'train'; found 'validation'",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "row 1: must be a table with the columns image, path, separated by tabs; found an empty file"),
        (
            b"image,path\na,b\n",
            "row 1: must be a table with the columns image, path, separated by tabs; "
            "found columns separated by commas: 'image,path'",
        ),
        (
            b"image;path\na;b\n",
            "row 1: must be a table with the columns image, path, separated by tabs; "
            "found columns separated by semicolons: 'image;path'",
        ),
        (
            b"Image\tfile\na\tb\n",
            "row 1, column image: the column is missing; needed are image, path (did you mean 'Image'?); "
            "found Image, file",
        ),
        (
            b"image\tpath\tpath\na\tb\tc\n",
            "row 1, column path: a column name must not be repeated; found 2 columns of that name",
        ),
        (b"image\tpath\n", "row 2: must have a row per image; found no rows"),
        ("image\tpath\na\tb\n".encode("utf-16"), "row 1: the sheet must be UTF-8; found UTF-16"),
        (b"image\tpath\na\tb\nc\t\xe9\n", "row 3: the sheet must be UTF-8; found the byte 0xe9"),
        (b"image\tpath\ra\tb\r", "row 1: lines must end in LF or CRLF; found lines that end in CR alone"),
    ],
)
def test_a_file_that_is_no_such_table(tmp_path, content, expected):
    (tmp_path / "s.tsv").write_bytes(content)
    assert problems_of_slides(tmp_path / "s.tsv")[0] == expected


def test_a_sheet_that_is_not_there(tmp_path):
    assert problems_of_slides(tmp_path / "s.tsv", needs=["patient"]) == [
        "sheet: must be a table with the columns image, path, patient, separated by tabs; found no such file"
    ]
    assert problems_of_slides(tmp_path)[0].endswith("found a file that cannot be read (Is a directory)")


def test_missing_columns_are_named_together_and_regions_stand_for_labels(tmp_path):
    sheet = write(tmp_path / "s.tsv", "image file", "a a.svs")
    assert problems_of_slides(sheet, labels=["x"], needs=["patient"]) == [
        f"row 1, column {name}: the column is missing; needed are image, path, patient, label; found image, file"
        for name in ("path", "patient", "label")
    ]
    sheet = write(tmp_path / "s.tsv", "image path annotation", "a a.svs ")
    assert problems_of_slides(sheet, labels=["x"]) == []


def test_an_annotation_is_a_file_that_is_there_unless_a_rule_draws_it(tmp_path):
    (tmp_path / "folder.xml").mkdir()
    (tmp_path / "there.xml").touch()
    sheet = write(
        tmp_path / "s.tsv",
        "image path annotation drawing",
        "a a.svs there.xml ",
        "b b.svs gone.xml ",
        "c c.svs folder.xml ",
        "d d.svs  ",
        "e e.svs drawn.xml tissue",
    )

    def problems(drawn):
        return samples.read_slide_sheet(sheet, root=".", folder=tmp_path, drawn=drawn)[1].lines()

    legal = "must be a file, or empty if the slide has no annotation"
    missing = [
        f"row {row}, column annotation: {legal}; found no file at {name}"
        for row, name in ((3, "gone.xml"), (4, "folder.xml"), (6, "drawn.xml"))
    ]
    assert problems(drawn=False) == missing
    # only a slide with a drawing is drawn
    assert problems(drawn=True) == missing[:2]


def test_an_annotation_belongs_to_one_slide(tmp_path):
    (tmp_path / "x.xml").touch()
    sheet = write(
        tmp_path / "s.tsv", "image path annotation", "a a.svs x.xml", "b b.svs ", "c c.svs ./x.xml", "d d.svs "
    )
    rows, problems = samples.read_slide_sheet(sheet, root=".", folder=tmp_path)
    assert problems.lines() == [
        "row 4, column annotation: must be unique, and row 2 has the same annotation; found './x.xml'"
    ]
    assert [row.image_in_sheet for row in rows] == ["a", "b", "d"]


def test_long_lists_of_problems_end_in_a_count(tmp_path):
    sheet = write(tmp_path / "s.tsv", "image path", *(f"{number} same.svs" for number in range(61)))
    lines = problems_of_slides(sheet)
    assert len(lines) == 51
    assert lines[-1] == "... and 10 more"


# ---- patches and points


def test_a_table_of_patches_is_summed_up(tmp_path):
    sheet = write(
        tmp_path / "p.tsv", "tile path image label patient", "1 a.png i1 x p1", "2 b.png i1 <b> p1", "3 c.png i2  p1"
    )
    samples.check_table(sheet=sheet, table_file=f"{sheet}.json", kind="patches", root=".", labels=["x", "<b>"])
    summary = json.loads(Path(f"{sheet}.json").read_text())
    assert len(summary.pop("sheet_sha256")) == 64
    assert summary == {
        "kind": "patches",
        "columns": ["tile", "path", "image", "label", "patient"],
        "rows": 3,
        "images": 2,
        "slides": 2,
        "patients": 1,
        "labels": {"x": 1, "<b>": 1},
        "unlabelled": 1,
        "sets": {},
    }


def test_all_problems_of_a_table_of_patches_come_at_once(tmp_path):
    sheet = write(
        tmp_path / "p.tsv",
        "tile path image slide patient label split",
        "1 a.png i1 s1 p1 x train",
        "1 b.png i1 s2 p1 x train",
        "3 a.png i3 s1 p2 z test",
        "  i4 s4 p4 x test",
    )
    how = {"labels": ["x", "y"], "needs": ["split"], "given": ["slide", "patient"]}
    assert problems_of_table(sheet, "patches", **how) == [
        "row 3, column tile: must be unique, and row 2 has the same tile; found '1'",
        "row 3, column slide: image 'i1' must have one slide, and above it has 's1'; found 's2'",
        "row 4, column path: each patch must have its own file, and tile '1' has this one; found 'a.png'",
        "row 4, column label: must be one of x, y, or empty; found 'z'",
        "row 4, column patient: slide 's1' must have one patient, and above it has 'p1'; found 'p2'",
        "row 4, column split: slide 's1' must be in one set, and above it is in 'train'; found 'test'",
        "row 5, column tile: must have a value; found an empty cell",
        "row 5, column path: must have a value; found an empty cell",
    ]


def test_all_problems_of_a_table_of_points_come_at_once(tmp_path):
    sheet = write(
        tmp_path / "p.tsv",
        "image path x y tile label",
        "i1 a.png 1 2 t x",
        "i1 b.png 1 2.5  x",
        "i1 a.png -1 2  x",
        "i1 a.png 1 left  x",
        "i2 c.png 1 1 t x",
    )
    legal = "must be a number of 0 or more, pixels from the image's upper left corner"
    assert problems_of_table(sheet, "points") == [
        "row 3, column path: an image must have one file, and above it has 'a.png'; found 'b.png'",
        f"row 4, column x: {legal}; found '-1'",
        f"row 5, column y: {legal}; found 'left'",
        "row 6, column tile: must be unique, and row 2 has the same tile; found 't'",
    ]


def test_the_header_of_a_table_is_checked_without_reading_on(tmp_path):
    sheet = write(tmp_path / "p.tsv", "image path x label", "only one row and that is wrong")
    assert samples.check_header(sheet, kind="points", check=SheetCheck(("a",), ("patient",))).lines() == [
        f"row 1, column {name}: the column is missing; needed are image, path, x, y, patient, label; "
        "found image, path, x, label"
        for name in ("y", "patient")
    ]


def test_the_parts_of_a_table_hold_each_row_once_and_an_image_whole(tmp_path):
    sheet = write(
        tmp_path / "p.tsv", "image path x y label", *(f"i{k % 7} i{k % 7}.png {k} 0.5 l{k % 3}" for k in range(50))
    )
    parts = {
        part: list(samples.rows_of_part(sheet=sheet, kind="points", root="in", part=part, n_parts=3))
        for part in ids.part_ids(3)
    }
    assert sorted(row.row for rows in parts.values() for row in rows) == list(range(2, 52))
    for place, rows in enumerate(parts.values()):
        assert {ids.bucket(row.image, 3) for row in rows} <= {place}
        assert [row.row for row in rows] == sorted(row.row for row in rows)
    (first,) = (row for rows in parts.values() for row in rows if row.row == 2)
    assert first == samples.TableRow(
        row=2, tile="i0:2", image="i0", slide="i0", patient="", label="l0", split="", path="in/i0.png", x=0.0, y=0.5
    )


def test_rows_of_patches_have_their_tile_as_image_and_slide(tmp_path):
    sheet = write(tmp_path / "p.tsv", "tile path patient label", "T/1 ../a.png p é")
    (row,) = samples.rows_of_part(sheet=sheet, kind="patches", root="in/b", part="part-00", n_parts=1)
    assert row == samples.TableRow(2, "T/1", "T/1", "T/1", "p", "é", "", "in/a.png", None, None)


def test_a_part_of_a_wrong_table_stops_at_its_row(tmp_path):
    sheet = write(tmp_path / "p.tsv", "image path x y", "i a.png 1 1", "i a.png 1 x", "i a.png 1 2")
    rows = samples.rows_of_part(sheet=sheet, kind="points", root=".", part="part-00", n_parts=1)
    assert next(rows).row == 2
    with pytest.raises(samples.SheetError, match=r"row 3, column y: .*; found 'x'"):
        next(rows)


def test_of_a_large_table_only_the_ids_stay_in_memory(tmp_path):
    sheet = tmp_path / "p.tsv"
    with open(sheet, "w") as file:
        file.write("tile\tpath\timage\tlabel\tremarks\n")
        file.writelines(
            f"tile-{k:07d}\tfolder/tile-{k:07d}.png\timage-{k // 100}\ta\t{'long ' * 200}\n" for k in range(20_000)
        )
    tracemalloc.start()
    try:
        how = {"kind": "patches", "root": "."}
        samples.check_table(sheet=str(sheet), table_file=f"{sheet}.json", labels=["a"], **how)
        _, checking = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        assert sum(1 for _ in samples.rows_of_part(sheet=str(sheet), part="part-00", n_parts=1, **how)) == 20_000
        _, reading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert checking < 20_000 * 500, "bytes: the file has 1,050 a row"
    assert reading - before < 200_000, "bytes"


def test_what_a_lymph_node_holds_is_one_of_four_words_or_empty(tmp_path):
    write(tmp_path / "slides.tsv", "image path metastasis", "a a.svs micro", "b b.svs ", "c c.svs mikro")
    rows, problems = samples.read_slide_sheet("slides.tsv", root=".", folder=tmp_path)
    assert [row.metastasis for row in rows] == ["micro", ""]
    assert problems.lines() == [
        "row 4, column metastasis: must be one of negative, itc, micro, macro, or empty (did you mean 'micro'?); "
        "found 'mikro'"
    ]
