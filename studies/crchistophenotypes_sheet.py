"""Write the sample sheet of CRCHistoPhenotypes (Sirinukunwattana et al. 2016): one row a nucleus that has a type.

In FOLDER lies what the folder Classification of the published archive holds: img1/img1.bmp and beside it
img1_epithelial.mat, img1_fibroblast.mat, img1_inflammatory.mat and img1_others.mat, to img100. Each of these has a
matrix `detection` of two columns, x and y of the nuclei's centres.

Usage: python studies/crchistophenotypes_sheet.py FOLDER
"""

import sys
from pathlib import Path

TYPES = ("epithelial", "fibroblast", "inflammatory", "others")


def write_sheet(folder: str) -> None:
    """Write FOLDER/sheet.tsv with columns image, path, x, y and label."""
    from scipy.io import loadmat

    images = sorted(Path(folder).glob("img*/img*.bmp"), key=lambda path: (len(path.stem), path.stem))
    if not images:
        raise SystemExit(f"{folder}: must hold img1/img1.bmp and on; found no such file")
    n = 0
    with open(Path(folder, "sheet.tsv"), "w", encoding="utf-8") as sheet:
        print("image", "path", "x", "y", "label", sep="\t", file=sheet)
        for image in images:
            for kind in TYPES:
                marked = loadmat(image.with_name(f"{image.stem}_{kind}.mat"))["detection"]
                for x, y in marked.reshape(-1, 2).tolist():
                    # ASSUME centres are counted from 1, as Matlab does: the sheet's begin with 0
                    place = (max(0.0, x - 1), max(0.0, y - 1))
                    print(image.stem, image.relative_to(folder), *map("{:g}".format, place), kind, sep="\t", file=sheet)
                    n += 1
    print(f"{n} nuclei of {len(images)} images in {Path(folder, 'sheet.tsv')}")


if __name__ == "__main__":
    write_sheet(*sys.argv[1:])
