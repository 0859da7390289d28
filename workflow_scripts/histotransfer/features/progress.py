"""How far an extraction is, in the log."""

from __future__ import annotations

import logging
import time

from histotransfer.amounts import duration

log = logging.getLogger("histotransfer")

#: Seconds between two lines of progress.
INTERVAL_S = 30.0


class Progress:
    """Logs how far a job is, every :data:`INTERVAL_S` seconds and at the end.

    Parameters
    ----------
    network_name : str
    slides, tiles : int
        All that the job has to do.
    """

    def __init__(self, network_name: str, slides: int, tiles: int) -> None:
        self._network_name = network_name
        self._slides, self._tiles = slides, tiles
        self._slides_done = self._tiles_done = 0
        self._started = self._logged = time.monotonic()

    def tiles_done(self, n: int) -> None:
        """Count `n` more tiles."""
        self._tiles_done += n
        now = time.monotonic()
        if now - self._logged >= INTERVAL_S:
            self._logged = now
            rate = self._tiles_done / (now - self._started)
            left = max(self._tiles - self._tiles_done, 0) / rate
            log.info(
                "%s: %d of %d slides, %d of %d tiles, %.1f tiles/s, %s left",
                *(self._network_name, self._slides_done, self._slides, self._tiles_done, self._tiles),
                *(rate, duration(left, tenths=False)),
            )

    def slide_done(self) -> None:
        """Count one more slide."""
        self._slides_done += 1

    def finish(self) -> None:
        """Log what was done in all."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        log.info(
            "%s: %d slides, %d tiles in %s, %.1f tiles/s",
            *(self._network_name, self._slides_done, self._tiles_done, duration(seconds, tenths=False)),
            self._tiles_done / seconds,
        )
