"""Time this project beside its peers: the same data, factors, iterations and k, in one go.

Tasks: fit ALS (`als`), score every customer (`score`), find every item's neighbours (`item_item`).
Peers: Spark's MLlib, implicit, RePlay (in an environment of its own, small data only), and NumPy's
plain matrix product as the limit of what scoring can reach.

All are run in turn, then all again, as often as `--repeats` says, each measurement in a process
of its own. The start of Spark, imports and a warm-up are not timed. Ratios are of the same turn:
ours ÷ theirs, below 1 where this project is faster. Writes NAME.json, NAME.md and NAME.png.

  python -m benchmarks.speed --size small
  python -m benchmarks.speed --size large --repeats 2 --limit 7200 --peers mllib,implicit
  python -m benchmarks.speed --dataset out/dataset --tasks als,score
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import command, data, memory, report
from benchmarks.contenders.child import MARGIN, RESULT, Job
from benchmarks.report import Run
from recsys.data.dataset import Dataset, load_dataset, window_names
from recsys.errors import RecsysError, UsageError
from recsys.progress import say
from recsys.session import ROOT, check_java
from recsys.storage import local_path
from recsys.tracking import code_version

SECONDS_A_SAMPLE = 0.3
# Looking at much memory takes long itself: it may take this share of one core.
SAMPLING_SHARE = 0.04
REPLAY = "replay-rec[spark]==0.22.0"


@dataclass(frozen=True)
class Contender:
    """One thing that is timed.

    Attributes:
        task: what is done; contenders of one task are compared.
        name: as the report shows it, ours first.
        module: of benchmarks.contenders.
        measurement: in the module.
        blas_threads: threads of the linear algebra library; 0 for one a core.
        most: interactions above which it is not tried.
    """

    task: str
    name: str
    module: str
    measurement: str
    blas_threads: int = 1
    most: int = 10**12


FEW = 2_000_000
CONTENDERS = (
    Contender("als", "ours", "ours", "als"),
    Contender("als", "mllib", "mllib", "als"),
    Contender("als", "implicit", "implicit", "als"),
    Contender("als", "replay", "replay", "als", most=FEW),
    Contender("score", "ours", "ours", "score"),
    Contender("score", "ours, with trend prior", "ours", "score_with_trend"),
    Contender("score", "mllib", "mllib", "score"),
    Contender("score", "mllib, bought items left in", "mllib", "score_with_bought"),
    Contender("score", "implicit", "implicit", "score"),
    Contender("score", "numpy, product only", "product", "score", blas_threads=0),
    Contender("score", "replay", "replay", "score", most=FEW),
    Contender("item_item", "ours", "ours", "item_item"),
    Contender("item_item", "implicit", "implicit", "item_item"),
    Contender("item_item", "replay", "replay", "item_item", most=FEW),
)
TASKS = tuple(dict.fromkeys(contender.task for contender in CONTENDERS))
PEERS = tuple(dict.fromkeys(c.module for c in CONTENDERS if c.module != "ours"))


@dataclass(frozen=True)
class Settings:
    """How everybody is run.

    Attributes:
        repeats: turns.
        limit: seconds that a process may take.
        driver_memory: heap of every Spark session's driver, as Spark writes it.
        tasks: that are timed.
        peers: modules that are timed beside ours.
    """

    repeats: int
    limit: float
    driver_memory: str
    tasks: tuple[str, ...]
    peers: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Get the data, run everything, write the report."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except RecsysError as error:
        raise SystemExit(f"error: {error}") from None


def _run(options: argparse.Namespace) -> None:
    """Check the options, then compare."""
    tasks = _chosen(options.tasks, TASKS, "tasks")
    peers = _chosen(options.peers, PEERS, "peers")
    if options.repeats < 1:
        raise UsageError(f"--repeats {options.repeats}: ask for at least 1.")
    settings = Settings(options.repeats, options.limit, options.driver_memory, tasks, peers)
    check_java()
    output = Path(options.output)
    name = Path(options.dataset).name if options.dataset else options.size
    folder = (
        Path(options.dataset)
        if options.dataset
        else _drawn(options.size, options.cache, options.driver_memory)
    )
    compare(load_dataset(folder), settings, output, name)


def compare(dataset: Dataset, settings: Settings, output: Path, name: str) -> dict[str, Any]:
    """Run everything on a dataset and write the report.

    Args:
        dataset: what all work on, its history before the test window.
        settings: how.
        output: folder for the report and the logs of all processes.
        name: of the report's files.

    Returns:
        What the JSON file holds.
    """
    (output / "logs").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="recsys-bench-", dir=output) as scratch:
        job = _job(dataset, Path(scratch))
        runs = run_all(job, interactions(dataset), settings, output / "logs", name)
    found = {
        "machine": machine(),
        "data": {
            "name": name,
            "digest": dataset.digest,
            "interactions": interactions(dataset),
            "customers": job.customers,
            "items": job.items,
        },
        "settings": asdict(settings)
        | {key: getattr(job, key) for key in ("factors", "iterations", "k", "neighbours")}
        | {"margin": MARGIN},
        "runs": [asdict(run) for run in runs],
    }
    report.write(found, output, name)
    say(f"report: {output / name}.md")
    return found


def run_all(job: Job, rows: int, settings: Settings, logs: Path, name: str) -> list[Run]:
    """Run every contender once a turn; one that fails is not tried again, but told.

    Args:
        job: what everybody does.
        rows: interactions, which some contenders cannot take many of.
        settings: how.
        logs: folder for what the processes print.
        name: of the data, for the logs' names.
    """
    chosen = [
        contender
        for contender in CONTENDERS
        if contender.task in settings.tasks and contender.module in ("ours", *settings.peers)
    ]
    # Everybody scores with the factors that our fit left.
    if "als" not in settings.tasks and "score" in settings.tasks:
        chosen.insert(0, CONTENDERS[0])
    runs: list[Run] = []
    failed: set[Contender] = set()
    total = settings.repeats * len(chosen)
    for number in range(total):
        contender, turn = chosen[number % len(chosen)], number // len(chosen) + 1
        if contender in failed:
            continue
        if rows > contender.most:
            run = Run(
                contender.task, contender.name, turn, f"not run above {contender.most:,} rows"
            )
        else:
            log = logs / f"{name}-{contender.task}-{contender.name.replace(', ', '-')}-{turn}.log"
            run = run_one(contender, job, settings, turn, Path(str(log).replace(" ", "_")))
        if run.failure:
            failed.add(contender)
        say(f"  {number + 1} of {total}: {contender.task}, {contender.name}: {report.told(run)}")
        runs.append(run)
    return runs


def run_one(contender: Contender, job: Job, settings: Settings, turn: int, log: Path) -> Run:
    """Run one measurement in a process of its own and sample its memory."""
    work = Path(job.work)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if contender == CONTENDERS[0]:
        shutil.rmtree(job.fitted, ignore_errors=True)
    module = f"benchmarks.contenders.{contender.module}"
    command = [*_python(contender), "-m", module, contender.measurement, json.dumps(asdict(job))]
    peaks, started = memory.Peaks(), time.monotonic()
    failure = ""
    with log.open("w", encoding="utf-8") as printed:
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(contender, settings), stdout=printed, stderr=printed
        )
        try:
            while process.poll() is None:
                looked = time.monotonic()
                peaks.sample(process.pid)
                cost = time.monotonic() - looked
                if time.monotonic() - started > settings.limit:
                    failure = f"stopped after {settings.limit:,.0f} s"
                    _end(process)
                time.sleep(max(SECONDS_A_SAMPLE, cost / SAMPLING_SHARE))
        finally:
            _end(process)
    if process.returncode and not failure:
        failure = f"failed: {_reason(log)}"
    result: dict[str, Any] = {"seconds": {}, "facts": {}, "versions": {}}
    if not failure:
        result = json.loads((work / RESULT).read_text("utf-8"))
    return Run(contender.task, contender.name, turn, failure, memory=peaks.highest, **result)


def interactions(dataset: Dataset) -> int:
    """Return how many interactions lie before the test window."""
    *before, _ = _windows(dataset)
    return sum(int(dataset.facts[f"{window}_rows"]) for window in before)


def machine() -> dict[str, Any]:
    """Return what the seconds depend on."""
    processors = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in processors if "model name" in line]
    return {
        "commit": code_version(),
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "memory_gib": round(memory.installed() / 2**30, 1),
        "system": platform.platform(),
    }


def _windows(dataset: Dataset) -> tuple[str, ...]:
    return window_names(1 + len(dataset.earlier))


def _job(dataset: Dataset, scratch: Path) -> Job:
    """Describe the work on a dataset's history before the test window."""
    *before, _ = _windows(dataset)
    folder = local_path(dataset.path).absolute()
    scratch = scratch.absolute()
    return Job(
        dataset=str(folder),
        tables=tuple(str(folder / window) for window in before),
        customers=dataset.test.history.customers,
        items=dataset.test.history.items,
        work=str(scratch / "work"),
        fitted=str(scratch / "fitted"),
    )


def _python(contender: Contender) -> list[str]:
    """Return the command that starts a Python in which the library is found."""
    if contender.module != "replay":
        return [sys.executable]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv") or "uv"
    options = ["--quiet", "--isolated", "--no-project", "--python", "3.11", "--with", REPLAY]
    return [uv, "run", *options, "python"]


def _environment(contender: Contender, settings: Settings) -> dict[str, str]:
    threads = str(contender.blas_threads or os.cpu_count())
    chosen = {f"{library}_NUM_THREADS": threads for library in ("OPENBLAS", "OMP", "MKL")}
    return os.environ | chosen | {"SPARK_DRIVER_MEMORY": settings.driver_memory}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that still runs, and all that it started."""
    if process.poll() is not None:
        return
    for pid in memory.parts(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _reason(log: Path) -> str:
    """Return the last line that names an error, or else the last line."""
    lines = log.read_text("utf-8", errors="replace").strip().splitlines() or ["no message"]
    named = [line for line in lines if re.match(r"[:\w. ]*(Error|Exception)\b", line)]
    return (named or lines)[-1].strip(": ")[:200]


def _drawn(size: str, cache: str, driver_memory: str) -> Path:
    """Draw the data in a process of its own, so that this one holds no Spark."""
    arguments = ["--size", size, "--cache", cache]
    environment = os.environ | {"SPARK_DRIVER_MEMORY": driver_memory}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.data", *arguments], env=environment, check=False
    )
    if done.returncode:
        raise UsageError("The data could not be drawn; what is above says why.")
    return Path(cache) / size / "dataset"


def _chosen(text: str, known: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Split a list of names; raises UsageError for an unknown one."""
    chosen = tuple(filter(None, text.split(",")))
    for one in chosen:
        if one not in known:
            raise UsageError(f"--{name} {one}: choose from {','.join(known)}.")
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("speed", __doc__)
    about = ", ".join(
        f"{name}: {size.interactions:,} interactions of {size.customers:,} customers and "
        f"{size.items:,} items"
        for name, size in data.SIZES.items()
    )
    add = parser.add_argument
    add("--size", choices=data.SIZES, default="small", help=f"simulated data ({about})")
    add("--dataset", help="a folder that `prepare` wrote, instead of simulated data")
    add("--repeats", type=int, default=3, help="turns; default: 3")
    add("--output", default="out/bench", help="folder of the report; default: out/bench")
    add("--cache", default=".bench", help="folder of the simulated data; default: .bench")
    add("--limit", type=float, default=3600, help="seconds a process may take; default: 3600")
    add("--driver-memory", default="8g", help="heap of every Spark driver; default: 8g")
    add("--tasks", default=",".join(TASKS), help="default: all, %(default)s")
    add("--peers", default=",".join(PEERS), help="default: all, %(default)s")
    return parser


if __name__ == "__main__":
    # Whoever ends this process ends the one that it is timing, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped."))
    main()
