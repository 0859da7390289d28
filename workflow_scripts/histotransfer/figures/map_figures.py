"""Probability maps of several methods beside slide and annotation, as figure 5 of Takahama et al. (2019) shows them.

A slide is a block: the slide and its annotation on the left, the maps of the methods in rows of three beside them, all
cut to the slide's tiles. So one file is read on a phone, where seven maps side by side would be a centimetre wide.

References
----------
Takahama S, Kurose Y, Mukuta Y et al. (2019). Multi-Stage Pathological Image Classification using Semantic Segmentation.
ICCV: figures 5 and 6.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histotransfer import canvas, seeds, store
from histotransfer.canvas import SMALL, TEXT, WIDTH
from histotransfer.evaluation.ranking import method_of
from histotransfer.maps import probability_maps, tumour_points
from histotransfer.maps.probability_maps import Grid
from histotransfer.predictions import NO_LABEL, Predictions, read_predictions
from histotransfer.problems import counted, listing

#: Maps beside slide and annotation; and the least number of pixels across that a panel is stored with.
_BESIDE, _STORED_PX = 3, 280
_LEFT, _GAP, _LINE = 4.0, 6.0, 11.5
_SIDE = (WIDTH - 2 * _LEFT - _BESIDE * _GAP) / (1 + _BESIDE)
#: A panel is at most so many times as high as its column is wide.
_TALLEST = 1.4
#: A tile that a method does not predict, beyond a canvas of fixed size.
_UNPREDICTED = "#E4DFE8"


@dataclass(frozen=True)
class _Method:
    name: str
    untrained: bool
    held_out: Predictions
    rows: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Pixels(canvas.Inset):
    """A picture within a chart, stored without loss: its cells have sharp edges."""

    def element(self) -> str:
        buffer = io.BytesIO()
        self.picture.save(buffer, format="PNG", optimize=True)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        place = f'x="{self.left:g}" y="{self.top:g}" width="{self.width:g}" height="{self.height:g}"'
        return f'<image {place} preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'


def draw_maps(
    *,
    predictions: Sequence[str],
    grids: Sequence[str],
    descriptions: Sequence[str],
    overlays: Sequence[str],
    figure: str | Path,
    master_seed: int,
    at_most: int = 6,
) -> str:
    """Draw test slides with their annotation and the map of each method.

    Parameters
    ----------
    predictions : sequence of path
        Of the methods, in the order of their maps, all of one dataset, task, split and seed.
    grids, descriptions, overlays : sequence of path
        ``tiles/{slide}.h5``, ``slides/{slide}.json`` and ``tissue/{slide}.jpg`` of the dataset's slides, in one order.
    figure : path
        SVG to write.
    master_seed : int
        Draws the slides: those with a tile of the second class (of more classes: of any but the first) as far as there
        are, then others.
    at_most : int
        Slides.

    Returns
    -------
    str
        What the figure shows, and of two classes how many isolated false tiles each method has on these slides.

    Raises
    ------
    ValueError
        If there is no method, they are not of one comparison, or a slide has no grid.
    """
    if not len(grids) == len(descriptions) == len(overlays):
        found = f"{len(grids)}, {len(descriptions)} and {len(overlays)}"
        raise ValueError(f"each slide has a grid, a description and an overlay; found {found}")
    methods, compared = _read_methods(predictions)
    by_slide = {Path(path).stem: rest for path, *rest in zip(grids, grids, descriptions, overlays, strict=True)}
    truth = _truth(methods)
    absent = sorted(set(truth) - set(by_slide))
    if absent:
        raise ValueError(
            f"{predictions[0]}: every predicted slide must have a grid; found none of {listing(absent, 5)}"
        )
    shown = choose(truth, at_most=at_most, master_seed=master_seed)
    if not shown:
        return canvas.draw_nothing(figure, "No test tile was predicted.")
    blocks = [_block(slide, by_slide[slide], truth[slide], methods, compared.classes) for slide in shown]
    statement = _statement(compared, methods, shown, len(truth))
    _draw(blocks, methods, compared.classes, figure, statement)
    return statement


def choose(truth: Mapping[str, Mapping[str, int]], *, at_most: int, master_seed: int) -> list[str]:
    """Return the slides to show: those with a tile of another class than the first, then others, as the seed draws.

    Parameters
    ----------
    truth : mapping
        Slide to the class of each of its tiles, -1 without a label.
    at_most : int
    master_seed : int
    """
    drawn = sorted(truth, key=lambda slide: (seeds.unit_hash(master_seed, "maps shown", slide), slide))
    return sorted(drawn, key=lambda slide: not any(true > 0 for true in truth[slide].values()))[:at_most]


@dataclass(frozen=True)
class _Compared:
    """What methods side by side are all of."""

    dataset: str
    task: str
    split: str
    seed: int
    classes: list[str]

    def __str__(self) -> str:
        factors = f"{self.dataset}/{self.task}/{self.split}/{self.seed}"
        return f"{factors} with the classes {', '.join(self.classes)}"


def _read_methods(predictions: Sequence[str]) -> tuple[list[_Method], _Compared]:
    if not predictions:
        raise ValueError("maps must be of one method at least; found none")
    methods, compared = [], None
    for path in predictions:
        held_out, _, said = read_predictions(path)
        own = _Compared(**{name: said[name] for name in ("dataset", "task", "split", "seed", "classes")})
        compared = compared or own
        if own != compared:
            raise ValueError(f"{path}: maps side by side must be of {compared}; found {own}")
        rows = probability_maps.rows_by_image(held_out)
        methods.append(_Method(method_of(said), bool(said["untrained"]), held_out, rows))
    return methods, compared


def _truth(methods: Sequence[_Method]) -> dict[str, dict[str, int]]:
    """Return the class of each test tile, by slide; a tile that one method alone predicts is one of them."""
    truth: dict[str, dict[str, int]] = {}
    for method in methods:
        for slide, rows in method.rows.items():
            of_slide = truth.setdefault(slide, {})
            for row in rows:
                of_slide[method.held_out.tile[row]] = int(method.held_out.true[row])
    return truth


def _statement(compared: _Compared, methods: Sequence[_Method], shown: Sequence[str], n_slides: int) -> str:
    classes = compared.classes
    which = f"all {counted(n_slides, 'test slide')}" if n_slides > 1 else "the one test slide"
    if len(shown) < n_slides:
        first = f"those with {classes[1]} first" if len(classes) == 2 else f"those with more than {classes[0]} first"
        which = f"{len(shown)} of {counted(n_slides, 'test slide')}, {first}, drawn by the master seed"
    factors = f"{compared.dataset}, {compared.task}, split {compared.split}, seed {compared.seed}"
    said = f"{factors}: {which}, cut to the part with tiles."
    if len(classes) == 2:
        counts = [
            f"{one.name}{' (untrained)' if one.untrained else ''} "
            f"{tumour_points.count(one.held_out, shown).isolated_tiles}"
            for one in methods
        ]
        said += f" Isolated false {classes[1]} tiles on them: {', '.join(counts)}."
    return said


@dataclass(frozen=True)
class _Block:
    """One slide: what stands above it, its pictures (slide, annotation, methods), and their height over width."""

    heading: str
    pictures: list[Any]
    aspect: float
    unpredicted: bool


def _block(
    slide: str, files: Sequence[str], truth: Mapping[str, int], methods: Sequence[_Method], classes: Sequence[str]
) -> _Block:
    grid_file, description, overlay = files
    grid = probability_maps.read_grid(grid_file)
    strange = next((tile for tile in truth if tile not in grid.kept), None)
    if strange is not None:
        raise ValueError(f"{grid_file}: predicted tiles must be kept tiles of the grid; found {strange!r}")
    cells = probability_maps.cells_of(list(truth))
    first = np.maximum(cells.min(axis=0) - 1, 0)
    last = np.minimum(cells.max(axis=0) + 2, [grid.n_cols, grid.n_rows])
    box = (*first.tolist(), *last.tolist())
    labels = np.array(list(truth.values()))
    colours = [probability_maps.rgb(one) for one in probability_maps.class_colours(classes)]
    drawn = np.array([*colours, probability_maps.rgb(probability_maps.UNLABELLED)], dtype=np.uint8)[labels]
    pictures = [_slide_picture(grid, box, description, overlay), _cells_picture(grid, box, cells, drawn)]
    blank = np.full((len(cells), 3), probability_maps.rgb(_UNPREDICTED), dtype=np.uint8)
    unpredicted = False
    for method in methods:
        rows = method.rows.get(slide, np.empty(0, np.int64))
        own = probability_maps.cells_of([method.held_out.tile[row] for row in rows])
        values = probability_maps.coloured(
            method.held_out.probability[rows], method.held_out.predicted[rows], classes
        ).reshape(-1, 3)
        unpredicted |= len(rows) < len(truth)
        both = np.concatenate([cells, own]), np.concatenate([blank, values])
        pictures.append(_cells_picture(grid, box, *both))
    known = labels[labels != NO_LABEL]
    what = f"{(known > 0).sum():,} of {len(known):,} labelled tiles are {classes[1]}" if len(classes) == 2 else ""
    heading = grid.image_in_sheet + (f": {what}" if what else "")
    across, down = box[2] - box[0], box[3] - box[1]
    return _Block(heading, pictures, down / across, unpredicted)


def _slide_picture(grid: Grid, box: Sequence[int], description: str, overlay: str) -> Any:
    from PIL import Image

    with Image.open(overlay) as stored:
        picture = stored.convert("RGB")
    scale = picture.width / float(store.read_json(description)["size"][0])
    corners = [
        (start + step * grid.l0_step) * scale
        for start, step in zip((grid.l0_x, grid.l0_y, grid.l0_x, grid.l0_y), box, strict=True)
    ]
    across, down = box[2] - box[0], box[3] - box[1]
    size = (_STORED_PX, max(1, round(_STORED_PX * down / across)))
    return _framed(picture.resize(size, Image.Resampling.BICUBIC, box=_within(corners, picture.size)))


def _within(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    return left, top, min(box[2], float(size[0])), min(box[3], float(size[1]))


def _cells_picture(grid: Grid, box: Sequence[int], cells: np.ndarray, colours: np.ndarray) -> Any:
    from PIL import Image

    laid = grid.place(cells, colours, 255)[box[1] : box[3], box[0] : box[2]]
    # whole pixels a cell: each has sharp edges and the size of its neighbours
    times = -(-_STORED_PX // laid.shape[1])
    return _framed(Image.fromarray(laid.repeat(times, axis=0).repeat(times, axis=1)))


def _framed(picture: Any) -> Any:
    from PIL import ImageDraw

    right, bottom = picture.width - 1, picture.height - 1
    ImageDraw.Draw(picture).rectangle((0, 0, right, bottom), outline=canvas.RULE, width=max(1, picture.width // 140))
    return picture


def _places(n_methods: int) -> list[tuple[int, int]]:
    """Return row and column of slide, annotation and each method within a block."""
    if n_methods < _BESIDE:
        return [(0, column) for column in range(2 + n_methods)]
    return [(0, 0), (1, 0), *((k // _BESIDE, 1 + k % _BESIDE) for k in range(n_methods))]


def _draw(
    blocks: Sequence[_Block], methods: Sequence[_Method], classes: Sequence[str], figure: str | Path, statement: str
) -> None:
    places = _places(len(methods))
    captions = ["slide", "annotation", *map(_caption, methods)]
    n_rows = 1 + max(row for row, _ in places)
    lines = [
        max(text.count("\n") + 1 for (of, _), text in zip(places, captions, strict=True) if of == row)
        for row in range(n_rows)
    ]
    entries = _legend(classes, any(block.unpredicted for block in blocks))
    scale = 16.0 if probability_maps.positive_class(classes) is not None else 0.0
    top = scale + canvas.legend_height(entries) + 8
    insets: list[canvas.Inset] = []
    texts: list[tuple[str, float, float, dict[str, Any]]] = []
    for block in blocks:
        heading = canvas.wrap(block.heading, WIDTH - 2 * _LEFT, TEXT, lines=3, bold=True)
        texts.append((heading, _LEFT, top, {"weight": "bold"}))
        top += 12.5 * (heading.count("\n") + 1) + 4
        height = min(_SIDE * block.aspect, _SIDE * _TALLEST)
        width = height / block.aspect
        tops = [top + sum(height + _LINE * above + 7 for above in lines[:row]) for row in range(n_rows)]
        for k, ((row, column), picture) in enumerate(zip(places, block.pictures, strict=True)):
            left = _LEFT + column * (_SIDE + _GAP)
            kind = canvas.Inset if k == 0 else _Pixels
            insets.append(kind(picture, left, tops[row], width, height))
            texts.append((captions[k], left, tops[row] + height + 2, {"fontsize": SMALL}))
        top = tops[-1] + height + _LINE * lines[-1] + 16
    chart = canvas.new(top - 8)
    if scale:
        _draw_scale(chart, classes)
    canvas.draw_legend(chart, entries, scale)
    for text, left, down, style in texts:
        canvas.write(chart, text, left, down, **style)
    canvas.save(chart, figure, statement, insets)


def _caption(method: _Method) -> str:
    """Return a method's name in lines, broken between features and classifier if it must be."""
    features, plus, classifier = method.name.partition("+")
    parts = [method.name] if canvas.text_width(method.name, SMALL) <= _SIDE else [features + plus, classifier]
    parts += ["(untrained)"] if method.untrained else []
    return "\n".join(canvas.wrap(one, _SIDE, SMALL, lines=2) for one in parts)


def _legend(classes: Sequence[str], unpredicted: bool) -> list[tuple[str, str, str]]:
    named = zip(probability_maps.class_colours(classes), classes, strict=True)
    entries = [(colour, name, "bar") for colour, name in named]
    entries.append((probability_maps.UNLABELLED, "no label", "bar"))
    return [*entries, *([(_UNPREDICTED, "not predicted", "bar")] if unpredicted else [])]


def _draw_scale(chart: Any, classes: Sequence[str]) -> None:
    bar = canvas.axes(chart, _LEFT, 3, _SIDE, 8)
    bar.imshow(np.linspace(0, 1, 64)[None], aspect="auto", cmap=probability_maps.COLOURS, interpolation="nearest")
    bar.set_axis_off()
    words = canvas.wrap(
        f"maps: probability of {classes[1]}, from 0 to 1; annotation:", WIDTH - _SIDE - 14, SMALL, lines=1
    )
    canvas.write(chart, words, _LEFT + _SIDE + 6, 1, fontsize=SMALL)
