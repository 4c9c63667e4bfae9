"""The documentation's site, built once."""

from pathlib import Path

import pytest

from tests.docs.site import build


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    build(folder)
    return folder
