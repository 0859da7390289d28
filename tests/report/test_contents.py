"""What the report holds of trained networks and of maps: which figures and tables, and behind which rule."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from config_factory import MAPS, load
from learning_factory import phase, recipe, start

from histotransfer.definitions import Recipe, Softmax, Task
from histotransfer.feature_kinds import Layers, Source
from histotransfer.networks.specification import NetworkSpec
from histotransfer.plain_data import made
from histotransfer.report import contents
from histotransfer.study.feature_sets import LayerFeatures
from histotransfer.study.methods import Method
from histotransfer.study.trained import TrainedNetwork

VARIED = {"flip": "both"}


def contents_of(*trained, kind="patches", pixels="cache", classes=("a", "b"), seeds=(7, 8)):
    """Return the contents of a study of one dataset, task and split."""
    task = Task(classes=tuple(classes), labels={})
    dataset = SimpleNamespace(name="nuclei", kind=kind, tasks={"type": task}, parts=[], rows={})
    study = SimpleNamespace(
        name="s",
        datasets={"nuclei": dataset},
        methods=(Method("fine+softmax", "fine", "softmax"),),
        feature_sets={"fine": LayerFeatures("fine", Layers((Source("fine"),)))},
        classifiers={"softmax": Softmax()},
        **{"comparisons": {}, "strategies": {}, "splits": {"by-image": {}}, "seeds": seeds, "master_seed": 1},
        pixels=pixels,
        trained={one.name: one for one in trained},
    )
    return contents.Contents(study)


def network(name, start_of=None, **changes):
    spec, trained_by = made(NetworkSpec, start_of or start()), made(Recipe, recipe(**changes))
    return TrainedNetwork(name, "mobilenetv2", spec, trained_by)


def of_training(entries, kind):
    return [path for path, about in entries if (about["section"], about.get("kind")) == ("training", kind)]


def test_each_network_has_its_curves_and_what_it_looks_at_with_the_first_seed():
    alexnet = start("AlexNet", "random", alpha=None, layer="fc6", px=227)
    made = contents_of(network("fine"), network("scratch", start(weights="random")), network("alex", alexnet))
    figures = made.figures()
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
    tables = [(path, about["rule"]) for path, about in made.tables() if about["section"] == "training"]
    folder = "results/studies/s/training/by-image"
    assert tables == [(f"{folder}/{kind}.csv", "tabulate_training") for kind in ("accuracy", "epochs", "steps")]
    assert [one["name"] for one in made.trained()] == ["fine", "scratch", "alex"]
    about = next(about for path, about in figures if path.endswith("fine/softmax/grad_cam.svg"))
    assert (about["rule"], about["network"], about["seed"], about["split"]) == ("grad_cam", "fine", "7", "by-image")


def test_networks_that_vary_tiles_alike_share_a_picture():
    made = contents_of(
        network("plain"),
        network("flips", augmentation=VARIED),
        network("flips-too", augmentation=VARIED, batch=8),
        network("crops", augmentation=VARIED, crop_from=128),
        network("head", augmentation=VARIED, phases=[phase(on="features")]),
    )
    folder = "results/nuclei/figures/augmentation"
    assert of_training(made.figures(), "augmentation") == [f"{folder}/flips.jpg", f"{folder}/crops.jpg"]


def test_without_a_curve_there_is_no_plot_by_iteration():
    figures = contents_of(network("fine", curve=None)).figures()
    assert of_training(figures, "iterations") == []
    assert len(of_training(figures, "epochs")) == 1


def test_no_slide_is_cut_for_the_picture_of_a_head_on_features():
    head, fine = network("head", phases=[phase(on="features")]), network("fine")
    for pixels, kind, names in (
        ("stream", "slides", ["fine"]),
        ("cache", "slides", ["head", "fine"]),
        ("stream", "patches", ["head", "fine"]),
    ):
        shown = of_training(contents_of(head, fine, pixels=pixels, kind=kind).figures(), "grad_cam")
        assert [path.split("/")[6] for path in shown] == names


def test_of_many_classes_fewer_tiles_are_shown():
    def shown(n):
        return contents_of(network("fine"), classes=[str(k) for k in range(n)]).tiles_explained("nuclei", "type")

    assert [shown(n) for n in (2, 12, 13, 24, 60)] == [4, 4, 3, 2, 1]


def test_every_network_is_tabulated_for_every_seed():
    one = contents_of(network("fine"), network("scratch", start(weights="random"))).trainings("by-image")
    assert [(each["network"], each["seed"], each["transfer"]) for each in one] == [
        ("fine", 7, True),
        ("fine", 8, True),
        ("scratch", 7, False),
        ("scratch", 8, False),
    ]
    assert one[0]["architecture"] == "MobileNetV2"
    assert (one[0]["dataset"], one[0]["task"], one[0]["split"]) == ("nuclei", "type", "by-image")


def test_without_trained_networks_there_is_nothing_of_them():
    made = contents_of()
    assert [about for _, about in (*made.figures(), *made.tables()) if about["section"] == "training"] == []
    assert made.trained() == []


@pytest.fixture
def maps(folder):
    """The contents of a study of every way to use maps, whose sheet says what its lymph nodes hold."""
    sheet = folder / "in" / "slides.tsv"
    first, *rows = sheet.read_text().splitlines()
    said = [f"{row}\t{'macro' if number else 'negative'}" for number, row in enumerate(rows)]
    sheet.write_text("\n".join([f"{first}\tmetastasis", *said]))
    return contents.Contents(load(folder, MAPS))


def test_slides_with_regions_are_shown_as_maps_with_the_first_seed(maps):
    figures = [(path, about) for path, about in maps.figures() if about["section"] in ("maps", "annotations")]
    drawn = [path for path, about in figures if about["section"] == "maps"]
    assert drawn == ["results/studies/small/maps/by-patient/mine/tumour/1.svg"]
    annotated = [path for path, about in figures if about["section"] == "annotations"]
    assert annotated == [f"results/mine/figures/annotations/tumour/s{k}.jpg" for k in range(8)]
    methods = ["vectors+end-to-end", "picture+maps", "net+maps", "tuned+softmax"]
    runs = [f"results/mine/models/tumour/by-patient/1/{method.replace('+', '/')}/maps.json" for method in methods]
    assert maps.maps() == runs
    told = {one["name"]: (one["kind"], one["cell_px"], one["trained"], one["start"]) for one in maps.map_methods()}
    assert told == {
        "vectors+end-to-end": ("end_to_end", None, ["tuned"], "maps"),
        "picture+maps": ("unet", 16, [], None),
        "net+maps": ("unet", None, [], None),
        "tuned+softmax": ("softmax", None, ["tuned"], None),
    }


def test_tables_of_maps_and_the_rules_behind_them(maps):
    tables = [(path, about["rule"]) for path, about in maps.tables() if about["section"] in ("maps", "staging")]
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
    assert [one["seed"] for one in maps.segmentations("end_to_end", split="by-patient")] == [1, 2]


def test_segmentation_networks_have_learning_curves_as_all_that_is_trained(maps):
    trained = {(one["network"], one["features"], one["start"], one["transfer"]) for one in maps.trainings("by-patient")}
    assert trained == {
        ("tuned", "tuned", "net", False),
        ("vectors+end-to-end", "vectors", "maps", True),
        ("picture+maps", "picture", "picture", False),
        ("net+maps", "net", "net", False),
    }
    curves = [path for path in of_training(maps.figures(), "epochs") if "/maps.svg" in path]
    home = "results/studies/small/training/by-patient/mine/tumour/epochs"
    assert curves == [f"{home}/picture/maps.svg", f"{home}/net/maps.svg"]


def test_without_regions_and_segmentation_there_is_no_chapter_of_maps(folder):
    made = contents.Contents(load(folder))
    assert (made.maps(), made.map_methods(), made.stagings("by-patient")) == ([], [], [])
    assert not [about for _, about in (*made.figures(), *made.tables()) if about["section"] in ("maps", "staging")]
