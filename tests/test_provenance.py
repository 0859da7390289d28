"""Digests of code change with what a function does, digests of content with what a result says; with nothing else."""

from __future__ import annotations

import re
import shutil

import h5py
import numpy as np
import pytest
from repository import PACKAGE, ROOT

from histotransfer import provenance, store

# A package of two modules, and of a folder with two more: cutting.cut reaches shapes.area and shapes.Square, and by
# another way of importing paint.colours.grey; it never reaches cutting.other, shapes.unused and paint.colours.unused.
SOURCES = {
    "cutting": '''
"""What is cut."""
import os
from histotransfer import shapes
from histotransfer.paint.colours import grey as to_grey

LIMIT = 10

def cut(n, *, least=LIMIT):
    """Cut n."""
    # a comment
    return shapes.area(n) + to_grey(n) + shapes.Square(2).side

def other():
    return 1
''',
    "shapes": '''
"""Shapes."""
from dataclasses import dataclass

FACTOR = 2
PAIR, OTHER = 3, 4
TABLE = {}
TABLE["a"] = 5

def doubled(n):
    return n * FACTOR

def area(n):
    def inner(m):
        """Inner."""
        return doubled(m) + PAIR
    return inner(n)

def unused(n):
    return OTHER

class Base:
    """Base."""
    width = 1

@dataclass
class Square(Base):
    side: int

    def corners(self):
        """Corners."""
        return 4
''',
    "paint.colours": """
import warnings
from histotransfer.shapes import doubled

warnings.simplefilter("ignore")

def grey(n):
    from histotransfer.paint import late
    return doubled(n) + late.value()

def unused():
    return 3
""",
    "paint.late": """
import os
os.environ.setdefault("X", "1")

def value():
    return 6

def unused():
    return 7
""",
}


def digest(folder, edits=(), function="cutting.cut"):
    """Return the digest of a function of the package above, after edits (module, old, new)."""
    folder.mkdir(exist_ok=True)
    for module, source in SOURCES.items():
        for _, old, new in (edit for edit in edits if edit[0] == module):
            assert old in source
            source = source.replace(old, new)
        path = folder / f"{module.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return provenance.CodeDigests(folder)(function)


@pytest.mark.parametrize(
    "edit",
    [
        ("cutting", "return shapes.area(n) +", "return shapes.area(n) -"),
        ("cutting", "LIMIT = 10", "LIMIT = 11"),
        ("cutting", "least=LIMIT", "least=0"),
        ("shapes", "return inner(n)", "return inner(n + 1)"),
        ("shapes", "doubled(m) + PAIR", "doubled(m)"),
        ("shapes", "n * FACTOR", "n + FACTOR"),
        ("shapes", "FACTOR = 2", "FACTOR = 3"),
        ("shapes", "PAIR, OTHER = 3, 4", "PAIR, OTHER = 5, 4"),
        ("shapes", 'TABLE["a"] = 5', 'TABLE["a"] = 6'),
        ("shapes", "side: int", "side: float"),
        ("shapes", "return 4", "return 5"),
        ("shapes", "width = 1", "width = 2"),
        ("shapes", "@dataclass\n", "@dataclass(frozen=True)\n"),
        ("paint.colours", "doubled(n) + late", "doubled(n) * late"),
        ("paint.colours", 'simplefilter("ignore")', 'simplefilter("error")'),
        ("paint.late", "return 6", "return 8"),
        ("paint.late", '"X", "1"', '"X", "2"'),
    ],
)
def test_an_edit_of_what_a_function_reaches_changes_its_digest(tmp_path, edit):
    assert digest(tmp_path, [edit]) != digest(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        ("cutting", '"""What is cut."""', '"""What else."""'),
        ("cutting", '"""Cut n."""\n    # a comment', '"""Cut n.\n\n    At length.\n    """'),
        ("cutting", "    # a comment\n", ""),
        ("cutting", "def other():\n    return 1", "def other():\n    return 2"),
        ("cutting", "def other():\n    return 1\n", ""),
        ("cutting", "import os\n", "import os\nimport sys\n"),
        ("cutting", "+ to_grey(n)", "+ (\n        to_grey(n))"),
        ("shapes", '"""Inner."""', '"""Deeper."""'),
        ("shapes", '"""Base."""\n    ', ""),
        ("shapes", '"""Corners."""', '"""How many corners."""'),
        ("shapes", "return OTHER", "return OTHER + 1"),
        ("paint.colours", "return 3", "return 4"),
        ("paint.late", "return 7", "return 8"),
    ],
)
def test_an_edit_of_anything_else_does_not(tmp_path, edit):
    assert digest(tmp_path, [edit]) == digest(tmp_path)


def test_a_docstring_that_is_a_whole_body_counts_for_nothing(tmp_path):
    was = ("cutting", "def other():\n    return 1", 'def other():\n    """Nothing."""')
    now = ("cutting", "def other():\n    return 1", 'def other():\n    """Nothing at all."""')
    assert digest(tmp_path, [was], "cutting.other") == digest(tmp_path, [now], "cutting.other")


def test_definitions_that_come_and_go_count_for_nothing(tmp_path):
    moved = [
        ("paint.colours", "\ndef unused():\n    return 3\n", ""),
        ("paint.colours", "\ndef grey", "\nX = 1\ndef grey"),
    ]
    assert digest(tmp_path, moved) == digest(tmp_path)


def test_a_name_that_passes_through_a_module_is_followed(tmp_path):
    through = ("cutting", "histotransfer.paint.colours import", "histotransfer.passing import")
    edit = ("paint.colours", "doubled(n) + late", "doubled(n) * late")
    tmp_path.joinpath("passing.py").write_text("from histotransfer.paint.colours import grey\n")
    assert digest(tmp_path, [through, edit]) != digest(tmp_path, [through])


def test_names_that_pass_round_in_a_circle_come_to_an_end(tmp_path):
    through = ("cutting", "histotransfer.paint.colours import", "histotransfer.passing import")
    tmp_path.joinpath("passing.py").write_text("from histotransfer.back import grey\n")
    tmp_path.joinpath("back.py").write_text("from histotransfer.passing import grey\n")
    assert len(digest(tmp_path, [through])) == 16


def test_two_functions_may_bind_one_name_to_two_modules(tmp_path):
    """The later import is of the module that does not matter."""
    edits = [
        ("cutting", "from histotransfer.paint.colours import grey as to_grey\n", ""),
        ("cutting", "    # a comment\n", "    from histotransfer.paint.colours import grey as to_grey\n"),
        (
            "cutting",
            "    return 1\n",
            "    from histotransfer.paint.late import value as to_grey\n    return to_grey()\n",
        ),
    ]
    changed = ("paint.colours", "doubled(n) + late", "doubled(n) * late")
    assert digest(tmp_path, [*edits, changed]) != digest(tmp_path, edits)


@pytest.mark.parametrize(
    "line", ["import histotransfer.shapes", "from . import shapes", "from .shapes import area", "import histotransfer",
             "from histotransfer.shapes import *", "from histotransfer.a.b import c", "from histotransfer import paint",
             "from histotransfer import shapes, paint", "from histotransfer.paint import grey",
             "import histotransfer.paint.colours as colours", "from histotransfer.paint import *"]
)  # fmt: skip
def test_an_import_that_is_not_followed_is_refused(tmp_path, line):
    with pytest.raises(ValueError, match=f"cutting.py: imports within the package are .* found `{re.escape(line)}`"):
        digest(tmp_path, [("cutting", "from histotransfer import shapes", line)])


def test_a_name_that_a_folder_hands_on_is_refused(tmp_path):
    """An edit of what an ``__init__.py`` hands on would change no digest."""
    tmp_path.joinpath("paint").mkdir()
    tmp_path.joinpath("paint/__init__.py").write_text("from histotransfer.paint.colours import grey\n")
    line = "from histotransfer.paint import grey as to_grey"
    with pytest.raises(ValueError, match=f"cutting.py: imports within the package are .* found `{line}`"):
        digest(tmp_path, [("cutting", "from histotransfer.paint.colours import grey as to_grey", line)])


def test_an_error_names_the_file_in_its_folder(tmp_path):
    edit = ("paint.colours", "from histotransfer.paint import late", "from histotransfer import paint")
    with pytest.raises(ValueError, match=r"^paint/colours\.py: imports within the package"):
        digest(tmp_path, [edit])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("cutting.cutt", r"cutting\.py defines LIMIT, cut, other; found 'cutt'"),
        ("paint.colours.gray", r"paint/colours\.py defines grey, unused; found 'gray'"),
        ("colours.grey", r"modules of histotransfer are cutting, paint\.colours, paint\.late, shapes; found 'colours'"),
        ("paint.grey", r"modules of histotransfer are .*; found 'paint'"),
        ("cut", r"modules of histotransfer are .*; found ''"),
    ],
)
def test_a_function_that_is_not_there_is_an_error(tmp_path, function, message):
    with pytest.raises(ValueError, match=message):
        digest(tmp_path, function=function)


# what the rules ask for


def names_in_rules():
    text = {path.name: path.read_text() for path in [*ROOT.glob("rules/*.smk"), ROOT / "Snakefile"]}
    return [(name, found) for name, rules in text.items() for found in re.findall(r'\bstep\("([^"]*)"\)', rules)]


def test_the_rules_have_digests_of_code():
    assert len(names_in_rules()) >= 70


@pytest.mark.parametrize(("file", "function"), names_in_rules())
def test_what_a_rule_takes_the_digest_of_is_there(file, function):
    assert re.fullmatch(r"[0-9a-f]{16}", provenance.CodeDigests(PACKAGE)(function))


def test_digests_of_rules_differ():
    functions = {function for _, function in names_in_rules()}
    code = provenance.CodeDigests(PACKAGE)
    assert len({code(function) for function in functions}) == len(functions)


def edited_digest(folder, module, old, new, function):
    shutil.copytree(PACKAGE, folder / "package", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    path = folder / "package" / f"{module.replace('.', '/')}.py"
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")
    return provenance.CodeDigests(folder / "package")(function)


@pytest.mark.parametrize(
    ("module", "old", "new", "reruns", "stays"),
    [
        (
            "slides.tissue",
            "OVERVIEW_UM = 8.0",
            "OVERVIEW_UM = 4.0",
            ["slides.tissue.write_mask", "slides.grid.write_grid"],
            [
                "slides.reader.inspect_slide",
                "slides.pixels.write_pixels",
                "cohort.labels.label_slide",
                "features.extraction.extract",
            ],
        ),
        (
            "slides.pixels",
            "LARGEST_READ = 4_000_000",
            "LARGEST_READ = 1_000_000",
            ["slides.pixels.write_pixels", "features.streaming.extract_from_slides"],
            [
                "slides.grid.write_grid",
                "features.extraction.extract",
                "slides.patches.write_part",
                "cohort.cohort.gather_slides",
            ],
        ),
        (
            "slides.patches",
            "size = min(height, width)",
            "size = max(height, width)",
            ["slides.patches.write_part"],
            ["slides.pixels.write_pixels", "features.extraction.extract"],
        ),
    ],
)
def test_an_edit_of_this_package_reruns_what_depends_on_it(tmp_path, module, old, new, reruns, stays):
    code = provenance.CodeDigests(PACKAGE)
    after = {name: edited_digest(tmp_path, module, old, new, name) for name in [*reruns, *stays]}
    assert {name for name, digest in after.items() if digest != code(name)} == set(reruns)


# content


@pytest.fixture
def written(tmp_path):
    """Give a function that writes an HDF5 file of given content and returns its digest."""

    def write(name="a.h5", attributes=None, chunks=None, texts=("a", "b"), values=(1.0, 2.0)):
        with h5py.File(tmp_path / name, "w") as file:
            store.set_attributes(file, {"mpp": 0.5, "mtime": 1.0, **(attributes or {})})
            data = file.create_dataset("inner/values", data=np.array(values), chunks=chunks)
            data.attrs["unit"] = "um"
            store.write_texts(file, "texts", texts)
            file["one"] = 3.0
        return provenance.content_digest(tmp_path / name)

    return write


def test_hdf5_of_the_same_content_has_the_same_digest(written):
    assert written() == written("b.h5", attributes={"mtime": 2.0}, chunks=(1,))


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": {"mpp": 0.25}},
        {"attributes": {"new": ""}},
        {"texts": ("a", "c")},
        {"texts": ("ab", "")},
        {"values": (1.0, 2.5)},
        {"values": (1.0, 2.0, 0.0)},
        {"values": np.array([1.0, 2.0], np.float32)},
        {"values": np.array([[1.0, 2.0]])},
    ],
)
def test_hdf5_of_other_content_has_another(written, change):
    assert written() != written("b.h5", **change)


@pytest.mark.parametrize("place", ["/", "inner", "inner/values"])
def test_attributes_count_wherever_they_stand(tmp_path, written, place):
    before = written()
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file[place].attrs["said"] = 1
    assert provenance.content_digest(tmp_path / "a.h5") != before


def test_all_of_a_long_attribute_counts(written):
    long = np.zeros(5000)
    near = long.copy()
    near[2500] = 1e-12
    assert written(attributes={"x": long}) != written("b.h5", attributes={"x": near})


def test_the_last_rows_of_a_long_dataset_count(written):
    values = np.zeros(1000)
    other = values.copy()
    other[-1] = 1
    assert written(values=values) != written("b.h5", values=other)


def test_a_scalar_counts(tmp_path, written):
    before = written()
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["one"][()] = 4.0
    assert provenance.content_digest(tmp_path / "a.h5") != before


def test_times_in_json_count_for_nothing_and_all_else_does(tmp_path):
    def digest(content):
        store.write_json(tmp_path / "a.json", content)
        return provenance.content_digest(tmp_path / "a.json")

    described = {"slide": "a", "mtime": 1, "levels": [{"size": 3, "mtime": 1}]}
    assert digest(described) == digest({"mtime": 2, "levels": [{"mtime": 9, "size": 3}], "slide": "a"})
    assert digest(described) != digest({**described, "slide": "b"})
    assert digest(described) != digest({**described, "levels": [{"size": 4}]})
    assert digest(["a", "b"]) != digest(["b", "a"])


def test_models_trained_twice_have_the_same_digest(tmp_path):
    import skops.io
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 5))
    labels = (features[:, 0] > 0).astype(int)

    def digest(name, model):
        # what lies in memory, and where, differs from one training to the next
        filling = [np.empty(int(n)) for n in rng.integers(10, 10_000, 20)]
        skops.io.dump(model.fit(features, labels), tmp_path / f"{name}.skops")
        del filling
        return provenance.content_digest(tmp_path / f"{name}.skops")

    models = {
        "svm": lambda c=1.0: SVC(kernel="linear", C=c),
        "trees": lambda seed=1: ExtraTreesClassifier(5, random_state=seed),
        "logistic": lambda c=1.0: LogisticRegression(C=c),
    }
    first = {name: digest(f"{name}-1", make()) for name, make in models.items()}
    assert {name: digest(f"{name}-2", make()) for name, make in models.items()} == first
    assert digest("other", models["svm"](0.01)) != first["svm"]
    assert digest("other", models["trees"](2)) != first["trees"]
    assert len(set(first.values())) == 3


def test_one_changed_weight_changes_a_models_digest(tmp_path):
    import skops.io
    from sklearn.svm import SVC

    features, labels = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    model = SVC(kernel="linear").fit(features, labels)
    skops.io.dump(model, tmp_path / "a.skops")
    model._intercept_ = model._intercept_ + 1e-9
    skops.io.dump(model, tmp_path / "b.skops")
    assert provenance.content_digest(tmp_path / "a.skops") != provenance.content_digest(tmp_path / "b.skops")


def test_what_is_no_content_is_left_out_of_a_folders_digest(tmp_path):
    def fill(folder, cost):
        for name, text in {
            "a.tsv": "a",
            "inner/b.json": '{"x": 1}',
            "cost.tsv": cost,
            "run.html": cost,
            ".resume/c.tsv": cost,
            "inner/.b.json.part": cost,
        }.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return provenance.folder_digest(folder)

    one, files = fill(tmp_path / "one", "1 s")
    two, _ = fill(tmp_path / "two", "2 s")
    assert one == two
    assert list(files) == ["a.tsv", "inner/b.json"]
    (tmp_path / "two" / "a.tsv").rename(tmp_path / "two" / "renamed.tsv")
    assert provenance.folder_digest(tmp_path / "two")[0] != one
