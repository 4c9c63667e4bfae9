"""Schedules over the stand-in for Batch, whose clock a test pushes forward."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from deploy import schedule
from deploy.azure_batch.schedules import ScheduledJob, missed, troubled
from recsys.errors import UsageError
from recsys.storage import keys_of, store_of
from tests.deploy.cloud import Cloud, project

NIGHTLY = "nightly"
# Stands for batch_score: how it ends and how long it takes is written in a file that nodes see.
MLPROJECT = """
name: tiny
entry_points:
  batch_score:
    parameters:
      model_name: string
      stage: string
      interactions: string
      strategy: string
      k: string
      output: string
      slot: string
    command: python work.py {output} {slot} {strategy} {k}
"""
WORK = """
import pathlib, sys, time
folder, slot, strategy, k = sys.argv[1:]
place = pathlib.Path(folder)
with open(place / "slots", "a") as file:
    print(slot, strategy, k, file=file)
while (place / "wait").exists():
    time.sleep(0.1)
sys.exit(int((place / "code").read_text()))
"""


class Webhook:
    """A server that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, object]] = []
        self.codes: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code = outer.codes.pop(0) if outer.codes else 200
                if code == 200:
                    outer.told.append(json.loads(body))
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?key=s3cret-of-the-hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    hook.thread.start()
    yield hook
    hook.server.shutdown()
    hook.thread.join()
    hook.server.server_close()


@pytest.fixture
def shop(batch: Cloud, tmp_path: Path) -> Cloud:
    batch.project = project(tmp_path / "shop", {"MLproject": MLPROJECT, "work.py": WORK})
    (batch.disk / "code").write_text("0")
    (tmp_path / "batch.json").write_text(json.dumps(batch.config()))
    return batch


@pytest.fixture
def run(tmp_path: Path, shop: Cloud) -> Callable[..., int]:
    """Run a verb as the command line does; returns its exit code."""

    def call(*words: str) -> int:
        try:
            schedule.main([*words, "--backend_config", str(tmp_path / "batch.json")])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def create(run: Callable[..., int], shop: Cloud, name: str = NIGHTLY, **more: str) -> int:
    later = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    given = {"every": "1h", "interactions": "az://data/ingested", "output": str(shop.disk)}
    given |= {"not_after": later, "project": str(shop.project)} | more
    words = [word for key, value in given.items() for word in (f"--{key}", value)]
    return run("create", "--name", name, *words)


def slots(shop: Cloud) -> list[str]:
    file = shop.disk / "slots"
    return file.read_text().splitlines() if file.exists() else []


def ended(shop: Cloud, job: str) -> bool:
    found = shop.service.jobs.get(job)
    return found is not None and found.state == "completed"


def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"never: {what}")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_each_job_publishes_under_its_own_slot(
    shop: Cloud, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert create(run, shop, strategy="win_back", k="7") == 0
    until(lambda: ended(shop, "nightly:job-1"), "the first job")
    shop.service.clock.advance(3600)
    until(lambda: ended(shop, "nightly:job-2"), "the second job")

    assert slots(shop) == ["nightly-job-1 win_back 7", "nightly-job-2 win_back 7"]
    runs = MlflowClient().search_runs(["1"])
    assert sorted(r.data.tags["recsys.job_id"] for r in runs) == ["nightly:job-1", "nightly:job-2"]
    assert {r.info.status for r in runs} == {"FINISHED"}
    capfd.readouterr()
    assert run("show", "--name", NIGHTLY) == 0
    shown = capfd.readouterr().out
    assert re.search(r"nightly:job-2 .* 0: done", shown)
    assert "missed" not in shown
    assert run("check") == 0
    assert {key.split("/")[0] for key in keys_of(store_of(shop.storage), "")} == {"projects"}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_schedules_overlap_but_one_has_one_job_at_a_time(
    shop: Cloud, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    (shop.disk / "wait").touch()
    assert create(run, shop, window="10m") == 0
    assert create(run, shop, "daily", every="1d") == 0
    until(lambda: len(slots(shop)) == 2, "both run at the same time")

    shop.service.clock.advance(1.5 * 3600)
    assert set(shop.service.jobs) == {"nightly:job-1", "daily:job-1"}

    (shop.disk / "wait").unlink()
    until(lambda: ended(shop, "nightly:job-1") and ended(shop, "daily:job-1"), "both end")
    capfd.readouterr()
    assert run("list") == 0
    listed = capfd.readouterr().out
    assert re.search(r"nightly +active .* 0: done", listed)
    assert re.search(r"daily +active .* 0: done", listed)

    shop.service.clock.advance(0.6 * 3600)
    until(lambda: ended(shop, "nightly:job-2"), "the run after the one whose window passed")
    assert run("show", "--name", NIGHTLY) == 0
    assert "missed, or due while paused" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_paused_schedule_makes_no_jobs_and_the_gap_shows(
    shop: Cloud, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    create(run, shop)
    until(lambda: ended(shop, "nightly:job-1"), "the first job")

    assert run("pause", "--name", NIGHTLY) == 0
    shop.service.clock.advance(3 * 3600)
    assert len(shop.service.jobs) == 1
    assert run("list") == 0
    assert "disabled" in capfd.readouterr().out

    assert run("resume", "--name", NIGHTLY) == 0
    shop.service.clock.advance(3600)
    until(lambda: ended(shop, "nightly:job-2"), "the job after the pause")
    assert run("show", "--name", NIGHTLY) == 0
    assert "missed, or due while paused" in capfd.readouterr().out


def test_a_failed_job_is_told_once_in_words(
    shop: Cloud, run: Callable[..., int], webhook: Webhook, capfd: pytest.CaptureFixture[str]
) -> None:
    (shop.disk / "code").write_text("3")
    webhook.codes = [500]
    create(run, shop, webhook=webhook.url)
    until(lambda: ended(shop, "nightly:job-1"), "the job")

    assert run("check", "--name", NIGHTLY) == 1
    assert run("check") == 1
    assert "nightly:job-1: 3: refused by an audit" in capfd.readouterr().err
    (told,) = webhook.told
    assert told["schedule"] == NIGHTLY
    assert told["job"] == "nightly:job-1"
    assert told["exit_code"] == 3
    assert told["meaning"] == "refused by an audit; the previous table stands"
    assert MlflowClient().get_run(str(told["run_id"])).info.status == "FAILED"


def test_the_webhook_is_in_no_request_and_in_no_output(
    shop: Cloud, run: Callable[..., int], webhook: Webhook, capfd: pytest.CaptureFixture[str]
) -> None:
    (shop.disk / "code").write_text("1")
    create(run, shop, webhook=webhook.url)
    until(lambda: ended(shop, "nightly:job-1"), "the job")
    run("check")
    run("show", "--name", NIGHTLY)

    shown = capfd.readouterr()
    assert "s3cret-of-the-hook" not in shown.out + shown.err
    assert "s3cret-of-the-hook" not in json.dumps([body for *_, body in shop.service.requests])
    assert len(webhook.told) == 1


def test_a_job_that_never_started_is_told_by_check(
    shop: Cloud, run: Callable[..., int], webhook: Webhook, capfd: pytest.CaptureFixture[str]
) -> None:
    shop.service.capacity = 0
    create(run, shop, webhook=webhook.url)
    until(lambda: "nightly:job-1" in shop.service.jobs, "the job")
    assert run("check") == 0
    shop.service.clock.advance(4 * 3600 + 60)
    until(lambda: ended(shop, "nightly:job-1"), "its time is up")

    assert run("check") == 1
    assert "never started" in capfd.readouterr().err
    assert [told["exit_code"] for told in webhook.told] == [None]


def test_a_deleted_schedule_takes_its_jobs_and_its_webhook_with_it(
    shop: Cloud, run: Callable[..., int], webhook: Webhook
) -> None:
    (shop.disk / "wait").touch()
    create(run, shop, webhook=webhook.url)
    until(lambda: len(slots(shop)) == 1, "the job runs")

    assert run("delete", "--name", NIGHTLY) == 0

    until(lambda: shop.service.running() == [], "its processes end")
    assert f"alerts/{NIGHTLY}.json" not in keys_of(store_of(shop.storage), "")
    assert run("show", "--name", NIGHTLY) == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"every": "soon"}, "every='soon' is no time"),
        ({"strategy": "no_such"}, "no_such"),
        ({"webhook": "ftp://x"}, "webhook must be"),
        ({"not_after": "none"}, "not_after is missing"),
        ({"name": "a b"}, "name='a b' is not usable"),
    ],
)
def test_a_wrong_parameter_is_refused_with_the_cure(
    shop: Cloud,
    run: Callable[..., int],
    given: dict[str, str],
    told: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert create(run, shop, **given) != 0

    assert told in capfd.readouterr().err
    assert shop.service.schedules == {}


def test_a_name_that_is_taken_is_refused(
    shop: Cloud, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    create(run, shop)

    assert create(run, shop) == 2
    assert "There is a schedule nightly" in capfd.readouterr().err


@pytest.mark.parametrize("verb", list(schedule.VERBS))
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        schedule.main([verb, "--help"])

    assert "--backend_config" in capsys.readouterr().out


def job(number: int, day: float) -> ScheduledJob:
    made = datetime(2026, 11, 1, 2, tzinfo=UTC) + timedelta(days=day)
    return ScheduledJob(f"nightly:job-{number}", made, made, made, 0)


def test_a_failure_shows_also_while_the_next_job_runs() -> None:
    now = datetime(2026, 11, 5, tzinfo=UTC)
    failed = replace(job(1, 0), exit_code=1)
    runs = replace(job(2, 1), ended=None, exit_code=None)
    waits = replace(runs, started=None)
    minutes = timedelta(minutes=30)

    assert troubled([runs, failed], now, minutes) == [failed]
    assert troubled([waits, failed], now, minutes) == [waits, failed]
    assert troubled([waits], waits.created, minutes) == []
    assert troubled([job(2, 1), failed], now, minutes) == []


def test_missed_runs_are_the_days_between_two_jobs() -> None:
    jobs = [job(1, 0), job(2, 1.01), job(3, 4)]

    assert [time.day for time in missed(jobs, timedelta(days=1))] == [3, 4]
    assert missed(jobs, None) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("30m", timedelta(minutes=30)),
        ("1w", timedelta(days=7)),
        ("PT6H", timedelta(hours=6)),
        ("P1DT2H30M", timedelta(days=1, hours=2, minutes=30)),
    ],
)
def test_durations_are_read(text: str, wanted: timedelta) -> None:
    assert schedule._duration(text, "every") == wanted


@pytest.mark.parametrize("text", ["", "1", "d", "P", "PT", "1h30m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        schedule._duration(text, "every")
