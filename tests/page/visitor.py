"""The page as people meet it: Redis, a worker and a gateway, each a real process, and Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import redis
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

from demo.stack import running_gateway, running_redis, running_worker
from producer.gateway.api_keys import ApiKeys

IMAGES: Final = Path(__file__).parents[2] / "demo" / "images"
#: Milliseconds that something on the page may take at most before a test fails.
PATIENCE_MS: Final = 20_000
#: No sandbox: tests run as root in containers. The others keep Chromium from calling its maker.
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Served:
    """A page that is served, and the keys that open it."""

    #: Of the gateway.
    address: str
    redis_url: str
    #: By the name that they belong to.
    keys: dict[str, str]

    @property
    def url(self) -> str:
        """Of the page."""
        return f"{self.address}/ui"

    def jobs(self, name: str) -> set[str]:
        """The ids of somebody's jobs."""
        with redis.Redis.from_url(self.redis_url, decode_responses=True) as connection:
            keys = connection.scan_iter(f"*:{name}.job.*", count=1000)
            return {key.rpartition(":")[2] for key in keys}


@contextmanager
def serving(*, worker: bool, settings: Mapping[str, str] | None = None) -> Iterator[Served]:
    """The whole system, with or without somebody who works, with a key each for two names."""
    with ExitStack() as stack:
        url = stack.enter_context(running_redis())
        if worker:
            stack.enter_context(running_worker(url, quiet=True))
        address = stack.enter_context(running_gateway(url, settings=settings))
        keys = ApiKeys(stack.enter_context(redis.Redis.from_url(url)))
        yield Served(address, url, {name: keys.create(name) for name in ("acme", "other")})


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A headless Chromium with a profile of its own."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.fail("no chromium on the PATH: `make browser` installs it", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """One person's browser: what it asked for, and what went wrong in it."""

    def __init__(self, browser: Browser, served: Served, **context: object) -> None:
        self.served = served
        self.context = browser.new_context(**context)  # type: ignore[arg-type]
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        #: URLs of everything that was asked for, of whatever host.
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.context.on("request", self._on_request)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._on_error)

    def sign_in(self, name: str = "acme") -> Page:
        """Open the page with a name's key."""
        self.page.goto(self.served.url)
        self.page.fill("#key", self.served.keys[name])
        self.page.press("#key", "Enter")
        self.page.wait_for_selector("#do-caption")
        return self.page

    def choose(self, name: str = "scene-02.jpg") -> None:
        """Upload a picture; one that is there already gives way."""
        there = self.page.locator("#picture img")
        if there.count():
            self.page.get_by_label("Remove Image").click()
        self.page.set_input_files("#picture input[type=file]", IMAGES / name)
        there.wait_for()

    def tab(self, name: str) -> None:
        """Turn to a tab."""
        self.page.get_by_role("tab", name=name).click()

    def complaint(self) -> str:
        """The sentence of the error that is shown, which is closed then."""
        text = self.page.get_by_test_id("toast-text").last
        text.wait_for()
        said = text.inner_text()
        self.page.get_by_test_id("toast-close").first.click()
        text.wait_for(state="detached")
        return said

    @property
    def outside(self) -> list[str]:
        """What was asked of anybody but the gateway."""
        own = urlsplit(self.served.address).netloc
        parts = [(url, urlsplit(url)) for url in self.asked]
        return [url for url, to in parts if to.scheme not in ("data", "blob") and to.netloc != own]

    def close(self) -> None:
        """End it."""
        self.context.close()

    def _on_request(self, request: Request) -> None:
        self.asked.append(request.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _on_error(self, error: Error) -> None:
        self.errors.append(str(error))
