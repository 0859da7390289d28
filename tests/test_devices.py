"""One job a GPU, for any user, and none that a rule did not ask for. The devices are numbers: no GPU is needed."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from histotransfer import devices

PACKAGE = Path(devices.__file__).parents[1]

# Takes a device, writes when it has it and when it gives it back, and what the environment says.
JOB = """
import os, sys, time
from histotransfer import devices
gpus, folder, hold_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
for turn in range(int(sys.argv[4])):
    with devices.leased(1, gpus, folder=folder, poll_s=0.01) as device:
        begun = time.monotonic()
        print("has", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
        time.sleep(hold_s)
        print("lease", device, os.environ["CUDA_VISIBLE_DEVICES"], begun, time.monotonic(), flush=True)
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        # set first, so that what the code under test sets is undone
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def start(folder, *, gpus=2, hold_s=0.05, turns=1):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    # as a job of its own finds it, not as a lease of this process left it
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-c", JOB, str(gpus), str(folder), str(hold_s), str(turns)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_no_device_is_held_by_two_at_once(tmp_path):
    jobs = [start(tmp_path, turns=4) for _ in range(4)]
    lines = [line.split() for job in jobs for line in job.communicate(timeout=60)[0].splitlines()]
    leases = [(device, float(begun), float(ended)) for kind, device, *_, begun, ended in filter(_is_lease, lines)]
    assert len(leases) == 16
    assert all(line[1] == line[2] for line in filter(_is_lease, lines))
    assert {device for device, *_ in leases} == {"0", "1"}
    for device in "01":
        times = sorted((begun, ended) for name, begun, ended in leases if name == device)
        assert all(ended <= begun for (_, ended), (begun, _) in itertools.pairwise(times))


def _is_lease(line):
    return line[0] == "lease"


def test_both_devices_are_in_use_at_once(tmp_path):
    with devices.leased(1, 2, folder=tmp_path) as device:
        assert device == "0"
        assert start(tmp_path).communicate(timeout=30)[0].startswith("has 1\n")


def test_a_killed_job_gives_its_device_back(tmp_path):
    job = start(tmp_path, gpus=1, hold_s=100)
    assert job.stdout.readline() == "has 0\n"
    waiting = start(tmp_path, gpus=1)
    time.sleep(0.3)
    assert waiting.poll() is None
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert waiting.communicate(timeout=30)[0].startswith("has 0\n")


def fails():
    raise RuntimeError("the job failed")


def test_a_failed_job_gives_its_device_back(tmp_path):
    with pytest.raises(RuntimeError), devices.leased(1, 1, folder=tmp_path):
        fails()
    with devices.leased(1, 1, folder=tmp_path) as device:
        assert device == "0"


def test_a_rule_that_asks_for_none_sees_none(tmp_path):
    with devices.leased(0, 4, folder=tmp_path) as device:
        assert device == os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    assert list(tmp_path.iterdir()) == []


def test_no_more_are_taken_than_the_config_gives(tmp_path, environment):
    taken = threading.Event()

    def take():
        with devices.leased(1, 1, folder=tmp_path, poll_s=0.01):
            taken.set()

    environment.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    with devices.leased(1, 1, folder=tmp_path):
        environment.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
        waiting = threading.Thread(target=take)
        waiting.start()
        assert not taken.wait(0.3)
    waiting.join()
    assert taken.is_set()


def test_the_visible_devices_are_taken_in_their_order(tmp_path, environment):
    environment.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    with devices.leased(1, 2, folder=tmp_path) as first:
        environment.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
        with devices.leased(1, 2, folder=tmp_path) as second:
            assert (first, second) == ("3", "5")
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


def test_what_a_scheduler_gave_is_taken_as_it_is(tmp_path, environment):
    environment.setenv("SLURM_JOB_ID", "17")
    environment.setenv("CUDA_VISIBLE_DEVICES", "6")
    with devices.leased(1, 1, folder=tmp_path) as first, devices.leased(1, 1, folder=tmp_path) as second:
        assert first == second == os.environ["CUDA_VISIBLE_DEVICES"] == "6"


def test_several_devices_of_one_allocation_are_shared_among_its_jobs(tmp_path, environment):
    """Snakemake itself in an allocation of Slurm, with several GPUs for the jobs that it starts there."""
    environment.setenv("SLURM_JOB_ID", "17")
    environment.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with devices.leased(1, 2, folder=tmp_path) as first:
        environment.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with devices.leased(1, 2, folder=tmp_path) as second:
            assert (first, second) == ("0", "1")
            # another allocation calls its own devices by the same names
            environment.setenv("SLURM_JOB_ID", "18")
            environment.setenv("CUDA_VISIBLE_DEVICES", "0,1")
            with devices.leased(1, 2, folder=tmp_path) as other:
                assert other == "0"


def test_a_scheduler_that_gave_no_device_leaves_the_choice_to_the_locks(tmp_path, environment):
    environment.setenv("SLURM_JOB_ID", "17")
    with devices.leased(1, 2, folder=tmp_path) as first:
        environment.delenv("CUDA_VISIBLE_DEVICES")
        with devices.leased(1, 2, folder=tmp_path) as second:
            assert (first, second) == ("0", "1")


@pytest.mark.parametrize(("gpu", "gpus"), [(1, 0), (2, 4)])
def test_what_can_never_be_given_is_an_error_and_no_endless_wait(tmp_path, gpu, gpus):
    with (
        pytest.raises(ValueError, match=rf"takes one GPU .* found {gpu} of {gpus}"),
        devices.leased(gpu, gpus, folder=tmp_path),
    ):
        pass


def test_waiting_is_said_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="histotransfer")
    holder = start(tmp_path, gpus=1, hold_s=0.5)
    holder.stdout.readline()
    with devices.leased(1, 1, folder=tmp_path, poll_s=0.05):
        pass
    holder.wait()
    said = [record.message for record in caplog.records]
    assert said == ["every one of the GPUs 0 is taken by another job: waiting", "on GPU 0"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to become another user (root)")
@pytest.mark.parametrize("others", [65534, 0])
def test_users_of_one_machine_share_its_devices(tmp_path, others):
    """The lock file is the other user's, in a folder that is everybody's."""
    tmp_path.chmod(0o1777)
    lock = tmp_path / "histotransfer-gpu-0.lock"
    lock.touch(0o644)
    os.chown(lock, others, others)
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom histotransfer import devices\n"
        "os.chdir(sys.argv[1])\nos.setuid(65533)\n"
        "with devices.leased(1, 2, folder='.') as device:\n    print(device)\n"
    )
    run = [sys.executable, "-c", script, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    with devices.leased(1, 1, folder=tmp_path):
        found = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
        assert found.stdout == "1\n", found.stderr
    (tmp_path / "histotransfer-gpu-1.lock").unlink()
    assert subprocess.run(run, env=environment, capture_output=True, text=True, check=False).stdout == "0\n"


_TOLD = re.compile(r"^(\S+ \S+) INFO (?:on GPU (\d+)|done in \S+ s)$", re.MULTILINE)


def lease_in(log):
    """Return which device a job had, from when until when, by its log."""
    (begun, device), (ended, _) = _TOLD.findall(log.read_text("utf-8"))
    return device, *(datetime.fromisoformat(when.replace(",", ".")) for when in (begun, ended))


@pytest.mark.workflow
def test_a_study_on_four_devices_runs_four_jobs_at_once_and_never_two_on_one(study, tmp_path):
    shutil.rmtree(study.results / "scans/features")
    logs = study.folder / "logs/scans/extract_features"
    shutil.rmtree(logs)
    # seven slides fall into five shards of seven
    study.config |= {"gpus": 4, "n_shards": 7}
    locks = tmp_path / "locks"
    locks.mkdir()
    four = ("features", "--resources", "gpu=4", "--set-threads", "extract_features=1")
    assert study.run(*four, cores=8, environment={"TMPDIR": str(locks)}).finished == {"extract_features": 5}
    leases = [lease_in(log) for log in (logs / "net").glob("shard-*.log")]
    assert {device for device, *_ in leases} == {"0", "1", "2", "3"}
    for (one, begun, ended), (other, later, _) in itertools.permutations(leases, 2):
        assert one != other or later < begun or later >= ended
    assert max(sum(begun <= when < ended for _, begun, ended in leases) for _, when, _ in leases) == 4
