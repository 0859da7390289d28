"""Ids of images that are safe in paths, and the shards and parts that images fall into by their ids.

Imports nothing but the standard library: it is used while jobs are planned.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

#: What an id must match to be used in paths as it is.
SAFE = re.compile(r"[a-z0-9][a-z0-9._-]*")

_MARKED = re.compile(r".*--[0-9a-f]{10}")
_LONGEST = 100


def safe_id(text: str) -> str:
    """Return an id that is safe in file names and wildcards, and different for any two texts.

    Parameters
    ----------
    text : str
        Any text, as in a sheet.

    Returns
    -------
    str
        `text` itself if it matches ``[a-z0-9][a-z0-9._-]*``, has no ``..`` and at most 100 characters. Otherwise the
        nearest such text, ``--`` and ten digits of the SHA-256 of `text`. A text that already ends in ``--`` and ten
        hexadecimal digits gets such an ending too, so that it cannot equal the id of another text.

    Examples
    --------
    >>> safe_id("case-7.a")
    'case-7.a'
    >>> safe_id("Case 7/A"), safe_id("case 7/a")
    ('case-7-a--0274e6f89b', 'case-7-a--1bbb4590b6')
    """
    if SAFE.fullmatch(text) and ".." not in text and len(text) <= _LONGEST and not _MARKED.fullmatch(text):
        return text
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"\.{2,}|[^a-z0-9._-]+", "-", plain).lstrip("._-")
    ending = "--" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return (stem[: _LONGEST - len(ending)].rstrip("._-") or "id") + ending


def bucket(text: str, n: int) -> int:
    """Return the number of the shard or part that `text` belongs to, 0 to n - 1: its SHA-256 modulo `n`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") % n


def part_ids(n_parts: int) -> list[str]:
    """Return the ids of a table's parts: ``part-00``, ``part-01`` and so on."""
    return [f"part-{number:02d}" for number in range(n_parts)]
