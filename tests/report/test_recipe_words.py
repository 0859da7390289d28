"""Recipes in words, as the report gives them."""

from __future__ import annotations

from learning_factory import phase, recipe, start

from histotransfer.definitions import Recipe
from histotransfer.networks.specification import NetworkSpec
from histotransfer.plain_data import made
from histotransfer.report import recipe_words
from histotransfer.study.trained import TrainedNetwork


def words(start_of=None, **changes):
    network = TrainedNetwork(
        "tuned", "mobilenetv2", made(NetworkSpec, start_of or start()), made(Recipe, recipe(**changes))
    )
    return dict(recipe_words.describe(network))


def test_mormonts_fine_tuning():
    adam = {"kind": "adam", "beta_1": 0.99, "beta_2": 0.999, "epsilon": 1e-7}
    phases = [phase(train="head", epochs=5, optimiser=adam, rate=0.01), phase(epochs=45, optimiser=adam, rate=1e-5)]
    varied = {"maximal_crop": True, "quarter_turns": True, "flip": "both", "rotate": 0.0, "zoom": None}
    said = words(phases=phases, augmentation=varied, monitor="accuracy", early_stopping=3)
    assert said == {
        "Start": "MobileNetV2, up to out, ImageNet weights (network mobilenetv2)",
        "Head": "maps averaged, then softmax; new layers by Glorot's initialisation",
        "Phase 1": "the head alone, on tiles, 5 epochs: Adam (beta 1 0.99, beta 2 0.999, epsilon 1e-07), rate 0.01",
        "Phase 2": "everything, on tiles, 45 epochs: Adam (beta 1 0.99, beta 2 0.999, epsilon 1e-07), rate 1e-05",
        "Tiles": "96 px; batches of 32",
        "Augmentation": "largest square at a random place, quarter turns, flips in both directions",
        "Epoch kept": "the best by accuracy on the validation tiles, the last where a split has none; a phase ends "
        "early after 3 epochs without a better accuracy",
    }


def test_bayramoglus_full_training():
    alexnet = start("AlexNet", "random", layer="fc7", px=227, alpha=None)
    head = {"pool": "average", "dense": [], "activation": "relu", "dropout": 0.5}
    one = phase(rates={"head": 10.0, "fc6": 0}, schedule={"kind": "inv", "gamma": 0.001, "power": 0.75})
    gaussian = {"kind": "gaussian", "deviation": 0.01}
    said = words(alexnet, phases=[one], head=head, initialisation=gaussian, crop_from=256, keep="last", auxiliary=0.3)
    assert said["Start"] == "AlexNet, up to fc7, random weights: trained from scratch (network mobilenetv2)"
    # what a dense layer gives is no map
    drawn = "new layers drawn from a Gaussian of deviation 0.01"
    assert said["Head"] == f"softmax; dropout 0.5 before the output layer; {drawn}"
    assert said["Training"] == (
        "everything, on tiles, 10 epochs: SGD (momentum 0.9), rate 0.001 (head 10 times that, fc6 kept as it is), "
        "falling as (1 + 0.001 x iteration) to the power of -0.75; the losses of auxiliary outputs, where the network "
        "has them, count 0.3 times"
    )
    assert said["Tiles"] == "227 px, cut from 256 px: at random in training, the centre in testing; batches of 32"
    assert (said["Augmentation"], said["Epoch kept"]) == ("none", "the last")


def test_a_head_on_features_of_a_users_weights():
    own = start(weights="weights/own.h5", alpha=0.35)
    head = {"pool": "flatten", "dense": [512, 64], "activation": "relu", "dropout": 0.25}
    sgd = {"kind": "sgd", "momentum": 0.0, "nesterov": False}
    one = phase(on="features", train="head", epochs=1, optimiser=sgd, weight_decay=0.01)
    said = words(own, phases=[one], head=head, precision="mixed_bfloat16", monitor="balanced_accuracy")
    assert said["Start"] == "MobileNetV2 of width 0.35, up to out, weights of own.h5 (network mobilenetv2)"
    assert said["Head"].startswith(
        "maps flattened, then dense layers of 512, 64 (relu), then softmax; dropout 0.25 before each dense layer; "
    )
    assert said["Training"] == "the head alone, on features of the start, 1 epoch: SGD, rate 0.001; weight decay 0.01"
    assert said["Tiles"] == "96 px; batches of 32, mixed bfloat16 precision"
    assert "Augmentation" not in said
    assert said["Epoch kept"].startswith("the best by balanced accuracy on the validation tiles")


def test_parts_of_a_network_and_other_schedules():
    nesterov = {"kind": "sgd", "momentum": 0.9, "nesterov": True}
    cosine = {"kind": "cosine", "warm_up": 1.0, "floor": 0.01}
    phases = [
        phase(train=1, optimiser=nesterov, schedule=cosine),
        phase(train=2, layer_decay=0.8),
        phase(train="block_13", optimiser={"kind": "rmsprop", "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7}),
    ]
    varied = {
        "flip": "horizontal",
        "rotate": 15.0,
        "shear": 5.0,
        "shift": 0.1,
        "zoom": [0.8, 1.2],
        "contrast": [0.75, 1.25],
    }
    said = words(phases=phases, augmentation=varied)
    assert said["Phase 1"] == (
        "the last block and the head, on tiles, 10 epochs: SGD (momentum 0.9, Nesterov), rate 0.001, falling as a "
        "cosine to 0.01 of it after a warm-up of 1 epoch"
    )
    assert said["Phase 2"].startswith("the last 2 blocks and the head")
    assert said["Phase 2"].endswith("rate 0.001, 0.8 times that with each group below the head")
    assert said["Phase 3"].startswith("from block_13 on, on tiles, 10 epochs: RMSprop (rho 0.9, epsilon 1e-07)")
    assert said["Augmentation"] == (
        "left-right flips, rotation to 15°, shear to 5°, shift to 0.1 of the edge, zoom 0.8 to 1.2, contrast "
        "0.75 to 1.25"
    )
