"""How much of the bare forward pass is left when tiles come from files and features go to files."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import measuring
import numpy as np
import small_study
from measuring import Row

from histotransfer.backends import compiled, process
from histotransfer.networks import building, specification

EXTRACT = "features.extraction.extract"
NETWORK: dict[str, Any] = {"architecture": "MobileNetV2", "alpha": 1.0, "weights": "random", "px": 224}
SMALL: dict[str, Any] = {**NETWORK, "alpha": 0.35, "px": 32}
BATCH, N = 32, 512


def rows(folder: Path, repetitions: int) -> Iterator[Row]:
    """Yield the rows about `extract_features`."""
    yield _against_bare_pass(folder, repetitions)
    yield from _every_cut_point(repetitions)
    yield from _ten_slides(folder)
    yield _memory(folder)


def write_tiles(path: Path, n: int, px: int) -> str:
    """Write a pixel file of random tiles."""
    return small_study.write_pixels(path, [str(k) for k in range(n)], px, seed=n)


def arguments(manifest: Path, network: dict[str, Any], threads: int = 2) -> dict[str, Any]:
    """Return the arguments of :data:`EXTRACT`, without the tiles."""
    return {
        **{"weights_file": [], "manifest": str(manifest), "network_name": "bench", "network": network, "batch": BATCH},
        **{"shard": "shard-0", "engine": "keras", "precision": "float32", "master_seed": 1, "code": ""},
        "threads": threads,
    }


class _Times(logging.Handler):
    """Keeps what the stage says of its own speed after start-up."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r"tiles in .*, ([\d.]+) tiles/s", record.getMessage())
        self.rate = float(found[1]) if found else self.rate


def _against_bare_pass(folder: Path, repetitions: int) -> Row:
    tiles = write_tiles(folder / "bench-a.h5", N, 224)
    target = folder / "features"
    target.mkdir(exist_ok=True)
    said = _Times()
    logger = logging.getLogger("histotransfer")
    logger.setLevel(logging.INFO)
    logger.addHandler(said)
    spec = specification.specification(NETWORK)
    process.set_threads(2)
    forward = compiled.compiled_forward(building.build(spec, seed=1), 224, engine="keras", batch=BATCH, threads=2)
    with h5py.File(tiles, "r") as file:
        in_memory = file["tiles"][:]
    blocks = [in_memory[start : start + BATCH] for start in range(0, N, BATCH)]
    forward(blocks[0])
    found = []
    for _ in range(repetitions):
        (target / "bench-a.h5").unlink(missing_ok=True)
        measuring.call(EXTRACT, tiles=[tiles], **arguments(target / "shard-0.json", NETWORK))
        bare = N / measuring.wall_seconds(lambda: [forward(block) for block in blocks])
        found.append(said.rate / bare)
    logger.removeHandler(said)
    what = f"`extract_features` after start-up, MobileNetV2 at 224 px ({N} tiles), against the bare forward pass"
    return Row(what, float(np.median(found)), min(found), max(found), 0.95, note="wall time")


def _every_cut_point(repetitions: int) -> Iterator[Row]:
    for architecture, n in (("MobileNetV2", 128), ("ResNet50", 32)):
        entry = {"architecture": architecture, "weights": "random", "px": 224}
        forward = {}
        process.set_threads(2)
        for layers in ("all", "none"):
            spec = specification.specification(entry | ({"layers": "all"} if layers == "all" else {}))
            model = building.build(spec, seed=1)
            forward[layers] = compiled.compiled_forward(model, 224, engine="keras", batch=BATCH, threads=2)
        tiles = np.random.default_rng(1).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)
        blocks = [tiles[start : start + BATCH] for start in range(0, n, BATCH)]
        ratio, low, high = measuring.ratios(
            lambda forward=forward, blocks=blocks: [forward["all"](block) for block in blocks],
            lambda forward=forward, blocks=blocks: [forward["none"](block) for block in blocks],
            repetitions,
        )
        n_points = len(specification.specification({**entry, "layers": "all"}).layers) + 1
        what = f"all {n_points} cut points in one pass of {architecture} at 224 px ({n} tiles), against the last alone"
        yield Row(what, ratio, low, high, 1.1, at_least=False)


def _ten_slides(folder: Path) -> Iterator[Row]:
    home = folder / "ten"
    home.mkdir(exist_ok=True)
    for old in (*home.glob("features/*"), *home.glob("*.h5")):
        old.unlink()
    paths = [write_tiles(home / f"s{k:02d}.h5", 20, 32) for k in range(11)]
    manifest = home / "features/shard-0.json"
    builds = _Count()
    logger = logging.getLogger("histotransfer")
    logger.setLevel(logging.INFO)
    logger.addHandler(builds)
    measuring.call(EXTRACT, tiles=paths[:10], **arguments(manifest, SMALL))
    yield Row("networks built for ten small slides in a shard", *[float(builds.n)] * 3, bar=1, at_least=False)
    before = {entry["slide"]: (manifest.parent / entry["file"]).stat().st_mtime_ns for entry in _slides(manifest)}
    measuring.call(EXTRACT, tiles=paths, **arguments(manifest, SMALL))
    logger.removeHandler(builds)
    now = {entry["slide"]: (manifest.parent / entry["file"]).stat().st_mtime_ns for entry in _slides(manifest)}
    written = sum(before.get(slide) != time for slide, time in now.items())
    yield Row("slides extracted when an eleventh is added", *[float(written)] * 3, bar=1, at_least=False)


def _slides(manifest: Path) -> list[dict[str, Any]]:
    return json.loads(manifest.read_text("utf-8"))["slides"]


class _Count(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.n += "network ready" in record.getMessage()


def _memory(folder: Path) -> Row:
    peaks = []
    for n in (2000, 20000):
        tiles = write_tiles(folder / f"many-{n}.h5", n, 64)
        target = folder / f"features-{n}"
        target.mkdir(exist_ok=True)
        (target / f"many-{n}.h5").unlink(missing_ok=True)
        given = arguments(target / "shard-0.json", {**SMALL, "px": 64})
        peaks.append(measuring.in_own_process(EXTRACT, tiles=[tiles], **given).mib)
        Path(tiles).unlink()
    ratio = peaks[1] / peaks[0]
    note = f"{peaks[0]:.0f} and {peaks[1]:.0f} MiB"
    return Row("peak memory of `extract_features`, 20,000 tiles against 2,000", ratio, ratio, ratio, 1.1, False, note)
