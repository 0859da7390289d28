"""What made a file, and what is in it: digests of code and of content.

Two questions, two digests. :class:`CodeDigests` answers "would this function do the same as before?" and stands
in every rule's params, so that a changed library reruns exactly what depends on it. :func:`content_digest` answers
"is this the same result?" and leaves out times, dates and costs.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import zipfile
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from histotransfer.store import OUTSIDE_CONTENT

PACKAGE = "histotransfer"


class CodeDigests:
    """Digests of the package's functions, from its syntax trees; nothing is imported.

    The digest of ``"slides.tissue.write_mask"`` covers that function and every function, class and constant of the
    package that it reaches by name, in its own module or through imports, without docstrings and comments. An edited
    docstring changes no digest, nor does a function that this one never reaches. What is looked up by text
    (``getattr`` on a module) is not seen: modules of this package do not do that with one another. They import one
    another by ``from histotransfer.slides import tissue`` or ``from histotransfer.slides.tissue import write_mask``,
    and the modules of the ground by ``from histotransfer import store``; other ways are refused. So is the import of
    a folder (``from histotransfer import slides``): its ``__init__.py`` hands nothing on, and what is reached through
    it would drop out of the digests without a word.

    Parameters
    ----------
    folder : Path
        The folder of the package's modules.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._modules: dict[str, _Module] = {}
        self._digests: dict[str, str] = {}

    def __call__(self, function: str) -> str:
        """Return the digest of ``"folder.module.function"``, 16 hexadecimal digits.

        Raises
        ------
        ValueError
            If the module has no function of that name, or a module that it reaches imports another in a way that
            is not followed.
        """
        if function not in self._digests:
            module, _, name = function.rpartition(".")
            if module not in self._modules_of_package:
                legal = ", ".join(sorted(self._modules_of_package))
                raise ValueError(f"modules of {PACKAGE} are {legal}; found {module!r}")
            definitions = self._module(module).definitions
            if name not in definitions:
                defined = ", ".join(sorted(definitions.keys() - {_ON_IMPORT}))
                raise ValueError(f"{_file(module)} defines {defined}; found {name!r}")
            self._digests[function] = self._digest(module, name)
        return self._digests[function]

    @cached_property
    def _modules_of_package(self) -> frozenset[str]:
        """The package's modules by dotted name, without the ``__init__.py`` files."""
        files = (path.relative_to(self._folder) for path in self._folder.rglob("*.py"))
        return frozenset(".".join(file.with_suffix("").parts) for file in files if file.stem != "__init__")

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            try:
                source = (self._folder / _file(name)).read_text("utf-8")
                self._modules[name] = _Module(source, self._modules_of_package)
            except ValueError as error:
                raise ValueError(f"{_file(name)}: {error}") from error
        return self._modules[name]

    def _digest(self, module: str, name: str) -> str:
        seen: set[tuple[str, str]] = set()
        digests = []
        waiting = [(module, name)]
        while waiting:
            place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            home, name = self._module(place[0]), place[1]
            waiting.append((place[0], _ON_IMPORT))
            if name in home.definitions:
                digests.append(f"{place[0]}.{name} {home.digest(name)}")
                local, foreign = home.reached(name)
                waiting.extend((place[0], other) for other in local)
                waiting.extend(foreign)
            else:
                # a name that this module has from another
                waiting.extend(home.imported.get(name, ()))
        text = "\n".join(sorted(digests))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


# The name under which a module's statements that define nothing (they run on import) are kept.
_ON_IMPORT = ""


class _Module:
    """One module's top-level definitions, and which names each of them uses."""

    def __init__(self, source: str, package: frozenset[str]) -> None:
        tree = _without_docstrings(ast.parse(source))
        self.definitions: dict[str, list[ast.stmt]] = {_ON_IMPORT: []}
        for statement in tree.body:
            for name in _defined(statement):
                self.definitions.setdefault(name, []).append(statement)
        # (module, name) of what imports anywhere in the module bind a name to: functions may differ in that
        self.imported: dict[str, set[tuple[str, str]]] = {}
        for node in ast.walk(tree):
            for bound, place in _bound(node, package):
                self.imported.setdefault(bound, set()).add(place)

    @cache  # noqa: B019 - lives as long as its module's digests
    def digest(self, name: str) -> str:
        """Return the digest of a definition's syntax tree."""
        text = "\n".join(ast.dump(statement) for statement in self.definitions[name])
        return hashlib.sha256(text.encode()).hexdigest()

    @cache  # noqa: B019
    def reached(self, name: str) -> tuple[set[str], set[tuple[str, str]]]:
        """Return the names that a definition uses: those of this module, and (module, name) of others."""
        local, foreign = set(), set()
        for statement in self.definitions[name]:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name):
                    if node.id in self.definitions:
                        local.add(node.id)
                    foreign |= self.imported.get(node.id, set())
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    bound = self.imported.get(node.value.id, set())
                    foreign |= {(home, node.attr) for home, name in bound if name == _ON_IMPORT}
        return local, foreign


def _bound(node: ast.AST, package: frozenset[str]) -> list[tuple[str, tuple[str, str]]]:
    """Return the names that an import from the package binds, each with its module and its name there.

    Raises
    ------
    ValueError
        At an import of the package that is written in another way, or that names a folder.
    """
    if isinstance(node, ast.Import):
        foreign = not any(alias.name.split(".")[0] == PACKAGE for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        foreign = not node.level and (node.module or "").split(".")[0] != PACKAGE
    else:
        return []
    if foreign:
        return []
    legal = f"`from {PACKAGE}.folder import module` or `from {PACKAGE}.folder.module import name`"
    refused = f"imports within the package are written {legal}; found `{ast.unparse(node)}`"
    if isinstance(node, ast.Import) or node.level or node.names[0].name == "*":
        raise ValueError(refused)
    whence = (node.module or "").removeprefix(PACKAGE).removeprefix(".")
    if whence in package:
        return [(alias.asname or alias.name, (whence, alias.name)) for alias in node.names]
    bound = []
    for alias in node.names:
        module = f"{whence}.{alias.name}" if whence else alias.name
        if module in package:
            bound.append((alias.asname or alias.name, (module, _ON_IMPORT)))
        elif whence or any(name.startswith(f"{module}.") for name in package):
            # a folder, or a name that a folder would have to hand on
            raise ValueError(refused)
    return bound


def _defined(statement: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines; imports define none, what else runs is on import."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return []
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        nodes = [node for target in targets for node in ast.walk(target)]
        # TABLE["x"] = ... changes something that is already there
        if not any(isinstance(node, (ast.Subscript, ast.Attribute)) for node in nodes):
            return [node.id for node in nodes if isinstance(node, ast.Name)]
    return [_ON_IMPORT]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = body[1:] or [ast.Pass()]
    return tree


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path: str | Path) -> str | None:
    """Return the SHA-256 of what a result file says, or None for files that are no content.

    HDF5 counts by its arrays and attributes, a skops model by its arrays and structure (the names in it are
    addresses in memory), JSON by its keys without times, tables and pictures by their bytes. Pages, costs and the
    work of unfinished jobs are outside it.
    """
    path = Path(path)
    if path.name.startswith(".") or path.name in {"cost.tsv", "method_costs.csv"}:
        return None
    readers = {
        ".h5": _hdf5_content,
        ".skops": _skops_content,
        ".json": _json_content,
        # written without dates and addresses: see histotransfer.training.results.save_network
        ".keras": file_sha256,
        ".tsv": file_sha256,
        ".csv": file_sha256,
        ".png": file_sha256,
        ".yaml": file_sha256,
    }
    reader = readers.get(path.suffix)
    return reader(path) if reader else None


def _hdf5_content(path: Path) -> str:
    import h5py
    import numpy as np

    digest = hashlib.sha256()

    def add(name: str, node: Any) -> None:
        digest.update(f"\n{name}\n".encode())
        for key in sorted(node.attrs):
            if key not in OUTSIDE_CONTENT:
                value = node.attrs[key]
                digest.update(f"{key}={value.tolist() if hasattr(value, 'tolist') else value!r}\n".encode())
        if isinstance(node, h5py.Dataset):
            digest.update(f"{node.shape} {node.dtype}\n".encode())
            for start in range(0, len(node) if node.shape else 1, 256):
                block = np.asarray(node[start : start + 256] if node.shape else node[()])
                digest.update(repr(block.tolist()).encode() if block.dtype == object else block.tobytes())

    with h5py.File(path, "r") as file:
        add("", file)
        names: list[str] = []
        file.visit(names.append)
        for name in sorted(names):
            add(name, file[name])
    return digest.hexdigest()


def _json_content(path: Path) -> str:
    def kept(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: kept(value) for key, value in node.items() if key not in OUTSIDE_CONTENT}
        return [kept(value) for value in node] if isinstance(node, list) else node

    return hashlib.sha256(json.dumps(kept(json.loads(path.read_text("utf-8"))), sort_keys=True).encode()).hexdigest()


def _skops_content(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        members = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
        schema = json.loads(archive.read("schema.json"))

    numbers: dict[int, int] = {}

    def kept(node: Any) -> Any:
        if isinstance(node, dict):
            # skops numbers its nodes and names its members by addresses in memory
            result = {}
            for key, value in node.items():
                if key == "__id__":
                    result[key] = numbers.setdefault(value, len(numbers))
                elif key == "file":
                    result[key] = members.get(value, value)
                else:
                    result[key] = kept(value)
            return result
        return [kept(value) for value in node] if isinstance(node, list) else node

    return hashlib.sha256(json.dumps(kept(schema), sort_keys=True).encode()).hexdigest()


def folder_digest(folder: str | Path) -> tuple[str, dict[str, str]]:
    """Return one digest of a results folder, and the digest of each file in it by its relative path.

    Folders whose name begins with a dot (unfinished work) are left out.
    """
    folder = Path(folder)
    digests = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(re.match(r"\.", part) for part in relative.parts):
            digest = content_digest(path)
            if digest:
                digests[relative.as_posix()] = digest
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest(), digests
