"""The pN stage of patients: the rule, how two stagings agree, and the folds in which slides are classified.

Each slide is one lymph node, and the classes of all of a patient's slides give the stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from histotransfer import seeds
from histotransfer.maps.metastases import SLIDE_CLASSES

#: Stages of the challenge in their order.
STAGES = ("pN0", "pN0(i+)", "pN1mi", "pN1", "pN2")

#: Nodes with a micro- or macrometastasis that pN2 ends at.
MOST_NODES = 9


def pn_stage(classes: Sequence[str]) -> str:
    """Return a patient's pN stage from the classes of the slides, one a lymph node.

    Parameters
    ----------
    classes : sequence of str
        Of :data:`histotransfer.maps.metastases.SLIDE_CLASSES`, in any order.

    Returns
    -------
    str
        One of :data:`STAGES`. ``pN0``: no metastasis. ``pN0(i+)``: isolated tumour cells alone. ``pN1mi``: micro, no
        macro, in however many nodes. With a macro, by the number of nodes with micro or macro (those with isolated
        tumour cells are not counted): ``pN1`` 1 to 3, ``pN2`` 4 to 9.

    Raises
    ------
    ValueError
        Without classes, for one that is none, and for a macro among more than 9 nodes with micro or macro, which the
        challenge's rule does not cover.

    Notes
    -----
    Bandi et al. (2019), From detection of individual metastases to classification of lymph node status at the patient
    level: the CAMELYON17 challenge.

    Examples
    --------
    >>> pn_stage(["negative", "itc", "micro", "macro", "negative"])
    'pN1'
    """
    unknown = [name for name in classes if name not in SLIDE_CLASSES]
    if unknown or not classes:
        found = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"a stage takes slides of the classes {', '.join(SLIDE_CLASSES)}; found {found}")
    count = Counter(classes)
    nodes = count["micro"] + count["macro"]
    if count["macro"]:
        if nodes > MOST_NODES:
            raise ValueError(f"the stages end at {MOST_NODES} nodes with micro or macro (pN2); found {nodes}")
        return "pN1" if nodes <= 3 else "pN2"
    if count["micro"]:
        return "pN1mi"
    return "pN0(i+)" if count["itc"] else "pN0"


def quadratic_kappa(true: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return Cohen's kappa of two ratings on an ordered scale, disagreements weighted by their square.

    Parameters
    ----------
    true, predicted : ndarray of int, shape (n,)
        Places on the scale.
    weights : ndarray, shape (n,) or (n, r), optional
        How often each row counts; one value a column.

    Returns
    -------
    ndarray of float64, shape () or (r,)
        1: they agree; 0: as by chance. NaN where all ratings of both are the same, or there is none: no disagreement
        is possible by chance then, and kappa is 0 / 0.

    Notes
    -----
    Cohen (1968): kappa = 1 - sum(w_ij O_ij) / sum(w_ij E_ij) with w_ij = (i - j)^2, O_ij the share of rows rated i and
    j, and E_ij the product of the shares of i and of j. The number of stages cancels from the weights. For these
    weights, with t and p the two ratings, sum(w O) is the mean of (t - p)^2, and sum(w E) is
    mean(t^2) + mean(p^2) - 2 mean(t) mean(p) (Fleiss and Cohen 1973), which is computed here.
    """
    t, p = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    w = np.ones(len(t)) if weights is None else np.asarray(weights, dtype=np.float64)
    n = w.sum(axis=0)
    # times n^2: whole numbers, so that the denominator is 0 exactly where it should be
    observed = n * ((t - p) ** 2 @ w)
    expected = n * (t**2 @ w + p**2 @ w) - 2 * (t @ w) * (p @ w)
    share = np.divide(observed, expected, out=np.full(np.shape(n), np.nan), where=expected > 0)
    return 1 - share


def patient_folds(
    classes_of: Mapping[str, Iterable[str]], *, folds: int, master_seed: int, factors: Sequence[object] = ()
) -> dict[str, int]:
    """Deal patients into folds, so that each fold has about as many of each worst class.

    Parameters
    ----------
    classes_of : mapping
        By patient: the classes of the slides.
    folds : int
    master_seed : int
    factors : sequence
        What tells this draw from others.

    Returns
    -------
    dict of int
        Folds from 0. Their sizes differ by one patient at most, and so do their numbers of patients of a worst class.

    Raises
    ------
    ValueError
        If there are fewer than two folds, or fewer patients than folds.

    Notes
    -----
    Patients are ranked by their worst class and within it by a hash of seed and name, and dealt out like cards: the
    same for every method. As scikit-learn's StratifiedGroupKFold, but a patient's place depends on the seed alone and
    not on the order of the rows.
    """
    if folds < 2:
        raise ValueError(f"staging takes 2 folds or more; found {folds}")
    if len(classes_of) < folds:
        raise ValueError(
            f"staging by {folds} folds takes as many patients with usable slides or more, whose slides trained no "
            f"network; found {len(classes_of)}. Hold out more patients, or ask for fewer folds"
        )

    def place(patient: str) -> tuple[int, float, str]:
        worst = max(SLIDE_CLASSES.index(name) for name in classes_of[patient])
        return -worst, seeds.unit_hash(master_seed, "staging folds", *factors, patient), patient

    return {patient: rank % folds for rank, patient in enumerate(sorted(classes_of, key=place))}
