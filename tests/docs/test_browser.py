"""The site in a real browser: search, light and dark, and no word to anybody else."""

import asyncio
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.browser import CHROMIUM, browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH"),
]
SEARCH = "document.querySelector('.md-search__input')"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_search_finds_a_page_and_nothing_leaves_this_machine(address: str, tmp_path: Path) -> None:
    # RECSYS_PICTURES=docs/images keeps the picture that the pages show.
    picture = Path(os.environ.get("RECSYS_PICTURES", tmp_path)) / "site.png"

    async def look() -> None:
        async with browser() as page:
            await page.open(f"{address}/index.html")
            assert await page.evaluate("document.querySelector('article img').naturalWidth") > 0
            await page.until("document.querySelector('[data-md-component=search]') !== null")
            await page.evaluate(
                f"{SEARCH}.focus(); document.execCommand('insertText', false, 'quarantine')"
            )
            found = await page.until(
                "[...document.querySelectorAll('.md-search-result__link')].map(a => a.href)"
                ".filter(a => a.includes('engineer')).length"
            )
            assert found > 0
            await page.picture(picture)
            color = "getComputedStyle(document.body).backgroundColor"
            light = await page.evaluate(color)
            await page.evaluate("document.querySelector('#__palette_1').click()")
            assert await page.until(f"{color} !== '{light}'")
            await page.evaluate(f"location.href = '{address}/azure.html'")
            await page.until(
                "document.readyState === 'complete' && location.pathname === '/azure.html'"
            )
            await page.until("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
            assert page.errors == []
            assert any("search_index.json" in url for url in page.requests)
            assert len(page.requests) > 10
            local = {"127.0.0.1", None}
            assert {urlsplit(url).hostname for url in page.requests} <= local, page.requests

    asyncio.run(look())
    assert picture.stat().st_size > 10_000


def test_a_page_opens_from_the_disk(site: Path) -> None:
    async def look() -> None:
        async with browser() as page:
            await page.open((site / "scientist.html").as_uri())
            await page.until("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
            assert await page.evaluate("document.querySelectorAll('article h2').length") > 5
            assert {urlsplit(url).scheme for url in page.requests} <= {"file", "data", "blob"}

    asyncio.run(look())
