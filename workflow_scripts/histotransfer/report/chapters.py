"""Chapters of the report that compare strategies: what each shows, its charts, its tables and these as files.

A chapter is there when it has a figure or a table. Its tables are the CSV files behind its figures; the page shows
their numbers and hands out the files as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from histotransfer.evaluation import compared_tables, learning_curves, scoreboard
from histotransfer.evaluation.compared_tables import number
from histotransfer.problems import listing
from histotransfer.report import map_chapter, recipe_words
from histotransfer.report.tables import Block, Cell, Table, file_table, filled, marked_places, need, plain_block, said

#: What each table holds, in words, by section and kind.
CONTENTS = {
    ("comparison", "ranks"): "scores and ranks of a comparison's methods, with their average",
    ("comparison", "differences"): "differences to a comparison's reference, with intervals",
    ("strategies", "strategies"): "each strategy's best score and the one that validation chooses",
    ("strategies", "friedman"): "whether strategies differ by more than chance",
    ("training", "accuracy"): "test accuracy of trained networks after the first, the last and the kept epoch",
    ("training", "epochs"): "losses and accuracies of trained networks by epoch",
    ("training", "steps"): "learning curves of trained networks by iteration",
    ("layers", "layers"): "scores of the layers of a network",
    ("importance", "importance"): "share of the importance that each network or layer brings",
    ("selection", "curve"): "scores of a feature elimination, by number of features",
    ("selection", "kept"): "how many features each elimination keeps",
    ("selection", "pairs"): "features that the selections of two tasks have in common",
    ("selection", "common"): "how many of the most important features must be taken for one that all tasks share",
    **{(map_chapter.MAPS, kind): what for kind, what in map_chapter.CONTENTS.items()},
    **{(map_chapter.STAGING, kind): what for kind, what in map_chapter.OF_STAGING.items()},
}

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

#: How a chart is read, by the kind of its table.
READING = {
    "ranks": "Bars are average ranks, the highest is the best; hollow bars stand for untrained networks.",
    "differences": "Dots right of zero are better than the reference; lines are 95 % intervals, hollow dots stand for "
    "untrained networks. Of many intervals some miss zero by chance.",
    "layers": "Layers from the first to the last, downwards. A ring marks a layer that inner cross-validation chose, "
    "with the number of seeds; the test set has no say in it.",
    "iterations": "Thick lines are means over seeds, dots ends of epochs; full training, from scratch, is dashed. The "
    "curve is for the eye alone: nothing is chosen by it.",
    "epochs": "Training tiles are measured while they are learnt, with dropout and augmentation, so that validation "
    "tiles may come out better. Rings mark the epoch that was kept.",
    "grad_cam": "The gradient of the predicted class's score, before the softmax, weighs the trunk's last maps "
    "(Selvaraju et al. 2017); each map is shown in shares of its highest value. It says what speaks for the class that "
    "is predicted, not whether that is right.",
    "augmentation": "In training each tile is varied anew in every epoch; in testing none is.",
    "maps": map_chapter.READING,
    "importance": "Each bar is cut at the most important features that together bring 10, 25 and 50 % of all "
    "importance. A bar longer than its black one brings more than its share of the features.",
    "curve": "Score in the cross-validation inside the training data; rings mark the smallest number of features "
    "within the tolerance of the best score.",
}

#: What must be said of scores in a cross-validation inside the training data, where a network has seen the labels.
SAW_LABELS = (
    "Scores of inner cross-validation are too high here: the network behind these features was trained on the labels "
    "of the same tiles, so that it has seen those of every fold. Scores on the groups held out are not."
)


def read_tables(paths: Sequence[str | Path], about: Sequence[Mapping[str, str]]) -> list[Table]:
    """Read the CSV tables of the chapters.

    Parameters
    ----------
    paths, about
        Each table with its ``section`` and ``kind`` (a key of :data:`CONTENTS`), ``rule``, ``split``, and as far as
        they tell it from others ``comparison``, ``title``, ``features``, ``classifier``.

    Raises
    ------
    ValueError
        If the two are not equally long, or a table is of no known section and kind.
    """
    if len(paths) != len(about):
        raise ValueError(f"tables and tables_of go together; found {len(paths)} and {len(about)}")
    return [_read_table(path, fields) for path, fields in zip(paths, about, strict=True)]


def _read_table(path: str | Path, fields: Mapping[str, str]) -> Table:
    section, kind = fields["section"], fields["kind"]
    legal_keys = [*_BLOCKS, *((map_chapter.MAPS, name) for name in map_chapter.CONTENTS)]
    # what becomes of maps is shown as it is
    if (section, kind) not in legal_keys and section != map_chapter.STAGING:
        legal = ", ".join("/".join(key) for key in legal_keys)
        raise ValueError(f"{path}: a table is one of {legal}; found {section}/{kind}")
    return file_table(path, fields, CONTENTS.get((section, kind)) or fields.get("title") or kind.replace("_", " "))


def build(
    tables: Sequence[Table],
    plates: Sequence[Any],
    friedman: Sequence[Mapping[str, Any]],
    *,
    runs: Sequence[scoreboard.Run],
    trained: Sequence[Mapping[str, Any]] = (),
    saw_labels: Iterable[str] = (),
    maps: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the chapters that have something to show, in the order of :data:`TITLES`.

    Parameters
    ----------
    tables : sequence of Table
    plates : sequence of report.Plate
        Figures; those of other sections are passed over.
    friedman : sequence of mapping
        What :func:`histotransfer.evaluation.friedman.test` wrote, each with its ``split``, ``path`` and ``rule``.
    runs : sequence of scoreboard.Run
        Tell which methods stand on untrained networks, and what each split holds apart.
    trained : sequence of mapping
        The study's trained networks: ``name``, ``start``, ``start_name``, ``recipe``.
    saw_labels : iterable of str
        Methods whose features come from a network that was trained on the labels of the same tiles.
    maps : mapping, optional
        ``methods``, ``indexes`` and ``names`` of :func:`map_chapter.build`.

    Raises
    ------
    ValueError
        If a table lacks a column or a number is none.
    """
    untrained = {run.method for run in runs if run.untrained}
    splits = {run.split: {"unit": run.unit, "reason": run.share_groups} for run in runs}
    made: list[dict[str, Any]] = []
    for section, title in TITLES.items():
        if section == map_chapter.MAPS:
            of_maps = {"methods": [], "indexes": [], "names": {}, **(maps or {})}
            chapter = map_chapter.build(tables, plates, untrained=untrained, splits=splits, **of_maps)
            made += [chapter] if chapter else []
            continue
        of_section = [table for table in tables if table.section == section]
        shown = [plate for plate in plates if plate.section == section]
        heard = list(friedman) if section == "strategies" else []
        keys = dict.fromkeys(one.fields.get("comparison", "") for one in (*of_section, *shown)) or {"": None}
        for place, key in enumerate(keys if section == "comparison" else [""], start=1):
            mine = [one for one in of_section if section != "comparison" or one.fields.get("comparison", "") == key]
            drawn = [one for one in shown if section != "comparison" or one.fields.get("comparison", "") == key]
            if not (mine or drawn or heard):
                continue
            titles = [one.fields.get("title", "") for one in (*mine, *drawn)]
            of_tiles = [one for one in drawn if one.fields.get("kind") == "augmentation"]
            parts = _parts(mine, [one for one in drawn if one not in of_tiles], heard, untrained, splits)
            made.append(
                {
                    "section": section,
                    "anchor": f"comparison-{place}" if section == "comparison" else section,
                    "title": title or next((one for one in titles if one), key),
                    "parts": parts,
                    "trained": _trained(trained, of_tiles, parts) if section == "training" else None,
                    "maps": None,
                }
            )
    _note_optimism(made, set(saw_labels))
    return made


def _note_optimism(made: Sequence[Mapping[str, Any]], saw_labels: set[str]) -> None:
    """Add a note to each table of inner cross-validation on features of a network that saw the labels."""
    features = {method.rpartition("+")[0] for method in saw_labels}
    items = (item for chapter in made for part in chapter["parts"] for item in part["items"] if item["block"])
    for block in (item["block"] for item in items):
        table = block.table
        if table.section == "layers":
            found = any(_layer_method(table, row) in saw_labels for row in table.rows)
        elif table.section == "selection":
            found = table.fields.get("features", "") in features or any(
                row.get("features", "") in features for row in table.rows
            )
        else:
            found = False
        if found:
            block.notes.append(SAW_LABELS)


def _trained(
    trained: Sequence[Mapping[str, Any]], plates: Sequence[Any], parts: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return what each trained network is in words, with its tiles; put each part's figures in the chapter's order."""
    tiles: dict[str, dict[str, None]] = {}
    for part in parts:
        for item in part["items"]:
            if item["kind"] == "accuracy":
                for row in item["block"].table.rows:
                    said = f"{_span(row['train_tiles'])} tiles of {row['dataset']}/{row['task']}"
                    tiles.setdefault(row["network"], {})[f"{said}, split {part['split']}"] = None
        # of a split: curves by iteration, the table, then network by network what is its own, and the files
        own: dict[str, list[dict[str, Any]]] = {}
        for item in part["items"]:
            if item["kind"] in ("epochs", "grad_cam") and item["plate"]:
                own.setdefault(item["plate"].fields["network"], []).append(item)
        part["by_network"] = own
        part["curves"] = [item for item in part["items"] if item["kind"] == "iterations"]
        part["tables"] = [item["block"] for item in part["items"] if item["plate"] is None and item["block"]]
    return {
        "networks": [
            {
                "name": one["name"],
                "words": [
                    *recipe_words.describe(one["start"], one["start_name"], one["recipe"]),
                    *([("Trained on", "; ".join(tiles[one["name"]]))] if one["name"] in tiles else []),
                ],
                "links": [part["split"] for part in parts if one["name"] in part["by_network"]],
            }
            for one in trained
        ],
        "tiles": plates,
    }


def _parts(
    tables: Sequence[Table],
    plates: Sequence[Any],
    friedman: Sequence[Mapping[str, Any]],
    untrained: set[str],
    splits: Mapping[str, Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Return a chapter's parts, one a split: figures, each with its table, then tables without a figure."""
    names = dict.fromkeys([one.fields.get("split", "") for one in (*tables, *plates)])
    names.update((one["split"], None) for one in friedman)
    parts = []
    for split in names:
        left = [table for table in tables if table.fields.get("split", "") == split]
        items: list[dict[str, Any]] = []
        for plate in (one for one in plates if one.fields.get("split", "") == split):
            twin = next((table for table in left if _belongs(table, plate)), None)
            if twin:
                left.remove(twin)
            items.append(_item(plate, twin, untrained))
        items += [_item(None, table, untrained) for table in left]
        parts.append(
            {
                "split": split,
                **splits.get(split, {"unit": "patient", "reason": ""}),
                "items": items,
                "friedman": [one for one in friedman if one["split"] == split],
            }
        )
    return parts


def _belongs(table: Table, plate: Any) -> bool:
    if table.section == "training":
        # its tables are of all networks of a split, and each figure of some
        return False
    shared = ("comparison", "features", "classifier")
    if any(table.fields.get(name, "") != plate.fields.get(name, "") for name in shared):
        return False
    return table.kind == plate.fields.get("kind", "curve" if table.section == "selection" else table.kind)


def _item(plate: Any, table: Table | None, untrained: set[str]) -> dict[str, Any]:
    fields = (plate or table).fields
    kind = table.kind if table else fields.get("kind", "curve" if plate.section == "selection" else plate.section)
    return {
        "plate": plate,
        "name": "+".join(fields[key] for key in ("features", "classifier") if fields.get(key)),
        "untrained": fields.get("features", "") in _untrained_features(untrained),
        "kind": kind,
        "block": _BLOCKS[table.section, table.kind](table, untrained) if table else None,
        "variants": _variants(table) if table and table.kind == "strategies" else None,
    }


def _untrained_features(methods: Iterable[str]) -> set[str]:
    """Return the feature sets of the methods on untrained networks: a method's name begins with that of its own."""
    return {method.partition("+")[0] for method in methods}


def _tasks(rows: Iterable[Mapping[str, str]]) -> list[str]:
    return list(dict.fromkeys(f"{row['dataset']}/{row['task']}" for row in rows))


def _ranks_block(table: Table, untrained: set[str]) -> Block:
    need(table, compared_tables.RANK_COLUMNS)
    tasks = compared_tables.ranked_tasks(list(table.rows[0]) if table.rows else [])
    heads: list[tuple[str, ...]] = [("Method",), ("Classifier",), ("average rank",)]
    for task in tasks:
        heads += [(task.name, scoreboard.metric_name(task.metric)), (task.name, "rank")]
    numeric = [False, False, *(True for _ in heads[2:])]
    rows = []
    for row in table.rows:
        mark = row["untrained"] == "yes"
        cells = [Cell(row["method"], mark), Cell(row["kind"].replace("_", " "))]
        values = [(number(row, "average_rank", table.path), ".2f")]
        for task in tasks:
            values.append((number(row, task.score_column, table.path), ".3f"))
            values.append((number(row, task.rank_column, table.path), "g"))
        rows.append([*cells, *(Cell(said(value, form), mark and value is not None) for value, form in values)])
    used = [task for task in tasks if any(filled(row, task.rank_column) for row in table.rows)]
    words = "Scores of tiles, means over seeds, and the rank of each: the highest of n methods has rank n."
    if used:
        words += f" Ranks are averaged over {compared_tables.over(used)}."
    return Block(table, heads, numeric, rows, words, "Scores and ranks", compared_tables.notes(table.rows))


def _differences_block(table: Table, untrained: set[str]) -> Block:
    need(table, compared_tables.DIFFERENCE_COLUMNS)
    columns = {
        "method": ("Method", ""),
        "dataset": ("Dataset", ""),
        "task": ("Task", ""),
        "metric": ("Metric", ""),
        "difference": ("difference", "+.3f"),
        "low": ("95 % from", "+.3f"),
        "high": ("to", "+.3f"),
        "groups": ("groups", ",.0f"),
        "unit": ("of", ""),
        "seeds": ("seeds", ",.0f"),
        "note": ("Note", ""),
    }
    reference = table.rows[0]["reference"] if table.rows else ""
    marked = [
        row.get("untrained") == "yes" or row["method"] in untrained or reference in untrained for row in table.rows
    ]
    words = (
        f"Score of each method minus that of {reference}, means over seeds. The 95 % intervals resample whole groups, "
        "the same ones for both methods (paired bootstrap); they are not widened for their number."
    )
    block = plain_block(table, columns, words, "Differences to the reference", marked)
    if not any(row["note"] for row in table.rows):
        block.heads.pop(), block.numeric.pop()
        block.rows = [cells[:-1] for cells in block.rows]
    block.notes = []
    place = list(columns).index("metric")
    for cells, row in zip(block.rows, table.rows, strict=True):
        cells[place].text = scoreboard.metric_name(row["metric"])
        cells[0].untrained = row["method"] in untrained
    return block


_STRATEGY_COLUMNS = ("strategy", "dataset", "task", "metric", "oracle", "oracle_method", "chosen", "chosen_methods")


def _strategies_block(table: Table, untrained: set[str]) -> Block:
    need(table, _STRATEGY_COLUMNS)
    tasks = _tasks(table.rows)
    strategies = list(dict.fromkeys(row["strategy"] for row in table.rows))
    found = {(row["strategy"], f"{row['dataset']}/{row['task']}"): row for row in table.rows}
    metric = {f"{row['dataset']}/{row['task']}": scoreboard.metric_name(row["metric"]) for row in table.rows}
    heads: list[tuple[str, ...]] = [("Strategy",)]
    for task in tasks:
        heads.append((task, metric[task], "oracle: the best variant on the test set"))
        heads.append((task, metric[task], "the variant chosen by validation"))
    rows: list[list[Cell]] = [[Cell(strategy)] for strategy in strategies]
    for task in tasks:
        for column, behind in (("oracle", "oracle_method"), ("chosen", "chosen_methods")):
            values = [number(found.get((strategy, task), {}), column, table.path) for strategy in strategies]
            places = marked_places(values)
            for cells, strategy, value, place in zip(rows, strategies, values, places, strict=True):
                names = _methods_in(filled(found.get((strategy, task), {}), behind))
                cells.append(Cell(said(value, ".4f"), value is not None and bool(names & untrained), place))
    words = (
        "as in table 2 of Mormont et al. (2018), the highest score of each strategy's variants on the test set. It is "
        "an oracle: nobody could have chosen that variant beforehand, and the more variants a strategy has, the more "
        "it gains by chance. Beside it, the test score of the variant that validation inside the training data "
        "chooses by the same metric. Best and second best of each column are marked; means over seeds."
    )
    numeric = [False, *(True for _ in heads[1:])]
    return Block(table, heads, numeric, rows, words, "Best score of each strategy", compared_tables.notes(table.rows))


def _methods_in(text: str) -> set[str]:
    """Return the methods in ``"a"`` or ``"a (2 of 3 seeds), b (1 of 3)"``."""
    return set(re.findall(r"(?:^|, )(.+?) \(\d+ of \d+[^)]*\)", text)) or {text}


def _variants(table: Table) -> Block:
    """Return which variants stand behind the scores of a table of strategies."""
    columns = {
        "strategy": ("Strategy", ""),
        "dataset": ("Dataset", ""),
        "task": ("Task", ""),
        "oracle_method": ("Oracle: best on the test set", ""),
        "chosen_methods": ("Chosen by validation", ""),
        "variants": ("variants", ",.0f"),
        "seeds": ("seeds", ",.0f"),
    }
    return plain_block(table, columns, "", "Which variants they are")


def _layers_block(table: Table, untrained: set[str]) -> Block:
    columns = {
        "layer": ("Layer", ""),
        "dataset": ("Dataset", ""),
        "task": ("Task", ""),
        "depth": ("depth", ",.0f"),
        "features": ("features", ",.0f"),
        "metric": ("metric", ""),
        "score": ("score", ".3f"),
        "validation": ("inner validation", ".3f"),
        "chosen": ("chosen in seeds", ",.0f"),
        "seeds": ("of", ",.0f"),
    }
    need(table, ("validation_metric", *columns))
    inner = ", ".join(dict.fromkeys(scoreboard.metric_name(row["validation_metric"]) for row in table.rows))
    words = (
        f"Scores of tiles held out, and {inner} in the cross-validation inside the training data, by which the layer "
        "is chosen; means over seeds."
    )
    marked = [row.get("untrained") == "yes" or _layer_method(table, row) in untrained for row in table.rows]
    block = plain_block(table, columns, words, "Scores of all layers", marked)
    place = list(columns).index("metric")
    for cells, row in zip(block.rows, table.rows, strict=True):
        cells[place].text = scoreboard.metric_name(row["metric"])
    return block


def _accuracy_block(table: Table, untrained: set[str]) -> Block:
    need(table, learning_curves.ACCURACY_COLUMNS)
    heads: list[tuple[str, ...]] = [("Network",), ("On",), ("Begins with",)]
    heads += [("after the first epoch",), ("after the last",), ("at the epoch kept", "the result"), ("epoch kept",)]
    heads += [("highest point of the test curve", "chosen on the test set"), ("at epoch",), ("seeds",)]
    rows = []
    for row in table.rows:
        mark = row["untrained"] == "yes"
        values = {name: number(row, name, table.path) for name in ("first_epoch", "last_epoch", "kept", "highest")}
        shown = {name: Cell(said(value, ".3f"), mark and value is not None) for name, value in values.items()}
        begins = "trained weights" if row["transfer"] == "yes" else "random weights"
        cells = [Cell(row["network"], mark), Cell(f"{row['dataset']}/{row['task']}"), Cell(begins)]
        cells += [shown["first_epoch"], shown["last_epoch"], shown["kept"]]
        cells += [Cell(f"{_span(row['kept_epochs'])} of {_span(row['epochs'])}"), shown["highest"]]
        rows.append([*cells, Cell(_span(row["highest_at"])), Cell(row["seeds"])])
    words = (
        "Accuracy of test tiles, means over seeds. The result is that of the epoch kept, which the validation tiles "
        "chose, or which is the last. The highest point of a test curve is no result: it is chosen on the test set, "
        "and the more points a curve has, the higher it is by chance."
    )
    notes = []
    for note in compared_tables.notes(table.rows):
        which = dict.fromkeys(row["network"] for row in table.rows if row["note"] == note)
        notes.append(f"{note}: {listing(which, 8)}")
    numeric = [False] * 3 + [True] * (len(heads) - 3)
    return Block(table, heads, numeric, rows, words, "Test accuracy of the trained networks", notes)


def _span(text: str) -> str:
    """Write the numbers of seeds, which stand in turn, as one or from the least to the greatest."""
    found = sorted({float(one) for one in text.split(",") if one.strip()})
    if not found:
        return "–"
    ends = [f"{one:,.0f}" if one.is_integer() else f"{one:g}" for one in (found[0], found[-1])]
    return ends[0] if len(found) == 1 else " to ".join(ends)


def _epochs_block(table: Table, untrained: set[str]) -> Block:
    need(table, learning_curves.EPOCH_COLUMNS)
    return Block(table, [], [], [], "every network, seed and epoch.", "Numbers by epoch", shown=False)


def _steps_block(table: Table, untrained: set[str]) -> Block:
    need(table, learning_curves.STEP_COLUMNS)
    return Block(table, [], [], [], "every point of every learning curve.", "Numbers by iteration", shown=False)


def _layer_method(table: Table, row: Mapping[str, str]) -> str:
    return f"{table.fields.get('features', '')}.{row['layer']}+{table.fields.get('classifier', '')}"


def _importance_block(table: Table, untrained: set[str]) -> Block:
    columns = {"source": ("Source", ""), "features": ("features", ",.0f"), "feature_share": ("of all", "percent")}
    for part, _ in compared_tables.INFORMATION:
        columns[f"importance_{part}"] = (f"of the first {part} %" if part < 100 else "of all importance", "percent")
    words = (
        "Share of all importance in ExtraTrees that the features of each source bring, alone among the most important "
        "features that together bring 10, 25 and 50 % of it, and of all features; means over models. Importances of "
        "features that say the same are shared out among them, so that a low one need not mean little information."
    )
    return plain_block(table, columns, words, "Importances", [row.get("untrained") == "yes" for row in table.rows])


def _curve_block(table: Table, untrained: set[str]) -> Block:
    columns = {
        "dataset": ("Dataset", ""),
        "task": ("Task", ""),
        "size": ("features", ",.0f"),
        "share": ("of all", "percent"),
        "score": ("score", ".4f"),
        "seeds": ("seeds", ",.0f"),
        "kept": ("kept in", ",.0f"),
    }
    words = (
        "Score in the cross-validation inside the training data by number of features, mean over folds and over the "
        "seeds whose elimination came by that number."
    )
    marked = [table.fields.get("features", "") in _untrained_features(untrained)] * len(table.rows)
    return plain_block(table, columns, words, "The curve", marked)


def _kept_block(table: Table, untrained: set[str]) -> Block:
    columns = {
        "dataset": ("Dataset", ""),
        "task": ("Task", ""),
        "features": ("Features", ""),
        "seed": ("Seed", ""),
        "n_features": ("features", ",.0f"),
        "k_min": ("kept", ",.0f"),
        "share": ("of all", "percent"),
        "best_score": ("best score", ".4f"),
        "score": ("score of the kept", ".4f"),
    }
    shares = [share for row in table.rows if (share := number(row, "share", table.path)) is not None]
    words = "The smallest number of features whose cross-validated score lies within the tolerance of the best."
    if shares:
        words += f" On average {said(sum(shares) / len(shares), 'percent')} of the features are kept."
    marked = [row.get("features", "") in _untrained_features(untrained) for row in table.rows]
    return plain_block(table, columns, words, "Features kept", marked)


def _pairs_block(table: Table, untrained: set[str]) -> Block:
    columns = {
        "first": ("First", ""),
        "second": ("Second", ""),
        "features": ("Features", ""),
        "seed": ("Seed", ""),
        "size_first": ("kept in the first", ",.0f"),
        "size_second": ("in the second", ",.0f"),
        "common": ("in both", ",.0f"),
        "expected_common": ("expected by chance", ".1f"),
        "jaccard": ("Jaccard index", ".3f"),
        "share_of_smaller": ("of the smaller", "percent"),
    }
    words = "Features that the selections of two tasks have in common, beside what two random selections would."
    if any(row["first"].split("/")[0] == row["second"].split("/")[0] for row in table.rows):
        words += " Tasks of one dataset share their tiles, which speaks for more in common."
    marked = [row.get("features", "") in _untrained_features(untrained) for row in table.rows]
    return plain_block(table, columns, words, "Overlap of two tasks", marked)


def _common_block(table: Table, untrained: set[str]) -> Block:
    columns = {
        "features": ("Features", ""),
        "seed": ("Seed", ""),
        "datasets": ("tasks", ",.0f"),
        "k": ("top k", ",.0f"),
        "share": ("of all", "percent"),
    }
    words = (
        "The smallest k for which one feature is among the k most important ones (by plain ExtraTrees importances) of "
        "every task."
    )
    marked = [row.get("features", "") in _untrained_features(untrained) for row in table.rows]
    return plain_block(table, columns, words, "Overlap of all tasks", marked)


_BLOCKS = {
    ("comparison", "ranks"): _ranks_block,
    ("comparison", "differences"): _differences_block,
    ("strategies", "strategies"): _strategies_block,
    ("training", "accuracy"): _accuracy_block,
    ("training", "epochs"): _epochs_block,
    ("training", "steps"): _steps_block,
    ("layers", "layers"): _layers_block,
    ("importance", "importance"): _importance_block,
    ("selection", "curve"): _curve_block,
    ("selection", "kept"): _kept_block,
    ("selection", "pairs"): _pairs_block,
    ("selection", "common"): _common_block,
}
