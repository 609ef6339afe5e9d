"""The pages around the code: they are found, their links lead somewhere, and they know the code as it is.

In: README.md, docs/, mkdocs.yml, CITATION.cff, .github and .pre-commit-config.yaml. Out: comparisons with the package.
Source: none.
"""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from code_blocks import ROOT, check_command, commands, pages

import wsolkern
from wsolkern.cli import app

DOCS = ROOT / "docs"
PAGES = [*pages(), ROOT / "SECURITY.md"]


def without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What the page's headings are called, as GitHub and the site make names of them."""
    found = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name}: {target}; there are {sorted(anchors(found))}"
        if page.parent == DOCS:
            assert found.parent == DOCS, f"{page.name}: {target} is not in the site"


def test_the_site_has_every_page_once():
    nav = (ROOT / "mkdocs.yml").read_text().split("nav:")[1].split("markdown_extensions:")[0]
    assert sorted(re.findall(r"[\w-]+\.md", nav)) == sorted(page.name for page in DOCS.glob("*.md"))


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(command=None, path=()):
    """The paths of all commands that do something, with their parameters."""
    command = command or typer.main.get_command(app)
    children = getattr(command, "commands", {})
    for name, each in children.items():
        yield from leaves(each, (*path, name))
    if not children:
        yield " ".join(path), command.params


COMMANDS = dict(leaves())


def test_every_command_has_a_section_with_its_options():
    text = (DOCS / "commands.md").read_text()
    assert sorted(re.findall(r"^## (.*)$", text, re.MULTILINE)) == sorted(COMMANDS)
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        name = section.splitlines()[0]
        assert f"<!-- options: {name} -->" in section and f"wsolkern {name}" in section, name


@pytest.mark.parametrize("command", COMMANDS)
def test_the_site_shows_all_options(command):
    shown = hooks().options(command.split())
    for each in COMMANDS[command]:
        for name in [*each.opts, *each.secondary_opts]:
            if name.startswith("-"):
                assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", shown), name


def test_options_that_pages_name_are_there():
    """Of some command or program: those in code spans, which no test runs."""
    known = {name for params in COMMANDS.values() for each in params for name in [*each.opts, *each.secondary_opts]}
    known |= {"--help", "--version", "--install-completion"}
    for module in ("wsolkern.compat.evaluation", "benchmarks.fuzz", "benchmarks.determinism"):
        asked = [sys.executable, "-m", module, "--help"]
        printed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        known |= set(re.findall(r"--[\w-]+", printed))
    for page in pages():
        for span in re.findall(r"`([^`\n]+)`", without_code(page.read_text())):
            if span.startswith(("-", "wsolkern ")):
                for name in re.findall(r"(?<![\w-])--[a-z][\w-]*", span):
                    assert name in known, f"{page.name}: `{span}`"


def test_the_site_has_every_public_name():
    names = hooks().public
    assert names("") == wsolkern.__all__
    rooms = [path.parent.name for path in (ROOT / "wsolkern").glob("*/__init__.py")]
    for room in rooms:
        module = importlib.import_module(f"wsolkern.{room}")
        assert names(room) == list(getattr(module, "__all__", []))
        assert not names(room) or room in (*hooks()._ROOMS, "demo"), f"docs/hooks.py lacks {room}"


def test_the_picture_shows_every_room():
    shown = " ".join(ElementTree.parse(DOCS / "rooms.svg").getroot().itertext())
    for file in (ROOT / "wsolkern").glob("*/__init__.py"):
        assert re.search(rf"\b{file.parent.name}\b", shown), file.parent.name


def test_rooms_import_each_other_without_circles():
    """As architecture.md says; imports within functions count."""
    rooms = {path.parent.name for path in (ROOT / "wsolkern").glob("*/__init__.py")}
    imported = {room: set() for room in rooms}
    for room in rooms:
        for file in (ROOT / "wsolkern" / room).rglob("*.py"):
            for statement in ast.walk(ast.parse(file.read_text())):
                names = []
                if isinstance(statement, ast.Import):
                    names = [each.name for each in statement.names]
                elif isinstance(statement, ast.ImportFrom):
                    names = [f"{statement.module}.{each.name}" for each in statement.names]
                known = {name.split(".")[1] for name in names if name.startswith("wsolkern.")}
                imported[room] |= known & rooms - {room}
    assert list(TopologicalSorter(imported).static_order())  # graphlib.CycleError names a circle
    on_top = {"cli", "compat", "demo"}
    assert {room: found & on_top for room, found in imported.items() if found & on_top} in ({"cli": {"demo"}}, {})


def test_files_that_pages_name_are_there():
    """Headers and sources of the native core by name, others by their path."""
    native = {path.name for path in (ROOT / "csrc").rglob("*.*")}
    for page in PAGES:
        for span in re.findall(r"`([^`\n]+)`", without_code(page.read_text())):
            if re.fullmatch(r"\w+\.(h|cpp|cu)", span):
                assert span in native, f"{page.name}: {span}"
            elif re.fullmatch(r"(wsolkern|tests|benchmarks|csrc|docs)/[\w./]*", span):
                assert (ROOT / span).exists(), f"{page.name}: {span}"


def read_yaml(path: str):
    return pytest.importorskip("yaml", reason="needs the extra test").safe_load((ROOT / path).read_text())


def test_linters_have_one_version_and_the_same_files():
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    ruff, clang_format = read_yaml(".pre-commit-config.yaml")["repos"]
    assert (ruff["rev"], clang_format["rev"]) == (f"v{pinned['ruff']}", f"v{pinned['clang-format']}")
    assert [hook["id"] for hook in ruff["hooks"]] == ["ruff-check", "ruff-format"]
    (hook,) = clang_format["hooks"]
    names = [path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*.*")]
    assert hook["id"] == "clang-format" and names and all(re.search(hook["files"], name) for name in names)
    assert {Path(name).suffix for name in names} == {".h", ".cpp", ".cu"}  # of the types c, c++ and cuda
    assert hook["types_or"] == ["c", "c++", "cuda"]


def test_the_citation_has_the_version():
    assert f"version: {wsolkern.__version__}\n" in (ROOT / "CITATION.cff").read_text()


INPUTS = {
    "actions/checkout@v4": set(),
    "actions/setup-python@v5": {"python-version", "cache", "cache-dependency-path"},
    "actions/upload-artifact@v4": {"name", "path", "if-no-files-found"},
}


def workflow(name: str) -> tuple[dict, list[dict], list[str]]:
    """Jobs of a workflow, its steps, and what they run."""
    jobs = read_yaml(f".github/workflows/{name}")["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    for step in steps:
        if "uses" in step:
            assert INPUTS[step["uses"]] >= set(step.get("with", {}))
            assert (ROOT / step.get("with", {}).get("cache-dependency-path", ".")).exists()
    run = [step["run"] for step in steps if "run" in step]
    for command in (command for text in run for command in commands(text)):
        check_command(command)
    return jobs, steps, run


def test_ci_runs_what_contributors_run():
    jobs, steps, run = workflow("ci.yml")
    assert ".ci/run" in run
    supported = re.search(r'requires-python = ">=(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    assert jobs["run"]["strategy"]["matrix"]["python"][0] == supported
    (variables,) = (step["env"] for step in steps if "env" in step)
    assert variables and all(f"${{{name}:-" in (ROOT / ".ci/run").read_text() for name in variables)


def test_wheels_are_made_on_each_system_that_they_are_configured_for():
    jobs, _, run = workflow("wheels.yml")
    systems = {machine.split("-")[0] for machine in jobs["wheels"]["strategy"]["matrix"]["machine"]}
    assert systems == {"ubuntu", "macos"}
    assert any("cibuildwheel --archs native" in text for text in run)
    assert sum("SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)" in text for text in run) == len(jobs)


def test_what_ci_runs_can_be_executed():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    named = set(re.findall(r"(?:tests|csrc|wsolkern)/[\w/.]+\.(?:py|h|cpp|cu)", script.read_text()))
    assert named and all((ROOT / name).exists() for name in named)


@pytest.mark.slow
def test_the_site_is_built(tmp_path):
    """With all warnings as errors."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    assert "--normalizations" in (site / "commands/index.html").read_text()
    assert "box_hits" in (site / "api/index.html").read_text()
    for page in site.rglob("*.html"):  # shown without a network
        assert not re.search(r'(?:src|<link[^>]*href)="https?://', page.read_text()), page
