"""The config: what a study becomes, and every way in which a config can be wrong, with the words that a person gets."""

import copy
import re
import subprocess
import sys

import pytest
import yaml
from config_factory import SCHEMA, SLIDES, load, refused
from jsonschema import Draft202012Validator
from repository import ROOT as REPOSITORY

from histotransfer.definitions import Canvas, Crop, LinearSvm, Split, Task
from histotransfer.networks import specification
from histotransfer.plain_data import plain
from histotransfer.settings import Evaluation, Extraction
from histotransfer.sheets.ids import bucket
from histotransfer.sheets.reading import SheetCheck
from histotransfer.study import configuration

# ---- the schema


def every_schema(node, path=""):
    """Give each schema for a value, with its path."""
    yield path, node
    for key in ("properties", "$defs"):
        for name, inner in node.get(key, {}).items():
            yield from every_schema(inner, f"{path}/{key}/{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from every_schema(node[key], f"{path}/{key}")


def test_the_schema_is_one_and_refuses_every_unknown_key():
    schema = yaml.safe_load(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    for path, node in every_schema(schema):
        if node.get("type") == "object" and "allOf" not in node:
            assert "additionalProperties" in node, path
            assert node["additionalProperties"] is not True, path


def test_every_key_of_the_schema_says_what_it_means_and_defaults_are_legal():
    schema = yaml.safe_load(SCHEMA.read_text())
    for path, node in every_schema(schema):
        target = schema["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
        if re.search("/properties/[^/]+$|/items$", path):
            assert node.get("description") or target.get("description"), path
        if "default" in target:
            resolver = {**target, "$defs": schema["$defs"]}
            assert list(Draft202012Validator(resolver).iter_errors(target["default"])) == [], path


# ---- what becomes of a good config


def test_the_default_study_loads():
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    before = copy.deepcopy(config)
    study = configuration.load(config, SCHEMA, folder=REPOSITORY)
    assert config == before, "what Snakemake holds is not changed"
    assert study.name == "demo"
    assert study.methods[0] == configuration.Method("mobilenetv2+svm", "mobilenetv2", "svm")
    demo = study.datasets["demo"]
    assert len(demo.rows) == 16
    assert demo.rows["p16-a"].path == "results/drawn/p16-a.tif"
    assert all(row.exists for row in demo.rows.values()), "they are drawn"
    assert sorted(slide for shard in demo.shards.values() for slide in shard) == sorted(demo.parts)
    assert study.px_of("demo") == [224]
    assert {network.weights for network in study.networks.values()} == {"random"}


#: What may be loaded while jobs are planned, besides Python's own modules: the config is read and checked.
PLANNING = {"attr", "attrs", "histotransfer", "idna", "jsonschema", "jsonschema_specifications", "referencing", "rpds"}
PLANNING |= {"typing_extensions", "yaml"}


def loaded_by(code):
    """Return the packages outside Python's own library that a piece of code loads."""
    printed = (
        "import sys; before = set(sys.modules)\n"
        f"{code}\n"
        "packages = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(name for name in packages - sys.stdlib_module_names if 'cython' not in name))"
    )
    env = {"PYTHONPATH": str(REPOSITORY / "workflow_scripts")}
    run = subprocess.run([sys.executable, "-c", printed], cwd=REPOSITORY, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_loading_imports_nothing_heavy():
    code = (
        "import yaml; from histotransfer.study import configuration\n"
        f"configuration.load(yaml.safe_load(open('config.yaml')), {str(SCHEMA)!r})"
    )
    assert loaded_by(code) <= PLANNING


def test_what_the_rules_import_is_not_heavy_either():
    files = [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "rules").glob("*.smk"))]
    imports = [line for file in files for line in re.findall("^from histotransfer.*$", file.read_text(), re.MULTILINE)]
    modules = ("provenance", "study import configuration", "report import contents", "planning import")
    assert all(any(module in line for line in imports) for module in modules), imports
    # Snakemake loads NumPy itself
    assert loaded_by("\n".join(imports)) <= PLANNING | {"numpy"}


def test_defaults_are_filled_in_at_every_depth(folder):
    study = load(folder)
    assert (study.gpus, study.n_shards, study.master_seed, study.seeds) == (0, 2, 7, (1, 2))
    assert (study.on_bad_slide, study.missing_mpp, study.pixels) == ("exclude", "fail", "cache")
    assert study.evaluation == Evaluation(bootstrap=1000)
    assert study.extraction == Extraction(engine="keras", precision="float32", batch=32)
    assert study.splits["by-patient"] == Split(
        unit="patient",
        test=0.25,
        validation=0,
        folds=2,
        groups=None,
        share_groups="",
        stratify="label",
        train_tiles=None,
        train_tiles_per_class=None,
    )
    assert study.classifiers == {"svm": LinearSvm(kind="libsvm", C=(0.01, 1), tuning_metric="accuracy")}
    assert study.config["networks"]["net"]["rescale"] == "network"


def test_a_dataset_of_slides(folder):
    mine = load(folder).datasets["mine"]
    assert (mine.kind, mine.sheet, mine.root, mine.drawn, mine.crop) == ("slides", "in/slides.tsv", "in", False, None)
    assert mine.tiling.size_um == 112
    assert mine.tiling.size_px is None
    assert (mine.tiling.overlap, mine.tiling.homogeneity, mine.tiling.level) == (0, "none", "auto")
    assert mine.tasks == {
        "tumour": Task(
            classes=("normal", "tumour"),
            labels={"normal": "normal", "tumour": "tumour"},
            leave_out=(),
            regions=None,
        )
    }
    assert mine.canvas == Canvas(size="fit", per="slide")
    assert mine.parts == [f"s{k}" for k in range(8)]
    assert (mine.rows["s0"].path, mine.rows["s0"].exists, mine.rows["s1"].exists) == ("in/s0.svs", True, False)
    assert mine.sheet_check == SheetCheck(labels=("normal", "tumour"), needs=("patient",), given=())
    for shard, slides in mine.shards.items():
        assert {bucket(slide, 2) for slide in slides} == {int(shard.removeprefix("shard-"))}


def test_shards_with_nothing_in_them_are_left_out_and_an_added_slide_moves_no_other(folder):
    few = load(folder, "n_shards: 40").datasets["mine"].shards
    assert all(few.values())
    (folder / "in" / "slides.tsv").write_text("\n".join([*SLIDES, "s8\ts8.svs\tp8\tnormal"]))
    more = load(folder, "n_shards: 40").datasets["mine"].shards
    assert {slide: shard for shard, slides in few.items() for slide in slides}.items() < {
        slide: shard for shard, slides in more.items() for slide in slides
    }.items()


def test_a_dataset_of_points_is_known_by_its_header_alone(folder):
    cells = load(folder, "study: {datasets: [cells]}").datasets["cells"]
    assert (cells.kind, cells.root, cells.tiling, cells.rows) == ("points", "pictures", None, {})
    assert cells.crop == Crop(px=32, border="exclude")
    assert (cells.grayscale, cells.mpp) == (False, None)
    assert cells.parts == ["part-00", "part-01"]
    assert cells.shards == {"shard-0": ["part-00"], "shard-1": ["part-01"]}
    assert cells.tasks["cell"] == Task(
        classes=("epithelial", "other"),
        labels={"e": "epithelial", "f": "other", "i": "other"},
        leave_out=("misc",),
        regions=None,
    )
    assert cells.sheet_check.labels == ("e", "f", "i", "misc")


def test_only_what_the_methods_use_is_handed_on_with_the_layers_that_they_need(folder):
    study = load(
        folder,
        """
        study: {methods: [net+svm, inner+svm, last+svm, wide+svm]}
        networks:
          net: {layers: [block4]}
          wide: {architecture: MobileNetV2, weights: random, px: 96}
          idle: {architecture: ResNet50, weights: /nowhere/idle.h5}
        feature_sets:
          inner: {network: net, layer: block2}
          last: {network: net, layer: block5}
        """,
    )
    assert plain(study.networks) == {
        "net": {
            "architecture": "VGG16",
            "alpha": None,
            "weights": "random",
            "px": 224,
            "rescale": "network",
            "layer": "block5",
            "layers": ["block2", "block4"],
        },
        "wide": {
            "architecture": "MobileNetV2",
            "alpha": 1.0,
            "weights": "random",
            "px": 96,
            "rescale": "network",
            "layer": "out",
            "layers": [],
        },
    }
    assert {name: plain(feature_set.definition) for name, feature_set in study.feature_sets.items()} == {
        "net": {"sources": [{"network": "net", "layer": None}]},
        "inner": {"sources": [{"network": "net", "layer": "block2"}]},
        "last": {"sources": [{"network": "net", "layer": None}]},
        "wide": {"sources": [{"network": "wide", "layer": None}]},
    }
    assert study.px_of("mine") == [96, 224]
    for network in study.networks.values():
        assert specification.problems(plain(network)) == []
    with pytest.raises(ValueError, match="datasets of the study are mine; found 'cells'"):
        study.px_of("cells")


def test_all_layers_and_a_dense_one_that_a_feature_set_needs(folder):
    text = """
    study: {methods: [dense+svm]}
    networks: {net: {layers: all}}
    feature_sets: {dense: {network: net, layer: fc2}}
    """
    assert load(folder, text).networks["net"].layers == ("block1", "block2", "block3", "block4", "fc2")


def test_a_split_that_shares_groups_carries_its_reason(folder):
    split = "{unit: tile, test: 0.2, folds: 5, share_groups: as the paper has it}"
    study = load(folder, f"study: {{splits: [by-tile]}}\nsplits: {{by-tile: {split}}}")
    assert study.splits["by-tile"].share_groups == "as the paper has it"


# ---- what is refused: by the schema


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "study: {method: [net+svm]}",
            "study.method: unknown key; legal are comparisons, datasets, friedman, methods, name, seeds, splits, "
            "strategies (did you mean 'methods'?); found 'method'",
        ),
        (
            "datasets: {mine: {tilling: plain}}",
            "datasets.mine.tilling: unknown key; legal are canvas, drawn, kind, root, sheet, tasks, tiling "
            "(did you mean 'tiling'?); found 'tilling'",
        ),
        (
            "datasets: {mine: {crop: {px: 3}}}",
            "datasets.mine.crop: unknown key; legal are canvas, drawn, kind, root, sheet, tasks, tiling; found 'crop'",
        ),
        ("seed: x", "seed: must be a whole number; found 'x'"),
        (
            "seed: '3'",
            "seed: must be a whole number (this is text: YAML reads 1e-4 as text, so write 1.0e-4; inside brackets, "
            "--config gives text); found '3'",
        ),
        ("seed: -1", "seed: must be 0 or more; found -1"),
        ("gpus: true", "gpus: must be a whole number; found true"),
        ("gpus: 0.5", "gpus: must be a whole number; found 0.5"),
        ("evaluation:", "evaluation: must be a table of keys; found nothing"),
        ("pixels: Stream", "pixels: must be one of cache, stream (did you mean 'stream'?); found 'Stream'"),
        (
            "datasets: {mine: {drawn: 'true'}}",
            "datasets.mine.drawn: must be true or false (this is text: write it without quotes, in a file given by "
            "--configfile); found 'true'",
        ),
        (
            "classifiers: {svm: {C: [1e-4]}}",
            "classifiers.svm.C[0]: must be a number (this is text: YAML reads 1e-4 as text, so write 1.0e-4; inside "
            "brackets, --config gives text); found '1e-4'",
        ),
        ("classifiers: {svm: {C: 0.1}}", "classifiers.svm.C: must be a list, as in [1, 2]; found 0.1"),
        ("classifiers: {svm: {C: [0]}}", "classifiers.svm.C[0]: must be above 0; found 0"),
        ("classifiers: {svm: {C: [.inf]}}", "classifiers.svm.C[0]: must be a finite number; found inf"),
        (
            "classifiers: {svm: {kind: svc}}",
            "classifiers.svm.kind: must be one of libsvm, liblinear, extratrees, perceptron, "
            "leaf_frequencies, unet, end_to_end; found 'svc'",
        ),
        (
            "classifiers: {et: {kind: extratrees, max_features: [half]}}",
            "classifiers.et.max_features[0]: must be one of sqrt, log2, all; found 'half'",
        ),
        (
            "classifiers: {p: {kind: perceptron, learning_rate: [0.1]}}",
            "classifiers.p: the key 'iterations' is missing (Grid of the number of passes over the training tiles); "
            "found kind, learning_rate",
        ),
        ("study: {seeds: [1, 1]}", "study.seeds: entries must be unique; found [1, 1]"),
        ("study: {datasets: []}", "study.datasets: must have 1 or more entries; found []"),
        ("study: {methods: [net+svm, 3]}", "study.methods[1]: must be a text (put it in quotes); found 3"),
        ("tasks: {tumour: {classes: [tumour]}}", "tasks.tumour.classes: must have 2 or more entries; found ['tumour']"),
        (
            "tasks: {other: {classes: [a, yes]}}",
            "tasks.other.classes[1]: must be a text (put it in quotes); found true",
        ),
        ("tasks: {other: {classes: [a, a]}}", "tasks.other.classes: entries must be unique; found ['a', 'a']"),
        (
            "tasks: {other: {classes: [a, 'b ']}}",
            "tasks.other.classes[1]: must be a text as in the sheet, with no tab, no line break and no space at either "
            "end; found 'b '",
        ),
        (
            "tasks: {other: {classes: {1: [a], b: [b], c: [c]}}}",
            "tasks.other.classes: a key must be a text (put it in quotes); found 1",
        ),
        (
            "networks: {net+2: {architecture: VGG16, weights: random}}",
            "networks: a name must be lower-case letters, digits, '.', '_' and '-', the first a letter or a digit, "
            "at most 100 characters; found 'net+2'",
        ),
        (
            "study: {name: My study}",
            "study.name: must be lower-case letters, digits, '.', '_' and '-', the first a letter or a digit, at most "
            "100 characters; found 'My study'",
        ),
        ("networks: {net: {layers: some}}", "networks.net.layers: must be all; found 'some'"),
        ("splits: {by-patient: {test: 1.0}}", "splits.by-patient.test: must be below 1; found 1.0"),
        ("splits: {by-patient: {folds: 1}}", "splits.by-patient.folds: must be 2 or more; found 1"),
        (
            "splits: {by-patient: {share_groups: true}}",
            "splits.by-patient.share_groups: must be one of false, nothing; found true",
        ),
        (
            "splits: {t: {unit: tile, test: 0.2, folds: 2, share_groups: why}}",
            "splits.t.share_groups: must be a text of 10 or more characters; found 'why'",
        ),
    ],
)
def test_a_value_that_the_schema_refuses(folder, text, expected):
    assert refused(folder, text) == ["config:", f"  {expected}"]


def test_a_config_with_nothing_in_it_is_told_what_it_takes(folder):
    with pytest.raises(configuration.ConfigurationError) as raised:
        configuration.load({}, SCHEMA, folder=folder)
    lines = str(raised.value).splitlines()
    assert lines[0] == "7 problems in the config and the sample sheets; nothing was run"
    needed = ("study", "seed", "datasets", "tasks", "networks", "classifiers", "splits")
    assert [line.split("'")[1] for line in lines[2:]] == list(needed)
    assert all(line.endswith("; found no key") for line in lines[2:])


# ---- what is refused: by what else stands in the config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "study: {methods: [nett+svm]}",
            "study.methods[0]: must begin with a feature set or a network: net (did you mean 'net'?); found 'nett'",
        ),
        (
            "study: {methods: [net+forest]}",
            "study.methods[0]: must be one of `classifiers`: svm; found 'forest'",
        ),
        ("study: {methods: [net]}", "study.methods[0]: must be FEATURE_SET+CLASSIFIER; found 'net'"),
        ("study: {methods: [net+net+svm]}", "study.methods[0]: must be FEATURE_SET+CLASSIFIER; found 'net+net+svm'"),
        ("study: {datasets: [yours]}", "study.datasets[0]: must be one of `datasets`: mine, cells; found 'yours'"),
        ("study: {splits: [by-slide]}", "study.splits[0]: must be one of `splits`: by-patient; found 'by-slide'"),
        ("datasets: {mine: {tiling: fine}}", "datasets.mine.tiling: must be one of `tilings`: plain; found 'fine'"),
        (
            "datasets: {cells: {tasks: [cells]}}",
            "datasets.cells.tasks[0]: must be one of `tasks`: tumour, cell (did you mean 'cell'?); found 'cells'",
        ),
        (
            "datasets: {studies: {kind: patches, sheet: p.tsv}}",
            "datasets.studies: choose another name, since drawn, studies are other folders of results; found 'studies'",
        ),
        (
            "networks: {net: {architecture: VGG-16}}",
            "networks.net.architecture: legal are VGG16, VGG19, InceptionV3, ResNet50, InceptionResNetV2, DenseNet201, "
            "MobileNet, MobileNetV2, AlexNet, AlexNet-torchvision, GenderNet, GoogLeNet, GoogLeNet-torchvision, "
            "KiefferCNN, JoyceCNN (did you mean 'VGG16'?); found 'VGG-16'",
        ),
        ("networks: {net: {alpha: 0.5}}", "networks.net.alpha: VGG16 comes in one width, so legal is none; found 0.5"),
        ("networks: {net: {px: 31}}", "networks.net.px: legal for VGG16 are integers of at least 32; found 31"),
        (
            "networks: {net: {layers: [block6]}}",
            "networks.net.layers: legal for VGG16 are all or block1, block2, block3, block4, block5, fc1, fc2; "
            "found 'block6'",
        ),
        (
            "feature_sets: {inner: {network: net, layer: blok2}}",
            "feature_sets.inner.layer: legal for VGG16 are block1, block2, block3, block4, block5, fc1, fc2 "
            "(did you mean 'block2'?); found 'blok2'",
        ),
        (
            "{networks: {net: {px: 100, weights: imagenet}}, feature_sets: {dense: {network: net, layer: fc2}}}",
            "networks.net.px: fc2 of VGG16 takes 224 alone, unless weights are random; found 100",
        ),
        (
            "feature_sets: {net: {network: net}}",
            "feature_sets.net: a network is also a feature set under its own name: choose another name; found 'net'",
        ),
        (
            "feature_sets: {inner: {network: ned}}",
            "feature_sets.inner.network: must be one of `networks`: net (did you mean 'net'?); found 'ned'",
        ),
        (
            "networks: {net: {weights: w/vgg.h5}}",
            "networks.net.weights: must be imagenet, random, or the path of a file; found 'w/vgg.h5', no such file",
        ),
        (
            "networks: {net: {weights: ImageNet}}",
            "networks.net.weights: must be imagenet, random, or the path of a file (did you mean 'imagenet'?); "
            "found 'ImageNet', no such file",
        ),
        (
            "networks: {net: {weights: w/vgg.PKL}}",
            "networks.net.weights: must be imagenet, random, or a file of Keras weights (.h5 or .keras); a pickle is "
            "never read; found 'w/vgg.PKL'",
        ),
        ("tilings: {plain: {mpp: 0.5}}", "tilings.plain: give size_um, or size_px and mpp; found size_um, mpp"),
        (
            "tilings: {plain: {size_um: null, size_px: 256}}",
            "tilings.plain: give size_um, or size_px and mpp; found size_px",
        ),
        (
            "tilings: {plain: {tissue_min: null}}",
            "tilings.plain: give tissue_min (least share of tissue, 0 to 1; 0 keeps background too) or homogeneity; "
            "found neither",
        ),
        (
            "tilings: {plain: {homogeneity: bright}}",
            "tilings.plain: homogeneity needs homogeneity_drop_at, 0 to 1; found nothing",
        ),
        (
            "tasks: {cell: {classes: {again: [e]}}}",
            "tasks.cell.classes.again: a label must belong to one class, and 'e' also belongs to 'epithelial'; "
            "found 'e'",
        ),
        (
            "tasks: {cell: {leave_out: [f]}}",
            "tasks.cell.leave_out: must not be a label of a class, and 'f' belongs to 'other'; found 'f'",
        ),
        (
            "splits: {t: {unit: tile, test: 0.2, folds: 2}}",
            "splits.t: the unit tile puts tiles of one slide into training and test: give the reason in "
            "`share_groups`, and the report states it first; found no reason",
        ),
        (
            "splits: {s: {unit: slide, folds: 2}}",
            "splits.s: needs `test`, the share of the groups that is held out, above 0 and below 1; found nothing",
        ),
        (
            "splits: {s: {unit: slide, test: 0.6, validation: 0.4, folds: 2}}",
            "splits.s: test and validation together must be below 1, so that groups are left for training; "
            "found 0.6 and 0.4",
        ),
        (
            "splits: {g: {unit: given, folds: 2}}",
            "splits.g: the unit given needs `groups`, what is resampled and kept in one fold: patient, slide or image; "
            "found no groups",
        ),
        (
            "splits: {g: {unit: given, groups: slide, test: 0.2, folds: 2}}",
            "splits.g.test: the sheet has the sets: leave it out; found 0.2",
        ),
        (
            "splits: {by-patient: {groups: slide}}",
            "splits.by-patient.groups: only the unit given has `groups`: leave it out; found 'slide'",
        ),
        (
            "splits: {by-patient: {share_groups: they are few}}",
            "splits.by-patient.share_groups: patients are never shared: leave it out; found 'they are few'",
        ),
        (
            "splits: {by-patient: {train_tiles: 100, train_tiles_per_class: 10}}",
            "splits.by-patient: give train_tiles or train_tiles_per_class; found both",
        ),
        (
            "{pixels: stream, study: {datasets: [cells]}}",
            "pixels: stream is only for datasets of slides, and cells has points; found 'stream'",
        ),
        (
            "{gpus: 1, extraction: {engine: openvino}}",
            "extraction.engine: openvino runs on the CPU: set gpus to 0, or choose keras; found 'openvino'",
        ),
        (
            "extraction: {engine: openvino, precision: mixed_bfloat16}",
            "extraction.precision: must be float32 with the engine openvino; found 'mixed_bfloat16'",
        ),
    ],
)
def test_a_value_that_does_not_fit_the_others(folder, text, expected):
    assert refused(folder, text) == ["config:", f"  {expected}"]


def test_a_weights_file_is_looked_for_below_the_working_directory(folder):
    (folder / "vgg.h5").touch()
    assert load(folder, "networks: {net: {weights: vgg.h5}}").networks["net"].weights == "vgg.h5"


# ---- what is refused: by the sheets


def test_all_problems_of_config_and_sheets_come_together_by_file(folder):
    (folder / "in" / "slides.tsv").write_text("image\tpath\tlabel\ns1\ts1.svs\ttumor\n")
    (folder / "in" / "points.tsv").write_text("image,path,x,y\n")
    assert refused(folder, "{seed: x, study: {datasets: [mine, cells], methods: [net+tree]}}") == [
        "config:",
        "  seed: must be a whole number; found 'x'",
        "  study.methods[0]: must be one of `classifiers`: svm; found 'tree'",
        "in/slides.tsv:",
        "  row 1, column patient: the column is missing; needed are image, path, patient, label; "
        "found image, path, label",
        "in/points.tsv:",
        "  row 1: must be a table with the columns image, path, x, y, patient, label, separated by tabs; "
        "found columns separated by commas: 'image,path,x,y'",
    ]


def test_a_sheet_that_is_not_there(folder):
    (folder / "in" / "slides.tsv").unlink()
    assert refused(folder, "") == [
        "in/slides.tsv:",
        "  sheet: must be a table with the columns image, path, patient, label, separated by tabs; found no such file",
    ]


def test_rows_of_a_sheet_are_checked_against_the_tasks_of_its_dataset(folder):
    (folder / "in" / "slides.tsv").write_text("\n".join([*SLIDES, "s9\ts9.svs\tp9\te"]))
    assert refused(folder, "") == [
        "in/slides.tsv:",
        "  row 10, column label: must be one of normal, tumour, or empty; found 'e'",
    ]
    # a label of another task of the dataset is legal, and is no label of this one
    text = "datasets: {mine: {tasks: [tumour, cell]}}\nsplits: {by-patient: {stratify: none}}"
    load(folder, f"{text}\ntasks: {{cell: {{classes: {{other: [f, normal]}}}}}}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("splits: {by-patient: {folds: 3}}", None),
        (
            "splits: {by-patient: {folds: 4}}",
            [
                f"split by-patient, class '{name}' of task tumour: needs 5 patients: 4 for training (one per fold), "
                "1 for testing; found 4"
                for name in ("normal", "tumour")
            ],
        ),
        ("splits: {by-patient: {folds: 4, stratify: none}}", None),
        (
            "splits: {by-patient: {folds: 3, validation: 0.1}}",
            [
                f"split by-patient, class '{name}' of task tumour: needs 5 patients: 3 for training (one per fold), "
                "1 for testing, 1 for validation; found 4"
                for name in ("normal", "tumour")
            ],
        ),
        (
            "tasks: {tumour: {classes: [normal, tumour, necrosis]}}",
            [
                "split by-patient, class 'necrosis' of task tumour: needs 3 patients: 2 for training (one per fold), "
                "1 for testing; found 0"
            ],
        ),
    ],
)
def test_every_class_needs_groups_enough(folder, text, expected):
    if expected is None:
        load(folder, text)
    else:
        assert refused(folder, text) == ["in/slides.tsv:", *(f"  {line}" for line in expected)]


def test_groups_are_counted_not_slides(folder):
    rows = [f"s{k}\ts{k}.svs\tp{k // 2}\t{'normal' if k < 6 else 'tumour'}" for k in range(10)]
    (folder / "in" / "slides.tsv").write_text("\n".join([SLIDES[0], *rows]))
    assert refused(folder, "") == [
        "in/slides.tsv:",
        "  split by-patient, class 'tumour' of task tumour: needs 3 patients: 2 for training (one per fold), "
        "1 for testing; found 2",
    ]


def test_a_unit_finer_than_the_patient_needs_a_reason_to_part_one(folder):
    rows = [f"s{k}\ts{k}.svs\tp{k // 2}\t{'normal' if k < 6 else 'tumour'}" for k in range(12)]
    (folder / "in" / "slides.tsv").write_text("\n".join([SLIDES[0], *rows]))
    split = "study: {splits: [by-slide]}\nsplits: {by-slide: {unit: slide, test: 0.2, folds: 2%s}}"
    assert refused(folder, split % "") == [
        "in/slides.tsv:",
        "  split by-slide: the unit slide can put slides of one patient into training and test: split by patient, or "
        "give the reason in `share_groups`; "
        "found 6 patients with several slides: p0, p1, p2, p3, p4, ... (6 in all)",
    ]
    load(folder, split % ", share_groups: to show what it is worth")


GIVEN = "study: {splits: [as-published]}\nsplits: {as-published: {unit: given, groups: %s, folds: 2%s}}"


def given_sheet(folder, *sets, patient="p"):
    rows = [f"s{k}\ts{k}.svs\t{patient}{k}\t{'normal' if k % 2 else 'tumour'}\t{name}" for k, name in enumerate(sets)]
    (folder / "in" / "slides.tsv").write_text("\n".join([f"{SLIDES[0]}\tsplit", *rows]))


def test_given_sets_are_taken_from_the_sheet(folder):
    given_sheet(folder, *["train"] * 3, *["validation"] * 2, *["test"] * 3)
    mine = load(folder, GIVEN % ("slide", "")).datasets["mine"]
    assert [row.split for row in mine.rows.values()] == ["train"] * 3 + ["validation"] * 2 + ["test"] * 3
    assert mine.sheet_check.given == ("slide", "patient")
    assert mine.sheet_check.needs == ("split",)


def test_given_sets_need_the_column_and_groups_of_each_class(folder):
    assert refused(folder, GIVEN % ("patient", "")) == [
        "in/slides.tsv:",
        "  row 1, column split: the column is missing; needed are image, path, patient, label, split; "
        "found image, path, patient, label",
    ]
    given_sheet(folder, "train", "train", "validation", "train", "test", "train")
    assert refused(folder, GIVEN % ("patient", "")) == [
        "in/slides.tsv:",
        "  split as-published, class 'normal' of task tumour: needs 2 patients in train and validation (one per fold) "
        "and 1 in test; found 3 and 0",
    ]


def test_one_group_in_two_given_sets_needs_a_reason(folder):
    given_sheet(folder, "train", "test", patient="same-")
    sheet = folder / "in" / "slides.tsv"
    sheet.write_text(sheet.read_text().replace("same-0", "p").replace("same-1", "p"))
    assert refused(folder, GIVEN % ("slide", "")) == [
        "in/slides.tsv:",
        "  row 3, column split: patient 'p' must be in one set, and above it is in 'train'; found 'test'",
    ]
    load(folder, GIVEN % ("slide", ", share_groups: each slide is a class of its own"))
