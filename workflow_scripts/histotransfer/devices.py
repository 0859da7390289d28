"""GPUs are leased to jobs: one job on each device at a time, by a lock on a file."""

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
    """Hold one of this machine's GPUs while the block runs, and hide all others from this process.

    Enter it before Keras or its backend is imported: they look at the visible devices once. In a Slurm job the device
    is the one that Slurm has given to the job. If Slurm has given several, as it does to Snakemake itself in an
    allocation, its jobs share those.

    Parameters
    ----------
    gpu : int
        GPUs that the rule asked for: 0 hides every device, 1 leases one.
    gpus : int
        GPUs that the workflow may use on this machine (``gpus`` in the config).
    folder : path, optional
        Folder of the lock files; by default the system's temporary folder, so that all studies on a machine share it.
    poll_s : float
        Seconds between two attempts while every device is taken.

    Yields
    ------
    str
        The value of ``CUDA_VISIBLE_DEVICES``; ``"-1"`` for no device.

    Raises
    ------
    ValueError
        If a rule asks for more than one GPU, or for one while ``gpus`` is 0.
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
    # in another allocation, other devices may have the same names
    allocation = f"{scheduled}-" if scheduled and given else ""
    waited = False
    while True:
        for device in devices[:gpus]:
            file = _lock_file(places / f"histotransfer-gpu-{allocation}{device}.lock")
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
    """Return a descriptor of a lock file. It may be another user's: a file that can be read can be locked."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    except PermissionError:
        # in a folder that all may write to, Linux refuses O_CREAT on a file of another user (fs.protected_regular)
        return os.open(path, os.O_RDONLY)
    if os.fstat(file).st_uid == os.getuid():
        os.fchmod(file, 0o644)
    return file
