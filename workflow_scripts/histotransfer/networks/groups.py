"""Groups of a network's layers, by the names that recipes use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from histotransfer.networks import table

#: The last group of layers: what is put on the start's layer, and its auxiliary classifiers.
HEAD = "head"
#: The classifier of a trained network's own output.
SOFTMAX = "softmax"


def head_layers(dense: Sequence[int]) -> list[str]:
    """Return the names of a head's dense layers, whose outputs can be taken for features: ``head_1`` and on.

    Parameters
    ----------
    dense : sequence of int
        Units of each: a recipe's ``head.dense``.
    """
    return [f"{HEAD}_{number}" for number in range(1, len(dense) + 1)]


def trained_groups(asked: str | int, groups: list[str]) -> list[str]:
    """Return the groups that a phase trains.

    Parameters
    ----------
    asked : str or int
        ``all``, ``head``, the cut point from which on is trained, or the number of last blocks besides the head.
    groups : list of str
        Every group by depth, ``head`` last.

    Returns
    -------
    list of str
        Empty where there is no such group.

    Examples
    --------
    >>> trained_groups("block2", ["block1", "block2", "block3", "head"])
    ['block2', 'block3', 'head']
    >>> trained_groups(1, ["block1", "block2", "block3", "head"])
    ['block3', 'head']
    """
    if asked == "all":
        return list(groups)
    if isinstance(asked, int):
        return list(groups[-1 - asked :]) if asked < len(groups) else []
    return list(groups[groups.index(asked) :]) if asked in groups else []


def reached(start: Mapping[str, Any]) -> str:
    """Return the cut point of a start that a head is put on."""
    row = table.ARCHITECTURES.get(start["architecture"])
    return "" if row is None else start["layer"] if start["layer"] in row.layers else row.last


def groups_of_start(start: Mapping[str, Any]) -> list[str]:
    """Return the groups of layers below the head of a start, by depth: its cut points up to the head."""
    row = table.ARCHITECTURES[start["architecture"]]
    return list(row.layers[: row.layers.index(reached(start)) + 1])
