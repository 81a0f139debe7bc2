"""A real browser: headless Chromium, driven by Playwright. It may ask nobody for anything."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NEEDS = "needs a browser (pip install -e '.[browser]'; Debian: chromium)"


def is_here() -> bool:
    """Are Playwright and Chromium there?"""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return False
    return shutil.which("chromium") is not None


@contextmanager
def chromium() -> Iterator["Browser"]:
    """The browser. As root, which CI often is, Chromium has no sandbox of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


class Watched:
    """A page that is open in a browser, with all that it complained of and asked for."""

    def __init__(self, browser: "Browser", file: Path, **options: Any) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.file = file
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def go(self, *parts: str) -> None:
        """To a part of the page by its address, as a link from elsewhere leads there."""
        self.page.goto(f"{self.file.as_uri()}#/{'/'.join(parts)}")
