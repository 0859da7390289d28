"""The rules as they are written: the directives of each, by its name, and how long each is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from repository import ROOT as REPOSITORY

RULE_FILES = sorted((REPOSITORY / "rules").glob("*.smk"))
#: Rules that read the benchmarks of all others: their own would never be in them.
READ_BENCHMARKS = {"collect_costs", "draw_cost", "cost_methods", "draw_method_costs", "write_run_page"}

# a rule ends where something stands as far to the left as it does
_RULE = re.compile(r"^( *)rule (\w+):\n((?:(?:\1 +.*)?\n)+)", re.MULTILINE)
_DIRECTIVE = re.compile(r"^ +(\w+):\n((?: {8,}.*\n)+)", re.MULTILINE)


def written_rules(text: str) -> Iterator[re.Match]:
    """Give each rule of a rule file as a match: its indentation, its name and its body."""
    return _RULE.finditer(text)


def rules() -> dict[str, dict[str, str]]:
    """Return the directives of each rule, as they are written, by the rule's name."""
    directives = {}
    for path in RULE_FILES:
        for match in written_rules(path.read_text("utf-8")):
            body = match[3].replace(match[1] + "    ", "    ") if match[1] else match[3]
            directives[match[2]] = {part[1]: part[2] for part in _DIRECTIVE.finditer(body)}
    return directives


def lengths(folder: Path) -> dict[str, int]:
    """Return the number of lines of each rule in the rule files of a folder, by the rule's name."""
    return {
        match[2]: len(match[0].strip().splitlines())
        for path in folder.glob("*.smk")
        for match in written_rules(path.read_text("utf-8"))
    }


RULES = rules()
WORKING = [name for name, directives in RULES.items() if "output" in directives]
#: Folders that have names: of one trained model, one selection, one comparison.
FOLDERS = dict(
    re.findall(r'^([A-Z]+) = "(results/.*)"$', (REPOSITORY / "rules/common.smk").read_text("utf-8"), re.MULTILINE)
)
