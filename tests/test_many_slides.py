"""A thousand slides, of which fifty are broken in ten different ways; and for every day a smaller study of the kind."""

from __future__ import annotations

import html
import shutil

import pytest
import slide_factory
import study_factory
from PIL import Image

from histotransfer import predictions

pytestmark = pytest.mark.faults

#: What is wrong with a slide: its status, and a word of the reason.
WAYS = {
    "empty": ("unreadable", "the file is empty"),
    "text": ("unreadable", "Unsupported or missing image file"),
    "photograph": ("unreadable", "Unsupported or missing image file"),
    "truncated": ("unreadable", "Unsupported or missing image file"),
    "destroyed": ("unreadable", "JPEG"),
    "missing": ("missing", "no file at"),
    "unscaled": ("no mpp", "neither a resolution nor an objective power"),
    "contradictory": ("mpp conflict", "an objective power of 40x"),
    "white": ("no tissue", "saturation threshold"),
    "small": ("no tissue", "smaller than one tile"),
}
SIZE = (512, 512)
#: Different slides that are drawn; others are copies of them, under names of their own.
DRAWN = 40


def write_broken(path, way, seed):
    """Write a slide that is broken in one way."""
    of = {"size": SIZE, "seed": seed}
    match way:
        case "empty":
            slide_factory.zero_bytes(path)
        case "text":
            slide_factory.not_an_image(path)
        case "photograph":
            Image.fromarray(slide_factory.tissue_pixels(SIZE, seed=seed)).save(path, "png")
        case "truncated":
            slide_factory.truncate(slide_factory.write_slide(path, **of))
        case "destroyed":
            # level 0 alone: the slide opens, and its overview is sound
            slide_factory.write_slide(path, **of)
            for place in range(4):
                slide_factory.corrupt_later_tiles(path, column=place % 2, row=place // 2)
        case "unscaled":
            slide_factory.write_slide(path, mpp=None, power=None, **of)
        case "contradictory":
            slide_factory.write_slide(path, mpp=0.5, power=40, **of)
        case "white":
            slide_factory.write_slide(path, tissue=False, **of)
        case "small":
            slide_factory.write_slide(path, **{**of, "size": (32, 32)})


def many_slides(folder, workflow, *, slides, broken):
    """Make a study of so many slides, `broken` of them in each way, spread over the sheet and both classes."""
    scans, rows, drawn = folder / "data/scans", [], {}
    scans.mkdir(parents=True)
    ways = [way for way in WAYS for _ in range(broken)]
    every = slides // len(ways)
    for number in range(slides):
        path, kind = scans / f"s{number:04d}.tif", number // 2 % 2
        place, rest = divmod(number, every)
        if rest == every // 2 and place < len(ways):
            write_broken(path, ways[place], number)
        elif number % DRAWN in drawn:
            shutil.copyfile(drawn[number % DRAWN], path)
        else:
            drawn[number % DRAWN] = slide_factory.write_slide(path, size=SIZE, seed=number, kind=kind)
        row = {"image": path.stem, "path": f"scans/{path.name}", "patient": f"p{number // 2:03d}"}
        rows.append({**row, "label": ("alpha", "beta")[kind]})
    slide_factory.write_sheet(folder / "data/scans.tsv", rows)
    study = study_factory.Study(folder, workflow)
    study.config |= {"missing_mpp": "exclude", "n_shards": 4}
    study.config["tilings"]["tiny"]["max_tiles_per_slide"] = 4
    where = [f"s{place * every + every // 2:04d}" for place in range(len(ways))]
    return study, dict(zip(where, ways, strict=True))


@pytest.mark.parametrize(
    ("slides", "broken", "pixels"),
    [(30, 1, "stream"), pytest.param(1000, 5, "cache", marks=pytest.mark.full)],
    ids=["30 slides", "1,000 slides"],
)
def test_broken_slides_are_told_with_their_reasons_and_the_others_used(tmp_path, workflow, slides, broken, pixels):
    study, bad = many_slides(tmp_path / "study", workflow, slides=slides, broken=broken)
    study.config["pixels"] = pixels
    done = study.run(timeout=6 * 3600)
    used = slides - len(bad)
    summary = [line for line in done.output.splitlines() if f"{used} of {slides} images are used" in line]
    assert summary == [
        f"{used} of {slides} images are used; excluded: {broken} missing, {broken} mpp conflict, {broken} no mpp, "
        f"{2 * broken} no tissue, {5 * broken} unreadable, see slides.tsv and the report"
    ]

    table = {row["image"]: row for row in study.table("scans/slides.tsv")}
    assert {slide for slide, row in table.items() if row["status"] != "ok"} == set(bad)
    page = html.unescape((study.results / "studies/tiny/report.html").read_text("utf-8"))
    for slide, way in bad.items():
        status, word = WAYS[way]
        assert (table[slide]["status"], table[slide]["tiles"]) == (status, "0"), way
        assert word in table[slide]["reason"], way
        assert table[slide]["reason"] in page
        assert slide in page
    # every other slide is in the result: predicted, out of fold or held out
    model = study.results / "scans/models/kind/by-patient/1/net/svm"
    held_out, out_of_fold, _ = predictions.read_predictions(str(model / "predictions.h5"))
    assert {*held_out.image, *out_of_fold.image} == table.keys() - bad.keys()

    study.config["on_bad_slide"] = "fail"
    failed = study.run(expect=1)
    assert f"{used} of {slides} images are used" in failed.output
    assert "(on_bad_slide: fail)" in failed.output
    listed = [line for line in failed.output.splitlines() if line.startswith("  s") and ": " in line]
    # once by the job itself, and again in its log, which Snakemake shows
    assert [line.split(":")[0].strip() for line in listed] == 2 * sorted(bad)
    # nothing but the table of slides was made again
    assert set(study.plan().planned) & {"inspect_slide", "tile_pixels", "extract_features"} == set()

    # a slide more costs itself, and the start of its shard
    study.config["on_bad_slide"] = "exclude"
    before = study.files("scans/features/net/*.h5")
    assert len(before) == used
    scans = study.folder / "data/scans"
    slide_factory.write_slide(scans / "more.tif", size=SIZE, seed=slides)
    sheet = scans.with_name("scans.tsv")
    with open(sheet, "a", encoding="utf-8") as file:
        file.write("more\tscans/more.tif\tp-more\talpha\n")
    done = study.run("features")
    extracting = "stream_features" if pixels == "stream" else "extract_features"
    cutting = {} if pixels == "stream" else {"tile_pixels": 1}
    of_slide = {"inspect_slide": 1, "tissue_mask": 1, "tile_grid": 1, **cutting}
    assert done.finished == {**of_slide, extracting: 1}
    assert "1 slides with 4 tiles to extract" in done.output
    after = study.files("scans/features/net/*.h5")
    assert {name for name in after if after[name] != before.get(name)} == {"scans/features/net/more.h5"}
