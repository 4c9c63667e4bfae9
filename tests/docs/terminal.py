"""A terminal in which the pages' commands are executed, in this process where they are Python's.

Each command of the project costs seconds less that way than with a Python and a Spark of its own.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.projects._project_spec import load_project

from tests.docs.commands import ROOT

PACKAGES = ("recsys", "experiments", "registry", "deploy", "benchmarks")
# What a command may need of the project's folder.
COPIED = (
    *PACKAGES,
    "MLproject",
    "README.md",
    "conda.yaml",
    "constraints.txt",
    "docs",
    "pyproject.toml",
)
OUTPUT = re.compile(r"(?<![\w./:-])out/")


class Terminal:
    """A folder like the project's, variables, and an MLflow store of its own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = patch
        self.said: dict[str, str] = {}
        for name in COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, folder / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, folder / name)
        patch.chdir(folder)
        patch.setenv("HOME", str(folder / "home"))

    def be(self, user: str) -> None:
        """Go on as somebody else."""
        for name in ("LOGNAME", "USER"):
            self._patch.setenv(name, user)

    def run(self, command: str) -> str:
        """Execute one command; it must end well. Returns what it printed, and remembers it."""
        self.said[command] = self._run(command)
        return self.said[command]

    def _run(self, command: str) -> str:
        # Spark's JVM was started in another folder: paths are given in full.
        text = OUTPUT.sub(f"{self.folder}/out/", command)
        words = shlex.split(text, comments=True)
        if words[0] == "export":
            return self._export(words[1:])
        if words[0] == "cp":
            shutil.copy(words[1], words[2])
            return ""
        if words[:2] == ["mlflow", "run"]:
            return self._mlflow_run(words[2:])
        if words[:2] == ["python", "-m"] and words[2].split(".")[0] in PACKAGES:
            return self.module(words[2], *words[3:])
        if words[0].rpartition("/")[2] == "python":
            return self._process([sys.executable, *words[1:]])
        raise AssertionError(f"the tests cannot execute: {command}")

    def module(self, name: str, *arguments: str) -> str:
        """Execute `python -m name arguments` in this process."""
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [name, *arguments])
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code: object = 0
                try:
                    runpy.run_module(name, run_name="__main__", alter_sys=True)
                except SystemExit as end:
                    code = end.code
                finally:
                    while mlflow.active_run():
                        mlflow.end_run()
        assert code in (0, None), f"{name} {arguments}: exit code {code}\n{said.getvalue()[-3000:]}"
        return said.getvalue()

    def python(self, code: str, where: str, names: dict[str, object]) -> None:
        """Execute a page's Python, with what its earlier blocks have named."""
        text = code.replace('"out/', f'"{self.folder}/out/').replace(
            '"out"', f'"{self.folder}/out"'
        )
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(text, where, "exec"), names)

    def _export(self, settings: list[str]) -> str:
        for setting in settings:
            name, _, value = setting.partition("=")
            self._patch.setenv(name, value.replace("$PWD", str(self.folder)))
            if name == "MLFLOW_TRACKING_URI":
                mlflow.set_tracking_uri(os.environ[name])
        return ""

    def _mlflow_run(self, words: list[str]) -> str:
        """Execute what the MLproject's entry point says, as MLflow would."""
        options, parameters = run_options(words)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_EXPERIMENT_NAME", options["--experiment-name"])
            project = load_project(str(ROOT))
            entry = project.get_entry_point(options["-e"])
            command = entry.compute_command(parameters, None)
            return self.run(command)

    def _process(self, words: list[str]) -> str:
        done = subprocess.run(
            words, cwd=self.folder, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, (words, (done.stdout + done.stderr)[-3000:])
        return done.stdout + done.stderr


def run_options(words: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split `mlflow run`'s words behind it; checks that the entry point takes the parameters.

    Returns:
        Its options, and the parameters of `-P`.
    """
    assert words[0] == ".", words
    pairs = list(zip(words[1::2], words[2::2], strict=True))
    options = {name: value for name, value in pairs if name != "-P"}
    known = {"-e", "--experiment-name", "--env-manager", "--backend", "--backend-config"}
    assert set(options) <= known, options
    parameters = dict(value.split("=", 1) for name, value in pairs if name == "-P")
    entries = yaml.safe_load((ROOT / "MLproject").read_text("utf-8"))["entry_points"]
    assert options["-e"] in entries, options["-e"]
    entry = entries[options["-e"]].get("parameters", {})
    required = {n for n, s in entry.items() if not isinstance(s, dict) or "default" not in s}
    assert required <= set(parameters), (options["-e"], required)
    return options, parameters
