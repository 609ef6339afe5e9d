"""Page: a report as one HTML file that opens from disk: tables, figures and a live threshold viewer.

In: a Page: raw CAMs, ground truth, what was counted of every image, sections of finished HTML. Out: the file's text.
Source: the viewer's boxes are those of MaxBoxAcc and MaxBoxAccV2, Choe et al., arXiv 2007.04178, section 4.2.
"""

import base64
import hashlib
from importlib import resources
from typing import Any

from wsolkern.report.page.encoding import to_json
from wsolkern.report.page.values import Page, Run, Section, View

__all__ = ["Page", "Run", "Section", "View", "render"]


def render(page: Page) -> str:
    """The whole file: nothing in it is loaded from anywhere, but images that it links to.

    Without images (``page.ids`` is empty) it has the sections and no viewer. Scripts are allowed by their hashes, so
    that no text of a data set is ever run.

    Raises:
        ImportError: jinja2 is not installed (the ``report`` extra).
        ValueError: Parts of the page are not about the same images; the message names the part.
    """
    try:
        from jinja2 import Environment, PackageLoader
    except ImportError as error:
        raise ImportError(f"a page needs jinja2 ({error}): pip install 'wsolkern[report]'") from error
    page.check()
    scripts = {name: _part(f"{name}.js") for name in ("engine", "viewer")} if page.ids else {}
    environment = Environment(loader=PackageLoader("wsolkern.report.page", ""), autoescape=True)
    text: str = environment.get_template("page.html.jinja").render(
        page=page,
        style=_part("style.css"),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts.values()],
        data=to_json(page) if page.ids else "",
    )
    return text


def _part(name: str) -> str:
    return (resources.files("wsolkern.report.page") / name).read_text(encoding="utf-8")


def _hash(script: str) -> Any:
    from markupsafe import Markup

    digest = hashlib.sha256(script.encode()).digest()
    return Markup(f"'sha256-{base64.b64encode(digest).decode()}'")
