"""Tables of the chapter of slides as maps: methods, isolated tiles, canvases, what steps moved, and stages."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from histotransfer.evaluation import compared_tables
from histotransfer.evaluation.compared_tables import number, rows_of_task, task_name, task_names
from histotransfer.maps import map_tables, tumour_points
from histotransfer.problems import as_number, counted, listing
from histotransfer.report.parts import (
    Block,
    Cell,
    MethodSet,
    Table,
    filled,
    marked_places,
    need,
    noted,
    plain_block,
    seed_numbers,
    span,
    written,
)

#: Dataset and slide to the slide's id in the sheet.
Names = Mapping[tuple[str, str], str]


def map_block(table: Table, untrained: MethodSet, names: Names) -> Block:
    """Return a table of maps, of one of the kinds :data:`KINDS`.

    Parameters
    ----------
    table : Table
    untrained : MethodSet
        Methods on untrained networks.
    names : mapping
        Dataset and slide to the slide's id in the sheet.
    """
    return _BLOCKS[table.kind](table, untrained, names)


def staging_block(table: Table, untrained: MethodSet, names: Names) -> Block:
    """Return a table of what becomes of maps: stages, or any other table with all its columns."""
    return _stages_block(table) if table.kind == "stages" else _whole_block(table)


# ---- methods


#: Numbers of methods by column: head, sign of what is best (the highest, or the lowest), how they are written.
_METHOD_NUMBERS = {
    "accuracy": ("accuracy at 0.5", 1, ".3f"),
    "pr_auc": ("PR AUC", 1, ".3f"),
    "isolated_tiles": ("isolated false tiles", -1, ".1f"),
}


def _methods_block(table: Table, untrained: MethodSet, names: Names) -> Block:
    need(table, map_tables.METHOD_COLUMNS)
    rows: list[list[Cell]] = []
    for home in task_names(table.rows):
        rows += _methods_of_task(rows_of_task(table.rows, home), table.path)
    heads: list[tuple[str, ...]] = [("Method",), ("On",)]
    heads += [(head, "mean ± sd over seeds") for head, _, _ in _METHOD_NUMBERS.values()]
    heads += [("tumour points", "their regions, mean"), ("seeds",), ("labelled test tiles",)]
    positive = dict.fromkeys(row["positive"] for row in table.rows if row["positive"])
    of_class = f"; PR AUC is that of {listing(positive)}" if positive else ""
    words = (
        f"numbers of labelled test tiles{of_class}. A false tile is isolated if its region of tiles predicted positive "
        "holds no tile that is labelled positive: the fewer, the better. The standard deviation is of a sample "
        "(n − 1). A seed draws the split, unless it is given, and what is random in training. Best and second best are "
        "marked."
    )
    notes = noted([(row["note"], row["method"]) for row in table.rows])
    return Block(table, heads, [False, False, *[True] * 6], rows, words, "The methods side by side", notes)


def _methods_of_task(rows: Sequence[Mapping[str, str]], path: str) -> list[list[Cell]]:
    """Return the cells of the methods on one task, whose numbers compare."""
    lines = [[Cell(row["method"], row["untrained"] == "yes"), Cell(task_name(row))] for row in rows]
    for column, (_, sign, form) in _METHOD_NUMBERS.items():
        values = [number(row, column, path) for row in rows]
        places = marked_places([None if value is None else sign * value for value in values])
        if places.count(1) > 1:
            # behind several best ones none is second
            places = [place if place == 1 else 0 for place in places]
        for line, row, value, place in zip(lines, rows, values, places, strict=True):
            deviation = number(row, f"{column}_sd", path)
            spread = "" if value is None or deviation is None else f" ± {written(deviation, form)}"
            line.append(Cell(written(value, form) + spread, row["untrained"] == "yes" and value is not None, place))
    for line, row in zip(lines, rows, strict=True):
        value = number(row, "isolated_regions", path)
        line.append(Cell(written(value, ".1f"), row["untrained"] == "yes" and value is not None))
        line += [Cell(row["seeds"]), Cell(span(seed_numbers(row["tiles"])))]
    return lines


#: Numbers of isolated tiles by column; the first ones are of the labels, not of a method.
_POINT_NUMBERS = {
    "slides": "slides",
    "tiles": "labelled tiles",
    "positive_tiles": "positive",
    "missed_tiles": "missed",
    "false_tiles": "false",
    "isolated_tiles": "of them isolated",
    "isolated_regions": "tumour points",
}
_OF_LABELS = ("slides", "tiles", "positive_tiles")


def _points_block(table: Table, untrained: MethodSet, names: Names) -> Block:
    need(table, tumour_points.COLUMNS)
    words = (
        "each model's test tiles. Missed ones are labelled positive and predicted negative, false ones the other way "
        "round. Tiles that touch at a side or a corner are one region. A region with false tiles and without any that "
        "is labelled positive is a tumour point."
    )
    rows = []
    for row in table.rows:
        mark = row["untrained"] == "yes"
        cells = [Cell(row["method"], mark), Cell(task_name(row)), Cell(row["seed"])]
        for name in _POINT_NUMBERS:
            cells.append(Cell(written(number(row, name, table.path), ",.0f"), mark and name not in _OF_LABELS))
        rows.append(cells)
    heads: list[tuple[str, ...]] = [("Method",), ("On",), ("seed",), *((head,) for head in _POINT_NUMBERS.values())]
    numeric = [False, False, *[True] * (len(heads) - 2)]
    notes = compared_tables.notes(table.rows)
    return Block(table, heads, numeric, rows, words, "Isolated false tiles, seed by seed", notes)


# ---- segmentation networks


_CANVAS_COLUMNS = {
    "image": ("Slide", ""),
    "dataset": ("Dataset", ""),
    "piece": ("piece", ",.0f"),
    "tiles": ("tiles", ",.0f"),
    "canvas": ("canvas, cells", ",.0f"),
    "cut_off": ("cut off", ",.0f"),
    "methods": ("Methods", ""),
}


def _canvases_block(table: Table, untrained: MethodSet, names: Names) -> Block:
    need(table, map_tables.CANVASES_COLUMNS)
    cut = [row for row in table.rows if number(row, "cut_off", table.path)]
    block = plain_block(replace(table, rows=cut), _CANVAS_COLUMNS, "", "What canvases cut off")
    name_of = {key: names.get(key, key[1]) for key in ((row["dataset"], row["image"]) for row in cut)}
    for cells, row in zip(block.rows, cut, strict=True):
        cells[0].text = name_of[row["dataset"], row["image"]]
    n_pieces = len({(row["dataset"], row["image"], row["piece"]) for row in table.rows})
    block.words, block.shown = _canvas_words(cut, list(name_of.values()), n_pieces), bool(cut)
    return block


def _canvas_words(cut: Sequence[Mapping[str, str]], slides: Sequence[str], n_pieces: int) -> str:
    # methods with canvases of other sizes count a piece each
    worst: dict[tuple[str, str, str], int] = {}
    for row in cut:
        piece = (row["dataset"], row["image"], row["piece"])
        worst[piece] = max(worst.get(piece, 0), int(row["cut_off"]))
    if not worst:
        return f"each of {counted(n_pieces, 'piece')} of tissue lies whole on its canvas."
    return (
        f"{counted(len(worst), 'piece')} of {n_pieces:,} {'is' if len(worst) == 1 else 'are'} larger than the canvas, "
        f"on {counted(len(slides), 'slide')}: {listing(slides, 12)}. What is cut off, "
        f"{counted(sum(worst.values()), 'tile')} in all, trains no segmentation network. It is predicted all the same, "
        "on the canvas that it needs."
    )


#: How the share of the weights is written that a step moved.
_MOVED = ".3g %"


def _moved_block(table: Table, untrained: MethodSet, names: Names) -> Block:
    need(table, map_tables.MOVEMENT_COLUMNS)
    rows, sentences = [], []
    for home, method, group in dict.fromkeys((task_name(row), row["method"], row["group"]) for row in table.rows):
        own = [row for row in table.rows if (task_name(row), row["method"], row["group"]) == (home, method, group)]
        ends = list({row["seed"]: row for row in own}.values())
        mean = written(statistics.fmean(_numbers(own, "step_mean", table.path)), _MOVED)
        since = written(statistics.fmean(_numbers(ends, "since_start", table.path)), _MOVED)
        least, most = (_numbers(own, name, table.path) for name in ("step_least", "step_most"))
        steps = f"{written(min(least), _MOVED)} to {written(max(most), _MOVED)}"
        weights = written(number(own[0], "weights", table.path), ",.0f")
        epochs = span(int(row["epoch"]) for row in ends)
        cells = [home, group, weights, mean, steps, since, epochs, f"{len(ends)}"]
        rows.append([Cell(method, method in untrained.methods), *map(Cell, cells)])
        sentences.append(f"{mean} of the weights of the {group} of {method} on {home}")
    heads: list[tuple[str, ...]] = [("Method",), ("On",), ("Group",), ("weights",), ("moved by a step", "mean")]
    heads += [("moved by a step", "least to most"), ("moved since the start", "at the end"), ("epochs",), ("seeds",)]
    words = (
        f"a step moves on average {'; '.join(sentences[:4])}. A weight stays where it is when the change is less than "
        "half the distance to the next number that float32 has. Means are over steps, epochs and seeds."
    )
    numeric = [False, False, False, *[True] * 6]
    return Block(table, heads, numeric, rows, words if rows else "", "What end-to-end steps move")


def _numbers(rows: Iterable[Mapping[str, str]], column: str, path: str) -> list[float]:
    return [value for row in rows if (value := number(row, column, path)) is not None]


#: Tables of maps, by kind.
_BLOCKS: dict[str, Callable[[Table, MethodSet, Names], Block]] = {
    "methods": _methods_block,
    "points": _points_block,
    "canvases": _canvases_block,
    "moved": _moved_block,
}
KINDS = tuple(_BLOCKS)


# ---- what becomes of maps


_STAGE_COLUMNS = (
    *("dataset", "task", "split", "unit", "share_groups", "seed", "features", "classifier", "untrained"),
    *("patients", "left_out", "kappa", "low", "high", "slides", "slide_accuracy", "note"),
)


def _stages_block(table: Table) -> Block:
    need(table, _STAGE_COLUMNS)
    split = table.entry.split
    own = [row for row in table.rows if not split or row["split"] == split]
    heads: list[tuple[str, ...]] = [("Method",), ("On",), ("seed",), ("kappa", "quadratic weights, 95 %")]
    heads += [("accuracy of slides", "95 %"), ("patients staged",), ("left out",), ("slides",)]
    words = (
        "classes of slides by a random forest on the numbers of their maps, the patient's pN stage by the rule of the "
        "Camelyon17 challenge, and how it agrees with the truth. Forests never see the patient whose slides they "
        "classify. A patient with a missing slide has no stage. Intervals resample patients."
    )
    notes = noted([(row["note"], _method(row)) for row in own])
    rows = [_stage_cells(row, table.path) for row in own]
    return Block(table, heads, [False, False, *[True] * 6], rows, words, "From maps to stages", notes)


def _method(row: Mapping[str, str]) -> str:
    return f"{row['features']}+{row['classifier']}"


def _stage_cells(row: Mapping[str, str], path: str) -> list[Cell]:
    mark = row["untrained"] == "yes"
    held_apart = "" if row["unit"] == "patient" else f" (by {row['unit']}, not by patient)"
    held_apart += " (groups shared)" if row["share_groups"] else ""
    cells = [Cell(_method(row), mark), Cell(f"{task_name(row)}, {row['split']}{held_apart}"), Cell(row["seed"])]
    for columns in (("kappa", "low", "high"), ("slide_accuracy", "slide_low", "slide_high")):
        value, low, high = (number(row, name, path) for name in columns)
        interval = f" ({written(low, '.3f')} to {written(high, '.3f')})" if None not in (value, low, high) else ""
        cells.append(Cell(written(value, ".3f") + interval, mark and value is not None))
    return cells + [Cell(written(number(row, name, path), ",.0f")) for name in ("patients", "left_out", "slides")]


def _whole_block(table: Table) -> Block:
    """Return a table with every column of its file."""
    columns = [name for name in (table.rows[0] if table.rows else {}) if name not in ("untrained", "note")]
    numeric = [all(as_number(filled(row, name) or "0") is not None for row in table.rows) for name in columns]
    rows = []
    for row in table.rows:
        mark = row.get("untrained") == "yes"
        cells = [
            Cell(_short(filled(row, name)) if is_number else filled(row, name), mark and is_number)
            for name, is_number in zip(columns, numeric, strict=True)
        ]
        if cells:
            cells[0].untrained = mark
        rows.append(cells)
    heads = [(name.replace("_", " "),) for name in columns]
    name = table.entry.caption or table.entry.contents.capitalize()
    words = table.entry.words if rows else "none."
    notes = compared_tables.notes(table.rows)
    return Block(table, heads, numeric, rows, words, name, notes, shown=bool(rows))


def _short(text: str) -> str:
    """Write the number in a cell as it is if it is whole, else with three digits."""
    if not text:
        return "–"
    value = float(text)
    return text if value.is_integer() and "." not in text else written(value, ".3f")
