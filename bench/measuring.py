"""Ratios of two ways to do the same work, taken in turn so that the machine's moods meet both."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    what : str
    measured : float
        The ratio (or number) that the bar is about.
    low, high : float
        Its range over the repetitions.
    bar : float
    at_least : bool
        Whether the bar is a lower bound; else an upper one.
    note : str
    """

    what: str
    measured: float
    low: float
    high: float
    bar: float
    at_least: bool = True
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the median meets the bar."""
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        verdict = "met" if self.met else "**missed**"
        note = f" ({self.note})" if self.note else ""
        return (
            f"| {self.what}{note} | {self.measured:.2f} | {self.low:.2f} to {self.high:.2f} | {word} {self.bar:g} "
            f"| {verdict} |"
        )


def processor_seconds(work: Callable[[], object], *, children: bool = False) -> float:
    """Return the processor time of one call, of this process or of those that it starts and waits for."""
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    before = resource.getrusage(who)
    work()
    after = resource.getrusage(who)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def wall_seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ratios(
    first: Callable[[], object],
    second: Callable[[], object],
    repetitions: int,
    clock: Callable[[Callable[[], object]], float] = processor_seconds,
) -> tuple[float, float, float]:
    """Return median, least and greatest of time(first) / time(second), each pair taken one after the other."""
    first(), second()
    found = [clock(first) / clock(second) for _ in range(repetitions)]
    return statistics.median(found), min(found), max(found)


def peak_mib(code: str, *arguments: str) -> float:
    """Return the peak resident memory of a Python process that runs `code`, in MiB (Linux)."""
    # not `ru_maxrss`, which starts from the peak of the process that started this one
    code += "\nprint(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) / 1024
