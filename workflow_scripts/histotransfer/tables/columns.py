"""The features of a matrix that come from one layer of one network."""

from __future__ import annotations

from typing import NamedTuple


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
