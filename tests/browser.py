"""A real browser for tests: Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser as Chromium
    from playwright.sync_api import Page

PHONE = (390, 844)
"""Width and height of a phone's window, in CSS pixels."""
DESKTOP = (1280, 900)


@dataclass
class Tab:
    """A page that is open, what its console said of errors, and what it asked of whom."""

    page: "Page"
    errors: list[str] = field(default_factory=list)
    """Errors on the console, and exceptions that nobody caught."""
    requests: list[str] = field(default_factory=list)
    """Addresses of all requests, that of the page first."""
    failed: list[str] = field(default_factory=list)
    """Requests without an answer, or with one from 400 on, and why."""

    def run(self, script: str, argument: object = None) -> Any:
        """Evaluate JavaScript in the page: an expression or a function of ``argument``."""
        return self.page.evaluate(script, argument)

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """Write a PNG of the window, or of the whole page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=whole)
        return path


@dataclass(frozen=True)
class Browser:
    """Opens addresses and files."""

    chromium: "Chromium"

    @contextmanager
    def open(
        self,
        address: str | Path,
        *,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        scripts: bool = True,
        **options: Any,
    ) -> Iterator[Tab]:
        """Open a URL or a file in a window of its own, with nothing kept of others.

        ``size`` is in CSS pixels; ``options`` are those of Playwright's ``new_context``.
        """
        context = self.chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            **options,
        )
        context.set_default_timeout(180_000)  # ms: what MLflow's page loads, a busy machine delays
        try:
            tab = Tab(context.new_page())
            tab.page.on("console", lambda said: _note(tab, said.type, said.text))
            tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
            tab.page.on("request", lambda request: tab.requests.append(request.url))
            tab.page.on("requestfailed", lambda r: tab.failed.append(f"{r.url}: {r.failure}"))
            tab.page.on("response", lambda response: _check(tab, response.url, response.status))
            url = address.resolve().as_uri() if isinstance(address, Path) else address
            tab.page.goto(url, wait_until="load")
            yield tab
        finally:
            context.close()


def _note(tab: Tab, kind: str, text: str) -> None:
    if kind == "error":
        tab.errors.append(text)


def _check(tab: Tab, url: str, status: int) -> None:
    if status >= 400:
        tab.failed.append(f"{url}: {status}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window; import this fixture where it is used."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox"],  # which root, as in a container, cannot have
        )
        yield Browser(chromium)
        chromium.close()
