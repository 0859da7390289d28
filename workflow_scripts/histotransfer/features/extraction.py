"""Features: tiles of a shard's slides through one network, one file a slide, and the way back to one matrix.

A job builds its network once, and only if a slide is left to do: files whose digest still says what would be made now
are adopted as they are. Tiles of two slides never share a batch, so a slide's features depend on nothing but itself,
its network and the code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import predictions, seeds, store
from histotransfer.backends import compiled, process, protocols
from histotransfer.features.sources import BlocksAhead, PixelFileSource, SourceError, TileSource
from histotransfer.networks import building, specification, weights
from histotransfer.networks.trained import load_trained, trained_features

log = logging.getLogger("histotransfer")


#: Seconds between two lines of progress.
PROGRESS_S = 30.0


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
    backend: str = field(default_factory=process.name)

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
        The entry (see :func:`histotransfer.networks.specification.problems`).
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
    spec = specification.specification(network)
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
        build=lambda: building.build(spec, weights_file=file, seed=seed, precision=precision),
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
    spec = specification.specification(start)
    said = _trained_on(predictions)
    if said["untrained"]:
        log.warning("network %s keeps random layers that no phase trained", network_name)
    own = layer or spec.layer
    inner = tuple(name for name in dict.fromkeys(layers) if name != own)
    sources = [PixelFileSource(path) for path in tiles]
    sha256 = weights.arrays_sha256(model)
    px = next((source.px for source in sources if source.status == "ok"), spec.px)

    def build() -> Any:
        trained = load_trained(model)
        if trained.input_shape[1] != px:
            raise ValueError(
                f"trained network {model} takes tiles of {trained.input_shape[1]} px; found {px} px in {tiles[0]}"
            )
        return trained_features(trained, spec, names=(own, *inner), precision=precision)

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
    process.check(engine=engine, precision=precision)
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
    process.set_threads(plan.threads)
    model = plan.build()
    forward = compiled.compiled_forward(model, plan.px, engine=plan.engine, batch=plan.batch, threads=plan.threads)
    lengths = [int(output.shape[-1]) for output in model.outputs]
    # the first pass compiles
    forward(np.zeros((min(plan.batch, pending[0].n) or 1, plan.px, plan.px, 3), np.uint8))
    log.info("%s: network ready after %.1f s", plan.network_name, time.monotonic() - started)

    entries = {}
    progress = _Progress(plan.network_name, len(pending), sum(source.n for source in pending))
    with BlocksAhead(pending, plan.batch) as ahead:
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
    source: TileSource, ahead: BlocksAhead, forward: protocols.Forward, progress: _Progress, plan: _Plan
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
