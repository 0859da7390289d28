"""Features: tiles of a shard's slides through one network, one file a slide, and the way back to one matrix.

A job builds its network once, and only if a slide is left to do: files whose digest still says what would be made now
are adopted as they are. Tiles of two slides never share a batch, so a slide's features depend on nothing but itself,
its network and the code.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from histotransfer import backends, networks, predictions, seeds, store, weights

log = logging.getLogger("histotransfer")

#: Seconds between two lines of progress.
PROGRESS_S = 30.0
#: Batches that lie ready while one is computed.
READ_AHEAD = 2
#: Bytes of a stretch of rows, all layers together, that is read at a time: it fits the processor's cache.
_STRETCH_BYTES = 2 << 20
#: Rows that one call of the system reads to places apart at most (its ``IOV_MAX``), and columns of these at least.
_SCATTERED, _SCATTERED_COLUMNS = 1024, 256
#: Attributes of a pixel file that a feature file does not take over: they are said anew, or are the file's own.
_OWN_ATTRIBUTES = frozenset({"status", "reason", "digest", "px", "slide", "versions"})
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


class SourceError(Exception):
    """A slide that turned out to be unusable while its tiles were read: it gets a status, and the others go on.

    Parameters
    ----------
    status : str
        One of the status words, such as ``unreadable``.
    reason : str
        What went wrong, in a sentence.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class TileSource(Protocol):
    """What features are extracted from: the tiles of one slide, in the order of the tiles' file.

    Attributes
    ----------
    slide : str
        The slide's safe id, which names its feature file.
    status, reason : str
        ``ok``, or why there are no tiles.
    n : int
        Number of tiles.
    px : int
        Edge of a tile.
    digest : str
        Of what made the tiles; with a network's it decides whether existing features are still good.
    attributes : dict
        What the feature file takes over: ``mpp``, ``size_um``, ``tiles_digest`` and the like.
    """

    slide: str
    status: str
    reason: str
    n: int
    px: int
    digest: str
    attributes: Mapping[str, Any]

    def tile_ids(self) -> list[str]:
        """Return the id of each tile."""

    def image_ids(self) -> list[str]:
        """Return the image that each tile was cut from."""

    def coords(self) -> np.ndarray:
        """Return the tiles' upper left corners in pixels of level 0, int64 of shape (n, 2): x, y."""

    def blocks(self, batch: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(start, tiles)``: uint8 of shape (at most `batch`, px, px, 3), the receiver's own, in order.

        Called in a thread of its own.

        Raises
        ------
        SourceError
            If the slide itself is at fault.
        """


class PixelFileSource:
    """The tiles of a ``pixels/{px}/{slide}.h5`` file, as a :class:`TileSource`.

    Ids and coordinates are read when asked for, so that a thousand sources of a shard weigh nothing.

    Parameters
    ----------
    path : path
        The file; its name without the suffix is the slide's id.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.slide = self.path.name.removesuffix(".h5")
        with self._open() as file:
            self.status = str(file.attrs["status"])
            self.reason = str(file.attrs.get("reason", ""))
            self.px = int(file.attrs["px"])
            self.digest = str(file.attrs["digest"])
            self.n = len(file["tiles"]) if self.status == "ok" else 0
            self.attributes = {key: file.attrs[key] for key in file.attrs if key not in _OWN_ATTRIBUTES}

    def _open(self) -> Any:
        import h5py

        return h5py.File(self.path, "r")

    def tile_ids(self) -> list[str]:
        """Return the id of each tile."""
        with self._open() as file:
            return store.read_texts(file, "tile")

    def image_ids(self) -> list[str]:
        """Return the image that each tile was cut from."""
        with self._open() as file:
            return store.read_texts(file, "image")

    def coords(self) -> np.ndarray:
        """Return the tiles' upper left corners in pixels of level 0, int64 of shape (n, 2): x, y."""
        with self._open() as file:
            return file["coords"][:].astype(np.int64)

    def blocks(self, batch: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(start, tiles)``, each block read straight into an array of its own."""
        with self._open() as file:
            tiles = file["tiles"]
            for start in range(0, self.n, batch):
                stop = min(start + batch, self.n)
                block = np.empty((stop - start, *tiles.shape[1:]), np.uint8)
                tiles.read_direct(block, np.s_[start:stop])
                yield start, block


@dataclass(frozen=True)
class _Plan:
    """What all slides of a job share: the network and how it is run.

    ``made_of`` is what of the network its features depend on, ``said`` what their files say of it; ``build`` makes the
    model.
    """

    network_name: str
    px: int
    layer: str
    layers: tuple[str, ...]
    made_of: Mapping[str, Any]
    said: Mapping[str, Any]
    build: Callable[[], Any]
    engine: str
    precision: str
    batch: int
    code: str
    threads: int
    backend: str = field(default_factory=backends.name)

    def digest(self, source: TileSource) -> str:
        """Return the digest of the features that this plan makes of a source."""
        parts = {
            "tiles": source.digest,
            **self.made_of,
            "px": self.px,
            "layer": self.layer,
            "layers": list(self.layers),
            "engine": self.engine,
            "precision": self.precision,
            "backend": self.backend,
            "code": self.code,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def attributes(self, source: TileSource) -> dict[str, Any]:
        """Return the attributes of the feature file that this plan makes of a source."""
        return {
            **source.attributes,
            "status": "ok",
            "reason": "",
            "slide": source.slide,
            "network": self.network_name,
            **self.said,
            "layer": self.layer,
            "layers": list(self.layers),
            "px": self.px,
            "backend": self.backend,
            "engine": self.engine,
            "precision": self.precision,
            "source_digest": source.digest,
            "code": self.code,
            "digest": self.digest(source),
        }


def extract(
    *,
    tiles: Sequence[str],
    weights_file: str | Sequence[str] | None,
    manifest: str,
    network_name: str,
    network: Mapping[str, Any],
    shard: str,
    engine: str,
    precision: str,
    batch: int,
    master_seed: int,
    code: str,
    threads: int,
) -> None:
    """Extract the features of one shard from its pixel files.

    Parameters
    ----------
    tiles : list of str
        The pixel files of the shard's slides.
    weights_file : str, list of str or None
        The network's weights where the config gives a path; empty otherwise.
    manifest : str
        The JSON file to write; beside it come ``{slide}.h5`` files.
    network_name : str
        The entry's name in the config.
    network : dict
        The entry (see :func:`histotransfer.networks.problems`).
    shard : str
        The shard's name.
    engine : str
        ``keras`` or ``openvino``.
    precision : str
        ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    batch : int
        Tiles a forward pass.
    master_seed : int
        The study's seed, which random weights are drawn from.
    code : str
        Digest of the code that makes the features.
    threads : int
        Of the backend.

    Raises
    ------
    ValueError
        If the network, its weights or a pixel file do not fit, or a feature is not finite: slide and tile are named.
    OSError
        If a file cannot be read or written, or weights cannot be had.
    """
    extract_from_sources(
        sources=[PixelFileSource(path) for path in tiles],
        weights_file=weights_file,
        manifest=manifest,
        network_name=network_name,
        network=network,
        shard=shard,
        engine=engine,
        precision=precision,
        batch=batch,
        master_seed=master_seed,
        code=code,
        threads=threads,
    )


def extract_from_sources(
    *,
    sources: Sequence[TileSource],
    weights_file: str | Sequence[str] | None,
    manifest: str,
    network_name: str,
    network: Mapping[str, Any],
    shard: str,
    engine: str,
    precision: str,
    batch: int,
    master_seed: int,
    code: str,
    threads: int,
) -> None:
    """Extract the features of one shard from any :class:`TileSource`; the other parameters are those of `extract`."""
    _check_settings(engine=engine, precision=precision, batch=batch)
    spec = networks.specification(network)
    if spec.untrained:
        log.warning("untrained network: %s has random weights, and its features are those of no training", network_name)
    file, sha256 = weights.file_of(spec, weights_file)
    seed = seeds.integer(master_seed, "weights", network_name)
    plan = _Plan(
        network_name=network_name,
        px=spec.px,
        layer=spec.layer,
        layers=spec.layers,
        made_of={
            "architecture": spec.architecture.name,
            "alpha": spec.alpha,
            "weights": seed if spec.untrained else sha256,
            "preprocessing": spec.preprocessing,
        },
        said={
            "architecture": spec.architecture.name,
            "alpha": spec.alpha,
            "weights": "imagenet" if spec.weights == "imagenet" else Path(file or "untrained").name,
            "weights_sha256": sha256,
            "weights_seed": seed if spec.untrained else None,
            "untrained": spec.untrained,
            "preprocessing": spec.preprocessing,
        },
        build=lambda: networks.build(spec, weights_file=file, seed=seed, precision=precision),
        engine=engine,
        precision=precision,
        batch=batch,
        code=code,
        threads=threads,
    )
    _extract(sources, plan, manifest=manifest, shard=shard)


def extract_trained(
    *,
    tiles: Sequence[str],
    model: str,
    predictions: str,
    manifest: str,
    network_name: str,
    start: Mapping[str, Any],
    layer: str | None,
    layers: Sequence[str],
    shard: str,
    engine: str,
    precision: str,
    batch: int,
    code: str,
    threads: int,
) -> None:
    """Extract the features of one shard by a network that was trained here.

    Parameters
    ----------
    tiles : list of str
        The pixel files of the shard's slides, with tiles of the trained network's own input.
    model : str
        Its ``model.keras``.
    predictions : str
        Its ``predictions.h5``, which says what it was trained on.
    manifest : str
        The JSON file to write; beside it come ``{slide}.h5`` files.
    network_name : str
        Its name in the config.
    start : dict
        The entry of ``networks`` that training began from.
    layer : str or None
        The cut point of the start, or dense layer of the head (``head_1``, ...), of the features proper; None: the
        start's own.
    layers : sequence of str
        Others that are stored besides.
    shard, engine, precision, batch, code, threads
        As of :func:`extract`; the head computes in float32 whatever the precision.

    Raises
    ------
    ValueError
        If a file is refused or damaged, the network lacks a layer, the tiles are of another size, or a feature is not
        finite: slide and tile are named.
    OSError
        If a file cannot be read or written.
    """
    _check_settings(engine=engine, precision=precision, batch=batch)
    spec = networks.specification(start)
    said = _trained_on(predictions)
    if said["untrained"]:
        log.warning("network %s keeps random layers that no phase trained", network_name)
    own = layer or spec.layer
    inner = tuple(name for name in dict.fromkeys(layers) if name != own)
    sources = [PixelFileSource(path) for path in tiles]
    sha256 = weights.arrays_sha256(model)
    px = next((source.px for source in sources if source.status == "ok"), spec.px)

    def build() -> Any:
        trained = networks.load_trained(model)
        if trained.input_shape[1] != px:
            raise ValueError(
                f"trained network {model} takes tiles of {trained.input_shape[1]} px; found {px} px in {tiles[0]}"
            )
        return networks.trained_features(trained, spec, names=(own, *inner), precision=precision)

    plan = _Plan(
        network_name=network_name,
        px=px,
        layer=own,
        layers=inner,
        made_of={
            "architecture": spec.architecture.name,
            "alpha": spec.alpha,
            "weights": sha256,
            "preprocessing": f"{spec.rescale} {spec.preprocessing}",
            "trained_on": said,
        },
        said={
            "architecture": spec.architecture.name,
            "alpha": spec.alpha,
            "weights_sha256": sha256,
            "weights_seed": None,
            "preprocessing": spec.preprocessing,
            **said,
            "saw_labels": True,
        },
        build=build,
        engine=engine,
        precision=precision,
        batch=batch,
        code=code,
        threads=threads,
    )
    _extract(sources, plan, manifest=manifest, shard=shard)


def _trained_on(path: str) -> dict[str, Any]:
    """Return what a trained network's predictions say of its training."""
    said = predictions.read_attributes(path)
    return {
        **{name: said[name] for name in ("start", "recipe", "weights", "untrained")},
        "trained_on": {name: said[name] for name in ("dataset", "task", "split", "seed")},
    }


def _check_settings(*, engine: str, precision: str, batch: int) -> None:
    backends.check(engine=engine, precision=precision)
    if batch < 1:
        raise ValueError(f"batch: legal are integers of at least 1; found {batch}")


def _extract(sources: Sequence[TileSource], plan: _Plan, *, manifest: str, shard: str) -> None:
    """Adopt what is made already, make the rest, and write the manifest."""
    started = time.monotonic()
    _check_sources(sources, plan)

    folder = Path(manifest).parent
    entries: dict[str, dict[str, Any]] = {}
    pending = []
    for source in sources:
        target = folder / f"{source.slide}.h5"
        if source.status != "ok":
            entries[source.slide] = _unusable(source.slide, source.status, source.reason, target)
        elif _is_made(target, plan.digest(source), source.n):
            entries[source.slide] = _made(source, target, plan.digest(source))
        else:
            pending.append(source)
    adopted = sum(entry["status"] == "ok" for entry in entries.values())
    log.info(
        "%s, shard %s: %d slides with %d tiles to extract, %d slides kept from before, %d without tiles",
        plan.network_name,
        shard,
        len(pending),
        sum(source.n for source in pending),
        adopted,
        len(entries) - adopted,
    )
    if pending:
        entries |= _extract_pending(pending, plan, folder)
    store.write_json(
        manifest,
        {
            "network": plan.network_name,
            "shard": shard,
            "code": plan.code,
            "slides": [entries[source.slide] for source in sources],
        },
    )
    log.info("%s, shard %s: complete after %.1f s", plan.network_name, shard, time.monotonic() - started)


def _check_sources(sources: Sequence[TileSource], plan: _Plan) -> None:
    seen = set()
    for source in sources:
        if source.slide in seen:
            raise ValueError(f"slide {source.slide} stands twice in one shard")
        seen.add(source.slide)
        if source.status == "ok" and source.px != plan.px:
            raise ValueError(
                f"slide {source.slide}: network {plan.network_name} takes tiles of {plan.px} px; found {source.px} px"
            )


def _unusable(slide: str, status: str, reason: str, target: Path) -> dict[str, Any]:
    # features of a slide that could once be read, and now cannot, must not be found by anybody
    target.unlink(missing_ok=True)
    return {"slide": slide, "file": "", "status": status, "reason": reason, "n_tiles": 0, "digest": ""}


def _made(source: TileSource, target: Path, digest: str) -> dict[str, Any]:
    return {
        "slide": source.slide,
        "file": target.name,
        "status": "ok",
        "reason": "",
        "n_tiles": source.n,
        "digest": digest,
    }


def _is_made(target: Path, digest: str, n: int) -> bool:
    """Tell whether a feature file is there, whole, and what would be made now."""
    import h5py

    if not target.is_file():
        return False
    try:
        with h5py.File(target, "r") as file:
            return file.attrs.get("digest") == digest and len(file["features"]) == n
    except (OSError, KeyError):
        log.info("%s cannot be read, and is made again", target)
        return False


def _extract_pending(pending: Sequence[TileSource], plan: _Plan, folder: Path) -> dict[str, dict[str, Any]]:
    """Build the network and write one file a slide; return the manifest's entries."""
    started = time.monotonic()
    backends.set_threads(plan.threads)
    model = plan.build()
    forward = backends.compiled_forward(model, plan.px, engine=plan.engine, batch=plan.batch, threads=plan.threads)
    lengths = [int(output.shape[-1]) for output in model.outputs]
    # the first pass compiles
    forward(np.zeros((min(plan.batch, pending[0].n) or 1, plan.px, plan.px, 3), np.uint8))
    log.info("%s: network ready after %.1f s", plan.network_name, time.monotonic() - started)

    entries = {}
    progress = _Progress(plan.network_name, len(pending), sum(source.n for source in pending))
    with _ReadAhead(pending, plan.batch) as ahead:
        for source in pending:
            target = folder / f"{source.slide}.h5"
            try:
                _write_features(target, source, plan, lengths, _computed(source, ahead, forward, progress, plan))
                entries[source.slide] = _made(source, target, plan.digest(source))
            except SourceError as error:
                log.warning("slide %s is left out: %s (%s)", source.slide, error.status, error.reason)
                entries[source.slide] = _unusable(source.slide, error.status, error.reason, target)
            progress.slide_done()
    progress.finish()
    return entries


def _computed(
    source: TileSource, ahead: _ReadAhead, forward: backends.Forward, progress: _Progress, plan: _Plan
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yield ``(start, outputs)`` of each batch of a slide."""
    n = 0
    for start, block in ahead.blocks(source):
        outputs = forward(block)
        for layer, output in zip((plan.layer, *plan.layers), outputs, strict=True):
            if not np.isfinite(output).all():
                row = start + int(np.argmin(np.isfinite(output).all(axis=1)))
                hint = "" if plan.precision == "float32" else f"; with precision {plan.precision}, try float32"
                raise ValueError(
                    f"slide {source.slide}, tile {source.tile_ids()[row]}: the features of layer {layer} of "
                    f"{plan.network_name} are not finite{hint}"
                )
        yield start, outputs
        n += len(block)
        progress.tiles_done(len(block))
    if n != source.n:
        raise ValueError(f"slide {source.slide}: {source.n} tiles were announced; found {n}")


def _write_features(
    target: Path,
    source: TileSource,
    plan: _Plan,
    lengths: Sequence[int],
    computed: Iterator[tuple[int, list[np.ndarray]]],
) -> None:
    """Write one feature file batch by batch, so that memory does not grow with the slide."""
    with store.writing_hdf5(target, plan.attributes(source)) as file:
        store.write_texts(file, "tile", source.tile_ids())
        store.write_texts(file, "image", source.image_ids())
        file["coords"] = source.coords()
        names = ("features", *(f"layers/{name}" for name in plan.layers))
        datasets = [
            file.create_dataset(name, (source.n, length), np.float32)
            for name, length in zip(names, lengths, strict=True)
        ]
        for start, outputs in computed:
            for dataset, output in zip(datasets, outputs, strict=True):
                dataset[start : start + len(output)] = output


class _ReadAhead:
    """Reads the slides' tiles in a thread of its own, a few batches ahead of who takes them, across slides."""

    def __init__(self, sources: Sequence[TileSource], batch: int) -> None:
        self._sources = sources
        self._batch = batch
        self._queue: queue.Queue = queue.Queue(maxsize=READ_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="read tiles", daemon=True)

    def __enter__(self) -> _ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _read(self) -> None:
        for source in self._sources:
            try:
                for start, block in source.blocks(self._batch):
                    self._put((source.slide, start, block))
                    if self._stopped.is_set():
                        return
                self._put((source.slide, None, None))
            except SourceError as error:
                self._put((source.slide, None, error))
            # whatever it is, it belongs to the one who waits for the tiles
            except BaseException as error:
                self._put((source.slide, None, error))
                return

    def _put(self, item: tuple[str, int | None, Any]) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue

    def blocks(self, source: TileSource) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(start, tiles)`` of a source; sources are taken in their order, each to its end."""
        while True:
            slide, start, content = self._queue.get()
            if slide != source.slide:
                raise RuntimeError(f"tiles of slide {slide} came where those of {source.slide} were due")
            if isinstance(content, BaseException):
                raise content
            if start is None:
                return
            yield start, content


class _Progress:
    """Says how far a job is, at the end and every :data:`PROGRESS_S` seconds."""

    def __init__(self, network_name: str, slides: int, tiles: int) -> None:
        self._network_name = network_name
        self._slides, self._tiles = slides, tiles
        self._slides_done = self._tiles_done = 0
        self._started = self._said = time.monotonic()

    def tiles_done(self, n: int) -> None:
        self._tiles_done += n
        now = time.monotonic()
        if now - self._said >= PROGRESS_S:
            self._said = now
            rate = self._tiles_done / (now - self._started)
            left = max(self._tiles - self._tiles_done, 0) / rate
            log.info(
                "%s: %d of %d slides, %d of %d tiles, %.1f tiles/s, %s left",
                *(self._network_name, self._slides_done, self._slides, self._tiles_done, self._tiles),
                *(rate, _duration(left)),
            )

    def slide_done(self) -> None:
        self._slides_done += 1

    def finish(self) -> None:
        seconds = max(time.monotonic() - self._started, 1e-9)
        log.info(
            "%s: %d slides, %d tiles in %s, %.1f tiles/s",
            *(self._network_name, self._slides_done, self._tiles_done, _duration(seconds)),
            self._tiles_done / seconds,
        )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


class Columns(NamedTuple):
    """Which columns of a matrix one layer of one network fills.

    Attributes
    ----------
    network, layer : str
    start, stop : int
        First column, and the one after the last.
    """

    network: str
    layer: str
    start: int
    stop: int


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
    """What a matrix of features would hold: all but the numbers, which :meth:`read` brings.

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
        taken = [_Taken(number, own, columns) for number, own in enumerate(self.columns)]
        taken = [one for one in taken if one.n]
        step = max(1, _STRETCH_BYTES // max(1, sum(4 * one.width for one in taken)))
        buffers = [np.empty((step, one.width), np.float32) for one in taken]
        order = np.argsort(rows, kind="stable")
        wanted = rows[order]
        for slide in self._slides:
            first, last = np.searchsorted(wanted, [slide.start, slide.stop])
            if first == last:
                continue
            with ExitStack() as stack:
                files = [stack.enter_context(open(slide.layers[one.number].path, "rb", buffering=0)) for one in taken]
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
        own, row, n = _as_slice(wanted - start), start - slide.start, stop - start
        in_order = len(wanted) == n and isinstance(own, slice) and isinstance(places, slice)
        if in_order and n <= _SCATTERED and all(one.straight for one in taken):
            for one, file in zip(taken, files, strict=True):
                _read_rows(file, slide.layers[one.number], row, list(matrix[places, one.to]))
            self._check_finite(matrix[places], slide, wanted, columns)
            return
        for one, file, buffer in zip(taken, files, buffers, strict=True):
            _read_rows(file, slide.layers[one.number], row, [buffer[:n]])
            block = buffer[own] if one.whole else buffer[own][:, one.columns]
            self._check_finite(block, slide, wanted, columns[one.to])
            if isinstance(places, slice) or isinstance(one.to, slice):
                matrix[places, one.to] = block
            else:
                matrix[places[:, None], one.to] = block

    def _check_finite(self, block: np.ndarray, slide: _SlideRows, rows: np.ndarray, columns: np.ndarray) -> None:
        if np.isfinite(block).all():
            return
        row, column = np.argwhere(~np.isfinite(block))[0]
        number = next(k for k, own in enumerate(self.columns) if own.start <= columns[column] < own.stop)
        raise ValueError(
            f"feature file {slide.layers[number].path} has a value that is not finite at tile "
            f"{self.tile[rows[row]]}: layer {self.columns[number].layer}, found {block[row, column]}"
        )


class _Taken:
    """What is taken of one layer: which of its columns, and to where."""

    def __init__(self, number: int, own: Columns, columns: np.ndarray) -> None:
        inside = np.flatnonzero((columns >= own.start) & (columns < own.stop))
        self.number = number
        self.width = own.stop - own.start
        self.n = len(inside)
        self.columns = columns[inside] - own.start
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
    found = os.preadv(file.fileno(), places, stored.offset + row * width * places[0].itemsize)
    needed = len(places) * places[0].nbytes
    if found != needed:
        raise ValueError(
            f"feature file {stored.path} ends early: {needed} bytes are needed from row {row} on; found {found}. "
            "Delete it and run the rule extract_features again"
        )


def open_matrix(*, manifests: Sequence[str], sources: Sequence[Mapping[str, Any]]) -> MatrixIndex:
    """Find the features that manifests name, of one or more layers side by side; texts and attributes are read.

    Parameters
    ----------
    manifests : list of path
        Manifests of one or more networks, in any order, one a network and shard.
    sources : list of dict
        ``{"network": name, "layer": layer}`` in the order of the columns; ``layer`` None is the one that the
        network's features proper come from.

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
        layers_of.setdefault(source["network"], []).append(source["layer"])
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
        if all(entries[slide][1]["status"] == "ok" for entries in entries_of.values())
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
        layer = source["layer"] or opened[source["network"]].attributes.get("layer", "")
        width = opened[source["network"]].widths[source["layer"]]
        start = columns[-1].stop if columns else 0
        columns.append(Columns(source["network"], str(layer), start, start + width))
    slides = []
    start = 0
    for number, tile in enumerate(first.tile):
        stored = [opened[source["network"]].stored[number][source["layer"]] for source in sources]
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
            "layer": _join([own.layer for own in columns]),
            "tiles_digests": dict(zip(usable, first.tiles_digests, strict=True)),
            "versions": _joined_versions([network.versions for network in opened.values()]),
        },
        _slides=slides,
    )


@dataclass
class _NetworkFiles:
    """What the feature files of one network say, slide by slide."""

    attributes: dict[str, Any] = field(default_factory=dict)
    tile: list[list[str]] = field(default_factory=list)
    image: list[list[str]] = field(default_factory=list)
    tiles_digests: list[str] = field(default_factory=list)
    stored: list[dict[str | None, _Stored]] = field(default_factory=list)
    widths: dict[str | None, int] = field(default_factory=dict)
    versions: dict[str, set[str]] = field(default_factory=dict)


def _open_network(entries: Sequence[tuple[str, dict[str, Any]]], layers: Sequence[str | None]) -> _NetworkFiles:
    import h5py

    opened = _NetworkFiles()
    first = ""
    for manifest, entry in entries:
        path = Path(manifest).parent / entry["file"]
        again = f"run the rule extract_features again (delete {manifest} and give the same command)"
        if not store.arrived(path):
            raise ValueError(f"feature file {path} is missing, though {manifest} names it; {again}")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise ValueError(f"feature file {path} is damaged ({error}); delete it and {again}") from error
        with file:
            found = str(file.attrs.get("digest", ""))
            if found != entry["digest"]:
                raise ValueError(
                    f"feature file {path} is not the one that {manifest} speaks of; {again}; its digest should be "
                    f"{entry['digest'][:16]}..., found {found[:16]}..."
                )
            said = {key: _value(file.attrs[key]) for key in _SHARED_ATTRIBUTES if key in file.attrs}
            opened.attributes, first = opened.attributes or said, first or str(path)
            for key, value in said.items():
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
            for library, version in json.loads(file.attrs.get("versions", "{}")).items():
                opened.versions.setdefault(library, set()).add(version)
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


def _entries_by_network(manifests: Sequence[str]) -> dict[str, dict[str, tuple[str, dict[str, Any]]]]:
    """Return the slides of manifests with the manifest that names each, by network and slide id."""
    found: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {}
    for manifest in manifests:
        content = store.read_json(manifest)
        own = found.setdefault(content["network"], {})
        for entry in content["slides"]:
            if entry["slide"] in own:
                raise ValueError(
                    f"slide {entry['slide']} stands in two manifests: {own[entry['slide']][0]} and {manifest}"
                )
            own[entry["slide"]] = (str(manifest), entry)
    return found


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
    names = list(dict.fromkeys(name for said in attributes for name in said))
    found = {name: _join([said.get(name, "") for said in attributes]) for name in names}
    return found | {name: any(said.get(name, False) for said in attributes) for name in ("untrained", "saw_labels")}


def _join(values: Sequence[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else ", ".join(map(str, values))


def _joined_versions(versions: Sequence[Mapping[str, set[str]]]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for said in versions:
        for library, those in said.items():
            found.setdefault(library, set()).update(those)
    return {library: ", ".join(sorted(those)) for library, those in sorted(found.items())}


def _value(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _dataset_name(file: Any, path: Path, layer: str | None) -> str:
    own = str(file.attrs.get("layer", ""))
    if layer is None or layer == own:
        return "features"
    inner = json.loads(file.attrs.get("layers", "[]"))
    if layer not in inner:
        network = file.attrs.get("network", "")
        raise ValueError(
            f"feature file {path}: layers of {network} there are {', '.join([own, *inner])}; found {layer!r} asked for"
        )
    return f"layers/{layer}"
