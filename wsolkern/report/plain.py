"""Names that are not ours (files, data sets, methods) as text that nothing takes for a command.

In: any string. Out: the same for a terminal or a picture, for Markdown, for LaTeX.
Source: none.
"""

import re

# Control characters, what turns the direction of text, and halves of characters (bytes of names that are no UTF-8).
_INVISIBLE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
}


def visible(text: str, *, lines: bool = False) -> str:
    """The text with control characters and the like spelled out, as in ``\\x1b``; newlines and tabs, too, unless it
    may have several ``lines``."""
    return re.sub(f"[{_INVISIBLE}{'' if lines else chr(9) + chr(10)}]", lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def markdown_text(text: str) -> str:
    """The text for a cell or a line of Markdown."""
    return re.sub(r"([\\`*_|<>\[\]~$])", r"\\\1", visible(text))


def latex_text(text: str) -> str:
    """The text for a cell or a caption of LaTeX."""
    return re.sub(r'[\\~^<>|"–&%$#_{}]', lambda found: _LATEX.get(found[0], f"\\{found[0]}"), visible(text))
