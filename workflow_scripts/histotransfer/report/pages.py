"""The page ``report.html`` of a study: what was asked and what was found. What it cost stands in ``run.html``.

Every number on it comes from a file that the page names, with the rule behind it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histotransfer import provenance, store
from histotransfer.evaluation import ranking, scoreboard
from histotransfer.figures.figures import STATUS_WORDS
from histotransfer.predictions import read_attributes
from histotransfer.problems import counted, listing
from histotransfer.report import chapters, score_tables
from histotransfer.report.chapters import Chapter
from histotransfer.report.entries import DescribedMethod, Entry, chosen, only
from histotransfer.report.map_chapter import MapIndex
from histotransfer.report.parts import MethodSet, Plate, read_plate, read_table
from histotransfer.report.rendering import write_page
from histotransfer.study.trained import TrainedNetwork

#: Files of these kinds are listed without a digest: they are large, or many.
_NOT_DIGESTED = {("slides", "description"), ("asked", "predictions")}


def write_report(
    *,
    entries: tuple[Entry, ...],
    page: str | Path,
    config: Mapping[str, Any],
    metric: str,
    code_version: str,
    trained: tuple[TrainedNetwork, ...] = (),
    map_methods: tuple[DescribedMethod, ...] = (),
    files: Sequence[str | Path] = (),
    templates: Sequence[str | Path] = (),
) -> None:
    """Write a study's report.

    Parameters
    ----------
    entries : tuple of Entry
        Every file behind the page: :meth:`histotransfer.report.contents.Contents.entries`. The page lists them in this
        order. Of predictions only attributes are read: chosen parameters, versions. What a figure shows stands in the
        figure.
    page : path
        HTML to write.
    config : mapping
        The whole merged config, whose ``study`` says what was asked.
    metric : str
        The metric of the first paragraph, for example ``balanced_accuracy``.
    code_version : str
        What tells the version of the code.
    trained : tuple of TrainedNetwork
        The study's trained networks.
    map_methods : tuple of DescribedMethod
        The methods of the chapter of maps.
    files : sequence of path
        The paths of the entries, named so that Snakemake makes them before.
    templates : sequence of path
        The files under :data:`histotransfer.report.rendering.TEMPLATES`, named so that an edited template makes the
        page anew; not read otherwise.

    Raises
    ------
    ValueError
        If an entry is none of `files`, a file that every page needs is not among the entries, or a table lacks a
        column.
    """
    _check_inputs(entries, files)
    scores, runs = only(entries, "scores", "scores"), scoreboard.read(only(entries, "scores", "scores").path)
    cohorts = {entry.dataset: store.read_table(entry.path) for entry in chosen(entries, "attrition", "slides")}
    models = _models(chosen(entries, "asked", "predictions"))
    indexes = [MapIndex(entry, store.read_json(entry.path)) for entry in chosen(entries, "maps", "index")]
    made = chapters.build(
        [read_table(entry) for entry in entries if entry.is_table],
        [read_plate(entry) for entry in entries if entry.is_figure and entry.section in chapters.SECTIONS],
        [chapters.Friedman.read(entry) for entry in chosen(entries, "strategies", "friedman")],
        runs=runs,
        trained=trained,
        saw_labels=models.saw_labels,
        map_methods=map_methods,
        map_indexes=indexes,
        names={(name, row["image"]): row["image_in_sheet"] for name, rows in cohorts.items() for row in rows},
    )
    write_page(
        "report.html.j2",
        page,
        title=f"Study {config['study']['name']}",
        study=config["study"],
        code_version=code_version,
        master_seed=config.get("seed", ""),
        config_text=_config_text(config),
        banners=_sharing_banners(runs),
        untrained=_untrained_banner(runs),
        metric=scoreboard.metric_name(metric),
        answers=[score_tables.compared(key, own, metric, entries) for key, own in scoreboard.comparisons(runs).items()],
        methods=_methods(runs),
        splits=_splits(runs, config),
        models=models,
        datasets=[_dataset_block(name, rows, entries, config) for name, rows in cohorts.items()],
        split_blocks=[_split_block(entry, entries) for entry in chosen(entries, "splits", "counts")],
        chapters=made,
        reading=chapters.READING,
        trains=bool(trained),
        sections=_sections(made),
        files=[_page_file(entry, indexes) for entry in entries],
        scores=scores,
    )


def _check_inputs(entries: Sequence[Entry], files: Sequence[str | Path]) -> None:
    strange = {entry.path for entry in entries} - set(map(str, files))
    if files and strange:
        raise ValueError(f"every file behind a page must be an input of its rule; found {listing(sorted(strange), 5)}")


def _config_text(config: Mapping[str, Any]) -> str:
    import yaml

    plain = json.loads(json.dumps(config, default=str))
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=88)


# ---- what is said first


@dataclass(frozen=True)
class DescribedSplit:
    """A split in words: what it holds out together, why groups may be shared ("" where they may not), and the rest."""

    name: str
    unit: str
    reason: str
    words: str = ""


def _sharing_banners(runs: Sequence[scoreboard.Run]) -> list[DescribedSplit]:
    """Return what must be said first: splits that do not hold patients apart, with their reasons."""
    splits = dict.fromkeys(
        DescribedSplit(run.split, run.unit, run.share_groups)
        for run in runs
        if run.unit != "patient" or run.share_groups
    )
    # a stated reason stands before splits that need none
    return sorted(splits, key=lambda split: not split.reason)


@dataclass(frozen=True)
class UntrainedMethods:
    """The methods on networks with random weights, and whether these are all."""

    methods: list[str]
    all: bool


def _untrained_banner(runs: Sequence[scoreboard.Run]) -> UntrainedMethods | None:
    untrained = dict.fromkeys(run.method for run in runs if run.untrained)
    methods = dict.fromkeys(run.method for run in runs)
    return UntrainedMethods(list(untrained), len(untrained) == len(methods)) if untrained else None


# ---- what was asked, what ran


def _methods(runs: Sequence[scoreboard.Run]) -> list[scoreboard.Run]:
    """Return one run of each method."""
    return list({run.method: run for run in reversed(runs)}.values())[::-1]


def _splits(runs: Sequence[scoreboard.Run], config: Mapping[str, Any]) -> list[DescribedSplit]:
    described = []
    for name, run in {run.split: run for run in runs}.items():
        definition = dict(config.get("splits", {}).get(name, {}))
        rest = {key: value for key, value in definition.items() if key not in ("unit", "share_groups") and value}
        words = ", ".join(f"{key} {value}" for key, value in rest.items())
        described.append(DescribedSplit(name, run.unit, run.share_groups, words))
    return described


@dataclass(frozen=True)
class Model:
    """What one predictions file says about its model: what it is of, and what was chosen on how much."""

    dataset: str
    task: str
    split: str
    seed: str
    method: str
    chosen: str
    tiles: str
    groups: str


@dataclass(frozen=True)
class Models:
    """What all predictions files say about how they were made.

    Attributes
    ----------
    versions : dict of str
        Package to its version, or versions.
    calibrations : list of str
        Sentences on how scores became probabilities.
    rows : list of Model
    saw_labels : MethodSet
        Methods whose features come from a network that was trained on the labels of the same tiles.
    """

    versions: dict[str, str]
    calibrations: list[str]
    rows: list[Model]
    saw_labels: MethodSet


def _models(predictions: Sequence[Entry]) -> Models:
    versions: dict[str, dict[str, None]] = {}
    calibrations: dict[str, None] = {}
    saw_labels: list[tuple[str, str]] = []
    rows = []
    for entry in predictions:
        said = read_attributes(entry.path)
        method = "+".join(str(said[name]) for name in ("features", "classifier") if said.get(name))
        if ranking.saw_labels(said):
            saw_labels.append((method, str(said["features"])))
        for made_by in ("features_versions", "versions"):
            for name, version in json.loads(said.get(made_by, "{}")).items():
                versions.setdefault(name, {})[version] = None
        if said.get("calibration"):
            calibrations[str(said["calibration"])] = None
        parameters = json.loads(said["chosen"]) if said.get("chosen") else {}
        rows.append(
            Model(
                **{name: str(said.get(name, "")) for name in ("dataset", "task", "split", "seed")},
                method=method,
                chosen=", ".join(f"{name} {value}" for name, value in parameters.items()) or "nothing to choose",
                tiles=str(said.get("n_train_tiles", "")),
                groups=str(said.get("n_train_groups", "")),
            )
        )
    return Models(
        versions={name: ", ".join(several) for name, several in sorted(versions.items())},
        calibrations=list(calibrations),
        rows=rows,
        saw_labels=MethodSet.of(saw_labels),
    )


# ---- datasets and splits


@dataclass(frozen=True)
class Card:
    """A slide's picture with its row of ``slides.tsv`` (empty where it has none) and where its resolution came from."""

    plate: Plate
    row: Mapping[str, str]
    mpp: str
    mpp_source: str


@dataclass(frozen=True)
class ExcludedImage:
    """A slide or image that is not used, with its status in words and the reason."""

    name: str
    patient: str
    status: str
    reason: str


@dataclass(frozen=True)
class DatasetBlock:
    """What the page shows of one dataset: how many slides were asked for and used, which not and why, pictures.

    `noun` is what a row of its table is, `n_excluded` how many slides or images the rows `excluded` stand for,
    `notices` the rows of what is used with a notice, `lost_tiles` how many tiles of it could not be read.
    """

    name: str
    noun: str
    table: Entry
    asked: int
    used: int
    patients: int
    tiles: int
    excluded: list[ExcludedImage]
    n_excluded: int
    notices: list[dict[str, str]]
    lost_tiles: int
    attrition: list[Plate]
    cards: list[Card]
    samples: list[Plate]


def _dataset_block(
    dataset: str, rows: list[dict[str, str]], entries: Sequence[Entry], config: Mapping[str, Any]
) -> DatasetBlock:
    kind = config.get("datasets", {}).get(dataset, {}).get("kind", "slides")
    used = [row for row in rows if row["status"] == "ok"]
    excluded = [row for row in rows if row["status"] != "ok"]
    [table] = chosen(entries, "attrition", "slides", dataset=dataset)
    return DatasetBlock(
        name=dataset,
        noun="slide" if kind == "slides" else "image",
        table=table,
        asked=_images(rows),
        used=len(used),
        patients=len({row["patient"] for row in used if row["patient"]}),
        tiles=sum(int(row["tiles"] or 0) for row in rows),
        excluded=[
            ExcludedImage(
                *(row["image_in_sheet"], row["patient"], STATUS_WORDS.get(row["status"], row["status"])), row["reason"]
            )
            for row in excluded
        ],
        n_excluded=_images(excluded),
        notices=[row for row in rows if row["notice"] or int(row["excluded_tiles"] or 0)],
        lost_tiles=sum(int(row["excluded_tiles"] or 0) for row in rows),
        attrition=_plates(entries, "attrition", dataset=dataset),
        cards=_cards(dataset, rows, entries),
        samples=_plates(entries, "tiles", dataset=dataset),
    )


def _plates(entries: Sequence[Entry], section: str, **of: Any) -> list[Plate]:
    return [read_plate(entry) for entry in chosen(entries, section, **of) if entry.is_figure]


def _cards(dataset: str, rows: Sequence[dict[str, str]], entries: Sequence[Entry]) -> list[Card]:
    row_of = {row["image"]: row for row in rows}
    described = [store.read_json(entry.path) for entry in chosen(entries, "slides", "description", dataset=dataset)]
    description_of = {description["slide"]: description for description in described}
    cards = []
    for plate in _plates(entries, "slides", dataset=dataset):
        slide = plate.entry.slide
        description = description_of.get(slide, {})
        mpp = description.get("mpp")
        source = str(description.get("mpp_source") or "")
        cards.append(Card(plate, row_of.get(slide, {}), f"{float(mpp):.4g}" if mpp else "", source))
    return cards


def _images(rows: Sequence[Mapping[str, str]]) -> int:
    # what was left out of a third-party table stands in one row a reason
    return sum(int(row.get("stands_for") or 1) for row in rows)


@dataclass(frozen=True)
class SplitPart:
    """A set of a split, or a fold of one: how many groups, and of each class how many groups and tiles."""

    set: str
    fold: str
    groups: int
    cells: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class SplitBlock:
    """What the page shows of one split with one seed; `table` is the file of its counts."""

    table: Entry
    unit: str
    classes: list[str]
    parts: list[SplitPart]
    plates: list[Plate]


def _split_block(table: Entry, entries: Sequence[Entry]) -> SplitBlock:
    rows = store.read_table(table.path)
    cells: dict[tuple[str, str, int], dict[str, tuple[int, int]]] = {}
    for row in rows:
        part = (row["set"], row["fold"], int(row["groups_of_set"]))
        cells.setdefault(part, {})[row["class"]] = (int(row["groups"]), int(row["tiles"]))
    factors = {name: getattr(table, name) for name in ("dataset", "task", "split", "seed")}
    return SplitBlock(
        table=table,
        unit=rows[0]["unit"] if rows else "",
        classes=list(dict.fromkeys(row["class"] for row in rows)),
        parts=[SplitPart(*part, own) for part, own in cells.items()],
        plates=_plates(entries, "splits", **factors),
    )


# ---- the page as a whole


@dataclass(frozen=True)
class Section:
    """A chapter in the page's list of contents."""

    title: str
    number: int


#: Chapters that every page has; those that compare methods stand before the confusion matrices.
_SECTIONS = {
    "asked": "What was asked, what ran",
    "attrition": "From slides asked for to slides used",
    "slides": "Slides and their tiles",
    "tiles": "Sample tiles of each class",
    "splits": "Splits",
    "scores": "Scores",
    "confusion": "Confusion matrices",
    "files": "Files behind this page",
}


def _sections(made: Sequence[Chapter]) -> dict[str, Section]:
    """Return title and number of each chapter by its anchor."""
    titles = list(_SECTIONS.items())
    confusion = list(_SECTIONS).index("confusion")
    ordered = [*titles[:confusion], *((chapter.anchor, chapter.title) for chapter in made), *titles[confusion:]]
    return {anchor: Section(title, place) for place, (anchor, title) in enumerate(ordered, start=1)}


@dataclass(frozen=True)
class PageFile:
    """A file behind the page as its last chapter lists it; `sha256` has 16 digits, or is ""."""

    path: str
    rule: str
    contents: str
    sha256: str


def _page_file(entry: Entry, indexes: Sequence[MapIndex]) -> PageFile:
    contents = entry.contents
    for index in indexes:
        if index.entry == entry:
            contents = f"names {counted(index.n_files, 'file')} of maps with their SHA-256"
    digested = (entry.section, entry.kind) not in _NOT_DIGESTED
    return PageFile(
        entry.path, entry.rule, contents, provenance.file_sha256(entry.path)[:16] if digested or entry.is_figure else ""
    )
