"""The benchmark's scripts name what the library has: they are run by hand, and would not say so themselves for long."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import typing

import pytest
from repository import PACKAGE, ROOT

from histotransfer import workflow

SCRIPTS = sorted((ROOT / "bench").rglob("*.py"))
FOLDERS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
STEP = re.compile(rf"^({'|'.join(sorted(FOLDERS))})\.[a-z_]+\.[a-z_]+$")


def tree_of(path):
    return ast.parse(path.read_text("utf-8"))


def imported(tree):
    """Give what a script imports from the library: the module, and the name or None."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_script_imports_is_there(path):
    for module, name in imported(tree_of(path)):
        if module.split(".")[0] == "histotransfer":
            if name and not hasattr(importlib.import_module(module), name):
                importlib.import_module(f"{module}.{name}")
            elif not name:
                importlib.import_module(module)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_script_holds_another_as_a_text(path):
    """It would be looked at by no linter."""
    texts = [node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant)]
    assert [text for text in texts if isinstance(text, str) and re.search(r"^(import|from) \w+", text, re.M)] == []


def steps(tree):
    """Give the name of each step in a script, and the keywords that it is called with where the name stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STEP.match(node.value):
            yield node.value, []
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield first.value, [keyword.arg for keyword in node.keywords if keyword.arg]


def taken(function):
    """Return the names that a step takes: its parameters, and the fields of those that are objects."""
    hints = typing.get_type_hints(function)
    objects = [kind for kind in hints.values() if dataclasses.is_dataclass(kind)]
    return inspect.signature(function).parameters.keys() | {
        field.name for kind in objects for field in dataclasses.fields(kind)
    }


#: Functions that call a step by its name, with its arguments as keywords.
CALLS = {"measuring.call", "measuring.in_own_process", "measure"}


def test_steps_that_scripts_name_are_functions_with_those_arguments():
    seen = set()
    for path in SCRIPTS:
        for step, keywords in steps(tree_of(path)):
            assert set(keywords) <= taken(workflow.function_of(step)), (path.name, step)
            seen.add(step)
    assert {"training.network_on_tiles.train_network", "slides.pixels.write_pixels"} <= seen


def test_a_step_that_is_not_there_is_seen():
    [(step, keywords)] = [found for found in steps(ast.parse('measure("slides.reader.inspect", path=1)')) if found[1]]
    assert (step, keywords) == ("slides.reader.inspect", ["path"])
    with pytest.raises(AttributeError):
        workflow.function_of(step)
