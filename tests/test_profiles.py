"""The profiles name rules that exist, and bundle no jobs between which others have to run."""

import re
import shutil
import subprocess
import sys

import pytest
import rule_texts
import study_factory
import yaml

PROFILES = study_factory.REPOSITORY / "profiles"
SLURM = yaml.safe_load((PROFILES / "slurm/profile.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def followed_by(workflow):
    """For each rule of the default study, the rules that use what it makes."""
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "--forceall", "--cores", "1"]
    graph = subprocess.run(command, cwd=workflow, capture_output=True, text=True, check=True).stdout
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
    followed = {rule: set() for rule in names.values()}
    for before, after in re.findall(r"(\d+) -> (\d+)", graph):
        followed[names[before]].add(names[after])
    return followed


def test_the_rules_in_groups_exist():
    rules = {name for file in (study_factory.REPOSITORY / "rules").glob("*.smk") for name in _rules(file)}
    assert SLURM["groups"].keys() - rules == set()


def _rules(file):
    return [rule["name"] for rule in rule_texts.written_rules(file.read_text("utf-8"))]


@pytest.mark.workflow
def test_no_group_waits_for_a_job_that_waits_for_it(followed_by):
    """Else Snakemake could start neither."""
    for rule, group in SLURM["groups"].items():
        after = set()
        waiting = [name for name in followed_by.get(rule, ()) if SLURM["groups"].get(name) != group]
        while waiting:
            name = waiting.pop()
            if name not in after:
                after.add(name)
                waiting.extend(followed_by[name])
        assert {name for name in after if SLURM["groups"].get(name) == group} == set(), rule


def test_every_partition_takes_the_largest_job_and_one_has_gpus():
    partitions = yaml.safe_load((PROFILES / "slurm" / SLURM["slurm-partition-config"]).read_text("utf-8"))["partitions"]
    assert all(limits["max_threads"] >= SLURM["cores"] for limits in partitions.values())
    assert [name for name, limits in partitions.items() if limits.get("max_gpu")] == ["gpu"]


@pytest.mark.workflow
def test_snakemake_looks_for_jobs_when_one_has_ended_and_not_all_the_time(tmp_path, workflow):
    """As long as one job runs, others wait; with a limit of jobs in a time it looks again and again if they may."""
    study = study_factory.slides_study(tmp_path / "study", workflow)
    seen = {}
    for name, limit in (("default", ()), ("limited", ("--max-jobs-per-timespan", "50/1s"))):
        shutil.rmtree(study.results, ignore_errors=True)
        done = study.run("slides", "--verbose", *limit, cores=1)
        jobs = sum(done.finished.values())
        seen[name] = done.output.count("Resources before job selection"), jobs
    looks, jobs = seen["default"]
    assert jobs >= 7
    assert looks <= jobs + 1
    # what the user asks for stays
    assert "Submitting maximum 50 job(s) over 1.0 second(s)." in done.output
    assert seen["limited"][0] > looks
