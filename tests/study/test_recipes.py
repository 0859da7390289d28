"""Trained networks and recipes in the config."""

from __future__ import annotations

import pytest
from config_factory import load, refused

from histotransfer.definitions import Sgd, Softmax
from histotransfer.feature_kinds import Layers, Source
from histotransfer.networks import groups

SGD = "optimiser: {kind: sgd}, rate: 0.1"
RECIPES = f"""
  ends: {{phases: [{{train: block5, epochs: 2, {SGD}}}]}}
  pretrained:
    head: {{dense: [16]}}
    phases:
      - {{input: features, train: head, epochs: 3, {SGD}}}
      - {{train: 1, epochs: 2, {SGD}}}
  top: {{head: {{dense: [16, 8]}}, phases: [{{input: features, train: head, epochs: 3, {SGD}}}]}}
"""


def said(folder, text):
    return "\n".join(refused(folder, text))


def study(folder, methods, networks="", more=""):
    known = "tuned: {start: net, recipe: ends}, warm: {start: net, recipe: pretrained}, head: {start: net, recipe: top}"
    return f"recipes: {RECIPES}\nnetworks: {{{known}{networks}}}\nstudy: {{methods: [{methods}]}}\n{more}"


def test_a_trained_network_is_a_method_and_a_feature_set(folder):
    found = load(folder, study(folder, "tuned+softmax, tuned+svm"))
    assert [method.name for method in found.methods] == ["tuned+softmax", "tuned+svm"]
    tuned = found.trained["tuned"]
    assert tuned.start.architecture.name == "VGG16"
    assert tuned.start_name == "net"
    assert tuned.recipe.phases[0].optimiser == Sgd(momentum=0.9, nesterov=False)
    assert tuned.recipe.phases[0].on == "tiles"
    assert found.networks == {}, "nothing is extracted from the start itself"
    assert found.classifiers["softmax"] == Softmax()
    assert found.px_of("mine") == [224]
    # both are variants of what the network is worth
    assert found.strategies == {"tuned": ["tuned+softmax", "tuned+svm"]}


def test_a_head_on_features_needs_those_of_its_start_and_no_pixels(folder):
    found = load(folder, study(folder, "head+softmax"))
    assert found.trained["head"].head_only
    assert list(found.networks) == ["net"]
    assert found.trained["head"].start_features == Layers((Source("net", None),))
    warm = load(folder, study(folder, "warm+softmax")).trained["warm"]
    assert (warm.on_features, warm.head_only) == (True, False)


def test_features_of_a_trained_network_are_cut_points_and_dense_layers_of_its_head(folder):
    sets = "feature_sets: {deep: {network: head, layer: head_1}, all: {network: warm, layers: all, use: merged}}"
    found = load(folder, study(folder, "deep+svm, all+svm", more=sets))
    assert found.trained["head"].layer == "block5"
    assert found.trained["head"].layers == ("head_1",)
    assert found.trained["warm"].layers == ("block1", "block2", "block3", "block4")
    assert found.feature_sets["deep"].definition == Layers((Source("head", "head_1"),))


def test_tiles_are_stored_as_large_as_they_are_cropped_from(folder):
    crops = f"crops: {{crop_from: 256, phases: [{{train: all, epochs: 1, {SGD}}}]}}"
    text = f"recipes: {{{crops}}}\nnetworks: {{t: {{start: net, recipe: crops}}}}\nstudy: {{methods: [t+softmax]}}"
    found = load(folder, text)
    assert found.trained["t"].px == 256
    assert found.px_of("mine") == found.px_stored("mine") == [256]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("all", ["a", "b", "c", "head"]),
        ("head", ["head"]),
        ("b", ["b", "c", "head"]),
        (1, ["c", "head"]),
        (3, ["a", "b", "c", "head"]),
        (4, []),
        ("d", []),
    ],
)
def test_what_a_phase_trains(asked, expected):
    assert groups.trained_groups(asked, ["a", "b", "c", "head"]) == expected


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        ("{train: block9, epochs: 1, SGD}", "cut point of VGG16 up to block5: block1, block2, block3, block4, block5"),
        ("{train: blok5, epochs: 1, SGD}", "(did you mean 'block5'?); found 'blok5'"),
        ("{train: fc1, epochs: 1, SGD}", "phases[0].train: must be head, all, a number of blocks, or a cut point"),
        ("{train: 6, epochs: 1, SGD}", "phases[0].train: must be at most 5, the blocks of VGG16 up to block5; found 6"),
        (
            "{train: all, epochs: 1, SGD, rates: {block7: 2}}",
            "phases[0].rates: groups of VGG16 up to block5 are block1, block2, block3, block4, block5, head",
        ),
        (
            "{train: block5, epochs: 1, SGD, rates: {block5: 0, head: 0}}",
            "phases[0].rates: a phase must train something: one of block5, head; found 0 for all of them",
        ),
        (
            "{train: head, epochs: 1, SGD, rates: {head: 0}}",
            "phases[0].rates.head: a phase must train something, and this one trains only the head; found 0",
        ),
        ("{train: all, epochs: 0, SGD}", "phases[0].epochs: must be 1 or more; found 0"),
        ("", "recipes.r.phases: must have 1 or more entries; found []"),
        (
            "{input: features, train: all, epochs: 1, SGD}",
            "phases[0].train: must be head: on features, only the head can be trained; found 'all'",
        ),
        (
            "{train: all, epochs: 1, SGD}, {input: features, train: head, epochs: 1, SGD}",
            "phases[1].input: only the first phase can use features; found 'features'",
        ),
        (
            "{train: all, epochs: 1, rate: 0.1, optimiser: {kind: adam, momentum: 0.9}}",
            "phases[0].optimiser.momentum: unknown key; legal are beta_1, beta_2, epsilon, kind",
        ),
        (
            "{train: all, epochs: 1, SGD, schedule: {kind: inv, gamma: 0.1}}",
            "phases[0].schedule: the key 'power' is missing (Exponent, given as a positive number)",
        ),
    ],
)
def test_a_recipe_that_cannot_be_followed(folder, phases, expected):
    text = f"recipes: {{r: {{phases: [{phases.replace('SGD', SGD)}]}}}}\nnetworks: {{t: {{start: net, recipe: r}}}}"
    assert expected in said(folder, f"{text}\nstudy: {{methods: [t+softmax]}}")


@pytest.mark.parametrize(
    ("networks", "method", "expected"),
    [
        (", t: {start: nett, recipe: ends}", "t+softmax", "networks.t.start: must be one of `networks`: net, tuned,"),
        (", t: {start: net, recipe: end}", "t+softmax", "networks.t.recipe: must be one of `recipes`"),
        (
            ", t: {start: tuned, recipe: ends}",
            "t+softmax",
            "networks.t.start: a start must not be a trained network itself",
        ),
        (", t: {start: net}", "t+softmax", "networks.t: the key 'recipe' is missing"),
        (
            ", t: {start: net, recipe: ends, px: 96}",
            "t+softmax",
            "networks.t.px: a trained network has that of its start",
        ),
        (", t: {start: net, recipe: ends, layer: fc1}", "t+svm", "networks.t.layer: legal are block1, block2,"),
        (", t: {start: net, recipe: top, layer: head_3}", "t+svm", "block5, head_1, head_2 (did you mean"),
        ("", "net+softmax", "softmax is the output of a trained network (one with start and recipe): tuned, warm"),
        (
            ", m: {architecture: VGG16, weights: random, rescale: training_mean}",
            "m+svm",
            "networks.m.rescale: must be network or unit: training_mean needs training on tiles, and m+svm uses "
            "features",
        ),
    ],
)
def test_a_trained_network_that_cannot_be(folder, networks, method, expected):
    assert expected in said(folder, study(folder, method, networks))


def test_early_stopping_needs_validation_tiles(folder):
    stops = f"recipes: {{r: {{early_stopping: 3, phases: [{{train: all, epochs: 9, {SGD}}}]}}}}"
    text = f"{stops}\nnetworks: {{t: {{start: net, recipe: r}}}}\nstudy: {{methods: [t+softmax]}}"
    expected = "recipe r has early_stopping, which needs validation tiles: give `validation`"
    assert expected in said(folder, text)
    held_out = "splits: {by-patient: {validation: 0.25}}"
    assert load(folder, f"{text}\n{held_out}").trained["t"].recipe.early_stopping == 3


def test_the_name_softmax_is_taken(folder):
    text = "classifiers: {softmax: {kind: libsvm, C: [1]}}"
    assert "classifiers.softmax: softmax is the output of a trained network" in said(folder, text)
