"""Trains a head on features; prints how many networks were built, and how many files of pixels and features opened.

Usage: head_on_features.py < ARGUMENTS of the step, as JSON. Python itself says of every file that it is opened, and
networks are built in one way alone.
"""

import functools
import json
import sys

import measuring

from histotransfer.networks import building

STEP = "training.head_on_features.train_head"


def counted(function, calls):
    """Return the function, which leaves a mark in `calls` each time."""

    @functools.wraps(function)
    def counting(*arguments, **named):
        calls.append(function.__name__)
        return function(*arguments, **named)

    return counting


if __name__ == "__main__":
    opened, built = [], []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    for name in ("trunk", "build"):
        setattr(building, name, counted(getattr(building, name), built))
    measuring.call(STEP, **json.load(sys.stdin))
    print(len(built), sum("/pixels/" in path for path in opened), sum("/features/" in path for path in opened))
