"""Lists of labels that are written as text in one cell of a table, as in ``['Breast', 'Renal']``."""

from __future__ import annotations

import re
from functools import lru_cache

#: Longest cell that is read as a list of labels, in characters. Python's parser never gets more.
LONGEST_LIST = 10_000


class LabelListError(ValueError):
    """A cell is not a list of labels.

    Attributes
    ----------
    legal, found : str
        What is legal, and what the cell has.
    """

    def __init__(self, legal: str, found: str) -> None:
        super().__init__(f"{legal}; found {found}")
        self.legal, self.found = legal, found


@lru_cache(maxsize=4096)
def labels_in(cell: str) -> tuple[str, ...]:
    """Return the labels of a cell: those of a list written as text, or the cell itself.

    Parameters
    ----------
    cell : str
        ``['Breast', 'Renal']``, ``Breast``, or nothing.

    Returns
    -------
    tuple of str
        Each label once, in the order of the cell.

    Raises
    ------
    LabelListError
        If the cell begins like a list and is not a list of texts, or if a label in it is empty. The cell is never
        executed.

    Examples
    --------
    >>> labels_in("['Breast', 'Renal', 'Breast']"), labels_in("Soft tissue"), labels_in("[]")
    (('Breast', 'Renal'), ('Soft tissue',), ())
    """
    import ast

    if not cell.startswith("["):
        return (cell,) if cell else ()
    legal = "a list of labels is written like ['Breast', 'Renal']"
    if len(cell) > LONGEST_LIST:
        raise LabelListError(f"{legal}, in at most {LONGEST_LIST:,} characters", f"{len(cell):,} characters")
    try:
        labels = ast.literal_eval(cell)
    # the last three: what deeply nested brackets do to the parser
    except (ValueError, SyntaxError, MemoryError, RecursionError, OverflowError):
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise LabelListError(legal, shown(cell))
    stripped = [label.strip() for label in labels]
    if not all(stripped):
        raise LabelListError("a label in a list must not be empty", shown(cell))
    return tuple(dict.fromkeys(stripped))


def shown(text: str) -> str:
    """Return a cell as an error shows it: in quotes, on one line, at most 80 characters."""
    text = re.sub(r"\s+", " ", text)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
