"""Feature sets, selections, comparisons and strategies in the config."""

from __future__ import annotations

import config_factory
import pytest
from config_factory import SCHEMA, load, refused
from repository import ROOT as REPOSITORY

from histotransfer.definitions import LeafFrequencies, Selection
from histotransfer.networks import table
from histotransfer.plain_data import plain
from histotransfer.study import configuration
from histotransfer.study.feature_sets import sources_of

TWO = "networks: {wide: {architecture: MobileNet, weights: random, px: 96}}"


def sets(folder, definitions, methods):
    return load(folder, f"{TWO}\nfeature_sets: {definitions}\nstudy: {{methods: [{methods}]}}")


def test_merged_networks_give_their_own_layers_in_the_order_of_the_list(folder):
    study = sets(folder, "{both: {networks: [wide, net]}}", "both+svm")
    both = study.feature_sets["both"]
    assert plain(both.definition) == {
        "sources": [{"network": "wide", "layer": None}, {"network": "net", "layer": None}]
    }
    assert both.merged
    assert both.networks == ["wide", "net"]
    assert list(study.networks) == ["wide", "net"]
    assert study.px_of("mine") == [96, 224]


def test_merged_layers_stand_by_depth_whatever_the_list(folder):
    study = sets(folder, "{some: {network: net, layers: [block5, block2], use: merged}}", "some+svm")
    layers = [source.layer for source in study.feature_sets["some"].definition.sources]
    assert layers == ["block2", None], "the network's own layer is the features proper"
    assert study.networks["net"].layers == ("block2",)
    every = sets(folder, "{every: {network: net, layers: all, use: merged}}", "every+svm")
    layers = [source.layer for source in every.feature_sets["every"].definition.sources]
    assert layers == ["block1", "block2", "block3", "block4", None], "dense layers are in no `all`"


def test_a_choice_among_layers_is_a_method_for_each_and_one_that_chooses(folder):
    study = sets(folder, "{inner: {network: net, layers: [block1, block5], use: chosen}}", "inner+svm")
    assert [method.name for method in study.methods] == ["inner+svm", "inner.block1+svm", "inner.block5+svm"]
    assert study.feature_sets["inner"].layers == {"block1": "inner.block1", "block5": "inner.block5"}
    assert sources_of(study.feature_sets["inner"]) == ()
    assert plain(study.feature_sets["inner.block1"].definition) == {"sources": [{"network": "net", "layer": "block1"}]}
    assert study.networks["net"].layers == ("block1",)
    # the choice is ranked with its layers
    assert study.comparisons["all-methods"].methods == ("inner+svm", "inner.block1+svm", "inner.block5+svm")


def test_a_comparison_may_leave_single_layers_out(folder):
    study = load(
        folder,
        """
        feature_sets: {inner: {network: net, layers: [block1, block5], use: chosen}}
        study:
          methods: [net+svm, inner+svm]
          comparisons: [{name: few, methods: all, each_layer: false}, {name: every, methods: all}]
        """,
    )
    assert {name: one.methods for name, one in study.comparisons.items()} == {
        "few": ("net+svm", "inner+svm"),
        "every": ("net+svm", "inner+svm", "inner.block1+svm", "inner.block5+svm"),
    }


def test_the_variants_of_a_strategy_are_the_layers_and_not_the_choice(folder):
    definition = "{inner: {network: net, layers: [block1, block5], use: chosen}}"
    study = sets(folder, definition, "inner+svm, net+svm")
    assert study.strategies == {"inner": ["inner.block1+svm", "inner.block5+svm"], "net": ["net+svm"]}


def test_random_windows_have_their_defaults_and_need_pixels_of_their_size(folder):
    study = load(
        folder,
        """
        feature_sets: {random: {pixels: 64, windows: 5}}
        classifiers: {et-fl: {kind: leaf_frequencies, C: [1]}}
        study: {methods: [random+et-fl]}
        """,
    )
    windows = {"px": 64, "windows": 5, "window_px": 16, "smallest": 0.25, "largest": 1.0}
    assert plain(study.feature_sets["random"].definition) == {"windows": windows}
    assert study.networks == {}
    assert study.px_of("mine") == [64]
    assert study.px_stored("mine") == [64]
    defaults = {"trees": 10, "max_features": "sqrt", "min_samples_leaf": 20, "tuning_metric": "accuracy"}
    assert study.classifiers["et-fl"] == LeafFrequencies(C=(1,), **defaults)


@pytest.mark.parametrize(("pixels", "stored"), [("cache", [64, 224]), ("stream", [64])])
def test_where_pixels_are_streamed_only_tiles_for_random_windows_are_stored(folder, pixels, stored):
    study = load(
        folder,
        f"""
        pixels: {pixels}
        feature_sets: {{random: {{pixels: 64}}}}
        classifiers: {{et-fl: {{kind: leaf_frequencies, C: [1]}}}}
        study: {{methods: [net+svm, random+et-fl]}}
        """,
    )
    assert study.px_stored("mine") == stored


def test_only_selections_in_use_are_handed_on(folder):
    study = load(
        folder,
        """
        selections: {rfe: {kind: rfe, step: 0.1}, idle: {kind: rfe, step: adaptive}}
        feature_sets: {few: {network: net, selection: rfe}}
        study: {methods: [few+svm]}
        """,
    )
    defaults = {"tolerance": 0.005, "metric": "accuracy", "trees": 250, "max_features": "sqrt", "min_samples_leaf": 1}
    assert study.selections == {"rfe": Selection(step=0.1, **defaults)}
    assert study.feature_sets["few"].selection == "rfe"


def test_comparisons_and_strategies_as_listed(folder):
    study = load(
        folder,
        """
        classifiers: {et: {kind: extratrees, max_features: [sqrt]}}
        study:
          methods: [net+svm, net+et]
          comparisons:
            - {name: two, title: Two classifiers, methods: [net+et, net+svm]}
            - {name: all, methods: all, reference: net+et}
          strategies: [{name: one, methods: [net+et]}, {name: other, methods: [net+svm]}]
          friedman: [other, one]
        """,
    )
    two, every = study.comparisons.values()
    assert (two.title, two.methods, two.reference) == ("Two classifiers", ("net+et", "net+svm"), "net+et")
    assert (every.title, every.methods, every.reference) == ("all", ("net+svm", "net+et"), "net+et")
    assert study.strategies == {"one": ["net+et"], "other": ["net+svm"]}
    assert study.friedman == ("other", "one")


def test_without_a_list_all_methods_are_compared_and_each_feature_set_is_a_strategy(folder):
    alone = load(folder)
    assert alone.comparisons == {}, "one method is compared with nothing"
    assert alone.strategies == {}
    text = "classifiers: {et: {kind: extratrees, max_features: [sqrt]}}\nstudy: {methods: [net+svm, net+et]}"
    two = load(folder, text)
    assert {name: one.methods for name, one in two.comparisons.items()} == {"all-methods": ("net+svm", "net+et")}
    assert two.strategies == {"net": ["net+svm", "net+et"]}


LAYERS = "block1, block2, block3, block4, block5, fc1, fc2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "feature_sets: {x: {}}",
            "feature_sets.x: give one of network, networks (merged), pixels (random windows) or cell_px (the slide "
            "itself); null removes a key of an earlier file; found none of them",
        ),
        (
            "feature_sets: {x: {network: net, pixels: 64}}",
            "feature_sets.x: give one of network, networks (merged), pixels (random windows) or cell_px (the slide "
            "itself); null removes a key of an earlier file; found network, pixels",
        ),
        (
            "feature_sets: {x: {networks: [net, ned]}}",
            "feature_sets.x.networks[1]: must be one of `networks`: net (did you mean 'net'?); found 'ned'",
        ),
        ("feature_sets: {x: {networks: [net]}}", "feature_sets.x.networks: must have 2 or more entries; found ['net']"),
        (
            "feature_sets: {x: {networks: [net, net]}}",
            "feature_sets.x.networks: entries must be unique; found ['net', 'net']",
        ),
        (
            "{networks: {two: {architecture: VGG16, weights: random}}, "
            "feature_sets: {x: {networks: [net, two], layer: block2}}}",
            "feature_sets.x.layer: merged networks use the `layer` in their own definitions: leave it out; "
            "found 'block2'",
        ),
        (
            "feature_sets: {x: {network: net, layers: [block1, block6], use: merged}}",
            f"feature_sets.x.layers[1]: legal for VGG16 are {LAYERS} (did you mean 'block5'?); found 'block6'",
        ),
        (
            "feature_sets: {x: {network: net, layers: all}}",
            "feature_sets.x: `layers` and `use` must be given together: use is merged (side by side) or chosen (by "
            "inner cross-validation); found layers alone",
        ),
        (
            "feature_sets: {x: {network: net, use: chosen}}",
            "feature_sets.x: `layers` and `use` must be given together: use is merged (side by side) or chosen (by "
            "inner cross-validation); found use alone",
        ),
        (
            "feature_sets: {x: {network: net, layer: block1, layers: all, use: merged}}",
            "feature_sets.x: give layer or layers; found both",
        ),
        (
            "{selections: {rfe: {kind: rfe, step: 1}}, "
            "feature_sets: {x: {network: net, layers: all, use: chosen, selection: rfe}}}",
            "feature_sets.x.selection: a choice among layers has no selection: leave it out; found 'rfe'",
        ),
        (
            "feature_sets: {x: {network: net, selection: rfe}}",
            "feature_sets.x.selection: must be one of `selections`: (none); found 'rfe'",
        ),
        (
            "feature_sets: {x: {network: net, layers: all, use: chosen}, x.block1: {network: net}}",
            "feature_sets.x: its layer block1 becomes the feature set x.block1, which exists already; found 'x.block1'",
        ),
        (
            "feature_sets: {x: {network: net, windows: 4}}",
            "feature_sets.x.windows: only for a feature set with pixels: leave it out; found 4",
        ),
        (
            "feature_sets: {x: {pixels: 64, layer: block1}}",
            "feature_sets.x.layer: only for features of networks: leave it out; found 'block1'",
        ),
        (
            "feature_sets: {x: {pixels: 64, smallest: 0.8, largest: 0.5}}",
            "feature_sets.x.smallest: must be at most `largest`, 0.5; found 0.8",
        ),
        (
            "{feature_sets: {x: {pixels: 64}}, study: {methods: [x+svm]}}",
            "study.methods[0]: random windows of pixels need a classifier of the kind leaf_frequencies; found libsvm",
        ),
        (
            "{classifiers: {et-fl: {kind: leaf_frequencies, C: [1]}}, study: {methods: [net+et-fl]}}",
            "study.methods[0]: a classifier of the kind leaf_frequencies needs random windows: a feature set with "
            "`pixels`; found features of a network",
        ),
        (
            "selections: {rfe: {kind: rfe, step: fast}}",
            "selections.rfe.step: must be adaptive; found 'fast'",
        ),
        ("selections: {rfe: {kind: rfe, step: 0}}", "selections.rfe.step: must be above 0; found 0"),
        (
            "selections: {rfe: {kind: rfe, step: 1.5}}",
            "selections.rfe.step: a step of 1 or more must be a whole number of features; found 1.5",
        ),
        (
            "selections: {rfe: {kind: rfe, step: 1.0}}",
            "selections.rfe.step: a step of 1 or more must be a whole number of features; found 1",
        ),
        (
            "selections: {rfe: {kind: rfe, step: 1, tolerance: 1}}",
            "selections.rfe.tolerance: must be below 1; found 1",
        ),
        (
            "study: {comparisons: [{name: one, methods: [net+svm]}]}",
            "study.comparisons[0].methods: a comparison needs two or more methods; found net+svm",
        ),
        (
            "study: {comparisons: [{name: one, methods: [net+svm, net+svn]}]}",
            "study.comparisons[0].methods[1]: must be one of `study.methods`: net+svm (did you mean 'net+svm'?); "
            "found 'net+svn'",
        ),
        (
            "{classifiers: {et: {kind: extratrees, max_features: [sqrt]}}, study: {methods: [net+svm, net+et], "
            "comparisons: [{name: one, methods: all, reference: net+eta}]}}",
            "study.comparisons[0].reference: must be one of the comparison's methods: net+svm, net+et "
            "(did you mean 'net+et'?); found 'net+eta'",
        ),
        (
            "study: {strategies: [{name: one, methods: [net+svm]}, {name: one, methods: [net+svm]}]}",
            "study.strategies[1].name: names of strategies must be unique; found 'one'",
        ),
        (
            "study: {strategies: [{name: one, methods: [net+svm]}], friedman: [two]}",
            "study.friedman[0]: must be one of `study.strategies`: one; found 'two'",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(folder, text, expected):
    assert refused(folder, text) == ["config:", f"  {expected}"]


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("studies/*.yaml")), ids=lambda path: path.stem)
def test_each_study_of_the_project_is_legal_but_for_the_files_of_its_users(path):
    """What a study file asks for stands; sheets and weights are the user's."""
    config = config_factory.of_file(path)
    told = []
    try:
        configuration.load(config, SCHEMA, folder=REPOSITORY)
    except configuration.ConfigurationError as error:
        told = [line for line in str(error).split("\n")[1:] if line.startswith("  ")]
    assert [line for line in told if "no such file" not in line] == []


def test_the_study_of_mormont_2018_has_what_the_paper_has():
    config = config_factory.of_file(REPOSITORY / "studies/mormont2018.yaml")
    asked = [one["architecture"] for one in config["networks"].values() if one.get("weights") == "imagenet"]
    seven = ["VGG16", "VGG19", "InceptionV3", "ResNet50", "InceptionResNetV2", "DenseNet201", "MobileNet"]
    assert asked == seven
    assert sum(table.ARCHITECTURES[name].n_features for name in seven) == 9600
    assert len(config["study"]["datasets"]) == 8
    assert {one["tolerance"] for one in config["selections"].values()} == {0.005}
    tuned = {one["start"] for one in config["networks"].values() if one.get("recipe") == "mormont2018"}
    assert tuned == {"resnet50", "inceptionresnetv2", "densenet201"}
    first, second = config["recipes"]["mormont2018"]["phases"]
    assert (first["train"], first["epochs"], first["rate"]) == ("head", 5, 1e-2)
    assert (second["train"], second["epochs"], second["rate"]) == ("all", 45, 1e-5)
    assert first["optimiser"] == second["optimiser"] == {"kind": "adam", "beta_1": 0.99, "beta_2": 0.999}
