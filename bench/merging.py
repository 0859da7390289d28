"""What it costs that merged features lie in several files: time of reading, and memory of training on them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import small_study
from measuring import Row

from histotransfer.definitions import ExtraTrees, LinearSvm, RowClassifier
from histotransfer.feature_kinds import Layers, Source
from histotransfer.tables import feature_matrix

TRAIN = "classifiers.fitting.train"
#: Lengths of the last layers of the paper's seven networks: 9,600 columns.
WIDTHS = {
    **{"vgg16": 512, "vgg19": 512, "inception": 2048, "resnet": 2048},
    **{"inception-resnet": 1536, "densenet": 1920, "mobilenet": 1024},
}
SOURCES = tuple(Source(name) for name in WIDTHS)
#: One network of all columns.
ALONE = {"alone": sum(WIDTHS.values())}
SLIDES, TILES = 10, 400
CLASSES = ["alpha", "beta", "gamma"]
#: Slides of training, and tiles of each, for the measurement of memory: a third as many are held out.
TRAINED, OF_EACH = 30, 67

#: What memory is measured of; LIBLINEAR copies its rows by itself, so that its memory is said and has no bar.
CLASSIFIERS = (
    LinearSvm("libsvm", C=(0.001, 0.01)),
    ExtraTrees(max_features=("sqrt",), trees=20),
    LinearSvm("liblinear", C=(0.001,)),
)


def rows(folder: Path, repetitions: int) -> Iterator[Row]:
    """Yield the rows about merged features."""
    yield _reading(folder / "merging", repetitions)
    yield _memory(folder / "merging-trained")


def _reading(folder: Path, repetitions: int) -> Row:
    merged = _write_features(folder, WIDTHS, SLIDES, TILES)
    [alone] = _write_features(folder, ALONE, 1, SLIDES * TILES)
    index = feature_matrix.open_matrix(manifests=merged, sources=SOURCES)
    path = Path(alone).parent / "s00.h5"

    # as the tables of training have it: each slide's tiles in another order than its file
    shuffled = np.concatenate([TILES * k + np.random.default_rng(k).permutation(TILES) for k in range(SLIDES)])

    def contiguously() -> None:
        matrix = _read_whole(path)
        if not np.isfinite(matrix).all():
            raise ValueError(f"{path}: values must be finite")

    ratio, low, high = measuring.ratios(index.read, contiguously, repetitions)
    in_order_of_tables, _, _ = measuring.ratios(lambda: index.read(shuffled), contiguously, repetitions)
    unchecked, _, _ = measuring.ratios(index.read, lambda: _read_whole(path), repetitions)
    what = f"reading merged features, {SLIDES * TILES:,} x 9,600 of seven networks in {SLIDES} slides, against one file"
    note = (
        f"both with the check that all values are finite; {in_order_of_tables:.2f} with tiles in another order than "
        f"the files', {unchecked:.2f} against one file unchecked"
    )
    return Row(what, ratio, low, high, 1.2, at_least=False, note=note)


def _read_whole(path: Path) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        return file["features"][:]


def _memory(folder: Path) -> Row:
    size = 4 * TRAINED * OF_EACH * sum(WIDTHS.values()) / 2**20
    large = write_study(folder / "large", WIDTHS, OF_EACH)
    # what Python, its libraries and the reading of texts take: a run on next to nothing
    little = write_study(folder / "little", dict.fromkeys(WIDTHS, 4), 2)
    found = {one.kind: (_peak(large, one) - _peak(little, one)) / size for one in CLASSIFIERS}
    worst = max(found["libsvm"], found["extratrees"])
    said = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in found.items())
    what = f"memory of training on merged features, {TRAINED * OF_EACH:,} x 9,600, 3 folds, 2 threads, over their size"
    return Row(what, worst, worst, worst, 2.2, at_least=False, note=f"{said}; above that of a run on little")


def _peak(study: dict[str, Any], classifier: RowClassifier) -> float:
    home = Path(study["slides_table"]).parent
    written = {name: str(home / f"{classifier.kind}.{name}") for name in ("model", "predictions", "tuning")}
    asked = {**study, **written, "classifier": classifier}
    asked["factors"] = small_study.factors("merged", classifier.kind)
    return measuring.in_own_process(TRAIN, **asked).mib


def _write_features(folder: Path, widths: dict[str, int], slides: int, tiles: int) -> list[str]:
    """Write random features of slides of equally many tiles; return a manifest for each network."""
    manifests = []
    for number, (network, width) in enumerate(widths.items()):
        generator = np.random.default_rng(number)
        entries = [
            small_study.write_features(
                folder / network / f"s{k:02d}.h5",
                [f"{tile:05d}" for tile in range(tiles)],
                generator.standard_normal((tiles, width), dtype=np.float32),
                network=network,
            )
            for k in range(slides)
        ]
        manifests.append(small_study.write_manifest(folder / network / "shard-0.json", network, entries))
    return manifests


def write_study(folder: Path, widths: dict[str, int], tiles: int) -> dict[str, Any]:
    """Write features, labels, cohort and split; return the arguments of :data:`TRAIN`, without the classifier."""
    n_slides = TRAINED + TRAINED // 3
    manifests = _write_features(folder, widths, n_slides, tiles)
    names = [f"{tile:05d}" for tile in range(tiles)]
    slides = [
        small_study.Slide(f"s{k:02d}", names, [CLASSES[k % 3]] * tiles, "train" if k < TRAINED else "test")
        for k in range(n_slides)
    ]
    return {
        **small_study.write_tables(folder, slides, folds=3),
        **{"features": manifests, "feature_set": Layers(SOURCES), "classes": CLASSES},
        **{"master_seed": 1, "threads": 2},
    }
