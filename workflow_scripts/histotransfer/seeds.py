"""Random numbers: one master seed, and an independent stream for each use."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(master: int, stage: str, *factors: object) -> np.random.SeedSequence:
    """Return the seed sequence of one use of random numbers.

    A stream depends on its use and never on the order in which jobs run. The same study therefore gives the same
    numbers on one core, on eight, and after a restart.

    Parameters
    ----------
    master : int
        The study's seed (``seed`` in the config).
    stage : str
        What the numbers are for, for example ``"bootstrap"``.
    *factors : object
        What distinguishes this use from others of the stage (slide, fold, ...); their text counts.

    Returns
    -------
    numpy.random.SeedSequence
    """
    name = "\x1f".join([stage, *map(str, factors)]).encode()
    words = np.frombuffer(hashlib.sha256(name).digest(), dtype="<u4")
    return np.random.SeedSequence([master, *(int(word) for word in words)])


def generator(master: int, stage: str, *factors: object) -> np.random.Generator:
    """Return a NumPy generator on the stream of :func:`derive`."""
    return np.random.default_rng(derive(master, stage, *factors))


def integer(master: int, stage: str, *factors: object) -> int:
    """Return a 31-bit integer from the stream of :func:`derive`, for libraries that take no generator."""
    return int(derive(master, stage, *factors).generate_state(1, np.uint32)[0] >> 1)


def unit_hash(master: int, stage: str, *factors: object) -> float:
    """Return a number in [0, 1) that depends on the arguments alone: a place in a random order."""
    name = "\x1f".join([str(master), stage, *map(str, factors)]).encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64
