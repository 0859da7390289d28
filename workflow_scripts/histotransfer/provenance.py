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

    The digest of ``"tissue.write_mask"`` covers the module ``tissue`` and every module of the package that it
    imports, directly or through others, without docstrings and comments. An edited docstring changes no digest.

    Parameters
    ----------
    folder : Path
        The folder of the package's modules.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._modules = cache(self._read_module)
        self._digests = cache(self._module_digest)

    def __call__(self, function: str) -> str:
        """Return the digest of ``"module.function"``, 16 hexadecimal digits.

        Raises
        ------
        ValueError
            If the module has no function of that name.
        """
        module, _, name = function.partition(".")
        tree, _ = self._modules(module)
        defined = sorted(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
        if name not in defined:
            raise ValueError(f"{module}.py has no function {name!r}; it has {', '.join(defined)}")
        return self._digests(module)

    def _read_module(self, module: str) -> tuple[ast.Module, tuple[str, ...]]:
        tree = ast.parse((self._folder / f"{module}.py").read_text("utf-8"))
        imported = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
                imported.add(node.module.split(".")[1])
            elif isinstance(node, ast.Import):
                names = (alias.name.split(".") for alias in node.names)
                imported.update(parts[1] for parts in names if parts[0] == PACKAGE and len(parts) > 1)
        own = {path.stem for path in self._folder.glob("*.py")}
        return _without_docstrings(tree), tuple(sorted(imported & own))

    def _module_digest(self, module: str) -> str:
        reached, waiting = set(), [module]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting.extend(self._modules(name)[1])
        text = "\n".join(f"{name}\n{ast.dump(self._modules(name)[0])}" for name in sorted(reached))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = body[1:]
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
