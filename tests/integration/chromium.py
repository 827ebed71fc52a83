"""Pages opened in headless Chromium, with everything that they ask for or complain of written down."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Seen:
    """An open page."""

    page: Any
    """Playwright's."""
    requests: list[str] = field(default_factory=list)
    """What the page asked for besides itself; nothing, if it holds what it promises."""
    errors: list[str] = field(default_factory=list)
    """Console errors and warnings (violations of the page's policy among them) and uncaught exceptions."""


Open = Callable[..., Seen]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running browser; the test is skipped where there is none (Debian: `apt-get install chromium`)."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """`open_page(path, width=…, height=…, dark=…, hash=…)`: a file opened in a window of its own."""
    with ExitStack() as windows:

        def open_it(path: Path, width: int = 1280, height: int = 800, dark: bool = False, hash: str = "") -> Seen:
            scheme = "dark" if dark else "light"
            window = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            windows.callback(window.close)
            seen = Seen(window.new_page())
            url = path.resolve().as_uri()
            ask = seen.requests.append
            seen.page.on("request", lambda request: None if request.url.partition("#")[0] == url else ask(request.url))
            complain = seen.errors.append
            seen.page.on("console", lambda one: complain(one.text) if one.type in ("error", "warning") else None)
            seen.page.on("pageerror", lambda error: complain(str(error)))
            seen.page.goto(url + hash)
            return seen

        yield open_it
