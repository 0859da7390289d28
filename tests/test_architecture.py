"""How the library is laid out: who may import whom, and how large folders, modules, functions and rules may be.

Each check is a function that gives the places where code does not keep to it. It is called on the library, which must
have none (or as many as are allowed), and on a small package in which there is one.
"""

from __future__ import annotations

import ast
import statistics
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import rule_texts
from repository import PACKAGE, ROOT, SCRIPTS

RULE_FOLDER = ROOT / "rules"

#: Which folders each folder may import. Every module may import the ground, which are the modules beside the package's
#: ``__init__.py``; the ground imports no folder.
MAY_IMPORT = {
    "sheets": "",
    "backends": "",
    "networks": "backends",
    "slides": "sheets",
    "regions": "slides",
    "study": "sheets networks",
    "cohort": "sheets slides regions",
    "features": "networks backends slides",
    "tables": "slides cohort",
    "classifiers": "tables cohort",
    "training": "tables cohort networks backends",
    "segmentation": "training tables networks backends",
    "evaluation": "classifiers networks",
    "maps": "evaluation cohort slides sheets",
    "figures": (
        "sheets backends networks slides regions cohort features tables classifiers training segmentation evaluation"
        " maps"
    ),
    "report": "figures evaluation maps study networks",
    "planning": "study networks backends slides drawn",
    "drawn": "",
}

MOST_MODULES = 14
MOST_LINES = 500
MOST_PARAMETERS = 12
LONG_FUNCTION = 60
MOST_LONG_FUNCTIONS = 5
LONGEST_RULE = 35
MEDIAN_RULE = 18
LONGEST_COMMON = 300


# ---- what is counted


def modules(package: Path) -> dict[str, Path]:
    """Return the modules of a package by their dotted names within it, without the ``__init__.py`` files."""
    paths = {path.relative_to(package): path for path in sorted(package.rglob("*.py")) if path.stem != "__init__"}
    return {".".join(relative.with_suffix("").parts): path for relative, path in paths.items()}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports(package: Path) -> Iterator[tuple[str, str]]:
    """Give each import of the package from itself, wherever it stands: the importing and the imported module.

    Raises
    ------
    AssertionError
        At an import that names no module of the package: of a folder, or relative to the importing module.
    """
    known = modules(package)
    for importing, path in known.items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{importing} has a relative import: {ast.unparse(node)}"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                home, _, inner = name.partition(".")
                if home != package.name:
                    continue
                imported = next((module for module in (inner, inner.rpartition(".")[0]) if module in known), None)
                if imported is None and inner.startswith("__"):
                    # a name of the package itself, as its version
                    continue
                assert imported, f"{importing} imports {name}, which is no module"
                yield importing, imported


def folder_of(module: str) -> str:
    """Return the folder of a module; the ground has none."""
    return module.rpartition(".")[0]


def forbidden_imports(package: Path) -> list[str]:
    """Return the imports between folders that the table does not allow."""
    found = set()
    for importing, imported in imports(package):
        at, to = folder_of(importing), folder_of(imported)
        if to not in ("", at) and to not in MAY_IMPORT.get(at, "").split():
            found.add(f"{importing} -> {imported}")
    return sorted(found)


def circles(package: Path) -> list[list[str]]:
    """Return the modules of the package that import one another, directly or by way of others, circle by circle."""
    direct: dict[str, set[str]] = {module: set() for module in modules(package)}
    for importing, imported in imports(package):
        direct[importing].add(imported)

    def reached(module: str) -> set[str]:
        seen, waiting = set(), [module]
        while waiting:
            new = direct[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    from_each = {module: reached(module) for module in direct}
    in_circles = [module for module in direct if module in from_each[module]]
    grouped = {tuple(other for other in in_circles if other in from_each[module]) for module in in_circles}
    # of a circle and what it leads to, the circle alone
    return sorted([one for one in group if set(group) <= from_each[one]] for group in grouped)


def dynamic_imports(package: Path) -> list[str]:
    """Return the modules that import by a text, which neither this test nor a code digest can follow."""
    return [
        module
        for module, path in modules(package).items()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
    ]


def crowded_folders(package: Path) -> dict[str, int]:
    """Return the folders with too many modules, with their number."""
    counts = Counter(path.parent.relative_to(package).as_posix() for path in modules(package).values())
    return {folder: n for folder, n in counts.items() if n > MOST_MODULES}


def long_modules(folder: Path) -> dict[str, int]:
    """Return the modules with too many lines, with their number."""
    lines = {module: len(path.read_text("utf-8").splitlines()) for module, path in modules(folder).items()}
    return {module: n for module, n in lines.items() if n > MOST_LINES}


def functions(folder: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Give each function and method below a folder, with a name that says where it is."""
    for module, path in modules(folder).items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{module}.{node.name}", node


def functions_of_many_parameters(folder: Path) -> dict[str, int]:
    """Return the functions that take too many parameters, with their number; ``self`` and ``cls`` are none."""
    found = {}
    for name, node in functions(folder):
        parameters = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        n = len(parameters) - (parameters[:1] in (["self"], ["cls"]))
        if n > MOST_PARAMETERS:
            found[name] = n
    return found


def long_functions(folder: Path) -> dict[str, int]:
    """Return the functions with too many lines without the docstring, with their number."""
    found = {}
    for name, node in functions(folder):
        lines = node.end_lineno - node.lineno + 1
        if ast.get_docstring(node) is not None:
            lines -= node.body[0].end_lineno - node.body[0].lineno + 1
        if lines > LONG_FUNCTION:
            found[name] = lines
    return found


def folders_not_described(package: Path) -> list[str]:
    """Return the folders of the package whose ``__init__.py`` is missing or is anything but a docstring."""
    found = []
    for folder in sorted({path.parent for path in modules(package).values()} - {package}):
        file = folder / "__init__.py"
        body = parsed(file).body if file.is_file() else []
        if len(body) != 1 or not ast.get_docstring(parsed(file)):
            found.append(folder.relative_to(package).as_posix())
    return found


# ---- the library


def test_the_table_is_of_the_folders_that_there_are():
    folders = {folder_of(module) for module in modules(PACKAGE)} - {""}
    assert folders == MAY_IMPORT.keys()
    assert {name for allowed in MAY_IMPORT.values() for name in allowed.split()} <= folders


def test_the_table_keeps_the_stages_from_what_stands_above_them():
    may_import = {folder: set(allowed.split()) for folder, allowed in MAY_IMPORT.items()}
    assert [folder for folder, allowed in may_import.items() if "drawn" in allowed] == ["planning"]
    assert [folder for folder, allowed in may_import.items() if "study" in allowed] == ["report", "planning"]
    assert set(MAY_IMPORT) - may_import["figures"] == {"study", "figures", "report", "planning", "drawn"}


def test_folders_import_those_of_the_table_alone():
    assert forbidden_imports(PACKAGE) == []


def test_no_modules_import_one_another():
    assert circles(PACKAGE) == []


def test_only_the_step_of_a_rule_is_imported_by_its_name():
    assert dynamic_imports(PACKAGE) == ["workflow"]


def test_no_folder_has_too_many_modules():
    assert crowded_folders(PACKAGE) == {}


def test_no_module_is_too_long():
    assert long_modules(SCRIPTS) == {}


def test_no_function_takes_too_many_parameters():
    assert functions_of_many_parameters(SCRIPTS) == {}


def test_few_functions_are_long():
    found = long_functions(SCRIPTS)
    assert len(found) <= MOST_LONG_FUNCTIONS, found


def test_every_folder_is_described_and_hands_nothing_on():
    assert folders_not_described(PACKAGE) == []


def test_rules_are_short():
    lengths = rule_texts.lengths(RULE_FOLDER)
    assert lengths.keys() == rule_texts.RULES.keys()
    assert {name: n for name, n in lengths.items() if n > LONGEST_RULE} == {}
    assert statistics.median(lengths.values()) <= MEDIAN_RULE


def test_what_all_rules_use_is_short():
    assert len((RULE_FOLDER / "common.smk").read_text("utf-8").splitlines()) <= LONGEST_COMMON


# ---- the checks, on a package that does not keep to them


@pytest.fixture
def package(tmp_path):
    """A function that writes a package of modules, given by their paths, and returns its folder."""

    def write(**texts):
        folder = tmp_path / "histotransfer"
        for name, text in {"__init__": "", **texts}.items():
            path = folder / f"{name.replace('__init__', 'INIT').replace('__', '/').replace('INIT', '__init__')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return write


@pytest.mark.parametrize(
    ("importing", "text", "expected"),
    [
        ("slides__grid", "from histotransfer.cohort import cohort", ["slides.grid -> cohort.cohort"]),
        ("slides__grid", "from histotransfer.cohort.cohort import Cohort", ["slides.grid -> cohort.cohort"]),
        ("slides__grid", "import histotransfer.cohort.cohort", ["slides.grid -> cohort.cohort"]),
        ("slides__grid", "def f():\n    from histotransfer.cohort import cohort", ["slides.grid -> cohort.cohort"]),
        ("store", "from histotransfer.cohort import cohort", ["store -> cohort.cohort"]),
        ("tables__rows", "from histotransfer.cohort import cohort", []),
        ("cohort__labels", "from histotransfer.cohort import cohort", []),
        ("slides__grid", "from histotransfer import problems\nfrom histotransfer import __version__", []),
    ],
)
def test_an_import_that_the_table_does_not_allow_is_seen(package, importing, text, expected):
    assert forbidden_imports(package(cohort__cohort="", problems="", **{importing: text})) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from histotransfer import cohort", r"slides\.grid imports histotransfer\.cohort, which is no module"),
        ("from . import reader", r"slides\.grid has a relative import: from \. import reader"),
    ],
)
def test_an_import_that_names_no_module_is_an_error(package, text, expected):
    with pytest.raises(AssertionError, match=expected):
        forbidden_imports(package(cohort__cohort="", slides__grid=text))


def test_circles_are_seen_wherever_their_imports_stand(package):
    folder = package(
        a="from histotransfer import b",
        b="def f():\n    from histotransfer.c.d import g",
        c__d="class G:\n    from histotransfer import a",
        # leads to the circle, and a circle of its own that leads there
        e="from histotransfer import a",
        f="from histotransfer import g",
        g="from histotransfer import f, a",
        h="",
    )
    assert circles(folder) == [["a", "b", "c.d"], ["f", "g"]]


def test_an_import_by_a_text_is_seen(package):
    assert dynamic_imports(package(a="import importlib\ndef f(x):\n    return importlib.import_module(x)")) == ["a"]


def test_a_folder_of_many_modules_is_seen(package):
    folder = package(**{f"full__m{k}": "" for k in range(15)}, **{f"less__m{k}": "" for k in range(14)})
    (folder / "less" / "__init__.py").touch()
    assert crowded_folders(folder) == {"full": 15}


def test_a_long_module_is_seen(package):
    assert long_modules(package(a="x = 1\n" * 501, b="x = 1\n" * 500)) == {"a": 501}


def test_a_function_of_many_parameters_is_seen(package):
    names = [f"p{k}" for k in range(13)]
    text = (
        f"def many({', '.join(names[:2])}, /, {names[2]}, *, {', '.join(names[3:])}): pass\n"
        f"def few({', '.join(names[1:])}): pass\n"
        f"class C:\n    def few(self, {', '.join(names[1:])}): pass\n    def many(self, {', '.join(names)}): pass\n"
    )
    assert functions_of_many_parameters(package(a=text)) == {"a.many": 13}


def test_a_long_function_is_seen_and_its_docstring_is_not_counted(package):
    lines = "    x = 1\n"
    text = (
        f"def enough():\n    '''One.\n\n    Two.\n    '''\n{lines * 59}\n"
        f"class C:\n    async def more(self):\n{('    ' + lines) * 60}\n"
    )
    assert long_functions(package(a=text)) == {"a.more": 61}


def test_a_folder_that_is_not_described_or_hands_something_on_is_seen(package):
    folder = package(
        a__m="",
        b__m="",
        b____init__="'''What it is.'''\nfrom histotransfer.b.m import x",
        c__m="",
        c____init__="x = 1",
        d__m="",
        d____init__="'''What it is.'''",
    )
    assert folders_not_described(folder) == ["a", "b", "c"]


def test_the_length_of_a_rule_is_from_its_name_to_its_last_line(tmp_path):
    (tmp_path / "a.smk").write_text(
        "x = 1\n\n\nrule one:\n    input:\n        a,\n\n    shell:\n        'b'\n\n\n"
        "if x:\n\n    rule two:\n        output:\n            'c'\n\nrule three:\n    input: []\n"
        "\n\nuse rule three as four with:\n    input: []\n    output: 'd'\n"
    )
    assert rule_texts.lengths(tmp_path) == {"one": 6, "two": 3, "three": 2, "four": 3}
