"""How results lie on disk: complete or absent, and saying what made them.

Every writer of this project goes through :func:`replacing`: it writes ``.NAME.part`` beside the target,
flushes it to the disk and renames it. A killed job leaves a part that the next attempt removes, never
half a file under the target's name.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

#: Attributes and keys that say when or where a file was made. They are no part of its content.
OUTSIDE_CONTENT = frozenset({"mtime"})


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a path to write to; on success it becomes `path`, on any error nothing does.

    Yields
    ------
    Path
        ``.NAME.part`` beside the target. Its suffix tells no format: name the format to the writer.

    Raises
    ------
    OSError
        With the target's name in it, when the disk is full or the folder cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    try:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _naming(target, error, part) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _naming(target: Path, error: OSError, part: Path) -> OSError:
    """Return the error with the target's name in it, and with the name of another file that it is about."""
    said = f"{error.strerror or error} (while writing {target})"
    if error.errno is None:
        return OSError(said)
    if error.filename in (None, str(part)):
        return OSError(error.errno, said)
    return OSError(error.errno, said, error.filename)


def write_json(path: str | Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write `content` as UTF-8 JSON with sorted keys, complete or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: str | Path) -> Any:
    """Read what :func:`write_json` wrote."""
    return json.loads(Path(path).read_text("utf-8"))


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows` as a tab-separated table: a header line, ``\\n`` line ends (in cells too), floats by ``repr``."""
    _write_separated(path, columns, rows, "\t")


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows` as :func:`write_table` does, separated by commas (RFC 4180): the numbers behind a figure."""
    _write_separated(path, columns, rows, ",")


def _write_separated(
    path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], separator: str
) -> None:
    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter=separator, lineterminator="\n", extrasaction="raise")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(row.get(name)) for name in columns})


def _cell(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return repr(float(value))
    if isinstance(value, str):
        # a carriage return without quotes, as the csv module writes it, ends the row when it is read
        return value.replace("\r\n", "\n").replace("\r", "\n")
    return "" if value is None else value


def read_table(path: str | Path) -> list[dict[str, str]]:
    """Read a table of :func:`write_table`; every cell is text."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Read a table of :func:`write_csv`; every cell is text."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def writing_hdf5(path: str | Path, attributes: Mapping[str, Any]) -> Iterator[Any]:
    """Give an open ``h5py.File`` that becomes `path` on success, with `attributes` and versions on it.

    Nothing in the file depends on the time it was written. A value of ``None`` is written as ``""``,
    lists and dictionaries as JSON.
    """
    import h5py

    with replacing(path) as part, open(part, "w+b", buffering=0) as raw:
        disk = _HDF5Disk(raw)
        try:
            with h5py.File(disk, "w", libver="latest") as file:
                set_attributes(file, {**attributes, "versions": versions()})
                yield file
        finally:
            # whatever else goes wrong after a failed write is its consequence
            if disk.error:
                raise disk.error


class _HDF5Disk:
    """A file for HDF5 to write to, which remembers its first failed write and goes on as if nothing had happened.

    HDF5 cannot close a file of which a write failed: it reports another error, keeps the file open, and the process
    ends in a segmentation fault (seen with HDF5 1.14 on a full disk). So HDF5 does not hear of it, and reads what it
    thinks to have written: from memory, but for large blocks, which hold arrays and are not read again.
    """

    _LARGE = 1 << 16
    # Linux takes several times longer for each byte of a write of many megabytes (seen with 6.18 and ext4)
    _AT_ONCE = 1 << 20

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        # h5py takes what has `read` and `seek` for a file
        self.read, self.seek, self.tell, self.flush = raw.read, raw.seek, raw.tell, raw.flush
        self.error: OSError | None = None
        self._unwritten: dict[int, bytes] = {}

    def write(self, data: Any) -> int:
        data = memoryview(data).cast("B")
        start, written = self._raw.tell(), 0
        try:
            while written < len(data) and not self.error:
                written += self._raw.write(data[written : written + self._AT_ONCE])
        except OSError as error:
            self.error = error
        if self.error:
            self._unwritten.pop(start, None)
            if len(data) < self._LARGE:
                self._unwritten[start] = bytes(data)
            self._raw.seek(start + len(data))
        return len(data)

    def readinto(self, buffer: Any) -> int:
        if not self.error:
            return self._raw.readinto(buffer)
        buffer = memoryview(buffer).cast("B")
        start = self._raw.tell()
        there = self._raw.readinto(buffer)
        buffer[there:] = bytes(len(buffer) - there)
        for place, data in self._unwritten.items():
            first, last = max(start, place), min(start + len(buffer), place + len(data))
            if first < last:
                buffer[first - start : last - start] = data[first - place : last - place]
        self._raw.seek(start + len(buffer))
        return len(buffer)

    def truncate(self, size: int) -> int:
        try:
            return size if self.error else self._raw.truncate(size)
        except OSError as error:
            self.error = error
            return size


def set_attributes(node: Any, attributes: Mapping[str, Any]) -> None:
    """Set HDF5 attributes on a file, group or dataset; lists and dictionaries become JSON."""
    for name, value in attributes.items():
        if value is None:
            value = ""
        elif isinstance(value, (dict, list, tuple)):
            value = json.dumps(value, sort_keys=True, ensure_ascii=False)
        node.attrs[name] = value


def write_texts(node: Any, name: str, texts: Iterable[str]) -> None:
    """Write strings as a variable-length UTF-8 dataset `name` of shape (n,)."""
    import h5py

    texts = list(texts)
    data = np.array(texts, dtype=object) if texts else np.empty(0, dtype=object)
    node.create_dataset(name, data=data, shape=(len(texts),), dtype=h5py.string_dtype())


def read_texts(node: Any, name: str) -> list[str]:
    """Read what :func:`write_texts` wrote."""
    return list(node[name].asstr()[:])


def versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries that this process has loaded."""
    import sys

    from histotransfer import __version__

    known = ("numpy", "h5py", "openslide", "simplejpeg", "pyvips", "PIL")
    known += ("sklearn", "keras", "tensorflow", "openvino", "jax", "torch")
    loaded = {name: sys.modules[name] for name in known if name in sys.modules}
    found = {name: str(module.__version__) for name, module in loaded.items() if hasattr(module, "__version__")}
    return {"histotransfer": __version__, **found}
