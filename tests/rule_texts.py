"""The rules as they are written: the directives of each, by its name."""

from __future__ import annotations

import re

from repository import ROOT as REPOSITORY

RULE_FILES = sorted((REPOSITORY / "rules").glob("*.smk"))
#: Rules that read the benchmarks of all others: their own would never be in them.
READ_BENCHMARKS = {"collect_costs", "draw_cost", "cost_methods", "draw_method_costs", "write_run_page"}


def rules():
    """Return the directives of each rule, as they are written, by the rule's name."""
    # a rule ends where something stands as far to the left as it does
    rule = re.compile(r"^( *)rule (\w+):\n((?:(?:\1 +.*)?\n)+)", re.MULTILINE)
    directive = re.compile(r"^ +(\w+):\n((?: {8,}.*\n)+)", re.MULTILINE)
    found = {}
    for path in RULE_FILES:
        for match in rule.finditer(path.read_text("utf-8")):
            body = match[3].replace(match[1] + "    ", "    ") if match[1] else match[3]
            found[match[2]] = {part[1]: part[2] for part in directive.finditer(body)}
    return found


RULES = rules()
WORKING = [name for name, directives in RULES.items() if "output" in directives]
#: Folders that have names: of one trained model, one selection, one comparison.
FOLDERS = dict(
    re.findall(r'^([A-Z]+) = "(results/.*)"$', (REPOSITORY / "rules/common.smk").read_text("utf-8"), re.MULTILINE)
)
