"""Help at 80 columns, and completion in a shell.

In: every command of the command line. Out: what ``--help`` prints; what bash completes.
Source: none.
"""

import re
import shutil
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from wsolkern.cli import app


def all_commands(command=None, path=()):
    """(path, command) of the whole tree, groups included."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from all_commands(each, (*path, name))


COMMANDS = dict(all_commands())


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "wsolkern")
def test_no_option_is_cut_at_80_columns(path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(app, [*path, "--help"], prog_name="wsolkern")
    assert done.exit_code == 0, done.output
    printed = re.sub(r"\x1b\[[0-9;]*m", "", done.output)  # where GitHub runs it, typer takes anything for a terminal
    names = [name for each in COMMANDS[path].params for name in [*each.opts, *each.secondary_opts] if "-" in name[:1]]
    for name in [*names, "--help"]:
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", printed), f"{name} in\n{printed}"
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_help_says_what_the_docstring_says(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    printed = CliRunner().invoke(app, ["evaluate", "--help"], prog_name="wsolkern").output
    assert "Usage: wsolkern evaluate" in printed
    assert " • wsolkern evaluate --cams cams/ --metadata metadata/CUB/test" in printed  # a list, not one paragraph
    assert "Evaluate a folder or store of CAMs" in printed and "--curves" in printed


COMPLETE = """
source complete.bash
COMP_WORDS=({words}) COMP_CWORD={last}
$(complete -p wsolkern | sed 's/.*-F \\([^ ]*\\) .*/\\1/') wsolkern
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
PROGRAM = """#!{python}
import sys

from wsolkern.cli import main

try:
    main()
finally:
    heavy = {{"torch", "numpy", "PIL"}} & set(sys.modules)
    if heavy:
        print("imported", *heavy)
"""


@pytest.mark.parametrize(
    "words, expected",
    [
        (["wsolkern", "ev"], ["evaluate"]),
        (["wsolkern", "store", "ver"], ["verify"]),
        (["wsolkern", "train", "--lr-"], ["--lr-decay-frequency", "--lr-classifier-ratio"]),
    ],
    ids=["a_command", "a_command_of_a_group", "an_option"],
)
def test_bash_completes_without_importing_torch(words, expected, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    program = tmp_path / "wsolkern"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    asked = {"_WSOLKERN_COMPLETE": "source_bash"}
    script = subprocess.run([program], env=environment | asked, capture_output=True, text=True, check=True).stdout
    (tmp_path / "complete.bash").write_text(script)
    text = COMPLETE.format(words=" ".join(words), last=len(words) - 1)
    done = subprocess.run(["bash", "-c", text], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == expected, done.stderr
