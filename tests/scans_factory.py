"""Small slides with a rectangle of tumour on some, drawn in each of the three formats of regions."""

from __future__ import annotations

import annotation_factory
import numpy as np
import slide_factory

#: Of each slide: set, what is drawn on it (a rectangle of tumour, level-0 pixels), in which format, and its class.
SLIDES = [
    ("train", (80, 80, 320, 400), "xml", ""),
    ("train", (200, 160, 480, 360), "geojson", ""),
    ("train", None, "", ""),
    ("validation", (160, 240, 400, 520), "png", ""),
    ("test", (120, 80, 400, 320), "xml", "macro"),
    ("test", (240, 240, 560, 440), "geojson", "macro"),
    ("test", None, "", "negative"),
    ("test", None, "", "negative"),
]
SIZE = 640


def write_region(path, box):
    """Write one rectangle of tumour as an annotation file."""
    left, top, right, bottom = box
    if path.suffix == ".xml":
        annotation_factory.write_asap(path, [("Tumour", annotation_factory.rectangle(*box))])
    elif path.suffix == ".geojson":
        outline = annotation_factory.feature("Tumour", annotation_factory.rectangle(*box))
        annotation_factory.write_geojson(path, annotation_factory.collection(outline))
    else:
        mask = np.zeros((SIZE // 8, SIZE // 8), np.uint8)
        mask[top // 8 : bottom // 8, left // 8 : right // 8] = 1
        annotation_factory.write_mask(path, mask)


def write_scans(folder, sheet):
    """Write the slides, their regions and one slide that cannot be read, with their sheet."""
    rows = []
    for number, (of, box, ending, metastasis) in enumerate(SLIDES):
        slide_factory.write_slide(folder / f"s{number}.tif", size=(SIZE, SIZE), seed=number, kind=number % 2)
        row = {"image": f"s{number}", "path": f"{folder.name}/s{number}.tif", "patient": f"p{number}", "split": of}
        annotation = f"{folder.name}/s{number}.{ending}" if box else ""
        row |= {"annotation": annotation, "metastasis": metastasis, "label": "normal"}
        if box:
            write_region(folder / f"s{number}.{ending}", box)
        rows.append(row)
    slide_factory.truncate(slide_factory.write_slide(folder / "bad.tif", size=(SIZE, SIZE)))
    bad = {"image": "bad", "path": f"{folder.name}/bad.tif", "patient": "p9", "split": "train", "label": "normal"}
    slide_factory.write_sheet(sheet, [*rows, bad])
