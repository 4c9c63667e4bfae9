"""The documentation's site: whole, readable everywhere, and without anything from elsewhere."""

import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.site import COUNTED, DOCS, ROOT, as_commonmark, read

PAGES = sorted(DOCS.rglob("*.md"))
# The others are made: the API from docstrings, notebooks by a program, the changelog from its file.
WRITTEN = [page for page in DOCS.glob("*.md") if page.name != "changelog.md"]
PACKAGES = ("recsys", "experiments", "registry", "deploy")


def _html(site: Path, page: Path) -> Path:
    return site / page.relative_to(DOCS).with_suffix(".html")


def _modules() -> list[str]:
    """The dotted names of all public modules of the project."""
    files = [f for p in PACKAGES for f in (ROOT / p).rglob("*.py") if not f.name.startswith("_")]
    return [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in sorted(files)]


def test_every_page_is_built_and_has_a_title_of_its_own(site: Path) -> None:
    titles = Counter(read(_html(site, page)).title for page in PAGES)
    assert len(PAGES) > 30
    assert [title for title, n in titles.items() if n > 1 or len(title) < 5] == []


def test_every_page_is_in_the_navigation(site: Path) -> None:
    nav = re.search(r"<nav class=\"md-nav md-nav--primary.*?</nav>\s*</div>", _index(site), re.S)
    assert nav is not None
    linked = set(re.findall(r'href="([^"#:]+\.html)"', nav[0]))
    pages = {_html(site, page).relative_to(site).as_posix() for page in PAGES}
    assert len(linked) > 20
    assert pages - linked - {"index.html"} == set()


def _index(site: Path) -> str:
    return (site / "404.html").read_text("utf-8").replace('href="/', 'href="')


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_a_page_reads_the_same_here_and_on_a_code_host(site: Path, page: Path) -> None:
    text = page.read_text("utf-8")
    shown = read(_html(site, page)).counts
    assert {tag: shown[tag] for tag in COUNTED if shown[tag]} == as_commonmark(text)
    assert "```mermaid" not in text, "draw it as images/*.svg: mermaid comes from elsewhere"


def test_every_link_and_image_of_the_site_leads_somewhere(site: Path) -> None:
    pages = {file: read(file) for file in site.rglob("*.html") if file.name != "404.html"}
    broken = []
    for file, page in pages.items():
        for link in {*page.links, *page.fetched}:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            known = not parts.fragment or unquote(parts.fragment) in (
                pages[target].ids if target in pages else ()
            )
            if not target.exists() or not known:
                broken.append(f"{file.relative_to(site)}: {link}")
    assert broken == []


def test_links_of_the_readme_lead_somewhere(site: Path) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        assert not anchor or anchor in read(_html(site, ROOT / path)).ids, link


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for file in site.rglob("*.html"):
        page = read(file)
        assert page.fetched, file
        outside = [u for u in page.fetched if re.match(r"(?i)(?:[a-z]+:)?//", u)]
        assert outside == [], file
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", " ".join(page.styles)), file
        assert "mermaid" not in page.counts
        assert 'class="mermaid"' not in file.read_text("utf-8")
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", sheet.read_text("utf-8"))


def test_the_search_index_holds_every_page(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {_html(site, page).relative_to(site).as_posix() for page in PAGES} <= found
    assert any("fold_in" in entry["text"] for entry in index["docs"])


def test_the_api_lists_every_module_with_its_public_names(site: Path) -> None:
    ids = {name for file in (site / "api").glob("*.html") for name in read(file).ids}
    assert [name for name in _modules() if name not in ids] == []
    assert "recsys.published.published_table" in ids
    assert not [name for name in ids if "._" in name and "__" not in name]
