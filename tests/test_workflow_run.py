"""What the script of the rules calls: names reach the function, errors reach log and terminal; and all rules fit."""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from repository import PACKAGE, ROOT, SCRIPTS
from snakemake.iocontainers import InputFiles, Log, OutputFiles, Params, ResourceList, Wildcards

from histotransfer import definitions, plain_data, provenance, store, workflow

#: The module of the package that holds the functions of the tests below.
STEPS = "steps_of_test"


# one function, called as a rule names it


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Give a function that makes what Snakemake gives to the script of a rule; what a run changes is undone."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VIPS_CONCURRENCY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    handlers = list(workflow.log.handlers)
    steps = ModuleType(f"histotransfer.{STEPS}")
    monkeypatch.setitem(sys.modules, steps.__name__, steps)

    def make(
        function, *, inputs=None, outputs=None, params=None, wildcards=None, threads=1, gpu=None, logged=True, **more
    ):
        def named(kind, items):
            return kind(fromdict=items or {})

        steps.function = function
        return SimpleNamespace(
            input=named(InputFiles, inputs),
            output=named(OutputFiles, outputs),
            params=named(Params, {**(params or {}), "step": f"{STEPS}.function"}),
            wildcards=named(Wildcards, wildcards),
            log=Log(toclone=[str(tmp_path / "logs" / "job.log")] if logged else []),
            resources=named(ResourceList, more if gpu is None else {**more, "gpu": gpu}),
            config={"gpus": 1},
            threads=threads,
            rule="cut",
        )

    yield make
    for handler in set(workflow.log.handlers) - set(handlers):
        workflow.log.removeHandler(handler)
        handler.close()
    workflow.log.setLevel(logging.NOTSET)


def test_named_inputs_outputs_and_params_are_the_arguments(job):
    found = {}

    def function(*, slide, grids, pixels, px):
        found.update(slide=slide, grids=grids, pixels=pixels, px=px)

    given = {"inputs": {"slide": "a.svs", "grids": ["a.h5"]}, "outputs": {"pixels": "b.h5"}}
    workflow.run(job(function, **given, params={"px": 224, "code": "0123"}))
    assert found == {"slide": "a.svs", "grids": ["a.h5"], "pixels": "b.h5", "px": 224}
    assert type(found["slide"]) is str
    assert type(found["grids"]) is list


def test_code_and_threads_are_given_to_a_function_that_names_them(job):
    found = {}

    def function(*, code, threads):
        found.update(c=code, t=threads)

    workflow.run(job(function, params={"code": "0123"}, threads=3))
    assert found == {"c": "0123", "t": 3}
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "3"
    assert os.environ["VIPS_CONCURRENCY"] == "1"


def test_a_param_becomes_the_object_that_the_function_asks_for(job):
    found = []

    def function(*, crop: definitions.Crop, other, sizes: list[int]):
        found.extend([crop, other, sizes])

    crop = definitions.Crop(px=32, border="mirror")
    workflow.run(job(function, params={"crop": plain_data.plain(crop), "other": {"px": 32}, "sizes": [1]}))
    assert found == [crop, {"px": 32}, [1]]


@pytest.mark.parametrize(("gpu", "seen"), [(None, "-1"), (0, "-1"), (1, "0")])
def test_a_job_sees_the_devices_that_its_rule_asks_for(job, monkeypatch, tmp_path, gpu, seen):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = []
    workflow.run(job(lambda: found.append(os.environ["CUDA_VISIBLE_DEVICES"]), gpu=gpu))
    assert found == [seen]


@pytest.mark.parametrize(("scratch", "works_there"), [(None, False), (0, False), (1, True)])
def test_a_job_works_on_the_nodes_own_disk_where_the_profile_says_so(job, tmp_path, scratch, works_there):
    target, found = tmp_path / "results/a.json", []

    def function():
        with store.replacing(target) as part:
            found.append(part.is_relative_to(tmp_path / "scratch" / f"histotransfer-{os.getuid()}"))
            part.write_text("{}")

    asked = {} if scratch is None else {"scratch": scratch}
    workflow.run(job(function, tmpdir=str(tmp_path / "scratch"), **asked))
    assert found == [works_there]
    assert target.read_text() == "{}"
    # and what is called outside of a job does not
    with store.replacing(target) as part:
        assert part.is_relative_to(target.parent)
        part.write_text("{}")


def test_a_name_used_twice_is_an_error(job):
    with pytest.raises(ValueError, match=r"rule cut: inputs, outputs and params .* found \['slide'\] twice"):
        workflow.run(job(lambda *, slide: None, inputs={"slide": "a.svs"}, params={"slide": "a"}))


def failing(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("slide s1: no mpp"), "slide s1: no mpp"),
        (FileNotFoundError(2, "No such file or directory", "a.h5"), "[Errno 2] No such file or directory: 'a.h5'"),
        (KeyError("label"), "KeyError: 'label'"),
        (MemoryError(), "MemoryError"),
        (subprocess.TimeoutExpired("a", 3), "Command 'a' timed out after 3 seconds"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_is_told_on_the_terminal_and_explained_in_the_log(job, tmp_path, capfd, error, said):
    given = job(failing(error), wildcards={"dataset": "demo", "slide": "s1"})
    with pytest.raises(SystemExit) as stopped:
        workflow.run(given)
    assert stopped.value.code == 1
    terminal = capfd.readouterr().err
    assert terminal == f"rule cut failed (dataset demo, slide s1): {said}\n"
    log = (tmp_path / "logs" / "job.log").read_text("utf-8")
    assert f"ERROR rule cut failed (dataset demo, slide s1): {said}\n" in log
    assert "DEBUG Traceback (most recent call last):" in log
    assert "in function" in log


def test_what_the_library_says_reaches_the_terminal_from_info_on_and_the_log_in_full(job, tmp_path, capfd):
    def function():
        library = logging.getLogger("histotransfer")
        library.debug("detail µ")
        library.info("news")
        library.warning("trouble")

    workflow.run(job(function))
    assert capfd.readouterr().err.splitlines()[:-1] == ["news", "trouble"]
    lines = (tmp_path / "logs" / "job.log").read_text("utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines[:3]] == ["DEBUG detail µ", "INFO news", "WARNING trouble"]
    assert lines[-1].split(" ", 2)[2].startswith("INFO done in ")


def test_a_rule_without_a_log_can_run(job, capfd):
    with pytest.raises(SystemExit):
        workflow.run(job(failing(ValueError("no")), logged=False))
    assert "rule cut failed: no" in capfd.readouterr().err


def test_a_log_tells_of_the_last_run_alone(job, tmp_path):
    with pytest.raises(SystemExit):
        workflow.run(job(failing(ValueError("first"))))
    workflow.run(job(lambda: None))
    log = (tmp_path / "logs" / "job.log").read_text()
    assert "first" not in log
    assert "done" in log


# the same through Snakemake

SNAKEFILE = """
rule all:
    input:
        "good.json",
        "bad.json",

rule good:
    input:
        one="a.txt",
        some=["a.txt"],
        none=[],
        many=lambda wildcards: ["a.txt", "b.txt"],
    output:
        found="good.json",
    log:
        "logs/good.log",
    threads: 2
    params:
        nested={"list": [1, "x", None], "yes": True},
        number=0.5,
        nothing=None,
        text="a b",
        step="steps_of_test.good",
        code="0123",
    script:
        "script.py"

rule bad:
    input:
        one="a.txt",
    output:
        found="{name}.json",
    log:
        "logs/{name}.log",
    params:
        step="steps_of_test.bad",
    script:
        "script.py"
"""

# the package finds the module of the tests besides its own
SCRIPT = f"""
import os, sys
sys.path.insert(0, {str(SCRIPTS)!r})
import histotransfer
histotransfer.__path__.append(os.getcwd())
{(SCRIPTS / "run_step.py").read_text("utf-8")}
"""

STEPS_OF_TEST = """
from histotransfer import store

def good(*, one, some, none, many, found, nested, number, nothing, text, threads):
    kinds = [type(value).__name__ for value in (one, some, some[0], none, many, nested, number, text)]
    store.write_json(found, {"one": one, "some": some, "none": none, "many": many, "nested": nested,
                             "number": number, "nothing": nothing, "text": text, "threads": threads, "kinds": kinds})

def bad(*, one, found):
    with store.replacing(found) as part:
        part.write_text("half")
        raise ValueError(f"{one} is bad")
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rules")
    files = {"Snakefile": SNAKEFILE, "script.py": SCRIPT, f"{STEPS}.py": STEPS_OF_TEST, "a.txt": "", "b.txt": ""}
    for name, text in files.items():
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", "--nocolor"]
    return folder, subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_snakemakes_values_arrive_as_pythons_own(ran):
    folder, done = ran
    assert store.read_json(folder / "good.json") == {
        **{"one": "a.txt", "some": ["a.txt"], "none": [], "many": ["a.txt", "b.txt"]},
        **{"nested": {"list": [1, "x", None], "yes": True}, "number": 0.5, "nothing": None, "text": "a b"},
        **{"threads": 2, "kinds": ["str", "list", "str", "list", "list", "dict", "float", "str"]},
    }, done.stderr


def test_a_failed_job_fails_the_run_and_says_why(ran):
    folder, done = ran
    assert done.returncode == 1
    assert "rule bad failed (name bad): a.txt is bad\n" in done.stderr
    assert "in bad\n" not in done.stderr
    assert "raise ValueError" in (folder / "logs" / "bad.log").read_text()
    assert sorted(path.name for path in folder.glob("*.json")) == ["good.json"]
    assert list(folder.glob(".*.part")) == []


# every rule against the function that it names


def load_rules(folder, config):
    """Return the workflow's rules as Snakemake reads them, by name."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

    (folder / "data").symlink_to(ROOT / "data")
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        loaded = api.workflow(
            resource_settings=ResourceSettings(),
            config_settings=ConfigSettings(config=config),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        return {rule.name: rule for rule in loaded._workflow.rules}


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    here = Path.cwd()
    try:
        streamed = load_rules(tmp_path_factory.mktemp("streamed"), {"pixels": "stream"})
        return {**streamed, **load_rules(tmp_path_factory.mktemp("cached"), {})}
    finally:
        os.chdir(here)


def scripted(rules):
    """Return the rules that run the script; `run_step` is what they have in common, and makes nothing itself."""
    return {name: rule for name, rule in rules.items() if rule.script and name != "run_step"}


def test_both_ways_to_features_are_among_the_rules(rules):
    assert {"extract_features", "stream_features", "tile_pixels", "part_pixels"} <= scripted(rules).keys()


def test_every_rules_names_are_arguments_of_its_function(rules):
    wrong = []
    for name, rule in scripted(rules).items():
        step = rule.params["step"]
        function = workflow.function_of(step)
        signature = inspect.signature(function)
        names = Counter([*rule.input.keys(), *rule.output.keys(), *rule.params.keys()])
        wrong += [f"{name}: {twice} names two things" for twice, n in names.items() if n > 1]
        threads = {"threads": 1} if "threads" in signature.parameters else {}
        try:
            signature.bind(**workflow.arguments_of(function, dict.fromkeys(names)), **threads)
        except TypeError as error:
            wrong.append(f"{name}: {step}: {error}")
    assert wrong == []


def test_every_input_output_and_param_of_a_scripted_rule_has_a_name(rules):
    for name, rule in scripted(rules).items():
        for items in (rule.input, rule.output, rule.params):
            named = sum(1 if end is None else end - start for _, (start, end) in items._get_names())
            assert named == len(items), name


def test_every_rule_takes_the_digest_of_the_function_that_it_runs(rules):
    code = provenance.CodeDigests(PACKAGE)
    for name, rule in scripted(rules).items():
        assert rule.params["code"] == code(rule.params["step"]), name


def test_every_rule_that_runs_python_runs_the_one_script(rules):
    assert {Path(rule.script).name for rule in scripted(rules).values()} == {"run_step.py"}
    assert [name for name, rule in rules.items() if rule.is_run or rule.notebook or rule.wrapper] == []
    # and the script is the only one of its kind
    assert [path.name for path in SCRIPTS.glob("*.py") if "workflow.run(" in path.read_text("utf-8")] == ["run_step.py"]


def test_every_scripted_rule_has_a_log(rules):
    for name, rule in scripted(rules).items():
        assert len(rule.log) == 1, name
