"""Isolated false tumour tiles: what a map shows as tumour in the midst of normal tissue.

Takahama et al. (2019, section 4.2.1) call such a spot a tumour point: a doctor has to look at each of them, however
high the accuracy is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histotransfer import store
from histotransfer.evaluation.ranking import method_of
from histotransfer.maps import probability_maps
from histotransfer.predictions import NO_LABEL, Predictions, read_predictions

COLUMNS = (
    *("dataset", "task", "seed", "method", "untrained", "positive", "slides", "tiles", "positive_tiles"),
    *("false_tiles", "isolated_tiles", "isolated_regions", "missed_tiles", "note"),
)

_NEGATIVE, _POSITIVE = 0, 1


@dataclass(frozen=True)
class Points:
    """What a model predicts wrongly on slides, in tiles and regions.

    Attributes
    ----------
    slides : int
        With a labelled tile.
    tiles, positive_tiles : int
        With a label, and those of them that are positive.
    false_tiles : int
        Labelled negative, predicted positive.
    isolated_tiles : int
        Those of them whose region of predicted positive tiles holds none that is labelled positive.
    isolated_regions : int
        Regions that hold such a tile: the tumour points.
    missed_tiles : int
        Labelled positive, predicted negative.
    """

    slides: int
    tiles: int
    positive_tiles: int
    false_tiles: int
    isolated_tiles: int
    isolated_regions: int
    missed_tiles: int


def regions(cells: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Number the regions of chosen cells; cells that touch by an edge or a corner are of one.

    Parameters
    ----------
    cells : ndarray of int, shape (n, 2)
        Column and row, each cell once.
    chosen : ndarray of bool, shape (n,)

    Returns
    -------
    ndarray of int, shape (n,)
        From 1 on; 0 for a cell that is not chosen.

    Examples
    --------
    >>> regions(np.array([[0, 0], [1, 1], [3, 0]]), np.array([True, True, True])).tolist()
    [1, 1, 2]
    """
    from scipy import ndimage

    if not len(cells):
        return np.empty(0, np.int64)
    corner = cells.min(axis=0)
    at = tuple((cells - corner).T)
    laid = np.zeros(cells.max(axis=0) - corner + 1, dtype=bool)
    laid[at] = chosen
    numbered, _ = ndimage.label(laid, structure=np.ones((3, 3), dtype=bool))
    return numbered[at].astype(np.int64)


def count(part: Predictions, images: Sequence[str] | None = None) -> Points:
    """Count the wrong tiles of slides, and those of them that stand alone.

    Parameters
    ----------
    part : Predictions
        Of two classes, the second of which is positive, with tiles called ``COL_ROW``. All of a slide's tiles make
        its regions, labelled or not.
    images : sequence of str, optional
        Count these alone; by default all.

    Notes
    -----
    Predicted positive is what has the higher score of the second class, over 0.5 where scores are probabilities. ASSUME
    a region that touches true tumour anywhere is no point: it leads a reader to the tumour, only its border is wrong.
    A region without any label is not counted, since it is not known to be false.
    """
    total = dict.fromkeys(Points.__dataclass_fields__, 0)
    for image, rows in probability_maps.rows_by_image(part).items():
        if images is not None and image not in images:
            continue
        true = part.true[rows]
        predicted = part.predicted[rows] == _POSITIVE
        numbers = regions(probability_maps.cells_of([part.tile[row] for row in rows]), predicted)
        false = predicted & (true == _NEGATIVE)
        touching = np.unique(numbers[predicted & (true == _POSITIVE)])
        isolated = false & ~np.isin(numbers, touching)
        total["slides"] += int((true != NO_LABEL).any())
        total["tiles"] += int((true != NO_LABEL).sum())
        total["positive_tiles"] += int((true == _POSITIVE).sum())
        total["false_tiles"] += int(false.sum())
        total["isolated_tiles"] += int(isolated.sum())
        total["isolated_regions"] += len(np.unique(numbers[isolated]))
        total["missed_tiles"] += int((~predicted & (true == _POSITIVE)).sum())
    return Points(**total)


def tabulate(*, predictions: Sequence[str], table: str, split: str) -> None:
    """Write how many isolated false tumour tiles each model of a split leaves on the test slides.

    Parameters
    ----------
    predictions : sequence of path
        Of models on datasets of slides; those of other splits, and of tasks with more or fewer than two classes, are
        passed over.
    table : path
        CSV to write, a row a model, in the order of `predictions`: its dataset, task, seed, method, ``untrained``
        (yes or no), the ``positive`` class, and the numbers of :class:`Points`. ``note`` says where slides are not
        held out whole, so that regions have gaps.
    split : str
    """
    rows: list[dict[str, Any]] = []
    for path in predictions:
        held_out, _, said = read_predictions(path)
        if said["split"] != split or len(said["classes"]) != 2:
            continue
        row = {name: said[name] for name in ("dataset", "task", "seed")}
        row |= {"method": method_of(said), "untrained": "yes" if said["untrained"] else "no"}
        row |= {"positive": said["classes"][_POSITIVE], **vars(count(held_out))}
        if said["group_unit"] == "tile":
            row["note"] = "tiles are held out one by one: regions of a slide's test tiles have gaps"
        rows.append(row)
    store.write_csv(table, COLUMNS, rows)
