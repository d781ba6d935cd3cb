"""The page in a real browser: Redis, worker and gateway as real processes, and Chromium."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import pytest
import redis
from fastapi import FastAPI
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    expect,
    sync_playwright,
)

from demo.stack import running_gateway, running_redis, running_worker
from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.app import create_app
from producer.gateway.settings import GatewaySettings
from producer.page import mount
from tests.gateways import running_app

IMAGES: Final = Path(__file__).parents[2] / "demo" / "images"
#: The demo model's caption of scene-02.jpg.
CAPTION: Final = "an orange star above a yellow circle on a brown background"
#: The limit of the interactive queue of the system without a worker.
IDLE_ROOM: Final = 100
#: Maximum milliseconds until an expectation about the page is met.
TIMEOUT_MS: Final = 90_000
#: A name of this machine that is not a secure context: pages have no `navigator.clipboard`.
PLAIN_HOST: Final = "blipline.test"
#: No sandbox, as tests run as root in containers. The others stop Chromium's own requests.
ARGUMENTS: Final = (
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1",
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
    """A running gateway with the page, and an API key for each of three tenants."""

    #: The gateway's URL.
    address: str
    redis_url: str
    #: By tenant.
    keys: dict[str, str]

    @property
    def url(self) -> str:
        """The page's URL."""
        return f"{self.address}/ui"

    def jobs(self, name: str) -> set[str]:
        """Return the ids of a tenant's jobs."""
        with redis.Redis.from_url(self.redis_url, decode_responses=True) as connection:
            keys = connection.scan_iter(f"*:{name}.job.*", count=1000)
            return {key.rpartition(":")[2] for key in keys}


@contextmanager
def serving() -> Iterator[Served]:
    """Run Redis, a worker and a gateway."""
    with (
        running_redis() as url,
        running_worker(url, quiet=True),
        running_gateway(url) as address,
        _with_keys(address, url) as served,
    ):
        yield served


@contextmanager
def serving_idle(**settings: int) -> Iterator[Served]:
    """Run Redis, and in this process a gateway with these settings; no worker runs."""
    with running_redis() as url, ThreadPoolExecutor(1) as thread:
        app = create_app(GatewaySettings.load(redis_url=url, **settings))
        # Without a running loop, Gradio would make some that it never closes; and this thread may
        # have Playwright's.
        thread.submit(asyncio.run, _mount_page(app)).result()
        with running_app(app) as address, _with_keys(address, url) as served:
            yield served


async def _mount_page(app: FastAPI) -> None:
    mount(app, app.state.gateway)


@contextmanager
def _with_keys(address: str, redis_url: str) -> Iterator[Served]:
    with redis.Redis.from_url(redis_url) as connection:
        keys = ApiKeys(connection)
        names = ("acme", "globex", "initech")
        yield Served(address, redis_url, {name: keys.create(name) for name in names})


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run a headless Chromium with a profile of its own."""
    # The shell has no windows and no services of a desktop, half of the processor time.
    names = ("chromium-headless-shell", "chromium", "chromium-browser")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.fail("no chromium on the PATH: `make browser` installs it", pytrace=False)
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        # Only a profile on disk keeps compiled scripts, most of the time of a load.
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, args=[*ARGUMENTS]
        )
        assert context.browser is not None
        try:
            yield context.browser
        finally:
            context.close()


class Visitor:
    """A page that records requests and errors, by default with the browser's profile.

    Only one visitor at a time can use that profile.
    """

    def __init__(
        self,
        browser: Browser,
        served: Served,
        context: BrowserContext | None = None,
        *,
        size: tuple[int, int] = (1280, 860),
        scheme: Literal["light", "dark"] = "light",
    ) -> None:
        self.served = served
        self._own_context = context
        self.context = context or browser.contexts[0]
        self.context.set_default_timeout(TIMEOUT_MS)
        self.page: Page = self.context.new_page()
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        self.page.emulate_media(color_scheme=scheme)
        #: The URLs of all requests.
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", self._on_request)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._on_error)

    def sign_in(self, name: str = "acme") -> Page:
        """Open the page with a tenant's key."""
        self.page.goto(self.served.url)
        self.page.fill("#key", self.served.keys[name])
        self.page.press("#key", "Enter")
        self.page.wait_for_selector("#do-caption")
        return self.page

    def choose(self, name: str = "scene-02.jpg") -> None:
        """Upload a demo image in place of the current one."""
        self.remove_image()
        self.page.set_input_files("#image input[type=file]", IMAGES / name)
        self.page.locator("#image img").wait_for()

    def remove_image(self) -> None:
        """Remove the image, if there is any."""
        if self.page.locator("#image img").count():
            self.page.get_by_label("Remove Image").click()

    def tab(self, name: str) -> None:
        """Open a tab."""
        self.page.get_by_role("tab", name=name).click()

    def answer(self, output: str = "#caption-answer") -> str:
        """Wait for the text of an answer and return it."""
        answer = self.page.locator(f"{output} .answer-text")
        answer.wait_for()
        return answer.inner_text()

    def error_message(self) -> str:
        """Wait for an error message, close it and return its text."""
        message = self.page.get_by_test_id("toast-text").last
        message.wait_for()
        text = message.inner_text()
        self.page.get_by_test_id("toast-close").first.click()
        message.wait_for(state="detached")
        return text

    @property
    def external_requests(self) -> list[str]:
        """URLs of requests to other hosts than the gateway."""
        own = urlsplit(self.served.address).netloc
        parts = [(url, urlsplit(url)) for url in self.requests]
        return [url for url, to in parts if to.scheme not in ("data", "blob") and to.netloc != own]

    def close(self) -> None:
        """Close the page, and remove its data from the profile for the next visitor."""
        if self._own_context:
            self._own_context.close()
            return
        session = self.context.new_cdp_session(self.page)
        data = "cookies,local_storage,indexeddb,cache_storage,service_workers"
        origin = self.served.address
        session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": data})
        self.page.close()
        self.context.clear_cookies(domain=urlsplit(origin).hostname)
        self.context.clear_permissions()

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _on_error(self, error: Error) -> None:
        self.errors.append(str(error))
