"""How a page becomes a file: templates that escape every text from data or config, and one style sheet.

A page is one file that opens offline: styles inline, pictures as data URIs, no JavaScript, and a content policy that
forbids the browser to ask anything outside.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from histotransfer import store
from histotransfer.problems import counted

#: Templates and style sheet; inputs of the rules, since no code digest covers them.
TEMPLATES = Path(__file__).parent / "templates"


def write_page(template: str, page: str | Path, **context: Any) -> None:
    """Fill a template of :data:`TEMPLATES` and write the page.

    Raises
    ------
    jinja2.UndefinedError
        If the template names what `context` lacks.
    """
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
    environment.filters["counted"] = counted
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
