from __future__ import annotations

import base64
import io
from xml.etree import ElementTree

import map_factory
import numpy as np
import pytest
from PIL import Image

from histotransfer import canvas
from histotransfer.figures import map_figures

SVG = "{http://www.w3.org/2000/svg}"
TRUE = {"a": ["nnn", "ntn", "n.n"], "b": ["nn", "nn"], "c": ["tn"]}


@pytest.fixture
def draw(tmp_path):
    """Draw maps of methods, each given by its probabilities; return the statement, the texts and the pictures."""
    for slide, rows in TRUE.items():
        map_factory.write_slide(tmp_path, slide, rows, name=f"slide {slide}")

    def drawn(methods, true=TRUE, classes=map_factory.CLASSES, **changes):
        runs = []
        for number, (name, (probability, about)) in enumerate(methods.items()):
            features, _, classifier = name.partition("+")
            part = map_factory.part(true, probability, classes)
            about = {"features": features, "classifier": classifier, "classes": list(classes), **about}
            runs.append(map_factory.write_run(tmp_path / f"{number}.h5", part, **about))
        given = {"predictions": runs, **map_factory.files(tmp_path, list(TRUE)), "figure": tmp_path / "maps.svg"}
        said = map_figures.draw_maps(**given | {"master_seed": 1} | changes)
        root = ElementTree.parse(tmp_path / "maps.svg").getroot()
        texts = ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]
        # the bar of the colours has its reference in another form
        return said, texts, [image for image in root.iter(f"{SVG}image") if image.get("href")]

    return drawn


def every(sign: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    return {slide: map_factory.signs(rows) for slide, rows in sign.items()}


SURE = every({"a": ["---", "-+-", "---"], "b": ["--", "--"], "c": ["+-"]})
FALSE = every({"a": ["+--", "-+-", "---"], "b": ["+-", "--"], "c": ["+-"]})


def pixels(image: ElementTree.Element) -> np.ndarray:
    data = base64.b64decode(image.get("href").partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def cells(image: ElementTree.Element, rows: int, cols: int) -> list[list[str]]:
    """Return the colour in the middle of each cell."""
    shown = pixels(image)
    high, wide = shown.shape[0] // rows, shown.shape[1] // cols
    return [
        ["#{:02X}{:02X}{:02X}".format(*shown[r * high + high // 2, c * wide + wide // 2]) for c in range(cols)]
        for r in range(rows)
    ]


class TestFigure:
    def test_statement_says_which_slides_and_counts_isolated_tiles_on_them(self, draw, tmp_path):
        said, _, _ = draw({"extractor+softmax": (FALSE, {}), "vectors+unet": (SURE, {})})
        # 0_0 of slide a touches its tumour, 0_0 of slide b stands alone
        assert said == (
            "biopsies, tumour, split by-patient, seed 1: all 3 test slides, cut to the part with tiles. "
            "Isolated false tumour tiles on them: extractor+softmax 1, vectors+unet 0."
        )
        assert canvas.read_statement(tmp_path / "maps.svg") == said

    def test_slides_with_tumour_come_first(self, draw):
        said, texts, images = draw({"extractor+softmax": (FALSE, {})}, at_most=2)
        assert "2 of 3 test slides, those with tumour first, drawn by the master seed, cut to" in said
        assert said.endswith("Isolated false tumour tiles on them: extractor+softmax 0.")
        shown = sorted(text for text in texts if text.startswith("slide "))
        assert shown == ["slide a: 1 of 8 labelled tiles are tumour", "slide c: 1 of 2 labelled tiles are tumour"]
        assert len(images) == 2 * 3

    def test_colours_are_those_of_labels_and_probabilities(self, draw):
        uneven = {"a": {**SURE["a"], "0_0": 0.0, "2_2": 1.0}}
        _, _, images = draw({"vectors+unet": (uneven, {})})
        normal, tumour, without = "#C6C1CB", "#D55E00", "#7A6BAF"
        shown = [[normal] * 3, [normal, tumour, normal], [normal, without, normal]]
        assert cells(images[1], 3, 3) == shown
        found = cells(images[2], 3, 3)
        # the ends of viridis
        assert (found[0][0], found[2][2]) == ("#440154", "#FDE725")
        assert found[0][1] == found[0][2] != found[1][1]

    def test_what_a_method_does_not_predict_is_blank(self, draw):
        one = {"a": {"0_0": 1.0}}
        _, texts, images = draw({"vectors+unet": ({"a": SURE["a"]}, {}), "short+unet": (one, {})})
        blank = "#E4DFE8"
        assert cells(images[3], 3, 3) == [["#FDE725", blank, blank], [blank] * 3, [blank] * 3]
        assert "not predicted" in texts
        _, texts, _ = draw({"vectors+unet": (SURE, {})})
        assert "not predicted" not in texts

    def test_slide_and_annotation_stand_left_of_the_maps(self, draw):
        methods = {f"vectors+{name}": (SURE, {}) for name in ("one", "two", "three", "four", "five")}
        _, _, images = draw(methods, at_most=1)
        places = [(float(image.get("x")), float(image.get("y"))) for image in images]
        assert len(places) == 7
        across = sorted({left for left, _ in places})
        down = sorted({top for _, top in places})
        assert [(across.index(left), down.index(top)) for left, top in places] == [
            *((0, 0), (0, 1)),
            *((1, 0), (2, 0), (3, 0)),
            *((1, 1), (2, 1)),
        ]
        # two methods fit beside them
        _, _, images = draw(dict(list(methods.items())[:2]), at_most=1)
        assert len({image.get("y") for image in images}) == 1

    def test_untrained_networks_are_called_so(self, draw):
        methods = {"googlenet+unet": (FALSE, {"untrained": True}), "vectors+unet": (SURE, {})}
        said, texts, _ = draw(methods)
        assert texts.count("(untrained)") == 3
        assert said.endswith("on them: googlenet+unet (untrained) 1, vectors+unet 0.")

    def test_of_more_classes_the_predicted_one_is_shown(self, draw):
        classes = ("normal", "tumour", "artefact")
        shares = {"b": {"0_0": (0.7, 0.2, 0.1), "1_0": (0.2, 0.7, 0.1), "0_1": (0.1, 0.2, 0.7), "1_1": (1.0, 0.0, 0.0)}}
        said, _, images = draw({"vectors+unet": (shares, {})}, classes=classes)
        assert cells(images[2], 2, 2) == [["#0072B2", "#E69F00"], ["#009E73", "#0072B2"]]
        assert "Isolated" not in said

    def test_the_same_predictions_give_the_same_bytes(self, draw, tmp_path):
        draw({"vectors+unet": (SURE, {})})
        first = (tmp_path / "maps.svg").read_bytes()
        draw({"vectors+unet": (SURE, {})})
        assert (tmp_path / "maps.svg").read_bytes() == first

    def test_without_test_tiles_it_says_so(self, draw):
        said, _, images = draw({"vectors+unet": ({}, {})})
        assert (said, images) == ("No test tile was predicted.", [])


TRUTH = {name: {"0_0": 1 if name in "fg" else 0} for name in "abcdefg"}


class TestSlides:
    def test_those_with_tumour_then_others_as_the_seed_draws(self):
        chosen = map_figures.choose(TRUTH, at_most=4, master_seed=1)
        assert set(chosen[:2]) == {"f", "g"}
        assert len(set(chosen)) == 4
        orders = {tuple(map_figures.choose(TRUTH, at_most=7, master_seed=seed)) for seed in range(5)}
        assert len(orders) > 1

    def test_an_added_slide_takes_the_place_of_one_at_most(self):
        before = map_figures.choose(TRUTH, at_most=4, master_seed=1)
        after = map_figures.choose({**TRUTH, "h": {"0_0": 0}}, at_most=4, master_seed=1)
        assert len(set(before) - set(after)) <= 1

    def test_a_tile_without_label_is_no_tumour(self):
        truth = {"a": {"0_0": -1}, "b": {"0_0": 1}}
        assert map_figures.choose(truth, at_most=1, master_seed=1) == ["b"]


class TestBadInput:
    def test_methods_of_two_seeds(self, draw):
        said = (
            r"1\.h5: maps side by side must be of biopsies/tumour/by-patient/1 with the classes normal, tumour; found "
            r"biopsies/tumour/by-patient/2 with the classes normal, tumour"
        )
        with pytest.raises(ValueError, match=said):
            draw({"a+unet": (SURE, {}), "b+unet": (SURE, {"seed": 2})})

    def test_no_method(self, draw):
        with pytest.raises(ValueError, match="maps must be of one method at least; found none"):
            draw({})

    def test_a_slide_without_grid(self, draw, tmp_path):
        given = map_factory.files(tmp_path, ["a", "b"])
        with pytest.raises(ValueError, match=r"0\.h5: every predicted slide must have a grid; found none of c"):
            draw({"a+unet": (SURE, {})}, **given)
        with pytest.raises(ValueError, match="each slide has a grid, a description and an overlay; found 3, 3 and 2"):
            draw({"a+unet": (SURE, {})}, overlays=given["overlays"])

    def test_a_tile_that_the_grid_has_not(self, draw):
        true = {**TRUE, "c": ["tnn"]}
        with pytest.raises(ValueError, match=r"c\.h5: predicted tiles must be kept tiles of the grid; found '2_0'"):
            draw({"a+unet": ({**SURE, "c": {"2_0": 0.1}}, {})}, true=true)
