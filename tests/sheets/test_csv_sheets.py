"""Third-party tables made into sheets of patches: what becomes of each row, and what can be wrong with a table."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap

import pytest
from study_factory import REPOSITORY

from histotransfer.sheets import foreign_tables, hashes, samples
from histotransfer.sheets.reading import SheetCheck

QUILT = {"path": "image_path", "label": "pathology", "slide": "video_id"}
HOW = {
    **{"separator": "comma", "columns": QUILT, "several_labels": "drop", "unlabelled": "exclude"},
    **{"repeated": "first", "missing_files": "exclude"},
}


def write(folder, text, files=(), encoding="utf-8"):
    """Write a table and empty image files; return the table's path."""
    (folder / "images").mkdir(exist_ok=True)
    for name in files:
        (folder / "images" / name).parent.mkdir(exist_ok=True)
        (folder / "images" / name).touch()
    path = folder / "pairs.csv"
    path.write_bytes(textwrap.dedent(text).lstrip("\n").encode(encoding))
    return path


def filter_rows(folder, **how):
    """Filter the table of a folder; return the rows of the sheet, and the summary."""
    foreign_tables.filter_rows(
        source=str(folder / "pairs.csv"),
        sheet=str(folder / "sheet.tsv"),
        left_out=str(folder / "left_out.json"),
        root=str(folder / "images"),
        **{**HOW, **how},
    )
    rows = samples.rows_of_part(
        sheet=str(folder / "sheet.tsv"), kind="patches", root=str(folder / "images"), part="part-00", n_parts=1
    )
    return list(rows), json.loads((folder / "left_out.json").read_text())


def problems(folder, **how):
    with pytest.raises(samples.SheetError) as raised:
        filter_rows(folder, **how)
    assert not (folder / "sheet.tsv").exists()
    assert not (folder / "left_out.json").exists()
    first, *lines = str(raised.value).split("\n  ")
    assert first.startswith(f"{folder / 'pairs.csv'}: ")
    return lines


PAIRS = """
    ,caption,image_path,pathology,video_id
    0,"Glands, ""back to back""
    and crowded",a.jpg,['Breast'],v1
    1,another text,a.jpg,['Breast'],v1
    2,two kinds,b.jpg,"['Breast', 'Renal']",v1
    3,no file,c.jpg,['Renal'],v2
    4,no kind,d.jpg,[],v2
    5,spelt twice,e.jpg,"['Renal', 'Renal ']",
    6,other label,a.jpg,"['Renal']",v1
    7,no image,,['Renal'],v3

"""


def test_rows_are_filtered_and_counted(tmp_path, caplog):
    write(tmp_path, PAIRS, ["a.jpg", "b.jpg", "d.jpg", "e.jpg"])
    with caplog.at_level(logging.INFO, "histotransfer"):
        rows, found = filter_rows(tmp_path)
    assert [(row.tile, row.image, row.slide, row.label) for row in rows] == [
        ("a.jpg", "a.jpg", "v1", "Breast"),
        # without a video the image stands for itself
        ("e.jpg", "e.jpg", "e.jpg", "Renal"),
    ]
    assert rows[0].path == str(tmp_path / "images/a.jpg")
    assert found == {
        "source": str(tmp_path / "pairs.csv"),
        "rows": 8,
        "kept": 2,
        "left_out": [
            {
                "status": "no path",
                "images": 1,
                "first_row": 10,
                "example": "",
                "reason": foreign_tables.REASONS["no path"],
            },
            {"status": "no label", "images": 1, "first_row": 7, "example": "d.jpg", "reason": "the row has no label"},
            {
                **{"status": "several labels", "images": 1, "first_row": 5, "example": "b.jpg"},
                "reason": "the row has several labels",
            },
            {"status": "missing", "images": 1, "first_row": 6, "example": "c.jpg", "reason": "no such file"},
        ],
        "repeated": 2,
        "repeated_otherwise": 1,
    }
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'pairs.csv'}: 8 rows, 2 images used; left out: 1 no path, 1 no label, 1 several labels, "
        "1 missing; 2 further rows of the same images, 1 of them with another label than the image's first row"
    ]


def test_the_first_of_several_labels_is_taken_where_that_is_asked_for(tmp_path):
    write(tmp_path, PAIRS, ["a.jpg", "b.jpg", "d.jpg", "e.jpg"])
    rows, found = filter_rows(tmp_path, several_labels="first", unlabelled="keep")
    assert [(row.tile, row.label) for row in rows] == [
        ("a.jpg", "Breast"),
        ("b.jpg", "Breast"),
        ("d.jpg", ""),
        ("e.jpg", "Renal"),
    ]
    assert [one["status"] for one in found["left_out"]] == ["no path", "missing"]


def test_a_cell_is_one_label_as_it_stands_unless_lists_are_asked_for(tmp_path):
    write(tmp_path, "image_path;pathology\na.jpg;['x', 'y']\nb.jpg;x, y\n", ["a.jpg", "b.jpg"])
    how = {"separator": "semicolon", "columns": {"path": "image_path", "label": "pathology"}}
    rows, _ = filter_rows(tmp_path, **how, several_labels=None)
    assert [row.label for row in rows] == ["['x', 'y']", "x, y"]


def test_a_table_with_the_sheets_own_names_needs_no_columns(tmp_path):
    write(tmp_path, "tile\tpath\tremarks\n1\ta.png\tgood\n2\tb.png\tbad\n", ["b.png"])
    rows, found = filter_rows(tmp_path, separator="tab", columns={}, several_labels=None)
    assert [(row.tile, row.label) for row in rows] == [("2", "")]
    assert [(one["status"], one["images"]) for one in found["left_out"]] == [("missing", 1)]


def test_names_with_quotes_come_through(tmp_path):
    name = '"a" b".png'
    write(tmp_path, 'image_path,pathology,video_id\n"""a"" b"".png",[\'x\'],"v ""1"""\n', [name])
    (row,), _ = filter_rows(tmp_path)
    assert (row.tile, row.slide, row.path) == (name, 'v "1"', str(tmp_path / "images" / name))


def test_files_in_several_folders_are_found_by_one_listing_of_each(tmp_path, monkeypatch):
    names = [f"v{k % 3}/{k}.png" for k in range(12)]
    text = "image_path,pathology,video_id\n" + "".join(f"{name},x,\n" for name in names)
    write(tmp_path, text + "gone/1.png,x,\nv0/../v1/1.png,x,\nv0/99.png,x,\n", names)
    listed, scandir = [], hashes.os.scandir
    monkeypatch.setattr(hashes.os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    rows, found = filter_rows(tmp_path)
    # v0/../v1/1.png is v1/1.png once more
    assert [row.tile for row in rows] == names
    assert [(one["status"], one["images"]) for one in found["left_out"]] == [("missing", 2)]
    assert found["repeated"] == 1
    # the folders of unfinished work are listed too, by what they are opened as
    of_images = sorted(str(folder) for folder in listed if str(folder).startswith(str(tmp_path / "images")))
    assert of_images == [str(tmp_path / "images" / name) for name in ("gone", "v0", "v1", "v2")]


# ---- what is wrong


def test_all_problems_of_the_labels_come_at_once_with_row_and_column(tmp_path):
    deep = "[" * 5000
    write(
        tmp_path,
        f"""
        image_path,pathology,video_id
        a.jpg,"['Breast', '']",v
        b.jpg,"['Breast'",v
        c.jpg,"[1, 2]",v
        d.jpg,"[__import__('os').remove('a.jpg')]",v
        e.jpg,{deep},v
        f.jpg,"['{"x" * 10_000}']",v
        g.jpg,"['a	b']",v
        """,
        ["a.jpg"],
    )
    legal = "a list of labels is written like ['Breast', 'Renal']"
    found = problems(tmp_path)
    assert found == [
        "row 2, column pathology: a label in a list must not be empty; found \"['Breast', '']\"",
        f"row 3, column pathology: {legal}; found \"['Breast'\"",
        f"row 4, column pathology: {legal}; found '[1, 2]'",
        f"row 5, column pathology: {legal}; found \"[__import__('os').remove('a.jpg')]\"",
        f"row 6, column pathology: {legal}; found {deep[:77] + '...'!r}",
        f"row 7, column pathology: {legal}, in at most 10,000 characters; found 10,004 characters",
        "row 8, column pathology: must not hold a tab or a line break; found 'a b'",
    ]
    assert (tmp_path / "images/a.jpg").exists()


def test_what_the_config_calls_an_error_is_one(tmp_path):
    write(tmp_path, PAIRS, ["a.jpg"])
    once = "an image file must not be repeated; `repeated: first` takes its first row; found 'a.jpg'"
    assert problems(tmp_path, several_labels="error", unlabelled="error", repeated="error") == [
        f"row 4, column image_path: {once}",
        "row 5, column pathology: must be one label; `several_labels` can drop such rows or take the first label; "
        "found \"['Breast', 'Renal']\"",
        "row 7, column pathology: must have a label; `unlabelled` can exclude or keep such rows; found none",
        f"row 9, column image_path: {once}",
    ]
    with pytest.raises(ValueError, match=r"all files must exist .*; 2 are missing, the first in row 6, 'c.jpg'$"):
        filter_rows(tmp_path, missing_files="fail")


def test_no_row_left_is_an_error_that_says_why(tmp_path):
    write(tmp_path, PAIRS, [])
    said = r"needs at least one usable row, .*; found 1 no path, 1 several labels, 4 missing$"
    with pytest.raises(ValueError, match=said):
        filter_rows(tmp_path, unlabelled="keep")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "image_path,pathology,video_id\na.jpg,x,v\nb.jpg,'a caption\nof two lines',v\n",
            "row 3: a row must have as many cells as the header, 3 (a cell with a line break, a quote or a separator "
            "in it must be in double quotes); found 2 cells",
        ),
        (
            'image_path,pathology,video_id\na.jpg,"x" y,v\n',
            'row 2: in a cell in double quotes, a double quote must be written twice, ""; '
            "found a single one inside the cell",
        ),
        (
            'image_path,pathology,video_id\na.jpg,x,v\nb.jpg,"x,v\nc.jpg,x,v\n',
            "row 3: a double quote that opens a cell must be closed at its end; "
            "found the end of the file inside a cell",
        ),
        (
            'image_path,pathology,video_id\na.jpg,"x,v\n' + "b.jpg,x,v\n" * 20_000,
            "row 2: a cell has at most 131,072 characters, and a double quote that opens a cell must be closed at its "
            "end; found a longer cell, most likely after a quote that is not closed",
        ),
        (
            "image_path,pathology,video_id\ra.jpg,x,v\r",
            "row 1: lines must end in LF or CRLF, and a line break inside a cell needs double quotes; found a CR alone",
        ),
        (
            "image_path;pathology;video_id\na.jpg;x;v\n",
            "row 1: cells must be separated by commas (`separator`); found semicolons: 'image_path;pathology;video_id'",
        ),
        (
            "image,pathology,video_id\na.jpg,x,v\n",
            "row 1, column image_path: the column for 'path' is missing (did you mean 'image'?); "
            "found image, pathology, video_id",
        ),
        (
            "image_path,pathology,pathology,video_id\na.jpg,x,x,v\n",
            "row 1, column pathology: a column name must not be repeated; found 2 columns of that name",
        ),
        ("", "row 1: must be a table with cells separated by commas, in UTF-8; found an empty file"),
        ("image_path,pathology,video_id\n", "row 2: must have a row per image; found no rows"),
        (
            'image_path,pathology,video_id\n"a\nb.jpg",x,v\n',
            "row 2, column image_path: must not hold a tab or a line break; found 'a b.jpg'",
        ),
    ],
)
def test_a_table_that_is_none(tmp_path, text, expected):
    write(tmp_path, text)
    assert problems(tmp_path)[0] == expected


def test_a_table_in_another_encoding(tmp_path):
    write(tmp_path, "image_path,pathology,video_id\na.jpg,x,v\nb.jpg,é,v\n", encoding="latin-1")
    assert problems(tmp_path) == ["row 3: the table must be UTF-8; found the byte 0xe9 in line 3"]
    write(tmp_path, "image_path,pathology,video_id\na.jpg,x,v\n", encoding="utf-16")
    assert problems(tmp_path) == ["row 1: the table must be UTF-8; found the byte 0xff in line 1"]


def test_a_byte_order_mark_and_windows_line_ends_make_no_difference(tmp_path):
    write(tmp_path, "image_path,pathology,video_id\r\na.jpg,x,v\r\n", ["a.jpg"], encoding="utf-8-sig")
    rows, _ = filter_rows(tmp_path)
    assert [(row.tile, row.label, row.slide) for row in rows] == [("a.jpg", "x", "v")]


def test_the_header_is_checked_while_the_jobs_are_planned(tmp_path):
    write(tmp_path, "image_path,pathology\nwrong\n")
    columns = {"path": "image_path", "label": "pathology"}

    def lines(source, columns, **check):
        table = foreign_tables.ThirdPartyTable(source, "comma", columns)
        return foreign_tables.check_header(table, SheetCheck(**check), folder=tmp_path).lines()

    assert lines("pairs.csv", columns, labels=("x",)) == []
    assert lines("pairs.csv", columns, labels=("x",), needs=("patient",)) == [
        "row 1: `columns` must say which column of the table holds 'patient', since the study needs it; "
        "found image_path, pathology"
    ]
    assert lines("pairs.csv", QUILT) == [
        "row 1, column video_id: the column for 'slide' is missing; found image_path, pathology"
    ]
    assert lines("none.csv", columns) == [
        "sheet: must be a table with cells separated by commas, in UTF-8; found no such file"
    ]


# ---- a million rows

MILLION = """
import json, os, resource, sys, time

import numpy as np

from histotransfer import store
from histotransfer.cohort import cohort, labels
from histotransfer.sheets import foreign_tables, ids, samples

folder, n = sys.argv[1], int(sys.argv[2])


def peak():
    # of this program alone: what it was forked from counts for ru_maxrss too
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def each_part(function):
    for part in ids.part_ids(4):
        function(part)


sheet = dict(sheet=f"{folder}/sheet.tsv", kind="patches", root=f"{folder}/images")
begun, before, found = time.process_time(), peak(), {}
foreign_tables.filter_rows(
    source=f"{folder}/pairs.csv", sheet=sheet["sheet"], left_out=f"{folder}/left_out.json", root=sheet["root"],
    separator="comma", columns=dict(path="image_path", label="pathology", slide="video_id"), several_labels="drop",
    unlabelled="exclude", repeated="first", missing_files="exclude",
)
found["filter"] = [time.process_time() - begun, peak() - before]
samples.check_table(table_file=f"{folder}/table.json", labels=["Breast", "Renal", "Soft tissue"], **sheet)
found["check"] = [time.process_time() - begun, peak() - before]
each_part(lambda part: labels.label_part(
    table=f"{folder}/table.json", labels=f"{folder}/{part}.tsv", part=part, n_parts=4,
    classes={"Breast": "breast", "Renal": "renal"}, **sheet,
))
labels.gather(label_files=[f"{folder}/{part}.tsv" for part in ids.part_ids(4)], labels=f"{folder}/labels.tsv")
found["labels"] = [time.process_time() - begun, peak() - before]
with store.writing_hdf5(f"{folder}/cut.h5", dict(slide="part-00", status="ok", reason="")) as file:
    gone = file.create_group("excluded")
    for name in ("tile", "image", "reason"):
        store.write_texts(gone, name, [])
cohort.gather_table(
    table=f"{folder}/table.json", cut=[f"{folder}/cut.h5"], slides_table=f"{folder}/slides.tsv",
    on_bad_slide="exclude", left_out=f"{folder}/left_out.json", **sheet,
)
found["cohort"] = [time.process_time() - begun, peak() - before]
print(json.dumps(found))
"""


def write_pairs(folder, n):
    """Write a table like Quilt-1M's of `n` rows (1.6 to an image) four of seven images of which are there."""
    (folder / "images").mkdir()
    kinds = ["['Breast']", "['Renal']", "['Soft tissue']", "['Breast', 'Renal']", "[]"]
    texts = ['nests of cells, of which ""some"" divide ' * k for k in (1, 3, 7)]
    expected = {"kept": 0, "several labels": 0, "no label": 0, "missing": 0}
    n_images = 0
    with open(folder / "pairs.csv", "w", encoding="utf-8") as file:
        file.write(",caption,image_path,subset,split,pathology,roi_text,noisy_text,video_id\n")
        for row in range(n):
            image = row * 5 // 8
            name, kind = f"v{image % 997:03d}_image_{image:07d}.jpg", kinds[image % len(kinds)]
            text = texts[row % 3]
            file.write(f'{row},"{text}",{name},quilt,train,"{kind}","{text}","{text}",v{image % 997:03d}\n')
            if image < n_images:
                continue
            n_images += 1
            here = image % 7 < 4
            if here:
                # one empty file under a million names: a link costs the disk no file
                _link(folder, name)
            status = {3: "several labels", 4: "no label"}.get(image % 5, "kept" if here else "missing")
            expected[status] += 1
    return expected | {"repeated": n - n_images}


def _link(folder, name):
    first = folder / "images" / "first.jpg"
    if not first.exists():
        first.touch()
    try:
        os.link(first, folder / "images" / name)
    except OSError:
        # a file has at most so many names
        (folder / "images" / name).touch()


@pytest.mark.full
def test_a_million_rows_are_filtered_and_read_without_holding_them(tmp_path):
    """Memory grows by 16 bytes an image and 8 a file (three times as much for a moment) and one block of rows.

    With 625,000 images and 357,000 files that is 40 MB, and measured 46 MiB. Checking the sheet keeps the ids of the
    214,000 images in it, 250 bytes each, and so does the cohort's table.
    """
    expected = write_pairs(tmp_path, 1_000_000)
    assert (tmp_path / "pairs.csv").stat().st_size > 5e8
    done = subprocess.run(
        [sys.executable, "-c", MILLION, str(tmp_path), "1000000"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow_scripts")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    cost = json.loads(done.stdout)
    found = json.loads((tmp_path / "left_out.json").read_text())
    assert found["rows"] == 1_000_000
    assert {one["status"]: one["images"] for one in found["left_out"]} | {
        "kept": found["kept"], "repeated": found["repeated"]
    } == expected  # fmt: skip
    assert cost["cohort"][0] < 60, f"seconds of CPU: {cost}"
    assert cost["filter"][1] < 100, f"MiB: {cost}"
    assert cost["cohort"][1] < 250, f"MiB: {cost}"
    with open(tmp_path / "labels.tsv") as file:
        assert sum(1 for _ in file) == found["kept"] + 1
    with open(tmp_path / "slides.tsv") as file:
        assert sum(1 for _ in file) == found["kept"] + 1 + len(found["left_out"])
    # pytest keeps folders of several runs
    shutil.rmtree(tmp_path)
