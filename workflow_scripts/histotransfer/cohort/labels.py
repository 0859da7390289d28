"""The class of each tile, by task. Labels are joined where models learn, so a corrected label re-extracts nothing."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from histotransfer import store
from histotransfer.definitions import RegionRule, Regions
from histotransfer.regions import annotations
from histotransfer.sheets import samples
from histotransfer.slides.grid import KeptTiles, read_kept

log = logging.getLogger("histotransfer")


COLUMNS = ("tile", "image", "slide", "patient", "label")

# ASSUME: a share that is nearer to its threshold than this is equal to it, and so not above it: the area of an outline
# with slanted edges is off by some 1e-12 of a tile, and a threshold of 0.2 is no number that a computer has.
ROUNDING = 1e-9


def label_slide(*, grid: str, labels: str, group: dict[str, str], label: str, classes: dict[str, str]) -> None:
    """Write the label of every kept tile of a slide: the class of the slide's own label.

    Parameters
    ----------
    grid : path
        What :func:`histotransfer.slides.grid.write_grid` wrote.
    labels : path
        The table to write: tile, image, slide, patient, label; an empty label takes part in nothing but prediction.
    group : dict
        ``slide`` and ``patient`` of the sheet.
    label : str
        The sheet's label.
    classes : dict
        Class of each label that the task counts.
    """
    kept = read_kept(grid)
    names = kept.tile if kept.attributes["status"] == "ok" else []
    same = {"image": kept.attributes["slide"], **group, "label": classes.get(label, "")}
    store.write_table(labels, COLUMNS, ({"tile": name, **same} for name in names))


def label_regions(
    *,
    grid: str,
    description: str,
    annotation: str | list[str],
    labels: str,
    fractions: str,
    group: dict[str, str],
    label: str,
    classes: dict[str, str],
    class_names: Sequence[str],
    regions: Regions,
) -> None:
    """Write the label of every kept tile of a slide by the regions that are annotated on it.

    Parameters
    ----------
    grid, description : path
        What :func:`histotransfer.slides.grid.write_grid` and :func:`histotransfer.slides.reader.inspect_slide` wrote.
    annotation : path, or empty list
        See :func:`histotransfer.regions.annotations.read`; empty where the sheet has none.
    labels : path
        The table to write, as :func:`label_slide` does.
    fractions : path
        The table to write: ``tile``, then for each class of `class_names` the share of the tile's area that counts for
        it, with six digits.
    group : dict
        ``slide`` and ``patient`` of the sheet.
    label : str
        The sheet's label, for slides without an annotation where ``without`` is ``label``.
    classes : dict
        Class of each label that the task counts.
    class_names : sequence of str
        The task's classes.
    regions : Regions
        A tile has the class of the first rule that holds.

    Raises
    ------
    histotransfer.regions.areas.AnnotationError
        With every problem of the annotation.

    References
    ----------
    Takahama S et al. (2019). Multi-stage pathological image classification using semantic segmentation. ICCV, section
    4.1: tumour where over 20 % of the pixels are annotated tumour; of the others, normal where over 80 % are annotated
    normal; else no label.
    """
    kept = read_kept(grid)
    names = kept.tile if kept.attributes["status"] == "ok" else []
    shares: Mapping[str, np.ndarray] = {}
    if names and annotation:
        shares = _annotated_shares(kept, store.read_json(description)["size"], annotation, regions)
    elif names:
        whole = classes.get(label, "") if regions.without == "label" else regions.without
        shares = {whole: np.ones(len(names))}
    none = np.zeros(len(names))
    shares = {name: shares.get(name, none) for name in class_names}
    tile_labels = _first_that_holds(shares, regions.rules, len(names))
    same = {"image": kept.attributes["slide"], **group}
    store.write_table(fractions, ("tile", *class_names), _fraction_rows(names, shares))
    pairs = zip(names, tile_labels, strict=True)
    store.write_table(labels, COLUMNS, ({"tile": tile, **same, "label": tile_label} for tile, tile_label in pairs))
    if names:
        log.info("%s: %s", kept.attributes["slide"], _summary(tile_labels, shares, regions.rules))


def _annotated_shares(
    kept: KeptTiles, l0_size: Sequence[int], annotation: str, regions: Regions
) -> dict[str, np.ndarray]:
    size = int(kept.attributes["l0_size"])
    read = annotations.read(
        annotation, regions=regions, l0_size=tuple(l0_size), l0_scanned=annotations.scanned_corner(kept)
    )
    shares = read.shares(kept.coords[:, 0], kept.coords[:, 1], size)
    if not read.is_empty and not shares.any():
        log.info("%s: no region lies on a tile; is it the annotation of %s?", annotation, kept.attributes["slide"])
    return annotations.class_shares(shares, regions)


def _first_that_holds(shares: Mapping[str, np.ndarray], rules: Sequence[RegionRule], n_tiles: int) -> list[str]:
    tile_labels = np.full(n_tiles, "", object)
    for rule in reversed(rules):
        tile_labels[shares[rule.of] > rule.above + ROUNDING] = rule.of
    return tile_labels.tolist()


def _fraction_rows(names: Sequence[str], shares: Mapping[str, np.ndarray]) -> Iterator[dict[str, str]]:
    for place, name in enumerate(names):
        yield {"tile": name, **{class_name: f"{share[place]:.6f}" for class_name, share in shares.items()}}


def _summary(tile_labels: Sequence[str], shares: Mapping[str, np.ndarray], rules: Sequence[RegionRule]) -> str:
    """Return how many tiles have which label; if none has any, how near they came."""
    n, counts = len(tile_labels), Counter(tile_labels)
    if counts[""] == n:
        near = ", ".join(f"{rule.of} {shares[rule.of].max():.3f} of above {rule.above:g}" for rule in rules)
        return f"none of {n:,} tiles has a label; the largest shares of a tile: {near}"
    counted = ", ".join(f"{counts[name]:,} {name}" for name in shares)
    return f"{n:,} tiles: {counted}, {counts['']:,} without a label"


def label_part(
    *, sheet: str, table: str, labels: str, kind: str, root: str, part: str, n_parts: int, classes: dict[str, str]
) -> None:
    """Write the label of every row of one part of a table of patches or points.

    Parameters
    ----------
    sheet, table : path
        The sample sheet and what :func:`histotransfer.sheets.samples.check_table` wrote.
    labels : path
        The table to write, as :func:`label_slide` does; rows of which no tile could be made are in it too.
    kind, root, part, n_parts
        See :func:`histotransfer.sheets.samples.rows_of_part`.
    classes : dict
        Class of each label that the task counts.
    """
    rows = samples.rows_of_part(sheet=sheet, kind=kind, root=root, part=part, n_parts=n_parts)
    store.write_table(labels, COLUMNS, ({**row._asdict(), "label": classes.get(row.label, "")} for row in rows))


def gather(*, label_files: Sequence[str], labels: str) -> None:
    """Write the labels of all slides, or of all parts of a table, into one table, in the order of the files.

    Jobs that learn or count read this table alone: a study of a thousand slides has hundreds of models, and Snakemake
    looks at each input of each job.

    Parameters
    ----------
    label_files : list of path
        What :func:`label_slide` or :func:`label_part` wrote.
    labels : path
        The table to write.
    """
    header = "\t".join(COLUMNS) + "\n"
    with store.replacing(labels) as part, open(part, "w", encoding="utf-8", newline="") as table:
        table.write(header)
        for path in label_files:
            with open(path, encoding="utf-8", newline="") as file:
                columns = file.readline()
                if columns != header:
                    legal = f"must begin with the columns {', '.join(COLUMNS)}"
                    raise ValueError(f"{path}: {legal}; found {columns.split()}")
                # copied as it is: a million rows are not held
                shutil.copyfileobj(file, table)
