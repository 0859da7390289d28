"""The chapter of slides as maps: what the methods are, their table, maps side by side, what canvases cut off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from histotransfer.problems import listing
from histotransfer.report import map_blocks
from histotransfer.report.entries import DescribedMethod, Entry
from histotransfer.report.map_blocks import Names
from histotransfer.report.parts import Block, MethodSet, Plate, Table
from histotransfer.study.segmenters import END_TO_END, UNET

TITLE = "Slides as maps"
#: Sections of tables and figures that stand in it.
MAPS, ANNOTATIONS, STAGING = "maps", "annotations", "staging"
SECTIONS = (MAPS, ANNOTATIONS, STAGING)

READING = (
    "Each pixel of a map is a tile, bright where it is probably of the second class. A bright spot in the midst of "
    "normal tissue is what Takahama et al. (2019) call a tumour point: a reader has to look at it."
)

#: Slides whose annotation is shown unfolded.
_OPEN_SLIDES = 8


@dataclass(frozen=True)
class MapIndex:
    """What :func:`histotransfer.maps.probability_maps.write_maps` wrote of one model: its JSON with its entry."""

    entry: Entry
    content: Mapping[str, Any]

    @property
    def split(self) -> str:
        """The split of the model."""
        return str(self.content["split"])

    @property
    def n_files(self) -> int:
        """Files of all slides."""
        return sum(len(slide["files"]) for slide in self.content["slides"])


@dataclass(frozen=True)
class MapFiles:
    """What is said of the files of one model's maps: of what they are, how many and how large, where they lie."""

    method: str
    untrained: bool
    on: str
    seed: str
    slides: int
    size: str
    folder: str
    rule: str

    @classmethod
    def of(cls, index: MapIndex) -> MapFiles:
        """Sum up an index."""
        content = index.content
        home, _, _ = index.entry.path.rpartition("/")
        size = sum(file["bytes"] for slide in content["slides"] for file in slide["files"])
        return cls(
            method=f"{content['features']}+{content['classifier']}",
            untrained=content["untrained"],
            on=f"{content['dataset']}/{content['task']}",
            seed=str(content["seed"]),
            slides=len(content["slides"]),
            size=f"{size / 2**20:,.1f} MiB",
            folder=f"{home}/{content['folder']}" if home else content["folder"],
            rule=index.entry.rule,
        )


@dataclass(frozen=True)
class MapFigures:
    """The maps of one dataset and task side by side: those of the first seed, and those of the others."""

    dataset: str
    task: str
    first: Plate
    others: list[Plate]


@dataclass(frozen=True)
class AnnotationCard:
    """A slide with its annotation, under its name in the sheet."""

    plate: Plate
    name: str


@dataclass(frozen=True)
class AnnotatedSlides:
    """The annotated slides of one dataset and task."""

    dataset: str
    task: str
    cards: list[AnnotationCard]

    @property
    def folded(self) -> bool:
        """Whether the page folds them."""
        return len(self.cards) > _OPEN_SLIDES


@dataclass(frozen=True)
class Staging:
    """Figures and tables of what becomes of maps."""

    plates: list[Plate]
    blocks: list[Block]


@dataclass(frozen=True)
class MapPart:
    """What stands under one split: maps side by side, tables, stages, and the files of maps."""

    figures: list[MapFigures]
    blocks: list[Block]
    staging: Staging
    files: list[MapFiles]


@dataclass(frozen=True)
class MethodWords:
    """A method in a sentence."""

    name: str
    words: str
    untrained: bool


@dataclass(frozen=True)
class Maps:
    """The chapter: methods in words, parts by split, and what is the same for all splits."""

    methods: list[MethodWords]
    parts: dict[str, MapPart]
    annotations: list[AnnotatedSlides] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    staging: Staging = field(default_factory=lambda: Staging([], []))


def describe(method: DescribedMethod) -> str:
    """Return what a method is, in a sentence."""
    networks = [source.network for source in method.sources]
    named = listing(networks, 4) if networks else "its features"
    if method.kind == END_TO_END:
        return (
            f"End to end: begins with the weights of {named} and of {method.features}+{method.start}, and trains both "
            "together, one step a map: a tile is judged in its context, and the vectors are made for that."
        )
    if method.kind == UNET and method.cell_px is not None:
        return (
            f"Segmentation only: a U-Net on the picture of the whole slide, reduced until a tile is {method.cell_px} x "
            f"{method.cell_px} pixels. It sees the context, and nothing that is smaller."
        )
    if method.kind == UNET and set(networks) <= set(method.trained):
        layers = dict.fromkeys(source.layer for source in method.sources if source.layer)
        what = f"layer {listing(layers, 4)} of " if layers else ""
        return (
            f"Separate: {named} learns from single tiles first; then a U-Net learns from the map of its vectors "
            f"({what}{named}), and sees each tile in its context."
        )
    if method.kind == UNET:
        return (
            f"Features of another task: a U-Net on the map of the features of {named}, which no tile of this task "
            "has trained."
        )
    if method.kind == "softmax":
        return f"Classifier only: {named} judges each tile by itself, whatever lies around it."
    return f"A classifier ({method.kind.replace('_', ' ')}) judges each tile by itself, from the features of {named}."


def build(
    tables: Sequence[Table],
    plates: Sequence[Plate],
    *,
    untrained: MethodSet,
    methods: Sequence[DescribedMethod],
    indexes: Sequence[MapIndex],
    names: Names,
) -> Maps | None:
    """Return the chapter, None where there is nothing of it.

    Parameters
    ----------
    tables : sequence of Table
        Those of other sections are passed over, as are `plates`.
    plates : sequence of Plate
    untrained : MethodSet
        Methods on untrained networks.
    methods : sequence of DescribedMethod
    indexes : sequence of MapIndex
    names : mapping
        Dataset and slide to the slide's id in the sheet.
    """
    tables = [table for table in tables if table.entry.section in SECTIONS]
    plates = [plate for plate in plates if plate.entry.section in SECTIONS]
    if not (tables or plates or indexes):
        return None
    splits = dict.fromkeys([*(one.entry.split for one in (*tables, *plates)), *(index.split for index in indexes)])
    parts = {}
    for split in filter(None, splits):
        own = [table for table in tables if table.entry.split == split]
        shown = [plate for plate in plates if plate.entry.split == split]
        parts[split] = MapPart(
            figures=_figures([plate for plate in shown if plate.entry.section == MAPS]),
            blocks=_blocks(own, MAPS, untrained, names),
            staging=_staging(own, shown, untrained, names),
            files=[MapFiles.of(index) for index in indexes if index.split == split],
        )
    without = [table for table in tables if not table.entry.split]
    of_all = [plate for plate in plates if not plate.entry.split]
    return Maps(
        methods=[MethodWords(method.name, describe(method), method.name in untrained.methods) for method in methods],
        parts=parts,
        annotations=_annotations([plate for plate in of_all if plate.entry.section == ANNOTATIONS], names),
        blocks=_blocks(without, MAPS, untrained, names),
        staging=_staging(without, of_all, untrained, names),
    )


def _by_task(plates: Iterable[Plate]) -> dict[tuple[str, str], list[Plate]]:
    grouped: dict[tuple[str, str], list[Plate]] = {}
    for plate in plates:
        grouped.setdefault((plate.entry.dataset, plate.entry.task), []).append(plate)
    return grouped


def _figures(plates: Sequence[Plate]) -> list[MapFigures]:
    return [MapFigures(*key, own[0], own[1:]) for key, own in _by_task(plates).items()]


def _annotations(plates: Sequence[Plate], names: Names) -> list[AnnotatedSlides]:
    return [
        AnnotatedSlides(
            *key,
            [
                AnnotationCard(plate, names.get((plate.entry.dataset, plate.entry.slide), plate.entry.slide))
                for plate in own
            ],
        )
        for key, own in _by_task(plates).items()
    ]


def _staging(tables: Sequence[Table], plates: Sequence[Plate], untrained: MethodSet, names: Names) -> Staging:
    return Staging(
        plates=[plate for plate in plates if plate.entry.section == STAGING],
        blocks=_blocks(tables, STAGING, untrained, names),
    )


def _blocks(tables: Sequence[Table], section: str, untrained: MethodSet, names: Names) -> list[Block]:
    make = map_blocks.staging_block if section == STAGING else map_blocks.map_block
    return [make(table, untrained, names) for table in tables if table.entry.section == section]
