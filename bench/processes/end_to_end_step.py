"""A step of end-to-end learning as training makes it; prints its wall and processor seconds when asked.

Usage: end_to_end_step.py GIVEN; a line on standard input asks for a step.
"""

import json
import sys
import time

import joined
import keras
import numpy as np

from histotransfer.backends import process
from histotransfer.definitions import Recipe
from histotransfer.plain_data import made
from histotransfer.segmentation import gradients, movement
from histotransfer.training import optimisation

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    process.set_threads(2)
    process.set_deterministic()
    pair, tiles, piece, of_cells = joined.load(given)
    recipe = made(Recipe, given["recipe"])
    [phase] = recipe.phases
    weights = pair.trainable_variables
    n_below = len(pair.extractor.trained.trainable_variables)
    groups = ["extractor"] * n_below + ["unet"] * (len(weights) - n_below)
    factors = optimisation.group_factors(["extractor", "unet"], phase)
    update = optimisation.update_of(phase, factors, groups, [len(weight.shape) for weight in weights])

    def zeros(weight):
        """Return a variable of zeros in the shape of another."""
        return keras.Variable(np.zeros(weight.shape, np.float32), trainable=False)

    step = gradients.MapStep(
        gradients=gradients.MapGradients(
            extractor=pair.extractor,
            logits=pair.segmentation.evaluated,
            tiles=tiles,
            varied=recipe.augmentation,
            batch=recipe.batch,
        ),
        maps=lambda number: (piece, of_cells, piece.rows),
        trained=weights,
        weights=weights,
        groups=groups,
        slots=[[zeros(weight), zeros(weight)] for weight in weights],
        update=update,
        movement=movement.Movement({"extractor": weights[:n_below], "unet": weights[n_below:]}),
    )
    for _ in sys.stdin:
        started = time.perf_counter(), time.process_time()
        step(np.array([0]), None, {"seed": np.array([1])}, number=1, size=phase.rate, rate=phase.rate)
        step.tally()
        print(time.perf_counter() - started[0], time.process_time() - started[1], flush=True)
