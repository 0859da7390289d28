"""What a study defines, as objects and as plain data: either is made of the other, and nothing else is taken."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass
from typing import Literal

import pytest

from histotransfer import definitions, feature_kinds
from histotransfer.definitions import (
    Adam,
    Constant,
    Cosine,
    Curve,
    Draw,
    Factors,
    Head,
    LinearSvm,
    Phase,
    Recipe,
    RegionRule,
    Regions,
    RowClassifier,
    Sgd,
    Task,
    Unet,
)
from histotransfer.feature_kinds import FeatureSet, Layers, Reduction, SlideImage, Source
from histotransfer.plain_data import made, plain

CLASSES = [
    kind
    for module in (definitions, feature_kinds)
    for kind in vars(module).values()
    if isinstance(kind, type) and is_dataclass(kind)
]

PHASE = {"train": "head", "epochs": 2, "rate": 0.1, "optimiser": {"kind": "adam"}}


def examples(hint, depth=0):
    """Return values that an annotation allows, one at least for each member of a union."""
    if hint is type(None):
        return [None]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint):
        each = {field.name: examples(typing.get_type_hints(hint)[field.name], depth + 1) for field in fields(hint)}
        longest = max(map(len, each.values()), default=0)
        return [hint(**{name: values[k % len(values)] for name, values in each.items()}) for k in range(longest)]
    if origin is Literal:
        return list(inner)
    if origin is tuple:
        return [tuple(examples(inner[0], depth)), ()]
    if origin is Mapping:
        return [{f"k{k}": value for k, value in enumerate(examples(inner[1], depth))}, {}]
    if inner:
        return [value for member in inner for value in examples(member, depth)]
    return {int: [3, 0], float: [0.25, 0.0], str: ["x", ""], bool: [True, False]}[hint]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_objects_of_every_class_come_back_from_json(kind):
    several = examples(kind)
    assert len(several) > 1 or len(fields(kind)) == 1
    for value in several:
        data = plain(value)
        assert json.loads(json.dumps(data)) == data
        again = made(kind, data)
        assert again == value
        assert plain(again) == data
        with pytest.raises(FrozenInstanceError):
            value.kind = "other"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_says_what_it_is(kind):
    assert not kind.__doc__.startswith(f"{kind.__name__}(")


def test_what_plain_data_does_not_say_has_its_default():
    phase = made(Phase, PHASE)
    assert phase == Phase(train="head", epochs=2, rate=0.1, optimiser=Adam(0.9, 0.999, 1e-7), schedule=Constant())
    assert plain(phase) == {
        "train": "head",
        "epochs": 2,
        "rate": 0.1,
        "optimiser": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "kind": "adam"},
        "on": "tiles",
        "rates": {},
        "layer_decay": None,
        "weight_decay": 0,
        "schedule": {"kind": "constant"},
    }


def test_a_key_that_is_no_name_in_python_has_another_name():
    rule = made(RegionRule, {"class": "tumour", "above": 0.5})
    assert rule.of == "tumour"
    assert plain(rule) == {"class": "tumour", "above": 0.5}
    with pytest.raises(TypeError, match=r"legal keys are class, above; missing \['class'\], unknown \['of'\]"):
        made(RegionRule, {"of": "tumour", "above": 0.5})


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (Sgd | Adam, {"kind": "sgd", "momentum": 0.5}, Sgd(momentum=0.5)),
        (Sgd | Adam, {"kind": "adam"}, Adam()),
        (RowClassifier, {"kind": "liblinear", "C": [1, 10]}, LinearSvm("liblinear", (1, 10))),
        (typing.Optional[Curve], {"sets": ["train"]}, Curve(("train",))),  # noqa: UP045 - is another type
        (Curve | None, None, None),
        (Constant | Cosine | None, {"kind": "cosine", "floor": 0.1}, Cosine(floor=0.1)),
        # classes without a kind, by their keys
        (FeatureSet, {"sources": [{"network": "a"}]}, Layers((Source("a"),))),
        (FeatureSet | None, {"image": {"cell_px": 4}}, SlideImage(Reduction(4))),
        # within others
        (tuple[Source, ...], [{"network": "a"}, {"network": "b", "layer": "c"}], (Source("a"), Source("b", "c"))),
        (list[Draw], [{"seed": 1}], [Draw(1)]),
        (Sequence[Draw], ({"seed": 1},), [Draw(1)]),
        (dict[str, Draw], {"a": {"seed": 1}}, {"a": Draw(1)}),
        (Mapping[str, tuple[Draw, ...]], {"a": [{"seed": 1}]}, {"a": (Draw(1),)}),
        (tuple[tuple[Draw, ...], ...], [[{"seed": 1}], []], ((Draw(1),), ())),
        (tuple[float, float] | None, [0.5, 2], (0.5, 2)),
        (tuple[float, float] | None, None, None),
        (Draw | tuple[Draw, ...], [{"seed": 1}], (Draw(1),)),
        # what was made already, and what is plain
        (Draw, Draw(1), Draw(1)),
        (tuple[Draw, ...], [Draw(1), {"seed": 2}], (Draw(1), Draw(2))),
        (typing.Any, {"seed": 1}, {"seed": 1}),
        (Mapping[str, typing.Any], {"a": [1]}, {"a": [1]}),
        (Sequence[str], ["a", "b"], ["a", "b"]),
        (Sequence[str] | str, "ab", "ab"),
        (str | int, 3, 3),
        ("Draw", {"seed": 1}, {"seed": 1}),
    ],
    ids=str,
)
def test_what_an_annotation_makes(kind, data, expected):
    value = made(kind, data)
    assert value == expected
    assert type(value) is type(expected)


def test_objects_within_objects():
    recipe = made(Recipe, {"name": "r", "phases": [PHASE, {**PHASE, "on": "features"}], "head": {"dense": [16]}})
    assert [phase.on for phase in recipe.phases] == ["tiles", "features"]
    assert recipe.head == Head(dense=(16,))
    assert recipe.curve is None
    unet = made(Unet, {"recipe": plain(recipe), "depth": 2, "kind": "unet"})
    assert unet.recipe == recipe
    task = made(
        Task,
        {
            "classes": ["normal", "tumour"],
            "labels": {"n": "normal"},
            "regions": {"names": {"tumour": ["T", "M"]}, "rules": [{"class": "tumour", "above": 0.5}]},
        },
    )
    assert task.regions == Regions({"tumour": ("T", "M")}, (RegionRule("tumour", 0.5),))


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (Draw, {}, r"Draw: legal keys are seed; missing \['seed'\], unknown \[\]"),
        (Draw, {"seed": 1, "fold": 2}, r"Draw: legal keys are seed; missing \[\], unknown \['fold'\]"),
        (Source, {"layer": "a", "nett": "b"}, r"keys are network, layer; missing \['network'\], unknown \['nett'\]"),
        (Sgd | Adam, {"kind": "ftrl"}, "kind: legal are sgd, adam; found 'ftrl'"),
        (Sgd | Adam, {"momentum": 0.9}, "kind: legal are sgd, adam; found None"),
        (
            RowClassifier,
            {"kind": "unet"},
            "libsvm, liblinear, extratrees, perceptron, leaf_frequencies",
        ),
        (
            FeatureSet,
            {"image": {}, "pixels": {}},
            "sources; windows; image; pixels; found image, pixels",
        ),
        (FeatureSet, {}, "found none"),
        # one class alone, and the data of another
        (Sgd, {"kind": "adam"}, r"Sgd\.kind: legal are 'sgd'; found 'adam'"),
        (LinearSvm, {"kind": "unet", "C": [1]}, r"LinearSvm\.kind: legal are 'libsvm', 'liblinear'; found 'unet'"),
        # within others
        (Recipe, {"name": "r", "phases": [{**PHASE, "optimiser": {"kind": "x"}}]}, "legal are sgd, adam, rmsprop"),
        (tuple[Draw, ...], [{"seed": 1}, {}], "Draw: legal keys are seed"),
    ],
    ids=str,
)
def test_data_that_is_not_of_the_class_is_refused(kind, data, expected):
    with pytest.raises(TypeError, match=expected):
        made(kind, data)


def test_objects_in_lists_and_dictionaries_become_plain():
    assert plain({"a": [Draw(1), (Draw(2),)], "b": None}) == {"a": [{"seed": 1}, [{"seed": 2}]], "b": None}
    # a class is no object of itself
    assert plain(Draw) is Draw


def test_the_seed_of_the_draw_is_that_of_the_model():
    factors = Factors(dataset="d", task="t", split="s", draw=Draw(7))
    assert (factors.seed, factors.initialisation) == (7, 0)
    assert "seed" not in plain(factors)


@dataclass(frozen=True)
class Numbered:
    """A dataclass of another module."""

    numbers: tuple[int, ...] = ()
    of: Draw | None = None


def test_classes_of_other_modules_are_made_too():
    assert made(Numbered, {"numbers": [1, 2], "of": {"seed": 3}}) == Numbered((1, 2), Draw(3))


@dataclass(frozen=True)
class Size:
    """A dataclass with a plain form of its own."""

    px: int

    def plain(self):
        return {"size": f"{self.px} px"}

    @classmethod
    def from_plain(cls, data):
        return cls(int(data["size"].removesuffix(" px")))


def test_a_class_may_have_its_own_plain_form():
    assert plain([Size(3)]) == [{"size": "3 px"}]
    assert made(Size | None, {"size": "3 px"}) == Size(3)
