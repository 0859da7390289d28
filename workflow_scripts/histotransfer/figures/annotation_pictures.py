"""Pictures of annotated slides for the report: regions, tiles and the labels that the tiles have of the regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from histotransfer import canvas, store
from histotransfer.definitions import Regions
from histotransfer.figures import pictures
from histotransfer.regions import annotations
from histotransfer.slides.grid import read_kept

#: Colours of areas that count for no class, and of tiles without a label.
NO_CLASS, NO_LABEL = (40, 40, 40), (110, 110, 110)

#: How strongly a tile's colour covers the slide, of 255.
_FILL = 96


def draw_annotation(
    *,
    overlay: str | Path,
    grid: str | Path,
    description: str | Path,
    labels: str | Path,
    annotation: str | list[str],
    figure: str | Path,
    regions: Regions,
    class_names: Sequence[str],
) -> str:
    """Draw a slide's annotation and its tiles, each in the colour of its label, onto the tissue overlay.

    Outlines have the colour of their class; those of areas that are cut out or ignored are dark. Tiles without a label
    are hollow and grey.

    Parameters
    ----------
    overlay, grid, description : path
        See :func:`histotransfer.figures.pictures.draw_slide`.
    labels : path
        What :func:`histotransfer.cohort.labels.label_regions` wrote.
    annotation : path, or empty list
        See :func:`histotransfer.regions.annotations.read`.
    figure : path
        JPEG or PNG to write.
    regions : Regions
        The task's.
    class_names : sequence of str
        The task's classes; the first has the first colour of :data:`histotransfer.canvas.CLASS_COLOURS`, and so on, as
        in the report's other figures.

    Returns
    -------
    str
        What the picture shows: how many tiles have which label.

    Raises
    ------
    ValueError
        If a kept tile has no row in `labels`, or the annotation is wrong.
    """
    from PIL import Image, ImageDraw

    kept, size = read_kept(str(grid)), store.read_json(description).get("size")
    with Image.open(overlay) as stored:
        picture = stored.convert("RGB")
    picture.thumbnail((pictures.SLIDE_SIDE, pictures.SLIDE_SIDE), Image.Resampling.LANCZOS)
    status, reason = str(kept.attributes["status"]), str(kept.attributes["reason"])
    if status != "ok" or not size:
        statement = f"{status}: {reason}" if reason else status
        canvas.save_picture(picture, figure, statement)
        return statement
    label_of = {row["tile"]: row["label"] for row in store.read_table(labels)}
    missing = next((name for name in kept.tile if name not in label_of), None)
    if missing:
        raise ValueError(f"{labels}: must have a row for each kept tile; found none for {missing}")
    found = [label_of[name] for name in kept.tile]
    scale = picture.width / float(size[0])
    colours = {name: _rgb(place) for place, name in enumerate(class_names)}
    brush = ImageDraw.Draw(picture, "RGBA")
    side = float(kept.attributes["l0_size"]) * scale
    for (left, top), name in zip(kept.coords * scale, found, strict=True):
        # at least 2 px wide, so that tiles of a huge slide still show
        box = (left, top, max(left + side, left + 2), max(top + side, top + 2))
        colour = colours.get(name)
        brush.rectangle(box, fill=colour and (*colour, _FILL), outline=(*(colour or NO_LABEL), 255))
    if annotation:
        read = annotations.read(
            str(annotation), regions=regions, l0_size=tuple(size), l0_scanned=annotations.scanned_corner(kept)
        )
        of_class = [colours[name] for name in annotations.layers_of(regions).classes]
        _draw_outlines(picture, read, [NO_CLASS, NO_CLASS, *of_class])
    statement = _statement(found, class_names, bool(annotation))
    canvas.save_picture(picture, figure, statement)
    return statement


def _rgb(place: int) -> tuple[int, int, int]:
    from PIL import ImageColor

    return ImageColor.getrgb(canvas.CLASS_COLOURS[place % len(canvas.CLASS_COLOURS)])


def _draw_outlines(picture: Any, annotation: annotations.Annotation, colours: Sequence[tuple[int, int, int]]) -> None:
    """Draw the outlines of each layer, those of the classes over the others."""
    from PIL import Image
    from scipy import ndimage

    layers = annotation.outlines(picture.width, picture.height)
    for halo in (True, False):
        for lines, colour in zip(layers, colours, strict=True):
            # a light seam parts a line from tissue and tiles of its own colour
            grown = ndimage.binary_dilation(lines, iterations=2 if halo else 1)
            picture.paste((255, 255, 255) if halo else colour, mask=Image.fromarray(grown))


def _statement(found: Sequence[str], class_names: Sequence[str], annotated: bool) -> str:
    counts = Counter(found)
    words = [f"{counts[name]:,} {name}" for name in class_names]
    words += [f"{counts['']:,} without a label"]
    return f"{len(found):,} tiles: {', '.join(words)}" + ("" if annotated else "; no annotation")
