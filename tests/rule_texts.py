"""The rules as they are written: the directives of each, by its name, and how long each is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from repository import ROOT as REPOSITORY

from histotransfer.study import paths

RULE_FILES = sorted((REPOSITORY / "rules").glob("*.smk"))
#: Rules that read the benchmarks of all others: their own would never be in them.
READ_BENCHMARKS = {"collect_costs", "draw_cost", "cost_methods", "draw_method_costs", "write_run_page"}

# a rule ends where something stands as far to the left as it does
_RULE = re.compile(
    r"^(?P<indent> *)(?:rule|use rule (?P<base>\w+) as) (?P<name>\w+)(?: with)?:\n"
    r"(?P<body>(?:(?:(?P=indent) +.*)?\n)+)",
    re.MULTILINE,
)
_DIRECTIVE = re.compile(r"^ +(\w+):\n((?: {8,}.*\n)+)", re.MULTILINE)


def written_rules(text: str) -> Iterator[re.Match]:
    """Give each rule of a rule file as a match: ``indent``, ``name``, ``body``, and the ``base`` that it extends."""
    return _RULE.finditer(text)


def rules() -> dict[str, dict[str, str]]:
    """Return the directives of each rule, as they are written, by the rule's name.

    A rule that is another one `with` something has the directives of that one besides its own.
    """
    directives, bases = {}, {}
    for path in RULE_FILES:
        for match in written_rules(path.read_text("utf-8")):
            indent, name = match["indent"], match["name"]
            body = match["body"].replace(indent + "    ", "    ") if indent else match["body"]
            directives[name] = {part[1]: part[2] for part in _DIRECTIVE.finditer(body)}
            bases[name] = match["base"]
    return {name: {**directives.get(bases[name], {}), **own} for name, own in directives.items()}


def lengths(folder: Path) -> dict[str, int]:
    """Return the number of lines of each rule in the rule files of a folder, by the rule's name."""
    return {
        match["name"]: len(match[0].strip().splitlines())
        for path in folder.glob("*.smk")
        for match in written_rules(path.read_text("utf-8"))
    }


RULES = rules()
WORKING = [name for name, directives in RULES.items() if "output" in directives]
#: The patterns of paths that have names.
PATTERNS = {name: pattern for name, pattern in vars(paths).items() if name.isupper()}
