"""Studies that are run once and copied by the tests that need a finished one."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import config_factory
import pytest
import study_factory


@pytest.fixture(scope="session")
def workflow(tmp_path_factory):
    """A copy of the workflow, so that nothing is run in the repository itself."""
    return study_factory.copy_workflow(tmp_path_factory.mktemp("workflow") / "histotransfer")


def run_once(
    name: str,
    make: Callable[[Path, Path], study_factory.Study],
    factory: pytest.TempPathFactory,
    workflow: Path,
) -> study_factory.Study:
    """Return a finished study; of the processes that share the tests, the first runs it and the others copy it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # the folder of all processes
        base = base.parent
    folder = base / f"once-{name}"
    with open(base / f"once-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "last.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            study = make(folder / "study", workflow)
            last = {**asdict(study.run()), "workflow": str(workflow), "config": study.config}
            (folder / "last.json").write_text(json.dumps(last), "utf-8")
    last = json.loads((folder / "last.json").read_text("utf-8"))
    ran_here = last.pop("workflow") == str(workflow)
    study = study_factory.Study(folder / "study", workflow, last.pop("config")).copy_to(factory.mktemp(name) / "study")
    if not ran_here:
        # the report's templates are inputs by their path in the workflow, of which each process has its own copy
        pages = ("write_report", "collect_costs", "draw_cost", "write_run_page")
        assert study.run().finished == dict.fromkeys(pages, 1)
    study.last = study_factory.Run(**last)
    return study


@pytest.fixture(scope="session")
def finished(tmp_path_factory, workflow):
    """A study of seven slides, finished; not to be changed, but copied."""
    return run_once("slides", study_factory.slides_study, tmp_path_factory, workflow)


@pytest.fixture(scope="session")
def finished_tables(tmp_path_factory, workflow):
    """A study of patches and points, finished; not to be changed, but copied."""
    return run_once("tables", study_factory.tables_study, tmp_path_factory, workflow)


@pytest.fixture
def study(finished, tmp_path):
    """A copy of the finished study of slides."""
    return finished.copy_to(tmp_path / "study")


@pytest.fixture
def folder(tmp_path):
    """A folder with the sample sheets of the small config."""
    return config_factory.write_sheets(tmp_path)
