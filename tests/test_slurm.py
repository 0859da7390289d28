"""Studies on a real Slurm of one node with two fake GPUs, whole and disturbed: `make test-slurm`, as root on Debian."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import fault_factory
import pytest
import study_factory
import yaml

pytestmark = pytest.mark.slurm

REPOSITORY = study_factory.REPOSITORY
#: Where tests/slurm/up.sh keeps what it writes.
STATE = Path(os.environ.get("HISTOTRANSFER_SLURM", "/tmp/histotransfer-slurm"))

#: Seconds that a run may take, and a job until it is where a test waits for it: a busy machine is slow.
PATIENCE_S = 1800

#: Four slides are too few to hold a patient out. Two shards, for two GPUs.
FOUR_SLIDES = {
    "n_shards": 2,
    "gpus": 1,
    "splits": {"by-tile": {"unit": "tile", "test": 0.34, "folds": 2, "share_groups": study_factory.SHARED_ON_PURPOSE}},
}
#: Targets that wait for none of one another, and for which little else waits.
SPLIT, TILES, ATTRITION = (
    "scans/figures/kind/by-tile/1/split.svg",
    "scans/figures/kind/tiles-0.jpg",
    "scans/figures/attrition.svg",
)


@dataclass
class ClusterStudy(study_factory.Study):
    """A study in a folder that is a copy of the workflow, called there as a user calls it."""

    def command(self, *arguments, cores=2):
        (self.folder / "study.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False), "utf-8")
        # no job may have more than half of a cluster that is one small node
        where = ["--workflow-profile", "profiles/slurm", "--cores", str(cores), "--configfile", "study.yaml"]
        return [sys.executable, REPOSITORY / "tests/slurm/snakemake_in_haste.py", *arguments, *where]

    def run(self, *arguments, timeout=PATIENCE_S, **how):
        return super().run(*arguments, timeout=timeout, **how)

    def copy_to(self, folder):
        shutil.copytree(self.folder, folder, symlinks=True)
        return ClusterStudy(folder, folder, dict(self.config))

    def jobs(self, rule=r"\w+"):
        """Return Slurm's records of this study's jobs, or of those of a rule or a group, in the order of submission."""
        found = [job for job in records() if job["WorkDir"] == str(self.folder)]
        return [job for job in found if re.match(rf"rule_{rule}(_|$)", job["Comment"])]


def records():
    """Return what the controller knows of each job since it was started: its fields by their names."""
    told = subprocess.run(["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True).stdout
    jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in told.splitlines() if "JobId=" in line]
    return sorted(jobs, key=lambda job: int(job["JobId"]))


@pytest.fixture(scope="session", autouse=True)
def cluster():
    """A Slurm that is there for these tests alone."""
    started = subprocess.run([REPOSITORY / "tests/slurm/up.sh"], capture_output=True, text=True, check=False)
    if started.returncode:
        pytest.skip(started.stderr.strip())
    yield
    subprocess.run([REPOSITORY / "tests/slurm/down.sh"], check=True)


@pytest.fixture(scope="session")
def four_slides(tmp_path_factory):
    """A study of which nothing is run yet; not to be changed, but copied."""
    folder = study_factory.copy_workflow(tmp_path_factory.mktemp("slurm").resolve() / "four")
    made = study_factory.slides_study(folder, folder, slides=4)
    study = ClusterStudy(folder, folder, {**made.config, **FOUR_SLIDES})
    study.config["study"]["splits"] = ["by-tile"]
    return study


@pytest.fixture(scope="session")
def ways(four_slides):
    """The study run on Slurm, and meanwhile with the default profile, without a cluster or a GPU."""
    copied = four_slides.copy_to(four_slides.folder.with_name("workstation"))
    workstation = study_factory.Study(copied.folder, copied.folder, {**copied.config, "gpus": 0})
    cluster = four_slides.copy_to(four_slides.folder.with_name("cluster"))
    # some jobs work on the node's own disk
    on_its_disk = [f"{rule}:scratch=1" for rule in ("tile_pixels", "extract_features", "train_classifier")]
    with ThreadPoolExecutor() as meanwhile:
        ended = meanwhile.submit(workstation.run, timeout=PATIENCE_S)
        cluster.last = cluster.run("--set-resources", *on_its_disk)
        ended.result()
    return cluster, workstation


@pytest.fixture(scope="session")
def through_slurm(ways):
    """The study run on Slurm; not to be changed, but copied."""
    return ways[0]


@pytest.fixture(scope="session")
def on_workstation(ways):
    """The same study run without a cluster; not to be changed."""
    return ways[1]


@pytest.fixture
def study(through_slurm, tmp_path):
    return through_slurm.copy_to(tmp_path.resolve() / "study")


def assert_same_as(study, finished):
    ours, theirs = study.digests(), finished.digests()
    assert {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} == set()
    assert study.parts() == []
    assert study.plan().planned == {}


# ---- undisturbed


def test_a_study_has_the_same_content_as_on_a_workstation(through_slurm, on_workstation):
    assert_same_as(through_slurm, on_workstation)
    jobs = through_slurm.jobs()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    # one start for the chain of a slide, and one for the pages
    assert len(through_slurm.jobs("slide")) == 4
    assert len(through_slurm.jobs("pages")) == 1
    assert sum(through_slurm.last.finished.values()) == len(jobs) + 4 * 3 + 3


def test_what_needs_a_gpu_has_one_of_its_own_and_nothing_else_has_any(through_slurm):
    asked = {job["Comment"]: job.get("TresPerJob") for job in through_slurm.jobs()}
    shards = {f"rule_extract_features_wildcards_scans_net_shard-{shard}" for shard in range(2)}
    assert {name: gres for name, gres in asked.items() if gres} == dict.fromkeys(shards, "gres:gpu:1")
    assert {job["Comment"] for job in through_slurm.jobs() if job["Partition"] == "gpu"} == shards
    logs = through_slurm.folder.glob("logs/scans/extract_features/net/shard-*.log")
    given = [re.findall(r"on GPU (\S+), which the scheduler gave$", log.read_text("utf-8"), re.M) for log in logs]
    assert sorted(given) == [["0"], ["1"]]


@pytest.mark.full
def test_the_demo_has_the_same_content_as_on_a_workstation(tmp_path):
    here = study_factory.Study(*[study_factory.copy_workflow(tmp_path / "workstation")] * 2, {})
    there = ClusterStudy(*[study_factory.copy_workflow(tmp_path.resolve() / "cluster")] * 2, {})
    here.run(timeout=2 * PATIENCE_S)
    there.run(timeout=6 * PATIENCE_S)
    assert_same_as(there, here)


# ---- disturbed


@pytest.fixture
def holding(tmp_path):
    """Return the environment in which jobs wait as they finish one of some targets, until a file is removed."""
    faults, hold = fault_factory.write_faults(tmp_path / "faults"), tmp_path / "hold"
    hold.touch()

    def environment(*targets):
        return faults("held", *targets, FAULT_HOLD=str(hold))

    environment.release = hold.unlink
    yield environment
    hold.unlink(missing_ok=True)


@dataclass
class Running:
    """A Snakemake that runs, and what it has said so far."""

    process: subprocess.Popen
    log: Path

    @property
    def said(self):
        return study_factory.Run(0, self.log.read_text("utf-8"))

    def wait_for(self, condition, seconds=PATIENCE_S):
        """Wait until `condition` of what was said so far holds."""
        until = time.monotonic() + seconds
        while not condition(self.said):
            assert self.process.poll() is None, f"it ended too early:\n{self.said.output}"
            assert time.monotonic() < until, f"it took too long:\n{self.said.output}"
            time.sleep(0.5)

    def ends(self, status, seconds=PATIENCE_S):
        """Wait for the end of it and return what it said; fail unless its exit status is `status`."""
        assert self.process.wait(seconds) == status, self.said.output
        return self.said


@contextmanager
def running(study, environment, *arguments):
    log = study.folder.with_name("snakemake.log")
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            study.command(*arguments),
            cwd=study.workflow,
            env=study.environment(environment),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Running(process, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        subprocess.run([study.folder / "profiles/slurm/cancel.sh", study.folder], check=True, capture_output=True)


def forget(study, *names):
    """Take results away, with the page that nothing is done without."""
    for name in (*names, "studies/tiny/report.html"):
        (study.results / name).unlink()


def held(study, target):
    """Tell whether a job has finished a target and waits with it."""
    path = study.results / target
    return any(path.with_name(f".{path.name}.part").glob("*/*"))


def at_once(jobs):
    """Return the pairs of jobs that ran at one time."""
    times = [(job["JobId"], *(datetime.fromisoformat(job[name]) for name in ("StartTime", "EndTime"))) for job in jobs]
    return [(a, b) for a, begun, ended in times for b, other, _ in times if a != b and begun <= other < ended]


def test_jobs_that_are_cancelled_or_take_too_much_memory_or_time_say_so_and_get_more(study, on_workstation, holding):
    forget(study, SPLIT, TILES, ATTRITION)
    # one minute is the least that Slurm gives; Snakemake alone takes more than 100 MB
    asking = ("draw_tiles:runtime=attempt", "draw_attrition:mem_mb=100 * 10 ** (attempt - 1)")
    with running(study, holding(SPLIT, TILES), "--set-resources", *asking) as snakemake:
        snakemake.wait_for(lambda said: held(study, SPLIT) and held(study, TILES))
        subprocess.run(["scancel", study.jobs("draw_splits")[0]["JobId"]], check=True)
        snakemake.wait_for(lambda said: "'TIMEOUT'" in said.output)
        holding.release()
        said = snakemake.ends(0)
    assert_same_as(study, on_workstation)
    cancelled, again = study.jobs("draw_splits")
    late, in_time = study.jobs("draw_tiles")
    large, drawn = study.jobs("draw_attrition")
    for job, state, words in (
        (cancelled, "CANCELLED", r"\*\*\* JOB \d+ ON \S+ CANCELLED AT \S+ \*\*\*"),
        (late, "TIMEOUT", r"\*\*\* JOB \d+ ON \S+ CANCELLED AT \S+ DUE TO TIME LIMIT \*\*\*"),
        (large, "FAILED", r"StepId=\S+ exceeded memory limit \(\d+ > 104857600\), being killed"),
    ):
        assert f"SLURM-job '{job['JobId']}' failed, SLURM status is: '{state}'" in said.output
        # Slurm's own words stand in a log that Snakemake names
        assert f"{job['StdOut']} (check log file(s) for error details)" in said.output
        assert re.search(words, Path(job["StdOut"]).read_text("utf-8"))
    assert (late["TimeLimit"], in_time["TimeLimit"]) == ("00:01:00", "00:02:00")
    assert (large["MinMemoryNode"], drawn["MinMemoryNode"]) == ("100M", "1000M")
    assert {job["JobState"] for job in (again, in_time, drawn)} == {"COMPLETED"}
    assert int(again["MinMemoryNode"].rstrip("MG")) > int(cancelled["MinMemoryNode"].rstrip("MG"))


def test_a_node_that_fails_in_the_middle_of_a_job(study, on_workstation, holding):
    """As by a power cut: Slurm's daemon and all its jobs are gone at once, and the daemon comes back."""
    forget(study, SPLIT, ATTRITION)
    with running(study, holding(SPLIT)) as snakemake:
        snakemake.wait_for(lambda said: held(study, SPLIT) and said.finished.get("draw_attrition"))
        # of a job that did something in the last eleven seconds, as to begin a step, Slurm thinks that it is still on
        # its way to the node, and looks at it no more until its time is over
        time.sleep(15)
        kill_node()
        subprocess.run(["slurmd"], check=True)
        holding.release()
        snakemake.wait_for(lambda said: "'NODE_FAIL'" in said.output)
        snakemake.ends(0)
    study.run()
    assert_same_as(study, on_workstation)
    lost, again = study.jobs("draw_splits")
    assert (lost["JobState"], again["JobState"]) == ("NODE_FAIL", "COMPLETED")
    assert len(study.jobs("draw_attrition")) == 1


def test_a_slurmd_that_is_stopped_in_the_middle_of_a_job(study, on_workstation, holding):
    """Its jobs go on without it to their end, which Slurm does not believe before it is back."""
    forget(study, SPLIT)
    with running(study, holding(SPLIT)) as snakemake:
        snakemake.wait_for(lambda said: held(study, SPLIT))
        daemon = int((STATE / "run/slurmd.pid").read_text())
        os.kill(daemon, signal.SIGTERM)
        while Path(f"/proc/{daemon}").exists():
            time.sleep(0.1)
        holding.release()
        snakemake.wait_for(lambda said: study.jobs("draw_splits")[0]["JobState"] == "COMPLETING")
        subprocess.run(["slurmd"], check=True)
        snakemake.ends(0)
    assert_same_as(study, on_workstation)
    assert [job["JobState"] for job in study.jobs("draw_splits")] == ["COMPLETED"]


def kill_node():
    """Kill Slurm's daemon and everything that it has started."""
    daemon = int((STATE / "run/slurmd.pid").read_text())
    found = subprocess.run(["pgrep", "-x", "slurmstepd"], capture_output=True, text=True, check=False).stdout.split()
    for process in (daemon, *map(int, found)):
        for one in (process, *descendants(process)):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)


def descendants(process):
    children = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False).stdout.split()
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def test_a_snakemake_that_is_killed_and_its_jobs_that_go_on(study, on_workstation, holding):
    forget(study, SPLIT, TILES, ATTRITION)
    with running(study, holding(SPLIT)) as snakemake:
        snakemake.wait_for(lambda said: held(study, SPLIT) and {"draw_tiles", "draw_attrition"} <= said.finished.keys())
        os.killpg(snakemake.process.pid, signal.SIGKILL)
        snakemake.process.wait()
        recorded = snakemake.said.finished
        assert study.jobs("draw_splits")[0]["JobState"] == "RUNNING"
        refused = study.run(expect=1)
        assert "Directory cannot be locked" in refused.output
        # what docs/cluster.md says, in its order
        subprocess.run(["profiles/slurm/cancel.sh"], cwd=study.folder, check=True)
        assert study.jobs("draw_splits")[0]["JobState"] == "CANCELLED"
        study.run("--unlock")
    again = study.run()
    assert_same_as(study, on_workstation)
    assert recorded == {"draw_tiles": 1, "draw_attrition": 1}
    assert again.finished.keys() & recorded.keys() == set()
    jobs = study.jobs()
    assert Counter(job["Comment"] for job in jobs if job["JobState"] == "COMPLETED").most_common(1)[0][1] == 1
    assert [job["JobState"] for job in study.jobs("draw_splits")] == ["CANCELLED", "COMPLETED"]
    assert at_once(study.jobs("draw_splits")) == []
