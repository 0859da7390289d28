"""Killed jobs, full disks, disks that others share, two runs in one folder: what is left, and what comes of it next."""

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager

import fault_factory
import pytest
import slide_factory
import study_factory

pytestmark = pytest.mark.faults

RUN = "scans/models/kind/by-patient/1/net/svm"
FIGURES = "scans/figures/kind/by-patient/1"
#: One target of each kind, below results/. Those of one row wait for those of the row before, and for nothing else.
IN_ORDER = (
    ("scans/slides/s03.json",),
    ("scans/tissue/s03.png",),
    ("scans/tissue/s03.jpg",),
    ("scans/tiles/s03.h5",),
    ("scans/pixels/32/s03.h5", "scans/labels/kind/s03.tsv", "scans/figures/slides/s03.jpg"),
    ("scans/features/net/s03.h5", "scans/slides.tsv", "scans/figures/kind/tiles-0.jpg"),
    ("scans/features/net/shard-0.json", "scans/splits/by-patient/1.tsv", "scans/figures/attrition.svg"),
    (f"{RUN}/predictions.h5", "scans/counts/kind/by-patient/1.tsv"),
    (f"{RUN}/tuning.tsv", f"{FIGURES}/split.svg"),
    (f"{RUN}/model.skops",),
    (f"{RUN}/scores.tsv",),
    (f"{RUN}/confusion.tsv",),
    (f"{RUN}/confusion.svg", "studies/tiny/scores.tsv"),
    ("studies/tiny/figures/scans/kind/by-patient/scores.svg",),
    ("studies/tiny/report.html",),
    ("studies/tiny/cost.tsv",),
    ("studies/tiny/figures/cost.svg",),
    ("studies/tiny/run.html",),
)


@pytest.fixture
def faults(tmp_path):
    """Return the environment in which targets meet a fate."""
    return fault_factory.write_faults(tmp_path / "faults")


def forget(study, *names):
    """Take results away, and the pages that nothing is done without."""
    for name in (*names, "studies"):
        path = study.results / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def part_of(path):
    return path.with_name(f".{path.name}.part")


def assert_same_as(study, finished):
    ours, theirs = study.digests(), finished.digests()
    assert {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} == set()
    assert study.parts() == []
    assert study.plan().planned == {}


# ---- killed


def test_jobs_killed_while_they_write_any_kind_of_target(study, finished, faults):
    for name in ("results", "logs", "benchmarks", ".snakemake"):
        shutil.rmtree(study.folder / name)
    kept = {}
    for targets in IN_ORDER:
        done = study.run(environment=faults("half written", *targets), expect=1)
        for target in targets:
            path = study.results / target
            assert not path.exists(), f"half a file stands under the name {target}"
            assert part_of(path).exists(), f"no job was killed while it wrote {target}:\n{done.output}"
        if "scans/features/net/s03.h5" in targets:
            kept = study.files("scans/features/net/*.h5")
            assert sorted(kept) == [f"scans/features/net/s0{n}.h5" for n in range(3)]
    last = study.run()
    assert last.finished == {"write_run_page": 1}
    assert_same_as(study, finished)
    after = study.files("scans/features/net/*.h5")
    assert {name: after[name] for name in kept} == kept


def test_jobs_killed_right_after_they_have_renamed_a_target(study, finished, faults):
    forget(study, "scans/features", "scans/models")
    for target in ("scans/features/net/s03.h5", "scans/features/net/shard-0.json", f"{RUN}/model.skops"):
        study.run(environment=faults("just renamed", target), expect=1)
    # no output of a rule that failed is left; the folder of its unfinished work, empty now, goes with the next attempt
    run = study.results / RUN
    assert not run.exists() or {path.name for path in run.iterdir()} <= {".model.skops.part"}
    assert not list(run.glob(".model.skops.part/*/*"))
    study.run()
    assert_same_as(study, finished)


def test_a_training_that_is_killed_goes_on_from_its_last_epoch_to_the_same_network(tmp_path, workflow, faults):
    slide_factory.write_patches(tmp_path / "study/data/patches", tmp_path / "study/data/patches.tsv", patients=6)
    undisturbed = study_factory.Study(tmp_path / "study", workflow)
    undisturbed.config["study"] |= {"datasets": ["patches"], "methods": ["tuned+softmax"]}
    undisturbed.config["datasets"] = {"patches": {"kind": "patches", "sheet": "data/patches.tsv", "tasks": ["kind"]}}
    undisturbed.config["networks"]["tuned"] = {"start": "net", "recipe": "two-phases"}
    sgd = {"optimiser": {"kind": "sgd"}, "rate": 0.01}
    phases = [{"input": "features", "train": "head", "epochs": 2, **sgd}, {"train": "all", "epochs": 2, **sgd}]
    undisturbed.config["recipes"] = {"two-phases": {"batch": 16, "phases": phases}}
    asked = "results/patches/models/kind/by-patient/1/tuned/softmax/scores.tsv"
    undisturbed.run(asked)
    killed = undisturbed.copy_to(tmp_path / "killed")
    for name in ("heads", "models"):
        shutil.rmtree(killed.results / "patches" / name)
    head, tuned = (f"patches/{name}/kind/by-patient/1/tuned" for name in ("heads", "models"))
    files = [f"{tuned}/softmax/{name}" for name in ("predictions.h5", "history.tsv", "curve.tsv", "model.keras")]
    for target in (f"{head}/head.keras", "state.h5", *files):
        done = killed.run(asked, environment=faults("half written", target), expect=1)
        assert not (killed.results / target).exists(), f"half a file stands under the name {target}"
    assert "tuned: goes on after epoch 4, which was the last to be finished" in done.output
    killed.run(asked)
    ours, theirs = killed.digests(), undisturbed.digests()
    assert {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} == set()
    assert killed.parts() == []
    assert not list(killed.results.glob(".resume/*"))


@contextmanager
def begun(study, jobs):
    """Run Snakemake in a group of processes of its own, and go on when it has begun so many jobs."""
    process = subprocess.Popen(
        study.command(),
        cwd=study.workflow,
        env=study.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # where tests run in the background it may be ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process.stdout as lines:
        announced = (line for line in lines if line.startswith("Job "))
        for _ in range(jobs):
            next(announced)
        yield process


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.full)])
def test_everything_killed_at_any_moment(study, finished, seed):
    """Snakemake itself too, as by a power cut: then the folder stays locked, and Snakemake says how to go on."""
    forget(study, "scans/features", "scans/models", "scans/figures", "scans/labels", "scans/slides.tsv")
    chance = random.Random(seed)
    for jobs in (chance.randint(0, 3), chance.randint(2, 6), chance.randint(1, 6)):
        with begun(study, jobs + 1) as process:
            time.sleep(chance.uniform(0, 1.5))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        locked = study.run(expect=1)
        assert "Directory cannot be locked" in locked.output
        assert "--unlock" in locked.output
        study.run("--unlock")
    study.run()
    assert_same_as(study, finished)


def test_a_run_stopped_from_the_keyboard_goes_on(study, finished):
    forget(study, "scans/models", "scans/figures", "scans/slides.tsv")
    with begun(study, 3) as process:
        # Snakemake overhears it in the moment in which it begins a job, and a person presses the keys again
        while process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.5)
        assert process.returncode != 0, process.stdout.read()
    assert study.parts() == []
    study.run()
    assert_same_as(study, finished)


def test_a_second_run_in_the_same_folder_is_refused(study, finished, faults, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    target = f"{RUN}/scores.tsv"
    forget(study, target)
    first = subprocess.Popen(
        study.command(),
        cwd=study.workflow,
        env=study.environment(faults("held", target, FAULT_HOLD=str(hold))),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(part_of(study.results / target))
        second = study.run(expect=1)
        assert "Directory cannot be locked" in second.output
        assert second.finished == {}
    finally:
        hold.unlink()
        assert first.wait(120) == 0
    assert_same_as(study, finished)


def test_a_job_that_outlives_its_snakemake_and_its_successor_share_no_file(study, finished, faults, tmp_path):
    """Snakemake alone is killed, as where it ran on another machine than its jobs; nothing ends what it has left."""
    hold = tmp_path / "hold"
    hold.touch()
    forget(study, "scans/features", "scans/models")
    features = study.results / "scans/features/net/s03.h5"
    first = subprocess.Popen(
        study.command(),
        cwd=study.workflow,
        env=study.environment(faults("held", "scans/features/net/s03.h5", FAULT_HOLD=str(hold))),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(part_of(features))
        first.kill()
        first.wait()
        [orphan] = part_of(features).iterdir()
        study.run("--unlock")
        study.run()
        # it is still there, and what it writes was in no other job's way
        assert list(part_of(features).iterdir()) == [orphan]
        assert features.is_file()
    finally:
        hold.unlink()
    until = time.monotonic() + 300
    while part_of(features).exists():
        assert time.monotonic() < until, "the job that was left over did not end"
        time.sleep(0.1)
    assert_same_as(study, finished)


@pytest.mark.parametrize("cores", [8, pytest.param(1, marks=pytest.mark.full)])
def test_as_many_jobs_at_a_time_as_you_like_make_the_same(study, finished, cores):
    """The finished study ran two at a time."""
    for name in ("results", "logs", "benchmarks", ".snakemake"):
        shutil.rmtree(study.folder / name)
    study.run("classifiers", cores=cores)
    ours, theirs = study.digests(), finished.digests()
    assert f"{RUN}/predictions.h5" in ours
    assert {name for name in ours if ours[name] != theirs[name]} == set()
    assert study.parts() == []


def wait_for(path, seconds=300):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.05)


# ---- full disks


@contextmanager
def on_a_small_disk(folder, size):
    """Have a folder on a disk of its own, of `size` bytes, with what was in it; give a file that fills the rest."""
    aside = folder.with_name(f"{folder.name}-aside")
    folder.rename(aside)
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        aside.rename(folder)
        pytest.skip(f"a small disk can be mounted by root alone: {mounted.stderr.strip()}")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield folder / ".filler"
        shutil.rmtree(aside)
        shutil.copytree(folder, aside)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()
        aside.rename(folder)


def fill(filler, leave=0):
    with open(filler, "wb", buffering=0) as file:
        block = bytes(4096)
        try:
            while True:
                file.write(block)
        except OSError:
            file.truncate(max(0, file.tell() - leave))


#: Targets, below results/, whose folders can be on a disk of their own. What a job writes before them has room.
ON_FULL_DISKS = {
    "description": "scans/slides/s03.json",
    "overlay": "scans/tissue/s03.jpg",
    "grid": "scans/tiles/s03.h5",
    "pixels": "scans/pixels/32/s03.h5",
    "labels": "scans/labels/kind/s03.tsv",
    "features": "scans/features/net/s03.h5",
    "split": "scans/splits/by-patient/1.tsv",
    "model": f"{RUN}/model.skops",
    "table": "studies/tiny/scores.tsv",
    "chart": "scans/figures/attrition.svg",
    "picture": "scans/figures/slides/s03.jpg",
    "report": "studies/tiny/report.html",
}


@pytest.mark.parametrize("kind", ON_FULL_DISKS)
def test_a_full_disk_is_an_error_that_names_the_file(study, finished, kind):
    target = study.results / ON_FULL_DISKS[kind]
    target.unlink()
    asked = target
    if kind == "features":
        # the manifest is what the rule makes
        asked = target.with_name("shard-0.json")
        asked.unlink()
    asked = f"results/{asked.relative_to(study.results)}"
    with on_a_small_disk(target.parent, "3m") as filler:
        fill(filler)
        done = study.run(asked, expect=1)
        assert f"No space left on device (while writing results/{ON_FULL_DISKS[kind]})" in done.output
        assert "Segmentation fault" not in done.output
        assert not target.exists()
        assert study.parts() == []
        filler.unlink()
        study.run(asked)
        assert target.exists()
    ours, theirs = study.digests(), finished.digests()
    assert {name for name in theirs if ours.get(name) != theirs[name]} == set()


def test_a_full_disk_under_everything(study, finished):
    forget(study, "scans/features", "scans/models", "scans/figures", "scans/labels", "scans/slides.tsv")
    with on_a_small_disk(study.folder, "32m") as filler:
        fill(filler, leave=120_000)
        done = study.run(expect=1)
        assert "No space left on device" in done.output
        assert study.parts() == []
        ours, theirs = study.digests(), finished.digests()
        assert {name for name in ours if ours[name] != theirs[name]} == set()
        filler.unlink()
        # with no room for its own records, Snakemake may leave its lock behind
        study.run("--unlock")
        study.run()
        assert_same_as(study, finished)


@pytest.mark.parametrize("full", ["scratch", pytest.param("results", marks=pytest.mark.full)])
def test_work_in_scratch_names_the_disk_that_is_full_and_leaves_nothing_there(study, finished, tmp_path, full):
    target = study.results / "scans/pixels/32/s03.h5"
    target.unlink()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    asked = ("results/scans/pixels/32/s03.h5", "--default-resources", "scratch=1", f"tmpdir='{scratch}'")
    where = f" in {scratch}/histotransfer-{os.getuid()}" if full == "scratch" else ""
    with on_a_small_disk(scratch if full == "scratch" else target.parent, "3m") as filler:
        # room for what Snakemake itself puts there
        fill(filler, leave=20_000 if full == "scratch" else 0)
        done = study.run(*asked, expect=1)
        assert f"No space left on device (while writing results/scans/pixels/32/s03.h5{where})" in done.output
        assert not target.exists()
        assert study.parts() == []
        assert not list(scratch.rglob(".*.part"))
        filler.unlink()
        study.run(*asked)
        assert not list(scratch.rglob(".*.part"))
    ours, theirs = study.digests(), finished.digests()
    assert {name for name in theirs if ours.get(name) != theirs[name]} == set()


def test_a_study_whose_work_lies_in_scratch_is_the_same(study, finished, tmp_path):
    forget(study, "scans/pixels", "scans/features", "scans/models", "scans/splits")
    scratch = tmp_path / "scratch"
    study.run("--default-resources", "scratch=1", f"tmpdir='{scratch}'")
    assert_same_as(study, finished)
    assert not list(scratch.rglob("*.h5"))


# ---- disks that cannot be written, or show files late


@pytest.mark.parametrize("kind", ["pixels", *(pytest.param(k, marks=pytest.mark.full) for k in ("features", "table"))])
def test_a_disk_that_cannot_be_written_is_an_error_that_names_the_file(study, finished, kind):
    target = study.results / ON_FULL_DISKS[kind]
    asked = target.with_name("shard-0.json") if kind == "features" else target
    for path in {target, asked}:
        path.unlink()
    asked = f"results/{asked.relative_to(study.results)}"
    with on_a_small_disk(target.parent, "3m"):
        subprocess.run(["mount", "-o", "remount,ro", target.parent], check=True)
        done = study.run(asked, expect=1)
        assert "Read-only file system" in done.output
        assert f"(while writing results/{ON_FULL_DISKS[kind]})" in done.output or f"'{asked}'" in done.output
        assert not target.exists()
        subprocess.run(["mount", "-o", "remount,rw", target.parent], check=True)
        assert study.parts() == []
        study.run(asked)
    ours, theirs = study.digests(), finished.digests()
    assert {name for name in theirs if ours.get(name) != theirs[name]} == set()


def test_files_that_show_late_are_waited_for_as_long_as_the_profile_says(study, finished, faults):
    targets = ("scans/features/net/s03.h5", "scans/features/net/shard-0.json", f"{RUN}/predictions.h5")
    forget(study, "scans/features", "scans/models")
    done = study.run("--latency-wait", "1", environment=faults("late", *targets), expect=1)
    assert "Missing files after 1 seconds" in done.output
    assert "results/scans/features/net/shard-0.json" in done.output
    time.sleep(2)
    forget(study, "scans/features", "scans/models")
    study.run("--latency-wait", "10", environment=faults("late", *targets))
    assert_same_as(study, finished)
