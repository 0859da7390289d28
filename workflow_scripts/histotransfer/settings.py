"""Settings of a study that are the same for all of its datasets and methods: sections of the config.

As :mod:`histotransfer.definitions`: frozen, complete, passed on by rules as plain data. Imports nothing but the
standard library: it is used while jobs are planned.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extraction:
    """How features are extracted from tiles: the config's ``extraction``.

    Attributes
    ----------
    engine : {'keras', 'openvino'}
    precision : {'float32', 'mixed_bfloat16', 'mixed_float16'}
        Of the computation inside the network; features are stored as float32.
    batch : int
        Tiles in one forward pass.
    """

    engine: str = "keras"
    precision: str = "float32"
    batch: int = 32


@dataclass(frozen=True)
class Training:
    """Settings of all trainings, whatever the recipe: the config's ``training``; CPU `threads` of a job."""

    threads: int = 2


@dataclass(frozen=True)
class Evaluation:
    """How scores are computed: the config's ``evaluation``; `bootstrap` resamples of the groups for intervals."""

    bootstrap: int = 1000


@dataclass(frozen=True)
class Staging:
    """How maps become classes of slides and pN stages of patients: the config's ``staging``.

    Attributes
    ----------
    thresholds : tuple of float
        Probabilities; tiles above one of them form the regions of a map.
    trees : int
        Of the random forest that classifies slides.
    balanced : bool
        Whether all classes of slides have the same weight in the forest.
    folds : int
        Of the forest's cross-validation on the held-out patients.
    nodes : int
        Slides (lymph nodes) that a patient must have to be staged.
    on_missing_slide : {'exclude', 'fail'}
        What happens to a patient with another number of usable slides.
    """

    thresholds: tuple[float, ...] = (0.5, 0.7, 0.9)
    trees: int = 500
    balanced: bool = True
    folds: int = 5
    nodes: int = 5
    on_missing_slide: str = "exclude"
