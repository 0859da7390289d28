"""Tables of scores as :func:`histotransfer.evaluation.scores.collect` writes them, with chosen values."""

from __future__ import annotations

from histotransfer import store
from histotransfer.definitions import Draw, Factors
from histotransfer.evaluation import scores


def write_scores(folder, values, *, classes=("x", "y", "z"), two=("x", "y"), binary=(), untrained=(), split="s"):
    """Write a table of scores: {(dataset, task): {method: [value a seed or None]}}; return its path."""
    rows = []
    for (dataset, task), methods in values.items():
        is_binary = (dataset, task) in binary
        metric = "roc_auc" if is_binary else "accuracy"
        for method, of_seeds in methods.items():
            features, classifier = method.split("+")
            for seed, value in enumerate(of_seeds, start=1):
                if value is ...:
                    continue
                common = {"dataset": dataset, "task": task, "split": split, "share_groups": "", "seed": seed}
                common |= {"features": features, "classifier": classifier, "level": "tile", "n": 9, "groups": 3}
                common |= {"weights": "untrained" if method in untrained else "imagenet", "unit": "patient"}
                decoy = "accuracy" if is_binary else "roc_auc"
                rows.append({**common, "metric": metric, "class": "", "value": value})
                rows.append({**common, "metric": decoy, "class": "", "value": 0.5})
                rows += [
                    {**common, "metric": "recall", "class": name, "value": 1.0}
                    for name in (two if is_binary else classes)
                ]
                rows.append({**common, "level": "slide", "metric": metric, "class": "", "value": 0.1})
    path = folder / "scores.tsv"
    store.write_table(path, (*scores.FACTOR_COLUMNS, *scores.SCORE_COLUMNS), rows)
    return str(path)


def factors(method="f+c", *, dataset="d", task="t", split="s", seed=1):
    """Return what a model of a method, or of a feature set alone, is of."""
    features, _, classifier = method.partition("+")
    return Factors(dataset, task, split, Draw(seed), features, classifier)
