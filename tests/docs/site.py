"""What the built pages hold: their tags, and how many of each CommonMark sees in the source."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
COUNTED = {"h1", "h2", "h3", "h4", "li", "pre", "table", "tr", "td", "th", "img", "blockquote"}
# What a browser fetches by itself; a link that a person may follow is not among them.
FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src",),
    "object": ("data",),
    "link": ("href",),
}


@dataclass
class Page(HTMLParser):
    """One page: the tags of its article, its ids, and what it refers to."""

    counts: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    title: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._article = False
        self._in: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in = tag
        if tag == "article":
            self._article = True
        if self._article:
            self.counts[tag] += 1
            if tag == "a" and "href" in values:
                self.links.append(values["href"])
        if "id" in values:
            self.ids.add(values["id"])
        if "style" in values:
            self.styles.append(values["style"])
        self.fetched += [values[name] for name in FETCHED.get(tag, ()) if name in values]

    def handle_endtag(self, tag: str) -> None:
        self._in = None
        if tag == "article":
            self._article = False

    def handle_data(self, data: str) -> None:
        if self._in == "style":
            self.styles.append(data)
        if self._in == "title" and not self.title:
            self.title = data


def read(file: Path) -> Page:
    """Parse a built page."""
    page = Page()
    page.feed(file.read_text("utf-8"))
    return page


def build(folder: Path) -> str:
    """Build the site as `make docs` does; a warning ends it. Returns what was said."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def as_commonmark(text: str) -> Counter[str]:
    """Count the tags that a code host shows for a Markdown text."""
    page = Page()
    html = MarkdownIt("commonmark").enable("table").render(text)
    page.feed(f"<article>{html}</article>")
    return Counter({tag: n for tag, n in page.counts.items() if tag in COUNTED})
