"""Whose turn it is on a GPU: one job a device, by a lock on a file."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("histotransfer")


@contextmanager
def leased(gpu: int, gpus: int, *, folder: str | Path | None = None, poll_s: float = 1.0) -> Iterator[str]:
    """Hold one of this machine's GPUs while the block runs, and show this process that device alone.

    Must be entered before Keras or its backend is imported: they look at the visible devices once. In a job of Slurm
    the device is the one that Slurm gave to the job; where it gave several, as to Snakemake itself in an allocation,
    its jobs share those.

    Parameters
    ----------
    gpu : int
        GPUs that the rule asked for: 0 hides every device, 1 leases one.
    gpus : int
        GPUs that the config gives to the workflow on this machine.
    folder : path, optional
        Where the lock files lie; by default the system's temporary folder, so that two studies of one machine share.
    poll_s : float
        Seconds between two looks while every device is taken.

    Yields
    ------
    str
        The value that ``CUDA_VISIBLE_DEVICES`` was set to; ``"-1"`` for none.

    Raises
    ------
    ValueError
        If a rule asks for more than one GPU, or for one where the config gives none.
    """
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        yield "-1"
        return
    scheduled = os.environ.get("SLURM_JOB_ID", "")
    given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name and name != "-1"]
    if scheduled and len(given) == gpu:
        device = ",".join(given)
        log.info("on GPU %s, which the scheduler gave", device)
        yield device
        return
    if gpu > 1 or gpus < 1:
        raise ValueError(f"a rule takes one GPU of those that `gpus` in the config gives; found {gpu} of {gpus}")
    devices = given or [str(index) for index in range(gpus)]
    places = Path(folder or tempfile.gettempdir())
    # another allocation may call other devices by the same names
    of = f"{scheduled}-" if scheduled and given else ""
    waited = False
    while True:
        for device in devices[:gpus]:
            file = _lock_file(places / f"histotransfer-gpu-{of}{device}.lock")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            try:
                os.environ["CUDA_VISIBLE_DEVICES"] = device
                log.info("on GPU %s", device)
                yield device
            finally:
                os.close(file)
            return
        if not waited:
            log.info("every one of the GPUs %s is taken by another job: waiting", ", ".join(devices[:gpus]))
            waited = True
        time.sleep(poll_s)


def _lock_file(path: Path) -> int:
    """Return a descriptor of a lock file, which may be another user's: it is enough to read it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    except PermissionError:
        # where a folder is everybody's, Linux refuses O_CREAT on a file of another user (fs.protected_regular)
        return os.open(path, os.O_RDONLY)
    if os.fstat(file).st_uid == os.getuid():
        os.fchmod(file, 0o644)
    return file
