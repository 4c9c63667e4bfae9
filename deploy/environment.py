"""Set up Python packages and Java on a bare machine: `python3 deploy/environment.py --venv .venv`.

Stands on the standard library alone, because nothing is installed yet when it runs: on a laptop
(`make setup`), in CI and as the start task of a node. A second run with nothing changed is quick;
an installation that was cut short is made anew.
"""

# Lets a Python that is too old read this file far enough to be told so.
from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".recsys-environment"
OLDEST_PYTHON = (3, 11)
OLDEST_JAVA = 17
JAVA_PACKAGES = ("openjdk-17-jre-headless", "openjdk-21-jre-headless")


class SetupError(Exception):
    """The machine cannot be set up; the message is one sentence that says what is missing."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, set up, and exit: 0 done, 1 could not be done, 2 wrong parameter."""
    parser = argparse.ArgumentParser(prog="python3 deploy/environment.py", description=__doc__)
    parser.add_argument("--venv", default=".venv", help="the folder to install into (.venv)")
    parser.add_argument(
        "--requirements", action="store_true", help="only print the direct requirements"
    )
    options = parser.parse_args(arguments)
    try:
        if options.requirements:
            print("\n".join(requirements(ROOT / "conda.yaml")))
        else:
            set_up(ROOT, Path(options.venv).absolute())
    except (SetupError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def set_up(root: Path, venv: Path) -> None:
    """Make sure of Python packages, this project and Java.

    Args:
        root: the project, with conda.yaml, constraints.txt and pyproject.toml.
        venv: where the virtual environment is, or is to be.

    Raises:
        SetupError: Python or Java is too old or missing, or a package could not be installed.
    """
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise SetupError(
            f"Python {sys.version.split()[0]} is too old: install Python {oldest} or newer and "
            f"name it, for example `make setup PYTHON=python{oldest}`."
        )
    done = read_stamp(venv)
    java = java_command(os.environ)
    if java is None or java != done.get("java"):
        java = ensure_java(os.environ)
    wanted = {**digests(root, venv), "java": java}
    if done == wanted:
        return
    started = time.monotonic()
    if done.get("packages") != wanted["packages"]:
        say(f"Making {venv.name} with Python {sys.version.split()[0]}.")
        make_venv(venv)
        install_packages(root, venv)
        write_stamp(venv, {"packages": wanted["packages"]})
    install_project(root, venv)
    write_stamp(venv, wanted)
    say(f"Ready after {time.monotonic() - started:.0f} s.")


# ------------------------------------------------------------------------------- what is wanted


def requirements(conda_yaml: Path) -> list[str]:
    """Return the exact pins of conda.yaml's pip section, without its `-c` line.

    Reads only the simple form that our own file has, one `name==version` an item.

    Raises:
        SetupError: the section is missing, or an item has another form.
    """
    result = []
    lines = conda_yaml.read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if line.strip() == "- pip:"]
    if len(starts) != 1:
        raise SetupError(f"{conda_yaml.name} must hold one `- pip:` section.")
    for line in lines[starts[0] + 1 :]:
        text = line.strip()
        if not text or text.startswith("#") or text == "- -c constraints.txt":
            continue
        match = re.fullmatch(r"- ([A-Za-z0-9._-]+==[A-Za-z0-9.]+)", text)
        if match is None:
            raise SetupError(
                f"{conda_yaml.name}: {text!r} must be an exact pin such as `- numpy==2.4.6`."
            )
        result.append(match[1])
    return result


def digests(root: Path, venv: Path) -> dict[str, str]:
    """Return what the installation depends on: one digest for packages, one for the project.

    The folders belong to both, because an environment does not survive being moved.
    """
    python = f"{sys.version} {venv}"
    packages = [read(root / "conda.yaml"), read(root / "constraints.txt"), python]
    return {
        "packages": digest(packages),
        "project": digest([read(root / "pyproject.toml"), str(root)]),
    }


def read(path: Path) -> str:
    """Return a file's text; raises SetupError where it is missing."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"{path.name} cannot be read ({error.strerror}): check out the project again."
        ) from None


def digest(parts: Sequence[str]) -> str:
    """Return one SHA-256 over several texts."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


def read_stamp(venv: Path) -> dict[str, str]:
    """Return what an earlier run finished; nothing where the environment does not work."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    works = isinstance(stamp, dict) and python_of(venv).exists()
    return stamp if works else {}


def write_stamp(venv: Path, done: Mapping[str, str]) -> None:
    """Record what is finished, whole or not at all."""
    temporary = venv / f"{STAMP}.new"
    temporary.write_text(json.dumps(done), encoding="utf-8")
    temporary.replace(venv / STAMP)


# ------------------------------------------------------------------------------- Python packages


def make_venv(venv: Path) -> None:
    """Make a fresh virtual environment in place of an outdated or half-made one.

    Raises:
        SetupError: the folder holds something else, or Python comes without venv.
    """
    ours = (venv / STAMP).exists() or (venv / "pyvenv.cfg").exists()
    if venv.exists():
        if not ours and any(venv.iterdir()):
            raise SetupError(f"{venv} is not a virtual environment: name another with --venv.")
        shutil.rmtree(venv)
    ensure_ensurepip()
    venv.mkdir(parents=True)
    # From the first moment on the folder says whose it is, so that a killed run can be redone.
    write_stamp(venv, {})
    # The base interpreter: this one may be the very environment that was just removed.
    python = getattr(sys, "_base_executable", None) or sys.executable
    run([python, "-m", "venv", str(venv)], "The virtual environment could not be made")


def ensure_ensurepip() -> None:
    """Make sure of `python3 -m venv`, which Debian ships as a package of its own."""
    if importlib.util.find_spec("ensurepip") is not None:
        return
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if not apt_install([package]):
        raise SetupError(f"Python lacks venv: install it (Debian: apt-get install {package}).")


def install_packages(root: Path, venv: Path) -> None:
    """Install conda.yaml's pip section: through uv (a third of pip's time), else through pip.

    The fallback is for machines whose pip is configured for a mirror that uv does not know.

    Raises:
        SetupError: neither could install them; the message shows the end of the log.
    """
    pins = requirements(root / "conda.yaml")
    wanted = [*pins, "-c", str(root / "constraints.txt")]
    pip = [str(python_of(venv)), "-m", "pip", "install"]
    say(f"Installing {len(pins)} packages and what they need (a minute or two).")
    run(
        [*pip, *(pin for pin in pins if pin.startswith("uv=="))],
        "uv could not be installed",
    )
    uv = [str(python_of(venv).with_name("uv")), "pip", "install", "--python", str(python_of(venv))]
    try:
        run([*uv, *wanted], "uv could not install the packages")
    except SetupError:
        say("uv could not reach them all; trying pip, which takes longer.")
        run([*pip, *wanted], "The packages could not be installed")


def install_project(root: Path, venv: Path) -> None:
    """Install this project in place, so that its modules and MLflow plug-ins are found."""
    say("Installing this project.")
    # With the environment's own setuptools: nothing is fetched.
    options = ["--no-deps", "--no-build-isolation", "--editable", str(root)]
    command = [str(python_of(venv)), "-m", "pip", "install", *options]
    run(command, "This project could not be installed")


def python_of(venv: Path) -> Path:
    """Return the environment's interpreter."""
    return venv / "bin" / "python"


# ------------------------------------------------------------------------------- Java


def ensure_java(environment: Mapping[str, str]) -> str:
    """Make sure that Spark will find Java 17 or newer; install Debian's package where allowed.

    Args:
        environment: the variables that decide which Java is found.

    Returns:
        The path of the `java` that Spark will use.

    Raises:
        SetupError: there is none, and none can be installed here.
    """
    java = java_command(environment)
    version = java_version(java)
    if java and version >= OLDEST_JAVA:
        return java
    what = f"Java {version}" if version else "no Java"
    # Spark takes JAVA_HOME before the PATH, so another Java beside it would not help.
    if environment.get("JAVA_HOME"):
        raise SetupError(
            f"JAVA_HOME={environment['JAVA_HOME']} holds {what}, but Spark needs Java "
            f"{OLDEST_JAVA} or newer: correct JAVA_HOME, or unset it."
        )
    say(f"Spark needs Java {OLDEST_JAVA} or newer and there is {what}: installing it.")
    if any(apt_install([package]) for package in JAVA_PACKAGES):
        java = java_command(environment)
        if java and java_version(java) >= OLDEST_JAVA:
            return java
    raise SetupError(
        f"Spark needs Java {OLDEST_JAVA} or newer, which cannot be installed from here: install "
        f"it (Debian: apt-get install {JAVA_PACKAGES[0]}; conda: openjdk=17) or set JAVA_HOME."
    )


def java_command(environment: Mapping[str, str]) -> str | None:
    """Return the `java` that Spark would start: JAVA_HOME's, else the first on the PATH."""
    home = environment.get("JAVA_HOME")
    name = str(Path(home, "bin", "java")) if home else "java"
    return shutil.which(name, path=environment.get("PATH", ""))


def java_version(java: str | None) -> int:
    """Return the major version that `java -version` tells, 0 where there is no working Java."""
    if java is None:
        return 0
    told = subprocess.run(
        [java, "-version"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return parse_java_version(told.stderr + told.stdout)


def parse_java_version(text: str) -> int:
    """Return 17 for `openjdk version "17.0.15"`, and 8 for the old style `"1.8.0_302"`."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else 0


# ------------------------------------------------------------------------------- the machine


def apt_install(packages: Sequence[str]) -> bool:
    """Install Debian packages and return True; False where this user may not or apt fails."""
    if shutil.which("apt-get") is None:
        return False
    prefix: list[str] = []
    if os.geteuid() != 0:
        prefix = ["sudo", "-n"]
        if shutil.which("sudo") is None or not succeeds([*prefix, "true"]):
            return False
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y"]
    try:
        run([*apt, "update"], "apt-get update failed")
        run([*apt, "install", "--no-install-recommends", *packages], "apt-get install failed")
    except SetupError as error:
        say(str(error))
        return False
    return True


def succeeds(command: Sequence[str]) -> bool:
    """Tell whether a command exits with 0; shows nothing and never waits for an answer."""
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    return done.returncode == 0


def run(command: Sequence[str], problem: str) -> None:
    """Run a command in silence; raises SetupError with the end of its log where it fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if done.returncode != 0:
            log.seek(0)
            tail = "".join(log.readlines()[-20:]).rstrip()
            raise SetupError(f"{problem}; the end of the log:\n{tail}")


def say(line: str) -> None:
    """Show one line of progress."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
