"""Which class each tile belongs to, by task. Joined first at the classifiers: a corrected label re-extracts nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from histotransfer import samples, store, tiles

COLUMNS = ("tile", "image", "slide", "patient", "label")


def label_slide(*, grid: str, labels: str, group: dict[str, str], label: str, classes: dict[str, str]) -> None:
    """Write the label of every kept tile of a slide: the class of the slide's own label.

    Parameters
    ----------
    grid : path
        What :func:`histotransfer.tiles.write_grid` wrote.
    labels : path
        The table to write: tile, image, slide, patient, label; an empty label takes part in nothing but prediction.
    group : dict
        ``slide`` and ``patient`` of the sheet.
    label : str
        The sheet's label.
    classes : dict
        Class of each label that the task counts.
    """
    kept = tiles.read_kept(grid)
    names = kept.tile if kept.attributes["status"] == "ok" else []
    same = {"image": kept.attributes["slide"], **group, "label": classes.get(label, "")}
    store.write_table(labels, COLUMNS, ({"tile": name, **same} for name in names))


def label_part(
    *, sheet: str, table: str, labels: str, kind: str, root: str, part: str, n_parts: int, classes: dict[str, str]
) -> None:
    """Write the label of every row of one part of a table of patches or points.

    Parameters
    ----------
    sheet, table : path
        The sample sheet and what :func:`histotransfer.samples.check_table` wrote.
    labels : path
        The table to write, as :func:`label_slide` does; rows of which no tile could be made are in it too.
    kind, root, part, n_parts
        See :func:`histotransfer.samples.rows_of_part`.
    classes : dict
        Class of each label that the task counts.
    """
    rows = samples.rows_of_part(sheet=sheet, kind=kind, root=root, part=part, n_parts=n_parts)
    store.write_table(labels, COLUMNS, ({**row._asdict(), "label": classes.get(row.label, "")} for row in rows))


def gather(*, label_files: Sequence[str], labels: str) -> None:
    """Write the labels of all slides, or of all parts of a table, into one table, in the order of the files.

    Whatever learns or counts reads this one: a study of a thousand slides has hundreds of models, and Snakemake
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
                found = file.readline()
                if found != header:
                    raise ValueError(f"{path}: must begin with the columns {', '.join(COLUMNS)}; found {found.split()}")
                # copied as it is: a million rows are not held
                shutil.copyfileobj(file, table)
