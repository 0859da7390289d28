"""The grid of tiles on a slide: where they lie, how much tissue they hold, which are kept, and why not the others.

Decided on a low pyramid level, before any full-resolution pixel is read. Lengths in micrometres end in ``_um``,
pixels of level 0 begin with ``l0_``; ``col, row`` count grid cells.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer import seeds, store
from histotransfer.definitions import Tiling
from histotransfer.slides import reader, tissue

#: What became of a grid cell; the order gives the codes in the file.
STATUSES = ("kept", "background", "homogeneous", "capped")


@dataclass(frozen=True)
class TileSize:
    """A tile's size on the slide.

    Attributes
    ----------
    um : float
        Edge length in micrometres.
    l0 : int
        Edge length in pixels of level 0.
    """

    um: float
    l0: int


def tile_size(tiling: Tiling, mpp: float) -> TileSize:
    """Return the size of a tiling's tiles on a slide.

    Parameters
    ----------
    tiling : Tiling
        With ``size_um``, or ``size_px`` and ``mpp``.
    mpp : float
        The slide's micrometres per pixel of level 0.
    """
    if tiling.size_um:
        um = float(tiling.size_um)
        return TileSize(um, round(um / mpp))
    # within the tolerance the slide's own pixels are the asked ones, and none is resampled
    near = abs(mpp - tiling.mpp) <= reader.RESOLUTION_TOLERANCE * tiling.mpp
    l0 = tiling.size_px if near else round(tiling.size_px * tiling.mpp / mpp)
    return TileSize(l0 * mpp, l0)


def refuse_upsampling(*, slide: str, size: TileSize, px: int, mpp: float) -> None:
    """Raise if a tile of `px` pixels would be finer than the slide.

    Raises
    ------
    ValueError
        Naming the slide, both resolutions and the remedies.
    """
    if px > size.l0 * (1 + reader.RESOLUTION_TOLERANCE):
        raise ValueError(
            f"slide {slide}: tiles of {size.um:g} um reduced to {px} px ask for {size.um / px:.4g} um a pixel, finer "
            f"than the slide's {mpp:.4g}; take larger tiles (at least {px * mpp:.4g} um), a smaller px of the network, "
            f"or set upsample: true in the tiling; tiles here have {size.l0} px of level 0"
        )


def place_grid(
    l0_bounds: tuple[int, int, int, int], l0_size: int, l0_step: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return ``col, row, l0_x, l0_y`` of every complete tile inside the scanned part, row by row.

    Parameters
    ----------
    l0_bounds : tuple of int
        (x, y, width, height) of the scanned part.
    l0_size, l0_step : int
        Edge of a tile, and the distance from one to the next.

    Examples
    --------
    >>> [list(map(int, column)) for column in place_grid((0, 0, 500, 300), 200, 200)]
    [[0, 1], [0, 0], [0, 200], [0, 0]]
    """
    x, y, width, height = l0_bounds
    n_cols = max(0, (width - l0_size) // l0_step + 1)
    n_rows = max(0, (height - l0_size) // l0_step + 1)
    row, col = (plane.ravel().astype(np.int32) for plane in np.mgrid[:n_rows, :n_cols])
    return col, row, x + col.astype(np.int64) * l0_step, y + row.astype(np.int64) * l0_step


def area_means(picture: np.ndarray, l0_x: np.ndarray, l0_y: np.ndarray, l0_size: int, downsample: float) -> np.ndarray:
    """Return the mean of a picture under each tile, edges counted by the share of the pixel that they cover.

    A tile that reaches beyond the picture, by the rounding of a level's size, has the mean of what is on it.

    Parameters
    ----------
    picture : ndarray of shape (h, w), bool or float
        One value per overview pixel.
    l0_x, l0_y : ndarray of shape (n,), int
    l0_size : int
    downsample : float
        Level-0 pixels per pixel of `picture`.

    Returns
    -------
    ndarray of shape (n,), float32

    Notes
    -----
    A summed-area table (Crow 1984), read between its entries: exact, since it is linear inside a pixel.
    """
    height, width = picture.shape
    table = np.zeros((height + 1, width + 1), np.float64)
    np.cumsum(np.cumsum(picture, axis=0, dtype=np.float64), axis=1, out=table[1:, 1:])

    def corner(l0_px: np.ndarray, l0_py: np.ndarray) -> np.ndarray:
        px, py = np.clip(l0_px / downsample, 0, width), np.clip(l0_py / downsample, 0, height)
        left, top = np.minimum(px.astype(int), width - 1), np.minimum(py.astype(int), height - 1)
        dx, dy = px - left, py - top
        upper = table[top, left] * (1 - dx) + table[top, left + 1] * dx
        lower = table[top + 1, left] * (1 - dx) + table[top + 1, left + 1] * dx
        return upper * (1 - dy) + lower * dy

    right, bottom = l0_x + l0_size, l0_y + l0_size
    total = corner(right, bottom) - corner(l0_x, bottom) - corner(right, l0_y) + corner(l0_x, l0_y)
    across = np.minimum(right / downsample, width) - l0_x / downsample
    down = np.minimum(bottom / downsample, height) - l0_y / downsample
    return np.clip(total / (across * down), 0.0, 1.0).astype(np.float32)


def homogeneity_map(picture: np.ndarray, measure: str) -> np.ndarray:
    """Return the picture whose mean under a tile is the tile's homogeneity.

    Parameters
    ----------
    picture : ndarray of shape (h, w, 3), uint8
        The slide at low resolution.
    measure : {'bright', 'glcm'}
        ``bright``: 1 where a pixel is brighter than the slide's Otsu threshold of luminance, so that the mean is the
        share of bright pixels (Kieffer et al. 2017, in words). ``glcm``: 1 / (1 + d^2) with d the difference of grey
        levels (of 0..255) between horizontal and vertical neighbours, so that the mean is the inverse difference
        moment of the grey-level co-occurrence matrix (Haralick, Shanmugam and Dinstein 1973, feature 5).

    Returns
    -------
    ndarray of shape (h, w), float32
    """
    # grey levels by the luma of ITU-R BT.601, as in PIL's conversion to "L"
    grey = np.rint(picture @ np.array([0.299, 0.587, 0.114], np.float32))
    if measure == "bright":
        return (grey > tissue.otsu_threshold(grey.astype(np.uint8))).astype(np.float32)
    result = np.empty_like(grey)
    across = 1.0 / (1.0 + np.diff(grey, axis=1, append=grey[:, -1:]) ** 2)
    down = 1.0 / (1.0 + np.diff(grey, axis=0, append=grey[-1:]) ** 2)
    np.mean([across, down], axis=0, out=result)
    return result


def write_grid(
    *,
    slide_file: str | list[str],
    description: str,
    mask: str,
    grid: str,
    tiling: Tiling,
    finest_px: int,
    master_seed: int,
) -> None:
    """Write every grid cell of a slide with its tissue fraction, its homogeneity and what became of it.

    Parameters
    ----------
    slide_file : path, or empty list
    description, mask : path
        What :func:`histotransfer.slides.reader.inspect_slide` and :func:`histotransfer.slides.tissue.write_mask` wrote.
    grid : path
        The HDF5 file to write: ``col``, ``row`` int32, ``l0_x``, ``l0_y`` int64, ``tissue``, ``homogeneity`` float32,
        ``status`` uint8 (codes of :data:`STATUSES`), each of shape (n_cells,).
    tiling : Tiling
    finest_px : int
        The largest number of pixels across that a network of the study wants of a tile.
    master_seed : int
        For the draw of ``max_tiles_per_slide``.

    Raises
    ------
    ValueError
        If a network wants finer pixels than the slide has, and the tiling does not say ``upsample: true``.
    """
    known = store.read_json(description)
    tissue_mask, mask_attributes = tissue.read_mask(mask)
    status, reason = mask_attributes["status"], mask_attributes["reason"]
    attributes = {"slide": known["slide"], "image_in_sheet": known["image_in_sheet"], "status_names": list(STATUSES)}
    overview = None
    if status == "ok":
        try:
            overview = _Overview.read(slide_file, known["mpp"])
        except reader.UnreadableSlideError as error:
            status, reason = "unreadable", str(error)
    if overview is None:
        _write(grid, {**attributes, "status": status, "reason": reason}, _no_cells())
        return
    size = tile_size(tiling, known["mpp"])
    if not tiling.upsample:
        refuse_upsampling(slide=known["image_in_sheet"], size=size, px=finest_px, mpp=known["mpp"])
    l0_step = max(1, round(size.l0 * (1 - tiling.overlap)))
    cells = _cells(overview, tissue_mask, float(mask_attributes["downsample"]), size.l0, l0_step, tiling.homogeneity)
    cells["status"] = judge(cells, tiling=tiling, slide=known["slide"], master_seed=master_seed)
    kept = cells["status"] == 0
    # a quickhash covers the lowest level alone: a file of another length is another slide
    identity = f"{known['quickhash']} {known['bytes']}"
    attributes |= {
        **_outcome(kept, overview.l0_bounds, size.l0, tiling.max_tiles_per_slide),
        "l0_size": size.l0,
        "l0_step": l0_step,
        "size_um": size.um,
        "mpp": known["mpp"],
        "mpp_source": known["mpp_source"],
        "tiles_digest": tiles_digest(identity, size.l0, cells["l0_x"][kept], cells["l0_y"][kept]),
    }
    _write(grid, attributes, cells)


@dataclass(frozen=True)
class _Overview:
    """A slide at low resolution: its picture, uint8 (h, w, 3), level-0 pixels per pixel of it, the scanned part."""

    picture: np.ndarray
    downsample: float
    l0_bounds: tuple[int, int, int, int]

    @classmethod
    def read(cls, slide_file: str | list[str], mpp: float) -> _Overview:
        with reader.Slide(slide_file) as slide:
            return cls(*slide.overview(tissue.OVERVIEW_UM / mpp), slide.l0_bounds)


def _cells(
    overview: _Overview, tissue_mask: np.ndarray, mask_downsample: float, l0_size: int, l0_step: int, homogeneity: str
) -> dict[str, np.ndarray]:
    """Return the columns of the grid's file, without what became of each cell."""
    col, row, l0_x, l0_y = place_grid(overview.l0_bounds, l0_size, l0_step)
    measured = homogeneity_map(overview.picture, "bright" if homogeneity == "none" else homogeneity)
    return {
        "col": col,
        "row": row,
        "l0_x": l0_x,
        "l0_y": l0_y,
        "tissue": area_means(tissue_mask, l0_x, l0_y, l0_size, mask_downsample),
        "homogeneity": area_means(measured, l0_x, l0_y, l0_size, overview.downsample),
    }


def _outcome(kept: np.ndarray, l0_bounds: tuple[int, int, int, int], l0_size: int, asked: int | None) -> dict[str, str]:
    """Return status, reason and notice of a slide by which of its cells are kept."""
    n = int(kept.sum())
    if n:
        notice = f"{n} tiles, {asked} asked" if asked and n < asked else ""
        return {"status": "ok", "reason": "", "notice": notice}
    reason = f"none of {len(kept)} tiles passes the tissue and homogeneity filters"
    if not len(kept):
        reason = f"the scanned part, {l0_bounds[2]} x {l0_bounds[3]} px, is smaller than one tile of {l0_size} px"
    return {"status": "no tissue", "reason": reason, "notice": ""}


def judge(cells: dict[str, np.ndarray], *, tiling: Tiling, slide: str, master_seed: int) -> np.ndarray:
    """Return the status code of every cell: background, homogeneous, then what the cap leaves out.

    A cap keeps the cells whose hash of (seed, slide, col, row) is lowest, so that a changed threshold moves few.
    """
    status = np.zeros(len(cells["col"]), np.uint8)
    if tiling.homogeneity != "none":
        status[cells["homogeneity"] >= tiling.homogeneity_drop_at] = STATUSES.index("homogeneous")
    status[cells["tissue"] < (tiling.tissue_min or 0)] = STATUSES.index("background")
    cap = tiling.max_tiles_per_slide
    kept = np.flatnonzero(status == 0)
    if cap and len(kept) > cap:
        places = [seeds.unit_hash(master_seed, "cap", slide, cells["col"][i], cells["row"][i]) for i in kept]
        status[kept[np.argsort(places)[cap:]]] = STATUSES.index("capped")
    return status


def tiles_digest(identity: str, l0_size: int, l0_x: np.ndarray, l0_y: np.ndarray) -> str:
    """Return the digest of a tile set: which slide, how large, where. Features of equal digests can be merged."""
    digest = hashlib.sha256(f"{identity} {l0_size}".encode())
    digest.update(np.ascontiguousarray(np.stack([l0_x, l0_y]), dtype="<i8").tobytes())
    return digest.hexdigest()


def _no_cells() -> dict[str, np.ndarray]:
    whole, real = np.empty(0, np.int64), np.empty(0, np.float32)
    cells = {"col": whole.astype(np.int32), "row": whole.astype(np.int32), "l0_x": whole, "l0_y": whole}
    return {**cells, "tissue": real, "homogeneity": real, "status": np.empty(0, np.uint8)}


def _write(path: str, attributes: dict[str, Any], cells: dict[str, np.ndarray]) -> None:
    with store.writing_hdf5(path, attributes) as file:
        for name, values in cells.items():
            file.create_dataset(name, data=values)


@dataclass(frozen=True)
class KeptTiles:
    """The tiles of one slide that are cut, with what is known of the slide.

    Attributes
    ----------
    tile : list of str
        Ids, ``col_row``.
    coords : ndarray of shape (n, 2), int64
        Level-0 x and y of the upper left corner.
    attributes : dict
        The grid file's attributes.
    """

    tile: list[str]
    coords: np.ndarray
    attributes: dict[str, Any]


def read_kept(path: str) -> KeptTiles:
    """Read the kept tiles of a grid that :func:`write_grid` wrote; none for an unusable slide."""
    import h5py

    with h5py.File(path, "r") as file:
        kept = file["status"][:] == STATUSES.index("kept")
        col, row = file["col"][:][kept], file["row"][:][kept]
        coords = np.stack([file["l0_x"][:][kept], file["l0_y"][:][kept]], axis=1)
        attributes = {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}
    return KeptTiles([f"{c}_{r}" for c, r in zip(col, row, strict=True)], coords, attributes)
