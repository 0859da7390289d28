from __future__ import annotations

import hashlib
import json
from pathlib import Path

import map_factory
import numpy as np
import pytest
from PIL import Image

from histotransfer import canvas, store
from histotransfer.maps import probability_maps

TRUE = {"s1": ["tt n", "  n."], "s2": ["n"], "s3": ["tn"]}


@pytest.fixture
def slides(tmp_path):
    """Three slides; the grid of the first begins within the slide, and its tiles overlap."""
    map_factory.write_slide(tmp_path, "s1", TRUE["s1"], l0_corner=(1000, 300), l0_step=200, name="biopsy 1")
    map_factory.write_slide(tmp_path, "s2", TRUE["s2"])
    map_factory.write_slide(tmp_path, "s3", TRUE["s3"])
    return map_factory.files(tmp_path, list(TRUE))


@pytest.fixture
def write(tmp_path, slides):
    """Write the maps of given test and validation probabilities; return the index."""

    def written(held_out, validation=None, classes=map_factory.CLASSES, true=TRUE, **about):
        parts = [map_factory.part(true, one, classes) if one is not None else None for one in (held_out, validation)]
        run = tmp_path / "run/predictions.h5"
        map_factory.write_run(run, parts[0], validation=parts[1], classes=list(classes), **about)
        probability_maps.write_maps(predictions=str(run), **slides, index=str(tmp_path / "run/maps.json"))
        return store.read_json(tmp_path / "run/maps.json")

    return written


#: Probabilities of tumour that 16 bits cannot hold exactly.
SOME = {"0_0": 1.0, "1_0": 2 / 3, "3_0": 0.1234567, "2_1": 0.0, "3_1": 0.5}


class TestPicture:
    def test_read_back_at_level_0_within_a_step(self, write, tmp_path):
        write({"s1": SOME})
        folder = tmp_path / "run/maps"
        found, placement = probability_maps.read_map(folder / "s1.png", folder / "s1.json")
        assert found.shape == (2, 4)
        assert np.isnan(found).sum() == 3
        for tile, value in SOME.items():
            col, row = map(int, tile.split("_"))
            # a place within the tile, in pixels of the slide
            l0_x, l0_y = 1000 + col * 200 + 199, 300 + row * 200
            across = (l0_x - placement["l0_x"]) // placement["l0_step"]
            down = (l0_y - placement["l0_y"]) // placement["l0_step"]
            assert abs(found[down, across] - value) < 1 / 65535

    def test_grey_values_are_as_the_placement_says(self, write, tmp_path):
        write({"s1": SOME})
        folder = tmp_path / "run/maps"
        with Image.open(folder / "s1.png") as picture:
            assert picture.mode == "I;16"
            grey = np.asarray(picture)
        # 1 + 65534 x 2/3 = 43690.33, 1 + 65534 x 0.1234567 = 8091.61
        assert grey.tolist() == [[65535, 43690, 0, 8092], [0, 0, 1, 32768]]
        said = store.read_json(folder / "s1.json")
        assert said["grey"] == "0: no tile; else probability = (grey - 1) / 65534"
        assert [said[name] for name in ("l0_x", "l0_y", "l0_step", "l0_size", "mpp")] == [1000, 300, 200, 256, 0.5]
        assert said["maps"] == [{"file": "s1.png", "class": "tumour"}]
        assert (said["features"], said["classifier"], said["seed"]) == ("vectors", "unet", 1)
        assert canvas.read_statement(folder / "s1.png") == "probability of tumour by vectors+unet on biopsy 1"

    def test_more_classes_have_a_picture_each(self, write, tmp_path):
        index = write({"s2": {"0_0": (0.2, 0.3, 0.5)}}, classes=("normal", "tumour", "artefact"))
        folder = tmp_path / "run/maps"
        for number, share in enumerate((0.2, 0.3, 0.5)):
            found, said = probability_maps.read_map(folder / f"s2.{number}.png", folder / "s2.json")
            assert found[0, 0] == pytest.approx(share, abs=1 / 65535)
        assert [one["class"] for one in said["maps"]] == ["normal", "tumour", "artefact"]
        names = [file["file"] for file in index["slides"][0]["files"]]
        assert names == ["s2.0.png", "s2.1.png", "s2.2.png", "s2.json", "s2.jpg", "s2.geojson"]


class TestOverlay:
    def test_tiles_have_their_colours_where_they_lie(self, write, tmp_path):
        write({"s3": {"0_0": 0.0, "1_0": 1.0}})
        with Image.open(tmp_path / "run/maps/s3.jpg") as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        with Image.open(tmp_path / "tissue/s3.jpg") as picture:
            below, scale = np.asarray(picture.convert("RGB")).astype(int), picture.width / (3 * 256)
        dark, bright = np.array([68, 1, 84]), np.array([253, 231, 37])
        for place, colour in ((128, dark), (384, bright)):
            at = round(128 * scale), round(place * scale)
            assert np.abs(pixels[at] - (0.6 * colour + 0.4 * below[at])).max() < 6
        # beside the tiles nothing is changed
        at = round(300 * scale), round(128 * scale)
        assert np.abs(pixels[at] - below[at]).max() < 6

    def test_it_says_what_it_shows_and_of_what(self, write, tmp_path):
        write({"s3": {"0_0": 0.0, "1_0": 1.0}}, untrained=True)
        said = canvas.read_statement(tmp_path / "run/maps/s3.jpg")
        assert said == "probability of tumour by vectors+unet (untrained network) on s3: 2 tiles"


class TestGeoJson:
    def read(self, tmp_path, slide="s1"):
        return json.loads((tmp_path / f"run/maps/{slide}.geojson").read_text("utf-8"))

    def test_a_tile_is_a_square_with_class_colour_and_probabilities(self, write, tmp_path):
        write({"s1": SOME})
        found = self.read(tmp_path)
        assert found["type"] == "FeatureCollection"
        assert [one["properties"]["name"] for one in found["features"]] == ["0_0", "1_0", "3_0", "2_1", "3_1"]
        # from the corner of what was scanned, in pixels of level 0: step 200, tiles of 256
        assert found["features"][2] == {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[600, 0], [856, 0], [856, 256], [600, 256], [600, 0]]],
            },
            "properties": {
                "objectType": "tile",
                "name": "3_0",
                "isLocked": True,
                "classification": {"name": "normal", "color": [198, 193, 203]},
                "measurements": {"probability normal": 0.876543, "probability tumour": 0.123457},
                "metadata": {"set": "test", "label": "normal"},
            },
        }
        assert found["features"][0]["properties"]["classification"] == {"name": "tumour", "color": [213, 94, 0]}
        assert found["properties"]["origin"] == {"l0_x": 1000, "l0_y": 300}
        # without a label it is predicted all the same
        assert found["features"][4]["properties"]["metadata"] == {"set": "test"}

    def test_squares_are_sound_polygons(self, write, tmp_path):
        from shapely.geometry import shape

        write({"s1": SOME})
        polygons = [shape(one["geometry"]) for one in self.read(tmp_path)["features"]]
        assert {(one.is_valid, one.area, one.exterior.is_ccw) for one in polygons} == {(True, 256.0**2, True)}

    def test_names_of_any_script_are_kept(self, write, tmp_path):
        write({"s3": {"0_0": 0.9}}, classes=('n "quoted"', "t 🧬"))
        [one] = self.read(tmp_path, "s3")["features"]
        assert one["properties"]["classification"]["name"] == "t 🧬"
        assert one["properties"]["measurements"] == {'probability n "quoted"': 0.1, "probability t 🧬": 0.9}


class TestIndex:
    def test_test_and_validation_tiles_of_every_slide(self, write, tmp_path):
        index = write({"s1": {"0_0": 0.9}, "s3": {"0_0": 0.9}}, {"s1": {"1_0": 0.2, "3_0": 0.1}, "s2": {"0_0": 0.3}})
        assert [(one["slide"], one["tiles"]) for one in index["slides"]] == [
            ("s1", {"test": 1, "validation": 2}),
            ("s2", {"validation": 1}),
            ("s3", {"test": 1}),
        ]
        assert (index["dataset"], index["classes"], index["unit"]) == ("biopsies", ["normal", "tumour"], "patient")
        for one in index["slides"]:
            assert [Path(file["file"]).suffix for file in one["files"]] == [".png", ".json", ".jpg", ".geojson"]
            for file in one["files"]:
                content = (tmp_path / "run" / index["folder"] / file["file"]).read_bytes()
                assert file["sha256"] == hashlib.sha256(content).hexdigest()
                assert file["bytes"] == len(content)

    def test_the_same_predictions_give_the_same_bytes(self, write):
        assert write({"s1": SOME}) == write({"s1": SOME})

    def test_maps_of_slides_that_are_not_predicted_any_more_are_removed(self, write, tmp_path):
        write({"s1": SOME, "s2": {"0_0": 0.3}})
        (tmp_path / "run/maps/notes.txt").write_text("mine")
        write({"s2": {"0_0": 0.3}})
        left = {path.name for path in (tmp_path / "run/maps").iterdir()}
        assert left == {"s2.png", "s2.json", "s2.jpg", "s2.geojson", "notes.txt"}

    def test_no_predicted_slide_no_map(self, write):
        assert write({})["slides"] == []


class TestBadInput:
    def test_a_slide_without_grid(self, write, slides):
        for files in slides.values():
            files.pop()
        with pytest.raises(
            ValueError, match=r"predictions\.h5: every predicted slide must have a grid; found none of s3"
        ):
            write({"s3": {"0_0": 0.9}})

    def test_lists_that_go_together(self, write, slides):
        slides["overlays"].pop()
        with pytest.raises(ValueError, match="each slide has a grid, a description and an overlay; found 3, 3 and 2"):
            write({"s1": SOME})

    def test_a_tile_that_the_grid_has_not_kept(self, write, tmp_path):
        true = {**TRUE, "s1": ["nnnn"]}
        said = (
            r"predicted tiles of slide 's1' must be kept tiles of its grid, each once; found '2_0', which is not kept"
        )
        with pytest.raises(ValueError, match=said):
            write({"s1": {"2_0": 0.9}}, true=true)
        assert not (tmp_path / "run/maps.json").exists()

    def test_a_tile_of_two_sets(self, write):
        with pytest.raises(ValueError, match="each once; found a tile twice"):
            write({"s1": {"0_0": 0.9}}, {"s1": {"0_0": 0.9}})

    def test_a_slide_that_has_no_tiles(self, write, tmp_path):
        with store.writing_hdf5(tmp_path / "tiles/s2.h5", {"status": "no tissue", "slide": "s2"}) as file:
            file["status"] = np.zeros(0, np.uint8)
            file["col"] = file["row"] = file["l0_x"] = file["l0_y"] = np.zeros(0, np.int64)
        with pytest.raises(
            ValueError, match=r"s2\.h5: a slide with predictions must have the status ok; found no tissue"
        ):
            write({"s2": {"0_0": 0.9}})
