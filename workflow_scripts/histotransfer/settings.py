"""Settings of a study that are the same for all of its datasets and methods, and what these consist of.

As :mod:`histotransfer.definitions`: frozen, complete, passed on by rules as plain data. Imports nothing but the
standard library: it is used while jobs are planned.
"""

from __future__ import annotations

from dataclasses import dataclass

from histotransfer.definitions import Factors
from histotransfer.feature_kinds import Source

# ---- sections of the config


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
        Probabilities; tiles above one of them form the regions of a map. ASSUME these three: even odds, and two surer
        ones, at which regions that touch by chance fall apart.
    trees : int
        Of the random forest that classifies slides. ASSUME 500: as many as the predictions hardly depend on the seed
        with.
    balanced : bool
        Whether all classes of slides have the same weight in the forest. ASSUME yes: slides with isolated tumour cells
        alone are rare, and forests that never predict them never say pN0(i+).
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


# ---- what methods, datasets and trained networks consist of, for the stages that compare them


@dataclass(frozen=True)
class Fit:
    """A rule that fits a model of a method's own, and the name of the classifier that it fits."""

    rule: str
    classifier: str


@dataclass(frozen=True)
class NetworkTraining:
    """A network that is trained for a method.

    Attributes
    ----------
    network : str
    start : str
        The network on whose features its head begins; "" where it is trained on tiles alone.
    rules : tuple of str
        Those that train it.
    """

    network: str
    start: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class MethodParts:
    """What a method consists of.

    Attributes
    ----------
    features, classifier : str
        Names.
    sources : tuple of Source
        Networks and layers whose features it takes; of a choice among layers those of all of them, of random windows
        and of a trained network's own output none.
    selection : bool
        Whether features are selected.
    choice : tuple of str
        Feature sets that it chooses among.
    fitted : tuple of Fit
        The rules that fit its own models.
    cell_px : int or None
        Of a method on the slide itself at low resolution.
    trained : tuple of NetworkTraining
        Networks that are trained for it.
    """

    features: str
    classifier: str
    sources: tuple[Source, ...] = ()
    selection: bool = False
    choice: tuple[str, ...] = ()
    fitted: tuple[Fit, ...] = ()
    cell_px: int | None = None
    trained: tuple[NetworkTraining, ...] = ()

    @property
    def networks(self) -> set[str]:
        """The networks behind it: those that it takes features of, those trained, and where these began."""
        trained = {name for one in self.trained for name in (one.network, one.start) if name}
        return trained | {source.network for source in self.sources}


@dataclass(frozen=True)
class DatasetParts:
    """The names of a dataset's tasks, of its shards, and of its slides or the parts of its table."""

    tasks: tuple[str, ...]
    shards: tuple[str, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class TrainedModel:
    """A trained network or segmentation network, with the factors of its model.

    Attributes
    ----------
    factors : Factors
        Dataset, task, split, draw, features and classifier.
    network : str
        What it is called on the page: its name, or that of the method.
    architecture : str
    start, recipe : str
        Names of what it began with and how it was trained.
    transfer : bool
        Whether it began with trained weights.
    """

    factors: Factors
    network: str
    architecture: str
    start: str
    recipe: str
    transfer: bool
