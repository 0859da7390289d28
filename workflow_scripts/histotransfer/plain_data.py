"""Objects of a study as plain data, which rules pass on and files store, and back.

Dictionaries, lists, texts and numbers: what JSON has. Snakemake sees that a param has changed by its text, and passes
over params that are objects of other classes, so that a change of theirs would rerun nothing.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

Made = TypeVar("Made")

_MAPPINGS = (dict, Mapping)


def plain(value: Any) -> Any:
    """Return a dataclass, or what holds some, as dictionaries and lists, which :func:`made` takes back.

    Where a class has a method ``plain``, that gives its plain form.
    """
    if is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "plain"):
            return value.plain()
        return {_key(one): plain(getattr(value, one.name)) for one in fields(value)}
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
        A dataclass, or any annotation made of such classes, of ``|``, tuples and mappings. Where several
        classes may be meant, the one is taken whose ``kind`` the data says; where they have no ``kind``, the one
        whose keys the data has. A class that has a classmethod ``from_plain`` is made by it.
    value : object
        Plain data. What is such an object already is returned as it is.

    Raises
    ------
    TypeError
        If a key is missing or unknown, or no class of the annotation has the data's ``kind`` or keys.

    Examples
    --------
    >>> from histotransfer.definitions import Adam, Sgd
    >>> made(Sgd | Adam, {"kind": "adam", "beta_1": 0.99}).beta_2
    0.999
    >>> from histotransfer.feature_kinds import FeatureSet
    >>> made(FeatureSet, {"image": {"cell_px": 4}})
    SlideImage(image=Reduction(cell_px=4))
    """
    if isinstance(value, Mapping) and (classes := _classes(kind)):
        return _object(_meant(classes, value), value)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        several = [one for one in typing.get_args(kind) if typing.get_origin(one) in (tuple, *_MAPPINGS)]
        return made(several[0], value) if len(several) == 1 and isinstance(value, (list, tuple, Mapping)) else value
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = typing.get_args(kind)[0]
        return tuple(made(inner, one) for one in value)
    if origin in _MAPPINGS and isinstance(value, Mapping):
        inner = typing.get_args(kind)[1]
        return {key: made(inner, one) for key, one in value.items()}
    return value


def _key(one: Any) -> str:
    return one.metadata.get("plain", one.name)


def _classes(kind: Any) -> list[type]:
    """Return the dataclasses among which an annotation chooses."""
    several = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    return [one for one in several if isinstance(one, type) and is_dataclass(one)]


def _meant(classes: Sequence[type], value: Mapping[str, Any]) -> type:
    """Return the class that the data describes: by its ``kind``, or where the classes have none by its keys."""
    if len(classes) == 1:
        return classes[0]
    if any("kind" not in _hints(one) for one in classes):
        fitting = [one for one in classes if not any(_missing_and_unknown(one, value))]
        if len(fitting) != 1:
            legal = "; ".join(", ".join(map(_key, fields(one))) for one in classes)
            raise TypeError(f"keys: legal are those of one of these: {legal}; found {', '.join(value) or 'none'}")
        return fitting[0]
    kinds = {kind: one for one in classes for kind in typing.get_args(_hints(one)["kind"])}
    if value.get("kind") not in kinds:
        raise TypeError(f"kind: legal are {', '.join(kinds)}; found {value.get('kind')!r}")
    return kinds[value["kind"]]


def _missing_and_unknown(kind: type, value: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    keys = {_key(one): one.default is MISSING and one.default_factory is MISSING for one in fields(kind)}
    return [key for key, needed in keys.items() if needed and key not in value], [k for k in value if k not in keys]


def _object(kind: type, value: Mapping[str, Any]) -> Any:
    if hasattr(kind, "from_plain"):
        return kind.from_plain(value)
    missing, unknown = _missing_and_unknown(kind, value)
    own = {_key(one): one.name for one in fields(kind)}
    if missing or unknown:
        raise TypeError(f"{kind.__name__}: legal keys are {', '.join(own)}; missing {missing}, unknown {unknown}")
    hints = _hints(kind)
    return kind(**{own[key]: made(hints[own[key]], inner) for key, inner in value.items()})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
