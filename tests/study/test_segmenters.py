"""Segmentation networks in the config: what a study becomes of them, and what is refused in which words."""

import pytest
from config_factory import MAPS, load, refused

from histotransfer.definitions import Canvas
from histotransfer.plain_data import plain


def with_change(old, new):
    assert MAPS.count(old) == 1
    return MAPS.replace(old, new)


def test_what_a_study_becomes(folder):
    study = load(folder, MAPS)
    assert study.datasets["mine"].canvas == Canvas(size=32, per="piece")
    assert plain(study.datasets["mine"].tasks["tumour"].regions) == {
        "names": {"tumour": ["T"]},
        "cut_out": [],
        "ignore": [],
        "outside": "normal",
        "without": "nolabel",
        "origin": None,
        "repair": False,
        "rules": [{"class": "tumour", "above": 0.2}, {"class": "normal", "above": 0.8}],
    }
    assert plain(study.feature_sets["picture"].definition) == {"image": {"cell_px": 16}}
    assert plain(study.feature_sets["vectors"].definition) == {"sources": [{"network": "tuned", "layer": "head_1"}]}
    both = study.classifiers["end-to-end"]
    assert (both.kind, both.start, both.filters, both.depth) == ("end_to_end", "maps", 8, 2)
    assert both.recipe.phases[0].rates == {"extractor": 0.01}
    assert study.classifiers["maps"].standardise is True
    assert study.trained["tuned"].px == 256
    # maps of features as they are, of the network that is trained, and of tiles that are stored for it
    assert study.px_of("mine") == [224, 256]


def test_the_network_that_end_to_end_learning_begins_with_is_trained_though_no_method_names_it(folder):
    study = load(folder, MAPS + "\nseed: 3").classifiers
    alone = load(folder, with_change("picture+maps, net+maps, ", "")).classifiers
    assert set(study) == set(alone) == {"maps", "end-to-end", "softmax"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("start: maps", "start: mops", "classifiers.end-to-end.start: must be a classifier of the kind unet: maps"),
        ("recipe: on-maps", "recipe: on-mops", "classifiers.maps.recipe: must be one of `recipes`"),
        ("{flip: both}", "{zoom: [0.9, 1.1]}", "augmentation.zoom: maps can only be varied by flip, quarter_turns"),
        ("{extractor: 0.01}", "{head: 10}", "phases[0].rates: groups are extractor, unet; found 'head'"),
        ("[picture+maps", "[picture+svm, picture+maps", None),
        ("picture+maps, net+maps", "picture+svm", "a feature set with cell_px needs a classifier of the kind unet"),
        ("methods: [vectors", "methods: [net", "end_to_end continues the training of a network"),
        (
            "together:\n    crop_from: 256",
            "together:\n    crop_from: 300",
            "must be 256, as in the recipe of tuned, whose tiles are used",
        ),
        (
            "outside: normal",
            "outside: norml",
            "regions.outside: must be normal, tumour, nolabel (did you mean 'normal'?)",
        ),
        ("{tumour: [T]}", "{tumor: [T]}", "regions.names: must be a class of the task: normal, tumour"),
        (
            "{tumour: [T]}",
            "{tumour: [T], normal: [T]}",
            "a name of regions must not be repeated, and 'T' is also under tumour",
        ),
        (", {class: normal, above: 0.8}", "", "each class must have one rule, and 'normal' has 0"),
        ("above: 0.8", "above: 1.5", "tasks.tumour.regions.rules[1].above"),
        ("size: 32", "size: fitt", "datasets.mine.canvas.size"),
        ("{flip: both}", "{flip: both}, crop_from: 300", "crop_from: maps are not cropped"),
        ("recipes:\n", "recipes:\n  more: {sampling: evenly}\n", "recipes.more.sampling: must be one of all, balanced"),
    ],
)
def test_what_is_refused(folder, old, new, expected):
    if expected is None:
        old, new = "vectors+end-to-end, picture+maps", "vectors+end-to-end, picture+svm"
        expected = "study.methods[1]"
    lines = refused(folder, with_change(old, new))
    assert any(expected in line for line in lines), lines


def test_maps_and_regions_are_of_slides_alone(folder):
    rules = "[{class: other, above: 0.5}, {class: epithelial, above: 0.5}]"
    of_cells = f"tasks:\n  cell: {{regions: {{names: {{other: [o]}}, rules: {rules}}}}}\n"
    lines = refused(folder, MAPS.replace("study: {", "study: {datasets: [cells], ").replace("tasks:\n", of_cells))
    assert any("needs slides, whose tiles lie on a grid; found dataset cells of points" in line for line in lines)
    assert any(
        "datasets.cells.kind: must be slides, since task cell has regions, which are drawn on slides" in line
        for line in lines
    )
