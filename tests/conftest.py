"""Studies that are run once and copied by the tests that need a finished one."""

from __future__ import annotations

import config_factory
import pytest
import study_factory


@pytest.fixture(scope="session")
def workflow(tmp_path_factory):
    """A copy of the workflow, so that nothing is run in the repository itself."""
    return study_factory.copy_workflow(tmp_path_factory.mktemp("workflow") / "histotransfer")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, workflow):
    """A study of seven slides, finished; not to be changed, but copied."""
    study = study_factory.slides_study(tmp_path_factory.mktemp("finished") / "study", workflow)
    study.last = study.run()
    return study


@pytest.fixture(scope="session")
def finished_tables(tmp_path_factory, workflow):
    """A study of patches and points, finished; not to be changed, but copied."""
    study = study_factory.tables_study(tmp_path_factory.mktemp("tables") / "study", workflow)
    study.last = study.run()
    return study


@pytest.fixture
def study(finished, tmp_path):
    """A copy of the finished study of slides."""
    return finished.copy_to(tmp_path / "study")


@pytest.fixture
def folder(tmp_path):
    """A folder with the sample sheets of the small config."""
    return config_factory.write_sheets(tmp_path)
