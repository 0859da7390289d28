"""What each backend provides: compiled forward passes, gradients and steps of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

#: From tiles, uint8 (n, px, px, 3) with n up to the batch, to one float32 array (n, d) per output of the model.
Forward = Callable[[np.ndarray], list[np.ndarray]]


class TrainStep(Protocol):
    """One step of training, compiled; see :func:`histotransfer.backends.compiled.compiled_train_step`."""

    def __call__(
        self,
        inputs: np.ndarray,
        labels: np.ndarray,
        drawn: Mapping[str, np.ndarray],
        *,
        number: int,
        size: float,
        rate: float,
    ) -> None:
        """Make one step; nothing is read back.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            A batch, as `prepare` takes it.
        labels : ndarray of int32, shape (n,)
        drawn : mapping of str to ndarray of shape (n, ...)
            The random numbers that vary each tile; the same keys at every step.
        number : int
            Of the step, from 1: it names a step whose loss is not finite.
        size, rate : float
            See :class:`histotransfer.training.optimisation.Update`.
        """

    def tally(self) -> np.ndarray:
        """Return what was counted since the last call, and begin anew: waits for the device.

        Returns
        -------
        ndarray of float32, shape (4,)
            Sum of the tiles' losses, tiles predicted correctly, tiles, number of the first step whose objective was
            not finite (0: none).
        """

    def settle(self) -> None:
        """Bring the weights, statistics and slots into the variables of Keras, where others read them."""


class PreparedForward(Protocol):
    """A compiled forward pass: :func:`histotransfer.backends.compiled.compiled_prepared_forward`."""

    def __call__(self, inputs: np.ndarray, drawn: Mapping[str, np.ndarray]) -> Any:
        """Return the model's first output as a tensor of the backend, which may still be computed.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
        drawn : mapping of str to ndarray of shape (n, ...)
            The same keys at every call.
        """


class Gradients(Protocol):
    """Gradients of an objective, compiled; see :func:`histotransfer.backends.compiled.compiled_gradients`."""

    def zeros(self) -> list[Any]:
        """Return what sums begin with: a tensor of zeros for each weight."""

    def __call__(
        self,
        total: list[Any],
        inputs: np.ndarray,
        given: Mapping[str, np.ndarray],
        drawn: Mapping[str, np.ndarray],
    ) -> tuple[list[Any], Any, Any]:
        """Add one batch's gradients to a sum; nothing is read back.

        Parameters
        ----------
        total : list of tensors
            The sum so far, which is used up: take what is returned in its place.
        inputs : ndarray of shape (n, ...)
            As `prepare` takes it.
        given : mapping of str to ndarray of shape (n, ...)
            What the objective takes besides the outputs.
        drawn : mapping of str to ndarray of shape (n, ...)

        Returns
        -------
        total : list of tensors
            The sum with this batch, in the order of the weights.
        scalars : tensor of float32, shape (m,)
            What the objective returned.
        by_input : tensor or None
            The gradient by what `prepare` gave, of this batch alone, where it was asked for.
        """
