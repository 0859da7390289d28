"""The chapter of trained networks: what was done to each, when it reached which accuracy, what it looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from histotransfer.evaluation import learning_curves
from histotransfer.evaluation.compared_tables import number, task_name
from histotransfer.report import recipe_words
from histotransfer.report.parts import (
    Block,
    Cell,
    Item,
    MethodSet,
    Plate,
    Table,
    need,
    noted,
    seed_numbers,
    span,
    written,
)
from histotransfer.study.trained import TrainedNetwork


@dataclass(frozen=True)
class NetworkWords:
    """A trained network in words: pairs of a term and a sentence, and the splits that have pictures of it."""

    name: str
    words: list[tuple[str, str]]
    splits: list[str]


@dataclass(frozen=True)
class Training:
    """What stands at the head of the chapter: the networks, and pictures of how their tiles are varied."""

    networks: list[NetworkWords]
    tiles: list[Plate]


@dataclass(frozen=True)
class TrainingPart:
    """What stands under one split.

    Attributes
    ----------
    split : str
    curves : list of Item
        Figures by iteration, of several networks.
    tables : list of Block
    by_network : dict of list of Item
        Figures of one network alone, by its name.
    """

    split: str
    curves: list[Item]
    tables: list[Block]
    by_network: dict[str, list[Item]]

    @classmethod
    def of(cls, split: str, items: Iterable[Item]) -> TrainingPart:
        """Put the figures and tables of a split into the chapter's order."""
        items = list(items)
        by_network: dict[str, list[Item]] = {}
        for item in items:
            if item.kind in ("epochs", "grad_cam") and item.plate:
                by_network.setdefault(item.plate.entry.network, []).append(item)
        return cls(
            split,
            curves=[item for item in items if item.kind == "iterations"],
            tables=[item.block for item in items if item.plate is None and item.block],
            by_network=by_network,
        )


def build(trained: Iterable[TrainedNetwork], tiles: list[Plate], parts: Sequence[TrainingPart]) -> Training:
    """Return the head of the chapter.

    Parameters
    ----------
    trained : iterable of TrainedNetwork
    tiles : list of Plate
        How training varies the tiles.
    parts : sequence of TrainingPart
        Of all splits: their tables say how many tiles each network was trained on.
    """
    tiles_of: dict[str, dict[str, None]] = {}
    for part in parts:
        for block in part.tables:
            for row in block.table.rows if block.table.kind == "accuracy" else ():
                numbers = span(seed_numbers(row["train_tiles"]))
                said = f"{numbers} tiles of {task_name(row)}, split {part.split}"
                tiles_of.setdefault(row["network"], {})[said] = None
    networks = []
    for network in trained:
        words = recipe_words.describe(network)
        if network.name in tiles_of:
            words.append(("Trained on", "; ".join(tiles_of[network.name])))
        splits = [part.split for part in parts if network.name in part.by_network]
        networks.append(NetworkWords(network.name, words, splits))
    return Training(networks, tiles)


def accuracy_block(table: Table, untrained: MethodSet) -> Block:
    """Return the test accuracy of trained networks by epoch, a row a network and task."""
    need(table, learning_curves.ACCURACY_COLUMNS)
    heads: list[tuple[str, ...]] = [("Network",), ("On",), ("Begins with",)]
    heads += [("after the first epoch",), ("after the last",), ("at the epoch kept", "the result"), ("epoch kept",)]
    heads += [("highest point of the test curve", "chosen on the test set"), ("at epoch",), ("seeds",)]
    words = (
        "Accuracy of test tiles, means over seeds. The result is that of the epoch kept, which the validation tiles "
        "chose, or which is the last. The highest point of a test curve is no result: it is chosen on the test set, "
        "and the more points a curve has, the higher it is by chance."
    )
    numeric = [False] * 3 + [True] * (len(heads) - 3)
    rows = [_accuracy_cells(row, table.path) for row in table.rows]
    notes = noted([(row["note"], row["network"]) for row in table.rows])
    return Block(table, heads, numeric, rows, words, "Test accuracy of the trained networks", notes)


def _accuracy_cells(row: Mapping[str, str], path: str) -> list[Cell]:
    mark = row["untrained"] == "yes"
    values = {name: number(row, name, path) for name in ("first_epoch", "last_epoch", "kept", "highest")}
    shown = {name: Cell(written(value, ".3f"), mark and value is not None) for name, value in values.items()}
    kept, last, highest_at = (span(seed_numbers(row[name])) for name in ("kept_epochs", "epochs", "highest_at"))
    begins = "trained weights" if row["transfer"] == "yes" else "random weights"
    return [
        *(Cell(row["network"], mark), Cell(task_name(row)), Cell(begins)),
        *(shown["first_epoch"], shown["last_epoch"], shown["kept"], Cell(f"{kept} of {last}")),
        *(shown["highest"], Cell(highest_at), Cell(row["seeds"])),
    ]


def epochs_block(table: Table, untrained: MethodSet) -> Block:
    """Return the losses and accuracies of every epoch, as a file alone."""
    need(table, learning_curves.EPOCH_COLUMNS)
    return Block(table, [], [], [], "every network, seed and epoch.", "Numbers by epoch", shown=False)


def steps_block(table: Table, untrained: MethodSet) -> Block:
    """Return the points of the learning curves, as a file alone."""
    need(table, learning_curves.STEP_COLUMNS)
    return Block(table, [], [], [], "every point of every learning curve.", "Numbers by iteration", shown=False)
