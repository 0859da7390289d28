"""A small study as the rules leave it: pixel files of random tiles, labels, the cohort's table and a split."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measuring
import numpy as np

from histotransfer import store
from histotransfer.cohort import cohort, labels
from histotransfer.definitions import Draw, Factors, Split

#: Tiles that are written at a time.
_BLOCK = 256


@dataclass(frozen=True)
class Slide:
    """A slide, its only image and its patient, which have its name.

    Attributes
    ----------
    name : str
    tiles, labels : sequence of str
        The name of each tile, and its class.
    of : {'train', 'test'}
    """

    name: str
    tiles: Sequence[str]
    labels: Sequence[str]
    of: str = "train"


def factors(features: str, classifier: str = "softmax") -> Factors:
    """Return what a model is of."""
    return Factors("bench", "kind", "given", Draw(1), features=features, classifier=classifier)


def numbered(name: str, n: int, classes: Sequence[str], of: str = "train") -> Slide:
    """Return a slide of n tiles with numbers for names, of the classes in turn."""
    return Slide(name, [str(k) for k in range(n)], [classes[k % len(classes)] for k in range(n)], of)


def square(name: str, n: int, classes: Sequence[str], of: str = "train") -> Slide:
    """Return a slide of n tiles that lie in a square, with column and row for names, of the classes in turn."""
    edge = int(np.ceil(np.sqrt(n)))
    places = [f"{k % edge}_{k // edge}" for k in range(n)]
    return Slide(name, places, [classes[k % len(classes)] for k in range(n)], of)


def write_pixels(path: Path, tiles: Sequence[str], px: int, seed: int = 0, **attributes: Any) -> str:
    """Write a pixel file of random tiles, as the rule tile_pixels does, and return its path."""
    generator = np.random.default_rng(seed)
    known = {"slide": path.stem, "status": "ok", "reason": "", "px": px, "digest": path.stem}
    with store.writing_hdf5(path, {**known, "tiles_digest": path.stem, **attributes}) as file:
        data = file.create_dataset("tiles", (len(tiles), px, px, 3), np.uint8)
        for start in range(0, len(tiles), _BLOCK):
            stop = min(len(tiles), start + _BLOCK)
            data[start:stop] = generator.integers(0, 256, (stop - start, px, px, 3), np.uint8)
        store.write_texts(file, "tile", tiles)
        store.write_texts(file, "image", [path.stem] * len(tiles))
        file.create_dataset("coords", data=np.zeros((len(tiles), 2), np.int64))
    return str(path)


def write_features(path: Path, tiles: Sequence[str], values: np.ndarray, **attributes: Any) -> dict[str, Any]:
    """Write the feature file of a slide, and return its entry in a manifest."""
    known = {"status": "ok", "network": "net", "weights": "random", "untrained": True, "layer": "last", "layers": []}
    known |= {"digest": "d", "tiles_digest": path.stem, **attributes}
    with store.writing_hdf5(path, known) as file:
        file["features"] = values
        file["coords"] = np.zeros((len(tiles), 2), np.int64)
        store.write_texts(file, "tile", tiles)
        store.write_texts(file, "image", [path.stem] * len(tiles))
    entry = {"slide": path.stem, "file": path.name, "status": "ok", "reason": "", "n_tiles": len(tiles)}
    return {**entry, "digest": known["digest"]}


def write_manifest(path: Path, network: str, entries: Sequence[dict[str, Any]]) -> str:
    """Write the manifest of a network's features, and return its path."""
    store.write_json(path, {"network": network, "shard": path.stem, "code": "", "slides": entries})
    return str(path)


def write_tables(folder: Path, slides: Iterable[Slide], *, folds: int = 2) -> dict[str, Any]:
    """Write labels, the cohort's table and the split; return them as the rules of training have them."""
    of_tiles, of_slides = [], []
    for slide in slides:
        row = {"image": slide.name, "slide": slide.name, "patient": slide.name}
        of_tiles += [
            {**row, "tile": tile, "label": label} for tile, label in zip(slide.tiles, slide.labels, strict=True)
        ]
        row |= {"image_in_sheet": slide.name, "status": "ok", "split": slide.of, "tiles": len(slide.tiles)}
        of_slides.append({**row, "excluded_tiles": 0, "labels": json.dumps(Counter(slide.labels))})
    paths = {name: str(folder / f"{name}.tsv") for name in ("labels", "slides_table", "split_file")}
    store.write_table(paths["labels"], labels.COLUMNS, of_tiles)
    store.write_table(paths["slides_table"], cohort.COLUMNS, of_slides)
    split = Split("given", folds=folds, groups="patient")
    measuring.call(
        "cohort.splits.assign_groups",
        slides_table=paths["slides_table"],
        tile_files=[],
        split_file=paths["split_file"],
        split=split,
        split_seed=1,
        master_seed=1,
    )
    return {**paths, "labels": [paths["labels"]], "split": split}
