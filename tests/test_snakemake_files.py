"""The files around the library: rules, environments, profile, Makefile, and what the pages say of them."""

import copy
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from repository import ROOT as REPOSITORY
from rule_texts import PATTERNS, READ_BENCHMARKS, RULE_FILES, RULES, WORKING, written_rules


def wildcards(text):
    text = re.sub(r"\{?\bpaths\.([A-Z_]+)\}?", lambda match: PATTERNS[match[1]], text)
    # what stands in doubled braces is a wildcard where the text is formatted first
    return set(re.findall(r"\{(\w+)\}", text))


def test_the_rules_are_found():
    written = sum(path.read_text("utf-8").count("    output:\n") for path in RULE_FILES)
    assert len(WORKING) == written
    assert {"inspect_slide", "extract_features", "stream_features", "write_report"} <= set(WORKING)


@pytest.mark.parametrize("name", WORKING)
def test_a_rule_says_what_it_does_and_leaves_a_log_and_its_cost(name):
    rule = RULES[name]
    needed = {"log", "conda", "message"} | (set() if name in READ_BENCHMARKS else {"benchmark"})
    assert needed <= rule.keys()
    log = rule["log"].strip().rstrip(",")
    assert re.search(rf"/{name}(\.log|/)", log)
    if "benchmark" in needed:
        assert rule["benchmark"].strip() == log.replace("logs/", "benchmarks/", 1).replace(".log", ".tsv")
    of_output = wildcards(rule["output"])
    if "of_each_method" in rule["output"]:
        of_output -= {"features", "classifier"}
    if "in_study" in rule["output"]:
        of_output -= {"study"}
    assert of_output <= wildcards(log), "two jobs would write one log"


def test_each_stage_is_a_target_by_its_name():
    assert {"slides", "tissue", "tiles", "pixels", "features", "classifiers", "report"} <= RULES.keys()


def works(path):
    return any(rule["name"] in WORKING for rule in written_rules(path.read_text("utf-8")))


def test_files_without_rules_that_work_are_those_that_all_rules_use():
    assert {path.stem for path in RULE_FILES if not works(path)} == {"common", "params", "inputs", "run_step"}


@pytest.mark.parametrize("path", [path for path in RULE_FILES if works(path)], ids=lambda path: path.stem)
def test_a_rule_file_says_first_what_it_needs_and_gives(path):
    first = path.read_text("utf-8").partition("\n\n")[0]
    assert all(line.startswith("# ") for line in first.splitlines())
    assert "Needs" in first
    assert "Gives" in first


def pins(path):
    """Return the version of each package that a lock gives to Python 3.11 on Linux."""
    machine = {"python_version": "3.11", "python_full_version": "3.11.9", "sys_platform": "linux"}
    machine |= {"platform_machine": "x86_64", "platform_system": "Linux", "implementation_name": "cpython"}
    lines = re.findall(r"^([A-Za-z0-9_.-]+(?:\[.*\])?==[^\\\n]+)", path.read_text("utf-8"), re.MULTILINE)
    asked = [Requirement(line.strip()) for line in lines]
    return {
        item.name.lower().replace("_", "-"): str(item.specifier).removeprefix("==")
        for item in asked
        if item.marker is None or item.marker.evaluate(machine)
    }


def test_the_conda_environment_has_the_versions_of_the_lock():
    environment = yaml.safe_load((REPOSITORY / "envs/histotransfer.yaml").read_text("utf-8"))
    locked = pins(REPOSITORY / "envs/requirements.txt")
    named_otherwise = {"matplotlib-base": "matplotlib", "snakemake-minimal": "snakemake"}
    asked = {}
    for item in environment["dependencies"]:
        if isinstance(item, dict):
            asked |= dict(package.split("==") for package in item["pip"])
        elif "=" in item:
            name, version = item.split("=")
            asked[name] = version
    asked.pop("python")
    assert {name: locked.get(named_otherwise.get(name, name)) for name in asked} == asked


def test_every_direct_requirement_is_in_the_conda_environment():
    direct = (REPOSITORY / "envs/requirements.in").read_text("utf-8")
    names = {name.lower() for name in re.findall(r"^([A-Za-z0-9-]+)", direct, re.MULTILINE)}
    text = (REPOSITORY / "envs/histotransfer.yaml").read_text("utf-8")
    # on macOS the same TensorFlow has another name
    missing = {name for name in names - {"tensorflow"} if not re.search(rf"- {name}(-base|-minimal)?==?\d", text)}
    assert missing == set()


def test_the_lock_has_a_hash_for_each_version_and_the_tests_use_the_same():
    for name in ("requirements.txt", "requirements-test.txt"):
        text = (REPOSITORY / "envs" / name).read_text("utf-8")
        entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
        assert entries
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    workflow = pins(REPOSITORY / "envs/requirements.txt")
    tests = pins(REPOSITORY / "envs/requirements-test.txt")
    assert {name: tests.get(name) for name in workflow} == workflow


def snakemake_options():
    from snakemake.cli import get_argument_parser

    return {option for action in get_argument_parser()._actions for option in action.option_strings}


def test_the_profile_has_keys_that_snakemake_knows():
    options = {option.lstrip("-") for option in snakemake_options()}
    for path in (REPOSITORY / "profiles").glob("*/profile.yaml"):
        profile = yaml.safe_load(path.read_text("utf-8"))
        # the executor's own options are known where its plugin is installed, which refuses others (tests/test_slurm.py)
        executor = f"{profile.get('executor')}-"
        assert {key for key in profile if not key.startswith(executor)} <= options


def test_the_workflow_catalog_can_read_what_it_shows():
    """Keys and kinds as the catalogue's generator looks them up."""
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text("utf-8"))["usage"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["mandatory-flags"].keys() == {"desc", "flags"}
    assert usage["software-stack-deployment"].keys() == {"conda", "apptainer", "apptainer+conda"}
    # an environment for every rule, and figures that say where Snakemake's own report shows them
    working = [RULES[name] for name in WORKING]
    assert usage["software-stack-deployment"]["conda"] == all("conda" in rule for rule in working)
    assert usage["software-stack-deployment"]["apptainer"] == any("container" in rule for rule in working)
    assert usage["report"] == any("report(" in rule["output"] for rule in working)


def make_targets():
    return set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))


# ---- the pages: README, docs, data/README, the changelog

README, INDEX, CHANGELOG = Path("README.md"), Path("docs/README.md"), Path("CHANGELOG.md")
DOCS = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / "docs").glob("*.md"))
PAGES = [README, Path("data/README.md"), CHANGELOG, *DOCS]
SCHEMA = REPOSITORY / "rules/schemas/config.schema.yaml"


def text_of(page):
    return (REPOSITORY / page).read_text("utf-8")


def fenced(text):
    """Return the blocks of a page that are code, each as (its language, its lines)."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


def prose(text):
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def commands(text, program):
    """Return the calls of a program on a page, in code blocks and in backticks, without their comments."""
    lines = [line for _, block in fenced(text) for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", prose(text))
    called = [re.search(rf"(?:^|[ /]){program} +([^#]*)", line) for line in [*lines, *spans]]
    return [match[1].strip() for match in called if match]


def links(page):
    """Return the links of a page that stay in the repository, each as (the page or file, the anchor)."""
    found = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text_of(page))
    return [((REPOSITORY / page).parent / path if path else REPOSITORY / page, anchor) for path, anchor in found]


def anchors(path):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*PAGES, Path(".ci/run")], ids=str)
def test_what_a_page_tells_to_make_can_be_made(path):
    text = text_of(path)
    # in backticks or at the start of a line of an example: `make sure` is no command
    told = set(re.findall(r"(?:`|^ *)make ([a-z][a-z-]*)", text, re.MULTILINE))
    assert told <= make_targets()
    files = set(re.findall(r"(?:`|^ *)make \.venv/(\S*[\w])", text, re.MULTILINE))
    assert files <= set(re.findall(r"^\$\(VENV\)/(\S+):", text_of("Makefile"), re.MULTILINE))
    if path in (README, Path(".ci/run")):
        assert told


def test_every_make_target_that_is_no_file_is_declared_and_explained():
    text = (REPOSITORY / "Makefile").read_text("utf-8")
    declared = set(re.findall(r"^\.PHONY: ([a-z-]+)$", text, re.MULTILINE))
    explained = set(re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE))
    assert make_targets() == declared == explained


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_what_a_page_gives_to_snakemake_is_known_to_it(page):
    calls = commands(text_of(page), "snakemake")
    options = {option for call in calls for option in re.findall(r"(?<!\S)--?[a-zA-Z][\w-]*", call)}
    assert options <= snakemake_options()
    named = {name for call in calls for name in re.findall(r"(?:-R|--until) ([a-z_]+)", call)}
    assert named <= RULES.keys()
    if page == README:
        assert {"--configfile", "--cores", "-n"} <= options


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_of_the_repository_that_a_page_names_are_there(page):
    # those in data/ are the user's
    folders = "workflow_scripts|rules|studies|tests|bench|profiles|envs|docs"
    named = re.findall(rf"(?<![\w./{{}}-])((?:{folders})/[\w./-]*\w)", text_of(page))
    assert [path for path in named if not (REPOSITORY / path).exists()] == []
    if page == README:
        assert named


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_examples_of_the_config_follow_the_schema(page):
    schema = yaml.safe_load(SCHEMA.read_text("utf-8"))
    # an example is laid over another config, which has the other keys
    part = copy.deepcopy(schema)
    del part["required"], part["properties"]["study"]["required"]
    examples = [yaml.safe_load(block) for language, block in fenced(text_of(page)) if language == "yaml"]
    for example in examples:
        jsonschema.validate(example, part)
    if page == README:
        assert examples


def test_links_of_the_pages_lead_to_files():
    for page in PAGES:
        found = links(page)
        assert [path for path, _ in found if not path.exists()] == [], page
        assert [(path, anchor) for path, anchor in found if anchor and anchor not in anchors(path)] == [], page


def test_the_readme_is_short_and_soon_comes_to_own_data():
    lines = text_of(README).splitlines()
    assert len(lines) <= 170
    assert lines.index("## Your own data") < 60


def test_every_page_is_in_the_index_and_the_index_in_the_readme():
    indexed = {path.resolve().relative_to(REPOSITORY) for path, _ in links(INDEX)}
    assert {*PAGES} - {INDEX} <= indexed
    assert REPOSITORY / INDEX in {path.resolve() for path, _ in links(README)}


@pytest.mark.parametrize("page", DOCS, ids=str)
def test_a_page_has_a_title_says_what_it_is_for_and_leads_on(page):
    title, blank, first = text_of(page).splitlines()[:3]
    assert re.match(r"# \S", title)
    assert blank == ""
    assert re.match(r"\w", first)
    others = {path.resolve().relative_to(REPOSITORY) for path, _ in links(page)} & {*PAGES} - {page}
    assert others


def test_every_picture_of_the_pages_is_shown():
    shown = {path.resolve() for page in PAGES for path, _ in links(page)}
    assert {*(REPOSITORY / "docs").glob("*.png")} <= shown
