"""Images and files of a large table, known by hashes of 64 bits: which rows are the first of their image, which files
exist.

Of a million images nothing else stays in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any


class FirstRows:
    """Finds the first row of each image.

    Notes
    -----
    Two hashes an image are kept, sorted, in two arrays: 16 bytes an image, and as much again while rows are added.
    """

    # ASSUME that no two images have the same hash: among a million the odds are one in thirty million
    def __init__(self) -> None:
        import numpy as np

        self._images = np.empty(0, np.uint64)
        self._labels = np.empty(0, np.uint64)

    def find(self, images: Sequence[str], labels: Sequence[str]) -> tuple[Any, Any]:
        """Add rows.

        Parameters
        ----------
        images, labels : sequence of str, length n
            What identifies the image, and the label, of rows that follow those added before.

        Returns
        -------
        first : ndarray of bool, shape (n,)
            Whether no row before has this image.
        same : ndarray of bool, shape (n,)
            Whether the image's first row has this label.
        """
        import numpy as np

        keys, values = hashes(images, len(images)), hashes(labels, len(labels))
        new, index, inverse = np.unique(keys, return_index=True, return_inverse=True)
        place = np.searchsorted(self._images, new)
        known = place < len(self._images)
        known[known] = self._images[place[known]] == new[known]
        label_of = values[index]
        label_of[known] = self._labels[place[known]]
        first = np.zeros(len(keys), bool)
        first[index[~known]] = True
        self._images = np.insert(self._images, place[~known], new[~known])
        self._labels = np.insert(self._labels, place[~known], label_of[~known])
        return first, label_of[inverse] == values


class Files:
    """Tells which files exist, from one listing of each folder.

    Notes
    -----
    8 bytes a file are kept. Names are case-sensitive, also on a disk that is not.

    Examples
    --------
    >>> Files().present([__file__, __file__ + ".missing"]).tolist()
    [True, False]
    """

    def __init__(self) -> None:
        self._folders: dict[str, Any] = {}

    def present(self, paths: Sequence[str]) -> Any:
        """Return whether each file exists, ndarray of bool, shape (n,).

        Raises
        ------
        OSError
            If a folder exists and cannot be listed.
        """
        import numpy as np

        exist = np.zeros(len(paths), bool)
        members: dict[str, list[int]] = {}
        for place, path in enumerate(paths):
            members.setdefault(os.path.dirname(path), []).append(place)
        for folder, places in members.items():
            if folder not in self._folders:
                self._folders[folder] = _listed(folder)
            names = self._folders[folder]
            asked = hashes((os.path.basename(paths[place]) for place in places), len(places))
            at = np.searchsorted(names, asked)
            inside = at < len(names)
            inside[inside] = names[at[inside]] == asked[inside]
            exist[places] = inside
        return exist


def _listed(folder: str) -> Any:
    """Return the sorted hashes of the names in a folder, ndarray of uint64; none if there is no such folder."""
    import numpy as np

    try:
        with os.scandir(folder or ".") as entries:
            names = hashes(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return np.empty(0, np.uint64)
    names.sort()
    return names


def hashes(texts: Iterable[str], n: int = -1) -> Any:
    """Return a hash of 64 bits (BLAKE2b) of each of `n` texts (-1: all), ndarray of uint64, shape (n,)."""
    from hashlib import blake2b

    import numpy as np

    each = (
        int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")
        for text in texts
    )
    return np.fromiter(each, np.uint64, n)
