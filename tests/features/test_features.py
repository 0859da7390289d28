"""Features: what a shard's files say, which of them are kept, what a kill leaves, and the way back to a matrix."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
from repository import SCRIPTS

from histotransfer import plain_data, provenance, seeds, store
from histotransfer.backends import compiled, process
from histotransfer.feature_kinds import Source
from histotransfer.features import extraction, progress
from histotransfer.features.sources import PixelFileSource, SourceError
from histotransfer.networks import building, specification, weights
from histotransfer.networks.trained import load_trained
from histotransfer.settings import Extraction
from histotransfer.tables import feature_matrix

PX = 32
NARROW = {"architecture": "MobileNetV2", "alpha": 0.35, "weights": "random", "px": PX}


def tiles_of(slide, n, px=PX):
    return seeds.generator(1, "test tiles", slide).integers(0, 256, (n, px, px, 3), dtype=np.uint8)


def write_pixels(folder, slide, n, *, pixels=None, digest=None, status="ok", reason="", px=PX):
    """Write a pixel file as the rule tile_pixels does; return its path."""
    path = folder / "pixels" / f"{slide}.h5"
    attributes = {
        "status": status,
        "reason": reason,
        "px": px,
        "mpp": 1.0,
        "size_um": 32.0,
        "tiles_digest": f"grid of {slide}",
        "digest": digest or f"pixels of {slide}",
    }
    n = n if status == "ok" else 0
    with store.writing_hdf5(path, attributes) as file:
        file["tiles"] = tiles_of(slide, n, px) if pixels is None else pixels
        store.write_texts(file, "tile", [f"{k}_7" for k in range(n)])
        store.write_texts(file, "image", [f"image of {slide}"] * n)
        file["coords"] = np.array([[10 * k, 70] for k in range(n)], np.int64).reshape(n, 2)
    return str(path)


def settings(folder, tiles, **changed):
    return {
        "tiles": tiles,
        "weights_file": None,
        "manifest": str(folder / "features" / "narrow" / "shard-0.json"),
        "network_name": "narrow",
        "network": NARROW,
        "shard": "shard-0",
        "engine": "keras",
        "precision": "float32",
        "batch": 4,
        "master_seed": 1,
        "code": "c0de",
        "threads": 1,
        **changed,
    }


def objects(arguments):
    """Return plain arguments as the functions take them."""
    left = dict(arguments)
    how = Extraction(*map(left.pop, ("engine", "precision", "batch")))
    if "start" in left:
        return {**left, "start": specification.specification(left["start"]), "extraction": how}
    job = {field.name: left.pop(field.name) for field in fields(extraction.ShardJob)}
    return {**left, "job": plain_data.made(extraction.ShardJob, job), "extraction": how}


def extract(folder, tiles, **changed):
    """Extract, and return the manifest's rows by slide."""
    arguments = settings(folder, tiles, **changed)
    extraction.extract(**objects(arguments))
    return {row["slide"]: row for row in store.read_json(arguments["manifest"])["slides"]}


def states(folder):
    """Return bytes and time of last change of each feature file."""
    files = sorted((folder / "features" / "narrow").glob("*.h5"))
    return {file.stem: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def content(path):
    """Return all that a feature file says, but for the versions of what this process happens to have loaded."""
    found = {}
    with h5py.File(path) as file:
        found["attributes"] = {key: value for key, value in file.attrs.items() if key != "versions"}
        file.visititems(lambda name, node: found.update({name: node[:].tolist()} if hasattr(node, "shape") else {}))
    return found


def changed(before, after):
    return {slide for slide in after if after[slide] != before.get(slide)}


# one shard


def test_files_say_what_they_are_and_hold_what_the_network_gives(tmp_path):
    network = {**NARROW, "layers": ["block_3", "stem"]}
    rows = extract(tmp_path, [write_pixels(tmp_path, "s.b", 6), write_pixels(tmp_path, "s.a", 5)], network=network)
    path = tmp_path / "features" / "narrow" / "s.b.h5"

    assert list(rows) == ["s.b", "s.a"]
    assert store.read_json(path.parent / "shard-0.json") | {"slides": []} == {
        "network": "narrow",
        "shard": "shard-0",
        "code": "c0de",
        "slides": [],
    }
    with h5py.File(path) as file:
        digest = file.attrs["digest"]
        assert rows["s.b"] == {
            "slide": "s.b",
            "file": "s.b.h5",
            "status": "ok",
            "reason": "",
            "n_tiles": 6,
            "digest": digest,
        }
        expected = {
            "status": "ok",
            "reason": "",
            "network": "narrow",
            "architecture": "MobileNetV2",
            "alpha": 0.35,
            "weights": "untrained",
            "weights_sha256": "",
            "untrained": True,
            "layer": "out",
            "layers": '["stem", "block_3"]',
            "px": PX,
            "preprocessing": "tf",
            "backend": process.name(),
            "engine": "keras",
            "precision": "float32",
            "mpp": 1.0,
            "size_um": 32.0,
            "tiles_digest": "grid of s.b",
        }
        assert {key: file.attrs[key] for key in expected} == expected
        assert "keras" in json.loads(file.attrs["versions"])
        assert store.read_texts(file, "tile") == [f"{k}_7" for k in range(6)]
        assert store.read_texts(file, "image") == ["image of s.b"] * 6
        assert file["coords"][:].tolist() == [[10 * k, 70] for k in range(6)]
        assert set(file["layers"]) == {"stem", "block_3"}
        found = [file["features"][:], file["layers/stem"][:], file["layers/block_3"][:]]
    assert [each.shape for each in found] == [(6, 1280), (6, 16), (6, 16)]
    assert {each.dtype for each in found} == {np.dtype("float32")}

    spec = specification.specification(network)
    model = building.build(spec, seed=seeds.integer(1, "weights", "narrow"))
    forward = compiled.compiled_forward(model, PX)
    for ours, first, second in zip(
        found, forward(tiles_of("s.b", 6)[:4]), forward(tiles_of("s.b", 6)[4:]), strict=True
    ):
        np.testing.assert_array_equal(ours, np.concatenate([first, second]))


def test_a_slides_features_do_not_depend_on_its_neighbours(tmp_path):
    together = [write_pixels(tmp_path / "both", slide, n) for slide, n in (("a", 3), ("b", 7))]
    extract(tmp_path / "both", together)
    extract(tmp_path / "alone", [write_pixels(tmp_path / "alone", "b", 7)])
    paths = [tmp_path / where / "features" / "narrow" / "b.h5" for where in ("both", "alone")]
    assert content(paths[0]) == content(paths[1])


def test_an_eleventh_slide_costs_itself(tmp_path, caplog):
    caplog.set_level("INFO", "histotransfer")
    tiles = [write_pixels(tmp_path, f"s{k:02d}", 2) for k in range(10)]
    extract(tmp_path, tiles)
    before = states(tmp_path)
    # ten slides, one network
    assert sum("network ready" in line for line in caplog.messages) == 1

    extract(tmp_path, [write_pixels(tmp_path, "s-new", 3), *tiles])
    after = states(tmp_path)
    assert changed(before, after) == {"s-new"}
    assert "1 slides with 3 tiles to extract, 10 slides kept from before, 0 without tiles" in caplog.text

    caplog.clear()
    rows = extract(tmp_path, tiles)
    assert changed(after, states(tmp_path)) == set()
    assert len(rows) == 10
    assert "network ready" not in caplog.text


@pytest.mark.parametrize(
    ("change", "made_again"),
    [
        ({"code": "other"}, ["a", "b"]),
        ({"network": {**NARROW, "layers": ["stem"]}}, ["a", "b"]),
        ({"network": {**NARROW, "rescale": "unit"}}, ["a", "b"]),
        ({"master_seed": 2}, ["a", "b"]),
        ({"precision": "mixed_bfloat16"}, ["a", "b"]),
        ({"batch": 3, "threads": 2, "shard": "shard-9"}, []),
    ],
    ids=["code", "layers", "rescale", "seed", "precision", "how it is run"],
)
def test_files_are_made_again_when_what_made_them_changes(change, made_again, tmp_path):
    tiles = [write_pixels(tmp_path, slide, 2) for slide in ("a", "b")]
    extract(tmp_path, tiles)
    before = states(tmp_path)
    extract(tmp_path, tiles, **change)
    assert sorted(changed(before, states(tmp_path))) == made_again


def test_only_the_slide_whose_tiles_changed_is_made_again(tmp_path):
    tiles = [write_pixels(tmp_path, slide, 2) for slide in ("a", "b")]
    extract(tmp_path, tiles)
    before = states(tmp_path)
    write_pixels(tmp_path, "b", 3, digest="cut anew")
    assert extract(tmp_path, tiles)["b"]["n_tiles"] == 3
    assert changed(before, states(tmp_path)) == {"b"}


def test_a_damaged_feature_file_is_made_again(tmp_path):
    tiles = [write_pixels(tmp_path, slide, 2) for slide in ("a", "b")]
    extract(tmp_path, tiles)
    path = tmp_path / "features" / "narrow" / "a.h5"
    whole = content(path)
    path.write_bytes(path.read_bytes()[:1000])
    extract(tmp_path, tiles)
    assert content(path) == whole


def test_a_slide_without_tiles_is_a_row_and_no_file(tmp_path):
    tiles = [write_pixels(tmp_path, slide, 2) for slide in ("a", "b")]
    extract(tmp_path, tiles)
    write_pixels(tmp_path, "b", 0, status="no tissue", reason="no pixel under the threshold")
    rows = extract(tmp_path, tiles)
    assert rows["b"] == {
        "slide": "b",
        "file": "",
        "status": "no tissue",
        "reason": "no pixel under the threshold",
        "n_tiles": 0,
        "digest": "",
    }
    # the file of the time when it had tiles is gone
    assert set(states(tmp_path)) == {"a"}


def test_a_shard_of_unusable_slides_builds_no_network(tmp_path, caplog):
    caplog.set_level("INFO", "histotransfer")
    rows = extract(tmp_path, [write_pixels(tmp_path, "a", 0, status="missing", reason="no such file")])
    assert rows["a"]["status"] == "missing"
    assert extract(tmp_path, []) == {}
    assert "network ready" not in caplog.text


class Failing(PixelFileSource):
    """A slide that opens, and fails on a later tile."""

    def blocks(self, batch):
        yield from list(super().blocks(batch))[:1]
        raise self.error


def extract_with_failing(folder, error):
    sources = [PixelFileSource(write_pixels(folder, slide, 9)) for slide in ("a", "c")]
    failing = Failing(write_pixels(folder, "b", 9))
    failing.error = error
    arguments = settings(folder, None)
    del arguments["tiles"]
    extraction.extract_from_sources(sources=[sources[0], failing, sources[1]], **objects(arguments))
    return {row["slide"]: row for row in store.read_json(arguments["manifest"])["slides"]}


def test_a_slide_that_fails_on_a_later_tile_is_left_out_and_the_others_go_on(tmp_path):
    rows = extract_with_failing(tmp_path, SourceError("unreadable", "tile 5_7 cannot be decoded"))
    assert [(slide, row["status"], row["n_tiles"]) for slide, row in rows.items()] == [
        ("a", "ok", 9),
        ("b", "unreadable", 0),
        ("c", "ok", 9),
    ]
    assert rows["b"]["reason"] == "tile 5_7 cannot be decoded"
    assert set(states(tmp_path)) == {"a", "c"}


def test_any_other_error_of_reading_ends_the_job_and_leaves_no_half_file(tmp_path):
    with pytest.raises(MemoryError, match="of the reader"):
        extract_with_failing(tmp_path, MemoryError("of the reader"))
    assert [path.name for path in (tmp_path / "features" / "narrow").iterdir()] == ["a.h5"]


def test_untrained_weights_are_said_loudly(tmp_path, caplog):
    extract(tmp_path, [write_pixels(tmp_path, "a", 2)])
    assert [(record.levelname, record.message.split(":")[0]) for record in caplog.records] == [
        ("WARNING", "untrained network")
    ]


def test_progress_says_how_far_it_is(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO", "histotransfer")
    monkeypatch.setattr(progress, "INTERVAL_S", 0.0)
    extract(tmp_path, [write_pixels(tmp_path, slide, 6) for slide in ("a", "b")])
    lines = [line.split(",") for line in caplog.messages if "left" in line]
    assert [(line[0], line[1]) for line in lines] == [
        ("narrow: 0 of 2 slides", " 4 of 12 tiles"),
        ("narrow: 0 of 2 slides", " 6 of 12 tiles"),
        ("narrow: 1 of 2 slides", " 10 of 12 tiles"),
        ("narrow: 1 of 2 slides", " 12 of 12 tiles"),
    ]
    assert all(line[2].endswith("tiles/s") for line in lines)


def test_openvino_features_agree_and_say_what_made_them(tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    network = {**NARROW, "layers": ["block_3"]}
    found = {}
    for engine in ("keras", "openvino"):
        manifest = tmp_path / engine / "shard-0.json"
        tiles = [write_pixels(tmp_path, "a", 6)]
        extract(tmp_path, tiles, engine=engine, network=network, manifest=str(manifest))
        indices = [open_narrow([manifest], layer) for layer in (None, "block_3")]
        assert indices[0].attributes["engine"] == engine
        found[engine] = [index.read() for index in indices]
    for ours, theirs in zip(found["openvino"], found["keras"], strict=True):
        difference = np.abs(ours - theirs).max()
        assert 0 < difference <= process.OPENVINO_TOLERANCE * np.abs(theirs).max()


# errors


def save_weights(path, change=lambda base: None):
    import keras

    base = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(PX, PX, 3), alpha=0.35)
    change(base)
    base.save_weights(path)
    return str(path)


def test_weights_from_a_file_are_recorded_by_their_digest(tmp_path):
    file = save_weights(tmp_path / "own.weights.h5")
    network = {**NARROW, "weights": "own.weights.h5"}
    tiles = [write_pixels(tmp_path, "a", 2)]
    extract(tmp_path, tiles, network=network, weights_file=[file])
    with h5py.File(tmp_path / "features" / "narrow" / "a.h5") as written:
        said = [written.attrs[key] for key in ("weights", "weights_sha256", "untrained")]
    assert said == ["own.weights.h5", provenance.file_sha256(file), False]

    before = states(tmp_path)
    extract(tmp_path, tiles, network=network, weights_file=[file])
    assert changed(before, states(tmp_path)) == set()
    save_weights(file)
    extract(tmp_path, tiles, network=network, weights_file=[file])
    assert changed(before, states(tmp_path)) == {"a"}


def test_weights_of_another_network_make_nothing(tmp_path):
    file = save_weights(tmp_path / "narrow.weights.h5")
    network = {**NARROW, "alpha": 0.5, "weights": "narrow.weights.h5"}
    with pytest.raises(ValueError, match=r"narrow\.weights\.h5 is not of MobileNetV2 \(alpha 0\.5\)"):
        extract(tmp_path, [write_pixels(tmp_path, "a", 2)], network=network, weights_file=file)
    assert not (tmp_path / "features").exists()


def test_a_feature_that_is_not_finite_is_an_error_that_names_slide_and_tile(tmp_path):
    def overflow(base):
        # a black tile stays 0 all the way, whatever it is multiplied by; any other runs over
        for layer in ("expanded_conv_project", "expanded_conv_project_BN"):
            base.get_layer(layer).set_weights(
                [1e30 * each if k == 0 else each for k, each in enumerate(base.get_layer(layer).get_weights())]
            )

    file = save_weights(tmp_path / "large.weights.h5", overflow)
    network = {**NARROW, "weights": "large", "rescale": "unit", "layer": "block_0"}
    pixels = np.zeros((7, PX, PX, 3), np.uint8)
    tiles = [write_pixels(tmp_path, "a", 7, pixels=pixels)]
    extract(tmp_path, tiles, network=network, weights_file=file)
    pixels[5] = 200
    tiles.append(write_pixels(tmp_path, "b", 7, pixels=pixels))
    with pytest.raises(ValueError, match=r"slide b, tile 5_7: the features of layer block_0 of narrow are not finite"):
        extract(tmp_path, tiles, network=network, weights_file=file)
    assert set(states(tmp_path)) == {"a"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "onnx"}, "engine: legal are keras, openvino; found 'onnx'"),
        ({"precision": "half"}, "precision: legal are float32, mixed_bfloat16, mixed_float16; found 'half'"),
        ({"batch": 0}, "batch: legal are integers of at least 1; found 0"),
        ({"network": {**NARROW, "architecture": "LeNet"}}, "architecture: legal are .*; found 'LeNet'"),
        ({"network": {**NARROW, "px": 64}}, "slide a: network narrow takes tiles of 64 px; found 32 px"),
    ],
)
def test_errors_say_what_is_legal(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        extract(tmp_path, [write_pixels(tmp_path, "a", 2)], **change)


def test_a_slide_that_stands_twice_is_an_error(tmp_path):
    path = write_pixels(tmp_path, "a", 2)
    with pytest.raises(ValueError, match="slide a stands twice in one shard"):
        extract(tmp_path, [path, path])


# kills and memory

JOB = """
import json, sys, time
from histotransfer.features import extraction, sources as tile_sources
from histotransfer import plain_data
from histotransfer.settings import Extraction

class Stuck(tile_sources.PixelFileSource):
    def blocks(self, batch):
        yield from list(super().blocks(batch))[:1]
        time.sleep(600)

arguments = json.loads(sys.argv[1])
tiles, stuck = arguments.pop("tiles"), arguments.pop("stuck")
how = Extraction(*map(arguments.pop, ("engine", "precision", "batch")))
threads = arguments.pop("threads")
job = plain_data.made(extraction.ShardJob, arguments)
sources = [(Stuck if stuck in path else tile_sources.PixelFileSource)(path) for path in tiles]
extraction.extract_from_sources(sources=sources, job=job, extraction=how, threads=threads)
"""


def start_job(arguments):
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen([sys.executable, "-c", JOB, json.dumps(arguments)], env=environment)


@pytest.mark.faults
def test_a_killed_job_loses_the_slide_in_progress_and_no_other(tmp_path):
    tiles = [write_pixels(tmp_path, slide, 9) for slide in ("a", "b", "c")]
    folder = tmp_path / "features" / "narrow"
    job = start_job({**settings(tmp_path, tiles), "stuck": "b.h5"})
    deadline = time.monotonic() + 120
    while not (folder / ".b.h5.part").exists() and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    assert sorted(path.name for path in folder.iterdir()) == [".b.h5.part", "a.h5"]
    kept = states(tmp_path)

    extract(tmp_path, tiles)
    assert changed(kept, states(tmp_path)) == {"b", "c"}
    assert sorted(path.name for path in folder.iterdir()) == ["a.h5", "b.h5", "c.h5", "shard-0.json"]
    disturbed = [content(path) for path in sorted(folder.glob("*.h5"))]
    shutil.rmtree(folder)
    extract(tmp_path, tiles)
    assert [content(path) for path in sorted(folder.glob("*.h5"))] == disturbed


@pytest.mark.full
def test_memory_is_the_same_for_2000_and_for_20000_tiles(tmp_path):
    peaks = {}
    for n in (2_000, 20_000):
        tiles = [write_pixels(tmp_path / str(n), "a", n)]
        job = start_job({**settings(tmp_path / str(n), tiles, batch=32), "stuck": "none"})
        _, status, usage = os.wait4(job.pid, 0)
        assert status == 0
        peaks[n] = usage.ru_maxrss
    assert peaks[20_000] <= 1.1 * peaks[2_000], peaks


# the way back


def two_shards(folder, **changed):
    """Extract slides b and d into one shard, and c into another; return both manifests."""
    manifests = [str(folder / "features" / "narrow" / f"shard-{k}.json") for k in (0, 1)]
    tiles = {slide: write_pixels(folder, slide, n) for slide, n in (("b", 3), ("c", 4), ("d", 2))}
    bad = write_pixels(folder, "a", 0, status="unreadable", reason="cut off")
    network = {**NARROW, "layers": ["block_3"]}
    extract(folder, [tiles["d"], bad, tiles["b"]], manifest=manifests[0], network=network, **changed)
    extract(folder, [tiles["c"]], manifest=manifests[1], network=network, shard="shard-1", **changed)
    return manifests


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    two_shards(folder)
    return folder


@pytest.fixture
def manifests(made, tmp_path):
    """Manifests of a copy that a test may damage."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return [str(tmp_path / "features" / "narrow" / f"shard-{k}.json") for k in (0, 1)]


def open_narrow(manifests, *layers):
    sources = [Source("narrow", layer) for layer in layers or (None,)]
    return feature_matrix.open_matrix(manifests=manifests, sources=sources)


def test_matrix_is_in_the_order_of_slides_whatever_shard_they_are_in(manifests):
    index = open_narrow(manifests)
    assert index.image == ["image of b"] * 3 + ["image of c"] * 4 + ["image of d"] * 2
    assert index.tile == ["0_7", "1_7", "2_7", "0_7", "1_7", "2_7", "3_7", "0_7", "1_7"]
    assert (index.n_features, index.columns) == (1280, [("narrow", "out", 0, 1280)])
    matrix = index.read()
    assert matrix.shape == (9, 1280)
    assert matrix.dtype == np.float32
    with h5py.File(Path(manifests[0]).parent / "c.h5") as file:
        np.testing.assert_array_equal(matrix[3:7], file["features"][:])
        np.testing.assert_array_equal(open_narrow(manifests, "block_3").read()[3:7], file["layers/block_3"][:])
    again = open_narrow(manifests[::-1], "out")
    np.testing.assert_array_equal(again.read(), matrix)
    assert again.attributes == index.attributes
    assert index.attributes["tiles_digests"] == {slide: f"grid of {slide}" for slide in "bcd"}
    said = {key: index.attributes[key] for key in ("network", "architecture", "weights", "untrained", "layer", "px")}
    assert said == {
        "network": "narrow",
        "architecture": "MobileNetV2",
        "weights": "untrained",
        "untrained": True,
        "layer": "out",
        "px": PX,
    }


def test_layers_stand_side_by_side_in_the_order_asked_for(manifests):
    index = open_narrow(manifests, "block_3", None)
    assert index.columns == [("narrow", "block_3", 0, 16), ("narrow", "out", 16, 1296)]
    assert (index.attributes["network"], index.attributes["layer"]) == ("narrow", "block_3, out")
    expected = np.hstack([open_narrow(manifests, layer).read() for layer in ("block_3", None)])
    np.testing.assert_array_equal(index.read(), expected)


@pytest.mark.parametrize(
    "rows", [None, np.arange(9), np.array([8, 0, 3, 4, 5, 1]), np.array([2, 2]), np.array([4]), np.array([], int)]
)
@pytest.mark.parametrize("columns", [None, np.array([20, 3, 15, 16, 2]), np.array([5]), np.arange(16, 1296)])
@pytest.mark.parametrize(
    ("stretch", "narrowest"), [(1 << 20, 1), (1 << 20, 2000), (2 * 4 * 1296, 1), (2 * 4 * 1296, 2000), (1, 1)]
)
def test_any_rows_and_columns_are_read_in_the_order_asked_for(
    manifests, rows, columns, stretch, narrowest, monkeypatch
):
    index = open_narrow(manifests, "block_3", None)
    folder = Path(manifests[0]).parent
    stored = []
    for slide in "bcd":
        with h5py.File(folder / f"{slide}.h5") as file:
            stored.append(np.hstack([file["layers/block_3"][:], file["features"][:]]))
    whole = np.vstack(stored)
    # one stretch a slide, two rows a stretch, and one; straight to their place or by a copy
    monkeypatch.setattr(feature_matrix, "_STRETCH_BYTES", stretch)
    monkeypatch.setattr(feature_matrix, "_SCATTERED_COLUMNS", narrowest)
    expected = whole if rows is None else whole[rows]
    expected = expected if columns is None else expected[:, columns]
    found = index.read(rows, columns)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def add_network(folder, name, slides=("b", "c", "d"), **changed):
    """Extract another network's features of the same slides; return its manifest."""
    manifest = str(folder / "features" / name / "shard-0.json")
    tiles = [str(folder / "pixels" / f"{slide}.h5") for slide in ("a", *slides)]
    extract(folder, tiles, manifest=manifest, network_name=name, **changed)
    return manifest


def test_networks_stand_side_by_side_in_the_order_asked_for(manifests, tmp_path):
    other = add_network(tmp_path, "wide", network={**NARROW, "alpha": 0.5}, engine="keras")
    merged = feature_matrix.open_matrix(
        manifests=[manifests[1], other, manifests[0]],
        sources=[Source("wide"), Source("narrow", "block_3")],
    )
    assert merged.columns == [("wide", "out", 0, 1280), ("narrow", "block_3", 1280, 1296)]
    alone = feature_matrix.open_matrix(manifests=[other], sources=[Source("wide")])
    np.testing.assert_array_equal(merged.read(), np.hstack([alone.read(), open_narrow(manifests, "block_3").read()]))
    names = ("network", "architecture", "alpha", "weights", "untrained", "layer")
    assert [merged.attributes[name] for name in names] == [
        "wide, narrow",
        "MobileNetV2",
        "0.5, 0.35",
        "untrained",
        True,
        "out, block_3",
    ]
    assert merged.attributes["versions"] == alone.attributes["versions"]


def test_one_untrained_network_among_others_is_said(manifests, tmp_path):
    file = save_weights(tmp_path / "own.weights.h5")
    other = add_network(tmp_path, "own", network={**NARROW, "weights": "own.weights.h5"}, weights_file=[file])
    sources = [Source("own"), Source("narrow")]
    merged = feature_matrix.open_matrix(manifests=[*manifests, other], sources=sources)
    assert merged.attributes["weights"] == "own.weights.h5, untrained"
    assert merged.attributes["untrained"] is True
    alone = feature_matrix.open_matrix(manifests=[other], sources=sources[:1])
    assert alone.attributes["untrained"] is False


def test_an_unknown_layer_is_answered_with_those_there_are(manifests):
    with pytest.raises(ValueError, match=r"b\.h5: layers of narrow there are out, block_3; found 'block_4' asked for"):
        open_narrow(manifests, "block_4")


def test_a_missing_feature_file_is_named_with_what_to_run(manifests, monkeypatch):
    monkeypatch.setattr(store, "LATENCY_S", 0.1)
    (Path(manifests[1]).parent / "c.h5").unlink()
    with pytest.raises(ValueError, match=r"c\.h5 is missing.*run the rule extract_features again \(delete .*shard-1"):
        open_narrow(manifests)


def test_a_feature_file_of_another_run_is_refused(manifests, tmp_path):
    extract(tmp_path, [str(tmp_path / "pixels" / "c.h5")], manifest=str(tmp_path / "other" / "x.json"), code="new")
    shutil.copy(tmp_path / "other" / "c.h5", Path(manifests[1]).parent / "c.h5")
    with pytest.raises(
        ValueError, match=r"c\.h5 is not the one that .*shard-1\.json speaks of.*; its digest should be"
    ):
        open_narrow(manifests)


def test_a_damaged_feature_file_is_named(manifests):
    path = Path(manifests[1]).parent / "c.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    with pytest.raises(ValueError, match=r"c\.h5 is damaged"):
        open_narrow(manifests)
    path.write_bytes(whole)
    index = open_narrow(manifests)
    # the four rows of slide c, cut off in the third
    path.write_bytes(whole[: index._slides[1].layers[0].offset + 2 * 4 * 1280 + 7])
    with pytest.raises(ValueError, match=r"c\.h5 ends early: 20480 bytes are needed from row 0 on; found 10247"):
        index.read()


def test_features_in_chunks_or_of_another_type_are_refused(manifests):
    with h5py.File(Path(manifests[0]).parent / "b.h5", "r+") as file:
        values = file["features"][:]
        del file["features"]
        file.create_dataset("features", data=values, chunks=(1, 1280))
    with pytest.raises(ValueError, match=r"b\.h5: /features must be contiguous and of dtype float32; found chunks"):
        open_narrow(manifests)
    with h5py.File(Path(manifests[0]).parent / "b.h5", "r+") as file:
        del file["features"]
        file["features"] = values.astype(np.float64)
    with pytest.raises(ValueError, match=r"/features must be .*; found no chunks and float64"):
        open_narrow(manifests)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_file_layer_and_tile(manifests, value):
    with h5py.File(Path(manifests[0]).parent / "d.h5", "r+") as file:
        file["layers/block_3"][1, 3] = value
    index = open_narrow(manifests, None, "block_3")
    message = rf"d\.h5 has a value that is not finite at tile 1_7: layer block_3, found {value}"
    with pytest.raises(ValueError, match=message):
        index.read()
    # among rows in another order
    with pytest.raises(ValueError, match=message):
        index.read(np.array([8, 2, 7]), np.array([1290, 1283]))
    # what is not read does not matter
    assert np.isfinite(index.read(np.arange(8))).all()
    # where rows go straight to their place
    with h5py.File(Path(manifests[0]).parent / "d.h5", "r+") as file:
        file["features"][0, 7] = value
    with pytest.raises(ValueError, match=r"d\.h5 has a value that is not finite at tile 0_7: layer out"):
        open_narrow(manifests).read()


def test_files_that_were_not_made_alike_make_no_matrix(manifests, tmp_path):
    other = str(tmp_path / "other" / "x.json")
    write_pixels(tmp_path, "e", 2)
    network = {**NARROW, "rescale": "unit", "layers": ["block_3"]}
    extract(tmp_path, [str(tmp_path / "pixels" / "e.h5")], manifest=other, network=network)
    with pytest.raises(ValueError, match=r"must be made alike: preprocessing is 'tf' in .*; found 'unit' in .*e\.h5"):
        open_narrow([*manifests, other])


def test_manifests_of_other_networks_than_asked_for_are_refused(manifests, tmp_path):
    other = add_network(tmp_path, "other")
    with pytest.raises(ValueError, match=r"must be of the networks asked for, narrow; found narrow, other"):
        open_narrow([*manifests, other])
    with pytest.raises(ValueError, match=r"must be of the networks asked for, narrow; found other"):
        open_narrow([other])


def test_a_slide_in_two_manifests_and_no_slide_at_all_are_errors(manifests, tmp_path):
    with pytest.raises(ValueError, match="slide c stands in two manifests"):
        open_narrow([*manifests, manifests[1]])
    empty = str(tmp_path / "empty" / "x.json")
    extract(tmp_path, [str(tmp_path / "pixels" / "a.h5")], manifest=empty)
    with pytest.raises(ValueError, match=r"no slide has features in .*x\.json"):
        open_narrow([empty])


SIDE_BY_SIDE = [Source("narrow"), Source("other")]


def test_networks_that_saw_different_slides_do_not_stand_side_by_side(manifests, tmp_path):
    other = add_network(tmp_path, "other", slides="cd")
    for sources in (SIDE_BY_SIDE, SIDE_BY_SIDE[::-1]):
        with pytest.raises(
            ValueError, match=r"slide b stands in the manifests of narrow, and not in those of other; run the rule"
        ):
            feature_matrix.open_matrix(manifests=[*manifests, other], sources=sources)


def test_a_slide_that_one_network_could_not_read_is_left_out_for_all(manifests, tmp_path):
    write_pixels(tmp_path, "c", 0, status="unreadable", reason="cut off")
    other = add_network(tmp_path, "other")
    index = feature_matrix.open_matrix(manifests=[*manifests, other], sources=SIDE_BY_SIDE)
    assert index.image == ["image of b"] * 3 + ["image of d"] * 2
    assert list(index.attributes["tiles_digests"]) == ["b", "d"]
    assert index.read().shape == (5, 2 * 1280)


def test_networks_that_saw_different_tiles_do_not_stand_side_by_side(manifests, tmp_path):
    other = add_network(tmp_path, "other")
    path = Path(other).parent / "c.h5"
    with h5py.File(path, "r+") as file:
        file.attrs["tiles_digest"] = "another grid"
    with pytest.raises(
        ValueError,
        match=r"those of narrow and other are of different tiles of slide c; found digests 'grid of c' and 'another gr",
    ):
        feature_matrix.open_matrix(manifests=[*manifests, other], sources=SIDE_BY_SIDE)
    with h5py.File(path, "r+") as file:
        file.attrs["tiles_digest"] = "grid of c"
        file["tile"][:] = file["tile"][:][::-1]
    with pytest.raises(ValueError, match=r"narrow and other are of the same slide c, and its tiles differ or are in"):
        feature_matrix.open_matrix(manifests=[*manifests, other], sources=SIDE_BY_SIDE)


# trained networks


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network as training leaves it: tiles of 36 px, of which it sees the centre, and a head of 5 and 2 units."""
    import keras

    spec = specification.specification(START)
    inputs = keras.Input((36, 36, 3), dtype="uint8", name="tiles")
    x = building.trunk(spec, seed=3)(building.image_layers(spec, px_stored=36)(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(x)
    x = keras.layers.Dropout(0.5, seed=1, name="dropout_1")(x)
    x = keras.layers.Dense(5, activation="relu", name="head_1", dtype="float32")(x)
    x = keras.layers.Dense(2, name="logits", dtype="float32")(x)
    model = keras.Model(inputs, keras.layers.Softmax(name="probability", dtype="float32")(x))
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    model.save(path)
    return path, model


START = {**NARROW, "layer": "block_5"}


def write_what_was_predicted(folder, **changed):
    said = {
        "dataset": "d",
        "task": "t",
        "split": "by-patient",
        "seed": 7,
        "start": "narrow",
        "recipe": "all",
        "weights": "trained from scratch",
        "untrained": False,
    }
    path = folder / "predictions.h5"
    with store.writing_hdf5(path, {**said, **changed}):
        pass
    return str(path)


def extract_trained(folder, tiles, path, **changed):
    arguments = {
        "tiles": tiles,
        "model": str(path),
        "predictions": write_what_was_predicted(folder),
        "manifest": str(folder / "features" / "narrow" / "shard-0.json"),
        "network_name": "tuned",
        "start": START,
        "layer": None,
        "layers": ["head_1", "stem"],
        "shard": "shard-0",
        "engine": "keras",
        "precision": "float32",
        "batch": 4,
        "code": "c0de",
        "threads": 1,
        **changed,
    }
    extraction.extract_trained(**objects(arguments))
    return {row["slide"]: row for row in store.read_json(arguments["manifest"])["slides"]}


def test_features_of_a_trained_network_come_from_its_trunk_and_its_head(trained, tmp_path):
    import keras

    path, model = trained
    rows = extract_trained(tmp_path, [write_pixels(tmp_path, "s", 6, px=36)], path)
    tiles = tiles_of("s", 6, 36)
    maps = model.get_layer("trunk").predict(building.preprocess(tiles[:, 2:34, 2:34], "tf"), verbose=0)
    dense = keras.Model(model.input, model.get_layer("head_1").output).predict(tiles, verbose=0)
    with h5py.File(tmp_path / "features" / "narrow" / "s.h5") as file:
        np.testing.assert_allclose(file["features"][:], maps.mean(axis=(1, 2)), rtol=1e-4)
        np.testing.assert_allclose(file["layers/head_1"][:], dense, rtol=1e-4, atol=1e-6)
        assert file["layers/stem"].shape == (6, 16)
        said = dict(file.attrs)
    expected = {
        "network": "tuned",
        "architecture": "MobileNetV2",
        "layer": "block_5",
        "layers": '["head_1", "stem"]',
        "px": 36,
        "start": "narrow",
        "recipe": "all",
        "weights": "trained from scratch",
        "weights_sha256": weights.arrays_sha256(path),
        "trained_on": '{"dataset": "d", "seed": 7, "split": "by-patient", "task": "t"}',
        "saw_labels": True,
        "untrained": False,
        "digest": rows["s"]["digest"],
    }
    assert {key: said[key] for key in expected} == expected


def test_a_matrix_says_that_a_network_saw_the_labels(trained, tmp_path):
    pixels = [write_pixels(tmp_path, "s", 3, px=36)]
    extract_trained(tmp_path, pixels, trained[0])
    extract(
        tmp_path / "frozen", [write_pixels(tmp_path / "frozen", "s", 3)], manifest=str(tmp_path / "frozen" / "m.json")
    )
    manifest = str(tmp_path / "features" / "narrow" / "shard-0.json")
    found = feature_matrix.open_matrix(manifests=[manifest], sources=[Source("tuned", "head_1")])
    assert (found.n_features, found.attributes["saw_labels"], found.attributes["recipe"]) == (5, True, "all")
    sources = [Source("narrow")]
    both = feature_matrix.open_matrix(
        manifests=[manifest, str(tmp_path / "frozen" / "m.json")],
        sources=[*sources, Source("tuned")],
    )
    assert both.attributes["saw_labels"] is True
    frozen = feature_matrix.open_matrix(manifests=[str(tmp_path / "frozen" / "m.json")], sources=sources)
    assert frozen.attributes["saw_labels"] is False


def test_trained_features_are_kept_until_the_weights_change(trained, tmp_path):
    path, _ = trained
    pixels = [write_pixels(tmp_path, "s", 3, px=36)]
    extract_trained(tmp_path, pixels, path)
    before = states(tmp_path)
    # saved again, the file differs by its time and by names that Keras makes up, and its weights do not
    load_trained(path).save(tmp_path / "again.keras")
    extract_trained(tmp_path, pixels, tmp_path / "again.keras")
    assert states(tmp_path) == before
    other = load_trained(path)
    other.get_layer("head_1").set_weights([1 + weight for weight in other.get_layer("head_1").get_weights()])
    other.save(tmp_path / "other.keras")
    extract_trained(tmp_path, pixels, tmp_path / "other.keras")
    assert changed(before, states(tmp_path)) == {"s"}


def test_trained_features_have_the_precision_that_is_asked_for(trained, tmp_path):
    path, _ = trained
    pixels = [write_pixels(tmp_path, "s", 4, px=36)]
    found = {}
    for precision in ("float32", "mixed_bfloat16"):
        extract_trained(tmp_path, pixels, path, precision=precision)
        with h5py.File(tmp_path / "features" / "narrow" / "s.h5") as file:
            assert file.attrs["precision"] == precision
            found[precision] = file["features"][:]
    difference = np.abs(found["float32"] - found["mixed_bfloat16"]).max()
    assert 1e-5 * found["float32"].max() < difference < 0.2 * found["float32"].max()


def test_openvino_takes_a_trained_network(trained, tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    pixels = [write_pixels(tmp_path, "s", 4, px=36)]
    found = {}
    for engine in ("keras", "openvino"):
        extract_trained(tmp_path, pixels, trained[0], engine=engine)
        with h5py.File(tmp_path / "features" / "narrow" / "s.h5") as file:
            found[engine] = file["features"][:], file["layers/head_1"][:]
    for exact, fast in zip(*found.values(), strict=True):
        assert np.abs(exact - fast).max() <= process.OPENVINO_TOLERANCE * np.abs(exact).max()


@pytest.mark.parametrize(
    ("said", "px", "message"),
    [
        ({"layer": "block_6"}, 36, "legal for .*, trained, with its head are stem, .*, head_1; found 'block_6'"),
        ({"layers": ["head_2"]}, 36, "are stem, block_0, .*, block_5, head_1; found 'head_2'"),
        ({}, 32, r"model\.keras takes tiles of 36 px; found 32 px in .*s\.h5"),
        ({"precision": "float8"}, 36, "precision: legal are float32, .*; found 'float8'"),
        ({"batch": 0}, 36, "batch: legal are integers of at least 1; found 0"),
    ],
)
def test_what_a_trained_network_cannot_give_is_refused(said, px, message, trained, tmp_path):
    with pytest.raises(ValueError, match=message):
        extract_trained(tmp_path, [write_pixels(tmp_path, "s", 2, px=px)], trained[0], **said)


def test_another_file_is_no_trained_network(tmp_path):
    import keras

    image = keras.Input((36, 36, 3), dtype="uint8")
    keras.Model(image, keras.layers.Flatten(name="flat")(image)).save(tmp_path / "flat.keras")
    with pytest.raises(ValueError, match=r"has the layers image, trunk and a head; found .*flat"):
        extract_trained(tmp_path, [write_pixels(tmp_path, "s", 2, px=36)], tmp_path / "flat.keras")
    with pytest.raises(FileNotFoundError, match=r"nothing\.keras does not exist"):
        extract_trained(tmp_path, [write_pixels(tmp_path, "s", 2, px=36)], tmp_path / "nothing.keras")
