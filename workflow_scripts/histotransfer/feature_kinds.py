"""The kinds of feature sets: what a classifier, a head or a U-Net learns from.

As :mod:`histotransfer.definitions`: frozen, complete, passed on by rules as plain data, such as
``{"sources": [{"network": "resnet50", "layer": None}]}`` or ``{"image": {"cell_px": 4}}``. Imports nothing but the
standard library: it is used while jobs are planned.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A network of the study, and the layer whose outputs are taken; None is the network's own."""

    network: str
    layer: str | None = None


@dataclass(frozen=True)
class Windows:
    """Random windows of tiles of `px` pixels: how many of each, their edge, and their least and greatest share."""

    px: int
    windows: int = 20
    window_px: int = 16
    smallest: float = 0.25
    largest: float = 1.0


@dataclass(frozen=True)
class Reduction:
    """A slide at low resolution: edge of a grid cell in pixels."""

    cell_px: int


@dataclass(frozen=True)
class TileSize:
    """Edge of stored tiles in pixels."""

    px: int


@dataclass(frozen=True)
class Layers:
    """Features of layers of networks, side by side in this order."""

    sources: tuple[Source, ...]


@dataclass(frozen=True)
class WindowSet:
    """Random windows of the tiles' pixels."""

    windows: Windows


@dataclass(frozen=True)
class SlideImage:
    """The slide itself at low resolution."""

    image: Reduction


@dataclass(frozen=True)
class StoredTiles:
    """The stored tiles themselves."""

    pixels: TileSize


#: What a stage learns from. Each class has one field, and its name in the plain form says which class is meant.
FeatureSet = Layers | WindowSet | SlideImage | StoredTiles
