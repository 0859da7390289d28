"""Checkpoints: the state of a training after each epoch, so that a killed job goes on from its last finished epoch.

A checkpoint is no result: it lies under ``results/.resume``, by the digest of what decides the training, and is removed
when the training has succeeded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import store

log = logging.getLogger("histotransfer")


#: Names of the arrays of a checkpoint, each a list of arrays: of the network, of the optimiser, and of the best epoch.
LISTS = ("weights", "slots", "best")


@dataclass
class State:
    """A training between two epochs.

    Attributes
    ----------
    weights : list of ndarray
        Every variable of the network in its order: weights, statistics, states of the dropout layers' generators.
    slots : list of ndarray
        Of the optimiser, weight by weight, and last the scale of the loss.
    best : list of ndarray
        As `weights`, of the best epoch so far; empty where the best is this one, or none is kept.
    progress : dict
        Everything else, as JSON: the phase, epochs and steps done, history, learning curve.
    """

    weights: list[np.ndarray]
    slots: list[np.ndarray]
    best: list[np.ndarray]
    progress: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """The file of one training's checkpoint.

    Parameters
    ----------
    folder : path
        ``results/.resume``.
    identity : mapping
        What is trained, on what and how, as JSON types. A training with another identity has another file.
    """

    folder: str | Path
    identity: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Path of the file: ``{folder}/{digest}/state.h5``."""
        text = json.dumps(self.identity, sort_keys=True, ensure_ascii=False)
        return Path(self.folder) / hashlib.sha256(text.encode()).hexdigest()[:32] / "state.h5"

    def write(self, state: State) -> None:
        """Replace the checkpoint, complete or not at all.

        Raises
        ------
        OSError
            If it cannot be written, naming it.
        """
        with store.writing_hdf5(self.path, {}) as file:
            # datasets: attributes of HDF5 hold 64 kB alone
            store.write_texts(file, "identity", [json.dumps(self.identity, sort_keys=True, ensure_ascii=False)])
            store.write_texts(file, "progress", [json.dumps(state.progress, ensure_ascii=False)])
            for name in LISTS:
                group = store.create_group(file, name)
                for number, array in enumerate(getattr(state, name)):
                    group.create_dataset(f"{number:05d}", data=array)

    def read(self) -> State | None:
        """Return the state that the last attempt wrote, None where there is none.

        A damaged file is ignored with a warning, and the training begins anew.

        Raises
        ------
        ValueError
            If the file is of another training: what differs is named.
        """
        import h5py

        path = self.path
        if not path.is_file():
            return None
        try:
            with h5py.File(path, "r") as file:
                identity = json.loads(store.read_texts(file, "identity")[0])
                state = State(
                    **{name: [file[name][number][()] for number in sorted(file[name])] for name in LISTS},
                    progress=json.loads(store.read_texts(file, "progress")[0]),
                )
        except (OSError, KeyError, json.JSONDecodeError, IndexError) as error:
            log.warning("checkpoint %s is damaged (%s): training begins anew", path, error)
            return None
        check_identity(path, found=identity, expected=self.identity)
        return state

    def remove(self) -> None:
        """Remove the checkpoint: training has ended well."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


def check_identity(path: str | Path, *, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise if a checkpoint is of another training than the one that is to go on.

    Raises
    ------
    ValueError
        Naming the file and the first thing that differs: its network, recipe, classes or other.
    """
    for name in (*expected, *(name for name in found if name not in expected)):
        ours, theirs = expected.get(name), found.get(name)
        # JSON has lists where Python has tuples
        if json.dumps(ours, sort_keys=True) != json.dumps(theirs, sort_keys=True):
            raise ValueError(
                f"checkpoint {path} is of another training: delete it, and training begins anew; its {name} must be "
                f"{_short(ours)}; found {_short(theirs)}"
            )


def digest_of_tiles(columns: Sequence[Sequence[Any]], others: Mapping[str, Any]) -> str:
    """Return the digest of which tiles are trained on, their labels and sets, and what made them.

    Parameters
    ----------
    columns : sequence of sequences
        Of equal length, for example images, tiles, labels and sets.
    others : mapping
        JSON types.
    """
    digest = hashlib.sha256(json.dumps(others, sort_keys=True, ensure_ascii=False).encode())
    for row in zip(*columns, strict=True):
        digest.update("\x1f".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= 300 else text[:300] + "..."
