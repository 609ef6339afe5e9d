"""A browser for tests of the page: Debian's Chromium, driven by Playwright.

In: the machine. Out: pages that are open, whose console and requests are kept; without a browser the tests are skipped.
Source: none.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
SCREENSHOTS = os.environ.get("WSOLKERN_SCREENSHOTS")
"""A folder that pictures of the page are kept in; without it, that of the test."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, without a window."""
    from benchmarks import page

    path = page.chromium()
    if path is None:
        pytest.skip("there is no Chromium to open the page in")
    with playwright.sync_playwright() as driver:
        opened = page.launch(driver, path)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page's text as a file; afterwards nothing may have been said on the console or asked of a network."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_page(html: str, *, scheme: str = "light", width: int = 1280, height: int = 900) -> Any:
        file = tmp_path / "report.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    own = (tmp_path / "report.html").as_uri()
    assert [each for each in asked if each != own and not each.startswith(("blob:", "data:"))] == []


@pytest.fixture
def keep_picture(tmp_path: Path) -> Callable[[Any, str], Path]:
    """Takes a picture of what is seen."""

    def keep(page: Any, name: str) -> Path:
        folder = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.png"
        page.screenshot(path=path)
        assert path.stat().st_size > 5000
        return path

    return keep
