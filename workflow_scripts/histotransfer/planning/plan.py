"""What a study will take: processor and GPU hours, disk, jobs, and the number of shards.

Everything is computed from the rates of :mod:`histotransfer.planning.rates`, or from those that :func:`measured_here`
measures on this machine. The user gives the rates of GPUs: they were not measured.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histotransfer.networks import building, specification, table
from histotransfer.planning import needs, rates
from histotransfer.problems import as_number, closest, listing

#: The largest number of slides that Snakemake's own time and memory were measured with.
MEASURED_SLIDES = 10_000
#: The largest share of a shard's time for starting its network, the largest duration of a shard in hours, and shards
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
    """The rates that depend most on the machine.

    Attributes
    ----------
    cut_mpx_s : float
        Megapixels that a processor cuts in a second.
    tiles_s : dict of str to float
        By architecture, tiles of a forward pass in a processor second.
    source : str
        Where the rates are from.
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
        Number of slides, and of kept tiles of each slide.
    networks : tuple of str
        Architectures, whose ImageNet features go to :data:`CLASSIFIERS`.
    gpus : int
        GPUs that extract at a time; 0: extraction runs on processors.
    gpu_tiles_s : dict of str to float
        By architecture, tiles of a forward pass in a second of one GPU.
    threads : int
        Threads of an extraction on processors.
    cores : int
        Processors that are used at a time.
    seeds : int
    train_tiles : int or None
        Largest number of tiles that a classifier learns from (`train_tiles` of the split); None: all tiles of the
        training groups.
    test : float
        Share of the tiles that is held out.
    slurm : bool
        Whether the jobs of each slide together, and each other job, are a job of Slurm.
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
    """What a study takes.

    Attributes
    ----------
    jobs : int
        Number of jobs of Snakemake.
    slides_h, networks_h, classifiers_h, snakemake_h : float
        Processor hours of the slides until tiles are cut, of the networks, of the classifiers, and of Snakemake.
    gpu_h : float or None
        GPU hours; None if a rate is not known.
    pixels_gb, features_gb, other_gb : float
    n_shards : int
        For the config.
    planning_min, planning_gb : float
        Time and memory of Snakemake before the first job.
    classifier_gb : float
        Memory request of the largest job of a classifier.
    hours : float or None
        Wall time if all processors and GPUs are busy throughout; None if a rate is not known.
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
        """Disk space of all files."""
        return self.pixels_gb + self.features_gb + self.other_gb


def checked(asked: Asked) -> Asked:
    """Return the study with the names of networks as in the table of networks.

    Raises
    ------
    ValueError
        If a value is not legal; the message lists all such values.
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
    """Return tiles per second by network from ``NETWORK=RATE``, and ``RATE``, which is for all of `names`.

    Raises
    ------
    ValueError
        If a rate is not a number.
    """
    by_network: dict[str, float] = {}
    for text in sorted(texts, key=lambda text: "=" in text):
        name, _, rate = text.rpartition("=")
        number = as_number(rate)
        if number is None:
            raise ValueError(f"GPU rates: legal are RATE and NETWORK=RATE, with a number; found {text!r}")
        by_network |= dict.fromkeys([name] if name else names, number)
    return by_network


def train_tiles(text: str) -> int | None:
    """Return the largest number of training tiles from text, None for ``all``."""
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
    slide_jobs = asked.slides * (4 + len(asked.px))
    network_jobs = len(asked.networks) * shards
    jobs = slide_jobs + network_jobs + 2 * models + OTHER_JOBS
    # the jobs of a slide up to its pixels are one job of Slurm, its labels another
    started = 2 * asked.slides + network_jobs + 2 * models + OTHER_JOBS if asked.slurm else 0
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
    asked_for = [_classifier(asked, kind, table.ARCHITECTURES[name].n_features) for kind, name in classifiers]
    classifiers_s = asked.seeds * sum(need.seconds for need in asked_for)

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
        classifier_gb=max(needs.memory_mb(need, slides=asked.slides) for need in asked_for) / 1e3,
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
    """Return the number of shards that keeps all GPUs (or all processors) busy at little cost for their starts.

    Notes
    -----
    There are at least four shards for each GPU, so that GPUs end at about the same time though slides differ, and at
    least as many as are needed for each to take four hours or less. There are at most as many as slides, and so few
    that starting the fastest network takes 5 % of a shard or less.
    """
    known = known or Rates()
    one_at_a_time = [_extraction_s(asked, known, name) for name in asked.networks]
    at_a_time = asked.gpus or max(1, asked.cores // asked.threads)
    wanted = max(SHARDS_A_GPU * at_a_time, math.ceil(max(one_at_a_time) / (3600 * SHARD_HOURS)))
    bearable = math.floor(min(one_at_a_time) * START_SHARE / SHARD_START_S)
    return max(1, min(wanted, bearable, asked.slides))


def _extraction_s(asked: Asked, known: Rates, name: str) -> float:
    """Return the wall seconds of all extraction, one after the other; a GPU without a rate counts as 40 processors."""
    on_a_gpu = asked.gpu_tiles_s.get(name, needs.GPU_WORTH * known.tiles_s[name])
    on_processors = known.tiles_s[name] * needs.worth(asked.threads, 0)
    return asked.all_tiles / (on_a_gpu if asked.gpus else on_processors)


def measured_here(names: Sequence[str], *, seconds: float = 10.0) -> Rates:
    """Measure cutting and the networks on this machine's processors.

    Parameters
    ----------
    names : sequence of str
        Architectures.
    seconds : float
        Shortest duration of each measurement; of a network at least one batch is measured.
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
    """Return the number of threads of a measurement: this machine's processors, at most those of an extraction."""
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
        pyramid.write_slide(slide, picture)
        named = {"slide": "plan", "image_in_sheet": "plan", "path": slide, "sheet_mpp": 0.5, "missing_mpp": "fail"}
        reader.inspect_slide(slide_file=slide, description=about, **named)
        found = {"mask": mask, "overlay": str(Path(folder, "s.jpg")), "threshold": "otsu", "exclude_pen": False}
        tissue.write_mask(slide_file=slide, description=about, **found)
        given = {"slide_file": slide, "description": about, "mask": mask, "grid": grid}
        write_grid(**given, tiling=tiling, finest_px=256, master_seed=1)
        mpx = len(read_kept(grid).tile) * 256**2 / 1e6
        cut = {"slide_file": slide, "grid": grid, "pixels": str(Path(folder, "p.h5")), "px": 256, "tiling": tiling}
        return _rate(lambda: pixels.write_pixels(**cut, threads=1, code=""), mpx, seconds)


def _rate(work: Callable[[], object], amount: float, seconds: float) -> float:
    """Return the amount of work in a processor second, with the work repeated for at least `seconds` of wall time."""
    started, before, times = time.perf_counter(), time.process_time(), 0
    while not times or time.perf_counter() - started < seconds:
        work()
        times += 1
    return times * amount / (time.process_time() - before)


def in_words(asked: Asked, plans: Mapping[int, Plan], known: Rates) -> str:
    """Return the plans of one study at several numbers of slides: a table, and the assumptions below it.

    Parameters
    ----------
    asked : Asked
    plans : dict of int to Plan
        By number of slides.
    known : Rates
    """
    columns = (
        *("slides", "CPU h", "of slides", "of networks", "of classifiers", "of Snakemake", "GPU h"),
        *("disk GB", "of pixels", "of features", "jobs", "n_shards", "classifier GB", "planning"),
        f"hours on {_workers(asked)}",
    )
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for slides, row in plans.items():
        cells = (
            f"{slides:,}" + (" *" if slides > MEASURED_SLIDES else ""),
            *map(
                _number,
                (row.cpu_h, row.slides_h, row.networks_h, row.classifiers_h, row.snakemake_h),
            ),
            "?" if row.gpu_h is None else _number(row.gpu_h),
            *map(_number, (row.disk_gb, row.pixels_gb, row.features_gb)),
            *(f"{row.jobs:,}", f"{row.n_shards:,}", _number(row.classifier_gb)),
            f"{_number(row.planning_min)} min, {_number(row.planning_gb)} GB",
            "?" if row.hours is None else _number(row.hours),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_notes(asked, plans, known)])


def _workers(asked: Asked) -> str:
    gpus = f" and {asked.gpus} GPU{'' if asked.gpus == 1 else 's'}" if asked.gpus else ""
    return f"{asked.cores} processors{gpus}"


def _notes(asked: Asked, plans: Mapping[int, Plan], known: Rates) -> list[str]:
    rates_of = ", ".join(f"{name} {known.tiles_s[name]:.3g}" for name in asked.networks)
    kinds = ", ".join(CLASSIFIERS)
    learnt = "all tiles of the training groups" if asked.train_tiles is None else f"at most {asked.train_tiles:,} tiles"
    notes = [
        f"{asked.tiles:,} tiles a slide; {kinds} on each network, {asked.seeds} seed(s), {FOLDS} folds, learning from "
        f"{learnt}" + ("." if asked.train_tiles is None else f" (`train_tiles: {asked.train_tiles}` of the split)."),
        f"Rates ({known.source}): tiles a processor second {rates_of}; "
        f"cutting {known.cut_mpx_s:.3g} megapixels a processor second.",
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
