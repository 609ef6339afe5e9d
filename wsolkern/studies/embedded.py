"""The results in a page that ``wsolkern report`` or ``wsolkern compare`` wrote.

In: the text of the page. Out: the JSON of each of its runs.
Source: none; :mod:`wsolkern.report.sections` puts them there.
"""

from html.parser import HTMLParser


class _Results(HTMLParser):
    """Collects the texts of script elements whose id begins with "result"."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._is_in = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._is_in = tag == "script" and (given.get("id") or "").partition("-")[0] == "result"
        if self._is_in:
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_in = False

    def handle_data(self, data: str) -> None:
        if self._is_in:
            self.found[-1] += data


def is_page(content: bytes) -> bool:
    """Whether a file is HTML, by its beginning."""
    return content.lstrip()[:9].lower() == b"<!doctype"


def results_in(content: bytes) -> list[str]:
    """The JSON of each run of a page, in order; none of another page.

    Raises:
        ValueError: It has a declaration that no HTML has.
    """
    parser = _Results()
    try:
        parser.feed(content.decode("utf-8", "replace"))
        parser.close()
    except AssertionError as error:  # what html.parser raises then
        raise ValueError(str(error)) from error
    return parser.found
