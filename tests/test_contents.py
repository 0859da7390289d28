"""What the report holds of trained networks: which figures and tables, and behind which rule."""

from __future__ import annotations

from types import SimpleNamespace

from learning_factory import phase, recipe, start

from histotransfer import contents
from histotransfer.definitions import Method
from histotransfer.recipes import TrainedNetwork

VARIED = {"flip": "both"}


def contents_of(*trained, kind="patches", pixels="cache", classes=("a", "b"), seeds=(7, 8)):
    """Return the contents of a study of one dataset, task and split."""
    task = {"classes": list(classes), "labels": {}, "leave_out": []}
    dataset = SimpleNamespace(name="nuclei", kind=kind, tasks={"type": task}, parts=[])
    study = SimpleNamespace(
        name="s",
        datasets={"nuclei": dataset},
        methods=(Method("fine+softmax", "fine", "softmax"),),
        feature_sets={"fine": SimpleNamespace(name="fine", layers=None, merged=False, selection=None)},
        classifiers={"softmax": {"kind": "softmax"}},
        **{"comparisons": {}, "strategies": {}, "splits": {"by-image": {}}, "seeds": seeds, "master_seed": 1},
        pixels=pixels,
        trained={one.name: one for one in trained},
    )
    return contents.Contents(study)


def network(name, start_of=None, **changes):
    return TrainedNetwork(name, "mobilenetv2", start_of or start(), recipe(**changes))


def of_training(entries, kind):
    return [path for path, about in entries if (about["section"], about.get("kind")) == ("training", kind)]


def test_each_network_has_its_curves_and_what_it_looks_at_with_the_first_seed():
    made = contents_of(network("fine"), network("scratch", start(weights="random")), network("alex", start("AlexNet")))
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
