"""Drawn slides with lesions: what is known of them by construction, what shows of it, and that annotations agree."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image
from repository import ROOT as REPOSITORY
from scipy import ndimage, stats

from histotransfer import store
from histotransfer.definitions import RegionRule, Regions
from histotransfer.drawn import lesion_plan, lesion_regions, lesions
from histotransfer.drawn.patients import patient_stain
from histotransfer.regions import annotations
from histotransfer.slides import tissue

SHEET = REPOSITORY / "data" / "multi-stage" / "slides.tsv"
SEED = 2018
#: Ten by nine patches.
SMALL = (1300, 1160)
#: As the study has it, with the values of masks.
REGIONS = Regions(
    {"tumour": ("Tumor", "2"), "normal": ("Normal", "1")},
    (RegionRule("tumour", 0.2), RegionRule("normal", 0.8)),
    cut_out=("Exclusion",),
)


def draw(path: Path, **changes) -> Path:
    arguments = {"slide": "b01-a", "patient": "b01", "label": "tumour", "drawing": "tissue", "master_seed": 7}
    lesions.draw_lesions(slide_file=path, **{**arguments, "size": SMALL, **changes})
    return path


def annotate(path: Path, **changes) -> Path:
    arguments = {"slide": "b01-a", "label": "tumour", "drawing": "tissue", "master_seed": 7, "size": SMALL}
    lesion_regions.draw_regions(annotation=path, **{**arguments, **changes})
    return path


def lay_out(**changes) -> lesion_plan.Plan:
    arguments = {"slide": "b01-a", "label": "tumour", "drawing": "tissue", "master_seed": 7, "size": SMALL}
    return lesion_plan.lay_out(**{**arguments, **changes})


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def rows():
    return store.read_table(SHEET)


@pytest.fixture(scope="module")
def plans(rows):
    """The plans of the study's slides, by image."""
    return {
        row["image"]: lesion_plan.lay_out(
            slide=row["image"], label=row["label"], drawing=row["drawing"], master_seed=SEED
        )
        for row in rows
        if row["drawing"] != "truncated"
    }


# ---- the same each time


def test_openslide_sees_a_pyramid_with_its_resolution(tmp_path):
    path = draw(tmp_path / "annotated" / "slide.tif")
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == SMALL
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == 0.5
    assert [entry.name for entry in (tmp_path / "annotated").iterdir()] == ["slide.tif"]


def test_same_arguments_give_the_same_bytes_in_any_process_and_with_any_number_of_threads(tmp_path):
    names = ("slide.tif", "regions.xml", "regions.geojson", "regions.png")
    here = [sha256(draw(tmp_path / names[0])), *(sha256(annotate(tmp_path / name)) for name in names[1:])]
    same = f"slide='b01-a', label='tumour', drawing='tissue', master_seed=7, size={SMALL}"
    program = (
        "import sys; from histotransfer.drawn import lesion_regions, lesions;"
        f" lesions.draw_lesions(slide_file=sys.argv[1], patient='b01', {same});"
        f" [lesion_regions.draw_regions(annotation=path, {same}) for path in sys.argv[2:]]"
    )
    path = str(REPOSITORY / "workflow_scripts")
    for threads, hash_seed in (("1", "1"), ("4", "2")):
        there = [tmp_path / threads / name for name in names]
        environment = {**os.environ, "PYTHONPATH": path, "VIPS_CONCURRENCY": threads, "PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", program, *there], env=environment, check=True)
        assert [sha256(file) for file in there] == here


@pytest.mark.parametrize("change", [{"slide": "b01-b"}, {"label": "clear"}, {"master_seed": 8}, {"drawing": "strip"}])
def test_every_argument_changes_the_annotation(tmp_path, change):
    assert sha256(annotate(tmp_path / "a.xml")) != sha256(annotate(tmp_path / "b.xml", **change))


def test_a_strip_changes_the_annotation_and_not_the_slide(tmp_path):
    assert sha256(draw(tmp_path / "a.tif")) == sha256(draw(tmp_path / "b.tif", drawing="strip"))


def test_a_truncated_slide_opens_nowhere_and_has_its_annotation(tmp_path):
    whole, cut = draw(tmp_path / "whole.tif"), draw(tmp_path / "cut.tif", drawing="truncated")
    content = whole.read_bytes()
    assert cut.read_bytes() == content[: len(content) // 2]
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(cut)
    assert sha256(annotate(tmp_path / "a.xml")) == sha256(annotate(tmp_path / "b.xml", drawing="truncated"))


# ---- what is known by construction


def test_the_module_states_what_the_best_decision_on_one_tile_reaches():
    z = np.linspace(-8, 10, 200_001)
    tumour = stats.norm.pdf(z, lesion_plan.SHIFT)
    upper = np.where(
        z > lesion_plan.SHIFT + lesion_plan.LOOK_ALIKE_FROM, tumour / stats.norm.sf(lesion_plan.LOOK_ALIKE_FROM), 0
    )
    share = lesion_plan.LOOK_ALIKES
    normal = (1 - share) * stats.norm.pdf(z) + share * upper
    tumour, normal, upper = (density / density.sum() for density in (tumour, normal, upper))

    def areas(score):
        order = np.argsort(-score, kind="stable")
        found, false = np.cumsum(tumour[order]), np.cumsum(normal[order])
        precision = 0.2 * found / np.maximum(0.2 * found + 0.8 * false, 1e-300)
        return round(np.trapezoid(found, false), 3), round((precision * tumour[order]).sum(), 3)

    likelihood = tumour / normal
    assert areas(likelihood) == (0.822, 0.520)
    assert areas(z) == (0.820, 0.495)
    called = 0.2 * tumour > 0.8 * normal
    assert normal[called].sum() == pytest.approx(0.071, abs=5e-4)
    assert upper[called].sum() > 0.9999
    assert stats.norm.cdf(lesion_plan.SHIFT / 2**0.5) == pytest.approx(0.839, abs=5e-4)
    assert stats.norm.cdf(3 * lesion_plan.SHIFT / 2**0.5) == pytest.approx(0.9985, abs=5e-5)
    for number in ("0.822", "0.520", "0.820", "0.495", "7.1 %", "0.839", "0.9985"):
        assert number in lesions.__doc__


def test_grades_of_the_study_are_as_stated(plans):
    normal, tumour, alike = [], [], []
    for plan in plans.values():
        plain = plan.solid & ~plan.tumour & ~plan.look_alike
        normal.append(plan.grade[plain])
        tumour.append(plan.grade[plan.tumour])
        alike.append(plan.grade[plan.look_alike])
    normal, tumour, alike = (np.concatenate(grades) for grades in (normal, tumour, alike))
    assert normal.mean() == pytest.approx(0, abs=0.04)
    assert tumour.mean() == pytest.approx(1.4, abs=0.06)
    assert normal.std() == pytest.approx(1, abs=0.03)
    assert tumour.std() == pytest.approx(1, abs=0.05)
    assert alike.min() > 2.4
    # the mean of a normal distribution above one deviation: pdf(1) / sf(1) = 1.525
    assert alike.mean() == pytest.approx(1.4 + 1.525, abs=0.1)
    assert len(alike) / (len(normal) + len(alike)) == pytest.approx(0.025, abs=0.002)
    # one tile in five, which the stated numbers are for
    assert len(tumour) / (len(normal) + len(alike) + len(tumour)) == pytest.approx(0.2, abs=0.025)


def test_lesions_lie_together_and_look_alikes_alone(rows, plans):
    around = np.ones((3, 3))
    label_of = {row["image"]: row["label"] for row in rows}
    for image, plan in plans.items():
        assert 300 <= plan.solid.sum() <= 450, image
        assert not (plan.tumour & ~plan.solid).any(), image
        assert plan.tumour.any() == (label_of[image] == "tumour"), image
        # diagonal neighbours count as one region here, and no two regions are so near
        parts, n = ndimage.label(plan.tumour | plan.hole, around)
        sizes = np.bincount(parts.ravel())[1:]
        assert n <= 3, image
        assert all(15 <= size <= 120 for size in sizes), image
        # no lesion is a thread: nearly every patch of one has three more beside it
        beside = ndimage.convolve((plan.tumour | plan.hole).astype(int), around, mode="constant") - 1
        assert n == 0 or (beside[plan.tumour] >= 3).mean() > 0.95, image
        _, number = ndimage.label(plan.look_alike, around)
        assert number == plan.look_alike.sum() > 0, image
        assert not (ndimage.binary_dilation(plan.look_alike, around) & plan.tumour).any(), image


def test_a_hole_is_normal_and_has_a_rim():
    plan = lay_out(drawing="hole", size=lesion_plan.SIZE)
    assert plan.hole.sum() == 9
    assert not (plan.hole & plan.tumour).any()
    assert (ndimage.binary_dilation(plan.hole, np.ones((3, 3))) & ~plan.hole <= plan.tumour).all()


# ---- what shows of it


@pytest.fixture(scope="module")
def pictures(plans, rows):
    """Of three slides of the study: the plan, the colours, and the patient."""
    found = []
    for row in rows:
        if row["image"] in ("b01-a", "b03-a", "b26-a"):
            plan = plans[row["image"]]
            rgb = lesions.draw_pixels(plan, slide=row["image"], patient=row["patient"], master_seed=SEED)
            found.append((plan, rgb, row["patient"]))
    return found


def per_patch(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = shape
    edge = lesion_plan.PATCH
    return picture[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge).mean(axis=(1, 3))


def test_the_grade_shows_within_a_patient_and_across_patients(pictures):
    edge = lesion_plan.PATCH
    shares, grades = [], []
    for plan, rgb, patient in pictures:
        # nuclei by the tile's own threshold, so that nothing of the patient is used
        dark = []
        for row, column in np.argwhere(plan.solid):
            red = rgb[row * edge : (row + 1) * edge, column * edge : (column + 1) * edge, 0]
            dark.append((red <= tissue.otsu_threshold(red)).mean())
        dark, grade = np.array(dark), plan.grade[plan.solid]
        assert np.corrcoef(dark, grade)[0, 1] > 0.92, patient
        steps = [dark[(grade > low) & (grade <= low + 1)].mean() for low in range(-2, 3)]
        assert (np.diff(steps) > 0.03).all(), "more nuclei at every step of the grade"
        shares.append(dark)
        grades.append(grade)
    assert np.corrcoef(np.concatenate(shares), np.concatenate(grades))[0, 1] > 0.92


def test_a_patch_shows_its_own_grade_and_little_of_its_neighbours(pictures):
    for plan, rgb, _ in pictures:
        dark = -per_patch(rgb[..., 0].astype(float), plan.solid.shape)
        beside = ndimage.convolve(plan.grade, np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) / 4)
        inner = ndimage.binary_erosion(plan.solid)
        factors = np.stack([plan.grade[inner], beside[inner], np.ones(inner.sum())], axis=1)
        own, neighbours, _ = np.linalg.lstsq(factors, dark[inner], rcond=None)[0]
        assert own > 0
        assert neighbours / own < 0.25


def test_stain_is_the_patients_whatever_the_label():
    def glass(**changes) -> np.ndarray:
        plan = lay_out(label=changes.get("label", "tumour"))
        patient = changes.get("patient", "b01")
        rgb = lesions.draw_pixels(plan, slide="b01-a", patient=patient, master_seed=7, size=SMALL)
        return rgb[:20].mean(axis=(0, 1))

    assert glass() == pytest.approx(glass(label="clear"), abs=0.05)
    assert np.abs(glass() - glass(patient="b02")).max() > 1
    assert np.array_equal(lay_out().tissue, lay_out(label="clear").tissue)


def test_the_studys_stains_do_not_tell_tumour_from_clear(rows):
    patients = {row["patient"]: row["label"] for row in rows if row["drawing"] != "truncated"}
    strengths, labels = [], []
    for patient, label in patients.items():
        stain = patient_stain(patient=patient, master_seed=SEED)
        strengths.append([*stain.strengths, *stain.vectors.ravel(), *stain.white])
        labels.append(label == "tumour")
    for values in np.array(strengths).T:
        chance = stats.mannwhitneyu(values[np.array(labels)], values[~np.array(labels)]).pvalue
        assert chance > 0.01


# ---- how it is annotated


def shares(path: Path, plan: lesion_plan.Plan, size: tuple[int, int]) -> dict[str, np.ndarray]:
    rows, columns = np.nonzero(plan.solid)
    edge = lesion_plan.PATCH
    read = annotations.read(str(path), regions=REGIONS, l0_size=size)
    return annotations.class_shares(read.shares(columns * edge, rows * edge, edge), REGIONS)


def tile_labels(found: dict[str, np.ndarray]) -> np.ndarray:
    return np.where(found["tumour"] > 0.2, "tumour", np.where(found["normal"] > 0.8, "normal", ""))


@pytest.mark.parametrize("drawing", ["tissue", "strip", "hole"])
def test_the_three_formats_say_the_same(tmp_path, drawing):
    changes = {"drawing": drawing, "size": lesion_plan.SIZE}
    plan = lay_out(**changes)
    found = {
        ending: shares(annotate(tmp_path / f"a{ending}", **changes), plan, lesion_plan.SIZE)
        for ending in lesion_regions.WRITERS
    }
    labels = {ending: tile_labels(of) for ending, of in found.items()}
    assert (labels[".xml"] == labels[".geojson"]).all()
    assert (labels[".xml"] == labels[".png"]).mean() > 0.99
    for name in ("tumour", "normal"):
        assert np.abs(found[".xml"][name] - found[".geojson"][name]).max() < 0.002
        assert np.abs(found[".xml"][name] - found[".png"][name]).max() < 0.04

    own, is_tumour = labels[".xml"], plan.tumour[plan.solid]
    hole = plan.hole[plan.solid]
    if drawing == "tissue":
        assert ((own == "tumour") == is_tumour).mean() > 0.98
        assert ((own == "normal") == ~is_tumour).mean() > 0.98
    elif drawing == "strip":
        # three to five patches wide, across the slide
        assert 0.1 < (own == "").mean() < 0.3
        assert (own[is_tumour] != "normal").all()
    else:
        assert (own[hole] == "").sum() >= 5
        assert (own[~hole] != "").all()


def test_outlines_are_a_hands_and_not_the_patches_own():
    plan = lay_out(size=lesion_plan.SIZE)
    kinds = {"slide": "b01-a", "drawing": "tissue", "master_seed": 7, "size": lesion_plan.SIZE}
    areas = lesion_regions.annotated_areas(plan, **kinds)
    drawn = sum(polygon.area for polygon in areas["Tumor"]) / lesion_plan.PATCH**2
    assert drawn == pytest.approx(plan.tumour.sum(), rel=0.05)
    corners = np.concatenate([np.asarray(polygon.exterior.coords) for polygon in areas["Tumor"]])
    assert (corners % lesion_plan.PATCH == 0).all(axis=1).mean() < 0.02
    assert areas["Exclusion"] == []


def test_asap_sees_groups_and_qupath_classes(tmp_path):
    from defusedxml import ElementTree

    changes = {"drawing": "hole", "size": lesion_plan.SIZE}
    root = ElementTree.parse(annotate(tmp_path / "a.xml", **changes)).getroot()
    groups = [group.get("Name") for group in root.iter("Group")]
    assert groups == ["Tumor", "Normal", "Exclusion"]
    assert {one.get("PartOfGroup") for one in root.iter("Annotation")} == set(groups)
    assert {one.get("Type") for one in root.iter("Annotation")} == {"Polygon"}
    first = next(root.iter("Coordinates"))
    assert [int(point.get("Order")) for point in first] == list(range(len(first)))

    content = json.loads(annotate(tmp_path / "a.geojson", **changes).read_text("utf-8"))
    features = content["features"]
    assert {one["properties"]["classification"]["name"] for one in features} == {"Tumor", "Normal"}
    assert len({one["id"] for one in features}) == len(features)
    rings = [one["geometry"]["coordinates"] for one in features]
    assert all(ring[0] == ring[-1] for polygon in rings for ring in polygon), "rings are closed"
    tumours = [one for one in features if one["properties"]["classification"]["name"] == "Tumor"]
    assert sum(len(one["geometry"]["coordinates"]) - 1 for one in tumours) == 1, "one of them has its hole"

    with Image.open(annotate(tmp_path / "a.png", **changes)) as mask:
        assert (mask.mode, mask.size) == ("L", (384, 384))
        assert set(np.unique(mask)) == {0, 1, 2}


# ---- what cannot be drawn, and the sheet


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drawing": "blank"}, r"slide b01-a: drawing must be one of tissue, strip, hole, truncated; found 'blank'"),
        ({"label": "fibrous"}, r"slide b01-a: label of a drawn slide must be one of tumour, clear; found 'fibrous'"),
        ({"label": "clear", "drawing": "hole"}, r"with a hole in a lesion must be tumour; found 'clear'"),
        ({"size": (1300, 1000)}, r"width and height must be at least 1024 px; found 1300 x 1000"),
        ({"drawing": "hole", "size": (1024, 1024)}, r"must leave a rim around the hole in a lesion; found 1024 x 1024"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "slide.tif", **change)
    with pytest.raises(ValueError, match=message):
        annotate(tmp_path / "regions.xml", **change)
    assert list(tmp_path.iterdir()) == []


def test_an_annotation_of_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the ending must be one of \.xml, \.geojson, \.png; found '\.svg'"):
        annotate(tmp_path / "regions.svg")


def test_the_smallest_slide_with_a_lesion_has_one():
    for number in range(20):
        plan = lay_out(slide=f"s{number}", size=(8 * lesion_plan.PATCH, 8 * lesion_plan.PATCH))
        assert plan.tumour.any()


def test_the_sheet_is_complete(rows):
    assert list(rows[0]) == ["image", "path", "patient", "label", "annotation", "split", "drawing"]
    usable = [row for row in rows if row["drawing"] != "truncated"]
    assert Counter(row["split"] for row in usable) == {"train": 20, "validation": 6, "test": 14}
    clear = Counter(row["split"] for row in usable if row["label"] == "clear")
    assert clear == {"train": 7, "validation": 2, "test": 5}
    assert len(rows) == len(usable) + 1 == len({row["image"] for row in rows})
    assert Counter(row["drawing"] for row in rows)["hole"] == 2
    endings = Counter(Path(row["annotation"]).suffix for row in rows)
    assert set(endings) == set(lesion_regions.WRITERS)
    assert max(endings.values()) - min(endings.values()) <= 1
    of_patient = {}
    for row in rows:
        assert row["path"] == f"annotated/{row['image']}.tif"
        assert row["annotation"].startswith(f"annotated/{row['image']}.")
        assert row["image"].startswith(f"{row['patient']}-")
        of_patient.setdefault(row["patient"], set()).add(row["split"])
    assert all(len(sets) == 1 for sets in of_patient.values()), "a patient lies in one set"
    assert Counter(row["patient"] for row in rows).most_common(3)[1][1] == 2, "two patients have two slides"
