import io
import os
import subprocess
import tarfile
from datetime import timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from azure.storage.blob import BlobServiceClient

from deploy.azure_batch.staging import (
    Archive,
    Staging,
    left_behind,
    pack_environment,
    pack_project,
    project_files,
)
from recsys import __version__
from recsys.errors import ClusterError, UsageError
from recsys.tracking import version_of
from tests import azurite


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name, text in {
        "a.py": "a",
        "b/c.py": "c",
        "secret.env": "KEY",
        ".gitignore": "*.env",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def commit(root: Path) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(root), *words], check=True)


def names(archive: Archive) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive.data)) as opened:
        return opened.getnames()


def test_only_what_git_tracks_is_packed(project: Path) -> None:
    commit(project)
    (project / "untracked.py").write_text("u")

    assert names(pack_project(project)) == [".gitignore", "a.py", "b/c.py"]


def test_a_tracked_file_that_was_deleted_is_left_out(project: Path) -> None:
    commit(project)
    (project / "a.py").unlink()

    assert project_files(project) == [".gitignore", "b/c.py"]


def test_without_git_caches_and_environments_are_left_out(project: Path) -> None:
    for folder in (".venv/lib", "b/__pycache__", "mlruns"):
        (project / folder).mkdir(parents=True)
        (project / folder / "x").write_text("x")

    assert project_files(project) == [".gitignore", "a.py", "b/c.py", "secret.env"]


def test_the_same_tree_gives_the_same_archive_whenever_it_was_written(project: Path) -> None:
    before = pack_project(project)
    for path in project.rglob("*"):
        os.utime(path, (1, 1))

    assert pack_project(project) == before


@pytest.mark.parametrize("change", ["content", "name", "executable"])
def test_another_tree_gives_another_archive(project: Path, change: str) -> None:
    before = pack_project(project)
    file = project / "a.py"
    if change == "content":
        file.write_text("b")
    elif change == "name":
        file.rename(project / "z.py")
    else:
        file.chmod(0o755)

    assert pack_project(project).sha256 != before.sha256


def test_the_environment_changes_with_the_pins_but_not_with_the_code() -> None:
    archive = pack_environment(Path(), install=True)

    assert "recsys/errors.py" not in names(archive)
    assert {"conda.yaml", "deploy/cluster/start_task.sh"} < set(names(archive))
    assert names(pack_environment(Path(), install=False)) == ["deploy/cluster/start_task.sh"]


def test_the_code_version_is_the_commit_and_says_when_files_differ(project: Path) -> None:
    assert version_of(project) == __version__
    commit(project)
    clean = version_of(project)
    (project / "a.py").write_text("changed")

    assert len(clean) == 40
    assert version_of(project) == f"{clean}+changes"


def test_what_git_neither_tracks_nor_ignores_is_left_behind(project: Path) -> None:
    assert left_behind(project) == []
    commit(project)
    (project / "new.yaml").write_text("new")

    assert left_behind(project) == ["new.yaml"]
    assert "new.yaml" not in project_files(project)


def test_an_archive_is_uploaded_once(
    project: Path, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = Staging(azurite.container(emulator, monkeypatch) + "/jobs")
    archive = pack_project(project)

    assert [staging.upload(archive), staging.upload(archive)] == [True, False]


def test_an_archive_that_was_altered_is_refused(
    project: Path, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = azurite.container(emulator, monkeypatch)
    staging, archive = Staging(url), pack_project(project)
    staging.upload(archive)
    service = BlobServiceClient.from_connection_string(emulator)
    service.get_blob_client(url.removeprefix("az://"), archive.blob).upload_blob(
        b"other", overwrite=True
    )

    with pytest.raises(ClusterError, match="was altered"):
        staging.upload(archive)


def test_a_missing_container_is_named(
    project: Path, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    azurite.container(emulator, monkeypatch)

    with pytest.raises(ClusterError, match="There is no container nowhere"):
        Staging("az://nowhere").upload(pack_project(project))


def test_a_link_reads_this_blob_only_and_ends(
    project: Path, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = Staging(azurite.container(emulator, monkeypatch))
    archive = pack_project(project)
    staging.upload(archive)
    link = staging.resource(archive, "p", timedelta(hours=1)).http_url
    ended = staging.resource(archive, "p", timedelta(minutes=-1)).http_url
    assert link and ended

    assert urlopen(link).read() == archive.data
    for wrong in (ended, link.split("?")[0], link.replace(archive.sha256, "0" * 64)):
        with pytest.raises(HTTPError) as refused:
            urlopen(wrong)
        assert refused.value.code in (403, 404)


def test_with_an_identity_there_is_no_signature(
    project: Path, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = Staging(azurite.container(emulator, monkeypatch), identity="/subscriptions/x")
    file = staging.resource(pack_project(project), "p", timedelta(hours=1))

    assert "sig=" not in (file.http_url or "")
    assert file.identity_reference and file.identity_reference.resource_id == "/subscriptions/x"


def test_storage_on_this_machine_is_refused() -> None:
    with pytest.raises(UsageError, match="no folder in Blob storage"):
        Staging("out/work")
