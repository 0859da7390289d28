"""The frame of every training: from the tables that say what is learnt to the files that a training leaves.

A rule's function makes a :class:`Job`, and between its parts builds what is trained::

    job = Job(...)
    data = TrainingData.one_by_one(*job.read(features, feature_set))
    job.begin(data)
    learner = ...
    checkpoint = job.checkpoint(data, trained="...", made_of=(...))
    outcome = job.run(learner, data, checkpoint)
    job.write(data, outcome, ...)
    results.save_network(job.files.model, ...)
    job.end(checkpoint)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from histotransfer import seeds
from histotransfer.backends import process
from histotransfer.definitions import Factors, LearningTables, Recipe, Split
from histotransfer.feature_kinds import FeatureSet
from histotransfer.networks.groups import SOFTMAX
from histotransfer.plain_data import plain
from histotransfer.tables import tile_table
from histotransfer.training import checkpoints, epochs, results, tiles
from histotransfer.training.learner import Learner
from histotransfer.training.tiles import TrainingData

log = logging.getLogger("histotransfer")

#: Threads that arithmetic is spread over, whatever a job is given: another number adds in another order, and training
#: soon comes to other weights (seen after 12 steps of MobileNetV2), so the same study would differ between computers.
# ASSUME 2, which every computer has; a training that needs more has a GPU, where this number does not matter
THREADS = 2
#: How the probabilities were calibrated: an attribute of the predictions.
CALIBRATION = "none: the network's own softmax"


@dataclass(frozen=True)
class TrainingFiles:
    """What every training writes: paths.

    Attributes
    ----------
    model : str
        ``.keras``: from what the network takes to probabilities, float32 (n, n_classes).
    predictions : str
        ``predictions.h5``: see :mod:`histotransfer.predictions`.
    history, curve : str
        ``history.tsv`` and ``curve.tsv``: :data:`histotransfer.training.epochs.HISTORY` and ``CURVE``.
    """

    model: str
    predictions: str
    history: str
    curve: str


@dataclass(frozen=True)
class TrainingSettings:
    """What trainings of a study have in common.

    Attributes
    ----------
    master_seed : int
        The study's seed.
    resume : str
        Folder of the checkpoints.
    arithmetic_threads : int
        What arithmetic is spread over: see :data:`THREADS`.
    code : str
        Digest of the code that trains. A checkpoint of other code is not gone on with.
    """

    master_seed: int
    resume: str
    arithmetic_threads: int = THREADS
    code: str = ""


@dataclass(frozen=True)
class Job:
    """One training of the study.

    Attributes
    ----------
    factors : Factors
    recipe : Recipe
    classes : tuple of str
        In declared order.
    split : Split
    tables : LearningTables
    files : TrainingFiles
    settings : TrainingSettings
    """

    factors: Factors
    recipe: Recipe
    classes: tuple[str, ...]
    split: Split
    tables: LearningTables
    files: TrainingFiles
    settings: TrainingSettings
    _started: float = field(default_factory=time.monotonic, init=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the trained network, or of features and classifier where a classifier learns on features."""
        features, classifier = self.factors.features, self.factors.classifier
        return (features,) if classifier == SOFTMAX else (features, classifier)

    @property
    def name(self) -> str:
        """What messages call the network."""
        return "+".join(self.names)

    @property
    def stream(self) -> tuple[object, ...]:
        """What the seeds of this training are derived from, besides the master seed and their purpose."""
        factors = self.factors
        return (factors.dataset, factors.task, factors.split, factors.seed, *self.names)

    def seed_of(self, purpose: str) -> int:
        """Return the seed of one use of chance, such as ``dropout``."""
        return seeds.integer(self.settings.master_seed, "training", *self.stream, purpose)

    def generator_of(self, *purpose: object) -> np.random.Generator:
        """Return a generator on the stream of one use of chance."""
        return seeds.generator(self.settings.master_seed, "training", *self.stream, *purpose)

    def read(
        self, features: Sequence[str], feature_set: FeatureSet
    ) -> tuple[tile_table.TileIndex, dict[str, np.ndarray]]:
        """Read which tiles there are, with labels and sets.

        Parameters
        ----------
        features : sequence of path
            Files of the feature set, as :func:`histotransfer.tables.tile_table.read` takes them.
        feature_set : FeatureSet

        Returns
        -------
        table : TileIndex
        tiles : dict of str to ndarray of int
            Those with a label, by set: see :func:`histotransfer.training.tiles.rows_of_sets`.

        Raises
        ------
        ValueError
            If the files do not fit together, or there is nothing to train on or to test with.
        """
        master_seed = self.settings.master_seed
        table, drawn = tile_table.read_drawn(
            features=features,
            tables=self.tables,
            split=self.split,
            feature_set=feature_set,
            classes=self.classes,
            factors=self.factors,
            master_seed=master_seed,
        )
        rows = tiles.rows_of_sets(
            table, drawn, seed=self.factors.seed, master_seed=master_seed, sampling=self.recipe.sampling
        )
        tiles.check_sets(table, rows, self.tables.split_file)
        return table, rows

    def begin(self, data: TrainingData) -> None:
        """Refuse tiles that cannot be learnt from, and set the backend up. To be called before a network is built.

        Raises
        ------
        ValueError
            See :func:`histotransfer.training.tiles.check_tiles`.
        """
        tiles.check_tiles(labels=data.label, rows=data.tiles, recipe=self.recipe, classes=self.classes)
        process.set_threads(self.settings.arithmetic_threads)
        process.set_deterministic()

    def checkpoint(
        self, data: TrainingData, *, trained: str, made_of: Sequence[str], **identity: Any
    ) -> checkpoints.Checkpoint:
        """Return the checkpoint of this training.

        Parameters
        ----------
        data : TrainingData
        trained : str
            What is trained, in words.
        made_of : sequence of str
            Attributes of the table that tell which files its tiles come from.
        **identity : object
            Plain data: what else decides the weights.
        """
        table, factors, settings = data.table, self.factors, self.settings
        digest = checkpoints.digest_of_tiles(
            [table.image, table.tile, data.label, table.set], {name: table.attributes.get(name) for name in made_of}
        )
        return checkpoints.Checkpoint(
            settings.resume,
            {
                "network": self.name,
                **identity,
                "recipe": plain(self.recipe),
                "classes": list(self.classes),
                "trained": trained,
                "dataset": factors.dataset,
                "task": factors.task,
                "split": factors.split,
                "seed": factors.seed,
                "master_seed": settings.master_seed,
                "tiles": digest,
                "code": settings.code,
                "backend": process.name(),
                "arithmetic_threads": settings.arithmetic_threads,
            },
        )

    def run(
        self,
        learner: Learner,
        data: TrainingData,
        checkpoint: checkpoints.Checkpoint,
        *,
        phases: Sequence[int] | None = None,
        history: Sequence[Mapping[str, Any]] = (),
        curve: Sequence[Mapping[str, Any]] = (),
    ) -> epochs.Outcome:
        """Train; the learner then has the kept weights.

        Parameters
        ----------
        learner : Learner
        data : TrainingData
        checkpoint : Checkpoint
        phases : sequence of int, optional
            Of the recipe, from 0; all by default.
        history, curve : sequences of mapping
            Rows of the phases before these.

        Raises
        ------
        ValueError
            See :class:`histotransfer.training.epochs.Training`.
        """
        training = epochs.Training(
            learner,
            name=self.name,
            labels=data.labels,
            rows=data.rows,
            recipe=self.recipe,
            phases=range(len(self.recipe.phases)) if phases is None else phases,
            classes=self.classes,
            generator_of=self.generator_of,
            checkpoint=checkpoint,
        )
        return training.run(history, curve)

    def write(
        self,
        data: TrainingData,
        outcome: epochs.Outcome,
        *,
        logits_of: Callable[[np.ndarray], np.ndarray],
        attributes: Mapping[str, Any],
    ) -> None:
        """Write predictions, history and learning curve.

        Parameters
        ----------
        data : TrainingData
        outcome : Outcome
        logits_of : callable
            See :func:`histotransfer.training.results.write_network_predictions`.
        attributes : mapping
            Of the predictions: what only this kind of training has.

        Raises
        ------
        ValueError
            If an output is not finite, naming the tile.
        """
        about = {**self._attributes(data, outcome), **attributes}
        results.write_network_predictions(self.files.predictions, data, logits_of=logits_of, attributes=about)
        results.write_history(self.files.history, outcome)
        results.write_curve(self.files.curve, outcome)

    def _attributes(self, data: TrainingData, outcome: epochs.Outcome) -> dict[str, Any]:
        table, factors, recipe = data.table, self.factors, self.recipe
        trained = data.tiles["train"]
        return {
            "unit": self.split.unit,
            "group_unit": table.unit,
            "share_groups": self.split.share_groups,
            "features_versions": table.attributes.get("versions", {}),
            "classifier": factors.classifier,
            "recipe": recipe.name,
            "kept_epoch": outcome.kept_epoch,
            "kept_by": outcome.kept_by,
            "epochs": int(outcome.history[-1]["epoch"]),
            "monitor": recipe.monitor,
            "chosen": {"epoch": outcome.kept_epoch},
            "tuning_metric": recipe.monitor,
            "calibration": CALIBRATION,
            "n_train_tiles": len(trained),
            "n_train_groups": len(set(table.group[trained].tolist())),
            "classes": list(self.classes),
            "dataset": factors.dataset,
            "task": factors.task,
            "split": factors.split,
            "seed": factors.seed,
            "features": factors.features,
        }

    def end(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Remove the checkpoint, once everything is written, and say how long the training took."""
        checkpoint.remove()
        log.info("%s: trained in %.1f s", self.name, time.monotonic() - self._started)
