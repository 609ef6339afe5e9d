"""Figures of matplotlib as SVG that stands within a page of HTML.

In: a figure, and what it shows in words. Out: an ``<svg>`` that loads nothing, the same bytes each time.
Source: none.
"""

import io
import re
from typing import TYPE_CHECKING

from wsolkern.report.plain import visible

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

_DPI = 150  # of what is a picture within it


def inline_svg(figure: "Figure", label: str, key: str) -> "Markup":
    """A figure as an ``<svg>`` element.

    Args:
        figure: What :func:`wsolkern.report.style.new_figure` gave, drawn.
        label: What it shows, for those who do not see it.
        key: A word of letters and digits that no other figure of the page has: its ids begin with that.

    Raises:
        ImportError: matplotlib or jinja2 is not installed (the ``report`` extra).
    """
    import matplotlib
    from markupsafe import Markup, escape

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        figure.savefig(file, format="svg", dpi=_DPI, facecolor="white", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]  # a page has no prolog in it
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    # Its style sheet would hold for the whole page.
    text = re.sub(r'<defs>\s*<style type="text/css">[^<]*</style>\s*</defs>\s*', "", text)
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r'\bhref="#', f'href="#{key}-', text).replace("url(#", f"url(#{key}-")
    about = f'role="img" aria-label="{escape(visible(label))}" style="stroke-linejoin:round;stroke-linecap:butt"'
    return Markup(text.replace("<svg ", f"<svg {about} ", 1).strip())
