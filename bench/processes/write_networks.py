"""Writes a network of random weights, whose statistics are those of its layers, and a U-Net on its vectors.

Usage: write_networks.py START RECIPE VALUES FOLDER CLASSES.
"""

import json
import sys
from pathlib import Path

import keras
import measuring
import numpy as np

from histotransfer.segmentation import network as segmentation
from histotransfer.segmentation import unet
from histotransfer.training import network, results

if __name__ == "__main__":
    start, recipe, n_values, classes = map(json.loads, (*sys.argv[1:4], sys.argv[5]))
    folder = Path(sys.argv[4])
    built = measuring.call(
        network.build,
        start=start,
        start_name="bench",
        recipe=recipe,
        n_classes=len(classes),
        weights_file=None,
        master_seed=1,
    )
    trunk = built.model.get_layer("trunk")
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    noise = np.random.default_rng(0).uniform(-1, 1, (32, start["px"], start["px"], 3)).astype(np.float32)
    trunk(noise, training=True)
    results.save_network(str(folder / "extractor.keras"), built.model)
    above = unet.build_unet(n_features=n_values, n_classes=len(classes), filters=32, depth=3, seed=1)
    mean, sd = np.zeros(n_values, np.float32), np.ones(n_values, np.float32)
    results.save_network(str(folder / "unet.keras"), segmentation.attach(above, mean=mean, sd=sd).model)
