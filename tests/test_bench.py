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


#: Functions of the benchmark that call what they are given, with its arguments as keywords.
CALLS = {"measuring.call", "measuring.in_own_process", "measure"}


def named(node, bound):
    """Return the function of the library that an expression names, by a step's text or by imports; else None."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and STEP.match(node.value):
        return workflow.function_of(node.value)
    first, _, rest = ast.unparse(node).partition(".") if isinstance(node, (ast.Name, ast.Attribute)) else ("", "", "")
    found = bound.get(first)
    for name in rest.split(".") if rest else ():
        found = getattr(found, name, None)
    return found


def bound_by_imports(tree):
    """Return what the names mean that a script imports from the library."""
    bound = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "histotransfer":
            for alias in node.names:
                module = importlib.import_module(node.module)
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                bound[alias.asname or alias.name] = getattr(module, alias.name)
    return bound


def calls(tree):
    """Give each function of the library that a script calls or has called, with its arguments by keyword."""
    bound = bound_by_imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            through = ast.unparse(node.func) in CALLS and node.args
            function = named(node.args[0] if through else node.func, bound)
            if inspect.isfunction(function):
                yield function, {keyword.arg for keyword in node.keywords if keyword.arg}, bool(through)
        elif isinstance(node, ast.Constant) and (function := named(node, bound)):
            yield function, set(), True


def taken(function, *, as_a_rule):
    """Return the names that a function takes; as a rule calls it, also the fields of its parameters' classes."""
    names = set(inspect.signature(function).parameters)
    if as_a_rule:
        kinds = [kind for kind in typing.get_type_hints(function).values() if dataclasses.is_dataclass(kind)]
        names |= {field.name for kind in kinds for field in dataclasses.fields(kind)}
    return names


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_of_the_library_have_what_a_script_takes_from_them(path):
    tree = tree_of(path)
    modules = {name: value for name, value in bound_by_imports(tree).items() if inspect.ismodule(value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), ast.unparse(node)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_functions_of_the_library_take_what_a_script_gives(path):
    for function, keywords, as_a_rule in calls(tree_of(path)):
        # those of `measure` itself
        given = keywords - {"what", "size"} if path.stem == "needs" else keywords
        assert given <= taken(function, as_a_rule=as_a_rule), function.__qualname__


def test_the_calls_are_found():
    seen = {function.__name__ for path in SCRIPTS for function, *_ in calls(tree_of(path))}
    assert {"train_network", "write_pixels", "load_pair", "specification", "phase_weights", "label_slide"} <= seen


def test_a_call_with_another_argument_is_seen():
    [(function, keywords, as_a_rule), *_] = calls(
        ast.parse("from histotransfer.slides import reader\nmeasuring.call(reader.inspect_slide, path=1, px=2)")
    )
    assert as_a_rule
    assert keywords - taken(function, as_a_rule=True) == {"px"}
    with pytest.raises(AttributeError):
        list(calls(ast.parse('measure("slides.reader.inspect")')))
