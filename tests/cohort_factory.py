"""A small cohort without slides: its table, feature files and label tables, in the workflow's own forms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from histotransfer import store
from histotransfer.cohort import cohort, labels, splits
from histotransfer.definitions import Draw, Factors, LearningTables, ModelFiles, Split
from histotransfer.feature_kinds import Layers, Source

CLASSES = ["fibrous", "glandular", "lymphoid"]
#: The features that :class:`Cohort` writes.
FEATURES = Layers((Source("net"),))
#: What is learnt of them.
FACTORS = Factors("d", "t", "by-patient", Draw(1), features="net", classifier="c")


@dataclass
class Tile:
    """One tile: where it is from, its class ("" for none) and its features."""

    tile: str
    image: str
    slide: str
    patient: str
    label: str
    features: Sequence[float]


@dataclass
class Cohort:
    """The tiles of a cohort and the folder that its files are written to."""

    folder: Path
    tiles: list[Tile]
    untrained: bool = False
    status: dict[str, str] = field(default_factory=dict)

    def images(self) -> list[str]:
        return sorted({tile.image for tile in self.tiles})

    def write(self, shards: int = 1, reverse: bool = False) -> dict[str, object]:
        """Write all files; return the manifests of the features, the label tables and the cohort's table."""
        images = self.images()[::-1] if reverse else self.images()
        manifests = []
        for shard in range(shards):
            manifest = self.folder / "features" / "net" / f"{shard}.json"
            entries = [self._write_features(image) for image in images[shard::shards]]
            store.write_json(manifest, {"network": "net", "shard": shard, "code": "", "slides": entries})
            manifests.append(str(manifest))
        return {
            "features": manifests[::-1] if reverse else manifests,
            "labels": [self._write_labels(image) for image in images],
            "slides_table": self.write_slides_table(),
        }

    def write_slides_table(self) -> str:
        rows = []
        for image in self.images():
            inside = [tile for tile in self.tiles if tile.image == image]
            counts: dict[str, int] = {}
            for tile in inside:
                if tile.label:
                    counts[tile.label] = counts.get(tile.label, 0) + 1
            rows.append(
                slides_row(
                    image,
                    slide=inside[0].slide,
                    patient=inside[0].patient,
                    labels=counts,
                    status=self.status.get(image, "ok"),
                    tiles=len(inside),
                )
            )
        return write_slides_table(self.folder / "slides.tsv", rows)

    def _write_features(self, image: str) -> dict[str, object]:
        inside = [tile for tile in self.tiles if tile.image == image]
        path = self.folder / "features" / "net" / f"{image}.h5"
        weights = "random" if self.untrained else "imagenet"
        attributes = {"status": "ok", "reason": "", "network": "net", "weights": weights, "untrained": self.untrained}
        with store.writing_hdf5(path, {**attributes, "layer": "last", "layers": [], "digest": "d", "px": 8}) as file:
            file["features"] = np.array([tile.features for tile in inside], dtype=np.float32)
            file["coords"] = np.zeros((len(inside), 2), dtype=np.int64)
            store.write_texts(file, "tile", [tile.tile for tile in inside])
            store.write_texts(file, "image", [tile.image for tile in inside])
        found = {"slide": image, "file": path.name, "status": "ok", "reason": ""}
        return {**found, "n_tiles": len(inside), "digest": "d"}

    def _write_labels(self, image: str) -> str:
        path = self.folder / "labels" / f"{image}.tsv"
        rows = [vars(tile) for tile in self.tiles if tile.image == image]
        store.write_table(path, labels.COLUMNS, ({name: row[name] for name in labels.COLUMNS} for row in rows))
        return str(path)


def slides_row(
    image: str,
    *,
    slide: str = "",
    patient: str = "",
    labels: dict[str, int] | None = None,
    split: str = "",
    status: str = "ok",
    tiles: int = 1,
) -> dict[str, object]:
    """Return a row of the cohort's table."""
    return {
        "image": image,
        "image_in_sheet": image,
        "slide": slide or image,
        "patient": patient,
        "labels": json.dumps(labels or {}),
        "split": split,
        "status": status,
        "tiles": tiles,
        "excluded_tiles": 0,
    }


def write_slides_table(path: Path, rows: Sequence[dict[str, object]]) -> str:
    """Write the cohort's table."""
    store.write_table(path, cohort.COLUMNS, rows)
    return str(path)


def separable(
    folder: Path,
    *,
    patients: int = 18,
    tiles: int = 8,
    n_features: int = 12,
    distance: float = 3.0,
    classes: Sequence[str] = CLASSES,
    seed: int = 0,
) -> Cohort:
    """Return patients of one slide and one class each, whose classes lie `distance` standard deviations apart."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(patients):
        index = number % len(classes)
        centre = np.zeros(n_features)
        centre[index] = distance
        for k in range(tiles):
            features = (centre + random.standard_normal(n_features)).astype(np.float32).tolist()
            slide, patient = f"slide{number:02d}", f"patient{number:02d}"
            made.append(Tile(f"{k}_0", f"image{number:02d}", slide, patient, classes[index], features))
    return Cohort(folder, made)


def split_by_patient(folder: Path, slides_table: str, **changes: object) -> tuple[str, Split]:
    """Write a split by patient; return its file and its definition."""
    split = Split(**{"unit": "patient", "test": 0.34, "folds": 3, **changes})
    path = str(folder / "split.tsv")
    splits.assign_groups(
        slides_table=slides_table, tile_files=[], split_file=path, split=split, split_seed=1, master_seed=2018
    )
    return path, split


def tables_of(inputs: dict[str, object], split_file: str) -> LearningTables:
    """Return the tables among what :meth:`Cohort.write` returned, with a split."""
    return LearningTables(tuple(inputs["labels"]), inputs["slides_table"], split_file)


def model_files(folder: Path) -> ModelFiles:
    """Return where a classifier's training writes in a folder."""
    return ModelFiles(*(str(folder / name) for name in ("model.skops", "predictions.h5", "tuning.tsv")))
