"""What the script of every rule calls: log, threads, device, then the function that the rule names."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import tempfile
import time
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger("histotransfer")


#: Params that decide when a rule reruns and are no arguments of its function.
ABOUT_RERUNS = frozenset({"step", "code"})


def run(snakemake: Any) -> None:
    """Call the rule's function with its named inputs, outputs and params, and let an error reach log and terminal.

    The rule's param ``step`` names the function, ``folder.module.function`` of this package. It takes every named
    input, output and other param of the rule, as :func:`arguments_of` says; ``threads`` if it names them.

    Parameters
    ----------
    snakemake : object
        What Snakemake gives to a script.

    Raises
    ------
    SystemExit
        With status 1 after an error, whose message stands on the terminal, with the job's wildcards, and whose
        traceback in the log.
    ValueError
        If two of the rule's inputs, outputs and params have one name.
    """
    from histotransfer import devices, store

    with _logging(snakemake.log[0] if snakemake.log else None):
        started = time.monotonic()
        function = function_of(snakemake.params["step"])
        parameters = inspect.signature(function).parameters
        arguments: dict[str, Any] = {}
        for items in (snakemake.input, snakemake.output, snakemake.params):
            named = _named(items)
            twice = sorted(named.keys() & arguments.keys())
            if twice:
                raise ValueError(
                    f"rule {snakemake.rule}: inputs, outputs and params have names of their own; found {twice} twice"
                )
            arguments |= named
        arguments = arguments_of(function, arguments)
        if "threads" in parameters:
            arguments["threads"] = snakemake.threads
        _limit_threads(snakemake.threads)
        try:
            with (
                devices.leased(int(snakemake.resources.get("gpu", 0)), int(snakemake.config.get("gpus", 0))),
                store.working_in(_scratch(snakemake.resources)),
            ):
                function(**arguments)
        except Exception as error:
            which = ", ".join(f"{name} {value}" for name, value in snakemake.wildcards.items())
            log.error("rule %s failed%s: %s", snakemake.rule, f" ({which})" if which else "", _told(error))
            for line in traceback.format_exc().splitlines():
                log.debug(line)
            raise SystemExit(1) from None
        log.info("done in %.1f s", time.monotonic() - started)


def function_of(step: str) -> Callable[..., None]:
    """Return the function that a rule names, ``folder.module.function`` of this package; its module is imported."""
    module, _, name = step.rpartition(".")
    return getattr(importlib.import_module(f"histotransfer.{module}"), name)


def arguments_of(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a rule's function from the rule's named inputs, outputs and params.

    - A parameter takes what has its name. Where its annotation names a dataclass, such as those of
      :mod:`histotransfer.definitions`, plain data becomes an object of that class.
    - A parameter whose own name is not given, and whose annotation is one dataclass, gathers the names that are
      fields of that class and not themselves parameters: ``files: TrainingFiles`` takes a rule's outputs ``model``,
      ``predictions``, ``history`` and ``curve``. So a rule names each of its files, and its function has few
      parameters. Fields with a default may be missing.
    - ``step`` and ``code`` are left out, unless a parameter or a field has that name.

    Parameters
    ----------
    function : callable
        With an annotation for each parameter that is to become or to gather an object.
    given : mapping of str to object
        Files and plain data by name.

    Returns
    -------
    dict of str to object

    Raises
    ------
    TypeError
        If plain data or the given names do not have the fields of a class; both are named.

    Examples
    --------
    >>> from histotransfer.definitions import LearningTables
    >>> def train(*, tables: LearningTables, rate: float): ...
    >>> given = {"labels": ["l.tsv"], "slides_table": "s.tsv", "split_file": "1.tsv", "rate": 0.1, "code": "0123"}
    >>> arguments_of(train, given)
    {'rate': 0.1, 'tables': LearningTables(labels=('l.tsv',), slides_table='s.tsv', split_file='1.tsv')}
    """
    from histotransfer import plain_data

    parameters = inspect.signature(function).parameters
    hints = typing.get_type_hints(function)
    arguments = dict(given)
    for name, parameter in parameters.items():
        kind = hints.get(name)
        if name in given or not (isinstance(kind, type) and is_dataclass(kind)):
            continue
        fields_given = [field.name for field in fields(kind) if field.name in arguments.keys() - parameters.keys()]
        if fields_given or parameter.default is inspect.Parameter.empty:
            arguments[name] = {field: arguments.pop(field) for field in fields_given}
    return {
        name: plain_data.made(hints.get(name, Any), value)
        for name, value in arguments.items()
        if name in parameters or name not in ABOUT_RERUNS
    }


def _scratch(resources: Any) -> Path | None:
    """Return where the job works: with the resource `scratch`, in Snakemake's `tmpdir`, which is the node's own."""
    if not int(resources.get("scratch", 0)):
        return None
    # a folder for each user: others may use the same disk
    return Path(resources.get("tmpdir") or tempfile.gettempdir()) / f"histotransfer-{os.getuid()}"


def _told(error: Exception) -> str:
    """Return what an error says, with its kind where that is Python's own and the text alone says little."""
    own = isinstance(error, (ValueError, OSError)) or type(error).__module__ != "builtins"
    return str(error) if own and str(error) else f"{type(error).__name__}: {error}".removesuffix(": ")


def _named(items: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in items.items()}


def _plain(value: Any) -> Any:
    """Turn Snakemake's own list and string types into Python's."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _limit_threads(threads: int) -> None:
    os.environ["VIPS_CONCURRENCY"] = "1"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextmanager
def _logging(path: str | None) -> Iterator[None]:
    """Send what a person needs to the terminal, and everything, also what libraries print, to the log file."""
    log.setLevel(logging.DEBUG)
    handlers: list[logging.Handler] = []
    kept = os.dup(2)
    terminal = os.fdopen(kept, "w", buffering=1, encoding="utf-8", errors="replace")
    handlers.append(logging.StreamHandler(terminal))
    handlers[0].setLevel(logging.INFO)
    handlers[0].setFormatter(logging.Formatter("%(message)s"))
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"")
        # two writers: both append
        handlers.append(logging.FileHandler(path, mode="a", encoding="utf-8"))
        handlers[1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        # TensorFlow's C++ prints to standard error whatever it is told
        sys.stderr.flush()
        library_noise = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(library_noise, 2)
        os.close(library_noise)
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
        terminal.close()
