"""One shard's features: files that still fit are kept, the others are made, and the manifest names all of them.

The network is built once, and only if a slide is left to do. Files are kept whose digest is that of what would be made
now. Tiles of two slides never share a batch, so a slide's features depend on nothing but the slide, its network and
the code.
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

from histotransfer import store
from histotransfer.backends import compiled, process, protocols
from histotransfer.features.progress import Progress
from histotransfer.features.sources import BlocksAhead, SourceError, TileSource
from histotransfer.settings import Extraction

log = logging.getLogger("histotransfer")


@dataclass(frozen=True)
class Plan:
    """What all slides of a job share: the network and how it is run.

    Attributes
    ----------
    network_name : str
    px : int
        Edge (pixels) of the tiles that the network takes.
    layer : str
        Whose outputs are the features proper.
    layers : tuple of str
        Whose outputs are stored as well.
    identity : mapping
        What features depend on, of the network: a part of the digest.
    description : mapping
        What the files say about the network: attributes.
    build : callable
        Makes the model: from tiles to a list of the outputs of `layer` and `layers`.
    extraction : Extraction
    code : str
        Digest of the code that makes the features.
    threads : int
        Of the backend.
    backend : str
        That of this process.
    """

    network_name: str
    px: int
    layer: str
    layers: tuple[str, ...]
    identity: Mapping[str, Any]
    description: Mapping[str, Any]
    build: Callable[[], Any]
    extraction: Extraction
    code: str
    threads: int
    backend: str = field(default_factory=process.name)

    def digest(self, source: TileSource) -> str:
        """Return the digest of the features that this plan makes of a source."""
        parts = {
            "tiles": source.digest,
            **self.identity,
            "px": self.px,
            "layer": self.layer,
            "layers": list(self.layers),
            "engine": self.extraction.engine,
            "precision": self.extraction.precision,
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
            **self.description,
            "layer": self.layer,
            "layers": list(self.layers),
            "px": self.px,
            "backend": self.backend,
            "engine": self.extraction.engine,
            "precision": self.extraction.precision,
            "source_digest": source.digest,
            "code": self.code,
            "digest": self.digest(source),
        }


def check(extraction: Extraction) -> None:
    """Raise ValueError if a setting is not legal, before weights are downloaded or files are read."""
    process.check(engine=extraction.engine, precision=extraction.precision)
    if extraction.batch < 1:
        raise ValueError(f"batch: legal are integers of at least 1; found {extraction.batch}")


def extract(sources: Sequence[TileSource], plan: Plan, *, manifest: str, shard: str) -> None:
    """Keep the files that are made already, make the others, and write the manifest.

    Parameters
    ----------
    sources : sequence of TileSource
        Of the shard's slides.
    plan : Plan
    manifest : path
        The JSON file to write; beside it come ``{slide}.h5`` files.
    shard : str
        The shard's name.

    Raises
    ------
    ValueError
        If the network or a source do not fit, or a feature is not finite: slide and tile are named.
    OSError
        If a file cannot be read or written.
    """
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
    kept = sum(entry["status"] == "ok" for entry in entries.values())
    log.info(
        "%s, shard %s: %d slides with %d tiles to extract, %d slides kept from before, %d without tiles",
        plan.network_name,
        shard,
        len(pending),
        sum(source.n for source in pending),
        kept,
        len(entries) - kept,
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


def _check_sources(sources: Sequence[TileSource], plan: Plan) -> None:
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
    # features of a slide that can no longer be read must not be used
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
    """Return whether a feature file is there, whole, and the one that would be made now."""
    import h5py

    if not target.is_file():
        return False
    try:
        with h5py.File(target, "r") as file:
            return file.attrs.get("digest") == digest and len(file["features"]) == n
    except (OSError, KeyError):
        log.info("%s cannot be read, and is made again", target)
        return False


def _extract_pending(pending: Sequence[TileSource], plan: Plan, folder: Path) -> dict[str, dict[str, Any]]:
    """Build the network and write one file a slide; return the manifest's entries."""
    started = time.monotonic()
    process.set_threads(plan.threads)
    model = plan.build()
    forward = compiled.compiled_forward(
        model, plan.px, engine=plan.extraction.engine, batch=plan.extraction.batch, threads=plan.threads
    )
    lengths = [int(output.shape[-1]) for output in model.outputs]
    # the first pass compiles
    forward(np.zeros((min(plan.extraction.batch, pending[0].n) or 1, plan.px, plan.px, 3), np.uint8))
    log.info("%s: network ready after %.1f s", plan.network_name, time.monotonic() - started)

    entries = {}
    progress = Progress(plan.network_name, len(pending), sum(source.n for source in pending))
    with BlocksAhead(pending, plan.extraction.batch) as ahead:
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
    source: TileSource, ahead: BlocksAhead, forward: protocols.Forward, progress: Progress, plan: Plan
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yield ``(start, outputs)`` of each batch of a slide."""
    n = 0
    for start, block in ahead.blocks(source):
        outputs = forward(block)
        for layer, output in zip((plan.layer, *plan.layers), outputs, strict=True):
            if not np.isfinite(output).all():
                row = start + int(np.argmin(np.isfinite(output).all(axis=1)))
                precision = plan.extraction.precision
                hint = "" if precision == "float32" else f"; with precision {precision}, try float32"
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
    plan: Plan,
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
