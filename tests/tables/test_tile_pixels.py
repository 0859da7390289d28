"""Tiles from pixel files in any order: the bytes that were written, and errors that reach who waits for them."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc

import cohort_factory
import h5py
import numpy as np
import pytest
from pixel_factory import noise, write_pixels

from histotransfer import store
from histotransfer.cohort import splits
from histotransfer.definitions import LearningTables, Split
from histotransfer.feature_kinds import StoredTiles, TileSize
from histotransfer.tables import tile_pixels, tile_table
from histotransfer.tables.tile_pixels import open_tiles, stream

PX = 8


@pytest.fixture
def three(tmp_path):
    """Three files, not in the order of their names, and all of their tiles in that order."""
    tiles = {"b": noise(3, seed=1), "a": noise(5, seed=2), "c": noise(4, seed=3)}
    paths = [write_pixels(tmp_path / f"{name}.h5", own, chunked=name == "b") for name, own in tiles.items()]
    return paths, np.concatenate([tiles["a"], tiles["b"], tiles["c"]])


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name == "read tiles"]


def test_tiles_come_in_the_order_asked_for_whichever_file_they_are_in(three):
    paths, expected = three
    tiles = open_tiles(paths)
    assert tiles.tile == [*(f"{k}_0" for k in range(5)), "0_0", "1_0", "2_0", *(f"{k}_0" for k in range(4))]
    assert tiles.image == [*"aaaaabbbcccc"]
    assert (len(tiles), tiles.px, tiles.n_features, tiles.columns, tiles.ragged) == (12, 8, 192, [], False)
    assert (tiles.read() == expected).all()
    rows = np.array([11, 0, 6, 6, 4, 5])
    assert (tiles.read(rows) == expected[rows]).all()
    assert tiles.read(np.array([], int)).shape == (0, 8, 8, 3)
    # squares have one largest square
    assert (tiles.read(rows, crops=np.full(6, 0.9)) == expected[rows]).all()


def test_what_the_files_say_of_the_tiles(three):
    said = open_tiles(three[0]).attributes
    assert said["tiles_digests"] == {name: f"tiles of {name}" for name in "abc"}
    assert said["versions"]["h5py"] == h5py.__version__


def test_rows_and_columns_that_there_are_not(three):
    tiles = open_tiles(three[0])
    with pytest.raises(IndexError, match="rows of tiles are 0 to 11; found -1 to 12"):
        tiles.read(np.array([0, 12, -1]))
    with pytest.raises(ValueError, match="without columns; found 2 columns"):
        tiles.read(np.array([0]), np.array([0, 1]))


def test_a_slide_without_tiles_is_passed_over(tmp_path):
    paths = [
        write_pixels(tmp_path / "a.h5", noise(0), status="unreadable", reason="broken"),
        write_pixels(tmp_path / "b.h5", noise(2)),
        write_pixels(tmp_path / "c.h5", noise(0), chunked=True, status="no tiles"),
    ]
    assert open_tiles(paths).image == ["b", "b"]
    with pytest.raises(ValueError, match=r"read from pixel files that have some; found none in .*a\.h5, .*c\.h5"):
        open_tiles([paths[0], paths[2]])
    with pytest.raises(ValueError, match="found none in no file"):
        open_tiles([])


def test_one_file_is_open_at_a_time_and_none_after(three):
    def open_files():
        return {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")} & set(paths)

    paths, _ = three
    tiles = open_tiles(paths)
    assert open_files() == set()
    opened = []
    reading = tile_pixels._File.read

    def spying(self, *arguments):
        opened.append(open_files())
        reading(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_pixels._File, "read", spying)
        tiles.read(np.array([11, 0, 6, 4]))
    assert [{os.path.basename(path) for path in each} for each in opened] == [{"a.h5"}, {"a.h5"}, {"b.h5"}, {"c.h5"}]
    assert open_files() == set()


def test_reading_a_batch_takes_the_memory_of_a_batch(tmp_path):
    path = write_pixels(tmp_path / "a.h5", noise(2000, px=32))
    tiles = open_tiles([path])
    rows = np.random.default_rng(0).permutation(2000)
    tracemalloc.start()
    for _, block in stream(tiles, rows, 10):
        assert len(block) == 10
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the batch in hand, those that lie ready, the one being read and the one waiting: six of 30 kB; all tiles are 6 MB
    assert peak < 10 * 30_720


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_a_stream_gives_each_row_once_in_order(three, ahead):
    paths, expected = three
    rows = np.array([3, 11, 7, 0, 5, 6, 2])
    found = list(stream(open_tiles(paths), rows, 3, ahead=ahead))
    assert [positions.tolist() for positions, _ in found] == [[0, 1, 2], [3, 4, 5], [6]]
    for positions, block in found:
        assert (block == expected[rows[positions]]).all()
    # each batch is the caller's own
    assert len({block.ctypes.data for _, block in found}) == 3
    assert not reading_threads()


def test_a_stream_of_nothing_is_empty(three):
    assert list(stream(open_tiles(three[0]), np.array([], int), 3)) == []


def test_a_stream_that_is_left_ends_its_thread(three):
    tiles = open_tiles(three[0])
    for _ in stream(tiles, np.arange(12), 2):
        assert reading_threads()
        break
    gc.collect()
    assert not reading_threads()
    early = stream(tiles, np.arange(12), 2)
    next(early)
    early.close()
    assert not reading_threads()


def test_an_error_of_the_reader_reaches_who_waits_for_the_tiles_after_the_batches_before_it(three):
    paths, expected = three
    tiles = open_tiles(paths)
    os.truncate(paths[2], os.path.getsize(paths[2]) - 600)
    batches = stream(tiles, np.array([0, 5, 4, 6, 8, 1]), 2)
    assert (next(batches)[1] == expected[[0, 5]]).all()
    assert (next(batches)[1] == expected[[4, 6]]).all()
    with pytest.raises(ValueError, match=r"c\.h5 must stay as it is while it is read; found that it has changed"):
        next(batches)
    assert not reading_threads()


def test_settings_of_a_stream_that_are_not_legal(three):
    tiles = open_tiles(three[0])
    for batch, ahead in ((0, 2), (2, 0)):
        with pytest.raises(ValueError, match=f"integers of at least 1; found {batch} and {ahead}"):
            stream(tiles, np.arange(3), batch, ahead=ahead)
    with pytest.raises(ValueError, match="crops: each of 3 rows has one; found 2"):
        stream(tiles, np.arange(3), 2, crops=np.zeros(2))


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "a.h5"
    write_pixels(path, noise(40))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a\.h5 is damaged: delete the file.*; found: .*truncated"):
        open_tiles([path])
    path.unlink()
    with pytest.raises(ValueError, match=r"found no file .*a\.h5"):
        open_tiles([path])
    with h5py.File(path, "w") as file:
        file.attrs["status"] = "ok"
        file.attrs["px"] = PX
    with pytest.raises(ValueError, match=r"a\.h5 is damaged.*found: .*tile"):
        open_tiles([path])


def test_a_file_that_has_gone_or_changed_is_named(three):
    paths, _ = three
    tiles = open_tiles(paths)
    write_pixels(tile_pixels.Path(paths[0]), noise(3, seed=9), chunked=True)
    with pytest.raises(ValueError, match=r"b\.h5 must stay as it is"):
        tiles.read(np.array([0, 6]))
    os.unlink(paths[0])
    with pytest.raises(ValueError, match=r"found no file .*b\.h5"):
        tiles.read(np.array([6]))
    assert len(tiles.read(np.array([0]))) == 1


def test_files_that_do_not_fit(tmp_path):
    path = write_pixels(tmp_path / "a.h5", noise(2))
    with pytest.raises(ValueError, match=r"a\.h5: tiles of 16 px are needed; found 8 px"):
        open_tiles([path], px=16)
    with pytest.raises(ValueError, match=r"b\.h5: tiles of 8 px are needed; found 16 px"):
        open_tiles([path, write_pixels(tmp_path / "b.h5", noise(2, px=16))])
    with pytest.raises(ValueError, match=r"c\.h5 is damaged.*must be uint8 of the shape \(n, 9, 9, 3\); found uint8"):
        open_tiles([write_pixels(tmp_path / "c.h5", noise(2), px=9)])
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["tile"]
        store.write_texts(file, "tile", ["0_0"])
    with pytest.raises(ValueError, match=r"a\.h5 is damaged.*found 2 tiles, 1 names and 2 images"):
        open_tiles([path])
    (tmp_path / "other").mkdir()
    twice = [write_pixels(tmp_path / folder / "d.h5", noise(1)) for folder in (".", "other")]
    with pytest.raises(ValueError, match="must stand in one file; found d in"):
        open_tiles(twice)


def test_tiles_that_are_not_raw_or_not_there(tmp_path):
    def written(name, **storage):
        path = write_pixels(tmp_path / name, noise(4))
        with h5py.File(path, "a") as file:
            del file["tiles"]
            file.create_dataset("tiles", (4, PX, PX, 3), np.uint8, **storage)
            if "compression" in storage:
                file["tiles"][:] = 1
        return path

    with pytest.raises(ValueError, match=r"a\.h5 is damaged.*must be raw.*compression gzip"):
        open_tiles([written("a.h5", compression="gzip", chunks=(1, PX, PX, 3))])
    with pytest.raises(ValueError, match=r"b\.h5 is damaged.*in chunks of whole rows; found chunks of \(1, 4, 8, 3\)"):
        open_tiles([written("b.h5", chunks=(1, 4, PX, 3))])
    for name, storage in (("c.h5", {}), ("d.h5", {"chunks": (1, PX, PX, 3)})):
        with pytest.raises(ValueError, match=rf"{name} is damaged.*must have been written; found none at 0"):
            open_tiles([written(name, **storage)])


def test_a_table_of_pixels_joins_them_with_labels_and_split(tmp_path):
    cohort = cohort_factory.separable(tmp_path, patients=9, tiles=2)
    inputs = cohort.write()
    expected = {}
    paths = []
    for number, image in enumerate(cohort.images()):
        inside = [tile for tile in cohort.tiles if tile.image == image]
        own = noise(len(inside), seed=number)
        path = tmp_path / "pixels" / f"{image}.h5"
        path.parent.mkdir(exist_ok=True)
        with store.writing_hdf5(path, {"status": "ok", "px": PX, "tiles_digest": ""}) as file:
            file["tiles"] = own
            store.write_texts(file, "tile", [tile.tile for tile in inside])
            store.write_texts(file, "image", [image] * len(inside))
        paths.append(str(path))
        expected |= {(image, tile.tile): pixels for tile, pixels in zip(inside, own, strict=True)}
    split = Split(unit="patient", test=1 / 3, folds=2)
    splits.assign_groups(
        slides_table=inputs["slides_table"],
        tile_files=[],
        split_file=str(tmp_path / "split.tsv"),
        split=split,
        split_seed=1,
        master_seed=1,
    )
    table = tile_table.read(
        features=paths[::-1],
        tables=cohort_factory.tables_of(inputs, str(tmp_path / "split.tsv")),
        split=split,
        feature_set=StoredTiles(TileSize(PX)),
        classes=cohort_factory.CLASSES,
        master_seed=1,
    )
    assert table.n_features == PX * PX * 3
    rows = table.rows(table.set == "test")
    assert len(rows.tile) == 6
    for image, tile, pixels in zip(rows.image, rows.tile, rows.features, strict=True):
        assert (pixels == expected[image, tile]).all()
    # what training streams: rows of the table by their places
    wanted = np.flatnonzero(table.set != "test")[::-1]
    for positions, block in stream(table.matrix, table.place[wanted], 5):
        for position, pixels in zip(positions, block, strict=True):
            row = wanted[position]
            assert (pixels == expected[table.image[row], table.tile[row]]).all()
    with pytest.raises(ValueError, match="tiles of 16 px are needed; found 8 px"):
        tile_table.read(
            features=paths,
            tables=LearningTables((), "", ""),
            split=split,
            feature_set=StoredTiles(TileSize(16)),
            classes=[],
            master_seed=1,
        )
