"""What every figure of the project has in common: colours, sizes, text that fits, and how a figure becomes a file.

Charts are SVG, 4.8 inches wide, so that one file reads well on a phone (where it fills 360 px) and on a laptop
(560 px). Text stays text: the viewer's own fonts draw every script and emoji. Places are computed with the widths
of DejaVu Sans, which is wider than the fonts that viewers use, so a label that fits here fits there.

A figure carries the sentence that says what it shows: as ``<title>`` in an SVG, as ``Description`` in a PNG, as
the comment of a JPEG. The same data give the same bytes.

References
----------
Okabe M, Ito K (2008). Color Universal Design: how to make figures that are friendly to colorblind people.
"""

from __future__ import annotations

import base64
import io
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from histotransfer import store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

#: Width of every chart in points (1/72 inch).
WIDTH = 346.0

#: Okabe and Ito's colours, which differ with every kind of colour vision; black is kept for text.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILION, YELLOW = "#56B4E9", "#D55E00", "#F0E442"
CLASS_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)
DASHES = (0, (4, 1.5))
HATCHES = ("", "////", "....", "xxxx")

INK, FAINT, RULE, BAND, PAPER = "#241F2B", "#6B6472", "#D9D4DE", "#F6F4F8", "#FFFFFF"
#: Sizes of text in points.
TEXT, SMALL = 9.6, 8.8

# In this order viewers find Apple's, Windows', Android's and Linux' own font; none is wider than DejaVu Sans.
VIEWER_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
    "xtick.color": FAINT,
    "ytick.color": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": TEXT,
    "xtick.major.width": 0.8,
    "hatch.linewidth": 0.5,
    "hatch.color": PAPER,
}


def new(height: float) -> Figure:
    """Return an empty chart, :data:`WIDTH` points wide and `height` points high."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH / 72, height / 72), facecolor=PAPER)


def axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes with their place in points from the upper left corner of the chart."""
    whole = figure.get_figheight() * 72
    place = (left / WIDTH, (whole - top - height) / whole, width / WIDTH, height / whole)
    with _styled():
        made = figure.add_axes(place)
    for side in ("top", "right", "left"):
        made.spines[side].set_visible(False)
    made.tick_params(length=3)
    made.patch.set_visible(False)
    return made


def write(figure: Figure, text: str, left: float, top: float, **style: Any) -> None:
    """Write `text` with its upper left corner (or as `style` says) at a place in points."""
    whole = figure.get_figheight() * 72
    style = {"fontsize": TEXT, "color": INK, "va": "top", "ha": "left", "linespacing": 1.25, **style}
    with _styled():
        figure.text(left / WIDTH, 1 - top / whole, text, parse_math=False, **style)


def label(target: Axes, text: str, x: float, y: float, **style: Any) -> None:
    """Write `text` at the data coordinates of `target`."""
    style = {"fontsize": SMALL, "color": INK, "va": "center", "ha": "center", **style}
    with _styled():
        target.text(x, y, text, parse_math=False, **style)


def _styled() -> Any:
    import matplotlib

    return matplotlib.rc_context(_STYLE)


@cache
def _advances(bold: bool) -> tuple[Any, dict[str, float]]:
    from matplotlib import font_manager

    weight = "bold" if bold else "normal"
    file = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
    font = font_manager.get_font(file)
    font.set_size(100, 72)
    return font, {}


def text_width(text: str, size: float = TEXT, *, bold: bool = False) -> float:
    """Return the width of one line of text in points, at `size` points; unknown glyphs count as wide ones."""
    font, known = _advances(bold)
    total = 0.0
    for character in text:
        if character not in known:
            if font.get_char_index(ord(character)):
                known[character] = font.load_char(ord(character)).linearHoriAdvance / 65536 / 100
            else:
                known[character] = 1.3
        total += known[character]
    return total * size


def wrap(text: str, width: float, size: float = TEXT, *, lines: int = 3, bold: bool = False) -> str:
    """Break `text` into at most `lines` lines of `width` points; what does not fit ends in an ellipsis.

    Lines break after spaces and after ``+ - _ . / ,``; a word that is wider than a line is broken inside.
    """
    text = " ".join(text.split())
    pieces = re.findall(r"[^ +\-_./,]*[ +\-_./,]|[^ +\-_./,]+", text)
    done: list[str] = []
    line = ""
    for piece in pieces:
        if line and text_width((line + piece).rstrip(), size, bold=bold) > width:
            done.append(line.rstrip())
            line = ""
        while text_width(piece.rstrip(), size, bold=bold) > width and len(piece) > 1:
            fitting = _fitting(line + piece, width, size, bold)
            done.append((line + piece)[:fitting])
            piece, line = (line + piece)[fitting:], ""
        line += piece
    if line.strip():
        done.append(line.rstrip())
    if len(done) > lines:
        last = done[lines - 1]
        while last and text_width(last + "…", size, bold=bold) > width:
            last = last[:-1]
        done = [*done[: lines - 1], last + "…"]
    return "\n".join(done)


def shrink(texts: Sequence[str], width: float, size: float = TEXT, *, smallest: float = 5.5) -> float:
    """Return the largest size, at most `size` points, at which each of `texts` fits into one line of `width`."""
    widest = max((text_width(text, 1.0) for text in texts), default=0.0)
    return max(min(size, width / widest if widest else size), smallest)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most `most` (but at least one) round numbers between `low` and `high`."""
    power = math.floor(math.log10(max(high - low, 1e-12))) - 1
    while True:
        for factor in (1, 2, 5):
            step = factor * 10.0**power
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first + 1 <= most:
                return [round(index * step, 12) for index in range(first, last + 1)] or [round((low + high) / 2, 3)]
        power += 1


def tick_words(places: Sequence[float], *, signed: bool = False) -> list[str]:
    """Write ticks with as few digits as they differ by, a minus as a minus."""
    digits = next((n for n in range(7) if all(abs(round(tick, n) - tick) < 1e-9 for tick in places)), 7)
    words = [f"{tick:+.{digits}f}" if signed and tick else f"{tick:.{digits}f}" for tick in places]
    return [word.replace("-", "−") for word in words]


def scale_values(panel: Any, low: float, high: float, *, most: int) -> None:
    """Set the ends of an upright axis of scores, with at most `most` ticks and a line across at each."""
    panel.set_ylim(low, high)
    places = ticks(low, high, most)
    panel.set_yticks(places, tick_words(places))
    panel.tick_params(axis="y", labelsize=SMALL)
    for place in places:
        panel.axhline(place, color=RULE, linewidth=0.6, zorder=0)


def _legend_places(entries: Sequence[tuple[str, str, str]]) -> list[tuple[float, float]]:
    places, left, top = [], 4.0, 0.0
    for _, word, _ in entries:
        width = 18 + text_width(word, SMALL) + 10
        if left > 4 and left + width > WIDTH:
            left, top = 4.0, top + 13.5
        places.append((left, top))
        left += width
    return places


def legend_height(entries: Sequence[tuple[str, str, str]]) -> float:
    """Return the height in points of the key that :func:`draw_legend` draws."""
    return _legend_places(entries)[-1][1] + 15 if entries else 0.0


def draw_legend(chart: Any, entries: Sequence[tuple[str, str, str]], top: float) -> None:
    """Draw a key of (colour, word, shape): bar, hollow, black, dot, ring, line, thin, plain, dashed."""
    if not entries:
        return
    height = legend_height(entries)
    panel = axes(chart, 0, top, WIDTH, height)
    panel.set_xlim(0, WIDTH)
    panel.set_ylim(height, 0)
    panel.set_axis_off()
    for (colour, word, shape), (left, down) in zip(entries, _legend_places(entries), strict=True):
        middle = down + 7
        if shape in ("bar", "hollow", "black"):
            style = {"color": PAPER if shape == "hollow" else colour, "edgecolor": colour, "linewidth": 1.0}
            panel.barh(middle, 12, left=left, height=2.4 if shape == "black" else 6.4, **style)
        elif shape == "ring":
            style = {"markerfacecolor": PAPER, "markeredgecolor": colour, "markeredgewidth": 1.0}
            panel.plot([left + 8], [middle], marker="o", markersize=5, **style)
        else:
            style = {"linewidth": 0.9 if shape == "thin" else 1.5, "linestyle": DASHES if shape == "dashed" else "-"}
            panel.plot([left, left + 13], [middle, middle], color=colour, **style)
            if shape in ("line", "dot"):
                panel.plot([left + 6.5], [middle], marker="o", markersize=3.4, color=colour)
        label(panel, wrap(word, WIDTH - 26, SMALL, lines=1), left + 18, middle, ha="left")


def draw_nothing(figure: str | Path, statement: str) -> str:
    """Write a chart that says in words why there is nothing to draw, and return them."""
    text = wrap(statement, WIDTH - 8, TEXT)
    chart = new(13.0 * (text.count("\n") + 1) + 8)
    write(chart, text, 4, 3)
    save(chart, figure, statement)
    return statement


def _fitting(text: str, width: float, size: float, bold: bool) -> int:
    count = 1
    while count < len(text) and text_width(text[: count + 1], size, bold=bold) <= width:
        count += 1
    return count


@dataclass(frozen=True)
class Inset:
    """A picture within a chart: where its upper left corner is and how wide and high it is shown, in points."""

    picture: Image
    left: float
    top: float
    width: float
    height: float

    def element(self) -> str:
        """Return the SVG element, with the pixels as JPEG in it."""
        buffer = io.BytesIO()
        self.picture.save(buffer, format="JPEG", quality=86, subsampling=0)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        place = f'x="{self.left:g}" y="{self.top:g}" width="{self.width:g}" height="{self.height:g}"'
        return f'<image {place} preserveAspectRatio="none" href="data:image/jpeg;base64,{data}"/>'


def save(figure: Figure, path: str | Path, statement: str, insets: Sequence[Inset] = ()) -> None:
    """Write a chart as SVG with its `statement` as title; nothing in the file depends on when it was drawn.

    Pictures of pixels, `insets`, lie over what is drawn.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    with _styled(), warnings.catch_warnings():
        # Widths are measured with one font; a glyph that it lacks is drawn by the viewer's.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        import matplotlib

        matplotlib.rcParams["svg.hashsalt"] = "histotransfer"
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None})
    text = re.sub(r"'DejaVu Sans'(?:, [^;\"]*?)?(?=[;\"])", VIEWER_FONTS, buffer.getvalue())
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    opening = re.search(r"<svg\b[^>]*>", text)
    if opening is None:
        raise RuntimeError(f"matplotlib wrote no <svg> element for {path}")
    # without the reference to an outside DTD that stands before the element
    text = f"{opening.group()}\n <title>{escape(statement)}</title>{text[opening.end() :]}"
    if insets:
        drawn, end, rest = text.rpartition("</svg>")
        text = drawn + "\n".join(inset.element() for inset in insets) + "\n" + end + rest
    with store.replacing(path) as part:
        part.write_text(text, "utf-8")


def save_picture(picture: Image, path: str | Path, statement: str) -> None:
    """Write pixels as PNG or JPEG (by the suffix of `path`) with the `statement` in the file.

    Raises
    ------
    ValueError
        If the suffix is another one.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        texts = PngInfo()
        texts.add_itxt("Description", statement)
        with store.replacing(path) as part:
            picture.save(part, format="PNG", optimize=True, pnginfo=texts)
    elif suffix in (".jpg", ".jpeg"):
        with store.replacing(path) as part:
            picture.save(part, format="JPEG", quality=88, subsampling=0, comment=statement.encode())
    else:
        raise ValueError(f"a picture is written as .png or .jpg, not as {Path(path).name!r}")


def read_statement(path: str | Path) -> str:
    """Return the sentence that a figure carries, or ``""``."""
    suffix = Path(path).suffix.lower()
    if suffix == ".svg":
        title = ElementTree.parse(path).getroot().find("{http://www.w3.org/2000/svg}title")
        return (title.text or "") if title is not None else ""
    from PIL import Image

    with Image.open(path) as picture:
        found = picture.info.get("Description", picture.info.get("comment", ""))
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)


def read_size(path: str | Path) -> tuple[float, float]:
    """Return width and height of a figure: CSS pixels for SVG (96 an inch), stored pixels for pictures."""
    if Path(path).suffix.lower() == ".svg":
        box = ElementTree.parse(path).getroot().get("viewBox", "0 0 1 1").split()
        return float(box[2]) * 96 / 72, float(box[3]) * 96 / 72
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size
