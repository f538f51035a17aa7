"""The record of a training job: its times, and how the journal keeps it."""

import json
from dataclasses import FrozenInstanceError

import pytest

from localmode.training.errors import IllegalTransition
from localmode.training.record import Record
from localmode.training.spot import billable_seconds, training_seconds
from localmode.training.status import SecondaryStatus
from tests.support.training_job import Life


def test_the_journal_holds_all_that_a_job_is() -> None:
    life = Life().download().train()
    life.job.on_metric("loss", 0.25)
    life.lose(7).wait(7).download().train().exit().finish()
    assert Record.from_json(json.loads(life.saved[-1])) == life.job.record


def test_a_record_of_the_version_before_is_read() -> None:
    """It wrote the status beside the secondary status, and none of its transitions before the job had begun."""
    life = Life().download().train()
    old = json.loads(life.saved[-1]) | {"status": "InProgress"}
    assert Record.from_json(old) == life.job.record
    accepted = old | {"transitions": [], "attempts": [], "secondary_status": "Starting"}
    assert [each["Status"] for each in Record.from_json(accepted).transitions] == ["Starting"]


def test_a_record_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        Life().job.record.failure_reason = "another"  # type: ignore[misc]


def test_a_transition_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(IllegalTransition, match="job: Starting cannot become Completed"):
        Life().job.record.entered(SecondaryStatus.COMPLETED, "", 0.0)


def test_transitions_follow_each_other_without_a_gap() -> None:
    life = Life().download().train().lose(3).wait(3).download().train().exit().finish()
    transitions = life.job.record.transitions
    assert transitions[0]["StartTime"] == 1000
    assert all(a["EndTime"] == b["StartTime"] for a, b in zip(transitions, transitions[1:], strict=False))
    assert transitions[-1]["EndTime"] == life.now


def test_training_time_leaves_out_waiting_and_billing_charges_the_download_once() -> None:
    life = Life().download(10).train(100).lose(1000).wait(1000).download(10).train(45).exit().finish()
    attempts = life.job.record.attempts
    assert training_seconds(attempts, life.now) == 110 + 60
    assert billable_seconds(attempts, 0.0, life.now) == 160
    assert billable_seconds(attempts, 0.7, life.now) == 48


def test_an_attempt_that_got_no_further_than_starting_costs_nothing() -> None:
    life = Life().lose(60)
    assert training_seconds(life.job.record.attempts, life.now) == 0
