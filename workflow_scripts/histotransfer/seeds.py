"""Seeds: one master seed, one independent stream for every use of chance."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(master: int, stage: str, *factors: object) -> np.random.SeedSequence:
    """Return the seed sequence of one use of chance.

    A stream depends on what it is for and never on the order in which jobs run, so the same study
    gives the same numbers on one core, on eight, or after a restart.

    Parameters
    ----------
    master : int
        The study's seed (``seed`` in the config).
    stage : str
        What the chance is for, for example ``"bootstrap"``.
    *factors : object
        What tells this use from the others of its stage (slide, fold, ...), by their text.
    """
    name = "\x1f".join([stage, *map(str, factors)]).encode()
    words = np.frombuffer(hashlib.sha256(name).digest(), dtype="<u4")
    return np.random.SeedSequence([master, *(int(word) for word in words)])


def generator(master: int, stage: str, *factors: object) -> np.random.Generator:
    """Return a NumPy generator on the stream of :func:`derive`."""
    return np.random.default_rng(derive(master, stage, *factors))


def integer(master: int, stage: str, *factors: object) -> int:
    """Return one 31-bit integer of the stream of :func:`derive`, for libraries that take no generator."""
    return int(derive(master, stage, *factors).generate_state(1, np.uint32)[0] >> 1)


def unit_hash(master: int, stage: str, *factors: object) -> float:
    """Return a number in [0, 1) that depends on the arguments alone: a place in a random order."""
    name = "\x1f".join([str(master), stage, *map(str, factors)]).encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64
