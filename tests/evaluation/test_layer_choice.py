"""The layer chosen by inner cross-validation, and the curve over all layers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from score_factory import factors

from histotransfer import store
from histotransfer.classifiers import cross_validation
from histotransfer.evaluation import layer_choice
from histotransfer.evaluation import scores as evaluation_scores
from histotransfer.evaluation.scores import collect
from histotransfer.predictions import ATTRIBUTES, Predictions, read_predictions, write_predictions

LAYERS = ["block1", "block2", "block3"]


def write_run(folder, layer, *, validation, correct, seed=1, chosen=None, features=None):
    """Write what training on one layer leaves: a model, predictions (`correct` of 4 are right), a tuning table."""
    folder.mkdir(parents=True)
    (folder / "model.skops").write_bytes(f"model of {layer}".encode())
    score = np.array([[0.0, 1.0] if (k % 2 == 1) == (k < correct) else [1.0, 0.0] for k in range(4)])
    names = [f"t{k}" for k in range(4)]
    rows = Predictions(
        tile=names, image=names, slide=names, group=names, true=np.array([0, 1, 0, 1]), score=score, probability=score
    )
    attributes = dict.fromkeys(ATTRIBUTES, "") | {
        "dataset": "d",
        "task": "t",
        "split": "s",
        "unit": "image",
        "group_unit": "image",
        "seed": seed,
        "features": features or f"inner.{layer}",
        "classifier": "svm",
        "weights": "imagenet",
        "chosen": chosen or {"C": 1},
        "classes": ["a", "b"],
        "untrained": False,
        "n_features": 10 * (LAYERS.index(layer) + 1),
    }
    out_of_fold = Predictions(**{**rows.__dict__, "fold": np.array([0, 0, 1, 1])})
    write_predictions(folder / "predictions.h5", held_out=rows, out_of_fold=out_of_fold, attributes=attributes)
    tuned = [
        {"parameters": '{"C": 1}', "fold": fold, "metric": "accuracy", "score": validation, "chosen": "yes"}
        for fold in (0, 1, "mean")
    ]
    worse = {"parameters": '{"C": 2}', "fold": "mean", "metric": "accuracy", "score": 0.1, "chosen": "no"}
    store.write_table(folder / "tuning.tsv", cross_validation.COLUMNS, [*tuned, worse])
    return folder


def choose(tmp_path, runs):
    out = tmp_path / "chosen"
    out.mkdir(exist_ok=True)
    layer_choice.choose(
        layer_models=[run / "model.skops" for run in runs],
        layer_predictions=[run / "predictions.h5" for run in runs],
        layer_tunings=[run / "tuning.tsv" for run in runs],
        layers=LAYERS[: len(runs)],
        model=out / "model.skops",
        predictions_file=out / "predictions.h5",
        tuning=out / "tuning.tsv",
        features_name="inner",
    )
    return out


def test_the_layer_with_the_best_validation_is_taken_whatever_the_test_says(tmp_path):
    runs = [
        write_run(tmp_path / layer, layer, validation=validation, correct=correct)
        for layer, validation, correct in zip(LAYERS, (0.7, 0.8, 0.6), (4, 1, 4), strict=True)
    ]
    out = choose(tmp_path, runs)
    assert (out / "model.skops").read_bytes() == b"model of block2"
    held_out, out_of_fold, attributes = read_predictions(out / "predictions.h5")
    expected, expected_out_of_fold, of_layer = read_predictions(runs[1] / "predictions.h5")
    np.testing.assert_array_equal(held_out.score, expected.score)
    np.testing.assert_array_equal(out_of_fold.fold, expected_out_of_fold.fold)
    assert attributes["chosen"] == {"layer": "block2", "C": 1}
    assert attributes["features"] == "inner"
    differs = {name for name in of_layer if attributes[name] != of_layer[name]}
    assert differs == {"features", "chosen"}
    rows = store.read_table(out / "tuning.tsv")
    assert len(rows) == 12
    taken = {row["parameters"] for row in rows if row["chosen"] == "yes"}
    assert [json.loads(text) for text in taken] == [{"C": 1, "layer": "block2"}]
    assert layer_choice.chosen_score(rows) == 0.8


def test_of_equal_layers_the_deepest_is_taken_and_one_without_a_score_never(tmp_path):
    equal = [
        write_run(tmp_path / layer, layer, validation=v, correct=2)
        for layer, v in zip(LAYERS, (0.5, 0.5, None), strict=True)
    ]
    assert (choose(tmp_path, equal) / "model.skops").read_bytes() == b"model of block2"


def test_without_any_score_there_is_no_choice(tmp_path):
    runs = [write_run(tmp_path / layer, layer, validation=None, correct=2) for layer in LAYERS[:2]]
    with pytest.raises(ValueError, match="a layer with a cross-validated score is needed; none of block1, block2 has"):
        choose(tmp_path, runs)


def test_the_curve_has_test_and_validation_scores_and_how_often_a_layer_was_chosen(tmp_path):
    runs, choices, scores = [], [], []
    # correct tiles of 4 by seed and layer
    for seed, correct in ((1, (1, 3, 2)), (2, (2, 4, 2))):
        of_seed = [
            write_run(tmp_path / f"{seed}-{layer}", layer, validation=right / 10, correct=right, seed=seed)
            for layer, right in zip(LAYERS, correct, strict=True)
        ]
        runs += of_seed
        choices.append(
            write_run(
                tmp_path / f"{seed}-choice",
                "block2",
                validation=0.4,
                correct=correct[1],
                seed=seed,
                chosen={"layer": "block2", "C": 1},
                features="inner",
            )
        )
        for run in (*of_seed, choices[-1]):
            evaluation_scores.score(
                predictions=run / "predictions.h5",
                scores=run / "scores.tsv",
                confusion=run / "confusion.tsv",
                bootstrap=0,
                master_seed=1,
            )
            scores.append(run)
    collect(
        scores=[run / "scores.tsv" for run in scores],
        predictions=[run / "predictions.h5" for run in scores],
        table=tmp_path / "scores.tsv",
    )
    layer_choice.tabulate(
        scores=tmp_path / "scores.tsv",
        layer_tunings=[run / "tuning.tsv" for run in runs],
        layer_predictions=[run / "predictions.h5" for run in runs],
        layer_runs=[factors(f"inner.{layer}+svm", seed=seed) for seed in (1, 2) for layer in LAYERS],
        choices=[run / "predictions.h5" for run in choices],
        choice_runs=[factors("inner+svm", seed=seed) for seed in (1, 2)],
        table=tmp_path / "layers.csv",
        layers={layer: f"inner.{layer}" for layer in LAYERS},
        classifier="svm",
        split="s",
    )
    rows = store.read_csv(tmp_path / "layers.csv")
    assert [(row["layer"], row["depth"], row["features"]) for row in rows] == [
        ("block1", "1", "10"),
        ("block2", "2", "20"),
        ("block3", "3", "30"),
    ]
    assert [float(row["validation"]) for row in rows] == pytest.approx([0.15, 0.35, 0.2])
    assert [row["chosen"] for row in rows] == ["0", "2", "0"]
    # layers are chosen by what their classifiers are tuned by, whatever methods are compared by
    assert {(row["metric"], row["validation_metric"]) for row in rows} == {("roc_auc", "accuracy")}
    # AUC of 4 tiles by hand: seed 1 has 1, 3, 2 right, seed 2 has 2, 4, 2
    auc = {1: 0.25, 2: 0.5, 3: 0.75, 4: 1.0}
    expected = [(auc[a] + auc[b]) / 2 for a, b in ((1, 2), (3, 4), (2, 2))]
    assert [float(row["score"]) for row in rows] == pytest.approx(expected)
