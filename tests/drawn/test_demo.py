"""The demo's slides: what other programs see of them, that they are the same each time, and that patients differ."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import openslide
import pytest
from repository import ROOT as REPOSITORY

from histotransfer import store
from histotransfer.drawn import demo, patients
from histotransfer.sheets import reading

SHEET = REPOSITORY / "data" / "demo" / "slides.tsv"
SMALL = (1100, 800)


def draw(path: Path, **changes) -> Path:
    arguments = {
        "slide": "p01-a",
        "patient": "p01",
        "label": "fibrous",
        "drawing": "tissue",
        "master_seed": 7,
        "size": SMALL,
    }
    demo.draw_slide(slide_file=path, **{**arguments, **changes})
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_openslide_sees_an_aperio_pyramid_with_its_resolution(tmp_path):
    path = draw(tmp_path / "deep" / "slide.tif")
    assert openslide.OpenSlide.detect_format(path) == "aperio"
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((1100, 800), (550, 400), (275, 200), (137, 100))
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == 0.5
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_Y]) == 0.5
        assert float(slide.properties[openslide.PROPERTY_NAME_OBJECTIVE_POWER]) == 20
        assert slide.properties["openslide.level[0].tile-width"] == "256"
        # 20,000 pixels a centimetre are 0.5 µm a pixel: the TIFF says the same as the description.
        assert float(slide.properties["tiff.XResolution"]) == 20000
        assert slide.properties["tiff.ResolutionUnit"] == "centimeter"
        corner = np.asarray(slide.read_region((0, 0), 0, (64, 64)).convert("RGB"))
        middle = np.asarray(slide.get_thumbnail((137, 100)).convert("RGB"))[30:70, 30:107]
    assert corner.min() > 220
    assert middle.mean(axis=(0, 1))[1] < 200, "stained tissue takes green away"
    assert sorted(entry.name for entry in (tmp_path / "deep").iterdir()) == ["slide.tif"]


def test_same_arguments_give_the_same_bytes_in_any_process_and_with_any_number_of_threads(tmp_path):
    here = sha256(draw(tmp_path / "here.tif"))
    program = (
        "import sys; from histotransfer.drawn import demo; demo.draw_slide(slide_file=sys.argv[1], slide='p01-a',"
        f" patient='p01', label='fibrous', drawing='tissue', master_seed=7, size={SMALL})"
    )
    path = str(REPOSITORY / "workflow_scripts")
    for threads, hash_seed in (("1", "1"), ("4", "2")):
        there = tmp_path / f"threads-{threads}.tif"
        environment = {**os.environ, "PYTHONPATH": path, "VIPS_CONCURRENCY": threads, "PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", program, there], env=environment, check=True)
        assert sha256(there) == here


@pytest.mark.parametrize(
    "change", [{"slide": "p01-b"}, {"patient": "p02"}, {"label": "lymphoid"}, {"master_seed": 8}, {"drawing": "blank"}]
)
def test_every_argument_changes_the_slide(tmp_path, change):
    assert sha256(draw(tmp_path / "a.tif")) != sha256(draw(tmp_path / "b.tif", **change))


def test_truncated_slide_is_half_of_the_real_file_and_nothing_opens_it(tmp_path):
    import pyvips

    whole, cut = draw(tmp_path / "whole.tif"), draw(tmp_path / "cut.tif", drawing="truncated")
    content = whole.read_bytes()
    assert cut.read_bytes() == content[: len(content) // 2]
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(cut)
    with pytest.raises(pyvips.Error):
        pyvips.Image.new_from_file(str(cut))


def test_blank_slide_is_bright_and_needs_no_label():
    # seed 3 draws no pen mark on this one
    rgb = demo.draw_pixels(slide="empty", patient="p01", label=None, master_seed=3, size=SMALL)
    assert rgb.shape == (800, 1100, 3)
    assert rgb.min() > 200
    assert len(np.unique(rgb)) > 4, "the background is slightly noisy"


def test_pen_marks_are_on_some_slides_and_not_on_others():
    # Nothing but ink is darker than this on an empty slide; a mark is at most a third of the slide's width long.
    inked = []
    for number in range(12):
        rgb = demo.draw_pixels(slide=f"empty-{number}", patient="p01", label=None, master_seed=7, size=SMALL)
        inked.append(float((rgb.min(axis=2) < 170).mean()))
    assert all(share == 0 or 0.0005 < share < 0.03 for share in inked)
    assert 2 <= sum(share > 0 for share in inked) <= 9


def test_stain_and_texture_belong_to_the_patient():
    stains = [patients.patient_stain(patient=f"p{n:02d}", master_seed=2018) for n in range(1, 16)]
    vectors = np.array([stain.vectors for stain in stains])
    assert np.allclose(np.linalg.norm(vectors, axis=2), 1)
    reference = np.array([patients.HEMATOXYLIN_OD, patients.EOSIN_OD])
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    turned = np.degrees(np.arccos(np.clip((vectors * reference).sum(axis=2), -1, 1)))
    assert turned.max() < 15, "hematoxylin stays hematoxylin"
    assert turned.mean() > 2, "and yet no two laboratories stain alike"
    strengths = np.array([stain.strengths for stain in stains])
    assert (strengths.max(axis=0) / strengths.min(axis=0) > 1.3).all()
    assert len({stain.white.tobytes() for stain in stains}) == 15
    assert len({patients.patient_texture(patient=f"p{n:02d}", master_seed=2018) for n in range(1, 16)}) == 15
    again = patients.patient_stain(patient="p01", master_seed=2018)
    assert np.array_equal(again.vectors, stains[0].vectors)
    assert again.strengths == stains[0].strengths


def test_two_slides_of_a_patient_share_the_stain():
    def background(slide: str, patient: str) -> np.ndarray:
        rgb = demo.draw_pixels(slide=slide, patient=patient, label="fibrous", master_seed=7, size=SMALL)
        return np.median(rgb[:20].reshape(-1, 3), axis=0)

    assert np.array_equal(background("a", "p01"), background("b", "p01"))
    assert not np.array_equal(background("a", "p01"), background("a", "p02"))


def test_colours_follow_beer_and_lambert():
    stain = patients.Stain(vectors=np.array([[1.0, 0, 0], [0, 1.0, 0]]), strengths=(1.0, 2.0), white=np.full(3, 240.0))
    hematoxylin, eosin = np.array([[0, 100]], np.uint8), np.array([[0, 50]], np.uint8)
    # 100 units are an optical density of 1: red falls to 240 / e = 88.3; so does green, 50 units at twice the strength.
    assert patients.beer_lambert(hematoxylin, eosin, stain).tolist() == [[[240, 240, 240], [88, 88, 240]]]


@pytest.mark.parametrize("label", demo.CLASSES)
def test_a_slide_is_mostly_of_its_class_and_partly_of_another(label):
    rng = np.random.default_rng(0)
    tissue = demo._tissue_field(rng, (6000, 4500))
    inside = tissue > 0
    assert 0.40 < inside.mean() < 0.58
    assert not inside[[0, -1]].any()
    assert not inside[:, [0, -1]].any()
    weights = demo._class_weights(rng, tissue, label=label, neighbour_share=0.2)
    assert set(weights) == set(demo.CLASSES)
    assert np.allclose(sum(weights.values()), 1, atol=1e-5)
    assert weights[label][inside].mean() == pytest.approx(0.8, abs=0.05)
    assert all(share[inside].mean() > 0.01 for share in weights.values())


def test_lymphoid_tissue_has_the_most_nuclei_and_glandular_tissue_the_holes():
    texture = patients.patient_texture(patient="p01", master_seed=7)
    tissue = np.ones((60, 60), np.float32)
    nuclei, holes = {}, {}
    for label in demo.CLASSES:
        rng = np.random.default_rng(1)
        hematoxylin, eosin = demo._stain_maps(rng, (960, 960), tissue=tissue, label=label, texture=texture)
        nuclei[label] = float((hematoxylin > 70).mean())
        holes[label] = float(((hematoxylin < 8) & (eosin < 8)).mean())
    assert nuclei["fibrous"] < nuclei["glandular"] < nuclei["lymphoid"]
    assert holes["glandular"] > max(holes["fibrous"], holes["lymphoid"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drawing": "torn"}, r"slide p01-a: drawing must be one of tissue, truncated, blank, found 'torn'"),
        ({"label": "muscle"}, r"label of a drawn slide must be one of fibrous, glandular, lymphoid, found 'muscle'"),
        ({"size": (1000, 200)}, r"width and height must be at least 256 px, found 1000 x 200"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "slide.tif", **change)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match=r"No space left on device \(while writing .*slide.tif\)"):
        draw(tmp_path / "slide.tif")
    assert list(tmp_path.iterdir()) == []


def test_the_sheet_is_complete():
    rows = store.read_table(SHEET)
    assert list(rows[0]) == ["image", "path", "patient", "label", "drawing"]
    readable = [row for row in rows if row["drawing"] == "tissue"]
    assert Counter(row["label"] for row in readable) == dict.fromkeys(demo.CLASSES, 5)
    assert len({row["patient"] for row in readable}) == 15, "one slide a patient"
    (broken,) = [row for row in rows if row["drawing"] != "tissue"]
    assert broken["drawing"] == "truncated"
    assert broken["patient"] not in {row["patient"] for row in readable}
    assert len({row["image"] for row in rows}) == len({row["path"] for row in rows}) == 16
    assert all(row["path"] == f"{row['image']}.tif" and row["image"].startswith(row["patient"]) for row in rows)


@pytest.mark.parametrize("kind", sorted(reading.COLUMNS))
def test_the_readme_of_data_describes_every_column_of_a_sheet(kind):
    text = (REPOSITORY / "data" / "README.md").read_text("utf-8")
    section = text.split(f"### `kind: {kind}`")[1].split("\n#")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    described = [name.strip(" `") for row in rows for name in row.split(",")]
    required, optional = reading.COLUMNS[kind]
    assert sorted(described) == sorted([*required, *optional])
