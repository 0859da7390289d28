"""The picture of an annotated slide: outlines, and each tile in the colour of its label."""

from __future__ import annotations

import annotation_factory as factory
import numpy as np
import pytest
from annotation_factory import rectangle
from PIL import Image, ImageColor

from histotransfer import canvas, store
from histotransfer.cohort import labels
from histotransfer.figures import annotation_pictures

NORMAL, TUMOUR = (ImageColor.getrgb(colour) for colour in canvas.CLASS_COLOURS[:2])


def draw(folder, annotation, *, picture=(400, 300), status="ok", **changes):
    """Draw a white slide of 4,000 x 3,000 px and twelve tiles of 1,000 px; return the statement and the pixels."""
    Image.new("RGB", picture, "white").save(folder / "overlay.png")
    files = {
        "grid": factory.write_grid(folder / "g.h5", columns=4, rows=3, l0_size=1000, status=status),
        "description": factory.write_description(folder / "s.json", (4000, 3000) if status == "ok" else None),
        "labels": str(folder / "labels.tsv"),
        "annotation": annotation,
    }
    how = {"regions": factory.regions(**changes), "class_names": ["normal", "tumour"]}
    of_slide = {"group": {"slide": "s", "patient": "p"}, "label": "", "classes": {}}
    labels.label_regions(fractions=str(folder / "fractions.tsv"), **files, **of_slide, **how)
    said = annotation_pictures.draw_annotation(
        overlay=folder / "overlay.png", figure=folder / "out.png", **files, **how
    )
    assert canvas.read_statement(folder / "out.png") == said
    return said, np.asarray(Image.open(folder / "out.png").convert("RGB")).astype(int)


def pale(colour):
    """A class' colour over white."""
    return [round(255 + (level - 255) * annotation_pictures._FILL / 255) for level in colour]


@pytest.fixture(params=["xml", "json", "png"])
def annotation(request, tmp_path):
    """Tumour over the upper left tile but for its edges, normal over the tile 2_1, and an artefact in 3_2."""
    tumour, normal = rectangle(100, 100, 900, 900), rectangle(2000, 1000, 3000, 2000)
    artefact = rectangle(3200, 2200, 3800, 2800)
    if request.param == "xml":
        found = [("Tumor", tumour), ("Normal", normal), ("Artefact", artefact)]
        return factory.write_asap(tmp_path / "a.xml", found)
    if request.param == "json":
        found = [("Tumor", tumour), ("Normal", normal), ("Artefact", artefact)]
        return factory.write_geojson(tmp_path / "a.json", [factory.feature(*one) for one in found])
    values = np.zeros((300, 400), np.uint8)
    values[10:90, 10:90], values[100:200, 200:300], values[220:280, 320:380] = 1, 2, 4
    return factory.write_mask(tmp_path / "a.png", values)


def test_tiles_have_the_colour_of_their_label_and_outlines_that_of_their_class(tmp_path, annotation):
    said, drawn = draw(tmp_path, annotation)
    assert said == "12 tiles: 1 normal, 1 tumour, 10 without a label"
    assert drawn.shape == (300, 400, 3)
    # a tile is 100 px: inside its edge and away from outlines it is paled, hollow without a label
    np.testing.assert_allclose(drawn[50, 50], pale(TUMOUR), atol=1)
    np.testing.assert_allclose(drawn[150, 250], pale(NORMAL), atol=1)
    assert drawn[50, 150].tolist() == [255, 255, 255]
    assert drawn[150, 100].tolist() == list(annotation_pictures.NO_LABEL)
    # outlines, 3 px wide: of the tumour at 10 px and 90 px (a mask's lie within its pixels), of the artefact at 320 px
    for row in (10, 89):
        assert drawn[row, 50].tolist() == list(TUMOUR)
    assert drawn[50, 10].tolist() == drawn[50, 89].tolist() == list(TUMOUR)
    assert drawn[250, 320].tolist() == list(annotation_pictures.NO_CLASS)
    assert drawn[150, 200].tolist() == list(NORMAL)


def test_a_slide_without_an_annotation(tmp_path):
    said, drawn = draw(tmp_path, [], without="normal")
    assert said == "12 tiles: 12 normal, 0 tumour, 0 without a label; no annotation"
    np.testing.assert_allclose(drawn[50, 50], pale(NORMAL), atol=1)


def test_a_large_overlay_is_reduced_and_tiles_stay_where_they_are(tmp_path):
    annotation = factory.write_asap(tmp_path / "a.xml", [("Tumor", rectangle(1000, 1000, 2000, 2000))])
    _, drawn = draw(tmp_path, annotation, picture=(1440, 1080))
    assert drawn.shape == (540, 720, 3)
    tile = np.argwhere(np.abs(drawn - pale(TUMOUR)).max(axis=2) <= 1)
    # 180 px a tile; the outline takes 2 px of each edge, and a light seam 1 px
    assert tile.min(axis=0).tolist() == [183, 183]
    assert tile.max(axis=0).tolist() == [357, 357]


def test_an_unusable_slide_keeps_its_card_and_says_why(tmp_path):
    said, drawn = draw(tmp_path, [], status="unreadable")
    assert said == "unreadable"
    assert (drawn == 255).all()


def test_a_class_beyond_the_palette_has_a_colour_too(tmp_path):
    colours = [annotation_pictures._rgb(place) for place in range(9)]
    assert len(set(colours)) == len(canvas.CLASS_COLOURS)
    assert colours[7:] == colours[:2]


def test_the_same_slide_gives_the_same_bytes(tmp_path, annotation):
    draw(tmp_path, annotation)
    first = (tmp_path / "out.png").read_bytes()
    draw(tmp_path, annotation)
    assert (tmp_path / "out.png").read_bytes() == first


def test_a_tile_without_a_row_in_the_labels_is_an_error(tmp_path):
    draw(tmp_path, [])
    rows = store.read_table(tmp_path / "labels.tsv")[1:]
    store.write_table(tmp_path / "labels.tsv", labels.COLUMNS, rows)
    with pytest.raises(ValueError, match=r"labels\.tsv: must have a row for each kept tile; found none for 0_0"):
        annotation_pictures.draw_annotation(
            overlay=tmp_path / "overlay.png",
            grid=tmp_path / "g.h5",
            description=tmp_path / "s.json",
            labels=tmp_path / "labels.tsv",
            annotation=[],
            figure=tmp_path / "out.png",
            regions=factory.regions(),
            class_names=["normal", "tumour"],
        )
