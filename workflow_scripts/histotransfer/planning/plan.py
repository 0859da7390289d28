"""What a study will take: processor and GPU hours, disk, jobs, and into how many shards to cut it.

Everything is computed from the rates of :mod:`histotransfer.planning.rates`, or from those that :func:`measured_here`
finds on the machine at hand. Rates of GPUs are given by the user: none was at hand.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histotransfer.networks import building, specification, table
from histotransfer.planning import needs, rates
from histotransfer.problems import as_number, closest, listing

#: Up to so many slides Snakemake's own time and memory were measured.
MEASURED_SLIDES = 10_000
#: Share of a shard's time that starting its network may take at the most, hours that it lasts at the most, and shards
#: for each GPU, so that all end at about the same time.
START_SHARE, SHARD_HOURS, SHARDS_A_GPU = 0.05, 4.0, 4
#: Seconds of Snakemake and Keras before a shard's first tile is computed.
SHARD_START_S = 20.0
#: Jobs of a study that do not grow with its slides, shards and methods: tables, figures, pages.
OTHER_JOBS = 20
#: Classifiers of each network, as config.yaml has them: kind, points of the grid.
CLASSIFIERS = {"libsvm": 3, "extratrees": 2}
FOLDS = 3


@dataclass(frozen=True)
class Rates:
    """What of the rates depends most on the machine.

    Attributes
    ----------
    cut_mpx_s : float
        Megapixels that a processor cuts in a second.
    tiles_s : dict
        By architecture, tiles that a processor takes through it in a second.
    source : str
        Where they are from.
    """

    cut_mpx_s: float = rates.CUT_MPX_S
    tiles_s: Mapping[str, float] = field(
        default_factory=lambda: {name: rate.tiles_s for name, rate in rates.NETWORKS.items()}
    )
    source: str = "measured on two busy cores, see docs/planning.md"


@dataclass(frozen=True)
class Asked:
    """A study to be planned.

    Attributes
    ----------
    slides, tiles : int
        Slides, and kept tiles of each.
    networks : tuple of str
        Architectures, whose ImageNet features go to :data:`CLASSIFIERS`.
    gpus : int
        GPUs that extract at a time; 0: processors do.
    gpu_tiles_s : dict
        By architecture, tiles that one GPU takes through it in a second.
    threads : int
        Of an extraction on processors.
    cores : int
        Processors that work at a time.
    seeds : int
    train_tiles : int or None
        Tiles that a classifier learns from at the most (`train_tiles` of the split); None: all of the training groups.
    test : float
        Share that is held out.
    slurm : bool
        Whether each slide's chain, and each other job, is a job of Slurm.
    """

    slides: int
    tiles: int
    networks: tuple[str, ...]
    gpus: int = 0
    gpu_tiles_s: Mapping[str, float] = field(default_factory=dict)
    threads: int = 8
    cores: int = 16
    seeds: int = 1
    train_tiles: int | None = 10_000
    test: float = 0.3
    slurm: bool = False

    @property
    def all_tiles(self) -> int:
        """Tiles of all slides."""
        return self.slides * self.tiles

    @property
    def px(self) -> list[int]:
        """Edges of the tiles that are stored, one for each size of input."""
        return sorted({table.ARCHITECTURES[name].px for name in self.networks})


@dataclass(frozen=True)
class Plan:
    """What it takes.

    Attributes
    ----------
    jobs : int
        Of Snakemake.
    slides_h, networks_h, classifiers_h, snakemake_h : float
        Processor hours: until tiles are cut, of the networks, of the classifiers, of Snakemake around the jobs.
    gpu_h : float or None
        GPU hours; None where a rate is not known.
    pixels_gb, features_gb, other_gb : float
    n_shards : int
        For the config.
    planning_min, planning_gb : float
        Of Snakemake before the first job.
    classifier_gb : float
        Memory that the largest job of a classifier asks for.
    hours : float or None
        Of the clock, if all processors and GPUs are busy throughout.
    """

    jobs: int
    slides_h: float
    networks_h: float
    classifiers_h: float
    snakemake_h: float
    gpu_h: float | None
    pixels_gb: float
    features_gb: float
    other_gb: float
    n_shards: int
    planning_min: float
    planning_gb: float
    classifier_gb: float
    hours: float | None

    @property
    def cpu_h(self) -> float:
        """All processor hours."""
        return self.slides_h + self.networks_h + self.classifiers_h + self.snakemake_h

    @property
    def disk_gb(self) -> float:
        """All of the disk."""
        return self.pixels_gb + self.features_gb + self.other_gb


def checked(asked: Asked) -> Asked:
    """Return what was asked for, names of networks as the table has them.

    Raises
    ------
    ValueError
        With all that is not legal.
    """
    problems = []
    for name in ("slides", "tiles", "threads", "cores", "seeds"):
        if getattr(asked, name) < 1:
            problems.append(f"{name}: must be a whole number from 1; found {getattr(asked, name)}")
    if asked.gpus < 0:
        problems.append(f"gpus: must be a whole number from 0; found {asked.gpus}")
    if asked.train_tiles is not None and asked.train_tiles < 1:
        problems.append(f"train tiles: must be a whole number from 1, or all; found {asked.train_tiles}")
    legal = {name.casefold(): name for name in table.ARCHITECTURES}
    for name in (*asked.networks, *asked.gpu_tiles_s):
        if name.casefold() not in legal:
            problems.append(
                f"networks: legal are {listing(legal.values())}{closest(name, legal.values())}; found {name!r}"
            )
    problems += [
        f"GPU rates: must be above 0; found {name}={rate}" for name, rate in asked.gpu_tiles_s.items() if rate <= 0
    ]
    if not asked.networks:
        problems.append("networks: one is needed at least; found none")
    if problems:
        raise ValueError("\n".join(problems))
    return dataclasses.replace(
        asked,
        networks=tuple(dict.fromkeys(legal[name.casefold()] for name in asked.networks)),
        gpu_tiles_s={legal[name.casefold()]: rate for name, rate in asked.gpu_tiles_s.items()},
    )


def gpu_rates(texts: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Return tiles a second by network from ``RATE``, which is of all of `names`, and ``NETWORK=RATE``.

    Raises
    ------
    ValueError
        If a rate is no number.
    """
    found: dict[str, float] = {}
    for text in sorted(texts, key=lambda text: "=" in text):
        name, _, rate = text.rpartition("=")
        number = as_number(rate)
        if number is None:
            raise ValueError(f"GPU rates: legal are RATE and NETWORK=RATE, with a number; found {text!r}")
        found |= dict.fromkeys([name] if name else names, number)
    return found


def train_tiles(text: str) -> int | None:
    """Return how many tiles are learnt from at the most, None for ``all``."""
    if text == "all":
        return None
    if not text.isdecimal():
        raise ValueError(f"train tiles: must be a whole number from 1, or all; found {text!r}")
    return int(text)


def plan(asked: Asked, known: Rates | None = None) -> Plan:
    """Compute what a study takes.

    Parameters
    ----------
    asked : Asked
        As :func:`checked` gives it.
    known : Rates, optional
    """
    known = known or Rates()
    shards = n_shards(asked, known)
    models = len(asked.networks) * len(CLASSIFIERS) * asked.seeds
    of_slides = asked.slides * (4 + len(asked.px))
    of_networks = len(asked.networks) * shards
    jobs = of_slides + of_networks + 2 * models + OTHER_JOBS
    # a slide's chain up to its pixels is one job of Slurm, its labels another
    started = 2 * asked.slides + of_networks + 2 * models + OTHER_JOBS if asked.slurm else 0
    snakemake_s = jobs * rates.JOB_S + started * rates.slurm_job_s(asked.slides)

    cut_mpx = asked.all_tiles * sum(px**2 for px in asked.px) / 1e6
    slides_s = asked.slides * rates.SLIDE_S + cut_mpx / known.cut_mpx_s

    starts = {name: shards * rates.NETWORKS[name].start_s for name in asked.networks}
    passes = {name: asked.all_tiles / known.tiles_s[name] for name in asked.networks}
    networks_s, gpu_s = sum(starts.values()) + sum(passes.values()), 0.0
    if asked.gpus:
        networks_s = sum(starts.values())
        gpu_s = _gpu_seconds(asked, starts)

    classifiers = [(kind, name) for kind in CLASSIFIERS for name in asked.networks]
    found = [_classifier(asked, kind, table.ARCHITECTURES[name].n_features) for kind, name in classifiers]
    classifiers_s = asked.seeds * sum(need.seconds for need in found)

    predicted = min(asked.test * asked.all_tiles + _learnt(asked), asked.all_tiles)
    other = asked.all_tiles * rates.TILE_BYTES + models * predicted * rates.PREDICTION_BYTES
    cpu_s = slides_s + networks_s + classifiers_s + snakemake_s
    on_gpus = None if gpu_s is None else gpu_s / asked.gpus if asked.gpus else 0.0
    return Plan(
        jobs=jobs,
        slides_h=slides_s / 3600,
        networks_h=networks_s / 3600,
        classifiers_h=classifiers_s / 3600,
        snakemake_h=snakemake_s / 3600,
        gpu_h=None if gpu_s is None else gpu_s / 3600,
        pixels_gb=3 * cut_mpx / 1e3,
        features_gb=4 * asked.all_tiles * sum(table.ARCHITECTURES[name].n_features for name in asked.networks) / 1e9,
        other_gb=other / 1e9,
        n_shards=shards,
        planning_min=(rates.PLAN_LEAST_S + (rates.PLAN_S - rates.PLAN_LEAST_S) * asked.slides / 1000) / 60,
        planning_gb=(rates.PLAN_LEAST_MB + (rates.PLAN_MB - rates.PLAN_LEAST_MB) * asked.slides / 1000) / 1e3,
        classifier_gb=max(needs.memory_mb(need, slides=asked.slides) for need in found) / 1e3,
        hours=None if on_gpus is None else (cpu_s / asked.cores + on_gpus) / 3600,
    )


def _gpu_seconds(asked: Asked, starts: Mapping[str, float]) -> float | None:
    if set(asked.networks) - set(asked.gpu_tiles_s):
        return None
    return sum(starts[name] + asked.all_tiles / asked.gpu_tiles_s[name] for name in asked.networks)


def _learnt(asked: Asked) -> float:
    inside = (1 - asked.test) * asked.all_tiles
    return inside if asked.train_tiles is None else min(inside, asked.train_tiles)


def _classifier(asked: Asked, kind: str, columns: int) -> needs.Need:
    held_out = asked.test * asked.all_tiles
    fits = CLASSIFIERS[kind] * (FOLDS + 1)
    known = {"tiles": asked.all_tiles, "rows": _learnt(asked), "held_out": held_out}
    return needs.classifier(kind, **known, row_bytes=4 * columns, fits=fits)


def n_shards(asked: Asked, known: Rates | None = None) -> int:
    """Return how many shards keep all GPUs (or all processors) busy, and pay little for their starts.

    Notes
    -----
    At least four shards a GPU, so that they end together though slides differ; at least so many that none takes more
    than four hours; but not so many that starting the fastest network takes more than 5 % of a shard, and no more than
    slides.
    """
    known = known or Rates()
    one_at_a_time = [_extraction_s(asked, known, name) for name in asked.networks]
    at_a_time = asked.gpus or max(1, asked.cores // asked.threads)
    wanted = max(SHARDS_A_GPU * at_a_time, math.ceil(max(one_at_a_time) / (3600 * SHARD_HOURS)))
    bearable = math.floor(min(one_at_a_time) * START_SHARE / SHARD_START_S)
    return max(1, min(wanted, bearable, asked.slides))


def _extraction_s(asked: Asked, known: Rates, name: str) -> float:
    """Return the seconds of the clock of one extraction after the other, where no GPU rate is given as if worth 40."""
    on_a_gpu = asked.gpu_tiles_s.get(name, needs.GPU_WORTH * known.tiles_s[name])
    on_processors = known.tiles_s[name] * needs.worth(asked.threads, 0)
    return asked.all_tiles / (on_a_gpu if asked.gpus else on_processors)


def measured_here(names: Sequence[str], *, seconds: float = 10.0) -> Rates:
    """Measure cutting and the networks on this machine's processors, some seconds each.

    Parameters
    ----------
    names : sequence of str
        Architectures.
    seconds : float
        Of each measurement, at the least; a network takes one batch at the least.
    """
    tiles_s = {name: _tiles_s(name, seconds) for name in names}
    return Rates(_cut_mpx_s(seconds), tiles_s, "cutting and networks measured on this machine just now")


def _tiles_s(name: str, seconds: float) -> float:
    import numpy as np

    from histotransfer.backends import compiled, process

    row = table.ARCHITECTURES[name]
    network: dict[str, Any] = {"architecture": name, "weights": "random", "px": row.px}
    threads = _threads()
    process.set_threads(threads)
    model = building.build(specification.specification(network), seed=1)
    forward = compiled.compiled_forward(model, row.px, engine="keras", batch=rates.BATCH, threads=threads)
    batch = np.random.default_rng(1).integers(0, 256, (rates.BATCH, row.px, row.px, 3), np.uint8)
    forward(batch)
    return _rate(lambda: forward(batch), rates.BATCH, seconds)


def _threads() -> int:
    """Return how many processors a measurement takes: those of this machine, but no more than an extraction has."""
    return min(8, len(os.sched_getaffinity(0)))


def _cut_mpx_s(seconds: float) -> float:
    from histotransfer.definitions import Tiling
    from histotransfer.drawn import demo, pyramid
    from histotransfer.slides import pixels, reader, tissue
    from histotransfer.slides.grid import read_kept, write_grid

    tiling = Tiling(size_px=256, mpp=0.5, tissue_min=0.5)
    with tempfile.TemporaryDirectory() as folder:
        slide, about, mask, grid = (str(Path(folder, name)) for name in ("s.tif", "s.json", "s.png", "s.h5"))
        picture = demo.draw_pixels(slide="plan", patient="plan", label="glandular", master_seed=1, size=(6000, 4500))
        Path(slide).write_bytes(pyramid.encode_pyramid(picture))
        named = {"slide": "plan", "image_in_sheet": "plan", "path": slide, "sheet_mpp": 0.5, "missing_mpp": "fail"}
        reader.inspect_slide(slide_file=slide, description=about, **named)
        found = {"mask": mask, "overlay": str(Path(folder, "s.jpg")), "threshold": "otsu", "exclude_pen": False}
        tissue.write_mask(slide_file=slide, description=about, **found)
        given = {"slide_file": slide, "description": about, "mask": mask, "grid": grid}
        write_grid(**given, tiling=tiling, finest_px=256, master_seed=1)
        mpx = len(read_kept(grid).tile) * 256**2 / 1e6
        cut = {"slide_file": slide, "grid": grid, "pixels": str(Path(folder, "p.h5")), "px": 256, "tiling": tiling}
        return _rate(lambda: pixels.write_pixels(**cut, threads=1, code=""), mpx, seconds)


def _rate(work: Any, amount: float, seconds: float) -> float:
    """Return how much is done in a second of one processor, doing it again and again."""
    started, before, times = time.perf_counter(), time.process_time(), 0
    while not times or time.perf_counter() - started < seconds:
        work()
        times += 1
    return times * amount / (time.process_time() - before)


def said(asked: Asked, plans: Mapping[int, Plan], known: Rates) -> str:
    """Return the plans of one study at several numbers of slides, as a table and what it rests on.

    Parameters
    ----------
    asked : Asked
    plans : dict
        By number of slides.
    known : Rates
    """
    columns = (
        *("slides", "CPU h", "of slides", "of networks", "of classifiers", "of Snakemake", "GPU h"),
        *("disk GB", "of pixels", "of features", "jobs", "n_shards", "classifier GB", "planning"),
        f"hours on {_workers(asked)}",
    )
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for slides, one in plans.items():
        cells = (
            f"{slides:,}" + (" *" if slides > MEASURED_SLIDES else ""),
            *map(_number, (one.cpu_h, one.slides_h, one.networks_h, one.classifiers_h, one.snakemake_h)),
            "?" if one.gpu_h is None else _number(one.gpu_h),
            *map(_number, (one.disk_gb, one.pixels_gb, one.features_gb)),
            *(f"{one.jobs:,}", f"{one.n_shards:,}", _number(one.classifier_gb)),
            f"{_number(one.planning_min)} min, {_number(one.planning_gb)} GB",
            "?" if one.hours is None else _number(one.hours),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_notes(asked, plans, known)])


def _workers(asked: Asked) -> str:
    gpus = f" and {asked.gpus} GPU{'' if asked.gpus == 1 else 's'}" if asked.gpus else ""
    return f"{asked.cores} processors{gpus}"


def _notes(asked: Asked, plans: Mapping[int, Plan], known: Rates) -> list[str]:
    of = ", ".join(f"{name} {known.tiles_s[name]:.3g}" for name in asked.networks)
    kinds = ", ".join(CLASSIFIERS)
    learnt = "all tiles of the training groups" if asked.train_tiles is None else f"at most {asked.train_tiles:,} tiles"
    notes = [
        f"{asked.tiles:,} tiles a slide; {kinds} on each network, {asked.seeds} seed(s), {FOLDS} folds, learning from "
        f"{learnt}" + ("." if asked.train_tiles is None else f" (`train_tiles: {asked.train_tiles}` of the split)."),
        f"Rates ({known.source}): tiles a processor second {of}; cutting {known.cut_mpx_s:.3g} megapixels a processor "
        "second.",
    ]
    if asked.gpus and any(one.gpu_h is None for one in plans.values()):
        notes.append("GPU hours: no GPU was measured for this table; give your own tiles a second (make bench-gpu).")
    elif asked.gpus:
        given = ", ".join(f"{name} {asked.gpu_tiles_s[name]:g}" for name in asked.networks)
        notes.append(f"GPU hours are of the tiles a second that were given: {given}.")
    if any(slides > MEASURED_SLIDES for slides in plans):
        notes.append(f"* Snakemake was measured with up to {MEASURED_SLIDES:,} slides: this row is extrapolated.")
    if any(one.classifier_gb > 64 for one in plans.values()):
        notes.append("A classifier reads all tiles that are held out at once: see the column classifier GB.")
    return notes


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2g}"
