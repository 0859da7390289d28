"""Random windows of the tiles' pixels, which the baseline ET-FL learns from: a matrix without a network.

Maree, Geurts and Wehenkel (2016, "Towards generic image classification using tree-based learning: an extensive
empirical study", Pattern Recognition Letters 74:17-23) describe an image by square windows of random size at random
places, each reduced to one small size and written as raw values of hue, saturation and value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import seeds
from histotransfer.feature_kinds import Windows
from histotransfer.plain_data import plain
from histotransfer.slides.pixels import resized
from histotransfer.tables.columns import Columns
from histotransfer.tables.slide_files import FileKind, read_contents

_FILES = FileKind("pixel file", content="pixels", use="windows are cut from")

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
    _windows: Windows
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
        for place, tile in self._tiles(rows):
            row = rows[place]
            places = window_places(
                self._windows, image=self.image[row], tile=self.tile[row], master_seed=self._master_seed
            )
            values = cut(tile, places, self._windows.window_px).reshape(-1)
            windows[place] = values if columns is None else values[columns]
        return windows

    def _tiles(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each place in `rows` with its tile, in one array for all, file by file."""
        px = self._windows.px
        tile = np.empty((1, px, px, 3), np.uint8)
        of_row = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(of_row):
            path = self._files[number]
            places = np.flatnonzero(of_row == number)
            with _FILES.opened(path) as file:
                tiles = file["tiles"]
                # in the order of the file, one by one: a list of rows takes h5py tens of times as long
                for place in places[np.argsort(rows[places], kind="stable")].tolist():
                    k = int(rows[place] - self._starts[number])
                    try:
                        tiles.read_direct(tile, np.s_[k : k + 1])
                    except (OSError, ValueError, TypeError) as error:
                        raise ValueError(
                            f"{_FILES.damaged(path)}: tile {self.tile[rows[place]]} gave {error}"
                        ) from error
                    yield place, tile[0]


def open_windows(*, pixels: Sequence[str | Path], windows: Windows, master_seed: int) -> WindowIndex:
    """Read which tiles pixel files hold, so that random windows can be cut from them.

    Parameters
    ----------
    pixels : list of path
        Files of :func:`histotransfer.slides.pixels.write_pixels` or :func:`histotransfer.slides.patches.write_part`;
        those whose status is not ``ok`` hold no tiles and are passed over.
    windows : Windows
        ``px`` is the edge of the files' tiles; ``smallest`` and ``largest`` are edges of windows before they are
        resized, as shares of the tile's, in (0, 1].
    master_seed : int
        The study's seed.

    Returns
    -------
    WindowIndex

    Raises
    ------
    ValueError
        If a setting is not legal, a file is missing, damaged or of another size, a slide has two files, or no file has
        tiles.
    """
    _check(windows)

    def checked(path: Path, file: Any, tile: list[str], image: list[str]) -> Path:
        shape, px = tuple(file["tiles"].shape), int(file.attrs["px"])
        if px != windows.px:
            raise ValueError(f"pixel file {path}: windows are to be cut from tiles of {windows.px} px; found {px} px")
        expected = (len(tile), px, px, 3)
        if shape != expected or len(image) != len(tile):
            raise ValueError(f"{_FILES.damaged(path)}: its tiles must have the shape {expected}; found {shape}")
        return path

    contents = read_contents(pixels, _FILES, checked)
    n_features = windows.windows * windows.window_px**2 * 3
    return WindowIndex(
        tile=contents.tile,
        image=contents.image,
        columns=[Columns(network=SOURCE, layer=LAYER, start=0, stop=n_features)],
        n_features=n_features,
        attributes={
            "network": "",
            "weights": WEIGHTS,
            "untrained": False,
            "layer": LAYER,
            **plain(windows),
            **contents.attributes,
        },
        _windows=windows,
        _files=contents.parts,
        _starts=np.cumsum([0, *contents.n_tiles[:-1]]).astype(np.int64),
        _master_seed=master_seed,
    )


def window_places(windows: Windows, *, image: str, tile: str, master_seed: int) -> np.ndarray:
    """Draw the places of a tile's windows.

    They depend on the seed and the tile's name alone; the first of many windows are those of few.

    Returns
    -------
    ndarray of shape (windows, 3), int64
        Left, top and edge in pixels of the tile: edges uniform between ``smallest`` and ``largest`` (shares of the
        tile's), places uniform among all where the window lies inside the tile.
    """
    # ASSUME: every tile has the same number of windows, drawn once a study, so that the same tile looks the same in
    # every fold, split and repetition; new windows for each would be a second source of chance beside the split.
    drawn = seeds.generator(master_seed, "windows", image, tile).random((windows.windows, 3))
    # ASSUME: whole pixels, and square windows, since the places are then pixels that a reader can look at
    share = windows.smallest + (windows.largest - windows.smallest) * drawn[:, 2]
    size = np.clip(np.rint(share * windows.px), 1, windows.px)
    corner = np.floor(drawn[:, :2] * (windows.px - size + 1)[:, None])
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


def _check(windows: Windows) -> None:
    for name, value in (("windows", windows.windows), ("window_px", windows.window_px)):
        if value < 1:
            raise ValueError(f"{name}: legal are integers of at least 1; found {value}")
    if not 0 < windows.smallest <= windows.largest <= 1:
        raise ValueError(
            "smallest and largest edges of windows are shares of the tile's edge: legal is 0 < smallest <= largest <= "
            f"1; found {windows.smallest} and {windows.largest}"
        )
