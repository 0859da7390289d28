"""What share of the weights the steps of end-to-end learning change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from histotransfer.backends import shared

#: Columns of ``moved.tsv``: one row an epoch and group. The shares are of float32 weights that have other bits than
#: before: after a step (mean, least and most over the steps of the epoch), and since the start by the epoch's end.
MOVED = ("epoch", "group", "weights", "steps", "step_mean", "step_least", "step_most", "since_start")


class Movement:
    """Counts the weights that steps change.

    At the paper's rate of 1e-9 the change of most float32 weights is less than half the distance to the next number
    that float32 has, so they stay.

    Parameters
    ----------
    variables : mapping of str to sequence of keras.Variable
        The weights of each group, as they are at the start.
    """

    def __init__(self, variables: Mapping[str, Sequence[Any]]) -> None:
        self._variables = {group: list(of_group) for group, of_group in variables.items()}
        self._start = {group: [_bits(each) for each in of_group] for group, of_group in variables.items()}
        self._counts: list[dict[str, int]] = []

    def add(self, counts: Mapping[str, int]) -> None:
        """Add how many weights of each group a step changed; a group that is not trained may be missing."""
        self._counts.append(dict(counts))

    def rows(self, epoch: int) -> list[dict[str, Any]]:
        """Return the rows of :data:`MOVED` of the epoch that has just ended, and begin anew."""
        rows = []
        for group, variables in self._variables.items():
            n = sum(int(np.prod(variable.shape)) for variable in variables)
            steps = np.array([counts.get(group, 0) for counts in self._counts]) / n
            now = [_bits(variable) for variable in variables]
            changed = sum(int((a != b).sum()) for a, b in zip(now, self._start[group], strict=True))
            rows.append(
                {
                    **{"epoch": epoch, "group": group, "weights": n, "steps": len(steps)},
                    **{"step_mean": float(steps.mean()), "step_least": float(steps.min())},
                    **{"step_most": float(steps.max()), "since_start": changed / n},
                }
            )
        self._counts = []
        return rows


def _bits(variable: Any) -> np.ndarray:
    return shared.to_array(variable.value).view(np.int32)
