"""Files of tiles and of images at their own shape, with pixels at random."""

from __future__ import annotations

import numpy as np
from PIL import Image

from histotransfer import store
from histotransfer.sheets import samples
from histotransfer.slides import image_files


def noise(n=1, px=8, seed=0):
    """Return tiles of random pixels: ndarray of shape (n, px, px, 3), uint8."""
    return np.random.default_rng(seed).integers(0, 256, (n, px, px, 3), np.uint8)


def write_pixels(path, tiles, *, tile=None, image=None, chunked=False, **attributes):
    """Write a pixel file as the rules do: of slides in one piece, of tables one tile a chunk."""
    names = {"tile": tile or [f"{k}_0" for k in range(len(tiles))], "image": image or [path.stem] * len(tiles)}
    said = {"status": "ok", "reason": "", "px": tiles.shape[1], "digest": "d", "tiles_digest": f"tiles of {path.stem}"}
    with store.writing_hdf5(path, {**said, **attributes}) as file:
        shape = {"maxshape": (None, *tiles.shape[1:]), "chunks": (1, *tiles.shape[1:])} if chunked else {}
        file.create_dataset("tiles", data=tiles, **shape)
        for name, texts in names.items():
            store.write_texts(file, name, texts)
    return str(path)


def picture(height, width, seed=0):
    """Return random pixels: ndarray of shape (height, width, 3), uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_images(folder, pictures, *, px, grayscale=False, also=(), name="part-00.h5"):
    """Write pictures as PNG and the file of images of them all; return its path."""
    folder.mkdir(exist_ok=True)
    rows = ["tile\tpath\timage\tlabel"]
    for k, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{k}.png")
        rows.append(f"t{k}\t{k}.png\timage-{k}\tx")
    rows += [f"{path}\t{path}\t{path}\tx" for path in also]
    sheet = folder / "sheet.tsv"
    sheet.write_text("\n".join(rows) + "\n")
    about = {"sheet": str(sheet), "kind": "patches", "root": str(folder)}
    table = str(folder / "table.json")
    samples.check_table(table_file=table, **about)
    about |= {"table": table, "part": "part-00", "n_parts": 1, "px": px, "grayscale": grayscale}
    image_files.write_images(images=str(folder / name), **about)
    return str(folder / name), about
