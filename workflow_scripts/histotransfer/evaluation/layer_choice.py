"""The layer whose features are used, chosen by group-wise cross-validation inside the training groups.

Mormont et al. (2018), section 5.6: no layer was best for all their datasets, "so in practice the choice of the layer
should be determined by internal cross-validation". A classifier is trained on each layer by itself; the one with the
best cross-validated score is the strategy's model. No test group has a say in it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence

from histotransfer import predictions, store
from histotransfer.classifiers import cross_validation
from histotransfer.definitions import Factors
from histotransfer.evaluation import ranking, scoreboard

LAYER_COLUMNS = (
    *("dataset", "task", "layer", "depth", "features", "metric", "score", "validation_metric", "validation", "seeds"),
    *("chosen", "untrained"),
)


def choose(
    *,
    layer_models: Sequence[str],
    layer_predictions: Sequence[str],
    layer_tunings: Sequence[str],
    layers: Sequence[str],
    model: str,
    predictions_file: str,
    tuning: str,
    features_name: str,
) -> None:
    """Hand on the model and the predictions of the layer with the best cross-validated score.

    Parameters
    ----------
    layer_models, layer_predictions, layer_tunings : sequence of path
        What :func:`histotransfer.classifiers.fitting.train` wrote for each layer, by depth.
    layers : sequence of str
        Their names.
    model, predictions_file, tuning : path
        Written, in the form of every strategy. Predictions name the layer under ``chosen``; the tuning table has the
        rows of all layers, and marks as chosen those of one.
    features_name : str
        The feature set that stands for the choice.

    Raises
    ------
    ValueError
        If the files do not go together one by one, or no layer has a score.
    """
    if not len(layers) == len(layer_models) == len(layer_predictions) == len(layer_tunings) > 0:
        raise ValueError(
            "models, predictions and tuning tables go with the layers one by one; "
            f"found {len(layer_models)}, {len(layer_predictions)}, {len(layer_tunings)} and {len(layers)}"
        )
    tables = [store.read_table(path) for path in layer_tunings]
    scores = [chosen_score(table) for table in tables]
    if all(score is None for score in scores):
        raise ValueError(f"a layer with a cross-validated score is needed; none of {', '.join(layers)} has one")
    # ASSUME the deepest of equally good layers: where nothing speaks against it, the usual last layer is used
    best = max(range(len(layers)), key=lambda k: (float("-inf") if scores[k] is None else round(scores[k], 12), k))
    held_out, out_of_fold, attributes = predictions.read_predictions(layer_predictions[best])
    predictions.write_predictions(
        predictions_file,
        held_out=held_out,
        out_of_fold=out_of_fold,
        attributes={
            **attributes,
            "features": features_name,
            "chosen": {"layer": layers[best], **attributes["chosen"]},
        },
    )
    rows = []
    for k, (layer, table) in enumerate(zip(layers, tables, strict=True)):
        for row in table:
            parameters = json.dumps({"layer": layer, **json.loads(row["parameters"])}, sort_keys=True)
            taken = "yes" if k == best and row["chosen"] == "yes" else "no"
            rows.append({**row, "parameters": parameters, "chosen": taken})
    store.write_table(tuning, cross_validation.COLUMNS, rows)
    with store.replacing(model) as part:
        shutil.copyfile(layer_models[best], part)


def chosen_score(tuning: Sequence[Mapping[str, str]]) -> float | None:
    """Return the mean score over folds of the parameters that were chosen; None where it is undefined."""
    found = [row["score"] for row in tuning if row["fold"] == cross_validation.MEAN and row["chosen"] == "yes"]
    return float(found[0]) if found and found[0] else None


def tabulate(
    *,
    scores: str,
    layer_tunings: Sequence[str],
    layer_predictions: Sequence[str],
    layer_runs: Sequence[Factors],
    choices: Sequence[str],
    choice_runs: Sequence[Factors],
    table: str,
    layers: Mapping[str, str],
    classifier: str,
    split: str,
) -> None:
    """Write the curve over the layers of one network: test score, cross-validated score, how often each was chosen.

    Parameters
    ----------
    scores : path
        The study's ``scores.tsv``.
    layer_tunings, layer_predictions, layer_runs
        Tuning table and predictions of each layer's model, and what it is of.
    choices, choice_runs
        Predictions of the strategy that chooses, and what each is of.
    table : path
        CSV to write: a row for each dataset, task and layer. ``score`` is the mean over seeds of ROC AUC (two classes)
        or accuracy on the tiles held out, ``validation`` the mean over seeds of what the layer was chosen by, which is
        the ``validation_metric`` that its classifier is tuned by.
    layers : mapping
        Layer by depth to the name of its feature set; these are the `features` of `layer_runs`.
    classifier, split : str
    """
    depth = {layer: k for k, layer in enumerate(layers, start=1)}
    layer_of = {features: layer for layer, features in layers.items()}
    measured: dict[tuple[str, str, str], list[tuple[float | None, int, str]]] = {}
    for tuning, path, run in zip(layer_tunings, layer_predictions, layer_runs, strict=True):
        tuned = store.read_table(tuning)
        said = (chosen_score(tuned), int(predictions.read_attributes(path)["n_features"]), tuned[0]["metric"])
        measured.setdefault((run.dataset, run.task, layer_of[run.features]), []).append(said)
    chosen: dict[tuple[str, str, str], int] = {}
    for path, run in zip(choices, choice_runs, strict=True):
        layer = json.loads(predictions.read_attributes(path)["chosen"])["layer"]
        chosen[run.dataset, run.task, layer] = chosen.get((run.dataset, run.task, layer), 0) + 1
    groups = scoreboard.comparisons(scoreboard.read(scores))
    rows = []
    for (dataset, task, layer), found in measured.items():
        runs = [
            run
            for run in groups.get((dataset, task, split), ())
            if (run.features, run.classifier) == (layers[layer], classifier)
        ]
        metric = ranking.metric_of(len(scoreboard.classes(runs)))
        standing = scoreboard.ranking(runs, "tile", metric)[0]
        validated = [score for score, _, _ in found if score is not None]
        rows.append(
            {
                "dataset": dataset,
                "task": task,
                "layer": layer,
                "depth": depth[layer],
                "features": found[0][1],
                "metric": metric,
                "score": standing.mean,
                "validation_metric": found[0][2],
                "validation": ranking.mean_of(validated),
                "seeds": len(found),
                "chosen": chosen.get((dataset, task, layer), 0),
                "untrained": "yes" if standing.untrained else "no",
            }
        )
    rows.sort(key=lambda row: (row["dataset"], row["task"], row["depth"]))
    store.write_csv(table, LAYER_COLUMNS, rows)
