"""The loop: limits, order, failures, the rung's bar, Ctrl-C."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from recsys.errors import RecsysError
from recsys.search.goal import Done, Goal
from recsys.search.runner import INTERRUPTED, Limits, Trials
from recsys.search.space import Parameter, Point, Range, Space
from recsys.search.study import Study
from recsys.search.trial import FAILED, FINISHED, STOPPED, Outcome, Rung

SPACE = Space({"als": (Parameter("alpha", Range(1, 10)),)})
Launch = Callable[[int, Point, Rung | None], Outcome]


def value_of(point: Point) -> Outcome:
    return Outcome(FINISHED, {"m": -((point["als.alpha"] - 4) ** 2)})


class Log:
    """What the loop told."""

    def __init__(self, launch: Launch, **more: Any) -> None:
        at_once = more.pop("at_once", 2)
        limits = Limits(
            more.pop("max_evals", 20), more.pop("minutes", None), more.pop("patience", None)
        )
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.cancelled = threading.Event()
        self.done: dict[int, Done] = more.pop("done", {})
        study = Study(SPACE, "tpe", 3, at_once)
        trials = Trials(
            study,
            Goal("m"),
            limits,
            launch,
            self.cancelled.set,
            self.on_begun,
            self.on_ended,
            **more,
        )
        self.why = trials.run(self.done)

    def on_begun(self, number: int, point: Point) -> None:
        self.begun.append(number)

    def on_ended(self, trial: Done, done: Mapping[int, Done]) -> None:
        assert done[trial.number] is trial
        self.ended.append(trial.number)


def test_all_trials_run_once_and_the_best_is_found() -> None:
    log = Log(lambda number, point, rung: value_of(point), max_evals=40)
    assert log.why == "all 40 trials are done"
    assert log.begun == list(range(40))
    assert sorted(log.ended) == list(range(40))
    best = Goal("m").best(log.done)
    assert best is not None
    assert best.point["als.alpha"] == pytest.approx(4, abs=0.3)


def test_who_ends_first_changes_nothing() -> None:
    def slowly(number: int, point: Point, rung: Rung | None) -> Outcome:
        time.sleep(random.random() / 50)
        return value_of(point)

    first, again = (Log(slowly, at_once=4, max_evals=30) for _ in range(2))
    assert {n: d.point for n, d in first.done.items()} == {
        n: d.point for n, d in again.done.items()
    }


def test_a_killed_driver_goes_on_with_the_same_trials() -> None:
    whole = Log(lambda number, point, rung: value_of(point), max_evals=25)
    left = {n: d for n, d in whole.done.items() if n < 14 and n != 11}
    rest = Log(lambda number, point, rung: value_of(point), max_evals=25, done=dict(left))
    assert rest.begun == [11, *range(14, 25)]
    assert {n: d.point for n, d in rest.done.items()} == {n: d.point for n, d in whole.done.items()}


def test_no_more_at_work_than_allowed() -> None:
    at_work, most, lock, full = 0, 0, threading.Lock(), threading.Event()

    def watched(number: int, point: Point, rung: Rung | None) -> Outcome:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
            if at_work == 3:
                full.set()
        # However long it takes to begin them, three are at work at once.
        full.wait(10)
        time.sleep(0.02)
        with lock:
            at_work -= 1
        return value_of(point)

    Log(watched, at_once=3, max_evals=12)
    assert most == 3


def test_failures_are_recorded_and_the_search_goes_on() -> None:
    def sometimes(number: int, point: Point, rung: Rung | None) -> Outcome:
        return Outcome(FAILED, reason="no") if number % 3 == 0 else value_of(point)

    log = Log(sometimes, max_evals=15)
    assert [d.value is None for _, d in sorted(log.done.items())] == [n % 3 == 0 for n in range(15)]
    with pytest.raises(RecsysError, match="None of 10 trials worked; the last one: no"):
        Log(lambda *_: Outcome(FAILED, reason="no"), at_once=1, max_evals=50)


def test_it_ends_when_nothing_gets_better_or_the_time_is_over() -> None:
    log = Log(lambda number, point, rung: Outcome(FINISHED, {"m": -number}), at_once=1, patience=7)
    assert log.why == "7 trials brought nothing better"
    assert len(log.done) == 8

    def slow(number: int, point: Point, rung: Rung | None) -> Outcome:
        time.sleep(0.1)
        return value_of(point)

    log = Log(slow, max_evals=1000, minutes=0.01)
    assert log.why == "0.01 minutes are over"
    assert 2 <= len(log.done) < 100


def test_the_bar_of_the_rung_is_what_the_best_third_reached() -> None:
    bars: dict[int, float | None] = {}

    def looked(number: int, point: Point, rung: Rung | None) -> Outcome:
        assert rung is not None
        assert rung.iterations == 5
        bars[number] = rung.bar
        value = float(number % 9)
        status = STOPPED if rung.bar is not None and value < rung.bar else FINISHED
        return Outcome(status, {"m": value}, at_rung=value)

    log = Log(looked, at_once=1, max_evals=12, rung=5)
    assert [bars[n] for n in range(6)] == [None] * 6
    assert bars[6] == 3  # of 0 … 5, the third best
    assert bars[9] == 5  # of 0 … 8, the fourth best
    assert log.done[9].outcome.status == STOPPED
    best = Goal("m").best(log.done)
    assert best is not None
    assert best.number == 8


def test_an_error_of_the_launch_ends_the_search() -> None:
    def gone(number: int, point: Point, rung: Rung | None) -> Outcome:
        raise RecsysError("Spark ended")

    with pytest.raises(RecsysError, match="Spark ended"):
        Log(gone)


def test_ctrl_c_gives_up_what_is_at_work_and_keeps_the_rest() -> None:
    log: Log
    release = threading.Event()

    def interrupting(number: int, point: Point, rung: Rung | None) -> Outcome:
        if number < 6:
            return value_of(point)
        if number == 6:
            os.kill(os.getpid(), signal.SIGINT)
        release.wait(5)
        return Outcome(FAILED, reason="cancelled")

    before = signal.getsignal(signal.SIGINT)
    started = time.monotonic()
    threading.Timer(1, release.set).start()
    log = Log(interrupting, max_evals=50)
    assert log.why == INTERRUPTED
    assert log.cancelled.is_set()
    # Of the two that may still be at work beside trial 6, none counts that was not written down.
    assert set(range(4)) <= set(log.done) <= set(range(6))
    assert sorted(log.ended) == sorted(log.done)
    assert time.monotonic() - started < 4
    assert signal.getsignal(signal.SIGINT) is before
