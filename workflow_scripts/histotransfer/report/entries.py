"""What stands behind a page: files, each with its rule and its place, and the methods that it explains.

:mod:`histotransfer.report.contents` makes them while jobs are planned, so nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from histotransfer.feature_kinds import Source

#: Files that are shown as pictures, by their ending.
PICTURES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}

#: What the files of each section and kind hold, in words; a table of staging that is not here has a caption.
CONTENTS = {
    ("scores", "scores"): "all scores of the study, with intervals",
    ("attrition", "slides"): "every slide asked for: status, reason, tiles, labels",
    ("slides", "description"): "what a slide is: reader, size, resolution and where it came from",
    ("splits", "counts"): "groups and tiles of each class in a split",
    ("asked", "predictions"): "what a model predicts for the tiles held out",
    ("comparison", "ranks"): "scores and ranks of a comparison's methods, with their average",
    ("comparison", "differences"): "differences to a comparison's reference, with intervals",
    ("strategies", "strategies"): "each strategy's best score and the one that validation chooses",
    ("strategies", "friedman"): "whether strategies differ by more than chance",
    ("training", "accuracy"): "test accuracy of trained networks after the first, the last and the kept epoch",
    ("training", "epochs"): "losses and accuracies of trained networks by epoch",
    ("training", "steps"): "learning curves of trained networks by iteration",
    ("maps", "methods"): "accuracy, PR AUC and isolated false tiles of methods, over seeds",
    ("maps", "points"): "isolated false tiles of each model",
    ("maps", "canvases"): "pieces of tissue, and what their canvas cuts off",
    ("maps", "moved"): "share of the weights that end-to-end steps moved",
    ("maps", "index"): "names the files of maps with their SHA-256",
    ("staging", "stages"): "how the stages of patients agree with the truth",
    ("staging", "left_out"): "patients without a stage, with the reason",
    ("layers", "layers"): "scores of the layers of a network",
    ("importance", "importance"): "share of the importance that each network or layer brings",
    ("selection", "curve"): "scores of a feature elimination, by number of features",
    ("selection", "kept"): "how many features each elimination keeps",
    ("selection", "pairs"): "features that the selections of two tasks have in common",
    ("selection", "common"): "how many of the most important features must be taken for one that all tasks share",
    ("cost", "cost"): "time and memory of each rule",
    ("methods", "costs"): "costs of methods",
}

#: What the figures of each section show.
FIGURES = {
    "attrition": "slides asked for and used",
    "slides": "a slide with its kept tiles",
    "tiles": "sample tiles of a class",
    "splits": "a split",
    "scores": "scores of methods with their intervals",
    "confusion": "a confusion matrix",
    "comparison": "a comparison of methods",
    "layers": "scores of the layers of a network",
    "importance": "shares of the importance",
    "selection": "a feature elimination",
    "training": "a trained network",
    "maps": "slides with the maps of methods",
    "annotations": "a slide's annotation, its tiles and their labels",
    "staging": "from maps to stages",
}


@dataclass(frozen=True)
class Entry:
    """One file behind a page.

    Attributes
    ----------
    path : str
        Relative to the working directory.
    rule : str
        The rule that makes it.
    section, kind : str
        Where it stands on the page, and what it is there: a key of :data:`CONTENTS`, or of a figure any section and
        kind. A figure and the table behind it have the same.
    caption : str
        Title of a comparison, or of a table that :data:`CONTENTS` does not have.
    words : str
        What is said beside such a table.
    dataset, task, split, slide, class_name, features, classifier, network, architecture, comparison : str
        What it is of, as far as that is not the whole study; else "".
    seed : int or None
        Of the split.
    """

    path: str
    rule: str
    section: str
    kind: str
    caption: str = ""
    words: str = ""
    dataset: str = ""
    task: str = ""
    split: str = ""
    seed: int | None = None
    slide: str = ""
    class_name: str = ""
    features: str = ""
    classifier: str = ""
    network: str = ""
    architecture: str = ""
    comparison: str = ""

    @property
    def media_type(self) -> str | None:
        """Of a picture; None for other files."""
        return PICTURES.get(PurePath(self.path).suffix.lower())

    @property
    def is_figure(self) -> bool:
        """Whether it is shown as a picture."""
        return self.media_type is not None

    @property
    def is_table(self) -> bool:
        """Whether it is a table that the page shows and hands out."""
        return self.path.endswith(".csv")

    @property
    def contents(self) -> str:
        """What it holds, in words."""
        if self.is_figure:
            return f"figure: {FIGURES.get(self.section, self.section)}"
        return CONTENTS.get((self.section, self.kind)) or self.caption or self.kind.replace("_", " ")

    @property
    def method(self) -> str:
        """``FEATURES+CLASSIFIER``, or the one of them that it has; "" without any."""
        return "+".join(part for part in (self.features, self.classifier) if part)


def chosen(entries: Iterable[Entry], section: str, kind: str | None = None, **of: Any) -> list[Entry]:
    """Return the entries of a section (and kind) whose other fields have the values `of`, in their order."""
    return [
        entry
        for entry in entries
        if entry.section == section
        and kind in (None, entry.kind)
        and all(getattr(entry, name) == value for name, value in of.items())
    ]


def only(entries: Iterable[Entry], section: str, kind: str) -> Entry:
    """Return the one file of a section and kind that is no figure.

    Raises
    ------
    ValueError
        If there is none, or more than one.
    """
    found = [entry for entry in chosen(entries, section, kind) if not entry.is_figure]
    if len(found) != 1:
        raise ValueError(f"a page needs one file of {section}/{kind}; found {len(found)}")
    return found[0]


@dataclass(frozen=True)
class DescribedMethod:
    """A method of the chapter of maps, for the page to say in words.

    Attributes
    ----------
    features, classifier : str
        Names.
    kind : str
        Of its classifier.
    cell_px : int or None
        Pixels that a tile has on the reduced slide; None where the method sees tiles.
    sources : tuple of Source
        The networks and layers behind its features.
    trained : tuple of str
        Those of these networks that were trained on tiles of the task.
    start : str or None
        The classifier that end-to-end learning begins with.
    """

    features: str
    classifier: str
    kind: str
    sources: tuple[Source, ...] = ()
    trained: tuple[str, ...] = ()
    cell_px: int | None = None
    start: str | None = None

    @property
    def name(self) -> str:
        """``FEATURES+CLASSIFIER``."""
        return f"{self.features}+{self.classifier}"
