"""Tiny studies, and Snakemake run on them as a user would: by its command line, in a process of its own."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slide_factory
import yaml
from repository import ROOT as REPOSITORY

from histotransfer import provenance, store

#: What makes up the workflow; tests run a copy of it, so that they may change its code.
WORKFLOW = ("Snakefile", "config.yaml", "rules", "workflow_scripts", "envs", "profiles", "data")

#: Rules that make nothing themselves.
GATHERING = frozenset({"all", "total", "slides", "tissue", "tiles", "pixels", "features", "classifiers", "report"})

#: One untrained network at its smallest, one linear SVM, everything else at its smallest too.
CONFIG: dict[str, Any] = {
    "study": {"name": "tiny", "datasets": ["scans"], "methods": ["net+svm"], "splits": ["by-patient"], "seeds": [1]},
    "n_shards": 1,
    "datasets": {"scans": {"kind": "slides", "sheet": "data/scans.tsv", "tiling": "tiny", "tasks": ["kind"]}},
    "tilings": {"tiny": {"size_px": 40, "mpp": 0.5, "tissue_min": 0.5, "max_tiles_per_slide": 12}},
    "tasks": {"kind": {"classes": ["alpha", "beta"]}},
    "networks": {"net": {"architecture": "MobileNetV2", "alpha": 0.35, "weights": "random", "px": 32}},
    "classifiers": {"svm": {"kind": "libsvm", "C": [0.01, 1]}},
    "splits": {"by-patient": {"unit": "patient", "test": 0.34, "folds": 2}},
    "evaluation": {"bootstrap": 20},
}

#: Why tests split finer than by patient.
SHARED_ON_PURPOSE = "to see what sharing is worth"

_STATS = re.compile(r"^(\S+) +(\d+)$")
_JOB = re.compile(r"^(?:\[.*\] )?Job \d+: (.*)$", re.MULTILINE)
_FINISHED = re.compile(r"^(?:\[.*\] )?Finished jobid: \d+ \(Rule: (\S+)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What one call of Snakemake said."""

    status: int
    output: str

    @property
    def planned(self) -> dict[str, int]:
        """How many jobs of each rule there were to do, by Snakemake's own table."""
        table = self.output.partition("\nJob stats:\n")[2]
        found: dict[str, int] = {}
        for line in table.splitlines():
            match = _STATS.match(line)
            if match:
                found[match[1]] = int(match[2])
            elif found:
                break
        return {rule: n for rule, n in found.items() if rule not in GATHERING}

    @property
    def messages(self) -> list[str]:
        """The message of each job that was begun, or in a dry run would be."""
        return _JOB.findall(self.output)

    @property
    def finished(self) -> dict[str, int]:
        """How many jobs of each rule succeeded."""
        found = Counter(_FINISHED.findall(self.output))
        return {rule: n for rule, n in found.items() if rule not in GATHERING}


def copy_workflow(folder: Path) -> Path:
    """Copy the workflow into `folder`, without anything that was run in it, and return `folder`."""
    ignored = shutil.ignore_patterns("__pycache__", "nuclei")
    for name in WORKFLOW:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    return folder


@dataclass
class Study:
    """A study in a folder of its own: its config, its data, what was run of it.

    Attributes
    ----------
    folder : Path
        The working directory: data, results, logs.
    workflow : Path
        The folder of the Snakefile.
    config : dict
        The overlay; written before each run, so that a test may change it.
    last : Run or None
        What the run said that finished it.
    """

    folder: Path
    workflow: Path
    config: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(CONFIG))
    last: Run | None = None

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def copy_to(self, folder: Path, workflow: Path | None = None) -> Study:
        """Copy data and results, times of change and Snakemake's own records included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Study(folder, workflow or self.workflow, copy.deepcopy(self.config))

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        """Return the command line, with the config written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        overlay = self.folder / "study.yaml"
        overlay.write_text(yaml.safe_dump(self.config, sort_keys=False), "utf-8")
        # --configfile takes several files: targets have to stand before it
        where = ["--directory", str(self.folder), "--cores", str(cores), "--configfile", str(overlay)]
        return [sys.executable, "-m", "snakemake", *arguments, *where]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": "", "TF_ENABLE_ONEDNN_OPTS": "1", **(extra or {})}

    def run(
        self,
        *arguments: str,
        cores: int = 2,
        expect: int = 0,
        environment: Mapping[str, str] | None = None,
        timeout: float = 900,
    ) -> Run:
        """Call Snakemake and return what it said; fail with all of it unless its exit status is `expect`."""
        done = subprocess.run(
            self.command(*arguments, cores=cores),
            cwd=self.workflow,
            env=self.environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == expect, f"exit status {done.returncode}, expected {expect}:\n{done.stdout}"
        return Run(done.returncode, done.stdout)

    def plan(self, *arguments: str) -> Run:
        """Return what a run would do now."""
        return self.run("-n", *arguments)

    def table(self, path: str) -> list[dict[str, str]]:
        return store.read_table(self.results / path)

    def digests(self) -> dict[str, str]:
        """Return the content digest of every result."""
        return provenance.folder_digest(self.results)[1]

    def files(self, pattern: str) -> dict[str, tuple[int, bytes]]:
        """Return time of change and bytes of the results that match, by name."""
        found = sorted(self.results.glob(pattern))
        return {str(path.relative_to(self.results)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}

    def parts(self) -> list[str]:
        """Return the unfinished files that lie about; a folder of them that a kill left empty is none."""
        found = [
            path for path in self.folder.rglob(".*.part") if path.is_file() or any(map(Path.is_file, path.rglob("*")))
        ]
        return sorted(str(path.relative_to(self.folder)) for path in found)


def slides_study(folder: Path, workflow: Path, *, slides: int = 7) -> Study:
    """Make a study of small slides of two classes in turn, one a patient."""
    sheet = folder / "data" / "scans.tsv"
    rows = slide_factory.write_slides(
        folder / "data" / "scans", sheet, patients_per_class=-(-slides // 2), size=(640, 640)
    )
    slide_factory.write_sheet(sheet, rows[:slides])
    return Study(folder, workflow)


def tables_study(folder: Path, workflow: Path) -> Study:
    """Make a study of patches and of points, split by image, by tile and as given."""
    data = folder / "data"
    for kind, write in {"patches": slide_factory.write_patches, "points": slide_factory.write_points}.items():
        sheet = data / f"{kind}.tsv"
        rows = write(data / kind, sheet, patients=6)
        held_out = sorted({row["patient"] for row in rows})[-2:]
        slide_factory.write_sheet(
            sheet, [{**row, "split": "test" if row["patient"] in held_out else "train"} for row in rows]
        )
    study = Study(folder, workflow)
    config = study.config
    config["study"] |= {"datasets": ["patches", "points"], "splits": ["by-tile", "as-given"]}
    config["datasets"] = {
        "patches": {"kind": "patches", "sheet": "data/patches.tsv", "tasks": ["kind"]},
        "points": {"kind": "points", "sheet": "data/points.tsv", "crop": {"px": 16}, "tasks": ["kind"]},
    }
    config["splits"] = {
        "by-image": {"unit": "image", "test": 0.34, "folds": 2, "share_groups": SHARED_ON_PURPOSE},
        "by-tile": {"unit": "tile", "test": 0.34, "folds": 2, "share_groups": SHARED_ON_PURPOSE},
        "as-given": {"unit": "given", "groups": "patient", "folds": 2},
    }
    return study
