"""Tables that compare: methods, strategies, the layers of a network, sources of features and what eliminations keep."""

from __future__ import annotations

from histotransfer.evaluation import compared_tables, ranking, scoreboard
from histotransfer.evaluation.compared_tables import number
from histotransfer.report.parts import (
    PERCENT,
    Block,
    Cell,
    MethodSet,
    Table,
    filled,
    marked_places,
    need,
    plain_block,
    written,
)


def ranks_block(table: Table, untrained: MethodSet) -> Block:
    """Return scores and ranks, a row a method."""
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
        rows.append([*cells, *(Cell(written(value, form), mark and value is not None) for value, form in values)])
    used = [task for task in tasks if any(filled(row, task.rank_column) for row in table.rows)]
    words = "Scores of tiles, means over seeds, and the rank of each: the highest of n methods has rank n."
    if used:
        words += f" Ranks are averaged over {compared_tables.tasks_in_words(used)}."
    return Block(table, heads, numeric, rows, words, "Scores and ranks", compared_tables.notes(table.rows))


_DIFFERENCE_COLUMNS = {
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


def differences_block(table: Table, untrained: MethodSet) -> Block:
    """Return differences to a reference with their intervals, a row a method and task."""
    need(table, compared_tables.DIFFERENCE_COLUMNS)
    reference = table.rows[0]["reference"] if table.rows else ""
    marked = [
        row.get("untrained") == "yes" or row["method"] in untrained.methods or reference in untrained.methods
        for row in table.rows
    ]
    words = (
        f"Score of each method minus that of {reference}, means over seeds. The 95 % intervals resample whole groups, "
        "the same ones for both methods (paired bootstrap). They are not widened for the number of comparisons."
    )
    columns = dict(_DIFFERENCE_COLUMNS)
    if not any(row["note"] for row in table.rows):
        del columns["note"]
    block = plain_block(table, columns, words, "Differences to the reference", marked)
    # what a note says of one row stands in the row
    block.notes = []
    _name_metrics(block, "metric", list(columns))
    for cells, row in zip(block.rows, table.rows, strict=True):
        cells[0].untrained = row["method"] in untrained.methods
    return block


def _name_metrics(block: Block, column: str, columns: list[str]) -> None:
    """Write the metrics of a column of the block by their names."""
    place = columns.index(column)
    for cells, row in zip(block.rows, block.table.rows, strict=True):
        cells[place].text = scoreboard.metric_name(row[column])


def strategies_block(table: Table, untrained: MethodSet) -> Block:
    """Return the best score of each strategy beside that of the variant which validation chooses, a row a strategy."""
    need(table, ranking.STRATEGY_COLUMNS[:-1])
    tasks = compared_tables.task_names(table.rows)
    strategies = list(dict.fromkeys(row["strategy"] for row in table.rows))
    row_of = {(row["strategy"], compared_tables.task_name(row)): row for row in table.rows}
    metric = {compared_tables.task_name(row): scoreboard.metric_name(row["metric"]) for row in table.rows}
    heads: list[tuple[str, ...]] = [("Strategy",)]
    for task in tasks:
        heads.append((task, metric[task], "oracle: the best variant on the test set"))
        heads.append((task, metric[task], "the variant chosen by validation"))
    rows: list[list[Cell]] = [[Cell(strategy)] for strategy in strategies]
    for task in tasks:
        for column in ("oracle", "chosen"):
            of_task = [row_of.get((strategy, task), {}) for strategy in strategies]
            values = [number(row, column, table.path) for row in of_task]
            for cells, row, value, place in zip(rows, of_task, values, marked_places(values), strict=True):
                mark = value is not None and filled(row, f"{column}_untrained") == "yes"
                cells.append(Cell(written(value, ".4f"), mark, place))
    words = (
        "as in table 2 of Mormont et al. (2018), the highest score of each strategy's variants on the test set. It is "
        "an oracle: the variant could not have been chosen beforehand, and the more variants a strategy has, the more "
        "it gains by chance. Beside it stands the test score of the variant that validation inside the training data "
        "chooses by the same metric. Best and second best of each column are marked; means over seeds."
    )
    numeric = [False, *(True for _ in heads[1:])]
    return Block(table, heads, numeric, rows, words, "Best score of each strategy", compared_tables.notes(table.rows))


def variants_block(table: Table) -> Block:
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


# ---- layers and features


def layer_method(table: Table, layer: str) -> str:
    """Return the method on one layer of the choice that a table of layers is of."""
    return f"{table.entry.features}.{layer}+{table.entry.classifier}"


def layers_block(table: Table, untrained: MethodSet) -> Block:
    """Return the scores of the layers of a network, a row a layer and task."""
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
    marked = [
        row.get("untrained") == "yes" or layer_method(table, row["layer"]) in untrained.methods for row in table.rows
    ]
    block = plain_block(table, columns, words, "Scores of all layers", marked)
    _name_metrics(block, "metric", list(columns))
    return block


def importance_block(table: Table, untrained: MethodSet) -> Block:
    """Return the share of the importance that each source brings, a row a source."""
    columns = {"source": ("Source", ""), "features": ("features", ",.0f"), "feature_share": ("of all", PERCENT)}
    for part in compared_tables.PARTS:
        columns[f"importance_{part}"] = (f"of the first {part} %" if part < 100 else "of all importance", PERCENT)
    words = (
        "Share of all importance in ExtraTrees that the features of each source bring, alone among the most important "
        "features that together bring 10, 25 and 50 % of it, and of all features; means over models. Features that "
        "hold the same information share its importance, so that a low one need not mean little information."
    )
    return plain_block(table, columns, words, "Importances", [row.get("untrained") == "yes" for row in table.rows])


def curve_block(table: Table, untrained: MethodSet) -> Block:
    """Return the curve of a feature elimination, a row a size and task."""
    columns = {
        "dataset": ("Dataset", ""),
        "task": ("Task", ""),
        "size": ("features", ",.0f"),
        "share": ("of all", PERCENT),
        "score": ("score", ".4f"),
        "seeds": ("seeds", ",.0f"),
        "kept": ("kept in", ",.0f"),
    }
    words = (
        "Score in the cross-validation inside the training data by number of features, mean over folds and over the "
        "seeds whose elimination came by that number."
    )
    marked = [table.entry.features in untrained.features] * len(table.rows)
    return plain_block(table, columns, words, "The curve", marked)


def kept_block(table: Table, untrained: MethodSet) -> Block:
    """Return how many features eliminations keep, a row an elimination."""
    columns = {
        "dataset": ("Dataset", ""),
        "task": ("Task", ""),
        "features": ("Features", ""),
        "seed": ("Seed", ""),
        "n_features": ("features", ",.0f"),
        "k_min": ("kept", ",.0f"),
        "share": ("of all", PERCENT),
        "best_score": ("best score", ".4f"),
        "score": ("score of the kept", ".4f"),
    }
    shares = [share for row in table.rows if (share := number(row, "share", table.path)) is not None]
    words = "The smallest number of features whose cross-validated score lies within the tolerance of the best."
    if shares:
        words += f" On average {written(sum(shares) / len(shares), PERCENT)} of the features are kept."
    return plain_block(table, columns, words, "Features kept", _marked(table, untrained))


def pairs_block(table: Table, untrained: MethodSet) -> Block:
    """Return what the selections of two tasks have in common, a row a pair."""
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
        "share_of_smaller": ("of the smaller", PERCENT),
    }
    words = "Features that the selections of two tasks have in common, beside what two random selections would have."
    if any(row["first"].split("/")[0] == row["second"].split("/")[0] for row in table.rows):
        words += " Tasks of one dataset share their tiles, so more in common is to be expected."
    return plain_block(table, columns, words, "Overlap of two tasks", _marked(table, untrained))


def common_block(table: Table, untrained: MethodSet) -> Block:
    """Return from which number of most important features on all tasks have one in common, a row a selection."""
    columns = {
        "features": ("Features", ""),
        "seed": ("Seed", ""),
        "datasets": ("tasks", ",.0f"),
        "k": ("top k", ",.0f"),
        "share": ("of all", PERCENT),
    }
    words = (
        "The smallest k for which one feature is among the k most important ones (by plain ExtraTrees importances) of "
        "every task."
    )
    return plain_block(table, columns, words, "Overlap of all tasks", _marked(table, untrained))


def _marked(table: Table, untrained: MethodSet) -> list[bool]:
    return [row.get("features", "") in untrained.features for row in table.rows]
