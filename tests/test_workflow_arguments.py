"""How the names of a rule become the arguments of its function: objects of plain data, and groups of names."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from histotransfer import workflow
from histotransfer.definitions import LearningTables, Sgd, Split


@dataclass(frozen=True)
class Files:
    """Two outputs."""

    model: str
    history: str


@dataclass(frozen=True)
class Settings:
    """Params, one with a default, and the digest of the code."""

    master_seed: int
    threads_of_arithmetic: int = 2
    code: str = ""


TABLES = {"labels": ["a.tsv", "b.tsv"], "slides_table": "slides.tsv", "split_file": "1.tsv"}


def train(*, features, tables: LearningTables, files: Files, split: Split, settings: Settings, rate=0.1): ...


def test_names_that_are_fields_of_a_class_are_gathered():
    given = {"features": ["f.json"], **TABLES, "model": "m.keras", "history": "h.tsv", "master_seed": 7}
    given |= {"split": {"unit": "slide", "folds": 2}, "rate": 0.5, "step": "a.b.train", "code": "0123"}
    assert workflow.arguments_of(train, given) == {
        "features": ["f.json"],
        "tables": LearningTables(labels=("a.tsv", "b.tsv"), slides_table="slides.tsv", split_file="1.tsv"),
        "files": Files("m.keras", "h.tsv"),
        "split": Split("slide", folds=2),
        "settings": Settings(7, code="0123"),
        "rate": 0.5,
    }


def test_a_group_that_is_given_by_its_own_name_gathers_nothing():
    given = {"features": [], "tables": TABLES, "files": Files("m", "h"), "settings": {"master_seed": 1}}
    arguments = workflow.arguments_of(train, {**given, "split": Split("slide", folds=2), "code": "0123"})
    assert arguments["tables"].labels == ("a.tsv", "b.tsv")
    assert arguments["files"] == Files("m", "h")
    assert arguments["settings"] == Settings(1)
    assert "code" not in arguments


def test_a_name_that_is_a_parameter_is_in_no_group():
    def copy(*, model, files: Files): ...

    with pytest.raises(TypeError, match=r"Files: legal keys are model, history; missing \['model'\]"):
        workflow.arguments_of(copy, {"model": "m", "history": "h"})


def test_a_group_without_one_of_its_names_is_an_error():
    with pytest.raises(TypeError, match=r"LearningTables: legal keys are .*; missing \['split_file'\], unknown \[\]"):
        workflow.arguments_of(train, {"labels": [], "slides_table": "s.tsv", "model": "m", "history": "h"})


def test_a_group_with_a_default_may_be_left_out():
    def step(*, optimiser: Sgd = Sgd(0.5)): ...  # noqa: B008

    assert workflow.arguments_of(step, {}) == {}
    assert workflow.arguments_of(step, {"nesterov": True}) == {"optimiser": Sgd(nesterov=True)}


def test_names_that_the_function_does_not_know_stay_for_it_to_refuse():
    def copy(*, source): ...

    assert workflow.arguments_of(copy, {"source": "a", "target": "b", "step": "c"}) == {"source": "a", "target": "b"}
