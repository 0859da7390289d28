"""Chapters of the report that compare strategies: what each shows, its figures, and the tables behind them.

A chapter is there when it has a figure or a table. Its tables are the CSV files behind its figures; the page shows
their numbers and hands out the files as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from histotransfer import store
from histotransfer.evaluation import scoreboard
from histotransfer.report import comparison_blocks, map_blocks, map_chapter, training_chapter
from histotransfer.report.entries import DescribedMethod, Entry
from histotransfer.report.map_blocks import Names
from histotransfer.report.map_chapter import MapIndex, MapPart, Maps
from histotransfer.report.parts import Block, HeldApart, Item, MethodSet, Plate, Table
from histotransfer.report.training_chapter import Training, TrainingPart
from histotransfer.study.trained import TrainedNetwork

#: Chapters in their order; a comparison is called by its own title.
TITLES = {
    "comparison": "",
    "strategies": "Best score of each strategy",
    "training": "Trained networks",
    "maps": map_chapter.TITLE,
    "layers": "Inner layers",
    "importance": "Where the information lies",
    "selection": "Selected features",
}

#: Sections of the figures that stand in these chapters.
SECTIONS = {*TITLES, *map_chapter.SECTIONS}

#: How a figure is read, by its kind.
READING = {
    "ranks": "Bars are average ranks, the highest is the best. Hollow bars stand for untrained networks.",
    "differences": "Dots right of zero are better than the reference. Lines are 95 % intervals, hollow dots stand for "
    "untrained networks. Of many intervals some miss zero by chance.",
    "layers": "Layers from the first to the last, downwards. A ring marks a layer that inner cross-validation chose, "
    "with the number of seeds. The test set plays no part in the choice.",
    "iterations": "Thick lines are means over seeds, dots are ends of epochs. Training from scratch is dashed. Nothing "
    "is chosen by this curve.",
    "epochs": "Training tiles are measured during training, with dropout and augmentation, so validation tiles may "
    "score better. Rings mark the epoch that was kept.",
    "grad_cam": "Grad-CAM (Selvaraju et al. 2017): the last feature maps of the network, weighted by the gradient of "
    "the predicted class's score before the softmax. Each map is scaled to its highest value. It shows what speaks for "
    "the predicted class, not whether the prediction is right.",
    "augmentation": "In training each tile is varied anew in every epoch. In testing no tile is varied.",
    "maps": map_chapter.READING,
    "importance": "Each bar is cut at the most important features that together bring 10, 25 and 50 % of all "
    "importance. A bar longer than its black one brings more than its share of the features.",
    "curve": "Score in the cross-validation inside the training data. Rings mark the smallest number of features "
    "within the tolerance of the best score.",
}

#: What must be said of scores in a cross-validation inside the training data, where a network has seen the labels.
SAW_LABELS = (
    "Scores of inner cross-validation are too high here: the network behind these features was trained on the labels "
    "of the same tiles, so it has seen those of every fold. The scores on the held-out groups are not affected."
)

_BLOCKS: dict[tuple[str, str], Callable[[Table, MethodSet], Block]] = {
    ("comparison", "ranks"): comparison_blocks.ranks_block,
    ("comparison", "differences"): comparison_blocks.differences_block,
    ("strategies", "strategies"): comparison_blocks.strategies_block,
    ("training", "accuracy"): training_chapter.accuracy_block,
    ("training", "epochs"): training_chapter.epochs_block,
    ("training", "steps"): training_chapter.steps_block,
    ("layers", "layers"): comparison_blocks.layers_block,
    ("importance", "importance"): comparison_blocks.importance_block,
    ("selection", "curve"): comparison_blocks.curve_block,
    ("selection", "kept"): comparison_blocks.kept_block,
    ("selection", "pairs"): comparison_blocks.pairs_block,
    ("selection", "common"): comparison_blocks.common_block,
}


@dataclass(frozen=True)
class Friedman:
    """A Friedman test of strategies: what it found in a sentence; if it was made, ranks and pairs that differ."""

    entry: Entry
    sentence: str
    tested: bool
    average_ranks: Mapping[str, float] = field(default_factory=dict)
    different: Sequence[tuple[str, str]] = ()

    @classmethod
    def read(cls, entry: Entry) -> Friedman:
        """Read what :func:`histotransfer.evaluation.friedman.test` wrote."""
        content = store.read_json(entry.path)
        names = ("sentence", "tested", "average_ranks", "different")
        return cls(entry, **{name: content[name] for name in names if name in content})


@dataclass(frozen=True)
class Part:
    """What a chapter shows of one split; chapters of training and of maps have an order of their own."""

    split: str
    held_apart: HeldApart
    items: list[Item] = field(default_factory=list)
    friedman: list[Friedman] = field(default_factory=list)
    training: TrainingPart | None = None
    maps: MapPart | None = None

    @property
    def unit(self) -> str:
        """What the split holds out together."""
        return self.held_apart.unit

    @property
    def reason(self) -> str:
        """Why groups may be shared between its sets; "" where they may not."""
        return self.held_apart.reason


@dataclass(frozen=True)
class Chapter:
    """A chapter: its parts, one a split, and what stands before them where it is on training or maps."""

    section: str
    anchor: str
    title: str
    parts: list[Part]
    training: Training | None = None
    maps: Maps | None = None

    @property
    def blocks(self) -> list[Block]:
        """Tables beside its figures."""
        return [item.block for part in self.parts for item in part.items if item.block]


def check_table(entry: Entry) -> None:
    """Raise ValueError if a table is of no known section and kind."""
    legal = [*_BLOCKS, *((map_chapter.MAPS, kind) for kind in map_blocks.KINDS)]
    # what becomes of maps is shown as it is
    if (entry.section, entry.kind) not in legal and entry.section != map_chapter.STAGING:
        names = ", ".join("/".join(key) for key in legal)
        raise ValueError(f"{entry.path}: a table is one of {names}; found {entry.section}/{entry.kind}")


def build(
    tables: Sequence[Table],
    plates: Sequence[Plate],
    friedman: Sequence[Friedman],
    *,
    runs: Sequence[scoreboard.Run],
    trained: Sequence[TrainedNetwork],
    saw_labels: MethodSet,
    map_methods: Sequence[DescribedMethod],
    map_indexes: Sequence[MapIndex],
    names: Names,
) -> list[Chapter]:
    """Return the chapters that have something to show, in the order of :data:`TITLES`.

    Parameters
    ----------
    tables : sequence of Table
    plates : sequence of Plate
        Figures of :data:`SECTIONS`.
    friedman : sequence of Friedman
    runs : sequence of scoreboard.Run
        Say which methods are on untrained networks, and what each split holds apart.
    trained : sequence of TrainedNetwork
    saw_labels : MethodSet
        Methods whose features come from a network that was trained on the labels of the same tiles.
    map_methods, map_indexes, names
        See :func:`histotransfer.report.map_chapter.build`.

    Raises
    ------
    ValueError
        If a table is of no known section and kind, lacks a column, or a number in it is none.
    """
    for table in tables:
        check_table(table.entry)
    untrained = MethodSet.of((run.method, run.features) for run in runs if run.untrained)
    splits = {run.split: HeldApart(run.unit, run.share_groups) for run in runs}
    made: list[Chapter] = []
    for section in TITLES:
        if section == map_chapter.MAPS:
            maps = map_chapter.build(
                tables, plates, untrained=untrained, methods=map_methods, indexes=map_indexes, names=names
            )
            made += [_map_chapter(maps, splits)] if maps else []
            continue
        own = [table for table in tables if table.entry.section == section]
        shown = [plate for plate in plates if plate.entry.section == section]
        if section == "comparison":
            keys = dict.fromkeys(one.entry.comparison for one in (*own, *shown))
            for place, key in enumerate(keys, start=1):
                of_key = ([one for one in several if one.entry.comparison == key] for several in (own, shown))
                made.append(_chapter(section, f"comparison-{place}", *of_key, (), untrained, splits))
        elif section == "training" and (own or shown):
            made.append(_training_chapter(own, shown, trained, untrained, splits))
        elif own or shown or (section == "strategies" and friedman):
            tests = friedman if section == "strategies" else ()
            made.append(_chapter(section, section, own, shown, tests, untrained, splits))
    _note_optimism(made, saw_labels)
    return made


def _chapter(
    section: str,
    anchor: str,
    tables: Sequence[Table],
    plates: Sequence[Plate],
    friedman: Sequence[Friedman],
    untrained: MethodSet,
    splits: Mapping[str, HeldApart],
) -> Chapter:
    """Return a chapter whose parts are figures, each with its table, then tables without a figure."""
    entries = [one.entry for one in (*tables, *plates)]
    title = TITLES[section] or next((entry.caption for entry in entries if entry.caption), entries[0].comparison)
    parts = []
    for split in dict.fromkeys(one.entry.split for one in (*tables, *plates, *friedman)):
        items = _items(
            [table for table in tables if table.entry.split == split],
            [plate for plate in plates if plate.entry.split == split],
            untrained,
        )
        tests = [test for test in friedman if test.entry.split == split]
        parts.append(Part(split, splits.get(split, HeldApart()), items, tests))
    return Chapter(section, anchor, title, parts)


def _training_chapter(
    tables: Sequence[Table],
    plates: Sequence[Plate],
    trained: Sequence[TrainedNetwork],
    untrained: MethodSet,
    splits: Mapping[str, HeldApart],
) -> Chapter:
    tiles = [plate for plate in plates if plate.entry.kind == "augmentation"]
    others = [plate for plate in plates if plate.entry.kind != "augmentation"]
    chapter = _chapter("training", "training", tables, others, (), untrained, splits)
    own = [TrainingPart.of(part.split, part.items) for part in chapter.parts]
    parts = [Part(part.split, part.held_apart, training=one) for part, one in zip(chapter.parts, own, strict=True)]
    training = training_chapter.build(trained, tiles, own)
    return Chapter(chapter.section, chapter.anchor, chapter.title, parts, training=training)


def _map_chapter(maps: Maps, splits: Mapping[str, HeldApart]) -> Chapter:
    parts = [Part(split, splits.get(split, HeldApart()), maps=part) for split, part in maps.parts.items()]
    return Chapter(map_chapter.MAPS, map_chapter.MAPS, map_chapter.TITLE, parts, maps=maps)


def _items(tables: Sequence[Table], plates: Sequence[Plate], untrained: MethodSet) -> list[Item]:
    left = list(tables)
    items = []
    for plate in plates:
        twin = next((table for table in left if _belongs(table.entry, plate.entry)), None)
        if twin:
            left.remove(twin)
        items.append(_item(plate, twin, untrained))
    return items + [_item(None, table, untrained) for table in left]


def _belongs(table: Entry, figure: Entry) -> bool:
    """Return whether a figure was drawn of a table."""
    if table.section == "training":
        # its tables are of all networks of a split, and each figure of some
        return False
    return all(
        getattr(table, name) == getattr(figure, name) for name in ("comparison", "features", "classifier", "kind")
    )


def _item(plate: Plate | None, table: Table | None, untrained: MethodSet) -> Item:
    entry = (plate or table).entry
    return Item(
        kind=entry.kind,
        plate=plate,
        block=_BLOCKS[entry.section, entry.kind](table, untrained) if table else None,
        name=entry.method,
        untrained=entry.features in untrained.features,
        variants=comparison_blocks.variants_block(table) if table and entry.kind == "strategies" else None,
    )


def _note_optimism(made: Sequence[Chapter], saw_labels: MethodSet) -> None:
    """Add a note to each table of inner cross-validation on features of a network that saw the labels."""
    for block in (block for chapter in made for block in chapter.blocks):
        entry, rows = block.table.entry, block.table.rows
        if entry.section == "layers":
            methods = [comparison_blocks.layer_method(block.table, row["layer"]) for row in rows]
            concerned = any(method in saw_labels.methods for method in methods)
        elif entry.section == "selection":
            names = [entry.features, *(row.get("features", "") for row in rows)]
            concerned = any(name in saw_labels.features for name in names)
        else:
            concerned = False
        if concerned:
            block.notes.append(SAW_LABELS)
