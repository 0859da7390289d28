"""What a study defines, as the stages take it: factors, splits, tasks, recipes, classifiers.

Each class is frozen and has every default filled in. :mod:`histotransfer.study.configuration` makes them once, of a
config that has been checked. A rule passes them on as plain data (:func:`histotransfer.plain_data.plain`), because
Snakemake sees a changed param by its text, and of an object of a class of ours it sees none;
:func:`histotransfer.workflow.run` makes them again (:func:`histotransfer.plain_data.made`) where a function's
annotation names such a class. The plain form is also what result files store.

The kinds of feature sets are in :mod:`histotransfer.feature_kinds`. Imports nothing but the standard library: it is
used while jobs are planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# ---- factors


@dataclass(frozen=True)
class Draw:
    """One way of dividing the groups into sets; today a seed of the split."""

    seed: int


@dataclass(frozen=True)
class Factors:
    """What a model of the study is of: the value of each factor, by the names that stand in its path.

    Attributes
    ----------
    dataset, task, split : str
        Names in the config.
    draw : Draw
        Of the split.
    features, classifier : str
        Names in the config. Of a trained network `features` is its name, and `classifier` is ``softmax``.
    initialisation : int
        Which of several random starts; today there is one, 0.
    """

    dataset: str
    task: str
    split: str
    draw: Draw
    features: str = ""
    classifier: str = ""
    initialisation: int = 0

    @property
    def seed(self) -> int:
        """The seed of the draw."""
        return self.draw.seed

    @property
    def method(self) -> str:
        """``FEATURES+CLASSIFIER``."""
        return f"{self.features}+{self.classifier}"

    @property
    def wildcards(self) -> dict[str, str | int]:
        """Its values by the names that stand in paths."""
        names = ("dataset", "task", "split", "seed", "features", "classifier")
        return {name: getattr(self, name) for name in names}


# ---- splits and tasks

#: What can be held out together, from fine to coarse.
UNITS = ("tile", "image", "slide", "patient")
#: Unit of a split that takes the sets of the sheet's column ``split``.
GIVEN = "given"
#: The sets of a split, and the values of a sheet's column ``split``.
SETS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """How groups are divided into training, validation and test sets.

    Attributes
    ----------
    unit : {'patient', 'slide', 'image', 'tile', 'given'}
        What is held out together; ``given`` takes the sets of the sheet's column ``split``.
    test : float or None
        Share of the groups; None where the sheet gives the sets.
    validation : float
        Share of the groups that are left after the test set.
    folds : int
        Of the cross-validation inside the training set.
    groups : str or None
        Unit of these folds and of the bootstrap where `unit` is ``given``.
    share_groups : str
        Why groups may stand in several sets; "" where they may not.
    stratify : {'label', 'none'}
    train_tiles, train_tiles_per_class : int or None
        At most so many training tiles, in all and of each class.
    """

    unit: str
    folds: int
    test: float | None = None
    validation: float = 0
    groups: str | None = None
    share_groups: str = ""
    stratify: str = "label"
    train_tiles: int | None = None
    train_tiles_per_class: int | None = None


@dataclass(frozen=True)
class RegionRule:
    """A tile has the class `of` where more than the share `above` of its area is annotated so."""

    of: str = field(metadata={"plain": "class"})
    above: float


@dataclass(frozen=True)
class Regions:
    """How regions drawn on slides become labels of tiles.

    Attributes
    ----------
    names : dict of str to tuple of str
        Class to the names of its regions.
    cut_out, ignore : tuple of str
        Names of regions that are taken out of the others, and of those that are passed over.
    outside, without : str
        What tissue outside every region is, and slides without annotations: a class, or ``nolabel``.
    origin : {'slide', 'scanned', None}
        Where coordinates begin; None where both are the same.
    repair : bool
        Whether outlines that cross themselves are mended.
    rules : tuple of RegionRule
        The first that holds decides.
    """

    names: Mapping[str, tuple[str, ...]]
    rules: tuple[RegionRule, ...]
    cut_out: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    outside: str = "nolabel"
    without: str = "nolabel"
    origin: str | None = None
    repair: bool = False


@dataclass(frozen=True)
class Task:
    """Classes, and which labels of the sheet belong to each.

    Attributes
    ----------
    classes : tuple of str
        In declared order.
    labels : dict of str to str
        Label of the sheet to its class.
    leave_out : tuple of str
        Labels whose tiles are not used.
    regions : Regions or None
        None where labels come from the sheet.
    """

    classes: tuple[str, ...]
    labels: Mapping[str, str]
    leave_out: tuple[str, ...] = ()
    regions: Regions | None = None


# ---- slides


@dataclass(frozen=True)
class Tiling:
    """Size, resolution and filters of a slide's tiles: the keys of the config's ``tilings``."""

    size_um: float | None = None
    size_px: int | None = None
    mpp: float | None = None
    overlap: float = 0
    tissue_min: float = 0.0
    tissue_threshold: float | str = "otsu"
    exclude_pen: bool = True
    homogeneity: str = "none"
    homogeneity_drop_at: float | None = None
    max_tiles_per_slide: int | None = None
    grayscale: bool = False
    upsample: bool = False
    level: str | int = "auto"


@dataclass(frozen=True)
class Canvas:
    """The canvas that a slide's map lies on: its edge in grid cells, or ``fit``; a map ``per`` slide or piece."""

    size: int | str = "fit"
    per: str = "slide"


@dataclass(frozen=True)
class Crop:
    """The square around a point: its edge in pixels, and what becomes of points near the image's border."""

    px: int
    border: str = "exclude"


# ---- recipes


@dataclass(frozen=True)
class Head:
    """What is put on a network: pooling, dense layers by their units, their activation, dropout before each layer."""

    pool: str = "average"
    dense: tuple[int, ...] = ()
    activation: str = "relu"
    dropout: float = 0


@dataclass(frozen=True)
class Initialisation:
    """How random weights are drawn; ``gaussian`` has a deviation."""

    kind: str = "glorot"
    deviation: float | None = None


@dataclass(frozen=True)
class Augmentation:
    """How tiles are varied in training: the keys of a recipe's ``augmentation``. Pairs: least and most factor."""

    maximal_crop: bool = False
    quarter_turns: bool = False
    flip: str = "none"
    rotate: float = 0
    zoom: tuple[float, float] | None = None
    shear: float = 0
    shift: float = 0
    saturation: tuple[float, float] | None = None
    contrast: tuple[float, float] | None = None
    brightness: tuple[float, float] | None = None
    sharpness: tuple[float, float] | None = None


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent."""

    momentum: float = 0.9
    nesterov: bool = False
    kind: Literal["sgd"] = "sgd"


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015)."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    kind: Literal["adam"] = "adam"


@dataclass(frozen=True)
class RmsProp:
    """RMSprop."""

    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    kind: Literal["rmsprop"] = "rmsprop"


@dataclass(frozen=True)
class Constant:
    """The learning rate stays as it is."""

    kind: Literal["constant"] = "constant"


@dataclass(frozen=True)
class Inverse:
    """Caffe's policy "inv": rate x (1 + gamma x step)^-power."""

    gamma: float
    power: float
    kind: Literal["inv"] = "inv"


@dataclass(frozen=True)
class Cosine:
    """A rise over the first `warm_up` epochs, then a half cosine down to the share `floor` of the rate."""

    warm_up: float = 0
    floor: float = 0
    kind: Literal["cosine"] = "cosine"


@dataclass(frozen=True)
class Phase:
    """One phase of a training.

    Attributes
    ----------
    on : {'tiles', 'features'}
        What it takes; on cached features the head alone is trained.
    train : str or int
        See :func:`histotransfer.networks.groups.trained_groups`.
    epochs : int
    rate : float
        Learning rate.
    rates : dict of str to float
        Factors of the rate, by group of layers; 0 keeps a group as it is.
    layer_decay : float or None
        Factor from each group to the one below it.
    weight_decay : float
    optimiser : Sgd, Adam or RmsProp
    schedule : Constant, Inverse or Cosine
    """

    train: str | int
    epochs: int
    rate: float
    optimiser: Sgd | Adam | RmsProp
    on: str = "tiles"
    rates: Mapping[str, float] = field(default_factory=dict)
    layer_decay: float | None = None
    weight_decay: float = 0
    schedule: Constant | Inverse | Cosine = Constant()


@dataclass(frozen=True)
class Curve:
    """A learning curve by step: the sets that are scored, how often in an epoch, and on how many tiles (None: all)."""

    sets: tuple[str, ...] = ("test",)
    per_epoch: int = 1
    tiles: int | None = None


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: the keys of an entry of the config's ``recipes``, with the entry's name."""

    name: str
    phases: tuple[Phase, ...]
    head: Head = Head()
    initialisation: Initialisation = Initialisation()
    batch: int = 32
    precision: str = "float32"
    crop_from: int | None = None
    sampling: str = "all"
    augmentation: Augmentation | None = None
    auxiliary: float = 0
    statistics_momentum: float | None = None
    monitor: str = "loss"
    keep: str = "best"
    early_stopping: int | None = None
    curve: Curve | None = None


# ---- classifiers and selections


@dataclass(frozen=True)
class LinearSvm:
    """A linear support vector machine, by LIBSVM or LIBLINEAR; each `C` is tried in the cross-validation."""

    kind: Literal["libsvm", "liblinear"]
    C: tuple[float, ...]
    tuning_metric: str = "accuracy"


@dataclass(frozen=True)
class ExtraTrees:
    """Extremely randomised trees (Geurts et al. 2006); each `max_features` is tried in the cross-validation."""

    max_features: tuple[float | str, ...]
    trees: int = 250
    min_samples_leaf: int = 1
    tuning_metric: str = "accuracy"
    kind: Literal["extratrees"] = "extratrees"


@dataclass(frozen=True)
class Perceptron:
    """A single-layer perceptron; each pair of learning rate and iterations is tried in the cross-validation."""

    learning_rate: tuple[float, ...]
    iterations: tuple[int, ...]
    tuning_metric: str = "accuracy"
    kind: Literal["perceptron"] = "perceptron"


@dataclass(frozen=True)
class LeafFrequencies:
    """A linear SVM on the leaves of trees that random windows reach (Maree et al. 2016)."""

    C: tuple[float, ...]
    trees: int = 10
    max_features: float | str = "sqrt"
    min_samples_leaf: int = 20
    tuning_metric: str = "accuracy"
    kind: Literal["leaf_frequencies"] = "leaf_frequencies"


@dataclass(frozen=True)
class Unet:
    """A U-Net on maps: filters of its first level, levels, whether cells are standardised, and how it is trained."""

    recipe: Recipe
    filters: int = 32
    depth: int = 3
    standardise: bool = True
    kind: Literal["unet"] = "unet"


@dataclass(frozen=True)
class EndToEnd:
    """A U-Net and the network behind its features, trained together; `start` is the U-Net that this begins with."""

    start: str
    recipe: Recipe
    filters: int = 32
    depth: int = 3
    standardise: bool = True
    kind: Literal["end_to_end"] = "end_to_end"


@dataclass(frozen=True)
class Softmax:
    """A trained network's own output."""

    kind: Literal["softmax"] = "softmax"


RowClassifier = LinearSvm | ExtraTrees | Perceptron | LeafFrequencies
Classifier = RowClassifier | Unet | EndToEnd | Softmax


@dataclass(frozen=True)
class Selection:
    """Recursive elimination of features, ranked by the importances of extremely randomised trees.

    Attributes
    ----------
    step : float, int or 'adaptive'
        Features that are dropped at a time: a share of the start below 1, or a number.
    tolerance : float
        The smallest subset whose score is at most so far below the best is kept.
    """

    step: float | str
    tolerance: float = 0.005
    metric: str = "accuracy"
    trees: int = 250
    max_features: float | str = "sqrt"
    min_samples_leaf: int = 1
    kind: Literal["rfe"] = "rfe"


# ---- files that travel together


@dataclass(frozen=True)
class LearningTables:
    """The tables that every method reads: the task's labels, the cohort's slides, the groups' sets and folds."""

    labels: tuple[str, ...]
    slides_table: str
    split_file: str


@dataclass(frozen=True)
class ModelFiles:
    """What the training of a classifier writes: ``model.skops``, ``predictions.h5``, ``tuning.tsv``."""

    model: str
    predictions: str
    tuning: str
