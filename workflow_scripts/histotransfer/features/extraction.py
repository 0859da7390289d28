"""Features: the tiles of a shard's slides through one network, as the config defines it or as it was trained here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histotransfer import predictions as prediction_files
from histotransfer import seeds
from histotransfer.features import shards
from histotransfer.features.sources import PixelFileSource, TileSource
from histotransfer.networks import building, weights
from histotransfer.networks.specification import NetworkSpec
from histotransfer.networks.trained import load_trained, trained_features
from histotransfer.settings import Extraction

log = logging.getLogger("histotransfer")


@dataclass(frozen=True)
class ShardJob:
    """A network as the config defines it, and the shard whose features it makes.

    Attributes
    ----------
    network_name : str
        The entry's name in the config.
    network : NetworkSpec
    weights_file : path, tuple of path or None
        The network's weights where the config gives a path; empty otherwise.
    manifest : path
        The JSON file to write; beside it come ``{slide}.h5`` files.
    shard : str
        The shard's name.
    master_seed : int
        The study's seed, which random weights are drawn from.
    code : str
        Digest of the code that makes the features.
    """

    network_name: str
    network: NetworkSpec
    weights_file: str | tuple[str, ...] | None
    manifest: str
    shard: str
    master_seed: int
    code: str


def extract(*, tiles: Sequence[str], job: ShardJob, extraction: Extraction, threads: int) -> None:
    """Extract the features of one shard from its pixel files.

    Parameters
    ----------
    tiles : list of path
        The pixel files of the shard's slides.
    job : ShardJob
    extraction : Extraction
    threads : int
        Of the backend.

    Raises
    ------
    ValueError
        If the network, its weights or a pixel file do not fit, or a feature is not finite: slide and tile are named.
    OSError
        If a file cannot be read or written, or weights cannot be had.
    """
    sources = [PixelFileSource(path) for path in tiles]
    extract_from_sources(sources=sources, job=job, extraction=extraction, threads=threads)


def extract_from_sources(*, sources: Sequence[TileSource], job: ShardJob, extraction: Extraction, threads: int) -> None:
    """Extract the features of one shard from any :class:`TileSource`; the other parameters are those of `extract`."""
    shards.check(extraction)
    network = job.network
    if network.untrained:
        log.warning(
            "untrained network: %s has random weights, and its features are those of no training", job.network_name
        )
    file, sha256 = weights.file_of(network, job.weights_file)
    seed = seeds.integer(job.master_seed, "weights", job.network_name)
    plan = shards.Plan(
        network_name=job.network_name,
        px=network.px,
        layer=network.layer,
        layers=network.layers,
        identity={
            "architecture": network.architecture.name,
            "alpha": network.alpha,
            "weights": seed if network.untrained else sha256,
            "preprocessing": network.preprocessing,
        },
        description={
            "architecture": network.architecture.name,
            "alpha": network.alpha,
            "weights": "imagenet" if network.weights == "imagenet" else Path(file or "untrained").name,
            "weights_sha256": sha256,
            "weights_seed": seed if network.untrained else None,
            "untrained": network.untrained,
            "preprocessing": network.preprocessing,
        },
        build=lambda: building.build(network, weights_file=file, seed=seed, precision=extraction.precision),
        extraction=extraction,
        code=job.code,
        threads=threads,
    )
    shards.extract(sources, plan, manifest=job.manifest, shard=job.shard)


def extract_trained(
    *,
    tiles: Sequence[str],
    model: str,
    predictions: str,
    manifest: str,
    network_name: str,
    start: NetworkSpec,
    layer: str | None,
    layers: Sequence[str],
    shard: str,
    extraction: Extraction,
    code: str,
    threads: int,
) -> None:
    """Extract the features of one shard by a network that was trained here.

    Parameters
    ----------
    tiles : list of path
        The pixel files of the shard's slides, with tiles of the trained network's own input.
    model : path
        Its ``model.keras``.
    predictions : path
        Its ``predictions.h5``, which says what it was trained on.
    manifest : path
        The JSON file to write; beside it come ``{slide}.h5`` files.
    network_name : str
        Its name in the config.
    start : NetworkSpec
        What training began from.
    layer : str or None
        The cut point of the start, or dense layer of the head (``head_1``, ...), of the features proper; None: the
        start's own.
    layers : sequence of str
        Others that are stored besides.
    shard, extraction, code, threads
        As of :func:`extract`; the head computes in float32 whatever the precision.

    Raises
    ------
    ValueError
        If a file is refused or damaged, the network lacks a layer, the tiles are of another size, or a feature is not
        finite: slide and tile are named.
    OSError
        If a file cannot be read or written.
    """
    shards.check(extraction)
    training = _training(predictions)
    if training["untrained"]:
        log.warning("network %s keeps random layers that no phase trained", network_name)
    proper = layer or start.layer
    inner = tuple(name for name in dict.fromkeys(layers) if name != proper)
    sources = [PixelFileSource(path) for path in tiles]
    sha256 = weights.arrays_sha256(model)
    px = next((source.px for source in sources if source.status == "ok"), start.px)

    def build() -> Any:
        trained = load_trained(model)
        if trained.input_shape[1] != px:
            raise ValueError(
                f"trained network {model} takes tiles of {trained.input_shape[1]} px; found {px} px in {tiles[0]}"
            )
        return trained_features(trained, start, names=(proper, *inner), precision=extraction.precision)

    plan = shards.Plan(
        network_name=network_name,
        px=px,
        layer=proper,
        layers=inner,
        identity={
            "architecture": start.architecture.name,
            "alpha": start.alpha,
            "weights": sha256,
            "preprocessing": f"{start.rescale} {start.preprocessing}",
            "trained_on": training,
        },
        description={
            "architecture": start.architecture.name,
            "alpha": start.alpha,
            "weights_sha256": sha256,
            "weights_seed": None,
            "preprocessing": start.preprocessing,
            **training,
            "saw_labels": True,
        },
        build=build,
        extraction=extraction,
        code=code,
        threads=threads,
    )
    shards.extract(sources, plan, manifest=manifest, shard=shard)


def _training(path: str) -> dict[str, Any]:
    """Return what a trained network's predictions say about its training."""
    attributes = prediction_files.read_attributes(path)
    return {
        **{name: attributes[name] for name in ("start", "recipe", "weights", "untrained")},
        "trained_on": {name: attributes[name] for name in ("dataset", "task", "split", "seed")},
    }
