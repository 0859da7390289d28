"""What a run cost: time and peak memory per rule, from the files that Snakemake's ``benchmark:`` directive leaves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from histotransfer import store

COLUMNS = (
    "rule",
    "jobs",
    "seconds_total",
    "seconds_median",
    "seconds_max",
    "cpu_seconds_total",
    "rss_mb_median",
    "rss_mb_max",
    "read_mb_total",
    "written_mb_total",
)


def collect(
    *, folders: Sequence[str | Path], rule_order: Sequence[str], cost: str | Path, after: Sequence[str | Path] = ()
) -> None:
    """Gather benchmark files into one table, a row a rule.

    Parameters
    ----------
    folders : sequence of path
        Folders that hold a folder, or one file ``RULE.tsv``, a rule; a folder that is not there is empty. The tables
        are Snakemake's: s, h:m:s, max_rss, max_vms, max_uss, max_pss (MiB), io_in, io_out (MiB), mean_load, cpu_time
        (s). A repeated benchmark has a row a repetition, and each counts as a job.
    rule_order : sequence of str
        Rules in the order of the table; others follow by name.
    cost : path
        Table to write. Memory is resident (``max_rss``), in MiB. A job too short to be measured has no memory and no
        processor time, and counts in neither; a column without any value is empty.
    after : sequence of path
        Files whose jobs the table is to cover. Not read.

    Raises
    ------
    ValueError
        If a file is no benchmark.
    """
    jobs: dict[str, list[dict[str, str]]] = {rule: [] for rule in rule_order}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.tsv")):
            rows = store.read_table(path)
            if rows and "s" not in rows[0]:
                found = ", ".join(rows[0])
                raise ValueError(f"{path} is no benchmark of Snakemake: column 's' is missing; found {found}")
            rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
            jobs.setdefault(rule, []).extend(rows)
    known = list(rule_order)
    ordered = known + sorted(jobs.keys() - set(known))
    store.write_table(cost, COLUMNS, (_summary(rule, jobs[rule]) for rule in ordered if jobs[rule]))


def _summary(rule: str, rows: list[dict[str, str]]) -> dict[str, object]:
    def values(column: str) -> list[float]:
        return [float(row[column]) for row in rows if (row.get(column) or "NA") not in ("NA", "-")]

    def of(function: object, column: str) -> float | None:
        found = values(column)
        return round(function(found), 3) if found else None

    return {
        "rule": rule,
        "jobs": len(rows),
        "seconds_total": of(sum, "s"),
        "seconds_median": of(statistics.median, "s"),
        "seconds_max": of(max, "s"),
        "cpu_seconds_total": of(sum, "cpu_time"),
        "rss_mb_median": of(statistics.median, "max_rss"),
        "rss_mb_max": of(max, "max_rss"),
        "read_mb_total": of(sum, "io_in"),
        "written_mb_total": of(sum, "io_out"),
    }
