"""Set-up on a bare machine: what is installed, when it is redone, and what a user is told."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow.projects.utils
import pytest
import yaml
from mlflow.utils.environment import _PythonEnv
from mlflow.utils.requirements_utils import _parse_requirements

from deploy import environment
from deploy.environment import ROOT, STAMP, SetupError

CONDA = (ROOT / "conda.yaml").read_text()


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def fake_java(folder: Path, version: str) -> Path:
    return executable(folder / "java", f"echo 'openjdk version \"{version}\"' >&2")


# --- the files


def test_requirements_are_those_that_yaml_and_mlflow_read() -> None:
    pins = environment.requirements(ROOT / "conda.yaml")
    assert ["-c constraints.txt", *pins] == yaml.safe_load(CONDA)["dependencies"][-1]["pip"]
    python_env = _PythonEnv.from_conda_yaml(ROOT / "conda.yaml")
    parsed = list(_parse_requirements(python_env.dependencies, False, str(ROOT)))
    assert [r.req_str for r in parsed if not r.is_constraint] == pins
    constraints = [r.req_str.split(" ;")[0] for r in parsed if r.is_constraint]
    assert set(pins) <= set(constraints)
    assert all(re.fullmatch(r"[a-z0-9.-]+==[\w.]+", pin) for pin in constraints)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dependencies:\n  - pip\n", "one `- pip:` section"),
        ("  - pip:\n    - numpy\n", "exact pin"),
        ("  - pip:\n    - numpy>=2\n", "exact pin"),
        ("  - pip:\n    - numpy==2.0.0  # because\n", "exact pin"),
    ],
)
def test_an_unexpected_conda_yaml_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "conda.yaml").write_text(text)
    with pytest.raises(SetupError, match=problem):
        environment.requirements(tmp_path / "conda.yaml")


def test_mlproject_lists_the_flow_in_order() -> None:
    listed = list(yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"])
    flow = "main simulate ingest prepare popularity item_item als compare promote batch_score"
    assert [name for name in listed if name in flow.split()] == flow.split()


@pytest.mark.parametrize("name", yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"])
def test_every_entry_point_passes_every_parameter(name: str) -> None:
    point = mlflow.projects.utils.load_project(str(ROOT)).get_entry_point(name)
    module = re.match(r"python -m (\S+)", point.command)
    assert module is not None
    assert importlib.util.find_spec(module[1].split(".")[0]) is not None
    for parameter in point.parameters:
        assert f"--{parameter} {{{parameter}}}" in point.command
    assert point.command.count("{") == len(point.parameters)


def test_values_reach_the_step_as_they_were_given() -> None:
    point = mlflow.projects.utils.load_project(str(ROOT)).get_entry_point("ingest")
    source = "it's in $HOME/a b/*.csv; exit 1"
    command = point.compute_command({"source": source, "output": ""}, None)
    shown = command.replace("python -m experiments.ingest", "printf '%s\\n'")
    told = subprocess.run(["bash", "-c", shown], capture_output=True, text=True).stdout
    assert told.splitlines()[:4] == ["--source", source, "--output", ""]


# --- when work is done


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose installation is only written down, in the file `done`."""
    for name in ("conda.yaml", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    fake_java(tmp_path / "bin", "17.0.1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("JAVA_HOME", raising=False)

    def note(command: list[str], problem: str) -> None:
        words = " ".join(command)
        if "-m venv" in words:
            executable(environment.python_of(tmp_path / ".venv"), "")
        kind = "venv" if "-m venv" in words else "project" if "--editable" in words else "packages"
        with (tmp_path / "done").open("a") as done:
            done.write(f"{kind}\n")

    monkeypatch.setattr(environment, "run", note)
    return tmp_path


def set_up(project: Path) -> list[str]:
    """Set up and return what was done."""
    (project / "done").write_text("")
    environment.set_up(project, project / ".venv")
    return list(dict.fromkeys((project / "done").read_text().splitlines()))


ALL = ["venv", "packages", "project"]


def test_nothing_changed_nothing_done(project: Path) -> None:
    assert set_up(project) == ALL
    assert set_up(project) == []


@pytest.mark.parametrize(
    ("name", "done"),
    [("conda.yaml", ALL), ("constraints.txt", ALL), ("pyproject.toml", ["project"])],
)
def test_a_change_redoes_what_it_touches(project: Path, name: str, done: list[str]) -> None:
    set_up(project)
    with (project / name).open("a") as file:
        file.write("# changed\n")
    assert set_up(project) == done
    assert set_up(project) == []


def test_a_moved_project_is_set_up_anew(project: Path) -> None:
    set_up(project)
    stamp = (project / ".venv" / STAMP).read_bytes()
    elsewhere = project / "elsewhere"
    environment.make_venv(elsewhere)
    (elsewhere / STAMP).write_bytes(stamp)
    done = environment.read_stamp(elsewhere)
    assert done.get("packages") != environment.digests(project, elsewhere)["packages"]


@pytest.mark.parametrize("stage", ["venv", "packages", "project"])
def test_an_interrupted_installation_is_mended(
    project: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = environment.run

    def killed(command: list[str], problem: str) -> None:
        words = " ".join(command)
        now = "venv" if "-m venv" in words else "project" if "--editable" in words else "packages"
        if now == stage:
            raise KeyboardInterrupt
        done(command, problem)

    monkeypatch.setattr(environment, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        set_up(project)
    monkeypatch.setattr(environment, "run", done)
    assert set_up(project) == (["project"] if stage == "project" else ALL)
    assert set_up(project) == []


def test_a_venv_whose_python_is_gone_is_made_anew(project: Path) -> None:
    set_up(project)
    environment.python_of(project / ".venv").unlink()
    assert set_up(project) == ALL


def test_a_folder_that_is_no_venv_is_left_alone(project: Path) -> None:
    (project / ".venv").mkdir()
    (project / ".venv" / "thesis.txt").touch()
    with pytest.raises(SetupError, match="not a virtual environment"):
        set_up(project)
    assert (project / ".venv" / "thesis.txt").exists()


def test_pip_is_tried_where_uv_fails(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def only_pip(command: list[str], problem: str) -> None:
        commands.append(command)
        if command[0].endswith("uv"):
            raise SetupError(problem)

    monkeypatch.setattr(environment, "run", only_pip)
    environment.install_packages(project, project / ".venv")
    assert [command[0].rsplit("/")[-1] for command in commands] == ["python", "uv", "python"]
    assert "numpy==" in " ".join(commands[-1])


def test_a_failure_shows_the_end_of_the_log() -> None:
    code = "import sys; print('\\n'.join(map(str, range(100)))); sys.exit(3)"
    with pytest.raises(SetupError, match=r"no luck; the end of the log:\n80\n") as raised:
        environment.run([sys.executable, "-c", code], "no luck")
    assert str(raised.value).endswith("99")


def test_an_old_python_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(SetupError, match=r"too old: install Python 3\.11 or newer"):
        set_up(project)


# --- Java


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime', 17),
        ('java version "1.8.0_302"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "22-ea" 2024', 22),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", 0),
    ],
)
def test_java_versions(text: str, version: int) -> None:
    assert environment.parse_java_version(text) == version


def test_java_on_the_path_is_enough(tmp_path: Path) -> None:
    java = fake_java(tmp_path, "21.0.1")
    assert environment.ensure_java({"PATH": str(tmp_path)}) == str(java)


def test_java_home_comes_first_and_must_fit(tmp_path: Path) -> None:
    fake_java(tmp_path / "path", "17.0.1")
    java = fake_java(tmp_path / "new" / "bin", "17.0.1")
    fake_java(tmp_path / "old" / "bin", "1.8.0_302")
    variables = {"PATH": str(tmp_path / "path")}
    home = str(tmp_path / "new")
    assert environment.ensure_java({**variables, "JAVA_HOME": home}) == str(java)
    for home, what in (("old", "Java 8"), ("missing", "no Java")):
        with pytest.raises(SetupError, match=f"holds {what}, .* correct JAVA_HOME"):
            environment.ensure_java({**variables, "JAVA_HOME": str(tmp_path / home)})


def test_without_java_and_apt_the_user_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="cannot be installed from here: install it"):
        environment.ensure_java({"PATH": str(tmp_path)})


def machine_with_apt(folder: Path, monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    """A PATH with an `apt-get` that installs the second Java package and knows no first."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    for name in ("env", "cat", "chmod"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    fake_java(folder / "package", "21.0.1")
    script = f"""
echo "$@" >> {folder}/asked
case "$*" in
  *openjdk-17*) echo 'E: no such package' >&2; exit 100 ;;
  *openjdk-21*) cat {folder}/package/java > {folder}/java; chmod +x {folder}/java ;;
esac"""
    executable(folder / "apt-get", script)
    monkeypatch.setenv("PATH", str(folder))


def test_java_is_installed_where_apt_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with_apt(tmp_path, monkeypatch, user=0)
    java = environment.ensure_java({"PATH": str(tmp_path)})
    assert java == str(tmp_path / "java")
    assert (tmp_path / "asked").read_text().splitlines()[:2] == [
        "-y update",
        "-y install --no-install-recommends openjdk-17-jre-headless",
    ]


@pytest.mark.parametrize("allowed", [True, False])
def test_sudo_is_used_only_where_it_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    machine_with_apt(tmp_path, monkeypatch, user=1000)
    (tmp_path / "true").symlink_to("/usr/bin/true")
    executable(tmp_path / "sudo", 'shift; exec "$@"' if allowed else "exit 1")
    if allowed:
        assert environment.ensure_java({"PATH": str(tmp_path)}) == str(tmp_path / "java")
    else:
        with pytest.raises(SetupError, match="cannot be installed from here"):
            environment.ensure_java({"PATH": str(tmp_path)})
        assert not (tmp_path / "asked").exists()


def test_python_without_venv_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"apt-get install python3\.\d+-venv"):
        environment.ensure_ensurepip()
