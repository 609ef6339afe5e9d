"""What the site takes from the code when it is built: the options of every command, and the names of every room.

In: ``<!-- options: COMMAND -->`` and ``<!-- public names -->`` in pages. Out: tables of options, and names.
Source: none; ``mkdocs.yml`` names this file.
"""

import ast
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "wsolkern"
# In the order of a batch's way, then what stands beside and above it.
_ROOMS = [
    *(
        "",
        "datasets",
        "datasets.importing",
        "models",
        "cams",
        "ops",
        "metrics",
        "metrics.torch",
        "metrics.functional",
        "studies",
    ),
    *("studies.stores", "report", "training", "training.lightning", "profiling", "compat"),
]


def on_page_markdown(markdown: str, page, config, files) -> str:
    """A page with what its comments ask for."""
    markdown = re.sub(r"<!-- options: (.*?) -->", lambda found: options(found[1].split()), markdown)
    return markdown.replace("<!-- public names -->", "\n".join(public_names()))


def on_page_content(html: str, page, config, files) -> str:
    """Without Sphinx's roles, such as :meth:, which docstrings have and this site does not read."""
    return re.sub(r":(?:attr|class|func|meth|mod):(?=<code>)", "", html)


def options(path: list[str]) -> str:
    """The arguments and options of a command, as a table, from the real command line."""
    import typer

    from wsolkern.cli import app

    command = typer.main.get_command(app)
    context = command.make_context("wsolkern", [], resilient_parsing=True)
    for name in path:
        command = command.get_command(context, name)
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    records = [each.get_help_record(context) for each in command.get_params(context)]
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, text in filter(None, records)
    ]
    return f'<table class="options"><tbody>{"".join(rows)}</tbody></table>'


def public_names() -> Iterator[str]:
    """A heading for each room that has public names, and mkdocstrings' line for each of these."""
    for room in _ROOMS:
        module = f"wsolkern.{room}" if room else "wsolkern"
        names = public(room)
        if names:
            yield f"\n## {module}\n"
            yield from (f"::: {module}.{name}\n" for name in names)


def public(room: str) -> list[str]:
    """What ``__all__`` of a room lists, without importing it; nothing if there is no such room or list."""
    path = room.replace(".", "/")
    file = PACKAGE / path / "__init__.py"
    file = file if file.is_file() else PACKAGE / f"{path}.py"
    for statement in ast.parse(file.read_text()).body if file.is_file() else ():
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return ast.literal_eval(statement.value)
    return []
