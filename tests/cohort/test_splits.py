"""Splits: whole groups, every class on both sides, few moves, and no reading of what is known to leak."""

from __future__ import annotations

import numpy as np
import pytest
from cohort_factory import slides_row, write_slides_table

from histotransfer import store
from histotransfer.cohort import splits
from histotransfer.definitions import Split


def assign(folder, rows, *, seed=1, tile_files=(), tasks=None, **split):
    """Write the split of these images; return its rows by group."""
    table, path = write_slides_table(folder / "slides.tsv", rows), str(folder / "split.tsv")
    splits.assign_groups(
        slides_table=table,
        tile_files=list(tile_files),
        split_file=path,
        split=Split(**{"unit": "patient", "test": 0.4, "folds": 3, **split}),
        split_seed=seed,
        master_seed=2018,
        tasks=tasks,
    )
    return {row["group"]: row for row in store.read_table(path)}


def patients(n, classes=("a", "b"), images=1):
    """Return images of n patients of one class each, in turn."""
    return [
        slides_row(f"p{k}-{i}", slide=f"s{k}-{i}", patient=f"p{k}", labels={classes[k % len(classes)]: 5}, tiles=5)
        for k in range(n)
        for i in range(images)
    ]


def count(rows, **wanted):
    return sum(all(row[name] == value for name, value in wanted.items()) for row in rows.values())


def test_each_class_is_split_by_itself(tmp_path):
    rows = assign(tmp_path, patients(20), validation=0.2)
    assert len(rows) == 20
    for stratum in "ab":
        assert count(rows, stratum=stratum, set="test") == 4
        assert count(rows, stratum=stratum, set="validation") == 2
        assert count(rows, stratum=stratum, set="train") == 4
        # six groups that are not held out, in three folds of two; validation groups are in the folds too
        assert [count(rows, stratum=stratum, fold=fold) for fold in "012"] == [2, 2, 2]
        assert count(rows, stratum=stratum, set="test", fold="") == 4


def test_a_group_takes_all_its_images(tmp_path):
    rows = assign(tmp_path, patients(10, images=3))
    assert sorted(rows) == sorted(f"p{k}" for k in range(10))
    assert {row["unit"] for row in rows.values()} == {"patient"}


def test_the_order_of_the_sheet_changes_nothing(tmp_path):
    rows = patients(30, images=2)
    straight = assign(tmp_path, rows)
    shuffled = assign(tmp_path, [rows[k] for k in np.random.default_rng(0).permutation(len(rows))])
    assert straight == shuffled
    assert list(straight) == sorted(straight)


def test_another_seed_is_another_split(tmp_path):
    one, other = assign(tmp_path, patients(40), seed=1), assign(tmp_path, patients(40), seed=2)
    assert one == assign(tmp_path, patients(40), seed=1)
    assert sum(one[group]["set"] != other[group]["set"] for group in one) > 5


@pytest.mark.parametrize("seed", range(5))
def test_an_added_group_moves_few_others(tmp_path, seed):
    before = assign(tmp_path, patients(100), seed=seed, validation=0.1, folds=5)
    after = assign(tmp_path, patients(101), seed=seed, validation=0.1, folds=5)
    sets = [group for group in before if before[group]["set"] != after[group]["set"]]
    folds = [group for group in before if before[group]["fold"] != after[group]["fold"]]
    # at most one group crosses each border of the new group's class: test, validation; five blocks of folds
    assert len(sets) <= 2
    assert len(folds) <= 7
    other_class = [group for group in before if before[group]["stratum"] == "b"]
    assert all(before[group] == after[group] for group in other_class)


@pytest.mark.parametrize(
    ("n", "test", "validation", "expected"),
    [(4, 0.4, 0, (1, 0, 3)), (5, 0.05, 0.05, (1, 1, 3)), (5, 0.5, 0, (2, 0, 3))],
)
def test_with_few_groups_every_part_gets_one(tmp_path, n, test, validation, expected):
    rows = assign(tmp_path, patients(n, classes="a"), test=test, validation=validation)
    assert tuple(count(rows, set=name) for name in ("test", "validation", "train")) == expected
    assert all(count(rows, fold=fold) for fold in "012")


def test_too_few_groups_of_a_class(tmp_path):
    rows = patients(20, classes="a")
    rows += [slides_row(f"b{k}", patient=f"b{k}", labels={"rare": 9}, tiles=9) for k in range(3)]
    message = r"too few patients .* takes 4 of each class \(3 folds, 1 for test\), and class 'rare' has 3"
    with pytest.raises(ValueError, match=message):
        assign(tmp_path, rows)
    with pytest.raises(ValueError, match=r"takes 5 of each class \(3 folds, 1 for test, 1 for validation\)"):
        assign(tmp_path, rows, validation=0.1)


def test_a_dataset_of_one_class_of_a_task(tmp_path):
    message = r"too few patients .* takes 4 of each class \(3 folds, 1 for test\), and class 'b' has 0"
    with pytest.raises(ValueError, match=message):
        assign(tmp_path, patients(20, classes="a"), tasks={"t": {"a": "a", "b": "b"}})


def test_fewer_patients_than_folds(tmp_path):
    message = r"takes 6 of each class \(5 folds, 1 for test\), and class 'a' has 4; class 'b' has 4"
    with pytest.raises(ValueError, match=message):
        assign(tmp_path, patients(8), folds=5)


def test_labels_that_no_task_uses_need_no_groups(tmp_path):
    rows = [*patients(10, classes="a"), slides_row("z", patient="z", labels={"artefact": 4}, tiles=4)]
    found = assign(tmp_path, rows, tasks={"t": {"a": "a"}})
    assert found["z"]["stratum"] == ""
    assert count(found, stratum="a") == 10


def test_a_rare_label_of_a_large_class_is_no_obstacle(tmp_path):
    rows = [*patients(10), slides_row("z", patient="z", labels={"rare": 4}, tiles=4)]
    found = assign(tmp_path, rows, tasks={"t": {"a": "one", "b": "other", "rare": "other"}})
    assert found["z"]["stratum"] == splits.POOLED
    with pytest.raises(ValueError, match="and class 'third' has 1"):
        assign(tmp_path, rows, tasks={"t": {"a": "one", "b": "other", "rare": "third"}})


def test_images_of_several_classes(tmp_path):
    # every image has both classes; only two have more b than a, too few to be a stratum of their own
    rows = [slides_row(f"i{k}", patient=f"p{k}", labels={"a": 5, "b": 9 if k < 2 else 3}, tiles=14) for k in range(12)]
    found = assign(tmp_path, rows)
    assert {found[f"p{k}"]["stratum"] for k in range(2)} == {splits.POOLED}
    assert count(found, stratum="a") == 10
    equal = assign(tmp_path, [slides_row(f"i{k}", patient=f"p{k}", labels={"b": 2, "a": 2}) for k in range(5)])
    assert {row["stratum"] for row in equal.values()} == {"a"}


def test_without_strata(tmp_path):
    found = assign(tmp_path, patients(10), stratify="none")
    assert {row["stratum"] for row in found.values()} == {""}
    assert count(found, set="test") == 4
    with pytest.raises(ValueError, match=r"it takes 4 \(3 folds, 1 for test\), and there are 3"):
        assign(tmp_path, patients(3), stratify="none")


def test_unusable_images_are_in_no_group(tmp_path):
    rows = [
        *patients(10),
        slides_row("bad", patient="bad", status="unreadable", tiles=0),
        slides_row("empty", patient="empty", tiles=0),
    ]
    assert sorted(assign(tmp_path, rows)) == sorted(f"p{k}" for k in range(10))


def test_missing_patient_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"every image needs a patient .*without one: 'lonely'"):
        assign(tmp_path, [*patients(10), slides_row("lonely", labels={"a": 1})])


def given(k, name, **others):
    return slides_row(f"i{k}", slide=f"s{k}", patient=f"p{k}", labels={"ab"[k % 2]: 5}, split=name, **others)


def test_given_sets_are_taken_as_they_are(tmp_path):
    sets = ["train"] * 6 + ["validation"] * 2 + ["test"] * 4
    rows = [given(k, name) for k, name in enumerate(sets)]
    found = assign(tmp_path, rows, unit="given", groups="patient", test=None)
    assert [found[f"p{k}"]["set"] for k in range(12)] == sets
    assert {found[f"p{k}"]["unit"] for k in range(12)} == {"patient"}
    assert [count(found, stratum="a", fold=fold) for fold in "012"] == [2, 1, 1]
    assert all(found[f"p{k}"]["fold"] == "" for k in range(8, 12))


def test_given_sets_that_share_a_group(tmp_path):
    rows = [given(k, "test" if k > 7 else "train") for k in range(12)]
    rows += [slides_row("again", slide="s99", patient="p0", labels={"a": 1}, split="test")]
    with pytest.raises(ValueError, match=r"given sets must not share patients: 'p0'.*finer `groups` than patient"):
        assign(tmp_path, rows, unit="given", groups="patient", test=None)
    with pytest.raises(ValueError, match=r"given sets must not share patients: 'p0'.*reason in `share_groups`"):
        assign(tmp_path, rows, unit="given", groups="slide", test=None)
    found = assign(tmp_path, rows, unit="given", groups="slide", test=None, share_groups="a slide is a class")
    assert (found["s0"]["set"], found["s99"]["set"]) == ("train", "test")


def test_given_split_without_a_set(tmp_path):
    with pytest.raises(ValueError, match=r"one of train, validation, test for every image; not so: 'i3'"):
        assign(tmp_path, [given(k, "" if k == 3 else "train") for k in range(6)], unit="given", groups="image")


def test_tiles_from_cut_tiles_and_from_grids(tmp_path):
    rows = [slides_row(image, labels={"a": 6}, tiles=6) for image in ("one", "two")]
    rows.append(slides_row("bad", status="unreadable", tiles=0))
    for image in ("one", "bad"):
        with store.writing_hdf5(tmp_path / f"{image}.h5", {"status": "ok"}) as file:
            store.write_texts(file, "tile", [f"t{k}" for k in range(6)])
            store.write_texts(file, "image", [image] * 6)
    grid = {"slide": "two", "status_names": ["kept", "background"]}
    with store.writing_hdf5(tmp_path / "two.h5", grid) as file:
        file["col"], file["row"] = np.arange(8), np.full(8, 7)
        file["status"] = np.array([0, 0, 0, 0, 0, 0, 1, 1], dtype=np.uint8)
    files = [str(tmp_path / f"{image}.h5") for image in ("one", "bad", "two")]
    found = assign(tmp_path, rows, unit="tile", tile_files=files, test=0.25)
    assert sorted(found) == sorted([f"one/t{k}" for k in range(6)] + [f"two/{k}_7" for k in range(6)])
    assert {row["stratum"] for row in found.values()} == {"a"}
    assert count(found, set="test") == 3


def test_a_class_that_dominates_no_image_has_the_tiles_it_has(tmp_path):
    rows = [slides_row(f"i{k}", labels={"a": 3, "b": 3}, tiles=6) for k in range(2)]
    files = []
    for row in rows:
        files.append(str(tmp_path / f"{row['image']}.h5"))
        with store.writing_hdf5(files[-1], {"status": "ok"}) as file:
            store.write_texts(file, "tile", [f"t{k}" for k in range(6)])
            store.write_texts(file, "image", [row["image"]] * 6)
    found = assign(tmp_path, rows, unit="tile", tile_files=files, test=0.25)
    assert len(found) == 12
    assert count(found, set="test") == 3
    with pytest.raises(ValueError, match=r"it takes 8 .*class 'a' has 6"):
        assign(tmp_path, rows, unit="tile", tile_files=files, test=0.25, folds=7)


def test_folds_must_be_two_or_more(tmp_path):
    with pytest.raises(ValueError, match=r"`folds` must be 2 or more.*found 1"):
        assign(tmp_path, patients(10), folds=1)


def tile_rows(rows):
    """Return one tile per image, as label tables have them."""
    return [{"tile": "0_0", **{name: row[name] for name in ("image", "slide", "patient")}} for row in rows]


def test_read_joins_tiles_to_sets_and_folds(tmp_path):
    rows = patients(10, images=2)
    found = assign(tmp_path, rows)
    tiles = tile_rows(rows)[::-1]
    places = splits.read(str(tmp_path / "split.tsv"), tiles, "patient", "")
    assert places.unit == "patient"
    assert places.group == [tile["patient"] for tile in tiles]
    assert places.set.tolist() == [found[tile["patient"]]["set"] for tile in tiles]
    assert places.fold.tolist() == [int(found[tile["patient"]]["fold"] or -1) for tile in tiles]


def test_read_refuses_shared_patients(tmp_path):
    rows = patients(12, images=2)
    assign(tmp_path, rows, unit="slide")
    path = str(tmp_path / "split.tsv")
    with pytest.raises(ValueError, match=r"unit is 'slide', and \d+ of 12 patients stand in two sets: 'p\d+', .*"):
        splits.read(path, tile_rows(rows), "slide", "")
    reason = "the slides of a patient are of different organs"
    assert len(splits.read(path, tile_rows(rows), "slide", reason).group) == 24
    # the patients are unknown: no shared patient is known
    unknown = [{**row, "patient": ""} for row in tile_rows(rows)]
    assert splits.read(path, unknown, "slide", "").unit == "slide"


def test_read_refuses_patients_shared_between_folds_alone(tmp_path):
    rows = patients(12, images=2)
    path = str(tmp_path / "split.tsv")
    text = [
        {"group": row["slide"], "unit": "slide", "stratum": "", "set": "train", "fold": k % 3}
        for k, row in enumerate(rows)
    ]
    store.write_table(path, splits.COLUMNS, text)
    with pytest.raises(ValueError, match=r"12 of 12 patients stand in two folds: 'p0', 'p1', 'p10', 'p11', 'p2' and 7"):
        splits.read(path, tile_rows(rows), "slide", "")


def test_read_refuses_tiles_of_one_image_on_both_sides(tmp_path):
    path = str(tmp_path / "split.tsv")
    tiles = [{"tile": f"t{k}", "image": "one", "slide": "one", "patient": ""} for k in range(4)]
    text = [
        {"group": f"one/t{k}", "unit": "tile", "stratum": "", "set": "test" if k else "train", "fold": "" if k else 0}
        for k in range(4)
    ]
    store.write_table(path, splits.COLUMNS, text)
    with pytest.raises(ValueError, match=r"unit is 'tile', and 1 of 1 slides stand in two sets: 'one'"):
        splits.read(path, tiles, "tile", "")
    assert splits.read(path, tiles, "tile", "as the paper has it").fold.tolist() == [0, -1, -1, -1]
    # where each tile is an image of its own, nothing is shared
    alone = [{**tile, "image": f"i{k}", "slide": f"i{k}"} for k, tile in enumerate(tiles)]
    store.write_table(path, splits.COLUMNS, [{**row, "group": f"i{k}/t{k}"} for k, row in enumerate(text)])
    assert splits.read(path, alone, "tile", "").set.tolist() == ["train", "test", "test", "test"]


def test_read_names_what_is_not_in_the_split(tmp_path):
    rows = patients(10)
    assign(tmp_path, rows)
    newer = tile_rows([*rows, slides_row("new", patient="newcomer")])
    with pytest.raises(ValueError, match=r"every patient with tiles must stand in it; not found: 'newcomer'"):
        splits.read(str(tmp_path / "split.tsv"), newer, "patient", "")
    with pytest.raises(ValueError, match=r"must be made for the study's unit 'slide'; found 'patient'"):
        splits.read(str(tmp_path / "split.tsv"), tile_rows(rows), "slide", "")
