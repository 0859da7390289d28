"""A config and its schema: defaults are filled in at every depth, and every error becomes a sentence.

A sentence says where the error is, what is legal there, and what was found. For a pattern or a condition it has the
schema's own description.

Imports nothing heavy: it is used while jobs are planned.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from histotransfer.problems import Problem, Problems, as_number, closest, listing

_TYPES = {
    "object": "a table of keys",
    "array": "a list, as in [1, 2]",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def plain(value: Any, path: str, problems: Problems) -> Any:
    """Return a copy of a config without what a schema cannot check; add a problem for each.

    A key must be text, and a number finite.
    """
    if isinstance(value, Mapping):
        kept = {}
        for key, inner in value.items():
            if isinstance(key, str):
                kept[str(key)] = plain(inner, f"{path}.{key}" if path else str(key), problems)
            else:
                problems.add(path or "top level", "a key must be a text (put it in quotes)", shown(key))
        return kept
    if isinstance(value, (list, tuple)):
        return [plain(inner, f"{path}[{place}]", problems) for place, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        problems.add(path, "must be a finite number", shown(value))
        return 1.0
    return copy.copy(value)


class Defaults:
    """Fills in the defaults of a schema, at every depth."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema

    def filled(self, value: Any, schema: Mapping[str, Any]) -> Any:
        """Return `value` with the defaults of `schema` below it."""
        parts = list(self._parts(value, schema))
        if isinstance(value, list):
            items = [part["items"] for part in parts if isinstance(part.get("items"), Mapping)]
            return [self.filled(inner, items[0]) if items else inner for inner in value]
        if isinstance(value, float) and value.is_integer() and any("integer" in _types(part) for part in parts):
            return value if any("number" in _types(part) for part in parts) else int(value)
        if not isinstance(value, dict):
            return value
        result = dict(value)
        known: dict[str, Mapping[str, Any]] = {}
        for part in parts:
            known.update(part.get("properties", {}))
        for key, inner in known.items():
            default = [part["default"] for part in self._parts(None, inner) if "default" in part]
            if key not in result and default:
                result[key] = copy.deepcopy(default[0])
        others = [part["additionalProperties"] for part in parts if isinstance(part.get("additionalProperties"), dict)]
        for key in result:
            inner = known.get(key) or (others[0] if others else None)
            if inner is not None:
                result[key] = self.filled(result[key], inner)
        return result

    def _parts(self, value: Any, schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Yield the schemas that apply to `value`: this one, those it refers to, and those whose condition is met."""
        yield schema
        if "$ref" in schema:
            yield from self._parts(value, self._referred(schema["$ref"]))
        for part in schema.get("allOf", ()):
            kind = part["if"]["properties"]["kind"]
            given = value.get("kind") if isinstance(value, dict) else None
            if given is not None and given in kind.get("enum", [kind.get("const")]):
                yield from self._parts(value, part["then"])

    def _referred(self, reference: str) -> Mapping[str, Any]:
        return self._schema["$defs"][reference.removeprefix("#/$defs/")]


def _types(schema: Mapping[str, Any]) -> Sequence[str]:
    types = schema.get("type", ())
    return (types,) if isinstance(types, str) else types


def refused(config: Mapping[str, Any], schema: Mapping[str, Any], problems: Problems) -> set[tuple[str, ...]]:
    """Add what the schema refuses, and return the sections and definitions (paths of one or two keys) that have it."""
    from jsonschema import Draft202012Validator

    broken: set[tuple[str, ...]] = set()
    added: set[Problem] = set()
    errors = Draft202012Validator(schema).iter_errors(config)
    for error in sorted(errors, key=lambda error: ([str(key) for key in error.absolute_path], error.validator)):
        broken.add(tuple(str(key) for key in list(error.absolute_path)[:2]))
        for problem in _problems(error):
            if problem not in added:
                added.add(problem)
                problems.add(problem.place, problem.legal, problem.found)
    return broken


def _problems(error: Any) -> Iterator[Problem]:
    """Yield the problems that an error of jsonschema stands for."""
    where = _path(error.absolute_path)
    value, rule, schema = error.instance, error.validator_value, error.schema
    if error.validator == "additionalProperties":
        legal = sorted(schema["properties"])
        for key in sorted(set(value) - set(legal)):
            yield Problem(
                f"{where}.{key}".removeprefix("top level."),
                f"unknown key; legal are {listing(legal, 50)}{closest(key, legal)}",
                repr(key),
            )
    elif error.validator == "required":
        for key in rule:
            if key not in value:
                meaning = schema.get("properties", {}).get(key, {}).get("description", "")
                legal = f"the key {key!r} is missing" + (f" ({meaning.rstrip('.')})" if meaning else "")
                yield Problem(where, legal, listing(value) if value else "no key")
    elif "propertyNames" in error.absolute_schema_path:
        yield Problem(where, f"a name must be {schema.get('description', error.validator)}", repr(value))
    else:
        yield Problem(where, _legal(error.validator, rule, schema, value), shown(value))


def _legal(validator: str, rule: Any, schema: Mapping[str, Any], value: Any) -> str:
    if validator == "type":
        words = " or ".join(_TYPES[name] for name in _types({"type": rule}))
        return f"must be {words}{_hint(value, _types({'type': rule}))}"
    if validator in ("enum", "const"):
        words = [shown(word).strip("'") for word in (rule if validator == "enum" else [rule])]
        return f"must be {'one of ' if len(words) > 1 else ''}{listing(words)}{closest(value, words)}"
    limits = {
        "minimum": f"must be {rule} or more",
        "maximum": f"must be {rule} or less",
        "exclusiveMinimum": f"must be above {rule}",
        "exclusiveMaximum": f"must be below {rule}",
        "minItems": f"must have {rule} or more entries",
        "minProperties": f"must have {rule} or more keys",
        "uniqueItems": "entries must be unique",
        "minLength": f"must be a text of {rule} or more characters",
        "maxLength": f"must be a text of at most {rule} characters",
    }
    if validator in limits:
        return limits[validator]
    return f"must be {schema.get('description', f'such that {validator} is {rule!r}')}"


def _hint(value: Any, types: Sequence[str]) -> str:
    """Return how a value of the wrong type may have come about in YAML or on the command line, or nothing."""
    if isinstance(value, str) and as_number(value) is not None and {"integer", "number"} & set(types):
        return " (this is text: YAML reads 1e-4 as text, so write 1.0e-4; inside brackets, --config gives text)"
    if isinstance(value, str) and value.lower() in ("true", "false", "yes", "no") and "boolean" in types:
        return " (this is text: write it without quotes, in a file given by --configfile)"
    if "string" in types and isinstance(value, (bool, int, float)):
        return " (put it in quotes)"
    return ""


def _path(keys: Collection[Any]) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".") or "top level"


def shown(value: Any) -> str:
    """Return a value as errors show it, at most 80 characters; null is ``nothing``."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
