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

    A field's key is its name, or the entry ``plain`` of its metadata where Python does not allow that name.

    Examples
    --------
    >>> from histotransfer.definitions import RegionRule
    >>> plain((RegionRule(of="tumour", above=0.5),))
    [{'class': 'tumour', 'above': 0.5}]
    """
    if is_dataclass(value) and not isinstance(value, type):
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
        has several classes, that class is taken whose field ``kind`` allows the data's ``kind``. Other annotations
        leave the value as it is.
    value : object
        Plain data. An object that was made already is returned as it is.

    Raises
    ------
    TypeError
        If a key is missing or unknown, a value is none of its annotation's ``Literal``, or no class of the annotation
        has the data's ``kind``.

    Examples
    --------
    >>> from histotransfer.definitions import Adam, Sgd
    >>> made(Sgd | Adam, {"kind": "adam", "beta_1": 0.99}).beta_2
    0.999
    """
    choices = _choices(kind)
    if isinstance(value, Mapping) and (classes := [choice for choice in choices if _is_class(choice)]):
        return _object(_class_of_kind(classes, value), value)
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


def _class_of_kind(classes: Sequence[type], value: Mapping[str, Any]) -> type:
    if len(classes) == 1:
        return classes[0]
    of_kind = {kind: choice for choice in classes for kind in typing.get_args(_hints(choice)["kind"])}
    if value.get("kind") not in of_kind:
        raise TypeError(f"kind: legal are {', '.join(of_kind)}; found {value.get('kind')!r}")
    return of_kind[value["kind"]]


def _object(kind: type, value: Mapping[str, Any]) -> Any:
    by_key = {_key(field): field for field in fields(kind)}
    needed = [key for key, field in by_key.items() if field.default is MISSING and field.default_factory is MISSING]
    missing, unknown = [key for key in needed if key not in value], [key for key in value if key not in by_key]
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
