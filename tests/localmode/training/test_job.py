"""The state machine of a training job, with a clock that the test sets and instances that only record commands."""

import json

import pytest

from localmode.training.job import MAX_FAILURE_REASON
from localmode.training.record import Record
from localmode.training.spot import training_seconds
from tests.support.training_job import Life, limits

UNINTERRUPTED = ["Starting", "Downloading", "Training", "Uploading", "Completed"]
BEGUN = ["Starting", "Downloading", "Training"]


# The documented sequences


@pytest.mark.parametrize("spot", [True, False])
def test_a_job_that_nothing_happens_to_completes(spot: bool) -> None:
    life = Life(spot).download().train().exit().finish()
    assert life.statuses == UNINTERRUPTED
    assert life.end == ("Completed", "Completed")
    assert life.job.record.model_artifacts == "s3://b/model.tar.gz"


def test_a_job_interrupted_once_starts_again_and_completes() -> None:
    life = Life().download().train().lose().download().train().exit().finish()
    assert life.statuses == [*BEGUN, "Interrupted", *UNINTERRUPTED]


def test_a_job_interrupted_twice_runs_out_of_waiting_time_in_its_third_attempt() -> None:
    life = Life(**limits(1000, 1000)).download().train().lose(300).wait(300).download().train().lose(300)
    life.wait(300).download().train(200)
    assert life.orders[-1] == ("terminate", 3)
    life.exit(143).finish()
    assert life.statuses == [*BEGUN, "Interrupted", *BEGUN, "Interrupted", *BEGUN, "Stopping", "MaxWaitTimeExceeded"]
    assert life.end == ("Stopped", "MaxWaitTimeExceeded")


def test_a_job_waiting_for_an_instance_runs_out_of_waiting_time() -> None:
    life = Life(**limits(50, 500)).download().train(30).lose(9999).wait(460)
    assert life.end == ("Stopped", "MaxWaitTimeExceeded")
    assert life.statuses == [*BEGUN, "Interrupted", "Stopping", "MaxWaitTimeExceeded"]


def test_a_job_that_never_gets_capacity_runs_out_of_waiting_time() -> None:
    life = Life(started=False, **limits(60, 60))
    life.capacity = False
    life.job.start()
    life.wait(59)
    assert life.end == ("InProgress", "Starting")
    life.wait(1)
    assert life.statuses == ["Starting", "Stopping", "MaxWaitTimeExceeded"]
    assert (life.end, life.orders) == (("Stopped", "MaxWaitTimeExceeded"), [])


@pytest.mark.parametrize("spot", [True, False])
def test_a_job_over_its_running_time_is_stopped_and_keeps_its_model(spot: bool) -> None:
    condition = {"MaxRuntimeInSeconds": 60, **({"MaxWaitTimeInSeconds": 600} if spot else {})}
    life = Life(spot, StoppingCondition=condition).download(10).train(49)
    assert life.end == ("InProgress", "Training")
    life.wait(1)
    assert life.orders[-1] == ("terminate", 1)
    life.exit(143).finish()
    assert life.uploads_model
    assert life.end == ("Stopped", "MaxRuntimeExceeded")
    assert life.statuses == [*BEGUN, "Stopping", "MaxRuntimeExceeded"]


def test_the_running_time_adds_up_over_attempts_and_waiting_is_no_part_of_it() -> None:
    life = Life(**limits(200, 10_000)).download().train(110).lose(5000).wait(5000).download().train(69)
    assert life.end == ("InProgress", "Training")
    life.wait(1).exit().finish()
    assert life.end == ("Stopped", "MaxRuntimeExceeded")


def test_on_demand_jobs_know_no_waiting_time() -> None:
    life = Life(False, **limits(10_000, 50)).download().train(900)
    assert life.end == ("InProgress", "Training")


# Stopping


def test_a_job_stopped_before_it_has_an_instance_is_stopped_at_once() -> None:
    life = Life(started=False)
    life.capacity = False
    life.job.start()
    life.job.stop()
    assert life.statuses == ["Starting", "Stopping", "Stopped"]
    assert life.orders == []


def test_a_job_stopped_while_interrupted_is_stopped_at_once() -> None:
    life = Life().download().train().lose(60)
    life.job.stop()
    assert life.end == ("Stopped", "Stopped")
    assert life.wait(100).orders == [("launch", 1), ("reclaim", 1)]


@pytest.mark.parametrize("reached", [["Starting"], BEGUN[:2], BEGUN, [*BEGUN, "Uploading"]])
def test_a_job_stopped_with_an_instance_is_stopped_when_its_attempt_has_ended(reached: list[str]) -> None:
    life = Life()
    steps = [lambda: life.download(), lambda: life.train(), lambda: life.exit()]
    for step in steps[: len(reached) - 1]:
        step()
    life.job.stop()
    assert (life.end, life.orders[-1]) == (("Stopping", "Stopping"), ("terminate", 1))
    life.exit(143 if "Training" in reached else None).finish()
    assert life.statuses == [*reached, "Stopping", "Stopped"]


def test_a_stopped_job_has_no_failure_reason() -> None:
    life = Life().download().train()
    life.job.stop()
    life.exit(143).finish(failure="AlgorithmError: exit code: 143")
    assert life.end == ("Stopped", "Stopped")
    assert life.job.record.failure_reason == ""


def test_stopping_twice_terminates_once() -> None:
    life = Life().download().train()
    life.job.stop()
    life.job.stop()
    assert life.orders.count(("terminate", 1)) == 1


def test_stopping_a_job_that_is_over_changes_nothing() -> None:
    life = Life().download().train().exit().finish()
    life.job.stop()
    assert life.end == ("Completed", "Completed")


def test_a_job_stopped_while_its_instance_is_reclaimed_is_stopped_when_it_is_gone() -> None:
    life = Life().download().train()
    life.job.interrupt(0)
    life.job.stop()
    assert ("terminate", 1) not in life.orders
    life.job.on_lost(1)
    assert life.end == ("Stopped", "Stopped")
    assert life.orders == [("launch", 1), ("reclaim", 1)]


def test_a_job_out_of_time_while_its_instance_is_reclaimed_says_which_time() -> None:
    life = Life(**limits(50, 500)).download().train(30)
    life.job.interrupt(0)
    life.wait(500).job.on_lost(1)
    assert life.end == ("Stopped", "MaxWaitTimeExceeded")


# Failing


def test_a_job_whose_script_fails_uploads_and_fails_with_the_reason() -> None:
    life = Life().download().train().exit(3).finish("", failure="AlgorithmError: no, exit code: 3")
    assert life.statuses == [*BEGUN, "Uploading", "Failed"]
    assert not life.uploads_model
    assert life.job.record.failure_reason == "AlgorithmError: no, exit code: 3"


def test_a_job_whose_container_never_ran_fails_without_uploading() -> None:
    life = Life().download().exit(None).finish("", failure="ClientError: no such bucket")
    assert life.statuses == ["Starting", "Downloading", "Failed"]


def test_a_failure_reason_is_cut_to_the_length_that_the_api_allows() -> None:
    life = Life().download().train().exit(1).finish("", failure="x" * 5000)
    assert len(life.job.record.failure_reason) == MAX_FAILURE_REASON == 1024


def test_a_failure_whose_instance_is_lost_before_the_end_does_not_count() -> None:
    life = Life().download().train().exit(3).lose().download().train().exit(0).finish()
    assert life.end == ("Completed", "Completed")
    assert life.job.record.failure_reason == ""


# Interruptions


def test_an_interruption_may_fall_in_every_phase_with_an_instance() -> None:
    life = Life().lose().download().lose().download().train().lose().download().train().exit().lose()
    life.download().train().exit().finish()
    phases = [["Starting"], BEGUN[:2], BEGUN, [*BEGUN, "Uploading"]]
    interrupted = [status for phase in phases for status in (*phase, "Interrupted")]
    assert life.statuses == [*interrupted, *UNINTERRUPTED]


def test_a_hundred_interruptions_leave_a_job_that_completes() -> None:
    life = Life()
    for _ in range(100):
        life.download().train().lose()
    life.download().train().exit().finish()
    assert life.end == ("Completed", "Completed")
    assert life.statuses.count("Interrupted") == 100
    assert training_seconds(life.job.record.attempts, life.now) == 101 * 110 + 5


def test_there_is_no_instance_before_the_outage_is_over() -> None:
    life = Life().download().train().lose(60).wait(59)
    assert life.orders[-1] == ("reclaim", 1)
    assert life.job.deadline() == life.now + 1
    assert life.wait(1).orders[-1] == ("launch", 2)


def test_a_job_without_an_instance_is_not_interrupted() -> None:
    life = Life().download().train().exit().finish()
    assert not life.job.interrupt(0)


def test_an_instance_is_reclaimed_only_once() -> None:
    life = Life().download().train()
    assert life.job.interrupt(0)
    assert not life.job.interrupt(0)
    assert life.orders.count(("reclaim", 1)) == 1


def test_a_stopping_job_is_not_interrupted() -> None:
    life = Life().download().train()
    life.job.stop()
    assert not life.job.interrupt(0)


def test_without_capacity_a_job_waits_and_says_so_until_capacity_returns() -> None:
    life = Life().download().train()
    life.capacity = False
    life.lose().wait(10)
    assert life.statuses[-1] == "Starting"
    assert life.message == "Insufficient capacity error from EC2 while launching instances, retrying!"
    life.capacity = True
    assert life.wait(1).orders[-1] == ("launch", 2)


def test_waiting_for_capacity_writes_nothing_at_every_tick() -> None:
    life = Life(started=False)
    life.capacity = False
    life.job.start()
    written = len(life.saved)
    life.wait(1).wait(1).wait(1)
    assert len(life.saved) == written


def test_capacity_does_not_concern_on_demand_jobs() -> None:
    life = Life(False, started=False)
    life.capacity = False
    life.job.start()
    assert life.orders == [("launch", 1)]


# What comes too late


def test_events_of_an_attempt_that_is_over_are_ignored() -> None:
    life = Life().download().train().lose().download()
    before = life.job.record.to_json()
    life.job.on_downloading(1)
    life.job.on_training(1)
    assert not life.job.on_exited(1, 0)
    assert not life.job.on_finished(1, "s3://b/old")
    life.job.on_lost(1)
    assert life.job.record.to_json() == before


def test_a_container_that_exits_while_its_instance_is_reclaimed_completes_nothing() -> None:
    life = Life().download().train()
    life.job.interrupt(0)
    assert not life.job.on_exited(1, 0)
    assert not life.job.on_finished(1, "s3://b/model.tar.gz")
    life.job.on_lost(1)
    assert life.job.record.model_artifacts == ""
    assert life.statuses[-2:] == ["Interrupted", "Starting"]


def test_nothing_happens_to_a_job_that_is_over() -> None:
    life = Life(**limits(100_000, 100_000)).download().train().exit().finish()
    before = life.job.record.to_json()
    life.wait(10**6).job.on_lost(1)
    life.job.lose_host(life.now)
    assert life.job.record.to_json() == before
    assert life.job.deadline() is None


# The daemon goes down and comes back


def test_a_spot_job_whose_host_is_lost_is_interrupted_and_starts_again() -> None:
    life = Life().download().train()
    life.job = life.revive(Record.from_json(json.loads(life.saved[-1])))
    life.job.lose_host(life.now)
    life.wait(0)
    assert life.statuses == [*BEGUN, "Interrupted", "Starting"]
    assert life.orders[-1] == ("launch", 2)


def test_the_time_between_the_last_sign_of_life_and_the_restart_is_no_training_time() -> None:
    life = Life().download(10).train(100)
    last_alive = life.now
    life.now += 8 * 3600
    life.job.lose_host(last_alive)
    assert training_seconds(life.job.record.attempts, life.now) == 110


def test_an_on_demand_job_whose_host_is_lost_fails_with_an_internal_error() -> None:
    life = Life(False).download().train()
    life.job.lose_host(life.now)
    assert life.end == ("Failed", "Failed")
    assert life.job.record.failure_reason.startswith("InternalServerError")


def test_a_retry_strategy_survives_as_many_lost_hosts_as_it_says() -> None:
    life = Life(False, RetryStrategy={"MaximumRetryAttempts": 1}).download().train()
    life.job.lose_host(life.now)
    life.wait(0).download().train()
    assert life.statuses == [*BEGUN, "Restarting", *BEGUN]
    life.job.lose_host(life.now)
    assert life.end == ("Failed", "Failed")


def test_a_stopping_job_whose_host_is_lost_is_stopped() -> None:
    life = Life().download().train()
    life.job.stop()
    life.job.lose_host(life.now)
    assert life.end == ("Stopped", "Stopped")


def test_every_change_is_in_the_journal_before_it_is_acted_on() -> None:
    life = Life()
    assert '"StatusMessage": "Preparing the instances for training"' in life.saved[-1]
    life.download().train()
    assert json.loads(life.saved[-1])["secondary_status"] == "Training"


# Messages and metrics


def test_the_messages_are_those_of_the_documentation() -> None:
    life = Life(started=False)
    seen = [life.message]
    life.job.start()
    seen.append(life.message)
    life.download().train()
    assert seen == ["Starting the training job", "Preparing the instances for training"]
    assert life.message == "Training image download completed. Training in progress."


def test_a_metric_keeps_its_last_value_and_when_it_was_seen() -> None:
    life = Life().download().train()
    life.job.on_metric("loss", 0.5)
    life.wait(5).job.on_metric("loss", 0.25)
    assert life.job.record.metrics == {"loss": (0.25, life.now)}
