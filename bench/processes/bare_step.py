"""The training step written down for TensorFlow alone, on tiles in memory; prints the seconds of an epoch when asked.

The network, loss and optimiser are those of the library's training. What makes each run the same to the bit is left
out, and TensorFlow takes as many threads as it likes.

Usage: bare_step.py NETWORK TILES BATCH CLASSES; a line on standard input asks for an epoch.
"""

import json
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from histotransfer.networks import building, specification

if __name__ == "__main__":
    network, n, batch, classes = map(json.loads, sys.argv[1:])
    trunk = building.trunk(specification.specification(network), seed=1)
    pooled = keras.layers.GlobalAveragePooling2D()(trunk.output)
    model = keras.Model(trunk.input, keras.layers.Dense(classes)(pooled))
    optimiser = keras.optimizers.SGD(0.001, momentum=0.9)
    optimiser.build(model.trainable_variables)
    generator = np.random.default_rng(0)
    tiles = generator.integers(0, 256, (n, network["px"], network["px"], 3), np.uint8)
    labels = generator.integers(0, classes, n)

    @tf.function(autograph=False)
    def step(tiles, labels):
        """Take one step on a batch and return its loss."""
        with tf.GradientTape() as tape:
            logits = model(tf.cast(tiles, tf.float32) / 127.5 - 1, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        optimiser.apply(gradients)
        return loss

    step(tiles[:batch], labels[:batch])
    for _ in sys.stdin:
        started = time.perf_counter()
        for first in range(0, n - n % batch, batch):
            loss = step(tiles[first : first + batch], labels[first : first + batch])
        loss.numpy()
        print(time.perf_counter() - started, flush=True)
