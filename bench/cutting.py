"""How fast tiles are cut, against the decoder alone and against a loop of OpenSlide's read_region."""

import dataclasses
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from measuring import Row

from histotransfer import store
from histotransfer.definitions import Tiling
from histotransfer.drawn import demo
from histotransfer.drawn.pyramid import write_slide
from histotransfer.slides.grid import read_kept

SIZE = (12000, 9000)
TILING = Tiling(size_px=256, mpp=0.5, tissue_min=0.5)


def rows(folder: Path, repetitions: int) -> Iterator[Row]:
    """Yield the rows about `tile_pixels`."""
    pyramid, flat = _slides(folder)
    native = _Cut(pyramid, size_px=256, px=256)
    ratio = measuring.ratios(native.decode_alone, native.write, repetitions)
    what = f"`tile_pixels`, 256 px at native resolution ({native.n} tiles), against libjpeg-turbo alone"
    yield Row(what, *ratio, bar=0.40)
    yield Row(
        "the same, against a loop of `read_region`",
        *measuring.ratios(native.read_region, native.write, repetitions),
        bar=4,
    )
    for path, word, bar in ((pyramid, "a level of half the resolution", 8), (flat, "level 0 alone", 2.5)):
        cut = _Cut(path, size_px=1000, px=224)
        ratio = measuring.ratios(cut.read_region, cut.write, repetitions)
        yield Row(f"1000 px to 224 with {word} ({cut.n} tiles), against `read_region` and Pillow", *ratio, bar=bar)
        difference = cut.difference()
        yield Row("its mean absolute difference, grey levels", *[difference] * 3, bar=2.5, at_least=False)
    yield _memory(folder, pyramid)


def _slides(folder: Path) -> tuple[Path, Path]:
    """Draw a slide once; return it as a pyramid, and with level 0 alone."""
    import pyvips

    pyramid, flat = folder / "pyramid.tif", folder / "flat.tif"
    if not flat.exists():
        picture = demo.draw_pixels(slide="bench", patient="bench", label="glandular", master_seed=1, size=SIZE)
        write_slide(pyramid, picture)
        image = pyvips.Image.new_from_array(picture)
        options = {"tile": True, "tile_width": 256, "tile_height": 256, "compression": "jpeg", "Q": 80, "resunit": "cm"}
        with store.replacing(flat) as part:
            part.write_bytes(image.tiffsave_buffer(**options, xres=2000, yres=2000))
    return pyramid, flat


class _Cut:
    """One slide cut one way, and what it is compared with on the same tiles."""

    def __init__(self, slide: Path, *, size_px: int, px: int) -> None:
        self.slide, self.px, self.tiling = str(slide), px, dataclasses.replace(TILING, size_px=size_px)
        stem = slide.with_suffix("")
        self.grid, self.pixels = f"{stem}-{size_px}.h5", f"{stem}-{size_px}-{px}.h5"
        about = {"description": f"{stem}.json"}
        measuring.call(
            "slides.reader.inspect_slide",
            slide_file=self.slide,
            slide="bench",
            image_in_sheet="bench",
            path=self.slide,
            sheet_mpp=None,
            missing_mpp="fail",
            **about,
        )
        mask = f"{stem}.png"
        measuring.call(
            "slides.tissue.write_mask",
            slide_file=self.slide,
            mask=mask,
            overlay=f"{stem}.jpg",
            threshold="otsu",
            exclude_pen=False,
            **about,
        )
        measuring.call(
            "slides.grid.write_grid",
            slide_file=self.slide,
            mask=mask,
            grid=self.grid,
            tiling=self.tiling,
            finest_px=px,
            master_seed=1,
            **about,
        )
        kept = read_kept(self.grid)
        self.coords, self.l0_size, self.n = kept.coords, kept.attributes["l0_size"], len(kept.tile)

    def write(self) -> None:
        """The stage as a whole: opening, reading, resizing, HDF5."""
        measuring.call("slides.pixels.write_pixels", **self.arguments(self.grid, self.pixels))

    def arguments(self, grid: str | Path, target: str | Path) -> dict[str, Any]:
        """Return the arguments of the stage for a grid of this slide."""
        return {
            **{"slide_file": self.slide, "grid": str(grid), "pixels": str(target), "px": self.px},
            **{"tiling": self.tiling, "code": "", "threads": 1},
        }

    def read_region(self) -> None:
        """OpenSlide's level 0, tile by tile, reduced by Pillow where the size differs."""
        for _ in self._read_region():
            pass

    def _read_region(self) -> Iterator[np.ndarray]:
        import openslide
        from PIL import Image

        with openslide.OpenSlide(self.slide) as slide:
            for x, y in self.coords.tolist():
                picture = slide.read_region((x, y), 0, (self.l0_size, self.l0_size)).convert("RGB")
                if self.l0_size != self.px:
                    picture = picture.resize((self.px, self.px), Image.Resampling.BILINEAR)
                yield np.asarray(picture)

    def decode_alone(self) -> None:
        """libjpeg-turbo on the raw JPEG tiles that lie under the tiles of a grid of the same size."""
        import simplejpeg
        import tifffile

        with tifffile.TiffFile(self.slide) as tiff, open(self.slide, "rb") as file:
            page = tiff.pages[0]
            across = -(-page.imagewidth // page.tilewidth)
            head = page.jpegtables[:-2] if page.jpegtables else b"\xff\xd8"
            for x, y in self.coords.tolist():
                index = y // page.tilelength * across + x // page.tilewidth
                data = os.pread(file.fileno(), page.databytecounts[index], page.dataoffsets[index])
                simplejpeg.decode_jpeg(head + data[2:])

    def difference(self) -> float:
        """Return the mean absolute difference of what was written from what `read_region` gives, grey levels."""
        import h5py

        with h5py.File(self.pixels, "r") as file:
            written = file["tiles"]
            found = [
                np.abs(written[index].astype(np.int16) - tile).mean() for index, tile in enumerate(self._read_region())
            ]
        return statistics.mean(map(float, found))


def _memory(folder: Path, pyramid: Path) -> Row:
    """Compare the peak memory of cutting 2,000 and 20,000 tiles: one grid, listed once and ten times over."""
    cut = _Cut(pyramid, size_px=256, px=256)
    peaks = []
    for n in (2000, 20000):
        grid, target = folder / f"grid-{n}.h5", folder / f"pixels-{n}.h5"
        _lengthen(cut.grid, grid, n)
        measured = measuring.in_own_process("slides.pixels.write_pixels", **cut.arguments(grid, target))
        peaks.append(measured.mib)
        target.unlink()
    note = f"{peaks[0]:.0f} and {peaks[1]:.0f} MiB"
    ratio = peaks[1] / peaks[0]
    return Row("peak memory of `tile_pixels`, 20,000 tiles against 2,000", ratio, ratio, ratio, 1.1, False, note)


def _lengthen(grid: str, target: Path, n: int) -> None:
    """Write a grid of n kept tiles: those of `grid`, over and over."""
    import h5py

    with h5py.File(grid, "r") as file:
        kept = np.flatnonzero(file["status"][:] == 0)
        chosen = np.resize(kept, n)
        cells = {name: file[name][:][chosen] for name in file}
        attributes = {name: value for name, value in file.attrs.items() if name != "versions"}
    with store.writing_hdf5(target, attributes) as file:
        for name, values in cells.items():
            file.create_dataset(name, data=values)
