"""Every tile has a row with its class, or with none."""

from __future__ import annotations

import numpy as np
import pytest
import slide_factory

from histotransfer import store
from histotransfer.cohort import labels
from histotransfer.sheets import ids, samples

CLASSES = {"adenoma": "tumour", "carcinoma": "tumour", "normal": "normal"}


def write_grid(path, status="ok"):
    """Write a grid of 2 x 2 cells of which one is background."""
    with store.writing_hdf5(path, {"slide": "case-1", "status": status}) as file:
        file["col"], file["row"] = np.array([0, 1, 0, 1], np.int32), np.array([0, 0, 1, 1], np.int32)
        file["l0_x"] = file["l0_y"] = np.zeros(4, np.int64)
        file["status"] = np.array([0, 1, 0, 0], np.uint8)
    return str(path)


def label_slide(folder, label, **options):
    labels.label_slide(
        grid=write_grid(folder / "s.h5", **options),
        labels=str(folder / "labels.tsv"),
        group={"slide": "Block 7", "patient": "P 1"},
        label=label,
        classes=CLASSES,
    )
    return (folder / "labels.tsv").read_text("utf-8")


def test_the_kept_tiles_of_a_slide_have_its_class(tmp_path):
    assert label_slide(tmp_path, "carcinoma") == (
        "tile\timage\tslide\tpatient\tlabel\n"
        "0_0\tcase-1\tBlock 7\tP 1\ttumour\n"
        "0_1\tcase-1\tBlock 7\tP 1\ttumour\n"
        "1_1\tcase-1\tBlock 7\tP 1\ttumour\n"
    )


@pytest.mark.parametrize("label", ["", "unsure", "Carcinoma", "tumour"])
def test_a_label_that_the_task_does_not_count_is_none(tmp_path, label):
    rows = label_slide(tmp_path, label).splitlines()
    assert len(rows) == 4
    assert all(row.endswith("P 1\t") for row in rows[1:])


def test_a_slide_that_cannot_be_used_has_no_rows(tmp_path):
    assert label_slide(tmp_path, "carcinoma", status="unreadable") == "tile\timage\tslide\tpatient\tlabel\n"


def label_part(folder, sheet, *, kind, part="part-00", n_parts=1):
    samples.check_table(sheet=str(sheet), table_file=str(folder / "table.json"), kind=kind, root=str(folder))
    labels.label_part(
        sheet=str(sheet),
        table=str(folder / "table.json"),
        labels=str(folder / "labels.tsv"),
        kind=kind,
        root=str(folder),
        part=part,
        n_parts=n_parts,
        classes=CLASSES,
    )
    return store.read_table(folder / "labels.tsv")


def test_the_rows_of_a_table_of_patches(tmp_path):
    sheet = slide_factory.write_sheet(
        tmp_path / "sheet.tsv",
        [
            {"tile": "a", "path": "a.png", "image": "i1", "slide": "s1", "patient": "p1", "label": "adenoma"},
            {"tile": "b", "path": "b.png", "image": "i1", "slide": "s1", "patient": "p1", "label": "normal"},
            {"tile": "c", "path": "c.png", "image": "i2", "patient": "p2", "label": "artefact"},
            {"tile": "d", "path": "d.png", "patient": "p3"},
        ],
    )
    assert label_part(tmp_path, sheet, kind="patches") == [
        {"tile": "a", "image": "i1", "slide": "s1", "patient": "p1", "label": "tumour"},
        {"tile": "b", "image": "i1", "slide": "s1", "patient": "p1", "label": "normal"},
        {"tile": "c", "image": "i2", "slide": "i2", "patient": "p2", "label": ""},
        {"tile": "d", "image": "d", "slide": "d", "patient": "p3", "label": ""},
    ]


def test_the_rows_of_a_table_of_points(tmp_path):
    sheet = slide_factory.write_sheet(
        tmp_path / "sheet.tsv",
        [
            {"image": "i1", "path": "a.png", "x": "1", "y": "2", "label": "normal"},
            {"image": "i1", "path": "a.png", "x": "3", "y": "4", "label": "carcinoma"},
        ],
    )
    assert label_part(tmp_path, sheet, kind="points") == [
        {"tile": "i1:2", "image": "i1", "slide": "i1", "patient": "", "label": "normal"},
        {"tile": "i1:3", "image": "i1", "slide": "i1", "patient": "", "label": "tumour"},
    ]


def test_the_parts_of_a_table_have_every_row_once(tmp_path):
    rows = slide_factory.write_patches(tmp_path / "png", tmp_path / "sheet.tsv", patients=6)
    parts = [
        label_part(tmp_path, tmp_path / "sheet.tsv", kind="patches", part=part, n_parts=3) for part in ids.part_ids(3)
    ]
    assert sorted(row["tile"] for part in parts for row in part) == sorted(row["tile"] for row in rows)
    assert all(parts)


def test_labels_are_gathered_in_the_order_of_the_files(tmp_path):
    paths = [str(tmp_path / f"{name}.tsv") for name in ("b", "none", "a")]
    rows = [
        [(f"{path[-5]}{k}", "i", "s 1", "p", "") for k in range(n)] for path, n in zip(paths, (2, 0, 3), strict=True)
    ]
    for path, of_file in zip(paths, rows, strict=True):
        store.write_table(path, labels.COLUMNS, (dict(zip(labels.COLUMNS, row, strict=True)) for row in of_file))
    labels.gather(label_files=paths, labels=str(tmp_path / "all.tsv"))
    found = store.read_table(tmp_path / "all.tsv")
    assert [row["tile"] for row in found] == ["b0", "b1", "a0", "a1", "a2"]
    assert {tuple(row.values())[1:] for row in found} == {("i", "s 1", "p", "")}


def test_a_table_that_is_none_of_labels_is_named(tmp_path):
    (tmp_path / "a.tsv").write_text("tile\timage\n")
    with pytest.raises(
        ValueError, match=r"a\.tsv: must begin with the columns tile, image, .*; found \['tile', 'image'\]"
    ):
        labels.gather(label_files=[str(tmp_path / "a.tsv")], labels=str(tmp_path / "all.tsv"))
    assert not (tmp_path / "all.tsv").exists()
