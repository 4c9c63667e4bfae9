"""Where logged models lie: on MLflow's server, on one that lies, in a cloud, on a disk."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import mlflow
import pytest
from mlflow import MlflowClient

from recsys.errors import ModelError, UsageError
from recsys.models import files
from registry import sources
from registry.fetching import fetch
from registry.sources import FetchError
from tests import azurite, mlflow_server
from tests.registry import malicious
from tests.registry.malicious import Attack, Payload, log_model, logged_model, saved_model

SERVED = "/api/2.0/mlflow-artifacts/artifacts"
QUICKLY = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An intact saved model."""
    return saved_model(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def original(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that MLflow logs for it."""
    return logged_model(model, tmp_path_factory.mktemp("logged") / "model")


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to alter."""
    return Path(shutil.copytree(original, tmp_path / "store" / "artifacts"))


@pytest.fixture
def track(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], object]]:
    """Name another tracking server to this process, until the test ends."""
    for name in [n for n in os.environ if n.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    previous = mlflow.get_tracking_uri()
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(previous)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# --- which address


def test_a_model_that_is_not_there_is_named(mlflow_store: str, tmp_path: Path) -> None:
    for uri in ("models:/m-0123456789abcdef0123456789abcdef", "models:/shop/7"):
        with pytest.raises(ModelError, match=f"There is no {uri}"):
            fetch(uri, tmp_path / "fetched")


@pytest.mark.parametrize("uri", ["models:/shop/latest", "models:/shop@production", "models:/shop"])
def test_a_model_that_may_be_another_tomorrow_is_not_fetched(
    track: Callable[[str], object], tmp_path: Path, uri: str
) -> None:
    track("http://127.0.0.1:9")
    with pytest.raises(ModelError, match="is no one model: name a logged model"):
        fetch(uri, tmp_path / "fetched")


@pytest.mark.parametrize("uri", ["runs:/0123/model", "dbfs:/models/a", "ftp://host/a", "x:y"])
def test_an_address_of_an_unknown_kind_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises((ModelError, UsageError), match=r"is no place to fetch|has an unknown form"):
        fetch(uri, tmp_path / "fetched")


# --- through MLflow's server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server that hands out its artifacts, and the folder that it keeps them in."""
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server.running(folder / "mlflow.db", str(folder / "artifacts")) as address:
        yield address, folder / "artifacts"


@dataclass(frozen=True)
class Logged:
    """A model that a server keeps: how it is asked for, and where it really lies."""

    uri: str
    root: Path


@pytest.fixture(scope="module")
def logged_once(served: tuple[str, Path], model: Path) -> Logged:
    address, artifacts = served
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(address)
    mlflow.set_experiment("served")
    uri = log_model(model)
    location = str(MlflowClient().get_logged_model(uri.removeprefix("models:/")).artifact_location)
    mlflow.set_tracking_uri(previous)
    assert location.startswith("mlflow-artifacts:/")
    return Logged(uri, artifacts / location.removeprefix("mlflow-artifacts:/"))


@pytest.fixture
def logged(
    logged_once: Logged,
    served: tuple[str, Path],
    original: Path,
    track: Callable[[str], object],
) -> Logged:
    """A model on the server, as it was logged."""
    track(served[0])
    shutil.rmtree(logged_once.root)
    shutil.copytree(original, logged_once.root)
    return logged_once


def test_a_model_is_fetched_through_a_server(logged: Logged, model: Path, tmp_path: Path) -> None:
    approved = files.checked(model)
    assert fetch(logged.uri, tmp_path / "fetched", approved.files) == approved.digest
    assert content(tmp_path / "fetched") == content(model)


@pytest.mark.parametrize(
    "attack",
    [a for a in malicious.LOGGED_ATTACKS if "symlink" not in a.name and "pipe" not in a.name],
    ids=str,
)
def test_an_attack_is_refused_through_a_server(
    logged: Logged, tmp_path: Path, attack: Attack
) -> None:
    payload = Payload(tmp_path / "canary")
    attack.build(logged.root, payload)
    with pytest.raises(ModelError, match=attack.refused):
        fetch(logged.uri, tmp_path / "fetched")
    assert not payload.canary.exists()
    assert not content(tmp_path / "fetched")


def test_what_a_server_cannot_give_is_no_verdict_on_the_model(
    logged: Logged, tmp_path: Path
) -> None:
    # The server itself does not follow a symlink out of its folder.
    file = logged.root / "data" / "model" / "items.parquet"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match="cannot be read"):
        fetch(logged.uri, tmp_path / "fetched")


# --- from a server that lies


@dataclass
class Liar:
    """A server that says of each folder what it likes, and sends what it likes.

    Attributes:
        folder: what it hands out where it is honest.
        sizes: path → the size that it claims.
        endless: path of a file that never ends.
        asked: the paths that it was asked for, each with the header that carries a password.
        sent: bytes of the endless file.
    """

    folder: Path
    address: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    endless: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0

    def listing(self, path: str) -> bytes:
        there = sorted((self.folder / path).iterdir())
        told = []
        for file in there:
            name = str(file.relative_to(self.folder))
            size = self.sizes.get(name, file.stat().st_size)
            told.append({"path": file.name, "is_dir": file.is_dir(), "file_size": size})
        return json.dumps({"files": told}).encode()


@contextmanager
def lying(folder: Path) -> Iterator[Liar]:
    liar = Liar(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            liar.asked.append((self.path, self.headers.get("Authorization")))
            path = url.path.removeprefix(SERVED).strip("/")
            self.send_response(200)
            self.end_headers()
            if "path" in parse_qs(url.query) or not path:
                asked = parse_qs(url.query).get("path", [""])[0]
                self.wfile.write(liar.listing(asked))
            elif path == liar.endless:
                self.forever()
            else:
                self.wfile.write((liar.folder / path).read_bytes())

        def forever(self) -> None:
            try:
                while liar.sent < 1 << 30:
                    liar.sent += self.wfile.write(b"\0" * 65536)
            except OSError:
                return

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    liar.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield liar
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def liar(root: Path, track: Callable[[str], object]) -> Iterator[Liar]:
    """The tracking server, which lies."""
    with lying(root) as server:
        track(server.address)
        yield server


def test_an_honest_server_of_that_kind_is_believed(liar: Liar, model: Path, tmp_path: Path) -> None:
    assert fetch("mlflow-artifacts:/", tmp_path / "fetched") == files.digest_of(model)


@QUICKLY
@pytest.mark.parametrize("name", ["MLmodel", "data/model/manifest.json"])
def test_a_small_file_that_never_ends_is_cut_off(liar: Liar, tmp_path: Path, name: str) -> None:
    liar.endless = name
    with pytest.raises(ModelError, match=rf"{name} has more than .* bytes: it is not used"):
        fetch("mlflow-artifacts:/", tmp_path / "fetched")
    assert liar.sent < 64 << 20


@QUICKLY
def test_a_table_that_never_ends_is_cut_off(liar: Liar, tmp_path: Path) -> None:
    liar.endless = "data/model/items.parquet"
    with pytest.raises(ModelError, match=r"items\.parquet was changed after the model was saved"):
        fetch("mlflow-artifacts:/", tmp_path / "fetched")
    assert liar.sent < 64 << 20
    assert not (tmp_path / "fetched" / "items.parquet").exists()


@pytest.mark.parametrize("size", [1 << 60, -1, 0])
def test_a_table_of_another_size_than_the_manifest_says_is_not_asked_for(
    liar: Liar, tmp_path: Path, size: int
) -> None:
    liar.sizes["data/model/items.parquet"] = size
    with pytest.raises(ModelError, match=r"items\.parquet was changed after the model was saved"):
        fetch("mlflow-artifacts:/", tmp_path / "fetched")
    assert not [path for path, _ in liar.asked if path.endswith(".parquet")]


def test_an_answer_that_is_no_list_is_no_verdict_on_the_model(
    liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for answer in (b"[]", b"{}[", b'{"files": [{}]}', b'{"files": 7}'):
        monkeypatch.setattr(Liar, "listing", lambda *_, answer=answer: answer)
        with pytest.raises(FetchError, match="cannot be read"):
            fetch("mlflow-artifacts:/", tmp_path / "fetched")


def test_a_server_that_does_not_answer_is_no_verdict_on_the_model(
    track: Callable[[str], object], tmp_path: Path
) -> None:
    track("http://127.0.0.1:9")
    for uri in ("mlflow-artifacts:/", "models:/m-0123456789abcdef0123456789abcdef"):
        with pytest.raises(FetchError, match="check that the storage answers") as error:
            fetch(uri, tmp_path / "fetched")
        assert not isinstance(error.value, ModelError)


@pytest.mark.parametrize(
    "address", ["mlflow-artifacts://{host}/", "http://{host}/api/2.0/mlflow-artifacts/artifacts"]
)
def test_a_model_on_another_server_is_not_fetched_and_no_password_goes_there(
    liar: Liar, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reviewer")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    with lying(root) as other:
        uri = address.format(host=urlsplit(other.address).netloc)
        with pytest.raises(ModelError, match="which is not the tracking server") as error:
            fetch(uri, tmp_path / "fetched")
        assert other.asked == []
    assert liar.asked == []
    assert "correct horse" not in str(error.value)


def test_the_tracking_servers_password_goes_to_it_and_into_no_message(
    liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reviewer")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    fetch("mlflow-artifacts:/", tmp_path / "fetched")
    assert all(password for _, password in liar.asked)
    monkeypatch.setattr(Liar, "listing", lambda *_: b"correct horse")
    with pytest.raises(FetchError) as error:
        fetch("mlflow-artifacts:/", tmp_path / "again")
    assert "correct horse" not in str(error.value)


# --- from a cloud


@pytest.fixture
def blob(
    original: Path, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, bytes | None], str]:
    """Upload the logged model as MLflow does, with one file more or changed; returns its URL."""
    from azure.storage.blob import BlobServiceClient

    container = azurite.container(emulator, monkeypatch).removeprefix("az://")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", emulator)
    client = BlobServiceClient.from_connection_string(emulator).get_container_client(container)

    def upload(name: str, data: bytes | None) -> str:
        url = f"wasbs://{container}@{azurite.ACCOUNT}.blob.core.windows.net/models/artifacts"
        repository = mlflow.artifacts.get_artifact_repository(url)
        repository.log_artifacts(str(original))
        if data is not None:
            client.upload_blob(f"models/artifacts/{name}", data, overwrite=True)
        return url

    return upload


def test_a_model_is_fetched_from_blob_storage(
    blob: Callable[[str, bytes | None], str], model: Path, tmp_path: Path
) -> None:
    approved = files.checked(model)
    assert fetch(blob("", None), tmp_path / "fetched", approved.files) == approved.digest
    assert content(tmp_path / "fetched") == content(model)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("code/a.py", b"1", "holds code/, which is no part of a recommender and may run code"),
        ("python_model.pkl", b"1", "holds python_model.pkl, which is no part of a recommender"),
        ("data/model/a.pkl", b"1", "lists a.pkl, and a.pkl is no plain data"),
        ("data/model/a/b.parquet", b"1", "lists 'a/', which is no plain file name"),
        ("data/model/items.parquet", b"1", "items.parquet was changed after the model was saved"),
        ("data/model/manifest.json", b" " * (2 << 20), "manifest.json has more than 1,048,576"),
        ("MLmodel", b"flavors: {}", "MLmodel is damaged or describes no python_function"),
    ],
)
def test_an_attack_in_blob_storage_is_refused_by_name(
    blob: Callable[[str, bytes | None], str],
    tmp_path: Path,
    name: str,
    data: bytes,
    message: str,
) -> None:
    with pytest.raises(ModelError, match=message):
        fetch(blob(name, data), tmp_path / "fetched")
    assert not content(tmp_path / "fetched")


def test_a_folder_that_a_cloud_marks_by_an_empty_object_is_one(
    blob: Callable[[str, bytes | None], str], model: Path, tmp_path: Path
) -> None:
    assert fetch(blob("data", b""), tmp_path / "fetched") == files.digest_of(model)


def test_a_heap_of_objects_is_not_listed_to_its_end(
    blob: Callable[[str, bytes | None], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOST_FILES", 5)
    with pytest.raises(ModelError, match="holds more than 5 files"):
        fetch(blob("", None), tmp_path / "fetched")


def test_a_container_that_is_not_there_is_no_verdict_on_the_model(
    blob: Callable[[str, bytes | None], str], tmp_path: Path
) -> None:
    container = urlsplit(blob("", None)).username or ""
    missing = blob("", None).replace(container, "missing")
    with pytest.raises(FetchError, match="cannot be read"):
        fetch(missing, tmp_path / "fetched")
