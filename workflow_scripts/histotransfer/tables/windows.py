"""Random windows of the tiles' pixels, which the baseline ET-FL learns from: a matrix without a network.

Maree, Geurts and Wehenkel (2016, "Towards generic image classification using tree-based learning: an extensive
empirical study", Pattern Recognition Letters 74:17-23) describe an image by square windows of random size at random
places, each reduced to one small size and written as raw values of hue, saturation and value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import seeds, store
from histotransfer.slides.pixels import resized
from histotransfer.tables.columns import Columns

#: What is read here, and for what: the words of errors.
_KIND, _USE = "pixel file", "windows are cut from"

#: What stands where other features name their network and layer, in words: "windows of the pixels".
SOURCE, LAYER = "the pixels", "windows"

#: What stands where other features name their weights; no network is behind these, and none is untrained.
WEIGHTS = "none: random windows of the pixels"


@dataclass(frozen=True)
class WindowIndex:
    """The tiles of pixel files, and what it takes to read the windows of any of them.

    Windows are cut anew at each reading: a tile's are always the same, whatever is read with it.

    Attributes
    ----------
    tile, image : list of str
        Each row's tile and the image it was cut from: files in the order of slide ids, each in that of its tiles.
    columns : list of Columns
        One entry for all columns.
    n_features : int
        ``windows * window_px * window_px * 3``: window by window, row by row, pixel by pixel: hue, saturation, value.
    attributes : dict
        As :attr:`histotransfer.tables.feature_matrix.MatrixIndex.attributes`: network "", weights :data:`WEIGHTS`,
        untrained False, ``tiles_digests`` by slide, ``versions`` of the libraries that made the pixels, and the
        settings.
    """

    tile: list[str]
    image: list[str]
    columns: list[Columns]
    n_features: int
    attributes: dict[str, Any]
    _files: list[Path]
    _starts: np.ndarray
    _master_seed: int

    def read(self, rows: np.ndarray | None = None, columns: np.ndarray | None = None) -> np.ndarray:
        """Cut the windows of some tiles; nothing is held but one tile and what is returned.

        Parameters
        ----------
        rows : ndarray of int, shape (n,), optional
            All rows by default.
        columns : ndarray of int, optional
            All columns by default.

        Returns
        -------
        ndarray of shape (n, n_columns), uint8
            In the order of `rows` and `columns`.

        Raises
        ------
        ValueError
            If a file cannot be read any more, naming it.
        """
        rows = np.arange(len(self.tile)) if rows is None else np.asarray(rows)
        windows = np.empty((len(rows), self.n_features if columns is None else len(columns)), np.uint8)
        said = self.attributes
        for place, tile in self._tiles(rows):
            row = rows[place]
            places = window_places(
                image=self.image[row],
                tile=self.tile[row],
                px=said["px"],
                windows=said["windows"],
                smallest=said["smallest"],
                largest=said["largest"],
                master_seed=self._master_seed,
            )
            values = cut(tile, places, said["window_px"]).reshape(-1)
            windows[place] = values if columns is None else values[columns]
        return windows

    def _tiles(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each place in `rows` with its tile, in one array for all, file by file."""
        px = self.attributes["px"]
        tile = np.empty((1, px, px, 3), np.uint8)
        of_row = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(of_row):
            path = self._files[number]
            places = np.flatnonzero(of_row == number)
            with _opened(path) as file:
                tiles = file["tiles"]
                # in the order of the file, one by one: a list of rows takes h5py tens of times as long
                for place in places[np.argsort(rows[places], kind="stable")].tolist():
                    k = int(rows[place] - self._starts[number])
                    try:
                        tiles.read_direct(tile, np.s_[k : k + 1])
                    except (OSError, ValueError, TypeError) as error:
                        raise ValueError(f"{_damaged(path)}: tile {self.tile[rows[place]]} gave {error}") from error
                    yield place, tile[0]


def open_windows(
    *,
    pixels: Sequence[str | Path],
    px: int,
    windows: int,
    window_px: int,
    smallest: float,
    largest: float,
    master_seed: int,
) -> WindowIndex:
    """Read which tiles pixel files hold, so that random windows can be cut from them.

    Parameters
    ----------
    pixels : list of path
        Files of :func:`histotransfer.slides.pixels.write_pixels` or :func:`histotransfer.slides.patches.write_part`;
        those whose status is not ``ok`` hold no tiles and are passed over.
    px : int
        Edge of the tiles in pixels.
    windows : int
        Windows of a tile.
    window_px : int
        Edge that each window is resized to, in pixels.
    smallest, largest : float
        Edges of windows before they are resized, as shares of the tile's: in (0, 1].
    master_seed : int
        The study's seed.

    Returns
    -------
    WindowIndex

    Raises
    ------
    ValueError
        If a setting is not legal, a file is missing, damaged or of another size, a slide stands in two files, or no
        file has tiles.
    """
    _check(windows=windows, window_px=window_px, smallest=smallest, largest=largest)
    files, counts = [], []
    tile: list[str] = []
    image: list[str] = []
    tiles_digests = {}
    versions: dict[str, set[str]] = {}
    file_of: dict[str, Path] = {}
    for path in sorted(map(Path, pixels), key=lambda path: path.name):
        slide = path.name.removesuffix(".h5")
        if slide in file_of:
            raise ValueError(f"a slide's pixels must stand in one file; found {slide} in {file_of[slide]} and {path}")
        file_of[slide] = path
        with _opened(path) as file:
            try:
                if str(file.attrs["status"]) != "ok":
                    continue
                shape = tuple(file["tiles"].shape)
                found = int(file.attrs["px"])
                if found != px:
                    raise ValueError(
                        f"pixel file {path}: windows are to be cut from tiles of {px} px; found {found} px"
                    )
                tile += store.read_texts(file, "tile")
                image += store.read_texts(file, "image")
                known = json.loads(file.attrs.get("versions", "{}"))
            except KeyError as error:
                raise ValueError(f"{_damaged(path)}: {error.args[0]}") from error
            tiles_digests[slide] = str(file.attrs.get("tiles_digest", ""))
        expected = (len(tile) - sum(counts), px, px, 3)
        if shape != expected or len(image) != len(tile):
            raise ValueError(f"{_damaged(path)}: its tiles must have the shape {expected}; found {shape}")
        files.append(path)
        counts.append(shape[0])
        for library, version in known.items():
            versions.setdefault(library, set()).add(version)
    if not tile:
        given = ", ".join(map(str, pixels)) or "no file"
        raise ValueError(f"windows are cut from pixel files that have tiles; found none in {given}")
    n_features = windows * window_px * window_px * 3
    return WindowIndex(
        tile=tile,
        image=image,
        columns=[Columns(network=SOURCE, layer=LAYER, start=0, stop=n_features)],
        n_features=n_features,
        attributes={
            "network": "",
            "weights": WEIGHTS,
            "untrained": False,
            "layer": LAYER,
            "px": px,
            "windows": windows,
            "window_px": window_px,
            "smallest": smallest,
            "largest": largest,
            "tiles_digests": tiles_digests,
            "versions": {library: ", ".join(sorted(found)) for library, found in sorted(versions.items())},
        },
        _files=files,
        _starts=np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64),
        _master_seed=master_seed,
    )


def window_places(
    *, image: str, tile: str, px: int, windows: int, smallest: float, largest: float, master_seed: int
) -> np.ndarray:
    """Draw the places of a tile's windows.

    They depend on the seed and the tile's name alone; the first of many windows are those of few.

    Returns
    -------
    ndarray of shape (windows, 3), int64
        Left, top and edge in pixels of the tile: edges uniform between `smallest` and `largest` (shares of the
        tile's), places uniform among all where the window lies inside the tile.
    """
    # ASSUME: every tile has the same number of windows, drawn once a study, so that the same tile looks the same in
    # every fold, split and repetition; new windows for each would be a second source of chance beside the split.
    drawn = seeds.generator(master_seed, "windows", image, tile).random((windows, 3))
    # ASSUME: whole pixels, and square windows, since the places are then pixels that a reader can look at
    size = np.clip(np.rint((smallest + (largest - smallest) * drawn[:, 2]) * px), 1, px)
    corner = np.floor(drawn[:, :2] * (px - size + 1)[:, None])
    return np.column_stack([corner, size]).astype(np.int64)


def cut(tile: np.ndarray, places: np.ndarray, window_px: int) -> np.ndarray:
    """Cut windows out of a tile, resize them and describe their pixels by hue, saturation and value.

    Parameters
    ----------
    tile : ndarray of shape (px, px, 3), uint8
        RGB.
    places : ndarray of shape (n, 3), int
        Left, top, edge (:func:`window_places`).
    window_px : int

    Returns
    -------
    ndarray of shape (n, window_px, window_px, 3), uint8
        Each of hue, saturation and value from 0 to 255 (hue: 256ths of the full circle; 0 where there is no colour).
    """
    from PIL import Image

    windows = np.empty((len(places), window_px, window_px, 3), np.uint8)
    for window, (left, top, size) in zip(windows, places.tolist(), strict=True):
        # cut first: no pixel outside a window has a part in it. Resized as tiles are, in RGB: the mean of two hues on
        # both sides of red would be cyan
        window[:] = resized(tile[top : top + size, left : left + size], window_px)
    # ASSUME: 8 bits of hue, saturation and value, as Pillow has them. Trees compare one value with one threshold, so
    # its unit is of no consequence; the jump of hue at red, from 255 to 0, is the method's own.
    column = Image.fromarray(windows.reshape(-1, window_px, 3))
    return np.asarray(column.convert("HSV")).reshape(windows.shape)


def _check(*, windows: int, window_px: int, smallest: float, largest: float) -> None:
    for name, value in (("windows", windows), ("window_px", window_px)):
        if value < 1:
            raise ValueError(f"{name}: legal are integers of at least 1; found {value}")
    if not 0 < smallest <= largest <= 1:
        raise ValueError(
            "smallest and largest edges of windows are shares of the tile's edge: legal is 0 < smallest <= largest <= "
            f"1; found {smallest} and {largest}"
        )


def _opened(path: Path) -> Any:
    return store.opened_hdf5(path, kind=_KIND, use=_USE)


def _damaged(path: Path) -> str:
    return store.damaged(path, _KIND)
