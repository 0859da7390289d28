"""How results are written: complete or not at all, with what made them.

Every file is written by way of :func:`replacing`. Each attempt writes in a folder of its own, within ``.NAME.part``
beside the target or on the node's own disk, from where the file is copied. The file is flushed to the disk and renamed.
A killed job leaves a part that the next attempt removes, and never half a file under the target's name. Two attempts at
one target never write to the same file.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

#: Attributes and keys that say when or where a file was made. They are not part of its content.
OUTSIDE_CONTENT = frozenset({"mtime"})

#: Seconds after which unfinished work of another machine, whose processes are not seen here, counts as left behind.
_LEFT_BEHIND_S = 24 * 3600.0

#: Seconds after which a file that another machine has finished must have appeared on this one.
LATENCY_S = 5.0

# where work lies before it is copied to its target; None: beside the target
_scratch: Path | None = None


@contextmanager
def working_in(scratch: str | Path | None) -> Iterator[None]:
    """Write files on another disk while the block runs, and copy them to their targets when they are done.

    Parameters
    ----------
    scratch : path or None
        A folder on the node's own disk; None: unfinished files lie beside their targets.
    """
    global _scratch
    before, _scratch = _scratch, Path(scratch) if scratch else None
    try:
        yield
    finally:
        _scratch = before


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` on success; on any error `path` stays as it was.

    Yields
    ------
    Path
        A file of the target's name, in a folder that only this attempt has.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; the message names the target.
    """
    target, scratch = Path(path), _scratch
    places: list[Path] = []
    where = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.part")
        _remove(_left_behind([beside]))
        if scratch:
            where = f" in {scratch}"
            _remove(_left_behind(scratch.glob(".*.part")))
        places.append(_place(scratch or target.parent, target.name))
        work = part = places[0] / target.name
        yield work
        where = ""
        if scratch:
            places.append(_place(target.parent, target.name))
            part = places[1] / target.name
            shutil.copyfile(work, part)
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        if scratch:
            _check_copy(work, part)
        begun = part.parent.stat().st_mtime
        os.replace(part, target)
        # stale attempts: the target is there, and no job waits for another
        _remove(_left_behind([beside], since=begun))
    except OSError as error:
        raise _naming(target, error, where) from error
    finally:
        _remove(places)


def _place(folder: Path, name: str) -> Path:
    """Make a folder for one attempt alone: ``.NAME.part/HOST-PROCESS-RANDOM`` in `folder`."""
    place = folder / f".{name}.part" / f"{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    while True:
        # earlier versions left a file of that name
        if place.parent.is_file():
            place.parent.unlink(missing_ok=True)
        # an attempt that ends at this moment removes the empty folder: before the second call, or during the first,
        # which then finds something, and next that it is not a folder
        with suppress(FileNotFoundError, FileExistsError):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir()
            return place


def _host() -> str:
    return os.uname().nodename.partition(".")[0]


def _left_behind(parts: Iterable[Path], since: float | None = None) -> list[Path]:
    """Return the places in `parts` whose writers have ended.

    On this machine these are processes that do not run, on other machines those that have written nothing since a time,
    by default for a day.
    """
    since = time.time() - _LEFT_BEHIND_S if since is None else since
    places: list[Path] = []
    for part in parts:
        with suppress(FileNotFoundError, NotADirectoryError):
            places += part.iterdir()
    stale = []
    for place in places:
        host, _, process = place.name.rpartition("-")[0].rpartition("-")
        here = host == _host() and process.isdecimal()
        if not _runs(int(process)) if here else _changed(place) < since:
            stale.append(place)
    return stale


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _changed(place: Path) -> float:
    """Return when anything in a folder was last changed, by the clock of its disk; 0 if it is gone."""
    changed = 0.0
    with suppress(FileNotFoundError):
        for path in (place, *place.rglob("*")):
            changed = max(changed, path.lstat().st_mtime)
    return changed


def _remove(places: Iterable[Path]) -> None:
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
        # the last attempt removes their common folder
        with suppress(OSError):
            place.parent.rmdir()


def _check_copy(work: Path, part: Path) -> None:
    """Raise an error if a file was not copied whole."""
    whole, arrived = work.stat().st_size, part.stat().st_size
    if whole != arrived:
        raise OSError(errno.EIO, f"a copy must be as long as its source; {whole} bytes were copied, found {arrived}")


def arrived(path: str | Path) -> bool:
    """Return whether a file is there; wait up to :data:`LATENCY_S`, since a shared disk may show new files late."""
    path, until = Path(path), time.monotonic() + LATENCY_S
    while not path.is_file():
        if time.monotonic() > until:
            return False
        # a network's file system then asks its server anew
        with suppress(OSError):
            os.listdir(path.parent)
        time.sleep(0.2)
    return True


def _naming(target: Path, error: OSError, where: str) -> OSError:
    """Return the error with the target's name, and with the name of the file that it is about if that is another."""
    message = f"{error.strerror or error} (while writing {target}{where})"
    if error.errno is None:
        return OSError(message)
    if error.filename is None or f".{target.name}.part" in Path(str(error.filename)).parts:
        return OSError(error.errno, message)
    return OSError(error.errno, message, error.filename)


def write_json(path: str | Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write `content` as JSON in UTF-8 with sorted keys, complete or not at all."""
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
    """Give an open ``h5py.File`` that becomes `path` on success, with `attributes` and versions.

    The same content gives the same bytes at any time. A value of ``None`` is written as ``""``, lists and dictionaries
    as JSON.
    """
    import h5py

    with replacing(path) as part, open(part, "w+b", buffering=0) as raw:
        disk = _HDF5Disk(raw)
        try:
            with h5py.File(_created(disk)) as file:
                set_attributes(file, {**attributes, "versions": versions()})
                yield file
        finally:
            # any other error after a failed write follows from it
            if disk.error:
                raise disk.error


#: What to do about a file of a rule that cannot be read: part of a sentence.
_AGAIN = "which the same command makes again"


def opened_hdf5(path: Path, *, kind: str, use: str) -> Any:
    """Open a file that a rule has written, for reading.

    Parameters
    ----------
    path : Path
    kind : str
        What the file is, such as ``pixel file``.
    use : str
        What such files are for, such as ``tiles are read from``.

    Returns
    -------
    h5py.File

    Raises
    ------
    ValueError
        If the file is missing or is not an HDF5 file; the message says what to do.
    """
    import h5py

    if not path.is_file():
        raise missing(path, kind=kind, use=use)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{damaged(path, kind)}: {error}") from error


def missing(path: Path, *, kind: str, use: str) -> ValueError:
    """Return the error about a missing file of a rule; see :func:`opened_hdf5`."""
    return ValueError(f"{use} {kind}s, {_AGAIN}; found no file {path}")


def damaged(path: Path, kind: str) -> str:
    """Return the beginning of a sentence about a file of a rule that is damaged; the finding follows."""
    return f"{kind} {path} is damaged: delete the file, {_AGAIN}; found"


def _created(disk: _HDF5Disk) -> Any:
    """Make an HDF5 file of the latest format whose root group holds no times; h5py.File has no option for that."""
    from h5py import h5f, h5fd, h5p

    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5f.LIBVER_LATEST, h5f.LIBVER_LATEST)
    access.set_fileobj_driver(h5fd.fileobj_driver, disk)
    return h5f.create(repr(disk).encode(), h5f.ACC_TRUNC, fapl=access, fcpl=creation)


class _HDF5Disk:
    """A file for HDF5 to write to, which keeps the error of its first failed write and reports success to HDF5.

    HDF5 cannot close a file after a failed write: it reports another error, keeps the file open, and the process ends
    in a segmentation fault (seen with HDF5 1.14 on a full disk). After a failed write HDF5 therefore reads back from
    memory what it has written since. Large blocks are not kept: they hold arrays, which are not read again.
    """

    _LARGE = 1 << 16
    # Linux takes several times longer for each byte of a write of many megabytes (seen with 6.18 and ext4)
    _AT_ONCE = 1 << 20

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        # h5py accepts an object with `read` and `seek` as a file
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


def create_group(node: Any, name: str) -> Any:
    """Make an HDF5 group that holds no times; h5py's own method has no option for that."""
    import h5py

    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(node.id, name.encode(), gcpl=creation))


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
    of_libraries = {name: str(module.__version__) for name, module in loaded.items() if hasattr(module, "__version__")}
    return {"histotransfer": __version__, **of_libraries}
