"""The passes that a step of end-to-end learning is made of, by TensorFlow alone and on tiles in memory.

Prints the wall and processor seconds of a pass when asked. What makes each run the same to the bit is left out, and
TensorFlow takes as many threads as it likes.

Usage: end_to_end_passes.py GIVEN; a line on standard input names a pass: forward, both, unet.
"""

import json
import sys
import time

import joined
import numpy as np
import tensorflow as tf

from histotransfer.segmentation import feature_maps

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    pair, tiles, piece, _ = joined.load(given)
    n, px, batch = len(piece.rows), pair.extractor.px, given["recipe"]["batch"]
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (n, px, px, 3), np.uint8)
    kept = generator.normal(size=(n, pair.extractor.n_features)).astype(np.float32)
    maps = feature_maps.canvas_of(kept, piece)[None]
    below, above = pair.extractor.trained, pair.segmentation.evaluated
    of_below = [variable.value for variable in below.trainable_variables]
    of_above = [variable.value for variable in above.trainable_variables]

    @tf.function(autograph=False)
    def forward(images):
        """Return the vectors of tiles."""
        return below(tf.cast(images, tf.float32) / 127.5 - 1, training=False)

    @tf.function(autograph=False)
    def both(images, kept):
        """Return the gradients of the inner product of vectors and kept ones, by the weights of the extractor."""
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(below(tf.cast(images, tf.float32) / 127.5 - 1, training=False) * kept)
        return tape.gradient(loss, of_below)

    @tf.function(autograph=False)
    def unet(maps):
        """Return the gradients of a loss of the U-Net, by its weights and by the map."""
        with tf.GradientTape() as tape:
            tape.watch(maps)
            loss = tf.reduce_mean(above(maps, training=False))
        return tape.gradient(loss, [*of_above, maps])

    def work(part):
        """Make one pass over all tiles, or over the map."""
        if part == "unet":
            unet(tf.constant(maps))
            return
        for first in range(0, n, batch):
            block = images[first : first + batch]
            forward(block) if part == "forward" else both(block, kept[first : first + batch])

    for part in map(str.strip, sys.stdin):
        started = time.perf_counter(), time.process_time()
        work(part)
        print(time.perf_counter() - started[0], time.process_time() - started[1], flush=True)
