"""Tumour maps of whole slides in numbers, and the class of metastasis that a forest reads from them.

A map is the probability of tumour of each predicted tile, at its place on the slide's grid. Its numbers are sizes of
regions in millimetres at several thresholds, and how probable tumour is. Grid cells are ``col, row``.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from histotransfer.predictions import Predictions
from histotransfer.problems import counted
from histotransfer.settings import Staging
from histotransfer.sheets.samples import METASTASES
from histotransfer.slides import grid

#: What a slide of a lymph node can show, from least to worst: nothing, isolated tumour cells (at most 0.2 mm), a
#: micrometastasis (at most 2 mm), a macrometastasis (Bandi et al. 2019).
SLIDE_CLASSES = METASTASES

#: Probabilities over which a tile counts as tumour, where a study does not say others.
THRESHOLDS = Staging.thresholds

#: Quantiles of the probabilities of a slide's tiles, in percent.
QUANTILES = (50, 90, 99)

#: Numbers of a map at each threshold; ``_over_`` and the threshold follow in a feature's name.
_AT_THRESHOLD = (
    *("regions", "area_mm2", "largest_area_mm2", "largest_axis_mm", "longest_axis_mm"),
    *("largest_mean_probability", "share"),
)


@dataclass(frozen=True)
class TumourMap:
    """The predicted tiles of one slide.

    Attributes
    ----------
    image : str
    col, row : ndarray of int, shape (n,)
        Grid cells, each once.
    probability : ndarray of float64, shape (n,)
        Of tumour.
    step_mm : float
        From one cell to the next, and the edge of what a tile stands for: tiles that overlap are not counted twice.
    unpredicted : int
        Kept tiles of the slide without a prediction (beyond a canvas of fixed size): they count as no tumour.
    """

    image: str
    col: np.ndarray
    row: np.ndarray
    probability: np.ndarray
    step_mm: float
    unpredicted: int = 0


def tumour_maps(held_out: Predictions, grids: Iterable[str], images: Iterable[str]) -> dict[str, TumourMap]:
    """Put the predictions of some images on their grids.

    Parameters
    ----------
    held_out : Predictions
        Of two classes; the second is tumour.
    grids : iterable of path
        What :func:`histotransfer.slides.grid.write_grid` wrote, of these images at least.
    images : iterable of str
        Ids; one without a prediction gets no map.

    Returns
    -------
    dict
        By image, in the order of `images`.

    Raises
    ------
    ValueError
        If an image has no grid, a predicted tile is not among its kept tiles, or a tile is predicted twice.
    """
    rows_of: dict[str, list[int]] = {image: [] for image in images}
    for place, image in enumerate(held_out.image):
        if image in rows_of:
            rows_of[image].append(place)
    grid_of = _grids_by_slide(grids)
    maps = {}
    for image, rows in rows_of.items():
        if not rows:
            continue
        if image not in grid_of:
            raise ValueError(f"image {image!r} has predictions, so a grid of its tiles must be given; found none")
        kept = grid.read_kept(grid_of[image])
        names = [held_out.tile[place] for place in rows]
        strange = set(names) - set(kept.tile)
        if strange or len(set(names)) < len(names):
            found = f"{min(strange)!r}, which is none" if strange else f"{Counter(names).most_common(1)[0][0]!r} twice"
            raise ValueError(
                f"image {image!r}: predicted tiles must be kept tiles of {grid_of[image]}, each once; found {found}"
            )
        cells = np.array([name.split("_") for name in names], dtype=np.int64)
        maps[image] = TumourMap(
            image=image,
            col=cells[:, 0],
            row=cells[:, 1],
            probability=held_out.probability[rows, 1],
            step_mm=int(kept.attributes["l0_step"]) * float(kept.attributes["mpp"]) / 1000,
            unpredicted=len(kept.tile) - len(names),
        )
    return maps


def _grids_by_slide(grids: Iterable[str]) -> dict[str, str]:
    import h5py

    found = {}
    for path in grids:
        with h5py.File(path, "r") as file:
            found[str(file.attrs["slide"])] = path
    return found


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Raise ValueError unless there are thresholds, each once, between 0 and 1."""
    # thresholds that are written alike would give features of one name
    names = {f"{threshold:g}" for threshold in thresholds}
    if not names or len(names) < len(thresholds) or not all(0 < threshold < 1 for threshold in thresholds):
        raise ValueError(
            f"thresholds of a tumour map must be one or more numbers between 0 and 1, each once; found "
            f"{list(thresholds)}"
        )


def feature_names(thresholds: Sequence[float] = THRESHOLDS) -> list[str]:
    """Return the names of a map's numbers, in the order of :func:`map_features`.

    Examples
    --------
    >>> feature_names([0.5])[:3]
    ['regions_over_0.5', 'area_mm2_over_0.5', 'largest_area_mm2_over_0.5']
    """
    names = [f"{name}_over_{threshold:g}" for threshold in thresholds for name in _AT_THRESHOLD]
    return [*names, "mean_probability", "max_probability", *(f"quantile_{percent}" for percent in QUANTILES)]


def map_features(tumour_map: TumourMap, thresholds: Sequence[float] = THRESHOLDS) -> dict[str, float]:
    """Return the numbers of a tumour map by the names of :func:`feature_names`.

    Parameters
    ----------
    tumour_map : TumourMap
        Of one tile or more.
    thresholds : sequence of float
        A tile is tumour at a threshold if its probability is over it.

    Returns
    -------
    dict of float
        At each threshold: ``regions``, the number of regions of tumour tiles that touch at an edge or a corner;
        ``area_mm2`` of all of them; ``largest_area_mm2`` and ``largest_axis_mm`` (:func:`longest_axis`) of the
        largest one (of equal ones the first, row by row), ``largest_mean_probability`` in it; ``longest_axis_mm`` of
        any; ``share`` of the predicted tiles. All are 0 where no tile is over the threshold. Then mean, maximum and
        :data:`QUANTILES` (interpolated linearly) of the probability over all predicted tiles.

    Notes
    -----
    After Lee and Paeng (2018, arXiv 1805.12067), who give morphological features of the map at several thresholds to
    a random forest. Takahama et al. (2019, section 4.2.3) do as they do, and list no features.
    """
    # ASSUME this list: sizes by which pathologists tell the classes apart (number, area, greatest dimension), and how
    # sure the map is, so that a forest can pass over faint regions
    check_thresholds(thresholds)
    if not len(tumour_map.probability):
        raise ValueError(f"image {tumour_map.image!r}: a tumour map must have a tile or more; found none")
    col, row = tumour_map.col - tumour_map.col.min(), tumour_map.row - tumour_map.row.min()
    picture = np.full((int(row.max()) + 1, int(col.max()) + 1), -np.inf)
    picture[row, col] = tumour_map.probability
    found: list[float] = []
    for threshold in thresholds:
        found += _at_threshold(picture, float(threshold), tumour_map)
    probability = tumour_map.probability
    found += [float(probability.mean()), float(probability.max()), *np.percentile(probability, QUANTILES).tolist()]
    return dict(zip(feature_names(thresholds), found, strict=True))


def _at_threshold(picture: np.ndarray, threshold: float, tumour_map: TumourMap) -> list[float]:
    """Return the numbers of :data:`_AT_THRESHOLD`; cells of `picture` without a tile are minus infinity."""
    from scipy import ndimage

    over = picture > threshold
    numbered, n_regions = ndimage.label(over, structure=np.ones((3, 3)))
    if not n_regions:
        return [0.0] * len(_AT_THRESHOLD)
    sizes = np.bincount(numbered[over], minlength=n_regions + 1)
    boxes = ndimage.find_objects(numbered)
    largest = int(sizes.argmax())

    def axis(number: int) -> float:
        row, col = np.nonzero(numbered[boxes[number - 1]] == number)
        return longest_axis(col, row)

    # no region is longer than the diagonal of its box, so that few need a closer look
    bounds = np.sqrt([sum((side.stop - side.start) ** 2 for side in box) for box in boxes])
    longest = 0.0
    for place in np.argsort(-bounds, kind="stable"):
        if bounds[place] <= longest:
            break
        longest = max(longest, axis(int(place) + 1))
    mm, mm2 = tumour_map.step_mm, tumour_map.step_mm**2
    return [
        float(n_regions),
        float(sizes.sum() * mm2),
        float(sizes[largest] * mm2),
        axis(largest) * mm,
        longest * mm,
        float(picture[numbered == largest].mean()),
        float(sizes.sum() / len(tumour_map.probability)),
    ]


def longest_axis(col: np.ndarray, row: np.ndarray) -> float:
    """Return the longest axis of a region of cells, in edges of a cell: the largest distance between two corners.

    Parameters
    ----------
    col, row : ndarray of int, shape (n,)
        The region's cells, one or more.

    Returns
    -------
    float
        Exact: the square root of a whole number. A single cell has the diagonal of a square, the square root of 2.

    Notes
    -----
    The greatest Feret diameter, over the corners of the convex hull (monotone chain, Andrew 1979).

    ASSUME the greatest dimension, since isolated tumour cells, micro- and macrometastases differ by it (0.2
    and 2 mm), and not the major axis of an ellipse of equal moments, which is shorter for a bent or ragged region. A
    map knows a lesion's ends to a tile: it may be up to two diagonals of a tile too long, in all maps alike.

    Examples
    --------
    >>> longest_axis(np.array([0, 1, 2]), np.array([0, 0, 0])) == 10**0.5
    True
    """
    left: dict[int, int] = {}
    right: dict[int, int] = {}
    for x, y in zip(col.tolist(), row.tolist(), strict=True):
        for edge in (y, y + 1):
            left[edge] = min(left.get(edge, x), x)
            right[edge] = max(right.get(edge, x + 1), x + 1)
    # row by row: first the left corner, then the right one, as the chain wants them
    corners = [(y, x) for y in sorted(left) for x in (left[y], right[y])]
    hull = np.array(_half_hull(corners) + _half_hull(corners[::-1]), dtype=np.int64)
    return math.sqrt(int(((hull[:, None] - hull[None]) ** 2).sum(axis=2).max()))


def _half_hull(corners: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return one side of the convex hull of points in lexical order."""
    hull: list[tuple[int, int]] = []
    for point in corners:
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    return hull


def _turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def classify_out_of_fold(
    features: np.ndarray,
    label: np.ndarray,
    fold: np.ndarray,
    *,
    trees: int,
    balanced: bool,
    seed_of: Callable[[int], int],
    threads: int = 1,
) -> np.ndarray:
    """Return each slide's class by a random forest that was grown without its fold.

    Parameters
    ----------
    features : ndarray of float64, shape (n, n_features)
    label : ndarray of int, shape (n,)
        Index into :data:`SLIDE_CLASSES`.
    fold : ndarray of int, shape (n,)
    trees : int
    balanced : bool
        Whether each class counts alike in the forest, however many slides it has.
    seed_of : callable
        Seed of a fold's forest.
    threads : int
        Changes the time, not the result.

    Returns
    -------
    ndarray of int64, shape (n,)
        The class with the highest mean vote; of equal ones the least. A class that stands in no other fold cannot be
        predicted.

    Raises
    ------
    ValueError
        If there are fewer than two folds or two classes.

    Notes
    -----
    Random forests of Breiman (2001), with scikit-learn's defaults: sqrt(n_features) looked at per node, leaves of one.
    """
    from sklearn.ensemble import RandomForestClassifier

    folds = sorted(set(fold.tolist()))
    if len(folds) < 2 or len(set(label.tolist())) < 2:
        classes = ", ".join(SLIDE_CLASSES[k] for k in sorted(set(label.tolist()))) or "none"
        raise ValueError(
            f"classes of slides are predicted in two folds or more, from slides of two classes or more; found "
            f"{counted(len(folds), 'fold')} and the classes {classes}"
        )
    predicted = np.empty(len(label), dtype=np.int64)
    for held_out in folds:
        inside, asked = fold != held_out, fold == held_out
        forest = RandomForestClassifier(
            n_estimators=trees,
            class_weight="balanced" if balanced else None,
            random_state=seed_of(held_out),
            n_jobs=threads,
        ).fit(features[inside], label[inside])
        # predicting in threads adds the trees' votes in the order in which they finish
        votes = forest.set_params(n_jobs=1).predict_proba(features[asked])
        predicted[asked] = forest.classes_[votes.argmax(axis=1)]
    return predicted


def check_classes(metastases: Mapping[str, str]) -> None:
    """Raise ValueError unless every slide's class is one of :data:`SLIDE_CLASSES`, or empty."""
    wrong = {image: name for image, name in metastases.items() if name and name not in SLIDE_CLASSES}
    if wrong:
        image, name = next(iter(wrong.items()))
        raise ValueError(
            f"a slide's metastasis must be one of {', '.join(SLIDE_CLASSES)}, or empty; not so for {len(wrong)}, the "
            f"first is {image!r}; found {json.dumps(name, ensure_ascii=False)}"
        )
