"""The code blocks of the documentation, and what doing them means.

In: Markdown pages. Out: their blocks, in order; a run of a page in the current folder, as a reader would type it.
Source: none.

A block is Python, which is executed, or bash, whose ``wsolkern`` commands are run, each by the real command line. A
comment in the line above a fence says otherwise, and why:

    <!-- parsed: why -->   its commands are held against the real command lines, all options checked, and not run
    <!-- slow: why -->     run by the tests with the mark slow, parsed by the others
    <!-- file: NAME -->    executed, and appended to a module that later commands of the page name
    <!-- not run: why -->  shown only
"""

import importlib.util
import io
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from warnings import catch_warnings, simplefilter

import typer
from typer.testing import CliRunner

from wsolkern.cli import app

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>parsed|slow|file|not run): (?P<why>[^\n]+?) -->\n)?"
    r"(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
# Programs of contributors: that they are written as they are called is all that is looked at, and the files they name.
_OTHERS = {
    "ruff",
    "clang-format",
    "pytest",
    "pre-commit",
    "mkdocs",
    "sudo",
    "echo",
    "cibuildwheel",
    "auditwheel",
    "sha256sum",
    "pyproject-build",
}


class BrokenBlock(AssertionError):
    """A block does not do what the page says; the message begins with page and line."""


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: Path
    line: int  # of its first line of code, counted from 1
    language: str
    text: str
    mark: str | None  # parsed, slow, file, not run, or none
    why: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def pages() -> list[Path]:
    """Every page that has blocks for readers."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Those of a page, in order."""
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, found.start("text")) + 1,
            found["language"].strip(),
            found["text"],
            found["mark"],
            found["why"],
        )
        for found in _FENCE.finditer(text)
    ]


def do_page(page: Path, slow: bool = False) -> None:
    """Does a page's blocks in the current folder, which stands for its reader's.

    Raises:
        BrokenBlock: One of them fails.
    """
    names = {"__name__": "documentation"}
    for block in blocks(page):
        try:
            do_block(block, names, slow)
        except BrokenBlock as error:
            raise BrokenBlock(f"{block}: {error}") from None
        except Exception as error:
            raise BrokenBlock(f"{block}: {type(error).__name__}: {error}") from error


def do_block(block: Block, names: dict, slow: bool) -> None:
    """Executes, runs or parses it; ``names`` are what the page's Python has defined so far."""
    if block.mark == "not run":
        return
    if block.language == "python":
        exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)
        if block.mark == "file":
            with open(block.why, "a") as module:
                module.write(block.text)
            sys.modules.pop(Path(block.why).stem, None)
    elif block.language == "bash":
        only_parse = block.mark == "parsed" or (block.mark == "slow" and not slow)
        for command in commands(block.text):
            check_command(command) if only_parse else run_command(command)
    else:
        raise BrokenBlock(f"a block of {block.language or 'no language'} needs the mark 'not run' and a reason")


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a bash block, without their environment variables: one a line, or between &&."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while "=" in command[0]:
                command = command[1:]
            yield command


def run_command(command: list[str]) -> None:
    """By wsolkern's command line, in this process; it must end well."""
    if command[0] != "wsolkern":
        raise BrokenBlock(f"{command[0]} is not run here: mark the block as parsed, with a reason")
    done = CliRunner().invoke(app, command[1:], prog_name="wsolkern")
    if done.exit_code:
        raise BrokenBlock(f"{shlex.join(command)} ended with {done.exit_code}: {done.output}{done.exception!r}")


def check_command(command: list[str]) -> None:
    """What it names is there: commands and options of wsolkern, extras of pip, modules and files of this repository."""
    name, *words = command
    if name == "torchrun":
        check_command(["python", *words[words.index("-m") :]])
    elif name == "wsolkern":
        _parse(words)
    elif name == "python" and words[:2] == ["-m", "wsolkern"]:
        _parse(words[2:])
    elif name == "python" and words[0].endswith(".py"):
        check_command(["bash", *words])
    elif name == "python" and words[0] == "-m":
        _check_module(words[1], words[2:])
    elif name in ("pip", "apt-get"):
        _check_pip(words)
    elif name == "bash" or name.startswith("."):
        script = words[0] if name == "bash" else name
        if not (ROOT / script).is_file():
            raise BrokenBlock(f"{script} is not here")
    elif name not in _OTHERS:
        raise BrokenBlock(f"{name}: no test knows this command")
    else:
        for word in words:
            if re.fullmatch(r"[\w.-]+/[\w./-]*", word) and not word.startswith("http") and not (ROOT / word).exists():
                raise BrokenBlock(f"{shlex.join(command)}: {word} is not here")


def _parse(words: list[str]) -> None:
    """By the real command line, with all types and choices, up to where the command would begin."""
    command, context = typer.main.get_command(app), None
    name = "wsolkern"
    while True:
        if context is None and any({*words[:1]} & {*each.opts} for each in command.params):
            return  # --version, --install-completion: parsing would do it
        try:
            context = command.make_context(name, list(words), parent=context)
        except Exception as error:
            text = error.format_message() if hasattr(error, "format_message") else error
            parent = f"{context.command_path} " if context else ""
            raise BrokenBlock(f"{parent}{name} {shlex.join(words)}: {text}") from error
        if not hasattr(command, "resolve_command"):
            return
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


def _check_module(module: str, words: list[str]) -> None:
    """A program of this repository that has these options."""
    if importlib.util.find_spec(module) is None:
        raise BrokenBlock(f"python -m {module}: there is no such module")
    options = [word for word in words if word.startswith("--")]
    if not module.startswith(("benchmarks", "wsolkern")) or not options:
        return
    printed, given = io.StringIO(), sys.argv
    sys.argv = [module, "--help"]
    try:
        with redirect_stdout(printed), suppress(SystemExit), catch_warnings():
            simplefilter("ignore")  # the module may be imported already
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sys.argv = given
    for option in options:
        if not re.search(rf"{re.escape(option)}(?![\w-])", printed.getvalue()):
            raise BrokenBlock(f"python -m {module} has no option {option}")


def _check_pip(words: list[str]) -> None:
    """Files that it names are here, and extras are in pyproject.toml."""
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        if word.endswith(".txt") and not (ROOT / word).is_file():
            raise BrokenBlock(f"pip: {word} is not here")
        named = re.fullmatch(r"(?:\.|wsolkern)\[(.*)\]", word)
        for extra in named[1].split(",") if named else ():
            if extra not in extras:
                raise BrokenBlock(f"pip: pyproject.toml has no extra {extra!r}")
