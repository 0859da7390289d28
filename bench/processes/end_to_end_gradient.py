"""The gradient of end-to-end learning's five steps against that of the joined network in one pass of TensorFlow.

With ReLU's kinks one pass itself has no gradient to 1e-4: some of millions of activations lie so near to 0 that the
order of a sum decides on which side, and a compiled pass differs from an eager one by 1e-2. So each kink is made
smooth, and how far the network as it is differs is printed too.

Prints the number of arrays of weights, the largest difference of one relative to its norm, and with ReLU: that of the
five steps, and that of a compiled pass, from an eager one.

Usage: end_to_end_gradient.py GIVEN.
"""

import dataclasses
import json
import sys

import joined
import keras
import numpy as np
import tensorflow as tf

from histotransfer.segmentation import gradients


def in_one_pass(loaded, images):
    """Return the gradients of the mean loss of a map, by the weights of both networks."""
    pair, piece = loaded.pair, loaded.piece
    places = np.stack([piece.canvas_row, piece.canvas_col], axis=1).astype(np.int32)
    with tf.GradientTape() as tape:
        vectors = pair.extractor.trained(images, training=False)
        here = tf.concat([vectors, tf.ones((len(places), 1))], 1)
        canvas = tf.scatter_nd(places, here, (*loaded.of_cells.shape, here.shape[1]))
        logits = tf.gather_nd(pair.segmentation.evaluated(canvas[None])[0], places)
        true = loaded.of_cells[piece.canvas_row, piece.canvas_col]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(true, logits))
    return tape.gradient(loss, [variable.value for variable in pair.trainable_variables])


def by_steps(loaded, batch):
    """Return the same as training finds it, with as many tiles at a time."""
    pair, tiles, piece, of_cells = loaded
    found = gradients.MapGradients(
        extractor=pair.extractor, logits=pair.segmentation.evaluated, tiles=tiles, varied=None, batch=batch
    )(piece, of_cells, piece.rows, 1)
    return [*found.by_extractor, *found.by_unet]


def largest_difference(some, others):
    """Return the largest difference of two arrays, relative to the norm of the second."""
    return max(float(tf.norm(a - b) / tf.norm(b)) for a, b in zip(some, others, strict=True))


def smooth(layer):
    """Return a layer without a kink."""
    if isinstance(layer, keras.layers.ReLU):
        return keras.layers.Activation("swish", name=layer.name)
    return type(layer).from_config(layer.get_config())


def without_kinks(pair, images):
    """Return the networks with a smooth function in place of each ReLU of the extractor, its statistics anew."""
    trunk = pair.extractor.trained.get_layer("trunk")
    tiles = keras.Input(trunk.input_shape[1:])
    x = keras.models.clone_model(trunk, clone_function=smooth)
    x.set_weights(trunk.get_weights())
    for layer in x.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    x(images, training=True)
    x = x(tiles)
    for layer in pair.extractor.trained.layers[2:]:
        if layer.name == "head_1":
            layer.activation = keras.activations.swish
        x = layer(x)
    extractor = dataclasses.replace(pair.extractor, trained=keras.Model(tiles, x))
    return dataclasses.replace(pair, extractor=extractor)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    loaded = joined.load(given)
    images = tf.cast(loaded.tiles.read(loaded.piece.rows), tf.float32) / 127.5 - 1
    eager = in_one_pass(loaded, images)
    compiled = tf.function(lambda: in_one_pass(loaded, images), autograph=False)()
    with_relu = largest_difference(by_steps(loaded, given["batch"]), eager), largest_difference(compiled, eager)
    loaded = loaded._replace(pair=without_kinks(loaded.pair, images))
    expected = in_one_pass(loaded, images)
    print(len(expected), largest_difference(by_steps(loaded, given["batch"]), expected), *with_relu)
