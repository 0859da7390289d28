"""One matrix of features over all slides of a dataset, read in place from the slides' files."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import store
from histotransfer.feature_kinds import Source
from histotransfer.tables.columns import Columns
from histotransfer.tables.slide_files import joined_versions

#: Bytes of a stretch of rows, all layers together, that is read at a time: it fits the processor's cache.
_STRETCH_BYTES = 2 << 20
#: Rows that one call of the system reads to places apart at most (its ``IOV_MAX``), and columns of these at least.
_SCATTERED, _SCATTERED_COLUMNS = 1024, 256
#: Attributes that all files of one feature set share.
_SHARED_ATTRIBUTES = (
    "network",
    "architecture",
    "alpha",
    "weights",
    "weights_sha256",
    "untrained",
    "layer",
    "layers",
    "px",
    "preprocessing",
    "backend",
    "engine",
    "precision",
    "start",
    "recipe",
    "trained_on",
    "saw_labels",
)


@dataclass(frozen=True)
class _Stored:
    """One layer of one slide: its bytes in a feature file."""

    path: Path
    offset: int


@dataclass(frozen=True)
class _SlideRows:
    """The rows of one slide, and where each of its layers lies, in the order of the columns."""

    start: int
    stop: int
    layers: list[_Stored]


@dataclass(frozen=True)
class MatrixIndex:
    """A matrix of features without its numbers, which :meth:`read` reads.

    Attributes
    ----------
    tile, image : list of str
        Each row's tile and the image it was cut from: rows in the order of slide ids, and within a slide in that of
        its tiles.
    columns : list of Columns
        Which layer of which network fills which columns, in order.
    attributes : dict
        What all files share (network, architecture, weights, weights_sha256, untrained, layer, ...), with ``layer``
        the layers read, ``tiles_digests``: what each slide's tiles were, by slide, and ``versions`` of the
        libraries. Of several networks, what differs is joined by ``", "`` in their order; ``untrained`` says
        whether any is, ``saw_labels`` whether any was trained on labels of this study.
    """

    tile: list[str]
    image: list[str]
    columns: list[Columns]
    attributes: dict[str, Any]
    _slides: list[_SlideRows]

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return self.columns[-1].stop

    def read(self, rows: np.ndarray | None = None, columns: np.ndarray | None = None) -> np.ndarray:
        """Read some rows and columns, each straight to its place.

        Parameters
        ----------
        rows, columns : ndarray of int, optional
            Places in the whole matrix, in the order wanted; by default all.

        Returns
        -------
        ndarray of float32, shape (n_rows, n_columns)

        Raises
        ------
        ValueError
            If a value is not finite, naming file and tile, or if a file ends early.
        """
        rows = np.arange(len(self.tile)) if rows is None else np.asarray(rows)
        columns = np.arange(self.n_features) if columns is None else np.asarray(columns)
        matrix = np.empty((len(rows), len(columns)), np.float32)
        taken = [_Taken(number, layer, columns) for number, layer in enumerate(self.columns)]
        taken = [part for part in taken if part.n]
        step = max(1, _STRETCH_BYTES // max(1, sum(4 * part.width for part in taken)))
        buffers = [np.empty((step, part.width), np.float32) for part in taken]
        order = np.argsort(rows, kind="stable")
        wanted = rows[order]
        for slide in self._slides:
            first, last = np.searchsorted(wanted, [slide.start, slide.stop])
            if first == last:
                continue
            with ExitStack() as stack:
                files = [stack.enter_context(open(slide.layers[part.number].path, "rb", buffering=0)) for part in taken]
                # a stretch of rows of all layers at a time: it stays in the processor's cache until it is in place
                for start in range(slide.start, slide.stop, step):
                    stop = min(start + step, slide.stop)
                    low, high = first + np.searchsorted(wanted[first:last], [start, stop])
                    if low == high:
                        continue
                    self._read_stretch(
                        matrix,
                        columns,
                        slide,
                        taken,
                        files,
                        buffers,
                        start=start,
                        stop=stop,
                        wanted=wanted[low:high],
                        places=_as_slice(order[low:high]),
                    )
        return matrix

    def _read_stretch(
        self,
        matrix: np.ndarray,
        columns: np.ndarray,
        slide: _SlideRows,
        taken: Sequence[_Taken],
        files: Sequence[Any],
        buffers: Sequence[np.ndarray],
        *,
        start: int,
        stop: int,
        wanted: np.ndarray,
        places: slice | np.ndarray,
    ) -> None:
        """Read the rows from `start` to `stop`, of which `wanted` go to `places`."""
        within, row, n = _as_slice(wanted - start), start - slide.start, stop - start
        in_order = len(wanted) == n and isinstance(within, slice) and isinstance(places, slice)
        if in_order and n <= _SCATTERED and all(part.straight for part in taken):
            for part, file in zip(taken, files, strict=True):
                _read_rows(file, slide.layers[part.number], row, list(matrix[places, part.to]))
            self._check_finite(matrix[places], slide, wanted, columns)
            return
        for part, file, buffer in zip(taken, files, buffers, strict=True):
            _read_rows(file, slide.layers[part.number], row, [buffer[:n]])
            block = buffer[within] if part.whole else buffer[within][:, part.columns]
            self._check_finite(block, slide, wanted, columns[part.to])
            if isinstance(places, slice) or isinstance(part.to, slice):
                matrix[places, part.to] = block
            else:
                matrix[places[:, None], part.to] = block

    def _check_finite(self, block: np.ndarray, slide: _SlideRows, rows: np.ndarray, columns: np.ndarray) -> None:
        if np.isfinite(block).all():
            return
        row, column = np.argwhere(~np.isfinite(block))[0]
        number = next(k for k, layer in enumerate(self.columns) if layer.start <= columns[column] < layer.stop)
        raise ValueError(
            f"feature file {slide.layers[number].path} has a value that is not finite at tile "
            f"{self.tile[rows[row]]}: layer {self.columns[number].layer}, found {block[row, column]}"
        )


class _Taken:
    """Which columns of one layer are read, and to where."""

    def __init__(self, number: int, layer: Columns, columns: np.ndarray) -> None:
        inside = np.flatnonzero((columns >= layer.start) & (columns < layer.stop))
        self.number = number
        self.width = layer.stop - layer.start
        self.n = len(inside)
        self.columns = columns[inside] - layer.start
        self.to = _as_slice(inside)
        self.whole = np.array_equal(self.columns, np.arange(self.width))
        # rows of a few bytes are sooner copied than listed
        self.straight = self.whole and isinstance(self.to, slice) and self.width >= _SCATTERED_COLUMNS


def _as_slice(places: np.ndarray) -> slice | np.ndarray:
    """Return ascending neighbours as a slice, which numpy takes without a copy, and anything else as it is."""
    if len(places) and np.array_equal(places, np.arange(places[0], places[0] + len(places))):
        return slice(int(places[0]), int(places[0]) + len(places))
    return places


def _read_rows(file: Any, stored: _Stored, row: int, places: list[np.ndarray]) -> None:
    """Read rows from `row` on, one after the other, into arrays of one size that may lie apart."""
    width = places[0].shape[-1]
    n_bytes = os.preadv(file.fileno(), places, stored.offset + row * width * places[0].itemsize)
    needed = len(places) * places[0].nbytes
    if n_bytes != needed:
        raise ValueError(
            f"feature file {stored.path} ends early: {needed} bytes are needed from row {row} on; found {n_bytes}. "
            "Delete it and run the rule extract_features again"
        )


def open_matrix(*, manifests: Sequence[str], sources: Sequence[Source]) -> MatrixIndex:
    """Find the features that manifests name, of one or more layers side by side; texts and attributes are read.

    Parameters
    ----------
    manifests : list of path
        Manifests of one or more networks, in any order, one a network and shard.
    sources : sequence of Source
        In the order of the columns; where ``layer`` is None, it is the one that the network's features proper come
        from.

    Returns
    -------
    MatrixIndex

    Raises
    ------
    ValueError
        If the manifests are of other networks than the sources; if a file is missing or is not the one that its
        manifest speaks of (naming the file and what to run); if the files of a network were not made alike; if there
        is no such layer (naming those there are); if the networks saw different slides or tiles (naming both); or if
        no slide has features.
    """
    layers_of: dict[str, list[str | None]] = {}
    for source in sources:
        layers_of.setdefault(source.network, []).append(source.layer)
    entries_of = _entries_by_network(manifests)
    if set(entries_of) != set(layers_of):
        raise ValueError(
            f"manifests must be of the networks asked for, {', '.join(layers_of)}; found {', '.join(entries_of)}"
        )
    _check_same_slides({network: set(entries_of[network]) for network in layers_of})
    # what one network could not read is left out for all: the cohort's table excludes it too
    usable = [
        slide
        for slide in sorted(next(iter(entries_of.values())))
        if all(entries[slide].status == "ok" for entries in entries_of.values())
    ]
    if not usable:
        raise ValueError(f"no slide has features in {', '.join(map(str, manifests))}")
    opened = {
        network: _open_network([entries_of[network][slide] for slide in usable], layers)
        for network, layers in layers_of.items()
    }
    first, *others = opened.values()
    for other in others:
        _check_same_tiles(usable, first, other)
    columns: list[Columns] = []
    for source in sources:
        layer = source.layer or opened[source.network].attributes.get("layer", "")
        width = opened[source.network].widths[source.layer]
        start = columns[-1].stop if columns else 0
        columns.append(Columns(source.network, str(layer), start, start + width))
    slides = []
    start = 0
    for number, tile in enumerate(first.tile):
        stored = [opened[source.network].stored[number][source.layer] for source in sources]
        slides.append(_SlideRows(start, start + len(tile), stored))
        start += len(tile)
    if not start:
        raise ValueError(f"no slide has features in {', '.join(map(str, manifests))}")
    return MatrixIndex(
        tile=list(itertools.chain.from_iterable(first.tile)),
        image=list(itertools.chain.from_iterable(first.image)),
        columns=columns,
        attributes={
            **_joined([network.attributes for network in opened.values()]),
            "layer": _join([each.layer for each in columns]),
            "tiles_digests": dict(zip(usable, first.tiles_digests, strict=True)),
            "versions": joined_versions(itertools.chain.from_iterable(each.versions for each in opened.values())),
        },
        _slides=slides,
    )


@dataclass(frozen=True)
class _Entry:
    """What a manifest says of one slide."""

    manifest: str
    file: str
    digest: str
    status: str


@dataclass
class _NetworkFiles:
    """What the feature files of one network say, slide by slide."""

    attributes: dict[str, Any] = field(default_factory=dict)
    tile: list[list[str]] = field(default_factory=list)
    image: list[list[str]] = field(default_factory=list)
    tiles_digests: list[str] = field(default_factory=list)
    stored: list[dict[str | None, _Stored]] = field(default_factory=list)
    widths: dict[str | None, int] = field(default_factory=dict)
    versions: list[dict[str, str]] = field(default_factory=list)


def _open_network(entries: Sequence[_Entry], layers: Sequence[str | None]) -> _NetworkFiles:
    import h5py

    opened = _NetworkFiles()
    first = ""
    for entry in entries:
        path = Path(entry.manifest).parent / entry.file
        again = f"run the rule extract_features again (delete {entry.manifest} and give the same command)"
        if not store.arrived(path):
            raise ValueError(f"feature file {path} is missing, though {entry.manifest} names it; {again}")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise ValueError(f"feature file {path} is damaged ({error}); delete it and {again}") from error
        with file:
            digest = str(file.attrs.get("digest", ""))
            if digest != entry.digest:
                raise ValueError(
                    f"feature file {path} is not the one that {entry.manifest} speaks of; {again}; its digest should "
                    f"be {entry.digest[:16]}..., found {digest[:16]}..."
                )
            stated = {key: _value(file.attrs[key]) for key in _SHARED_ATTRIBUTES if key in file.attrs}
            opened.attributes, first = opened.attributes or stated, first or str(path)
            for key, value in stated.items():
                if value != opened.attributes.get(key):
                    raise ValueError(
                        f"feature files of one network must be made alike: {key} is "
                        f"{opened.attributes.get(key)!r} in {first}; found {value!r} in {path}"
                    )
            opened.tile.append(store.read_texts(file, "tile"))
            opened.image.append(store.read_texts(file, "image"))
            opened.tiles_digests.append(str(file.attrs.get("tiles_digest", "")))
            opened.stored.append({})
            for layer in layers:
                dataset = file[_dataset_name(file, path, layer)]
                opened.widths[layer] = int(dataset.shape[1])
                opened.stored[-1][layer] = _Stored(path, _offset(dataset, path))
            opened.versions.append(json.loads(file.attrs.get("versions", "{}")))
    return opened


def _offset(dataset: Any, path: Path) -> int:
    """Return where a dataset's bytes begin: rows are then read without a call of HDF5 for each stretch."""
    offset = dataset.id.get_offset()
    if dataset.dtype != np.dtype("<f4") or (dataset.size and offset is None):
        raise ValueError(
            f"feature file {path}: {dataset.name} must be contiguous and of dtype float32; found "
            f"{'chunks' if dataset.chunks else 'no chunks'} and {dataset.dtype}"
        )
    return offset or 0


def _entries_by_network(manifests: Sequence[str]) -> dict[str, dict[str, _Entry]]:
    """Return the entries of manifests by network and slide id."""
    entries_of: dict[str, dict[str, _Entry]] = {}
    for manifest in manifests:
        content = store.read_json(manifest)
        by_slide = entries_of.setdefault(content["network"], {})
        for row in content["slides"]:
            slide, entry = row["slide"], _Entry(str(manifest), row["file"], row["digest"], row["status"])
            if slide in by_slide:
                raise ValueError(
                    f"slide {slide} stands in two manifests: {by_slide[slide].manifest} and {entry.manifest}"
                )
            by_slide[slide] = entry
    return entries_of


def _check_same_slides(slides_of: Mapping[str, set[str]]) -> None:
    (first, ours), *others = slides_of.items()
    for other, theirs in others:
        for slide in sorted(ours ^ theirs):
            there, absent = (first, other) if slide in ours else (other, first)
            raise ValueError(
                f"networks side by side need features of the same slides: slide {slide} stands in the manifests of "
                f"{there}, and not in those of {absent}; run the rule extract_features again"
            )


def _check_same_tiles(slides: Sequence[str], first: _NetworkFiles, other: _NetworkFiles) -> None:
    names = f"{first.attributes.get('network')} and {other.attributes.get('network')}"
    for number, slide in enumerate(slides):
        ours, theirs = first.tiles_digests[number], other.tiles_digests[number]
        if ours != theirs:
            raise ValueError(
                f"networks side by side need features of the same tiles: those of {names} are of different tiles of "
                f"slide {slide}; found digests {ours[:16]!r} and {theirs[:16]!r}. Run the rule extract_features again"
            )
        if (first.tile[number], first.image[number]) != (other.tile[number], other.image[number]):
            raise ValueError(
                f"networks side by side need features of the same tiles: those of {names} are of the same slide "
                f"{slide}, and its tiles differ or are in different order. Run the rule extract_features again"
            )


def _joined(attributes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all networks say, and where they differ all of it, in order."""
    names = list(dict.fromkeys(name for stated in attributes for name in stated))
    joined = {name: _join([stated.get(name, "") for stated in attributes]) for name in names}
    return joined | {name: any(each.get(name, False) for each in attributes) for name in ("untrained", "saw_labels")}


def _join(values: Sequence[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else ", ".join(map(str, values))


def _value(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _dataset_name(file: Any, path: Path, layer: str | None) -> str:
    proper = str(file.attrs.get("layer", ""))
    if layer is None or layer == proper:
        return "features"
    inner = json.loads(file.attrs.get("layers", "[]"))
    if layer not in inner:
        network = file.attrs.get("network", "")
        raise ValueError(
            f"feature file {path}: layers of {network} there are {', '.join([proper, *inner])}; found {layer!r} asked "
            "for"
        )
    return f"layers/{layer}"
