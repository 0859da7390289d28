"""The pages of a study: ``report.html`` (what was asked, what was found) and ``run.html`` (what it cost).

Each page is one file that opens offline: styles inline, pictures as data URIs, no JavaScript, and a content policy
that forbids the browser to ask anything outside. Every text from data or config is escaped by the templates.
"""

from __future__ import annotations

import base64
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histotransfer import canvas, provenance, store
from histotransfer.evaluation import compared_tables, ranking, scoreboard
from histotransfer.figures.figures import STATUS_WORDS
from histotransfer.networks.groups import SOFTMAX
from histotransfer.predictions import read_attributes
from histotransfer.report import chapters
from histotransfer.report import tables as report_tables
from histotransfer.report.tables import Block, Table, file_table

#: Templates and style sheet; inputs of the rules, since no code digest covers them.
TEMPLATES = Path(__file__).parent / "templates"

#: Levels in the order in which they are reported.
LEVELS = ("tile", "slide")

_MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


@dataclass(frozen=True)
class Plate:
    """A figure on a page: its bytes, what it shows, its file and the rule behind it."""

    path: str
    rule: str
    section: str
    source: str
    width: int
    height: int
    statement: str
    fields: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.fields[name]


def write_report(
    *,
    scores: str | Path,
    slides_tables: Sequence[str | Path],
    split_counts: Sequence[str | Path],
    descriptions: Sequence[str | Path],
    predictions: Sequence[str | Path],
    figures: Sequence[str | Path],
    page: str | Path,
    datasets: Sequence[str],
    split_counts_of: Sequence[Mapping[str, str]],
    descriptions_of: Sequence[str],
    figures_of: Sequence[Mapping[str, str]],
    rules: Mapping[str, str],
    study: Mapping[str, Any],
    config: Mapping[str, Any],
    metric: str,
    code_version: str,
    templates: Sequence[str | Path] = (),
    tables: Sequence[str | Path] = (),
    tables_of: Sequence[Mapping[str, str]] = (),
    friedman: Sequence[str | Path] = (),
    friedman_of: Sequence[Mapping[str, str]] = (),
    trained: Sequence[Mapping[str, Any]] = (),
    maps: Sequence[str | Path] = (),
    map_methods: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a study's report.

    Parameters
    ----------
    scores : path
        The study's ``scores.tsv``.
    slides_tables, datasets
        ``slides.tsv`` of each dataset, and its name.
    split_counts, split_counts_of
        Tables of :func:`histotransfer.cohort.split_counts.count`, each with its ``dataset``, ``task``, ``split``,
        ``seed``.
    descriptions, descriptions_of
        ``slides/{slide}.json`` of the slides whose pictures are shown, each with its dataset.
    predictions : sequence of path
        ``predictions.h5`` of every model; only attributes are read: chosen parameters, versions.
    figures, figures_of
        Every figure, each with ``section`` (attrition, slides, tiles, splits, scores, confusion), ``rule`` (the rule
        that draws it), ``dataset``, and as far as they tell it from others ``task``, ``split``, ``seed``, ``slide``,
        ``class``, ``method``. What a figure shows stands in the figure. Figures of the chapters that compare have
        section, ``rule``, ``split``, and: comparison: ``comparison``, ``title``, ``kind`` (ranks, differences);
        layers and importance: ``features``, ``classifier``; selection: ``features``; training: ``kind`` (iterations,
        epochs, grad_cam, augmentation), ``dataset``, and ``architecture`` or ``network``; maps: ``dataset``, ``task``,
        ``seed``. Of annotations they have ``dataset``, ``task`` and ``slide``; those of staging may have a ``split``.
    page : path
        HTML to write.
    rules : mapping
        The rule behind each other input: ``scores``, ``slides_tables``, ``split_counts``, ``descriptions``,
        ``predictions``, and where there are any ``friedman``, ``training``: those of trained networks, and ``maps``.
    study, config : mapping
        The study's list (name, datasets, methods, splits, seeds) and the whole merged config.
    metric : str
        The metric of the first paragraph, for example ``balanced_accuracy``.
    code_version : str
        What tells the version of the code.
    templates : sequence of path
        The files under :data:`TEMPLATES`, named so that an edited template makes the page anew; not read otherwise.
    tables, tables_of
        CSV tables of the chapters that compare, each as :func:`histotransfer.report.chapters.read_tables` wants it:
        with ``section`` (comparison, strategies, training, layers, importance, selection), ``kind``, ``rule``,
        ``split``, and as far as they tell it from others ``comparison``, ``title``, ``features``, ``classifier``. A
        table stands with the figure that has the same of these.
    friedman, friedman_of
        Results of :func:`histotransfer.evaluation.friedman.test`, each with its ``split``.
    trained : sequence of mapping
        The study's trained networks: ``name``, ``start`` and ``recipe`` (resolved), ``start_name``.
    maps : sequence of path
        Indexes of the maps' files: :func:`histotransfer.maps.probability_maps.write_maps`.
    map_methods : sequence of mapping
        The methods of the chapter of maps, each as :func:`histotransfer.report.map_chapter.describe` wants it.

    Raises
    ------
    ValueError
        If inputs that go together are not equally long, or a table lacks a column.
    """
    _go_together("slides_tables", slides_tables, "datasets", datasets)
    _go_together("split_counts", split_counts, "split_counts_of", split_counts_of)
    _go_together("descriptions", descriptions, "descriptions_of", descriptions_of)
    _go_together("friedman", friedman, "friedman_of", friedman_of)
    runs = scoreboard.read(scores)
    plates = _plates(figures, figures_of)
    known = {
        (dataset, said["slide"]): said
        for dataset, said in zip(descriptions_of, map(store.read_json, descriptions), strict=True)
    }
    counts = [_split_block(path, about, plates) for path, about in zip(split_counts, split_counts_of, strict=True)]
    comparisons = [_comparison(key, of_key, metric, plates) for key, of_key in scoreboard.comparisons(runs).items()]
    compared = chapters.read_tables(tables, tables_of)
    tests = [
        {**about, **store.read_json(path), "path": str(path), "rule": rules["friedman"]}
        for path, about in zip(friedman, friedman_of, strict=True)
    ]
    models = _models(predictions)
    indexes = [{**store.read_json(path), "path": str(path)} for path in maps]
    made = chapters.build(
        compared,
        plates,
        tests,
        runs=runs,
        trained=trained,
        saw_labels=models["saw_labels"],
        maps={"methods": map_methods, "indexes": indexes, "names": _names(datasets, slides_tables)},
    )
    others = [("scores", scores), *(("slides_tables", path) for path in slides_tables)]
    others += [("split_counts", path) for path in split_counts]
    _write_page(
        "report.html.j2",
        page,
        title=f"Study {study['name']}",
        study=study,
        code_version=code_version,
        master_seed=config.get("seed", ""),
        config_text=_config_text(config),
        banners=_sharing_banners(runs),
        untrained=_untrained_banner(runs),
        metric=scoreboard.metric_name(metric),
        answers=comparisons,
        methods=_methods(runs),
        splits=_splits(runs, config),
        models=models,
        datasets=[
            _dataset_block(dataset, path, config, plates, known)
            for dataset, path in zip(datasets, slides_tables, strict=True)
        ],
        split_blocks=counts,
        chapters=made,
        reading=chapters.READING,
        trains=bool(trained),
        sections=_sections(made),
        files=_files(others, plates, rules, descriptions, predictions, compared, tests, indexes),
        rules=rules,
        scores_file=str(scores),
    )


def write_run_page(
    *,
    cost: str | Path,
    figures: Sequence[str | Path],
    page: str | Path,
    figures_of: Sequence[Mapping[str, str]],
    rules: Mapping[str, str],
    study: Mapping[str, Any],
    code_version: str,
    templates: Sequence[str | Path] = (),
    method_costs: str | Path | Sequence[str] = (),
) -> None:
    """Write the page of what a run cost; it is no part of the results' content.

    Parameters
    ----------
    cost : path
        Table of :func:`histotransfer.evaluation.costs.collect`.
    figures, figures_of
        As in :func:`write_report`; the section is ``cost``, or ``method_costs`` of the figure of that table.
    page : path
        HTML to write.
    rules : mapping
        The rule behind each table: ``cost``, and ``method_costs`` where there is one.
    study, code_version, templates
        As in :func:`write_report`.
    method_costs : path, or an empty list
        Table of :func:`histotransfer.evaluation.costs.of_methods`.
    """
    rows = store.read_table(cost)
    total = {
        name: sum(float(row[name] or 0) for row in rows) for name in ("jobs", "seconds_total", "cpu_seconds_total")
    }
    _write_page(
        "run.html.j2",
        page,
        title=f"Cost of study {study['name']}",
        study=study,
        code_version=code_version,
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        rows=[_cost_row(row) for row in rows],
        jobs=int(total["jobs"]),
        wall=duration(total["seconds_total"]),
        cpu=duration(total["cpu_seconds_total"]),
        highest=_mebibytes(max((float(row["rss_mb_max"] or 0) for row in rows), default=0)),
        plates=_plates(figures, figures_of),
        methods=_method_costs(method_costs, rules["method_costs"]) if method_costs else None,
        cost_file=str(cost),
        rules=rules,
    )


def duration(seconds: float) -> str:
    """Return a time as a person says it: ``0.4 s``, ``2 min 05 s``, ``3 h 07 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def _go_together(first_name: str, first: Sequence[Any], second_name: str, second: Sequence[Any]) -> None:
    if len(first) != len(second):
        raise ValueError(f"{first_name} and {second_name} go together; found {len(first)} and {len(second)}")


def _write_page(template: str, page: str | Path, **context: Any) -> None:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["anchor"] = _anchor
    environment.filters["breakable"] = _breakable
    environment.filters["counted"] = scoreboard.counted
    look = Markup((TEMPLATES / "look.css").read_text("utf-8"))
    text = environment.get_template(template).render(look=look, **context)
    with store.replacing(page) as part:
        part.write_text(text, "utf-8")


def _anchor(*parts: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def _breakable(name: str) -> Any:
    """Return a name, escaped, that a line may break after each of its signs."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[+\-_./])", name))


def _plates(paths: Sequence[str | Path], about: Sequence[Mapping[str, str]]) -> list[Plate]:
    _go_together("figures", paths, "figures_of", about)
    plates = []
    for path, fields in zip(paths, about, strict=True):
        media = _MEDIA_TYPES.get(Path(path).suffix.lower())
        if media is None:
            raise ValueError(f"a figure is one of {', '.join(_MEDIA_TYPES)}; found {path}")
        width, height = canvas.read_size(path)
        data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
        rest = {name: str(value) for name, value in fields.items() if name not in ("section", "rule")}
        plates.append(
            Plate(
                path=str(path),
                rule=fields["rule"],
                section=fields["section"],
                source=f"data:{media};base64,{data}",
                width=round(width),
                height=round(height),
                statement=canvas.read_statement(path),
                fields=rest,
            )
        )
    return plates


def _chosen(plates: Iterable[Plate], section: str, **fields: str) -> list[Plate]:
    return [
        plate
        for plate in plates
        if plate.section == section and all(plate.fields.get(name) == value for name, value in fields.items())
    ]


def _config_text(config: Mapping[str, Any]) -> str:
    import yaml

    plain = json.loads(json.dumps(config, default=str))
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=88)


def _sharing_banners(runs: Sequence[scoreboard.Run]) -> list[dict[str, str]]:
    """Return what must be said first: splits that do not hold patients apart, with their reasons."""
    found: dict[tuple[str, str, str], None] = {}
    for run in runs:
        if run.unit != "patient" or run.share_groups:
            found[run.split, run.unit, run.share_groups] = None
    # a stated reason stands before splits that need none
    ordered = sorted(found, key=lambda key: not key[2])
    return [{"split": split, "unit": unit, "reason": reason} for split, unit, reason in ordered]


def _untrained_banner(runs: Sequence[scoreboard.Run]) -> dict[str, Any] | None:
    untrained = dict.fromkeys(run.method for run in runs if run.untrained)
    if not untrained:
        return None
    methods = dict.fromkeys(run.method for run in runs)
    return {"methods": list(untrained), "all": len(untrained) == len(methods)}


def _methods(runs: Sequence[scoreboard.Run]) -> list[scoreboard.Run]:
    """Return one run of each method."""
    return list({run.method: run for run in reversed(runs)}.values())[::-1]


def _splits(runs: Sequence[scoreboard.Run], config: Mapping[str, Any]) -> list[dict[str, str]]:
    units = {run.split: run for run in runs}
    described = []
    for name, run in units.items():
        definition = dict(config.get("splits", {}).get(name, {}))
        rest = {key: value for key, value in definition.items() if key not in ("unit", "share_groups") and value}
        words = ", ".join(f"{key} {value}" for key, value in rest.items())
        described.append({"name": name, "unit": run.unit, "words": words, "reason": run.share_groups})
    return described


def _models(predictions: Sequence[str | Path]) -> dict[str, Any]:
    """Return what the prediction files say about how they were made."""
    versions: dict[str, dict[str, None]] = {}
    calibrations: dict[str, None] = {}
    rows = []
    saw: dict[str, None] = {}
    for path in predictions:
        said = read_attributes(path)
        method = "+".join(str(said[name]) for name in ("features", "classifier") if said.get(name))
        if ranking.saw_labels(said):
            saw[method] = None
        for made_by in ("features_versions", "versions"):
            for name, version in json.loads(said.get(made_by, "{}")).items():
                versions.setdefault(name, {})[version] = None
        if said.get("calibration"):
            calibrations[str(said["calibration"])] = None
        chosen = json.loads(said["chosen"]) if said.get("chosen") else {}
        rows.append(
            {
                **{name: str(said.get(name, "")) for name in ("dataset", "task", "split", "seed")},
                "method": method,
                "chosen": ", ".join(f"{name} {value}" for name, value in chosen.items()) or "nothing to choose",
                "tiles": said.get("n_train_tiles", ""),
                "groups": said.get("n_train_groups", ""),
            }
        )
    return {
        "versions": {name: ", ".join(found) for name, found in sorted(versions.items())},
        "calibrations": list(calibrations),
        "rows": rows,
        "saw_labels": list(saw),
    }


def _dataset_block(
    dataset: str,
    path: str | Path,
    config: Mapping[str, Any],
    plates: Sequence[Plate],
    known: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Any]:
    rows = store.read_table(path)
    by_image = {row["image"]: row for row in rows}
    kind = config.get("datasets", {}).get(dataset, {}).get("kind", "slides")
    excluded = [row | {"word": STATUS_WORDS.get(row["status"], row["status"])} for row in rows if row["status"] != "ok"]
    cards = []
    for plate in _chosen(plates, "slides", dataset=dataset):
        row = by_image.get(plate["slide"], {})
        said = known.get((dataset, plate["slide"]), {})
        cards.append({"plate": plate, "row": row, **_resolution(said)})
    return {
        "name": dataset,
        "noun": "slide" if kind == "slides" else "image",
        "file": str(path),
        "asked": _images(rows),
        "used": sum(row["status"] == "ok" for row in rows),
        "patients": len({row["patient"] for row in rows if row["status"] == "ok" and row["patient"]}),
        "tiles": sum(int(row["tiles"] or 0) for row in rows),
        "excluded": excluded,
        "n_excluded": _images(excluded),
        "notices": [row for row in rows if row["notice"] or int(row["excluded_tiles"] or 0)],
        "lost_tiles": sum(int(row["excluded_tiles"] or 0) for row in rows),
        "attrition": _chosen(plates, "attrition", dataset=dataset),
        "cards": cards,
        "samples": _chosen(plates, "tiles", dataset=dataset),
    }


def _names(datasets: Sequence[str], slides_tables: Sequence[str | Path]) -> dict[tuple[str, str], str]:
    """Return the name in the sheet of each image of each dataset."""
    return {
        (dataset, row["image"]): row["image_in_sheet"]
        for dataset, path in zip(datasets, slides_tables, strict=True)
        for row in store.read_table(path)
    }


def _images(rows: Sequence[Mapping[str, Any]]) -> int:
    # what was left out of somebody's table stands in one row a reason
    return sum(int(row.get("stands_for") or 1) for row in rows)


def _resolution(said: Mapping[str, Any]) -> dict[str, str]:
    mpp = said.get("mpp")
    return {"mpp": f"{float(mpp):.4g}" if mpp else "", "mpp_source": str(said.get("mpp_source") or "")}


def _split_block(path: str | Path, about: Mapping[str, str], plates: Sequence[Plate]) -> dict[str, Any]:
    rows = store.read_table(path)
    classes = list(dict.fromkeys(row["class"] for row in rows))
    parts: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        part = parts.setdefault((row["set"], row["fold"]), {"set": row["set"], "fold": row["fold"], "cells": {}})
        part["groups"] = int(row["groups_of_set"])
        part["cells"][row["class"]] = (int(row["groups"]), int(row["tiles"]))
    about = {name: str(value) for name, value in about.items()}
    return {
        **about,
        "file": str(path),
        "unit": rows[0]["unit"] if rows else "",
        "classes": classes,
        "parts": list(parts.values()),
        "plates": _chosen(plates, "splits", **about),
    }


def _comparison(
    key: tuple[str, str, str], runs: Sequence[scoreboard.Run], metric: str, plates: Sequence[Plate]
) -> dict[str, Any]:
    dataset, task, split = key
    about = {"dataset": dataset, "task": task, "split": split}
    levels = [level for level in LEVELS if any(name == level for run in runs for name, _, _ in run.estimates)]
    return {
        **about,
        "unit": runs[0].unit,
        "reason": runs[0].share_groups,
        "n_methods": len({run.method for run in runs}),
        "best": [_best(runs, level, metric) for level in levels],
        "tables": [_score_table(runs, level, metric) for level in levels],
        "by_class": [_class_table(runs, level) for level in levels],
        "plates": _chosen(plates, "scores", **about),
        "confusions": _chosen(plates, "confusion", **about),
    }


def _best(runs: Sequence[scoreboard.Run], level: str, metric: str) -> dict[str, Any]:
    """Return the highest mean of a metric with its interval, and how many other intervals overlap with it."""
    standings = scoreboard.ranking(runs, level, metric)
    level_word = scoreboard.LEVEL_WORDS.get(level, (level, f"{level}s"))[1]
    first = standings[0]
    if first.mean is None:
        notes = {estimate.note for run in runs for key, estimate in run.estimates.items() if key[:2] == (level, metric)}
        return {"level": level_word, "value": None, "note": "; ".join(sorted(note for note in notes if note))}
    tied = [one for one in standings if one.mean == first.mean]
    estimates = [estimate for one in tied for estimate in one.estimates(level, metric)]
    lows = [estimate.low for estimate in estimates if estimate.low is not None]
    highs = [estimate.high for estimate in estimates if estimate.high is not None]
    others = standings[len(tied) :]
    overlapping = 0
    for one in others:
        found = [estimate for estimate in one.estimates(level, metric) if estimate.high is not None]
        overlapping += bool(lows and found and max(estimate.high for estimate in found) >= min(lows))
    sizes = sorted({estimate.groups for estimate in estimates})
    return {
        "level": level_word,
        "methods": [{"name": one.method, "untrained": one.untrained} for one in tied],
        "untrained": any(one.untrained for one in tied),
        "value": f"{first.mean:.3f}",
        "low": f"{min(lows):.3f}" if lows else "",
        "high": f"{max(highs):.3f}" if highs else "",
        "seeds": len(first.estimates(level, metric)),
        "groups": scoreboard.counted(sizes[-1], estimates[0].unit),
        "n_methods": len(standings),
        "others": len(others),
        "overlapping": overlapping,
    }


@dataclass
class Cell:
    """A number as a table shows it: `value` in digits, ``–`` where undefined, with the `mark` of its note."""

    value: str = ""
    interval: str = ""
    mark: str = ""
    number: float | None = None
    best: bool = False


def _cell(estimate: scoreboard.Estimate | None, notes: dict[str, int]) -> Cell:
    if estimate is None:
        return Cell()
    note = estimate.note or ("" if estimate.value is not None else "no reason given")
    mark = str(notes.setdefault(note, len(notes) + 1)) if note else ""
    if estimate.value is None:
        return Cell("–", mark=mark)
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f"{estimate.low:.3f}–{estimate.high:.3f}"
    return Cell(f"{estimate.value:.3f}", interval, mark, estimate.value)


def _score_table(runs: Sequence[scoreboard.Run], level: str, metric: str) -> dict[str, Any]:
    metrics = list(dict.fromkeys(name for run in runs for of, name, cls in run.estimates if of == level and not cls))
    metrics.sort(key=lambda name: name != metric)
    notes: dict[str, int] = {}
    rows = []
    seeds = {run.seed for run in runs}
    for standing in scoreboard.ranking(runs, level, metric):
        for run in standing.runs:
            cells = [_cell(run.estimates.get((level, name, "")), notes) for name in metrics]
            rows.append({"run": run, "cells": cells, "seed": run.seed if len(seeds) > 1 else ""})
    for column in range(len(metrics) if len(rows) > 1 else 0):
        numbers = [row["cells"][column].number for row in rows if row["cells"][column].number is not None]
        best = min if metrics[column] in scoreboard.LOWER_IS_BETTER else max
        for row in rows if numbers else ():
            row["cells"][column].best = row["cells"][column].number == best(numbers)
    # rows of one class count that class alone
    estimates = [estimate for run in runs for key, estimate in run.estimates.items() if key[::2] == (level, "")]
    return {
        "level": level,
        "by_class": False,
        "level_word": scoreboard.LEVEL_WORDS.get(level, (level, f"{level}s"))[1],
        "metrics": [scoreboard.metric_name(name) for name in metrics],
        "rows": rows,
        "notes": list(notes),
        "n": _between(estimate.n for estimate in estimates),
        "groups": _between((estimate.groups for estimate in estimates), estimates[0].unit),
    }


def _between(numbers: Iterable[int], unit: str = "") -> str:
    found = sorted(set(numbers))
    last = scoreboard.counted(found[-1], unit) if unit else f"{found[-1]:,}"
    return last if len(found) == 1 else f"{found[0]:,} to {last}"


def _class_table(runs: Sequence[scoreboard.Run], level: str) -> dict[str, Any]:
    metrics = list(dict.fromkeys(name for run in runs for of, name, cls in run.estimates if of == level and cls))
    notes: dict[str, int] = {}
    rows = [
        {"run": run, "class": cls, "cells": [_cell(run.estimates.get((level, name, cls)), notes) for name in metrics]}
        for run in runs
        for cls in scoreboard.classes([run])
        if any((level, name, cls) in run.estimates for name in metrics)
    ]
    return {
        "by_class": True,
        "level_word": scoreboard.LEVEL_WORDS.get(level, (level, f"{level}s"))[1],
        "metrics": [scoreboard.metric_name(name) for name in metrics],
        "rows": rows,
        "notes": list(notes),
    }


def _sections(made: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return title and number of each chapter by its anchor; those that compare follow the scores."""
    titles = dict(_SECTIONS)
    confusion = list(titles).index("confusion")
    ordered = [*list(titles.items())[:confusion], *((one["anchor"], one["title"]) for one in made)]
    ordered += list(titles.items())[confusion:]
    return {anchor: {"title": title, "number": place} for place, (anchor, title) in enumerate(ordered, start=1)}


_SECTIONS = (
    ("asked", "What was asked, what ran"),
    ("attrition", "From slides asked for to slides used"),
    ("slides", "Slides and their tiles"),
    ("tiles", "Sample tiles of each class"),
    ("splits", "Splits"),
    ("scores", "Scores"),
    ("confusion", "Confusion matrices"),
    ("files", "Files behind this page"),
)

_CONTENTS = {
    "scores": "all scores of the study, with intervals",
    "slides_tables": "every slide asked for: status, reason, tiles, labels",
    "split_counts": "groups and tiles of each class in a split",
    "descriptions": "what a slide is: reader, size, resolution and where it came from",
    "predictions": "what a model predicts for the tiles held out",
    "attrition": "figure: slides asked for and used",
    "slides": "figure: a slide with its kept tiles",
    "tiles": "figure: sample tiles of a class",
    "splits": "figure: a split",
    "confusion": "figure: a confusion matrix",
    "comparison": "figure: a comparison of methods",
    "layers": "figure: scores of the layers of a network",
    "importance": "figure: shares of the importance",
    "selection": "figure: a feature elimination",
    "training": "figure: a trained network",
    "maps": "figure: slides with the maps of methods",
    "annotations": "figure: a slide's annotation, its tiles and their labels",
    "staging": "figure: from maps to stages",
}


def _files(
    tables: Sequence[tuple[str, str | Path]],
    plates: Sequence[Plate],
    rules: Mapping[str, str],
    descriptions: Sequence[str | Path],
    predictions: Sequence[str | Path],
    compared: Sequence[Table],
    tests: Sequence[Mapping[str, Any]],
    indexes: Sequence[Mapping[str, Any]],
) -> list[dict[str, str]]:
    """Return every file that the page is made of, with its rule; tables and figures with their SHA-256."""
    files = [(str(path), rules[name], _CONTENTS[name], True) for name, path in tables]
    files += [
        (plate.path, plate.rule, _CONTENTS.get(plate.section, f"figure: {plate.section}"), True) for plate in plates
    ]
    files += [(table.path, table.rule, table.contents, True) for table in compared]
    said = chapters.CONTENTS["strategies", "friedman"]
    files += [(test["path"], test["rule"], said, True) for test in tests]
    for index in indexes:
        n = scoreboard.counted(sum(len(slide["files"]) for slide in index["slides"]), "file")
        files.append((index["path"], rules["maps"], f"names {n} of maps with their SHA-256", True))
    files += [(str(path), rules["descriptions"], _CONTENTS["descriptions"], False) for path in descriptions]
    for path in predictions:
        # a trained network is written by the rule that trains it
        rule = rules.get("training") if Path(path).parent.name == SOFTMAX else None
        files.append((str(path), rule or rules["predictions"], _CONTENTS["predictions"], False))
    return [
        {"path": path, "rule": rule, "what": what, "sha256": provenance.file_sha256(path)[:16] if summed else ""}
        for path, rule, what, summed in files
    ]


def _cost_row(row: Mapping[str, str]) -> dict[str, str]:
    def seconds(name: str) -> str:
        return duration(float(row[name])) if row[name] else "not measured"

    def size(name: str) -> str:
        return _mebibytes(float(row[name])) if row[name] else "not measured"

    return {
        "rule": row["rule"],
        "jobs": f"{int(row['jobs']):,}",
        **{name: seconds(name) for name in ("seconds_total", "seconds_median", "seconds_max", "cpu_seconds_total")},
        **{name: size(name) for name in ("rss_mb_median", "rss_mb_max", "read_mb_total", "written_mb_total")},
    }


def _method_costs(path: str | Path, rule: str) -> Block:
    """Return the table of what each method costs."""
    table = file_table(path, {"section": "methods", "kind": "costs", "rule": rule}, "costs of methods")
    compared_tables.read(path, ("method", "score", "average_rank", *_METHOD_COSTS))
    heads = [("Method",), ("score",), ("average rank",), ("CPU time",), ("GPU time",), ("peak memory",), ("on disk",)]
    heads.append(("shared with", "other methods"))
    rows = []
    for row in table.rows:
        mark = row.get("untrained") == "yes"
        cells = [report_tables.Cell(row["method"], mark)]
        for name, form in (("score", ".3f"), ("average_rank", ".1f")):
            value = compared_tables.number(row, name, path)
            cells.append(report_tables.Cell(report_tables.said(value, form), mark and value is not None))
        for name, written in _METHOD_COSTS.items():
            value = compared_tables.number(row, name, path)
            cells.append(report_tables.Cell("not measured" if value is None else written(value)))
        rows.append([*cells, report_tables.Cell(row.get("shared_with") or "")])
    words = (
        "extraction, selection and training, over all datasets, tasks and seeds. Each method is charged the whole of "
        "what it shares with others, as if it were alone, so that costs do not add up."
    )
    numeric = [False, *(True for _ in heads[1:])]
    notes = compared_tables.notes(table.rows)
    return Block(table, heads, numeric, rows, words, "Costs of the methods", notes)


def _mebibytes(amount: float) -> str:
    return f"{amount / 1024:,.1f} GiB" if amount >= 1024 else f"{amount:,.0f} MiB"


def _disk(amount: float) -> str:
    return _mebibytes(amount / 2**20)


_METHOD_COSTS = {"cpu_seconds": duration, "gpu_seconds": duration, "peak_mb": _mebibytes, "disk_bytes": _disk}
