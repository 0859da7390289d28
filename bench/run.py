"""The table of speed and memory: each row a ratio taken within this run, of medians, with the bar it must meet.

Usage: python bench/run.py [--only WORD] [--repetitions N]
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "workflow_scripts")]

import cutting  # noqa: E402
import end_to_end  # noqa: E402
import extracting  # noqa: E402
import fitting  # noqa: E402
import merging  # noqa: E402
import planning  # noqa: E402
import selecting  # noqa: E402
import training  # noqa: E402
from measuring import Row  # noqa: E402

WORK = HERE.parent / ".bench"

#: What is measured, in the order of the table.
PARTS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "cutting": cutting.rows,
    "extracting": extracting.rows,
    "merging": merging.rows,
    "fitting": fitting.rows,
    "selecting": selecting.rows,
    "training": training.rows,
    "end-to-end": end_to_end.rows,
    "planning": planning.rows,
}


def main() -> int:
    """Print the table as it grows, and return how many bars were missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(PARTS), help="one part of the table")
    parser.add_argument("--repetitions", type=int, default=5, help="of each side of a ratio; the median counts")
    asked = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    print("| what | measured | range | bar | |\n|---|---|---|---|---|", flush=True)
    missed = 0
    for name, part in PARTS.items():
        if asked.only in (None, name):
            for row in part(WORK, asked.repetitions):
                print(row, flush=True)
                missed += not row.met
    return missed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
