"""What docstrings say holds: examples give what stands below them, and references lead to something."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from types import ModuleType

import pytest
from repository import PACKAGE, SCRIPTS

MODULES = {
    ".".join(path.relative_to(SCRIPTS).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.stem != "__init__"
}
WITH_EXAMPLES = [name for name, path in MODULES.items() if ">>> " in path.read_text("utf-8")]
REFERENCE = re.compile(r":(?:func|class|data|meth|mod|attr|exc):`([\w.]+)`")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_what_stands_below_them(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_an_example_that_does_not_hold_is_seen():
    module = ModuleType("wrong", ">>> 1 + 1\n3\n")
    assert doctest.testmod(module, report=False).failed == 1


def defined(tree):
    """Return the names that a module defines, and those of its classes' methods and attributes with the class."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            names |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        if isinstance(node, ast.ClassDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef):
                    names.add(f"{node.name}.{inner.name}")
                if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                    names.add(f"{node.name}.{inner.target.id}")
                if isinstance(inner, ast.Attribute) and ast.unparse(inner.value) == "self":
                    names.add(f"{node.name}.{inner.attr}")
    return names


def imported(tree):
    """Return the names that imports bind anywhere in a module, each with what it is of the library."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name
        for alias in node.names
    }


def lost_references(trees):
    """Return the references in docstrings and comments of modules that lead to nothing, by the module's name.

    A reference names what its module defines or imports, a method of one of its classes alone, or something of the
    library by its full name. Those to other libraries are not looked at.
    """
    legal = {module: defined(tree) for module, (_, tree) in trees.items()}
    folders = {module.rpartition(".")[0] for module in trees}
    whole = {*trees, *folders, *(f"{module}.{name}" for module, names in legal.items() for name in names)}
    lost = {}
    for module, (text, tree) in trees.items():
        bound, methods = imported(tree), {name.rpartition(".")[2] for name in legal[module]}
        for reference in REFERENCE.findall(text):
            first, _, rest = reference.partition(".")
            named = f"{bound[first]}.{rest}".rstrip(".") if first in bound else reference
            if not (reference in legal[module] | methods or named in whole or first in LIBRARIES):
                lost.setdefault(module, set()).add(reference)
    return lost


#: Other libraries that references lead to.
LIBRARIES = {"numpy", "keras", "h5py", "snakemake", "sklearn", "tensorflow", "jax", "torch", "scipy", "shapely"}


def test_references_lead_to_something():
    texts = {name: path.read_text("utf-8") for name, path in MODULES.items()}
    assert lost_references({name: (text, ast.parse(text)) for name, text in texts.items()}) == {}


def test_a_reference_that_leads_to_nothing_is_seen():
    texts = {
        "histotransfer.slides.grid": """
''':func:`place`, :data:`SIZE`, :meth:`Grid.cells`, :meth:`cells`, :attr:`Grid.px`, :mod:`reader`, :class:`Slide`,
:func:`reader.opened`, :func:`histotransfer.slides.reader.opened`, :mod:`histotransfer.slides`, :class:`numpy.ndarray`;
:func:`gone`, :func:`Slide.gone`, :mod:`tiles`, :func:`tiles.place`, :func:`histotransfer.reader.opened`'''
from histotransfer.slides import reader
from histotransfer.slides.reader import Slide
SIZE = 3
class Grid:
    px: int
    def cells(self): ...
def place(): ...
""",
        "histotransfer.slides.reader": "def opened(): ...\nclass Slide: ...",
    }
    assert lost_references({name: (text, ast.parse(text)) for name, text in texts.items()}) == {
        "histotransfer.slides.grid": {
            *("gone", "Slide.gone", "tiles", "tiles.place", "histotransfer.reader.opened"),
        }
    }
