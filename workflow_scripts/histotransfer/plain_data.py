"""Objects of a study as plain data, which rules pass on and files store, and back.

Plain data are dictionaries, lists, texts and numbers: what JSON has. Snakemake sees a changed param by its text. It
passes over params that are objects of other classes, so that a change of theirs would rerun nothing.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar

Made = TypeVar("Made")

_MAPPINGS = (dict, Mapping)
_SEQUENCES = (tuple, list, Sequence)


def plain(value: Any) -> Any:
    """Return a dataclass, or what holds some, as dictionaries and lists, which :func:`made` takes back.

    A field's key is its name, or the entry ``plain`` of its metadata where Python does not allow that name. Where a
    class has a method ``plain``, that gives its plain form.

    Examples
    --------
    >>> from histotransfer.definitions import RegionRule
    >>> plain((RegionRule(of="tumour", above=0.5),))
    [{'class': 'tumour', 'above': 0.5}]
    """
    if is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "plain"):
            return value.plain()
        return {_key(field): plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def made(kind: type[Made] | Any, value: Any) -> Made:
    """Return plain data as the object that it describes.

    Parameters
    ----------
    kind : type
        A dataclass, or any annotation made of such classes, of ``|``, tuples, lists, sequences and mappings. Where it
        has several classes, that class is taken whose field ``kind`` allows the data's ``kind``, or where they have no
        such field, the class whose keys the data has. A class that has a classmethod ``from_plain`` is made by it.
        Other annotations leave the value as it is.
    value : object
        Plain data. An object that was made already is returned as it is.

    Raises
    ------
    TypeError
        If a key is missing or unknown, a value is none of its annotation's ``Literal``, or no class of the annotation
        has the data's ``kind`` or keys.

    Examples
    --------
    >>> from histotransfer.definitions import Adam, Sgd
    >>> made(Sgd | Adam, {"kind": "adam", "beta_1": 0.99}).beta_2
    0.999
    >>> from histotransfer.feature_kinds import FeatureSet
    >>> made(FeatureSet, {"image": {"cell_px": 4}})
    SlideImage(image=Reduction(cell_px=4))
    """
    choices = _choices(kind)
    if isinstance(value, Mapping) and (classes := [choice for choice in choices if _is_class(choice)]):
        return _object(_class_meant(classes, value), value)
    # of a union, one member at most holds others
    for choice in choices:
        origin, inner = typing.get_origin(choice), typing.get_args(choice)
        if origin in _SEQUENCES and isinstance(value, (list, tuple)):
            return (tuple if origin is tuple else list)(made(inner[0], item) for item in value)
        if origin in _MAPPINGS and isinstance(value, Mapping):
            return {key: made(inner[1], item) for key, item in value.items()}
    return value


def _key(field: Field) -> str:
    return field.metadata.get("plain", field.name)


def _choices(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, or an annotation that is none by itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _is_class(kind: Any) -> bool:
    return isinstance(kind, type) and is_dataclass(kind)


def _class_meant(classes: Sequence[type], value: Mapping[str, Any]) -> type:
    """Return the class that the data describes: by its ``kind``, or where the classes have none by its keys."""
    if len(classes) == 1:
        return classes[0]
    if any("kind" not in _hints(choice) for choice in classes):
        fitting = [choice for choice in classes if not any(_missing_and_unknown(choice, value))]
        if len(fitting) != 1:
            legal = "; ".join(", ".join(map(_key, fields(choice))) for choice in classes)
            raise TypeError(f"keys: legal are those of one of these: {legal}; found {', '.join(value) or 'none'}")
        return fitting[0]
    of_kind = {kind: choice for choice in classes for kind in typing.get_args(_hints(choice)["kind"])}
    if value.get("kind") not in of_kind:
        raise TypeError(f"kind: legal are {', '.join(of_kind)}; found {value.get('kind')!r}")
    return of_kind[value["kind"]]


def _missing_and_unknown(kind: type, value: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    needed = {_key(field): field.default is MISSING and field.default_factory is MISSING for field in fields(kind)}
    missing = [key for key in needed if needed[key] and key not in value]
    return missing, [key for key in value if key not in needed]


def _object(kind: type, value: Mapping[str, Any]) -> Any:
    if hasattr(kind, "from_plain"):
        return kind.from_plain(value)
    missing, unknown = _missing_and_unknown(kind, value)
    by_key = {_key(field): field for field in fields(kind)}
    if missing or unknown:
        raise TypeError(f"{kind.__name__}: legal keys are {', '.join(by_key)}; missing {missing}, unknown {unknown}")
    hints = _hints(kind)
    arguments = {}
    for key, item in value.items():
        hint = hints[by_key[key].name]
        if typing.get_origin(hint) is Literal and item not in typing.get_args(hint):
            legal = ", ".join(map(repr, typing.get_args(hint)))
            raise TypeError(f"{kind.__name__}.{key}: legal are {legal}; found {item!r}")
        arguments[by_key[key].name] = made(hint, item)
    return kind(**arguments)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
