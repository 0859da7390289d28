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
from functools import cache
from pathlib import Path
from typing import Any

from histotransfer.store import OUTSIDE_CONTENT

PACKAGE = "histotransfer"


class CodeDigests:
    """Digests of the package's functions, from its syntax trees; nothing is imported.

    The digest of ``"tissue.write_mask"`` covers that function and every function, class and constant of the package
    that it reaches by name, in its own module or through imports, without docstrings and comments. An edited
    docstring changes no digest, nor does a function that this one never reaches. What is looked up by text
    (``getattr`` on a module) is not seen: modules of this package do not do that with one another.

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
        """Return the digest of ``"module.function"``, 16 hexadecimal digits.

        Raises
        ------
        ValueError
            If the module has no function of that name.
        """
        if function not in self._digests:
            module, _, name = function.partition(".")
            definitions = self._module(module).definitions
            if name not in definitions:
                raise ValueError(f"{module}.py defines {', '.join(sorted(definitions))}; found {name!r}")
            self._digests[function] = self._digest(module, name)
        return self._digests[function]

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            own = {path.stem for path in self._folder.glob("*.py")}
            self._modules[name] = _Module((self._folder / f"{name}.py").read_text("utf-8"), own)
        return self._modules[name]

    def _digest(self, module: str, name: str) -> str:
        reached: set[tuple[str, str]] = set()
        waiting = [(module, name)]
        while waiting:
            place = waiting.pop()
            if place in reached:
                continue
            reached.add(place)
            local, foreign = self._module(place[0]).reached(place[1])
            waiting.append((place[0], _ON_IMPORT))
            waiting.extend((place[0], other) for other in local)
            for module_name, other in foreign:
                there = self._module(module_name).definitions
                waiting.append((module_name, other if other in there else _ON_IMPORT))
        text = "\n".join(f"{home}.{name} {self._module(home).digest(name)}" for home, name in sorted(reached))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# The name under which a module's statements that define nothing (they run on import) are kept.
_ON_IMPORT = ""


class _Module:
    """One module's top-level definitions, and which names each of them uses."""

    def __init__(self, source: str, package: set[str]) -> None:
        tree = _without_docstrings(ast.parse(source))
        self.definitions: dict[str, list[ast.stmt]] = {_ON_IMPORT: []}
        for statement in tree.body:
            for name in _defined(statement):
                self.definitions.setdefault(name, []).append(statement)
        # names bound by imports anywhere in the module: to a module of the package, or to a name in one
        self._imported: dict[str, tuple[str, str | None]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
                found = {alias.asname or alias.name: (alias.name, None) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
                home = (node.module or "").split(".")[1]
                found = {alias.asname or alias.name: (home, alias.name) for alias in node.names}
            else:
                continue
            self._imported |= {bound: place for bound, place in found.items() if place[0] in package}

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
                    home, bound = self._imported.get(node.id, (None, None))
                    if home:
                        foreign.add((home, bound or _ON_IMPORT))
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    home, bound = self._imported.get(node.value.id, (None, None))
                    if home and bound is None:
                        foreign.add((home, node.attr))
        return local, foreign


def _defined(statement: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines; imports define none, what else runs is on import."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return []
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
        if names:
            return names
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
    if path.name.startswith(".") or path.name in {"cost.tsv"}:
        return None
    readers = {
        ".h5": _hdf5_content,
        ".skops": _skops_content,
        ".json": _json_content,
        ".tsv": file_sha256,
        ".csv": file_sha256,
        ".png": file_sha256,
        ".yaml": file_sha256,
    }
    reader = readers.get(path.suffix)
    return reader(path) if reader else None


def _hdf5_content(path: Path) -> str:
    import h5py

    digest = hashlib.sha256()

    def add(name: str, node: Any) -> None:
        digest.update(name.encode())
        for key in sorted(node.attrs):
            if key not in OUTSIDE_CONTENT:
                digest.update(f"{key}={node.attrs[key]!r}".encode())
        if isinstance(node, h5py.Dataset):
            digest.update(f"{node.shape}{node.dtype}".encode())
            for start in range(0, len(node), 256):
                block = node[start : start + 256]
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
