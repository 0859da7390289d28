"""The chapter of slides as maps: what the methods are, their table, maps side by side, what canvases cut off."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from histotransfer.evaluation import compared_tables
from histotransfer.evaluation.compared_tables import number
from histotransfer.evaluation.scoreboard import counted
from histotransfer.maps import map_tables, tumour_points
from histotransfer.problems import listing
from histotransfer.report.tables import Block, Cell, Table, filled, marked_places, need, said
from histotransfer.study.segmenters import END_TO_END, UNET

TITLE = "Slides as maps"
#: Sections of tables and figures that stand in it.
MAPS, ANNOTATIONS, STAGING = "maps", "annotations", "staging"
SECTIONS = (MAPS, ANNOTATIONS, STAGING)

READING = (
    "Each pixel of a map is a tile, bright where it is probably of the second class. A bright spot in the midst of "
    "normal tissue is what Takahama et al. (2019) call a tumour point: somebody has to look at it."
)

#: What the tables hold, in words, by kind.
CONTENTS = {
    "methods": "accuracy, PR AUC and isolated false tiles of methods, over seeds",
    "points": "isolated false tiles of each model",
    "canvases": "pieces of tissue, and what their canvas cuts off",
    "moved": "share of the weights that end-to-end steps moved",
}

#: What tables of staging hold, by kind; others are called by their title.
OF_STAGING = {
    "stages": "how the stages of patients agree with the truth",
    "left_out": "patients without a stage, with the reason",
}

#: Slides whose annotation is shown unfolded.
_OPEN_SLIDES = 8


def describe(method: Mapping[str, Any]) -> str:
    """Return what a method is, in a sentence.

    Parameters
    ----------
    method : mapping
        ``name``; ``kind`` of its classifier; ``cell_px`` where it sees the reduced slide, else None; ``sources``: the
        ``network`` and ``layer`` (None: the last) behind its features; ``trained``: those of these networks that were
        trained on tiles of the task; ``start``: the classifier that end-to-end learning begins with, else None.
    """
    networks = [one["network"] for one in method["sources"]]
    named = listing(networks, 4) if networks else "its features"
    kind = method["kind"]
    if kind == END_TO_END:
        features = method["name"].rpartition("+")[0]
        return (
            f"End to end: begins with the weights of {named} and of {features}+{method['start']}, and trains both "
            "together, one step a map: a tile is judged in its context, and the vectors are made for that."
        )
    if kind == UNET and method["cell_px"] is not None:
        edge = method["cell_px"]
        return (
            f"Segmentation only: a U-Net on the picture of the whole slide, reduced until a tile is {edge} x {edge} "
            "pixels. It sees the context, and nothing that is smaller."
        )
    if kind == UNET and set(networks) <= set(method["trained"]):
        layers = dict.fromkeys(one["layer"] for one in method["sources"] if one["layer"])
        what = f"layer {listing(layers, 4)} of " if layers else ""
        return (
            f"Separate: {named} learns from single tiles first; then a U-Net learns from the map of its vectors "
            f"({what}{named}), and sees each tile in its context."
        )
    if kind == UNET:
        return (
            f"Features of another task: a U-Net on the map of the features of {named}, which no tile of this task "
            "has trained."
        )
    if kind == "softmax":
        return f"Classifier only: {named} judges each tile by itself, whatever lies around it."
    return f"A classifier ({kind.replace('_', ' ')}) judges each tile by itself, from the features of {named}."


def build(
    tables: Sequence[Table],
    plates: Sequence[Any],
    *,
    untrained: set[str],
    splits: Mapping[str, Mapping[str, str]],
    methods: Sequence[Mapping[str, Any]],
    indexes: Sequence[Mapping[str, Any]],
    names: Mapping[tuple[str, str], str],
) -> dict[str, Any] | None:
    """Return the chapter, None where there is nothing of it.

    Parameters
    ----------
    tables : sequence of Table
        Those of other sections are passed over, as are `plates`.
    plates : sequence of report.Plate
    untrained : set of str
        Methods on untrained networks.
    splits : mapping
        Split to its ``unit`` and ``reason``.
    methods : sequence of mapping
        See :func:`describe`.
    indexes : sequence of mapping
        What :func:`histotransfer.maps.probability_maps.write_maps` wrote, each with its ``path``.
    names : mapping
        Dataset and slide to the slide's id in the sheet.
    """
    tables = [table for table in tables if table.section in SECTIONS]
    plates = [plate for plate in plates if plate.section in SECTIONS]
    if not (tables or plates or indexes):
        return None
    found = dict.fromkeys(one.fields.get("split", "") for one in (*tables, *plates))
    found.update((str(one["split"]), None) for one in indexes)
    parts = []
    for split in (one for one in found if one):
        own = [table for table in tables if table.fields.get("split") == split]
        shown = [plate for plate in plates if plate.fields.get("split") == split]
        parts.append(
            {
                "split": split,
                **splits.get(split, {"unit": "patient", "reason": ""}),
                "items": [],
                "friedman": [],
                "figures": _figures([plate for plate in shown if plate.section == MAPS]),
                "blocks": [_block(table, untrained, names) for table in own if table.section == MAPS],
                "staging": _staging(own, shown, untrained, names),
                "files": [_files(one) for one in indexes if str(one["split"]) == split],
            }
        )
    without = [table for table in tables if not table.fields.get("split")]
    of_all = [plate for plate in plates if not plate.fields.get("split")]
    return {
        "section": MAPS,
        "anchor": MAPS,
        "title": TITLE,
        "parts": parts,
        "trained": None,
        "maps": {
            "methods": [
                {"name": one["name"], "words": describe(one), "untrained": one["name"] in untrained} for one in methods
            ],
            "annotations": _annotations([plate for plate in of_all if plate.section == ANNOTATIONS], names),
            "blocks": [_block(table, untrained, names) for table in without if table.section == MAPS],
            "staging": _staging(without, of_all, untrained, names),
        },
    }


def _figures(plates: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the figures by dataset and task: that of the first seed, and the others."""
    found: dict[tuple[str, str], list[Any]] = {}
    for plate in plates:
        found.setdefault((plate["dataset"], plate["task"]), []).append(plate)
    return [
        {"dataset": dataset, "task": task, "first": own[0], "others": own[1:]} for (dataset, task), own in found.items()
    ]


def _annotations(plates: Sequence[Any], names: Mapping[tuple[str, str], str]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for plate in plates:
        name = names.get((plate["dataset"], plate["slide"]), plate["slide"])
        found.setdefault((plate["dataset"], plate["task"]), []).append({"plate": plate, "name": name})
    return [
        {"dataset": dataset, "task": task, "cards": cards, "folded": len(cards) > _OPEN_SLIDES}
        for (dataset, task), cards in found.items()
    ]


def _staging(
    tables: Sequence[Table], plates: Sequence[Any], untrained: set[str], names: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    return {
        "plates": [plate for plate in plates if plate.section == STAGING],
        "blocks": [_block(table, untrained, names) for table in tables if table.section == STAGING],
    }


def _files(index: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of the files of one model's maps."""
    folder, _, name = str(index["path"]).rpartition("/")
    size = sum(file["bytes"] for slide in index["slides"] for file in slide["files"])
    return {
        "method": f"{index['features']}+{index['classifier']}",
        "untrained": index["untrained"],
        "on": f"{index['dataset']}/{index['task']}",
        "seed": index["seed"],
        "slides": len(index["slides"]),
        "size": f"{size / 2**20:,.1f} MiB",
        "folder": f"{folder}/{index['folder']}" if folder else index["folder"],
        "index": name,
    }


def _block(table: Table, untrained: set[str], names: Mapping[tuple[str, str], str]) -> Block:
    if table.section == STAGING:
        return _stages_block(table) if table.kind == "stages" else _as_it_is(table)
    return _BLOCKS[table.kind](table, untrained, names)


def _methods_block(table: Table, untrained: set[str], names: Mapping[tuple[str, str], str]) -> Block:
    need(table, map_tables.METHOD_COLUMNS)
    # what is best: the highest, or the lowest
    columns = {"accuracy": ("accuracy at 0.5", 1, ".3f"), "pr_auc": ("PR AUC", 1, ".3f")}
    columns |= {"isolated_tiles": ("isolated false tiles", -1, ".1f")}
    rows: list[list[Cell]] = []
    for key in dict.fromkeys((row["dataset"], row["task"]) for row in table.rows):
        own = [row for row in table.rows if (row["dataset"], row["task"]) == key]
        cells = [[Cell(row["method"], row["untrained"] == "yes"), Cell("/".join(key))] for row in own]
        for column, (_, sign, form) in columns.items():
            values = [number(row, column, table.path) for row in own]
            places = marked_places([None if value is None else sign * value for value in values])
            if places.count(1) > 1:
                # behind several best ones nobody is second
                places = [place if place == 1 else 0 for place in places]
            for line, row, value, place in zip(cells, own, values, places, strict=True):
                text = _with_spread(value, number(row, f"{column}_sd", table.path), form)
                line.append(Cell(text, row["untrained"] == "yes" and value is not None, place))
        for line, row in zip(cells, own, strict=True):
            value = number(row, "isolated_regions", table.path)
            line.append(Cell(said(value, ".1f"), row["untrained"] == "yes" and value is not None))
            line += [Cell(row["seeds"]), Cell(_tiles(row["tiles"]))]
        rows += cells
    heads: list[tuple[str, ...]] = [("Method",), ("On",)]
    heads += [(head, "mean ± sd over seeds") for head, _, _ in columns.values()]
    heads += [("tumour points", "their regions, mean"), ("seeds",), ("labelled test tiles",)]
    positive = dict.fromkeys(row["positive"] for row in table.rows if row["positive"])
    of = f"; PR AUC is that of {listing(positive)}" if positive else ""
    words = (
        f"numbers of labelled test tiles{of}. A false tile is isolated if its region of tiles predicted positive "
        "holds none that is labelled so: the fewer, the better. The standard deviation is of a sample (n − 1); a seed "
        "draws the split, unless it is given, and what is random in training. Best and second best are marked."
    )
    notes = []
    for note in compared_tables.notes(table.rows):
        which = dict.fromkeys(row["method"] for row in table.rows if row["note"] == note)
        notes.append(f"{note}: {listing(which, 8)}")
    return Block(table, heads, [False, False, *[True] * 6], rows, words, "The methods side by side", notes)


def _tiles(text: str) -> str:
    """Write the numbers of tiles of seeds, which stand in turn, as one or from the least to the greatest."""
    found = sorted(int(one) for one in text.split(",") if one.strip())
    ends = dict.fromkeys(f"{one:,}" for one in (found[0], found[-1])) if found else ["–"]
    return " to ".join(ends)


def _with_spread(value: float | None, deviation: float | None, form: str) -> str:
    return said(value, form) + ("" if deviation is None or value is None else f" ± {said(deviation, form)}")


def _points_block(table: Table, untrained: set[str], names: Mapping[tuple[str, str], str]) -> Block:
    need(table, tumour_points.COLUMNS)
    counts = {
        "slides": "slides",
        "tiles": "labelled tiles",
        "positive_tiles": "positive",
        "missed_tiles": "missed",
        "false_tiles": "false",
        "isolated_tiles": "of them isolated",
        "isolated_regions": "tumour points",
    }
    words = (
        "each model's test tiles. Missed ones are labelled positive and predicted negative, false ones the other way "
        "round; tiles that touch at a side or a corner are one region, and a region with false tiles and without any "
        "labelled positive is a tumour point."
    )
    rows = []
    for row in table.rows:
        mark = row["untrained"] == "yes"
        cells = [Cell(row["method"], mark), Cell(f"{row['dataset']}/{row['task']}"), Cell(row["seed"])]
        for name in counts:
            # what is labelled is no work of the method
            own = mark and name not in ("slides", "tiles", "positive_tiles")
            cells.append(Cell(said(number(row, name, table.path), ",.0f"), own))
        rows.append(cells)
    heads: list[tuple[str, ...]] = [("Method",), ("On",), ("seed",), *((head,) for head in counts.values())]
    numeric = [False, False, *[True] * (len(heads) - 2)]
    notes = compared_tables.notes(table.rows)
    return Block(table, heads, numeric, rows, words, "Isolated false tiles, seed by seed", notes)


def _canvases_block(table: Table, untrained: set[str], names: Mapping[tuple[str, str], str]) -> Block:
    need(table, map_tables.CANVASES_COLUMNS)
    cut = [row for row in table.rows if number(row, "cut_off", table.path)]
    pieces = {(row["dataset"], row["image"], row["piece"]) for row in table.rows}
    slides = dict.fromkeys((row["dataset"], row["image"]) for row in cut)
    named = {key: names.get(key, key[1]) for key in slides}
    words = f"each of {counted(len(pieces), 'piece')} of tissue lies whole on its canvas."
    if cut:
        # methods with canvases of other sizes count a piece each
        worst = {(row["dataset"], row["image"], row["piece"]): 0 for row in cut}
        for row in cut:
            key = (row["dataset"], row["image"], row["piece"])
            worst[key] = max(worst[key], int(row["cut_off"]))
        words = (
            f"{counted(len(worst), 'piece')} of {len(pieces):,} {'is' if len(worst) == 1 else 'are'} larger than the "
            f"canvas, on {counted(len(slides), 'slide')}: {listing(named.values(), 12)}. What is cut off, "
            f"{counted(sum(worst.values()), 'tile')} in all, trains no segmentation network; it is predicted all the "
            "same, on the canvas that it needs."
        )
    columns = {
        "image": ("Slide", ""),
        "dataset": ("Dataset", ""),
        "piece": ("piece", ",.0f"),
        "tiles": ("tiles", ",.0f"),
        "canvas": ("canvas, cells", ",.0f"),
        "cut_off": ("cut off", ",.0f"),
        "methods": ("Methods", ""),
    }
    heads = [(head,) for head, _ in columns.values()]
    numeric = [bool(form) for _, form in columns.values()]
    rows = [
        [Cell(said(number(row, name, table.path), form) if form else row[name]) for name, (_, form) in columns.items()]
        for row in cut
    ]
    for cells, row in zip(rows, cut, strict=True):
        cells[0].text = named[row["dataset"], row["image"]]
    return Block(table, heads, numeric, rows, words, "What canvases cut off", shown=bool(cut))


def _moved_block(table: Table, untrained: set[str], names: Mapping[tuple[str, str], str]) -> Block:
    need(table, map_tables.MOVEMENT_COLUMNS)
    keys = dict.fromkeys((row["dataset"], row["task"], row["method"], row["group"]) for row in table.rows)
    rows, sentences = [], []
    for key in keys:
        dataset, task, method, group = key
        own = [row for row in table.rows if (row["dataset"], row["task"], row["method"], row["group"]) == key]
        last = {row["seed"]: row for row in own}

        mean = statistics.fmean(_numbers(own, "step_mean", table.path))
        since = statistics.fmean(_numbers(last.values(), "since_start", table.path))
        least, most = (_numbers(own, name, table.path) for name in ("step_least", "step_most"))
        span = f"{_share(min(least))} to {_share(max(most))}"
        weights = said(number(own[0], "weights", table.path), ",.0f")
        cells = [method, f"{dataset}/{task}", group, weights, _share(mean), span, _share(since)]
        cells += [_epochs(last.values()), f"{len(last)}"]
        rows.append([Cell(one) for one in cells])
        rows[-1][0].untrained = method in untrained
        sentences.append(f"{_share(mean)} of the weights of the {group} of {method} on {dataset}/{task}")
    heads: list[tuple[str, ...]] = [("Method",), ("On",), ("Group",), ("weights",), ("moved by a step", "mean")]
    heads += [("moved by a step", "least to most"), ("moved since the start", "at the end"), ("epochs",), ("seeds",)]
    words = (
        f"a step moves on average {'; '.join(sentences[:4])}. A weight stays where it is when the change is less than "
        "half the distance to the next number that float32 has; means over steps, epochs and seeds."
    )
    numeric = [False, False, False, *[True] * 6]
    return Block(table, heads, numeric, rows, words if rows else "", "What end-to-end steps move")


def _numbers(rows: Iterable[Mapping[str, str]], column: str, path: str) -> list[float]:
    return [value for row in rows if (value := number(row, column, path)) is not None]


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"


def _epochs(rows: Iterable[Mapping[str, str]]) -> str:
    found = sorted({int(row["epoch"]) for row in rows})
    return f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _stages_block(table: Table) -> Block:
    columns = ("dataset", "task", "split", "unit", "share_groups", "seed", "features", "classifier", "untrained")
    need(table, (*columns, "patients", "left_out", "kappa", "low", "high", "slides", "slide_accuracy", "note"))
    split = table.fields.get("split", "")
    rows, notes = [], {}
    for row in table.rows:
        if split and row["split"] != split:
            continue
        mark, method = row["untrained"] == "yes", f"{row['features']}+{row['classifier']}"
        held_apart = "" if row["unit"] == "patient" else f" (by {row['unit']}, not by patient)"
        held_apart += " (groups shared)" if row["share_groups"] else ""
        cells = [Cell(method, mark), Cell(f"{row['dataset']}/{row['task']}, {row['split']}{held_apart}")]
        cells.append(Cell(row["seed"]))
        for value, low, high in (("kappa", "low", "high"), ("slide_accuracy", "slide_low", "slide_high")):
            found = [number(row, name, table.path) for name in (value, low, high)]
            text = said(found[0], ".3f")
            text += f" ({said(found[1], '.3f')} to {said(found[2], '.3f')})" if None not in found else ""
            cells.append(Cell(text, mark and found[0] is not None))
        cells += [Cell(said(number(row, name, table.path), ",.0f")) for name in ("patients", "left_out", "slides")]
        rows.append(cells)
        if row["note"]:
            notes.setdefault(row["note"], {})[method] = None
    heads: list[tuple[str, ...]] = [("Method",), ("On",), ("seed",), ("kappa", "quadratic weights, 95 %")]
    heads += [("accuracy of slides", "95 %"), ("patients staged",), ("left out",), ("slides",)]
    words = (
        "classes of slides by a random forest on the numbers of their maps, the patient's pN stage by the rule of the "
        "Camelyon17 challenge, and how it agrees with the truth. Forests never see the patient whose slides they "
        "classify; a patient with a missing slide has no stage. Intervals resample patients."
    )
    said_of = [f"{note}: {listing(which, 8)}" for note, which in notes.items()]
    return Block(table, heads, [False, False, *[True] * 6], rows, words, "From maps to stages", said_of)


def _as_it_is(table: Table) -> Block:
    """Return a table with every column of its file."""
    columns = [name for name in (table.rows[0] if table.rows else {}) if name not in ("untrained", "note")]
    numeric = [all(_is_number(filled(row, name)) for row in table.rows) for name in columns]
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
    name = table.fields.get("title") or table.contents.capitalize()
    words = table.fields.get("words", "") if rows else "none."
    notes = compared_tables.notes(table.rows)
    return Block(table, heads, numeric, rows, words, name, notes, shown=bool(rows))


def _is_number(text: str) -> bool:
    try:
        float(text or "0")
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    if not text:
        return "–"
    value = float(text)
    return text if value.is_integer() and "." not in text else said(value, ".3f")


_BLOCKS: dict[str, Callable[[Table, set[str], Mapping[tuple[str, str], str]], Block]] = {
    "methods": _methods_block,
    "points": _points_block,
    "canvases": _canvases_block,
    "moved": _moved_block,
}
