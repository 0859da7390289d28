# The study, checked before any job runs, and every function that the rules use.
import functools
import gc
import sys

# A DAG of thousands of jobs is millions of objects that live to the end: collecting rarely plans it in less time.
gc.set_threshold(200_000, 50, 1000)

sys.path.insert(0, str(ROOT / "workflow_scripts"))

from histotransfer import __version__ as VERSION, provenance
from histotransfer.plain_data import plain
from histotransfer.planning import requests
from histotransfer.report import contents
from histotransfer.study import configuration, feature_sets, paths, runs

try:
    STUDY = configuration.load(config, ROOT / "rules/schemas/config.schema.yaml")
except configuration.ConfigurationError as error:
    raise WorkflowError(str(error)) from None

CONTENTS = contents.Contents(STUDY)
RUNS = runs.Runs(STUDY)
# The rules by their names in this run, which a workflow that uses this one as a module may change. Filled at the end.
RULE_NAMES = {}
REQUESTS = requests.Requests(STUDY, RULE_NAMES)
DIGESTS = provenance.CodeDigests(ROOT / "workflow_scripts/histotransfer")
TEMPLATES = sorted(map(str, (ROOT / "workflow_scripts/histotransfer/report/templates").iterdir()))
GPU = 1 if STUDY.gpus else 0
# The metric of the report's first paragraph and plots.
HEADLINE = "balanced_accuracy"


# ---- constraints: which names a rule is for, so that rules share paths and none is ambiguous


def any_of(named, condition):
    """The pattern of the names of which `condition` holds, or one that nothing matches."""
    return "|".join(name.replace(".", r"\.") for name, value in named.items() if condition(value)) or "(?!)"


ID = r"[a-z0-9][a-z0-9._-]*"
TASKS = {name: task for dataset in STUDY.datasets.values() for name, task in dataset.tasks.items()}
SLIDES = any_of(STUDY.datasets, lambda dataset: dataset.kind == "slides")
TABLES = any_of(STUDY.datasets, lambda dataset: dataset.kind in ("patches", "points"))
PATCHES = any_of(STUDY.datasets, lambda dataset: dataset.kind == "patches")
# Datasets whose sheet is made of a third-party table.
FILTERED = any_of(STUDY.datasets, lambda dataset: dataset.table)
# Tasks whose labels come from regions drawn on slides, and the others.
BY_REGIONS = any_of(TASKS, lambda task: task.regions)
BY_SHEET = any_of(TASKS, lambda task: not task.regions)
# A choice among layers trains nothing itself.
CHOSEN = any_of(STUDY.feature_sets, feature_sets.layers_of)
TRAINED = any_of(STUDY.feature_sets, lambda features: not feature_sets.layers_of(features))
SELECTED = any_of(STUDY.feature_sets, feature_sets.selection_of)
# Classifiers that learn from rows of features, and those that see maps of slides; softmax is the output of a trained
# network.
UNETS = any_of(STUDY.classifiers, lambda classifier: classifier.kind == "unet")
END_TO_END = any_of(STUDY.classifiers, lambda classifier: classifier.kind == "end_to_end")
ON_ROWS = any_of(STUDY.classifiers, lambda classifier: classifier.kind not in ("softmax", "unet", "end_to_end"))
# Trained networks: those whose head begins on features, those that are nothing but that, and those that take tiles.
ON_FEATURES = any_of(STUDY.trained, lambda network: network.on_features)
HEAD_ONLY = any_of(STUDY.trained, lambda network: network.head_only)
ON_TILES = any_of(STUDY.trained, lambda network: not network.head_only)


wildcard_constraints:
    dataset=ID,
    slide=ID,
    shard=r"shard-\d+",
    px=r"\d+",
    network=ID,
    task=ID,
    split=ID,
    seed=r"\d+",
    features=ID,
    classifier=ID,
    study=ID,
    comparison=ID,


# ---- what rules have in common


def in_study(pattern):
    """The pattern with the name of this study in it, and other wildcards left open."""
    return pattern.replace("{study}", STUDY.name)


def in_report(caption, category, *wildcards, subcategory=None, **labels):
    """How Snakemake's own report shows a figure: its caption, its place, and wildcards and other labels."""
    labels = {**{name: f"{{{name}}}" for name in wildcards}, **labels}
    return dict(caption=f"report/{caption}.rst", category=category, subcategory=subcategory, labels=labels or None)


def step(function):
    """The params of a rule that name what it runs, "folder.module.function", and the digest of the code behind it.

    Changed code thus reruns the rule. A job on another machine plans itself again, and itself alone: it need not read
    the code of every other rule.
    """
    digest = DIGESTS(function) if workflow.is_main_process else lambda wildcards: DIGESTS(function)
    return {"step": function, "code": digest}


def get_rules():
    """The rules so far, in their order, by the names that they have in these files."""
    return {name: proxy.rule for name, proxy in rules._rules.items()}
