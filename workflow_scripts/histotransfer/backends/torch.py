"""Forward passes, gradients and training steps on PyTorch; the one module that imports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from histotransfer.backends.protocols import Forward
from histotransfer.backends.shared import Step, assign, count_moved, listed, settled


def torch_forward(model: Any, px: int, batch: int | None) -> Forward:
    import torch
    from keras import ops

    def forward(tiles: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [ops.convert_to_numpy(output) for output in listed(model(tiles, training=False))]

    return forward


class TorchStep(Step):
    def __call__(self, inputs, labels, drawn, *, number, size, rate) -> None:
        import torch
        from keras import ops

        with torch.no_grad():
            given = {name: ops.convert_to_tensor(value) for name, value in drawn.items()}
            prepared = self._prepare(ops.convert_to_tensor(inputs), given)
        weights, slots, scale, tally = self._state()
        labels = ops.convert_to_tensor(labels, "int32")
        scaled, counted = self._objective(self._model(prepared, training=True), labels, scale)
        gradients = torch.autograd.grad(scaled, weights, allow_unused=True)
        with torch.no_grad():
            gradients = [
                torch.zeros_like(weight) if gradient is None else gradient
                for gradient, weight in zip(gradients, weights, strict=True)
            ]
            counted = (
                *(value.detach() for value in counted),
                float(len(labels)),
                torch.full_like(tally[3], float(number)),
            )
            state = (weights, slots, scale, tally)
            self._assign(settled(gradients, state, counted, size, rate, self._update, self._rescaled))


class TorchPrepared:
    def __init__(self, model: Any, prepare: Callable[..., Any], batch: int) -> None:
        self._model, self._prepare = model, prepare

    def __call__(self, inputs, drawn) -> Any:
        import torch
        from keras import ops

        with torch.inference_mode():
            drawn = {key: ops.convert_to_tensor(value) for key, value in drawn.items()}
            return listed(self._model(self._prepare(ops.convert_to_tensor(inputs), drawn), training=False))[0]


class TorchGradients:
    def __init__(self, model, objective, prepare, batch, by_input) -> None:
        self._model, self._objective, self._prepare, self._by_input = model, objective, prepare, by_input

    def zeros(self) -> list[Any]:
        import torch

        return [torch.zeros_like(weight.value) for weight in self._model.trainable_variables]

    def __call__(self, total, inputs, given, drawn) -> tuple[list[Any], Any, Any]:
        import torch
        from keras import ops

        inputs, given, drawn = (
            ops.convert_to_tensor(inputs),
            *({key: ops.convert_to_tensor(value) for key, value in each.items()} for each in (given, drawn)),
        )
        weights = [variable.value for variable in self._model.trainable_variables]
        with torch.no_grad():
            prepared = self._prepare(inputs, drawn)
        if self._by_input:
            prepared = prepared.detach().requires_grad_(True)
        scalars = self._objective(listed(self._model(prepared, training=False)), given)
        sources = [*weights, prepared] if self._by_input else weights
        gradients = torch.autograd.grad(scalars[0], sources, allow_unused=True)
        with torch.no_grad():
            gradients = [
                torch.zeros_like(source) if gradient is None else gradient
                for gradient, source in zip(gradients, sources, strict=True)
            ]
            added = [old.add_(new) for old, new in zip(total, gradients[: len(weights)], strict=True)]
            scalars = torch.stack([value.detach() for value in scalars])
        return added, scalars, gradients[-1] if self._by_input else None


def torch_update(weights: list[Any], slots: list[list[Any]], update: Any, groups: list[str]) -> Any:
    import torch

    def move(gradients: list[Any], size: float, rate: float) -> Any:
        with torch.no_grad():
            # copies: assignment writes into the same memory
            before = [weight.value.detach().clone() for weight in weights]
            moved, kept = update(
                before, list(gradients), [[slot.value for slot in of_weight] for of_weight in slots], size, rate
            )
            counts = count_moved(before, moved, groups)
            assign(weights, slots, moved, kept)
        return counts

    return move
