"""Files that hold the tiles of one slide each: what all of them state, and the errors that name them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from histotransfer import store

Part = TypeVar("Part")


@dataclass(frozen=True)
class FileKind:
    """What files are and what is done with them, in the words of errors.

    Attributes
    ----------
    name : str
        Such as ``pixel file``.
    content : str
        What they hold of a slide, such as ``pixels``.
    use : str
        Such as ``tiles are read from``.
    having : str
        What a file must have for that.
    """

    name: str
    content: str
    use: str
    having: str = "tiles"

    def opened(self, path: Path) -> Any:
        """Open a file for reading; see :func:`histotransfer.store.opened_hdf5`."""
        return store.opened_hdf5(path, kind=self.name, use=self.use)

    def damaged(self, path: Path) -> str:
        """Return the beginning of a sentence about a damaged file."""
        return store.damaged(path, self.name)

    def missing(self, path: Path) -> ValueError:
        """Return the error of a file that is not there."""
        return store.missing(path, kind=self.name, use=self.use)


@dataclass(frozen=True)
class Contents(Generic[Part]):
    """What the files of slides with tiles hold.

    Attributes
    ----------
    tile, image : list of str
        Each tile and the image it was cut from: files in the order of slide ids, each in that of its tiles.
    n_tiles : list of int
        Of each file.
    parts : list
        What `read_part` of :func:`read_contents` returned of each file.
    attributes : dict
        ``tiles_digests`` by slide, and ``versions`` of the libraries that wrote the files.
    """

    tile: list[str]
    image: list[str]
    n_tiles: list[int]
    parts: list[Part]
    attributes: dict[str, Any]


def read_contents(
    paths: Sequence[str | Path], kind: FileKind, read_part: Callable[[Path, Any, list[str], list[str]], Part]
) -> Contents[Part]:
    """Read which tiles files hold; files whose status is not ``ok`` hold none and are passed over.

    Parameters
    ----------
    paths : list of path
        In any order; each is named by its slide.
    kind : FileKind
    read_part : callable
        ``read_part(path, file, tile, image)`` checks an open file, whose tiles and images are given, and returns what
        else is needed of it.

    Raises
    ------
    ValueError
        If a file is missing or damaged, a slide has two files, or no file has tiles; and what `read_part` raises.
    """
    tile: list[str] = []
    image: list[str] = []
    n_tiles: list[int] = []
    parts: list[Part] = []
    digests: dict[str, str] = {}
    versions: list[dict[str, str]] = []
    path_of: dict[str, Path] = {}
    for path in sorted(map(Path, paths), key=lambda path: path.name):
        slide = path.name.removesuffix(".h5")
        if slide in path_of:
            raise ValueError(
                f"a slide's {kind.content} must stand in one file; found {slide} in {path_of[slide]} and {path}"
            )
        path_of[slide] = path
        with kind.opened(path) as file:
            try:
                if str(file.attrs["status"]) != "ok":
                    continue
                tiles, images = store.read_texts(file, "tile"), store.read_texts(file, "image")
                parts.append(read_part(path, file, tiles, images))
            except KeyError as error:
                raise ValueError(f"{kind.damaged(path)}: {error.args[0]}") from error
            digests[slide] = str(file.attrs.get("tiles_digest", ""))
            versions.append(json.loads(file.attrs.get("versions", "{}")))
        tile += tiles
        image += images
        n_tiles.append(len(tiles))
    if not tile:
        given = ", ".join(map(str, paths)) or "no file"
        raise ValueError(f"{kind.use} {kind.name}s that have {kind.having}; found none in {given}")
    return Contents(tile, image, n_tiles, parts, {"tiles_digests": digests, "versions": joined_versions(versions)})


def joined_versions(stated: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the versions of each library that files state, joined by commas, in alphabetical order."""
    together: dict[str, set[str]] = {}
    for versions in stated:
        for library, version in versions.items():
            together.setdefault(library, set()).add(version)
    return {library: ", ".join(sorted(versions)) for library, versions in sorted(together.items())}
