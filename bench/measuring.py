"""Ratios of two ways to do the same work, taken in turn so that the machine's load meets both; and what jobs take."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histotransfer import plain_data, workflow

#: The folder of the library, and that of the scripts that run in processes of their own.
LIBRARY = Path(workflow.__file__).parents[1]
PROCESSES = Path(__file__).with_name("processes")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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


@dataclass(frozen=True)
class Measured:
    """What one process took: its peak resident memory in MiB (Linux), its processor and its wall time in seconds."""

    mib: float
    cpu_s: float
    wall_s: float


def call(what: str | Callable[..., Any], **arguments: Any) -> Any:
    """Call a function as a rule does: with files and plain data by name, of which its annotations make objects.

    Parameters
    ----------
    what : str or callable
        The name of a rule's step, ``folder.module.function`` of the library, or a function.
    **arguments : object
    """
    function = workflow.function_of(what) if isinstance(what, str) else what
    return function(**workflow.arguments_of(function, arguments))


def in_own_process(step: str, **arguments: Any) -> Measured:
    """Call the function of a step as :func:`call` does, in a process of its own, on two threads."""
    given = json.dumps(plain_data.plain(arguments), default=str)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = run_process("step", step, input=given, VIPS_CONCURRENCY="1", **dict.fromkeys(THREADS, "2"))
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(int(said.split()[-1]) / 1024, cpu_s, ended - started)


def process_command(name: str, *arguments: object) -> list[str]:
    """Return the command line of one of the scripts in ``processes``; what is no text is given as JSON."""
    plain = [plain_data.plain(argument) for argument in arguments]
    given = [argument if isinstance(argument, str) else json.dumps(argument) for argument in plain]
    return [sys.executable, str(PROCESSES / f"{name}.py"), *given]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of such a process: the library and this folder's modules are found in it."""
    path = os.pathsep.join(map(str, (LIBRARY, PROCESSES.parent)))
    given = {"PYTHONPATH": path, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**os.environ, **given, **more}


def run_process(name: str, *arguments: object, input: str | None = None, **more: str) -> str:
    """Run such a process to its end, with environment variables `more`, and return what it prints."""
    done = subprocess.run(
        process_command(name, *arguments),
        input=input,
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{PROCESSES / name}.py: {done.stderr[-4000:]}")
    return done.stdout


class Waiting:
    """A process that is asked again and again for a part of its work, and answers how long it took."""

    def __init__(self, name: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            process_command(name, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def seconds(self, part: str = "") -> list[float]:
        """Return the times of one part in seconds, as the process prints them."""
        print(part, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args[1]} has ended with {self._process.wait()}")
        return [float(word) for word in answer.split()]

    def close(self) -> None:
        """Let the process end."""
        self._process.stdin.close()
        self._process.wait()
