"""The examples in docstrings give what stands below them."""

import doctest
import importlib
from types import ModuleType

import pytest
from repository import PACKAGE, SCRIPTS

MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text("utf-8")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_examples(path):
    module = importlib.import_module(".".join(path.relative_to(SCRIPTS).with_suffix("").parts))
    assert doctest.testmod(module).failed == 0


def test_an_example_that_does_not_hold_is_seen():
    module = ModuleType("wrong", ">>> 1 + 1\n3\n")
    assert doctest.testmod(module, report=False).failed == 1
