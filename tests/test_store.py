"""Files are complete or absent, whatever happens while they are written, and say the same when they are read again."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from histotransfer import store

PACKAGE = Path(store.__file__).parents[1]


@contextmanager
def files_of_at_most(n_bytes: int):
    """Let no file of this process grow beyond `n_bytes`: a write then fails as on a full disk, with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


def write_contiguous(path):
    with store.writing_hdf5(path, {}) as file:
        data = file.create_dataset("x", (200, 1000), np.uint8)
        for row in range(200):
            data.write_direct(np.ones((1, 1000), np.uint8), dest_sel=np.s_[row : row + 1])


def write_chunked(path):
    with store.writing_hdf5(path, {}) as file:
        data = file.create_dataset("x", (0, 1000), np.uint8, maxshape=(None, 1000), chunks=(1, 1000))
        for row in range(200):
            data.resize(row + 1, axis=0)
            data[row:] = np.ones((1, 1000), np.uint8)


def write_held_back(path):
    """So little that HDF5 writes none of it before it closes the file."""
    with store.writing_hdf5(path, {}) as file:
        file.create_dataset("x", data=np.ones(60_000, np.uint8))
        store.write_texts(file, "texts", ["x" * 400] * 100)


def write_text(path):
    store.write_table(path, ["a"], ({"a": "x" * 1000} for _ in range(200)))


def write_large_json(path):
    store.write_json(path, ["x" * 1000] * 200)


WRITERS = [write_contiguous, write_chunked, write_held_back, write_text, write_large_json]


# replacing


def test_a_written_file_takes_the_place_of_the_old_one(tmp_path):
    target = tmp_path / "new" / "deeper" / "a.txt"
    with store.replacing(target) as part:
        assert part.relative_to(tmp_path / "new" / "deeper").match(".a.txt.part/*/a.txt")
        part.write_text("one")
        assert not target.exists()
    with store.replacing(target) as part:
        part.write_text("two")
        assert target.read_text() == "one"
    assert target.read_text() == "two"
    assert os.listdir(target.parent) == ["a.txt"]


def write_half(target, error):
    with store.replacing(target) as part:
        part.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(5, "Input/output error")])
@pytest.mark.parametrize("there_before", [True, False])
def test_an_error_leaves_what_was_there_before(tmp_path, error, there_before):
    target = tmp_path / "a.txt"
    if there_before:
        target.write_text("before")
    with pytest.raises(type(error)):
        write_half(target, error)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == ({"a.txt": "before"} if there_before else {})


def test_an_error_of_the_system_names_the_target(tmp_path):
    with pytest.raises(OSError, match=r"Input/output error \(while writing .*a\.txt\)") as caught:
        write_half(tmp_path / "a.txt", OSError(5, "Input/output error"))
    assert caught.value.errno == 5


def test_an_error_about_another_file_names_both(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"while writing .*a\.txt\): '.*source\.txt'"),
        store.replacing(tmp_path / "a.txt"),
    ):
        (tmp_path / "source.txt").read_text()


def test_an_error_without_a_number_is_said_as_it_is(tmp_path):
    with pytest.raises(OSError, match=r"^image file is truncated \(while writing .*a\.txt\)$"):
        write_half(tmp_path / "a.txt", OSError("image file is truncated"))


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"while writing .*a\.txt"), store.replacing(tmp_path / "a.txt"):
        pass


@pytest.mark.parametrize("hdf5", [True, False])
def test_a_killed_writer_leaves_no_target_and_the_next_attempt_clears_up(tmp_path, hdf5):
    target = tmp_path / "a.h5"
    target.write_bytes(b"before")
    begin = (
        "with store.writing_hdf5(target, {}) as file:\n    file['x'] = np.ones(10_000_000)\n"
        if hdf5
        else "with store.replacing(target) as part:\n    part.write_text('half')\n"
    )
    script = (
        "import os, signal, sys\nimport numpy as np\nfrom histotransfer import store\ntarget = sys.argv[1]\n"
        f"{begin}    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    done = subprocess.run([sys.executable, "-c", script, str(target)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == [".a.h5.part", "a.h5"]
    with store.writing_hdf5(target, {}) as file:
        file["x"] = [1, 2]
    assert os.listdir(tmp_path) == ["a.h5"]
    with h5py.File(target) as file:
        assert file["x"][:].tolist() == [1, 2]


# several attempts at one target


def place_of(target, name, text="half", age_s=0):
    """Make what an attempt has left, or has under way."""
    place = target.with_name(f".{target.name}.part") / name
    place.mkdir(parents=True)
    (place / target.name).write_text(text)
    for path in (place, place / target.name):
        os.utime(path, (time.time() - age_s,) * 2)
    return place


@pytest.fixture
def ended():
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


HOST = os.uname().nodename.partition(".")[0]
DAY = 24 * 3600


def test_two_attempts_at_one_target_write_to_files_of_their_own(tmp_path):
    target = tmp_path / "a.txt"
    with store.replacing(target) as one:
        one.write_text("one")
        with store.replacing(target) as other:
            assert other != one
            other.write_text("other")
            one.write_text("one, later")
            assert other.read_text() == "other"
        assert target.read_text() == "other"
        assert one.read_text() == "one, later"
    assert target.read_text() == "one, later"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_work_of_a_process_of_this_machine_goes_when_it_has_ended_and_not_before(tmp_path, ended):
    target = tmp_path / "a.txt"
    gone = place_of(target, f"{HOST}-{ended}-00000000")
    running = place_of(target, f"{HOST}-{os.getppid()}-00000000")
    with store.replacing(target) as part:
        part.write_text("whole")
        assert not gone.exists()
        assert running.exists()


def test_the_work_of_another_machine_goes_when_nothing_was_written_to_it_for_a_day(tmp_path, ended):
    target = tmp_path / "a.txt"
    old, new = (place_of(target, f"other-node-{ended}-0000000{n}", age_s=age) for n, age in enumerate((DAY + 60, 60)))
    (tmp_path / ".b.txt.part").mkdir()
    with store.replacing(target) as part:
        part.write_text("whole")
        assert not old.exists()
        assert new.exists()
    assert sorted(os.listdir(tmp_path)) == [".b.txt.part", "a.txt"]


def test_who_began_before_and_still_writes_keeps_its_work_and_who_does_not_loses_it(tmp_path):
    target = tmp_path / "a.txt"
    idle, busy = (place_of(target, f"other-1-0000000{n}", age_s=60) for n in range(2))
    with store.replacing(target) as part:
        part.write_text("whole")
        (busy / "a.txt").write_text("more")
        os.utime(busy / "a.txt", (time.time() + 1,) * 2)
    assert not idle.exists()
    assert busy.exists()
    assert target.read_text() == "whole"


def test_an_attempt_whose_work_was_taken_away_says_so_and_touches_nothing(tmp_path):
    target = tmp_path / "a.txt"

    def slow():
        with store.replacing(target) as part:
            part.write_text("slow")
            shutil.rmtree(part.parent)
            target.write_text("of another")

    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] No such file or directory \(while writing .*a\.txt\)$"):
        slow()
    assert target.read_text() == "of another"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_part_of_an_earlier_version_is_no_hindrance(tmp_path):
    (tmp_path / ".a.txt.part").write_text("half")
    with store.replacing(tmp_path / "a.txt") as part:
        part.write_text("whole")
    assert os.listdir(tmp_path) == ["a.txt"]


MANY = """
import sys
from histotransfer import store
for n in range(300):
    with store.replacing(sys.argv[1]) as part:
        part.write_text(sys.argv[2] * 1000)
"""


def test_processes_that_write_one_target_over_and_over_leave_a_whole_file(tmp_path):
    target = tmp_path / "a.txt"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    jobs = [subprocess.Popen([sys.executable, "-c", MANY, target, word], env=environment) for word in "abc"]
    while any(job.poll() is None for job in jobs):
        with suppress(FileNotFoundError):
            assert target.read_text() in {word * 1000 for word in "abc"}
    assert [job.returncode for job in jobs] == [0, 0, 0]
    assert os.listdir(tmp_path) == ["a.txt"]


# work on the node's own disk


def test_work_lies_in_scratch_and_is_copied_to_its_target(tmp_path):
    target, scratch = tmp_path / "results" / "a.h5", tmp_path / "scratch"
    with store.working_in(scratch), store.writing_hdf5(target, {"x": 1}) as file:
        file["x"] = np.arange(1000)
        assert [path.name for path in scratch.rglob("*") if path.is_file()] == ["a.h5"]
        assert os.listdir(target.parent) == []
    with store.writing_hdf5(tmp_path / "b.h5", {"x": 1}) as file:
        file["x"] = np.arange(1000)
    assert target.read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert [*os.listdir(scratch), *os.listdir(target.parent)] == ["a.h5"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_leaves_nothing_in_scratch_nor_beside_the_target(tmp_path, error):
    target, scratch = tmp_path / "results" / "a.txt", tmp_path / "scratch"
    with store.working_in(scratch), pytest.raises(type(error)):
        write_half(target, error)
    assert [*os.listdir(scratch), *os.listdir(target.parent)] == []


def test_a_killed_job_leaves_no_target_and_the_next_one_clears_scratch(tmp_path):
    target, scratch = tmp_path / "a.txt", tmp_path / "scratch"
    script = (
        "import os, signal, sys\nfrom histotransfer import store\n"
        "with store.working_in(sys.argv[2]), store.replacing(sys.argv[1]) as part:\n"
        "    part.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", script, str(target), str(scratch)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(PACKAGE)}, check=False)
    assert os.listdir(scratch) == [".a.txt.part"]
    assert os.listdir(tmp_path) == ["scratch"]
    with store.working_in(scratch), store.replacing(tmp_path / "b.txt") as part:
        part.write_text("whole")
    assert os.listdir(scratch) == []
    assert sorted(os.listdir(tmp_path)) == ["b.txt", "scratch"]


def test_a_copy_that_is_not_whole_takes_no_targets_place(tmp_path, monkeypatch):
    monkeypatch.setattr(store.shutil, "copyfile", lambda source, to: Path(to).write_text("hal"))
    with (
        pytest.raises(OSError, match=r"4 bytes were copied, found 3 \(while writing .*a\.txt\)"),
        store.working_in(tmp_path / "scratch"),
        store.replacing(tmp_path / "a.txt") as part,
    ):
        part.write_text("half")
    assert os.listdir(tmp_path) == ["scratch"]


@contextmanager
def small_disk(folder, options="size=100k"):
    """Have a folder on a disk of its own, mounted by root alone."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk (root)")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("full", ["scratch", "results"])
def test_a_full_disk_under_scratch_or_target_is_named(tmp_path, write, full):
    scratch, results = tmp_path / "scratch", tmp_path / "results"
    where = f"{results / 'target.h5'} in {scratch}" if full == "scratch" else results / "target.h5"
    with small_disk(tmp_path / full), store.working_in(scratch):
        with pytest.raises(OSError, match=re.escape(f"No space left on device (while writing {where})")):
            write(results / "target.h5")
        assert [*os.listdir(scratch), *os.listdir(results)] == []


@pytest.mark.parametrize("scratch", [False, True])
def test_a_disk_that_cannot_be_written_is_an_error_that_names_the_target(tmp_path, scratch):
    results = tmp_path / "results"
    with small_disk(results):
        (results / "a.txt").write_text("before")
        subprocess.run(["mount", "-o", "remount,ro", results], check=True)
        for target in (results / "a.txt", results / "new" / "b.txt"):
            with (
                pytest.raises(OSError, match=rf"Read-only file system \(while writing {re.escape(str(target))}\)"),
                store.working_in(tmp_path / "scratch" if scratch else None),
                store.replacing(target) as part,
            ):
                part.write_text("whole")
        assert os.listdir(results) == ["a.txt"]
        assert (results / "a.txt").read_text() == "before"


# disks that several machines share


def test_a_file_that_shows_late_is_waited_for(tmp_path):
    late = tmp_path / "a.h5"
    job = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(1); open({str(late)!r}, 'w')"])
    assert store.arrived(late)
    assert job.wait() == 0


def test_a_file_that_does_not_come_is_not_waited_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LATENCY_S", 0.3)
    assert not store.arrived(tmp_path / "a.h5")
    assert not store.arrived(tmp_path / "no folder" / "a.h5")


READ = "import histotransfer, sys, h5py; print(h5py.File(sys.argv[1], 'r')['x'][()])"


@pytest.mark.parametrize(("setting", "read"), [(None, True), ("TRUE", False)])
def test_a_lock_on_a_file_stops_no_reader(tmp_path, setting, read):
    """The second row shows that it would by HDF5's own way, which a user can ask for."""
    with store.writing_hdf5(tmp_path / "a.h5", {}) as file:
        file["x"] = 3
    environment = {name: value for name, value in os.environ.items() if name != "HDF5_USE_FILE_LOCKING"}
    environment |= {"PYTHONPATH": str(PACKAGE)} | ({"HDF5_USE_FILE_LOCKING": setting} if setting else {})
    with open(tmp_path / "a.h5", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        command = [sys.executable, "-c", READ, str(tmp_path / "a.h5")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0, done.stdout) == ((True, "3\n") if read else (False, "")), done.stderr
    assert read or "unable to lock file" in done.stderr


def test_hdf5_files_are_opened_for_writing_in_one_place_alone():
    """And there under no name that anybody reads."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "h5py.File":
                mode = [ast.literal_eval(argument) for argument in node.args[1:2]]
                found += [path.name] if mode != ["r"] else []
    assert found == ["store.py"]


# a full disk


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("room", [0, 1000, 90_000])
def test_a_failed_write_names_the_target_and_leaves_nothing(tmp_path, write, room):
    with files_of_at_most(room), pytest.raises(OSError, match=r"File too large \(while writing .*target\.h5\)"):
        write(tmp_path / "target.h5")
    assert os.listdir(tmp_path) == []
    # the process can go on
    write(tmp_path / "target.h5")
    assert os.listdir(tmp_path) == ["target.h5"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_names_the_target_and_leaves_nothing(tmp_path, write):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk (root)")
    try:
        with pytest.raises(OSError, match=r"No space left on device \(while writing .*target\.h5\)"):
            write(tmp_path / "target.h5")
        assert os.listdir(tmp_path) == []
        # nothing holds the failed file open, so its room is free again
        (tmp_path / "other").write_bytes(b"x" * 80_000)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_ends_a_process_with_the_error_and_not_with_a_crash(tmp_path):
    script = (
        "import resource, sys\nimport numpy as np\nfrom histotransfer import store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n"
        "with store.writing_hdf5(sys.argv[1], {}) as file:\n"
        "    file['x'] = np.ones(100_000)\n    file['y'] = np.ones(100_000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.h5")],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"File too large (while writing {tmp_path / 'a.h5'})")


def test_what_hdf5_could_not_write_it_reads_all_the_same(tmp_path):
    """It reads its own structures again, and crashes on others."""

    def write(disk, place, data):
        disk.seek(place)
        assert disk.write(data) == len(data)

    def read(disk, place, n):
        found = bytearray(b"?" * n)
        disk.seek(place)
        assert disk.readinto(found) == n
        assert disk.tell() == place + n
        return bytes(found)

    with open(tmp_path / "a", "w+b", buffering=0) as raw, files_of_at_most(10):
        disk = store._HDF5Disk(raw)
        write(disk, 0, b"abcdef")
        assert disk.error is None
        assert disk.tell() == 6
        write(disk, 4, b"ABCDEFGHIJKL")
        assert "File too large" in str(disk.error)
        assert disk.tell() == 16
        write(disk, 20, b"xyz")
        write(disk, 5, b"..")
        write(disk, 100, b"large" * 100_000)
        assert read(disk, 0, 30) == b"abcdA..DEFGHIJKL" + bytes(4) + b"xyz" + bytes(7)
        assert read(disk, 6, 3) == b".DE"
        assert read(disk, 98, 5) == bytes(5)
        write(disk, 4, b"?")
        assert read(disk, 3, 4) == b"d?.."


# Files of every kind of content, on disks that are full after any number of bytes.
FULL_AT_ANY_BYTE = """
import os, resource, sys
import numpy as np
from histotransfer import store

def write(path, n):
    with store.writing_hdf5(path, {"list": list(range(n))}) as file:
        file.create_dataset("whole", (n, 500), np.uint8).write_direct(np.ones((n, 500), np.uint8))
        store.write_texts(file, "texts", ["x" * (k % 90) for k in range(n)])
        grown = file.create_dataset("grown", (0, 50), np.uint8, maxshape=(None, 50), chunks=(1, 50))
        for row in range(0, n, 8):
            grown.resize(row + 8, axis=0)
            grown[row:] = np.ones((8, 50), np.uint8)
        store.set_attributes(file, {f"a{k}": "y" * 500 for k in range(40)})
        for name in "abcde":
            store.write_texts(file.create_group(name), "texts", ["x" * (k * ord(name) % 200) for k in range(n)])
            file.flush()
            file[f"{name}/texts"][:3]

limits = resource.getrlimit(resource.RLIMIT_FSIZE)
outcomes = []
for room in range(0, 250_000, 4000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        write("a.h5", 40 + room % 97)
        os.unlink("a.h5")
        outcomes.append("written")
    except OSError as error:
        outcomes.append("full" if str(error) == "[Errno 27] File too large (while writing a.h5)" else str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    if os.listdir():
        outcomes.append(f"left {os.listdir()}")
print(sorted(set(outcomes)), outcomes.count("full") > 20, outcomes.count("written") > 5)
"""


def test_a_disk_that_is_full_at_any_byte_is_an_error_and_no_crash(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-X", "faulthandler", "-c", FULL_AT_ANY_BYTE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "['full', 'written'] True True\n"), done.stderr


def test_what_follows_from_a_failed_write_is_not_reported_in_its_place(tmp_path):
    def write():
        with store.writing_hdf5(tmp_path / "a.h5", {}) as file:
            file["x"] = np.ones(1_000_000)
            file.flush()
            raise ValueError("found something that is not there")

    with files_of_at_most(50_000), pytest.raises(OSError, match="File too large"):
        write()


# tables and JSON


def test_a_table_as_it_stands_on_disk(tmp_path):
    path = tmp_path / "a.tsv"
    rows = [
        {"name": "a", "value": 0.1, "n": 3},
        {"name": "b", "value": np.float32(0.5), "n": None},
        {"name": "c", "value": float("nan")},
    ]
    store.write_table(path, ["name", "value", "n"], rows)
    assert path.read_bytes() == b"name\tvalue\tn\na\t0.1\t3\nb\t0.5\t\nc\tnan\t\n"
    assert store.read_table(path)[0] == {"name": "a", "value": "0.1", "n": "3"}


@pytest.mark.parametrize(
    "text", ["a\tb", "a\nb", 'a "b"', '"', " a ", "", "\N{MICROSCOPE} µm", "\N{LINE SEPARATOR}", "a\vb"]
)
def test_any_text_comes_back_from_a_table(tmp_path, text):
    store.write_table(tmp_path / "a.tsv", ["x", "y"], [{"x": text, "y": "end"}])
    assert store.read_table(tmp_path / "a.tsv") == [{"x": text, "y": "end"}]


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb"])
def test_a_line_break_in_a_cell_ends_no_row(tmp_path, text):
    store.write_table(tmp_path / "a.tsv", ["x", "y"], [{"x": text, "y": "end"}])
    assert store.read_table(tmp_path / "a.tsv") == [{"x": "a\nb", "y": "end"}]


def test_a_table_of_no_rows_has_its_header(tmp_path):
    store.write_table(tmp_path / "a.tsv", ["x", "y"], [])
    assert (tmp_path / "a.tsv").read_text() == "x\ty\n"
    assert store.read_table(tmp_path / "a.tsv") == []


def test_json_has_sorted_keys_and_no_escapes(tmp_path):
    store.write_json(tmp_path / "a.json", {"b": "µ", "a": [1, None]})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n "a": [\n  1,\n  null\n ],\n "b": "µ"\n}\n'
    assert store.read_json(tmp_path / "a.json") == {"a": [1, None], "b": "µ"}


# HDF5


def test_attributes_come_back(tmp_path):
    said = {"a": 1, "b": 0.1, "c": "µ", "none": None, "list": [1, "µ"], "tuple": (2,), "dict": {"y": 1, "x": 2}}
    with store.writing_hdf5(tmp_path / "a.h5", {**said, "yes": True, "long": "x" * 100_000}):
        pass
    with h5py.File(tmp_path / "a.h5") as file:
        found = dict(file.attrs)
    versions = json.loads(found.pop("versions"))
    assert {"histotransfer", "numpy", "h5py"} <= versions.keys()
    assert found.pop("long") == "x" * 100_000
    assert found == {
        **{"a": 1, "b": 0.1, "c": "µ", "none": "", "yes": True},
        **{"list": '[1, "µ"]', "tuple": "[2]", "dict": '{"x": 2, "y": 1}'},
    }


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "", "µ\N{MICROSCOPE}", "x" * 10_000]])
def test_texts_come_back(tmp_path, texts):
    with store.writing_hdf5(tmp_path / "a.h5", {}) as file:
        store.write_texts(file, "texts", iter(texts))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["texts"].shape == (len(texts),)
        assert store.read_texts(file, "texts") == texts


def test_hdf5_files_of_the_same_content_are_the_same_bytes(tmp_path):
    written = []
    for name in ("a.h5", "b.h5"):
        with store.writing_hdf5(tmp_path / name, {"x": [1]}) as file:
            file.create_dataset("x", data=np.arange(1000))
            store.write_texts(file, "t", ["a", "b"])
            store.create_group(file, "g").create_dataset("y", data=[1])
        # HDF5 counts in seconds
        time.sleep(1.1)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_datasets_that_grow_and_datasets_written_in_pieces_come_back(tmp_path):
    write_contiguous(tmp_path / "a.h5")
    write_chunked(tmp_path / "b.h5")
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / name) as file:
            assert file["x"].shape == (200, 1000)
            assert (file["x"][:] == 1).all()


def test_a_csv_comes_back_as_it_was_told(tmp_path):
    rows = [{"method": "a+b", "score": 0.1 + 0.2, "note": 'one, "two"\nthree'}, {"method": "c", "score": None}]
    store.write_csv(tmp_path / "t.csv", ("method", "score", "note"), rows)
    assert (tmp_path / "t.csv").read_text() == (
        'method,score,note\na+b,0.30000000000000004,"one, ""two""\nthree"\nc,,\n'
    )
    assert store.read_csv(tmp_path / "t.csv") == [
        {"method": "a+b", "score": "0.30000000000000004", "note": 'one, "two"\nthree'},
        {"method": "c", "score": "", "note": ""},
    ]
