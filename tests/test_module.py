"""The workflow as a module of another Snakefile, which may rename its rules, change some of them, or take a few."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import study_factory
import yaml
from repository import ROOT

from histotransfer import store

pytestmark = pytest.mark.workflow

MODULE = """
module histotransfer:
    snakefile: "{snakefile}"
    {config}

{uses}

rule all:
    default_target: True
    input:
        rules.histotransfer_{target}.input,
"""
EVERY_RULE = "use rule * from histotransfer as histotransfer_*"
#: One rule with a log of its own.
ONE_CHANGED = f"""{EVERY_RULE}

use rule inspect_slide from histotransfer as histotransfer_inspect_slide with:
    log:
        "elsewhere/{{dataset}}/{{slide}}.log",
"""
A_FEW_RULES = "use rule run_step, inspect_slide, slides from histotransfer as histotransfer_*"


@pytest.fixture
def outer(tmp_path, workflow):
    """A study of six slides whose config is a part of that of another workflow, and that workflow's Snakefile."""
    study = study_factory.slides_study(tmp_path / "study", workflow, slides=6)
    # the config of a module is all of it
    study.config = {"histotransfer": {**study.config, "seed": 2018}, "of_its_own": 1}
    # the folder of the other Snakefile is not that of the module
    snakefile = tmp_path / "outer" / "Snakefile"
    snakefile.parent.mkdir()

    def write(uses=EVERY_RULE, target="all", config='config: config["histotransfer"]'):
        given = {"snakefile": workflow / "Snakefile", "config": config, "uses": uses, "target": target}
        snakefile.write_text(MODULE.format(**given))
        return ["--snakefile", str(snakefile)]

    study.module, study.snakefile = write, snakefile
    return study


def asked(study, snakefile, config):
    """Return what each job would ask of a cluster, by its rule."""
    overlay = study.folder / "asked.yaml"
    overlay.write_text(yaml.safe_dump(config), "utf-8")
    command = [sys.executable, ROOT / "tests/asked_resources.py", study.folder, snakefile, overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=study.workflow)
    jobs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert jobs, done.stderr
    return sorted(
        (job["rule"].removeprefix("histotransfer_"), job["mem_mb"], job["runtime"], job["gpu"]) for job in jobs
    )


def test_a_module_plans_the_same_jobs_and_asks_for_the_same(outer):
    outer.module()
    found = asked(outer, outer.snakefile, outer.config)
    assert {"tile_pixels", "train_classifier", "draw_scores", "write_report"} <= {rule for rule, *_ in found}
    assert found == asked(outer, outer.workflow / "Snakefile", outer.config["histotransfer"])


@pytest.mark.parametrize(
    ("uses", "log"),
    [
        (EVERY_RULE, "logs/scans/inspect_slide/s00.log"),
        (ONE_CHANGED, "elsewhere/scans/s00.log"),
        (A_FEW_RULES, "logs/scans/inspect_slide/s00.log"),
    ],
    ids=["all", "one changed", "a few"],
)
def test_a_stage_runs_as_a_part_of_another_workflow(outer, uses, log):
    described = "results/scans/slides/s00.json"
    given = [described, *outer.module(uses, target="slides")]
    run = outer.run(*given)
    assert run.finished == {"histotransfer_inspect_slide": 1}
    assert "Inspecting slide s00 of scans" in run.messages
    assert store.read_json(outer.folder / described)["status"] == "ok"
    assert (outer.folder / log).is_file()
    assert outer.plan(*given).planned == {}
    assert outer.plan(*given[1:]).planned == {"histotransfer_inspect_slide": 5}


def test_a_module_that_is_no_folder_is_an_error(outer, tmp_path):
    """Rules that Snakemake fetches file by file lack the library."""
    copy = tmp_path / "remote"
    copy.mkdir()
    shutil.copy2(outer.workflow / "Snakefile", copy)
    commands = [["init", "-q", "-b", "main"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@x"]]
    commands[-1] += ["commit", "-qm", "x"]
    for command in commands:
        subprocess.run(["git", *command], cwd=copy, check=True)
    outer.module()
    text = outer.snakefile.read_text().replace(str(outer.workflow / "Snakefile"), f"git+file:{copy}/Snakefile@main")
    outer.snakefile.write_text(text)
    run = outer.run("-n", "--snakefile", str(outer.snakefile), expect=1)
    assert "histotransfer is imported from its folder: clone it" in run.output
    assert f"found git+file://{copy}" in run.output.replace("\n", "")


def test_an_error_of_the_config_names_the_key(outer):
    outer.config["histotransfer"]["gpus"] = "many"
    run = outer.run("-n", *outer.module(), expect=1)
    assert "gpus" in run.output
    assert "1 problem in the config and the sample sheets; nothing was run" in run.output


def test_a_module_without_a_config_reads_its_own(outer, workflow):
    config = yaml.safe_load((workflow / "config.yaml").read_text("utf-8"))
    outer.config = {}
    (outer.folder / "data").rename(outer.folder / "scans")
    (outer.folder / "data").symlink_to(workflow / "data")
    run = outer.run("-n", *outer.module(config="", target="slides"))
    [dataset] = config["study"]["datasets"]
    assert f"Inspecting slide p01-a of {dataset}" in run.messages
