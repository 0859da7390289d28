"""Write the sample sheet of CRCHistoPhenotypes (Sirinukunwattana et al. 2016), with one row per labelled nucleus.

FOLDER is a copy of the folder Classification of the published archive. It has a subfolder for each of 100 images. The
first one contains img1.bmp, img1_epithelial.mat, img1_fibroblast.mat, img1_inflammatory.mat and img1_others.mat. Each
of the .mat files has a matrix `detection` with two columns: x and y of the centres of the nuclei.

Usage: python studies/crchistophenotypes_sheet.py FOLDER
"""

import sys
from pathlib import Path

TYPES = ("epithelial", "fibroblast", "inflammatory", "others")


def write_sheet(folder: str) -> None:
    """Write FOLDER/sheet.tsv with the columns image, path, x, y and label."""
    from scipy.io import loadmat

    images = sorted(Path(folder).glob("img*/img*.bmp"), key=lambda path: (len(path.stem), path.stem))
    if not images:
        raise SystemExit(f"{folder}: must contain img1/img1.bmp, img2/img2.bmp, ...; found no such file")
    n = 0
    with open(Path(folder, "sheet.tsv"), "w", encoding="utf-8") as sheet:
        print("image", "path", "x", "y", "label", sep="\t", file=sheet)
        for image in images:
            for kind in TYPES:
                marked = loadmat(image.with_name(f"{image.stem}_{kind}.mat"))["detection"]
                for x, y in marked.reshape(-1, 2).tolist():
                    # ASSUME coordinates start at 1, as in Matlab; those of the sheet start at 0
                    place = (max(0.0, x - 1), max(0.0, y - 1))
                    print(image.stem, image.relative_to(folder), *map("{:g}".format, place), kind, sep="\t", file=sheet)
                    n += 1
    print(f"{n} nuclei of {len(images)} images in {Path(folder, 'sheet.tsv')}")


if __name__ == "__main__":
    write_sheet(*sys.argv[1:])
