"""The local launcher: order, returned values, and jobs that raise, die or print."""

import os
import signal
import sys
import time

import pytest

from credit.core.errors import UserError
from credit.sweeps.processes import run_jobs


def work(word):
    """One job, named by the case below that it plays; runs in a worker process."""
    if word == "raise":
        print("printed before the fall")
        raise ZeroDivisionError("no such thing")
    if word == "refuse":
        raise UserError("not like this")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "leave":
        sys.exit(7)
    if word == "environment":
        return os.environ.get("CREDIT_TEST_WORD")
    if word == "sleep":
        time.sleep(60)
    return "long" * 100_000 if word == "long" else word.upper()


def run(words, parallel=1, watch=lambda *_: None):
    return run_jobs(work, words, parallel=parallel, preload=[], watch=watch)


def test_values_come_back_in_order_also_in_parallel():
    events = []
    outcomes = run(["a", "b", "c", "d"], parallel=2, watch=lambda *event: events.append(event[:2]))
    assert [outcome.value for outcome in outcomes] == ["A", "B", "C", "D"]
    assert all(outcome.error is None for outcome in outcomes)
    for index in range(4):
        assert events.index(("started", index)) < events.index(("finished", index))


def test_a_message_longer_than_a_pipe_holds_arrives():
    [outcome] = run(["long"])
    assert outcome.error is None and len(outcome.value) == 400_000


def test_a_job_that_fails_costs_no_other():
    raised, refused, killed, left, fine = run(["raise", "refuse", "die", "leave", "fine"])
    assert raised.error == "ZeroDivisionError: no such thing"
    assert "printed before the fall" in raised.log and "Traceback" in raised.log
    assert refused.error == "not like this" and "Traceback" not in refused.log
    assert killed.error is not None and killed.error.startswith("killed by signal 9")
    assert left.error is not None and "exit code 7" in left.error
    assert fine.value == "FINE"


def test_a_job_sees_the_present_environment(monkeypatch):
    for word in ("one", "two"):
        monkeypatch.setenv("CREDIT_TEST_WORD", word)
        assert run(["environment"])[0].value == word


def test_an_interruption_stops_the_running_jobs():
    def interrupt(event, index, outcome):
        if event == "tick":
            raise KeyboardInterrupt

    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run(["sleep", "sleep"], parallel=2, watch=interrupt)
    assert time.perf_counter() - started < 30  # the jobs sleep for 60
