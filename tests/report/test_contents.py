"""What the report holds of trained networks and of maps: which figures and tables, and behind which rule."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import study_factory
from config_factory import MAPS, changed, load
from learning_factory import phase, recipe, start

from histotransfer.definitions import Draw, Factors, Recipe, Softmax, Task
from histotransfer.feature_kinds import Layers, Source
from histotransfer.networks.specification import NetworkSpec
from histotransfer.plain_data import made
from histotransfer.report import contents
from histotransfer.report.entries import chosen
from histotransfer.study.feature_sets import LayerFeatures
from histotransfer.study.methods import Method
from histotransfer.study.trained import TrainedNetwork

VARIED = {"flip": "both"}

#: A method on the layer that inner cross-validation chooses.
CHOICE = """
study: {methods: [inner+svm]}
feature_sets: {inner: {network: net, layers: [block1, block5], use: chosen}}
"""

#: A study of slides and points with every chapter but that of maps.
COMPARED = """
study:
  datasets: [mine, cells]
  methods: [net+svm, net+trees, inner+svm, both+trees, few+svm, tuned+softmax, head+softmax, tuned+svm]
  splits: [by-patient, by-image]
  comparisons: [{name: all, title: All, reference: net+svm, methods: [net+svm, net+trees, both+trees]}]
  strategies: [{name: plain, methods: [net+svm, net+trees]}, {name: inner, methods: [inner+svm]}]
  friedman: [plain, inner]
networks:
  other: {architecture: MobileNetV2, weights: random}
  tuned: {start: net, recipe: tiles}
  head: {start: net, recipe: head}
feature_sets:
  inner: {network: net, layers: [block1, block5], use: chosen}
  both: {networks: [net, other]}
  few: {network: net, selection: rfe}
selections: {rfe: {kind: rfe, step: 0.5}}
classifiers: {trees: {kind: extratrees, max_features: [sqrt]}}
recipes:
  tiles:
    augmentation: {flip: both}
    curve: {per_epoch: 1}
    phases: [{train: all, epochs: 1, rate: 0.1, optimiser: {kind: sgd}}]
  head: {phases: [{input: features, train: head, epochs: 1, rate: 0.1, optimiser: {kind: sgd}}]}
splits:
  by-image: {unit: image, test: 0.25, folds: 2, share_groups: to see what sharing is worth}
"""


def contents_of(*trained, kind="patches", pixels="cache", classes=("a", "b"), seeds=(7, 8)):
    """Return the contents of a study of one dataset, task and split."""
    task = Task(classes=tuple(classes), labels={})
    dataset = SimpleNamespace(name="nuclei", kind=kind, tasks={"type": task}, parts=[], rows={})
    study = SimpleNamespace(
        name="s",
        datasets={"nuclei": dataset},
        methods=tuple(Method(f"{one.name}+softmax", one.name, "softmax") for one in trained),
        feature_sets={one.name: LayerFeatures(one.name, Layers((Source(one.name),))) for one in trained},
        classifiers={"softmax": Softmax()},
        **{"comparisons": {}, "strategies": {}, "splits": {"by-image": {}}, "seeds": seeds, "master_seed": 1},
        pixels=pixels,
        trained={one.name: one for one in trained},
    )
    return contents.Contents(study)


def network(name, start_of=None, **changes):
    spec, trained_by = made(NetworkSpec, start_of or start()), made(Recipe, recipe(**changes))
    return TrainedNetwork(name, "mobilenetv2", spec, trained_by)


def figures_of(made):
    return [entry for entry in made.entries() if entry.is_figure]


def of_training(entries, kind):
    return [entry.path for entry in chosen(entries, "training", kind)]


def test_each_network_has_its_curves_and_what_it_looks_at_with_the_first_seed():
    alexnet = start("AlexNet", "random", alpha=None, layer="fc6", px=227)
    made = contents_of(network("fine"), network("scratch", start(weights="random")), network("alex", alexnet))
    figures = figures_of(made)
    home = "results/studies/s/training/by-image/nuclei/type"
    # one plot an architecture: transfer and full training stand in the same one
    assert of_training(figures, "iterations") == [
        f"{home}/iterations/mobilenetv2.svg",
        f"{home}/iterations/alexnet.svg",
    ]
    assert made.architecture("mobilenetv2") == "MobileNetV2"
    assert of_training(figures, "epochs") == [f"{home}/epochs/{name}.svg" for name in ("fine", "scratch", "alex")]
    models = "results/nuclei/models/type/by-image/7"
    assert of_training(figures, "grad_cam") == [
        f"{models}/{name}/softmax/grad_cam.svg" for name in ("fine", "scratch", "alex")
    ]
    tables = [(entry.path, entry.rule) for entry in chosen(made.tables(), "training")]
    folder = "results/studies/s/training/by-image"
    assert tables == [(f"{folder}/{kind}.csv", "tabulate_training") for kind in ("accuracy", "epochs", "steps")]
    entry = next(entry for entry in figures if entry.path.endswith("fine/softmax/grad_cam.svg"))
    assert (entry.rule, entry.network, entry.seed, entry.split) == ("grad_cam", "fine", 7, "by-image")


def test_networks_that_vary_tiles_alike_share_a_picture():
    made = contents_of(
        network("plain"),
        network("flips", augmentation=VARIED),
        network("flips-too", augmentation=VARIED, batch=8),
        network("crops", augmentation=VARIED, crop_from=128),
        network("head", augmentation=VARIED, phases=[phase(on="features")]),
    )
    folder = "results/nuclei/figures/augmentation"
    assert of_training(figures_of(made), "augmentation") == [f"{folder}/flips.jpg", f"{folder}/crops.jpg"]


def test_without_a_curve_there_is_no_plot_by_iteration():
    figures = figures_of(contents_of(network("fine", curve=None)))
    assert of_training(figures, "iterations") == []
    assert len(of_training(figures, "epochs")) == 1


def test_no_slide_is_cut_for_the_picture_of_a_head_on_features():
    head, fine = network("head", phases=[phase(on="features")]), network("fine")
    for pixels, kind, names in (
        ("stream", "slides", ["fine"]),
        ("cache", "slides", ["head", "fine"]),
        ("stream", "patches", ["head", "fine"]),
    ):
        shown = of_training(figures_of(contents_of(head, fine, pixels=pixels, kind=kind)), "grad_cam")
        assert [path.split("/")[6] for path in shown] == names


def test_of_many_classes_fewer_tiles_are_shown():
    def shown(n):
        return contents_of(network("fine"), classes=[str(k) for k in range(n)]).tiles_explained("nuclei", "type")

    assert [shown(n) for n in (2, 12, 13, 24, 60)] == [4, 4, 3, 2, 1]


def test_every_network_is_tabulated_for_every_seed():
    trained = contents_of(network("fine"), network("scratch", start(weights="random"))).trainings("by-image")
    assert [(one.network, one.factors.seed, one.transfer) for one in trained] == [
        ("fine", 7, True),
        ("fine", 8, True),
        ("scratch", 7, False),
        ("scratch", 8, False),
    ]
    assert trained[0].architecture == "MobileNetV2"
    assert trained[0].factors == Factors("nuclei", "type", "by-image", Draw(7), "fine", "softmax")


def test_without_trained_networks_there_is_nothing_of_them():
    made = contents_of()
    assert chosen(made.entries(), "training") == []


def with_metastases(folder):
    """Let the sheet of slides say what each lymph node holds."""
    sheet = folder / "in" / "slides.tsv"
    first, *rows = sheet.read_text().splitlines()
    said = [f"{row}\t{'macro' if number else 'negative'}" for number, row in enumerate(rows)]
    sheet.write_text("\n".join([f"{first}\tmetastasis", *said]))


@pytest.fixture
def maps(folder):
    """The contents of a study of every way to use maps, whose sheet says what its lymph nodes hold."""
    with_metastases(folder)
    return contents.Contents(load(folder, MAPS))


def test_slides_with_regions_are_shown_as_maps_with_the_first_seed(maps):
    entries = maps.entries()
    drawn = [entry.path for entry in chosen(entries, "maps") if entry.is_figure]
    assert drawn == ["results/studies/small/maps/by-patient/mine/tumour/1.svg"]
    annotated = [entry.path for entry in chosen(entries, "annotations")]
    assert annotated == [f"results/mine/figures/annotations/tumour/s{k}.jpg" for k in range(8)]
    methods = ["vectors+end-to-end", "picture+maps", "net+maps", "tuned+softmax"]
    runs = [f"results/mine/models/tumour/by-patient/1/{method.replace('+', '/')}/maps.json" for method in methods]
    assert [entry.path for entry in chosen(entries, "maps", "index")] == runs
    told = {one.name: (one.kind, one.cell_px, one.trained, one.start) for one in maps.described_methods()}
    assert told == {
        "vectors+end-to-end": ("end_to_end", None, ("tuned",), "maps"),
        "picture+maps": ("unet", 16, (), None),
        "net+maps": ("unet", None, (), None),
        "tuned+softmax": ("softmax", None, ("tuned",), None),
    }


def test_tables_of_maps_and_the_rules_behind_them(maps):
    tables = [(entry.path, entry.rule) for entry in maps.tables() if entry.section in ("maps", "staging")]
    home = "results/studies/small"
    assert tables == [
        (f"{home}/maps/by-patient/methods.csv", "tabulate_map_methods"),
        (f"{home}/maps/by-patient/points.csv", "tabulate_points"),
        (f"{home}/maps/by-patient/moved.csv", "tabulate_moved"),
        (f"{home}/staging/by-patient/stages.csv", "collect_staging"),
        (f"{home}/staging/by-patient/left_out.csv", "collect_staging"),
        (f"{home}/maps/canvases.csv", "tabulate_canvases"),
    ]
    # of two seeds and four methods; three of them are segmentation networks, one is trained end to end
    assert len(maps.stagings("by-patient")) == 2 * 4
    assert len(maps.segmentations()) == 2 * 3
    assert [run.seed for run in maps.segmentations("end_to_end", split="by-patient")] == [1, 2]


def test_segmentation_networks_have_learning_curves_as_all_that_is_trained(maps):
    trained = {(one.network, one.factors.features, one.start, one.transfer) for one in maps.trainings("by-patient")}
    assert trained == {
        ("tuned", "tuned", "net", False),
        ("vectors+end-to-end", "vectors", "maps", True),
        ("picture+maps", "picture", "picture", False),
        ("net+maps", "net", "net", False),
    }
    curves = [path for path in of_training(figures_of(maps), "epochs") if "/maps.svg" in path]
    home = "results/studies/small/training/by-patient/mine/tumour/epochs"
    assert curves == [f"{home}/picture/maps.svg", f"{home}/net/maps.svg"]


def test_without_regions_and_segmentation_there_is_no_chapter_of_maps(folder):
    made = contents.Contents(load(folder))
    assert (made.described_methods(), made.stagings("by-patient")) == ([], [])
    assert not [entry for entry in made.entries() if entry.section in ("maps", "staging")]


def test_predictions_stand_with_the_rule_that_makes_them(maps):
    rules = {entry.method: entry.rule for entry in chosen(maps.entries(), "asked", "predictions")}
    assert rules == {
        "vectors+end-to-end": "train_end_to_end",
        "picture+maps": "train_unet",
        "net+maps": "train_unet",
        "tuned+softmax": "train_network",
    }


def test_a_choice_among_layers_stands_with_the_rule_that_chooses(folder):
    made = contents.Contents(load(folder, CHOICE))
    rules = {entry.method: entry.rule for entry in chosen(made.entries(), "asked", "predictions")}
    assert rules["inner+svm"] == "choose_layer"
    assert set(rules) - {"inner+svm"}
    assert {rule for method, rule in rules.items() if method != "inner+svm"} == {"train_classifier"}


def test_each_file_behind_the_page_is_there_once(maps):
    paths = [entry.path for entry in maps.entries()]
    assert len(set(paths)) == len(paths)


@pytest.mark.workflow
@pytest.mark.parametrize("text", [MAPS, COMPARED, f"{MAPS}pixels: stream\n"], ids=["maps", "compared", "stream"])
def test_each_file_stands_with_the_rule_that_snakemake_makes_it_by(folder, tmp_path_factory, text):
    with_metastases(folder)
    workflow = study_factory.copy_workflow(tmp_path_factory.mktemp("workflow"))
    study = study_factory.Study(folder, workflow, changed(text))
    listed = study.run("--summary").output.partition("output_file\t")[2].splitlines()[1:]
    rule_of = {path: rule for path, _, rule, *_ in (line.split("\t") for line in listed)}
    made = contents.Contents(load(folder, text))
    entries = [*made.entries(), *made.costs()]
    assert len(entries) > 50
    assert {entry.path: entry.rule for entry in entries} == {entry.path: rule_of[entry.path] for entry in entries}
