"""End-to-end learning: memory that does not grow with a slide, the time of a step, and how exact its gradient is."""

import shutil
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import small_study
import training
from measuring import Row

from histotransfer.definitions import Adam, Augmentation, Canvas, EndToEnd, Head, Phase, Recipe
from histotransfer.networks.specification import NetworkSpec, specification
from histotransfer.segmentation import end_to_end, extractor, feature_maps

TRAIN = "segmentation.end_to_end.train_end_to_end"
CLASSES = ["normal", "tumour"]
START = training.START
SMALL = specification({**START.plain(), "alpha": 0.35})
#: Values of a tile, as in Takahama et al. 2019.
N_VECTOR = 16
#: Tiles of the slides whose memory is compared, on canvases of the same size; a step on either is of mini-batches.
FEW, MANY, CANVAS = 500, 5_000, 72
#: Tiles of the slide whose step is timed, of that whose gradient is compared, and of a mini-batch.
TIMED, COMPARED, BATCH = 512, 48, 32
CROP_FROM = 112


def rows(folder: Path, repetitions: int) -> Iterator[Row]:
    """Yield the rows about end-to-end learning."""
    yield _memory(folder)
    yield from _step_against_its_passes(folder, repetitions)
    yield _gradient(folder)


def recipe(augmentation: Augmentation | None, crop_from: int | None) -> Recipe:
    """Return a recipe of one epoch, at the paper's rates."""
    phase = Phase(train="all", epochs=1, rate=1e-7, rates={extractor.EXTRACTOR: 0.01}, optimiser=Adam())
    return training.recipe(epochs=1, augmentation=augmentation, crop_from=crop_from, phases=[phase])


def write_networks(folder: Path, start: NetworkSpec, crop_from: int | None) -> dict[str, str]:
    """Write a network of random weights with a dense layer of 16, and a U-Net on its vectors; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    how = training.recipe(epochs=1, crop_from=crop_from, head=Head(dense=(N_VECTOR,)))
    measuring.run_process("write_networks", start, how, N_VECTOR, str(folder), CLASSES)
    return {"extractor": str(folder / "extractor.keras"), "segmentation": str(folder / "unet.keras")}


def source(start: NetworkSpec) -> extractor.TrainedLayer:
    """Return the layer whose outputs are the vectors: the dense one of a network of :func:`write_networks`."""
    return extractor.TrainedLayer("bench-tuned", start, "bench", layer="head_1")


def write_slides(folder: Path, tiles: Mapping[str, int], px: int) -> dict[str, Any]:
    """Write pixel files of slides of square tissue, the last for testing; return the inputs of a training."""
    shutil.rmtree(folder, ignore_errors=True)
    last = list(tiles)[-1]
    slides = [small_study.square(name, n, CLASSES, "test" if name == last else "train") for name, n in tiles.items()]
    pixels = [
        small_study.write_pixels(folder / "pixels" / f"{slide.name}.h5", slide.tiles, px, seed)
        for seed, slide in enumerate(slides)
    ]
    return {"pixels": pixels, "classes": CLASSES, **small_study.write_tables(folder, slides)}


def arguments(study: Mapping[str, Any], networks: Mapping[str, str], folder: Path, how: Recipe) -> dict[str, Any]:
    """Return the arguments of :data:`TRAIN`."""
    shutil.rmtree(folder / "resume", ignore_errors=True)
    written = ("model", "trained_extractor", "predictions", "history", "curve", "canvases", "moved")
    suffix = {"model": "keras", "trained_extractor": "keras", "predictions": "h5"}
    return {
        **study,
        **networks,
        **{name: str(folder / f"{name}.{suffix.get(name, 'tsv')}") for name in written},
        "source": source(SMALL),
        "classifier": EndToEnd(start="bench", recipe=how),
        "canvas": Canvas(CANVAS),
        **{"factors": small_study.factors("vectors", "end-to-end"), "master_seed": 1},
        "resume": str(folder / "resume"),
    }


def _memory(folder: Path) -> Row:
    home = folder / "end-to-end"
    networks = write_networks(home, SMALL, CROP_FROM)
    peaks, kept = [], []
    for n in (FEW, MANY):
        study = write_slides(home / f"tiles-{n}", {"s1": n, "s2": 16, "s3": 16}, CROP_FROM)
        how = recipe(training.AUGMENTATION, CROP_FROM)
        given = arguments(study, networks, home / f"tiles-{n}", how)
        peaks.append(measuring.in_own_process(TRAIN, **given).mib)
        shutil.rmtree(home / f"tiles-{n}")
        kept.append(end_to_end.kept_mib([_square(n, CANVAS)], N_VECTOR))
    ratio = peaks[1] / peaks[0]
    own = ", ".join(f"{one['vectors']:.2f} MiB of {one['tiles']:,} tiles" for one in kept)
    note = f"{peaks[0]:.0f} and {peaks[1]:.0f} MiB; of these kept: vectors and gradients {own}"
    note += f", maps {kept[0]['maps']:.2f} MiB each"
    what = f"peak host memory of an end-to-end step, {MANY:,} tiles a slide against {FEW}"
    return Row(what, ratio, ratio, ratio, 1.1, False, note)


def _square(n: int, size: int) -> feature_maps.Piece:
    edge = int(np.ceil(np.sqrt(n)))
    names = [f"{k % edge}_{k // edge}" for k in range(n)]
    [piece] = feature_maps.layout(["s1"] * n, names, size=size, per="slide", multiple=8)
    return piece


def _step_against_its_passes(folder: Path, repetitions: int) -> Iterator[Row]:
    for varied, crop_from in ((None, None), (training.AUGMENTATION, CROP_FROM)):
        home = folder / "end-to-end"
        px = crop_from or START.px
        networks = write_networks(home, START, crop_from)
        study = write_slides(home / "timed", {"s1": TIMED, "s2": 16, "s3": 16}, px)
        given = {"recipe": recipe(varied, crop_from), "networks": networks, "source": source(START)}
        given |= {"pixels": study["pixels"][0], "px": px, "canvas": 32}
        step = measuring.Waiting("end_to_end_step", given)
        parts = measuring.Waiting("end_to_end_passes", given)
        names = ("forward", "both", "unet")
        for name in names:
            parts.seconds(name)
        step.seconds()
        found, by_clock, seconds = [], [], []
        for _ in range(repetitions):
            forward, both, unet = (np.array(parts.seconds(name)) for name in names)
            whole = np.array(step.seconds())
            ratio = whole / (2.2 * forward + 1.1 * (both - forward) + unet)
            by_clock.append(float(ratio[0]))
            found.append(float(ratio[1]))
            seconds.append([float(one[1]) for one in (whole, forward, both - forward, unet)])
        step.close(), parts.close()
        middle = [statistics.median(one) for one in zip(*seconds, strict=True)]
        what = f"an end-to-end step, MobileNetV2 at 96 px ({TIMED} tiles by {BATCH}"
        what += ", with crop, turns, flips and four colours" if varied else ""
        what += "), of 2.2 forward and 1.1 backward passes and the U-Net"
        note = "processor time, {:.2f} s against passes of {:.2f}, {:.2f} and {:.2f} s".format(*middle)
        note += f"; by the clock {statistics.median(by_clock):.2f}"
        yield Row(what, statistics.median(found), min(found), max(found), 1.0, False, note)


def _gradient(folder: Path) -> Row:
    home = folder / "end-to-end"
    networks = write_networks(home, START, None)
    study = write_slides(home / "compared", {"s1": COMPARED, "s2": 16, "s3": 16}, START.px)
    given = {"recipe": recipe(None, None), "networks": networks, "source": source(START), "pixels": study["pixels"][0]}
    given |= {"px": START.px, "canvas": 8, "batch": 10}
    said = measuring.run_process("end_to_end_gradient", given)
    n, far, kinked, of_one_pass = map(float, said.split()[-4:])
    what = (
        f"gradient of an end-to-end step, {COMPARED} tiles by 10, off that of the joined network in one pass, in 1e-4"
    )
    note = (
        f"of its norm: the largest of {n:.0f} arrays of weights, MobileNetV2 with swish and U-Net; with its own ReLU "
    )
    note += f"{kinked:.1e}, and two ways to compute one pass differ by {of_one_pass:.1e}"
    return Row(what, *[far / 1e-4] * 3, bar=1, at_least=False, note=note)
