"""Which images are in the study, and why the others are not. The one place that knows ``on_bad_slide``."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import Any

from histotransfer import store
from histotransfer.sheets import foreign_tables, ids, samples
from histotransfer.slides.grid import read_kept

log = logging.getLogger("histotransfer")


COLUMNS = (
    *("image", "image_in_sheet", "slide", "patient", "labels", "split"),
    *("status", "reason", "tiles", "excluded_tiles", "notice", "stands_for"),
)


class ExcludedSlidesError(ValueError):
    """Slides that cannot be used, under ``on_bad_slide: fail``; all of them are named."""


def gather_slides(
    *,
    descriptions: list[str],
    grids: list[str],
    cut: list[str],
    slides_table: str,
    sheet_rows: dict[str, dict[str, str]],
    on_bad_slide: str,
) -> None:
    """Write one row a slide asked for, with what became of it.

    Parameters
    ----------
    descriptions, grids : list of path
        Of every slide, in the same order.
    cut : list of path
        The pixel files of every slide and size, or the feature manifests where pixels are streamed: a slide that
        failed in one of them is in no method.
    slides_table : path
        The table to write.
    sheet_rows : dict
        By safe id: ``slide``, ``patient``, ``label``, ``split`` of the sheet.
    on_bad_slide : {'exclude', 'fail'}

    Raises
    ------
    ExcludedSlidesError
        Under ``fail``, naming every slide that cannot be used; and always if none can.
    """
    failed = _failed_later(cut)
    rows = []
    for description, grid in zip(descriptions, grids, strict=True):
        known, kept = store.read_json(description), read_kept(grid)
        slide = known["slide"]
        status, reason = kept.attributes["status"], kept.attributes["reason"]
        if status == "ok" and slide in failed:
            status, reason = failed[slide]
        n_tiles = len(kept.tile) if status == "ok" else 0
        sheet = sheet_rows[slide]
        rows.append(
            {
                "image": slide,
                "image_in_sheet": known["image_in_sheet"],
                **{name: sheet[name] for name in ("slide", "patient", "split")},
                "labels": json.dumps({sheet["label"]: n_tiles} if sheet["label"] else {}, ensure_ascii=False),
                "status": status,
                "reason": reason,
                "tiles": n_tiles,
                "excluded_tiles": 0,
                "notice": kept.attributes.get("notice", ""),
                "stands_for": 1,
            }
        )
    _judge([row for row in rows if row["status"] != "ok"], len(rows), on_bad_slide)
    store.write_table(slides_table, COLUMNS, rows)


def _failed_later(cut: list[str]) -> dict[str, tuple[str, str]]:
    """Return status and reason of the slides that could not be cut, from pixel files or feature manifests."""
    import h5py

    failed = {}
    for path in cut:
        if path.endswith(".json"):
            outcomes = [(entry["slide"], entry["status"], entry["reason"]) for entry in store.read_json(path)["slides"]]
        else:
            with h5py.File(path, "r") as file:
                outcomes = [tuple(file.attrs[name] for name in ("slide", "status", "reason"))]
        failed.update({slide: (status, reason) for slide, status, reason in outcomes if status != "ok"})
    return failed


def gather_table(
    *,
    sheet: str,
    table: str,
    cut: list[str],
    slides_table: str,
    kind: str,
    root: str,
    on_bad_slide: str,
    left_out: str | list[str] = (),
) -> None:
    """Write one row an image of a table of patches or points, with the tiles it gave and those it did not.

    Images that were left out of a third-party table share one row for each reason; `stands_for` is their number.

    Parameters
    ----------
    sheet, table : path
        The sample sheet and what :func:`histotransfer.sheets.samples.check_table` wrote.
    cut : list of path
        The pixel files of every part and size.
    slides_table : path
        The table to write.
    kind, root
        See :func:`histotransfer.sheets.samples.rows_of_part`.
    on_bad_slide : {'exclude', 'fail'}
    left_out : path, or empty list
        What :func:`histotransfer.sheets.foreign_tables.filter_rows` counted, if the sheet is made of a third-party
        table. These images were left out on purpose: ``fail`` is about the others.

    Raises
    ------
    ExcludedSlidesError
        See :func:`gather_slides`; here images.
    """
    excluded = _excluded_rows(cut)
    images: dict[str, _Image] = {}
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    one_of: dict[Any, Any] = {}
    every = ids.part_ids(1)[0]
    for row in samples.rows_of_part(sheet=sheet, kind=kind, root=root, part=every, n_parts=1):
        image = images.get(row.image)
        if image is None:
            # what many images share is kept once, so that of each of a million 200 bytes are held
            slide, patient, split = (one_of.get(value, value) for value in (row.slide, row.patient, row.split))
            if slide != row.image:
                one_of[slide] = slide
            one_of[patient], one_of[split] = patient, split
            image = images[row.image] = _Image(row.image if slide == row.image else slide, patient, split)
        reason = excluded.get((row.image, row.tile))
        if reason is not None:
            image.excluded_tiles += 1
            reasons[row.image][reason] += 1
        else:
            image.tiles += 1
            counts = dict(image.labels)
            counts[row.label] = counts.get(row.label, 0) + 1
            labels = tuple(sorted(counts.items()))
            image.labels = one_of.setdefault(labels, labels)
    bad = [_table_row(name, images[name], reasons) for name in sorted(images) if not images[name].tiles]
    _judge(bad, len(images), on_bad_slide)
    rows_left_out = _rows_left_out(store.read_json(left_out)) if left_out else []
    rows = (_table_row(name, images[name], reasons) for name in sorted(images))
    store.write_table(slides_table, COLUMNS, chain(rows, rows_left_out))


@dataclass(slots=True)
class _Image:
    """What is known of an image, in few bytes: there may be a million images."""

    slide: str
    patient: str
    split: str
    tiles: int = 0
    excluded_tiles: int = 0
    labels: tuple[tuple[str, int], ...] = ()


def _table_row(name: str, image: _Image, reasons: dict[str, Counter[str]]) -> dict[str, Any]:
    most = "; ".join(f"{reason} ({n})" for reason, n in reasons[name].most_common(3)) if name in reasons else ""
    labels = {label: n for label, n in image.labels if label}
    return {
        **{"image": name, "image_in_sheet": name, "slide": image.slide, "patient": image.patient},
        "labels": json.dumps(labels, ensure_ascii=False),
        "split": image.split,
        "status": "ok" if image.tiles else "unreadable",
        "reason": "" if image.tiles else most,
        "tiles": image.tiles,
        "excluded_tiles": image.excluded_tiles,
        "notice": f"left out: {most}" if image.tiles and most else "",
        "stands_for": 1,
    }


def _rows_left_out(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row a reason for which images were left out of a table, and log all of them in one line."""
    log.info("%s", foreign_tables.in_one_line(summary))
    rows = []
    for group in summary["left_out"]:
        first = f"; the first is row {group['first_row']}" + (f", {group['example']}" if group["example"] else "")
        rows.append(
            {
                "image": "",
                "image_in_sheet": f"{group['images']:,} of {summary['rows']:,} rows of {summary['source']}",
                **{"slide": "", "patient": "", "labels": "{}", "split": "", "tiles": 0, "excluded_tiles": 0},
                "status": group["status"],
                "reason": group["reason"] + first,
                "notice": "",
                "stands_for": group["images"],
            }
        )
    return rows


def _excluded_rows(cut: list[str]) -> dict[tuple[str, str], str]:
    import h5py

    excluded = {}
    for path in cut:
        with h5py.File(path, "r") as file:
            group = file["excluded"]
            names = (store.read_texts(group, name) for name in ("image", "tile", "reason"))
            excluded.update({(image, tile): reason for image, tile, reason in zip(*names, strict=True)})
    return excluded


def _judge(bad: list[dict[str, Any]], n_images: int, on_bad_slide: str) -> None:
    counts = Counter(row["status"] for row in bad)
    summary = f"{n_images - len(bad)} of {n_images} images are used"
    if bad:
        summary += "; excluded: " + ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    lines = "".join(f"\n  {row['image_in_sheet']}: {row['status']}: {row['reason']}" for row in bad)
    if bad and on_bad_slide == "fail":
        raise ExcludedSlidesError(f"{summary} (on_bad_slide: fail){lines}")
    if len(bad) == n_images:
        raise ExcludedSlidesError(f"no image is left: {summary}{lines}")
    log.info("%s%s", summary, ", see slides.tsv and the report" if bad else "")
    for row in bad:
        log.debug("excluded %s: %s: %s", row["image_in_sheet"], row["status"], row["reason"])
