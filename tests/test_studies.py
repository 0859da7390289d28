"""The studies of the papers: their files load and plan, hold the papers' own values, and run whole at a small scale."""

from __future__ import annotations

import copy
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import scans_factory
import slide_factory
import study_factory
import yaml
from PIL import Image
from snakemake.utils import update_config

from histotransfer import store
from histotransfer.definitions import Adam, Canvas, Initialisation, Inverse, Sgd
from histotransfer.feature_kinds import Layers, Source
from histotransfer.study import configuration

STUDIES = study_factory.REPOSITORY / "studies"
SCHEMA = study_factory.REPOSITORY / "rules/schemas/config.schema.yaml"


def paper(name):
    """Return a study's file as it is."""
    return yaml.safe_load((STUDIES / f"{name}.yaml").read_text("utf-8"))


def merged(name, **changes):
    """Return the config as Snakemake merges it, with `changes` as a user's second file."""
    config = yaml.safe_load((study_factory.REPOSITORY / "config.yaml").read_text("utf-8"))
    for overlay in (paper(name), changes):
        update_config(config, copy.deepcopy(overlay))
    return config


def write_table(path, header, rows, separator="\t"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(row) + "\n" for row in (header, *rows)), "utf-8")


def put_data(folder, name):
    """Put what a study's file asks for where it says: sheets of two rows, and empty files of weights."""
    if name == "kieffer2017":
        rows = [("a", "a.png", "s0", "s0", "train"), ("b", "b.png", "s0", "s0", "test")]
        write_table(folder / "data/kimia-path24/sheet.tsv", ("tile", "path", "slide", "label", "split"), rows)
    elif name == "bayramoglu2016":
        rows = [("img1", "img1/img1.bmp", "3", "4", "epithelial"), ("img2", "img2/img2.bmp", "3", "4", "others")]
        write_table(folder / "data/crchistophenotypes/sheet.tsv", ("image", "path", "x", "y", "label"), rows)
        (folder / "data/weights").mkdir(parents=True)
        for stem in ("alexnet-torchvision", "googlenet-torchvision"):
            (folder / f"data/weights/{stem}.weights.h5").touch()
    elif name == "takahama2019":
        rows = [(image, f"{image}.svs", patient, f"{image}.xml") for image, patient in (("a", "p1"), ("b", "p2"))]
        write_table(folder / "data/stomach/slides.tsv", ("image", "path", "patient", "annotation"), rows)
        for *_, annotation in rows:
            (folder / "data/stomach" / annotation).touch()
        (folder / "data/weights").mkdir(parents=True)
        (folder / "data/weights/googlenet-torchvision.weights.h5").touch()
    elif name == "joyce2024":
        rows = [("0", "a.jpg", "\"['Bone', 'Renal']\"", "v1"), ("1", "b.jpg", "['Bone']", "v2")]
        header = ("", "image_path", "pathology", "video_id")
        write_table(folder / "data/quilt-1m/quilt_1M_lookup.csv", header, rows, ",")


def load(name, folder, **changes):
    put_data(folder, name)
    return configuration.load(merged(name, **changes), SCHEMA, folder=folder)


NAMES = ("bayramoglu2016", "joyce2024", "kieffer2017", "takahama2019")


# ---- what the papers say


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    return {name: load(name, tmp_path_factory.mktemp(name)) for name in NAMES}


SGD = Sgd(momentum=0.9, nesterov=False)
ADAM = Adam(beta_1=0.9, beta_2=0.999, epsilon=1e-7)
#: Rate, base x (1 + 0.001 x iteration)^-0.75; the minus is a choice (section 3).
INV = Inverse(gamma=0.001, power=0.75)
HEAD = ("features", "head")
#: Of each trained network, typed from the papers: start, batch, dense layers of the head, and of each phase what it
#: takes and trains, its epochs, rate and optimiser.
TRAINED = {
    "kieffer2017": {
        "vgg16-tuned": ("VGG16", "imagenet", 32, (256,), [HEAD, ("tiles", 1, 200, 1e-4, SGD)]),
        "inceptionv3-tuned": ("InceptionV3", "imagenet", 32, (1024,), [HEAD, ("tiles", 2, 200, 1e-4, SGD)]),
        "cnn": ("KiefferCNN", "random", 32, (), [("tiles", "all")]),
    },
    "bayramoglu2016": {
        "alexnet-transfer": ("AlexNet-torchvision", "file", 100, (), [("tiles", "all", 10, 1e-3, SGD)]),
        "alexnet-full": ("AlexNet-torchvision", "random", 100, (), [("tiles", "all", 10, 1e-3, SGD)]),
        "gendernet-full": ("GenderNet", "random", 100, (), [("tiles", "all", 10, 1e-3, SGD)]),
        "googlenet-transfer": ("GoogLeNet-torchvision", "file", 50, (), [("tiles", "all", 10, 1e-3, SGD)]),
        "googlenet-full": ("GoogLeNet-torchvision", "random", 50, (), [("tiles", "all", 10, 1e-3, SGD)]),
        "vgg16-transfer": ("VGG16", "imagenet", 50, (), [("tiles", "all", 10, 1e-3, SGD)]),
        "vgg16-full": ("VGG16", "random", 50, (), [("tiles", "all", 10, 1e-3, SGD)]),
    },
    "takahama2019": {
        "extractor": ("GoogLeNet-torchvision", "file", 128, (16,), [("tiles", "all", 30, 1e-4, ADAM)]),
    },
    "joyce2024": {
        "transfer": ("ResNet50", "imagenet", 32, (512,), [HEAD]),
        "cnn": ("JoyceCNN", "random", 32, (), [("tiles", "all")]),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_recipes_hold_the_papers_values(studies, name):
    found = {}
    for network, one in studies[name].trained.items():
        weights = one.start.weights
        phases = [
            (phase.on, phase.train, phase.epochs, phase.rate, phase.optimiser)[: len(expected)]
            for phase, expected in zip(one.recipe.phases, TRAINED[name][network][-1], strict=True)
        ]
        start = weights if weights in ("imagenet", "random") else "file"
        found[network] = (one.start.architecture.name, start, one.recipe.batch, one.recipe.head.dense, phases)
    assert found == TRAINED[name]


def test_kieffer_trains_on_a_hundred_grey_patches_of_each_slide(studies):
    study = studies["kieffer2017"]
    dataset, split = study.datasets["kimia-path24"], study.splits["as-given"]
    assert (dataset.grayscale, len(dataset.tasks["scan"].classes)) == (True, 24)
    assert (split.unit, split.groups, split.train_tiles_per_class) == ("given", "image", 100)
    assert "by design" in split.share_groups
    # values of [0, 1], patches of 224 px for every network
    assert {(one.rescale, one.px) for one in study.networks.values()} == {("unit", 224)}
    assert {(one.start.rescale, one.start.px) for one in study.trained.values()} == {("unit", 224)}
    assert study.classifiers["svm"].kind == "libsvm"
    assert study.feature_sets["vgg16-fc2"].definition == Layers((Source("vgg16", "fc2"),))
    assert study.networks["inceptionv3"].layer == "mixed10"
    assert all(one.recipe.keep == "last" for one in study.trained.values())


def test_bayramoglu_copies_all_but_the_output_layer_and_teaches_it_faster(studies):
    study = studies["bayramoglu2016"]
    dataset = study.datasets["crchistophenotypes"]
    assert (dataset.kind, dataset.crop.px) == ("points", 32)
    assert dataset.tasks["cell-type"].classes == ("epithelial", "fibroblast", "inflammatory")
    assert dataset.tasks["cell-type"].leave_out == ("others",)
    for name, one in study.trained.items():
        (phase,) = one.recipe.phases
        assert phase.schedule == INV, name
        assert phase.rates == ({"head": 10} if name.endswith("transfer") else {}), name
        assert one.px == 256, name
        assert one.recipe.augmentation is None, name
        assert one.start.rescale == "training_mean", name
        assert one.recipe.keep == "last", name
        assert "test" in one.recipe.curve.sets, name
        gaussian = name in ("alexnet-full", "gendernet-full")
        if name.endswith("full"):
            expected = Initialisation("gaussian", 0.01) if gaussian else Initialisation("xavier", None)
            assert one.recipe.initialisation == expected, name
        googlenet = name.startswith("googlenet")
        assert one.recipe.head.dropout == (0.4 if googlenet else 0.5), name
        assert not googlenet or one.recipe.auxiliary == 0.3, name
    layers = {one.start.architecture.name: one.start.layer for one in study.trained.values()}
    assert layers == {
        **{"AlexNet-torchvision": "fc7", "GenderNet": "fc7", "GoogLeNet-torchvision": "inception_5b"},
        "VGG16": "fc2",
    }
    # 3,401 of 20,405 nuclei
    assert round(20_405 * study.splits["at-random"].test) == 3401
    assert study.splits["at-random"].unit == "tile"
    assert "at random" in study.splits["at-random"].share_groups
    assert study.splits["by-image"].unit == "image"


def test_joyce_trains_a_head_of_512_and_a_network_of_three_convolutions(studies):
    study = studies["joyce2024"]
    dataset = study.datasets["quilt-1m"]
    assert dataset.sheet == "results/quilt-1m/sheet.tsv"
    assert dataset.table.columns == {"path": "image_path", "label": "pathology", "slide": "video_id"}
    assert (dataset.table.several_labels, dataset.table.missing_files) == ("drop", "exclude")
    transfer, cnn = study.trained["transfer"], study.trained["cnn"]
    assert (transfer.head_only, transfer.recipe.head.pool) == (True, "average")
    assert (cnn.start.layer, cnn.recipe.head.dropout, cnn.start.px) == ("fc1", 0.5, 224)
    for one in (transfer, cnn):
        (phase,) = one.recipe.phases
        assert phase.optimiser.kind == "adam"
        assert (one.recipe.early_stopping, one.recipe.keep, one.recipe.monitor) == (3, "best", "loss")
    # early stopping sees the validation set, and a test set stands beside it
    split = study.splits["by-video"]
    assert (split.unit, split.validation > 0, split.test > 0) == ("slide", True, True)


def test_takahama_sees_tiles_in_their_slide(studies):
    study = studies["takahama2019"]
    assert study.datasets["stomach"].canvas == Canvas(size=32, per="piece")
    lymph_nodes = {name: study.config["datasets"][name] for name in ("camelyon16", "camelyon17")}
    assert {one["canvas"]["size"] for one in lymph_nodes.values()} == {512}
    tiling = study.datasets["stomach"].tiling
    assert (tiling.size_px, tiling.tissue_min) == (256, 0.8)
    # section 4.1: "tumor" if over 20 % is tumour, "normal" if over 80 % is normal, else no label
    for task in ("tumour", "metastases"):
        rules = [(rule["class"], rule["above"]) for rule in study.config["tasks"][task]["regions"]["rules"]]
        assert rules == [("tumour", 0.2), ("normal", 0.8)]
    extractor = study.trained["extractor"].recipe
    assert (extractor.crop_from, study.trained["extractor"].start.px) == (256, 224)
    varied = extractor.augmentation
    assert {colour[0] for colour in (varied.saturation, varied.contrast, varied.brightness, varied.sharpness)} == {0.75}
    assert (varied.quarter_turns, varied.flip) == (True, "horizontal")
    assert study.feature_sets["vectors"].definition == Layers((Source("extractor", "head_1"),))
    # "we reduce the input tissue image to 1024 x 1024": 32 tiles of 32 px
    assert study.feature_sets["tissue-image"].definition.image.cell_px * 32 == 1024
    unet, both = study.classifiers["unet"].recipe, study.classifiers["end-to-end"].recipe
    assert (unet.batch, unet.phases[0].epochs, unet.phases[0].rate) == (32, 50, 1e-4)
    [phase] = both.phases
    assert (both.batch, phase.epochs, phase.rate) == (128, 10, 1e-7)
    assert phase.rate * phase.rates["extractor"] == pytest.approx(1e-9)
    assert both.augmentation == extractor.augmentation
    assert study.seeds == (1, 2, 3)
    assert (study.staging.folds, study.staging.nodes) == (5, 5)


def test_a_table_without_videos_is_split_by_image(tmp_path):
    study = load("joyce2024", tmp_path, datasets={"quilt-1m": {"columns": {"slide": None}}})
    assert study.datasets["quilt-1m"].table.columns == {"path": "image_path", "label": "pathology"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"columns": {"slide": "video"}},
            "row 1, column video: the column for 'slide' is missing (did you mean 'video_id'?); "
            "found image_path, pathology, video_id",
        ),
        (
            {"columns": {"label": None}},
            "row 1: `columns` must say which column of the table holds 'label', since the study needs it; "
            "found image_path, pathology, video_id",
        ),
        ({"columns": {"video": "video_id"}}, "datasets.quilt-1m.columns.video: unknown key; legal are image, label, "),
        ({"several_labels": "last"}, "datasets.quilt-1m.several_labels: must be one of drop, first, error, nothing"),
        ({"separator": "tab"}, "row 1: cells must be separated by tabs (`separator`); found commas: "),
        (
            {"sheet": "data/none.csv"},
            "data/none.csv:\n  sheet: must be a table with cells separated by commas, in UTF-8; ",
        ),
    ],
)
def test_a_table_that_does_not_fit_the_config_stops_before_any_job(tmp_path, changes, expected):
    with pytest.raises(configuration.ConfigurationError) as raised:
        load("joyce2024", tmp_path, datasets={"quilt-1m": changes})
    assert expected in str(raised.value)


def test_the_cell_without_public_weights_runs_with_a_file_of_the_users(tmp_path):
    text = (STUDIES / "bayramoglu2016.yaml").read_text("utf-8")
    whole, n = re.subn(r"^( *)# (- gendernet-transfer|gendernet(?:-transfer)?: \{)", r"\1\2", text, flags=re.MULTILINE)
    assert n == 3
    put_data(tmp_path, "bayramoglu2016")
    config = yaml.safe_load((study_factory.REPOSITORY / "config.yaml").read_text("utf-8"))
    update_config(config, yaml.safe_load(whole))
    with pytest.raises(configuration.ConfigurationError, match=r"networks\.gendernet\.weights: .*no such file"):
        configuration.load(config, SCHEMA, folder=tmp_path)
    (tmp_path / "data/weights/gendernet.h5").touch()
    found = configuration.load(config, SCHEMA, folder=tmp_path).trained["gendernet-transfer"]
    assert found.start.weights == "data/weights/gendernet.h5"
    config["networks"]["gendernet"]["weights"] = "imagenet"
    with pytest.raises(configuration.ConfigurationError, match="GenderNet has no public ImageNet source"):
        configuration.load(config, SCHEMA, folder=tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_every_choice_is_marked_and_says_which_data_go_where(name):
    text = (STUDIES / f"{name}.yaml").read_text("utf-8")
    assert text.count("CHOICE") >= 5
    assert "# Your data: " in text
    for dataset in paper(name)["datasets"].values():
        assert Path(dataset["sheet"]).parts[0] == "data"
        readme = (study_factory.REPOSITORY / "data/README.md").read_text("utf-8")
        assert f"\n| `{Path(dataset['sheet']).parts[1]}/" in readme


# ---- plans


@pytest.mark.workflow
@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_planned_from_its_file(tmp_path, workflow, name):
    study = study_factory.Study(tmp_path, workflow, config=paper(name))
    put_data(tmp_path, name)
    planned = study.plan().planned
    on_features = {"kieffer2017": 2, "joyce2024": 1}.get(name, 0)
    runs = len(paper(name)["study"]["splits"]) * len(paper(name)["study"]["seeds"])
    assert planned.get("train_head", 0) == on_features
    assert planned["train_network"] == runs * len(TRAINED[name]) - (1 if name == "joyce2024" else 0)
    assert planned.get("attach_head", 0) == (1 if name == "joyce2024" else 0)
    assert planned["score"] == runs * len(paper(name)["study"]["methods"])
    segmented = {"takahama2019": (3, 1)}.get(name, (0, 0))
    assert (planned.get("train_unet", 0), planned.get("train_end_to_end", 0)) == (
        runs * segmented[0],
        runs * segmented[1],
    )
    assert planned.get("filter_table", 0) == (1 if name == "joyce2024" else 0)


# ---- the sheet of the nuclei


def test_the_sheet_of_crchistophenotypes(tmp_path, capsys):
    from scipy.io import savemat

    spec = importlib.util.spec_from_file_location("sheet", STUDIES / "crchistophenotypes_sheet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for number, marked in {10: [[1, 500]], 2: [[7.5, 3], [0.4, 2]]}.items():
        folder = tmp_path / f"img{number}"
        folder.mkdir()
        Image.new("RGB", (500, 500)).save(folder / f"img{number}.bmp")
        for kind in module.TYPES:
            found = np.array(marked if kind == "fibroblast" else [], float)
            savemat(folder / f"img{number}_{kind}.mat", {"detection": found})
    module.write_sheet(str(tmp_path))
    assert store.read_table(tmp_path / "sheet.tsv") == [
        {"image": "img2", "path": "img2/img2.bmp", "x": "6.5", "y": "2", "label": "fibroblast"},
        {"image": "img2", "path": "img2/img2.bmp", "x": "0", "y": "1", "label": "fibroblast"},
        {"image": "img10", "path": "img10/img10.bmp", "x": "0", "y": "499", "label": "fibroblast"},
    ]
    assert capsys.readouterr().out == f"3 nuclei of 2 images in {tmp_path / 'sheet.tsv'}\n"
    with pytest.raises(SystemExit, match=r"must contain img1/img1\.bmp, img2/img2\.bmp, \.\.\.; found no such file"):
        module.write_sheet(str(tmp_path / "img2"))


# ---- whole runs, scaled down


def scaled_down(name, folder, workflow, *, px, **changes):
    """Return a paper's study with its own cells and recipes: untrained networks, small tiles, one epoch a phase."""
    study = study_factory.Study(folder, workflow, config=paper(name))
    recipes = merged(name)["recipes"]
    for network in study.config["networks"].values():
        if "start" not in network:
            least = {"InceptionV3": 75, "AlexNet-torchvision": 63, "GenderNet": 35}
            network |= {"weights": "random", "px": max(px, least.get(network["architecture"], 0))}
    sizes = {key: one.get("px") for key, one in study.config["networks"].items()}
    study.config["recipes"] = {
        one["recipe"]: {
            **recipes[one["recipe"]],
            **({"crop_from": 80} if recipes[one["recipe"]].get("crop_from") else {}),
            "batch": 8,
            "phases": [{**phase, "epochs": 1} for phase in recipes[one["recipe"]]["phases"]],
        }
        for one in study.config["networks"].values()
        if "start" in one
    }
    assert max(size for size in sizes.values() if size) < 80
    update_config(study.config, {"n_shards": 1, "evaluation": {"bootstrap": 20}, **changes})
    return study


def methods_with_scores(study, metric):
    rows = study.table(f"studies/{study.config['study']['name']}/scores.tsv")
    return {
        (row["split"], f"{row['features']}+{row['classifier']}") for row in rows if row["metric"] == metric
    }  # fmt: skip


def every_method(study):
    config = study.config["study"]
    return {(split, method) for split in config["splits"] for method in config["methods"]}


def epochs(study, *folders):
    return [int(row["epoch"]) for row in study.table("/".join((*folders, "softmax/history.tsv")))]


@pytest.mark.workflow
def test_the_study_of_joyce_2024_runs_whole_on_small_data(tmp_path, workflow):
    """From a CSV of image-text pairs to the report."""
    study = scaled_down("joyce2024", tmp_path / "study", workflow, px=32)
    study.config["tasks"]["pathology"]["classes"] = ["Breast pathology", "Renal"]
    images = study.folder / "data/quilt-1m/images"
    rows = slide_factory.write_patches(
        images, images.parent / "rows.tsv", classes=("Breast pathology", "Renal"), patients=8, images=1, tiles=4
    )
    pairs = [
        # two texts an image, with a line break and quotes in one
        (f'"a text\nof ""two"" lines, {n}"', f"{row['tile']}.png", f"\"['{row['label']}']\"", row["patient"])
        for row in rows
        for n in range(2)
    ]
    pairs += [("x", f"gone-{n}.png", "['Renal']", "v") for n in range(5)]
    several = slide_factory.write_patches(images / "several", images / "several.tsv", patients=1, images=1, tiles=3)
    pairs += [("x", f"several/{row['tile']}.png", "\"['Renal', 'Bone']\"", "v") for row in several]
    header = ("caption", "image_path", "pathology", "video_id")
    write_table(images.parent / "quilt_1M_lookup.csv", header, pairs, ",")

    study.run(timeout=600)
    assert methods_with_scores(study, "accuracy") == every_method(study)
    assert methods_with_scores(study, "log_loss") == every_method(study)
    table = study.table("quilt-1m/slides.tsv")
    assert [(row["status"], row["stands_for"]) for row in table if row["status"] != "ok"] == [
        ("several labels", "3"),
        ("missing", "5"),
    ]
    assert len(table) == len(rows) + 2
    page = (study.results / "studies/joyce2024/report.html").read_text("utf-8")
    assert "5 of 72 rows of data/quilt-1m/quilt_1M_lookup.csv" in page
    home = "quilt-1m/models/pathology/by-video/1"
    for network in ("cnn", "transfer"):
        assert (study.results / home / network / "softmax/model.keras").exists()
        assert epochs(study, home, network) == [1]


@pytest.mark.full
@pytest.mark.workflow
def test_the_study_of_kieffer_2017_runs_whole_on_small_data(tmp_path, workflow):
    classes = ["s0", "s1", "s2"]
    study = scaled_down(
        "kieffer2017", tmp_path / "study", workflow, px=32,
        classifiers={"svm": {"C": [0.01, 1]}}, splits={"as-given": {"folds": 2, "train_tiles_per_class": 5}},
    )  # fmt: skip
    study.config["tasks"]["scan"]["classes"] = classes
    sheet = study.folder / "data/kimia-path24/sheet.tsv"
    rows = slide_factory.write_patches(
        sheet.parent / "png", sheet, classes=classes, patients=3, images=1, tiles=9, px=40, mixed=False
    )
    given = [
        (row["tile"], row["path"], row["label"], row["label"], "test" if place % 9 > 6 else "train")
        for place, row in enumerate(rows)
    ]
    write_table(sheet, ("tile", "path", "slide", "label", "split"), given)

    study.run(timeout=1500)
    assert methods_with_scores(study, "eta_total") == every_method(study)
    home = "kimia-path24/models/scan/as-given/1"
    assert epochs(study, home, "cnn") == [1]
    # the head on bottleneck features, then with the last blocks
    assert epochs(study, home, "vgg16-tuned") == epochs(study, home, "inceptionv3-tuned") == [1, 2]
    history = study.table(f"{home}/inceptionv3-tuned/softmax/history.tsv")
    assert [(row["on"], row["train"]) for row in history] == [("features", "head"), ("tiles", "2")]
    page = (study.results / "studies/kieffer2017/report.html").read_text("utf-8")
    assert "each of the 24 slides of Kimia Path24 is one class" in page


@pytest.mark.full
@pytest.mark.workflow
def test_the_study_of_bayramoglu_2016_runs_whole_on_small_data(tmp_path, workflow):
    study = scaled_down("bayramoglu2016", tmp_path / "study", workflow, px=32)
    folder = study.folder / "data/crchistophenotypes"
    classes = ("epithelial", "fibroblast", "inflammatory", "others")
    slide_factory.write_points(folder / "png", folder / "sheet.tsv", classes=classes, patients=6, points=12)

    study.run(timeout=3000)
    assert methods_with_scores(study, "accuracy") == every_method(study)
    home = "crchistophenotypes/models/cell-type"
    for network in study.config["networks"]:
        if network.endswith(("-full", "-transfer")):
            curve = study.table(f"{home}/at-random/1/{network}/softmax/curve.tsv")
            assert {row["set"] for row in curve} == {"test"}, network
            assert curve[0]["step"] == "0", network
            assert len(curve) >= 4, network
    page = (study.results / "studies/bayramoglu2016/report.html").read_text("utf-8")
    assert "nuclei are divided at random as in Bayramoglu and Heikkila 2016" in page


@pytest.mark.full
@pytest.mark.workflow
def test_the_study_of_takahama_2019_runs_whole_on_small_data(tmp_path, workflow):
    """The five methods, on maps of pieces of tissue, with the paper's canvas; GoogLeNet at its smallest."""
    study = scaled_down(
        "takahama2019", tmp_path / "study", workflow, px=32,
        tilings={"takahama2019": {"size_px": 40, "mpp": 0.5, "tissue_min": 0.5}},
    )  # fmt: skip
    recipes = merged("takahama2019")["recipes"]
    for name in ("unet", "unet-image", "end-to-end"):
        recipe = recipes[f"takahama2019-{name}"]
        study.config["recipes"][f"takahama2019-{name}"] = {
            **recipe,
            "batch": 8,
            "crop_from": 80 if recipe.get("crop_from") else None,
            "phases": [{**phase, "epochs": 1} for phase in recipe["phases"]],
        }
    for name in ("unet", "unet-image"):
        study.config["classifiers"][name]["filters"] = 2
    study.config["feature_sets"]["tissue-image"]["cell_px"] = 4
    study.config["study"] |= {"splits": ["as-given"], "seeds": [1, 2]}
    study.config["tilings"]["takahama2019"]["upsample"] = True
    sheet = study.folder / "data/stomach/slides.tsv"
    scans_factory.write_scans(sheet.parent / "scans", sheet)
    study.config["tasks"]["tumour"]["regions"] |= {
        "names": {"tumour": ["Tumour", "1"]},
        "outside": "normal",
        "without": "normal",
    }
    study.config["staging"] |= {"nodes": 1, "folds": 2}
    study.run(timeout=1800)
    assert methods_with_scores(study, "pr_auc") == every_method(study)
    rows = store.read_csv(study.results / "studies/takahama2019/maps/as-given/methods.csv")
    assert [row["method"] for row in rows] == study.config["study"]["methods"]
    assert {row["seeds"] for row in rows} == {"2"}
