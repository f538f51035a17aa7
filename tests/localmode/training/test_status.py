"""The table of transitions against all that a job does: every state that it can reach is visited."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest

from localmode.training.record import Record
from localmode.training.status import TRANSITIONS, SecondaryStatus, TrainingJobStatus
from tests.support.training_job import Life, limits

JOBS: list[tuple[bool, dict[str, Any]]] = [
    (True, limits(600, 10_000)),
    (False, {"StoppingCondition": {"MaxRuntimeInSeconds": 600}}),
    (False, {"RetryStrategy": {"MaximumRetryAttempts": 1}}),
]
FAILURE = "AlgorithmError: exit code: 1"


class Event(NamedTuple):
    happens: Callable[["World"], object]
    may_happen: Callable[["World"], bool]


class World(Life):
    """A job together with what its last attempt has done so far: events come in an order that is possible."""

    def __init__(self, spot: bool, **request: Any) -> None:
        super().__init__(spot, started=False, **request)
        self.phase = ""  # of the attempt that runs
        self.reclaimed = False

    def launch(self, job: Any, attempt: int) -> None:
        super().launch(job, attempt)
        self.phase, self.reclaimed = "launched", False

    def reclaim(self, job: Any, attempt: int) -> None:
        super().reclaim(job, attempt)
        self.reclaimed = True

    def reach(self, phase: str, report: Callable[[], object]) -> None:
        self.phase = phase
        report()

    def be_lost(self) -> None:
        self.phase = ""
        self.job.on_lost(self.attempt)

    def restart(self) -> None:
        self.phase = ""
        self.job = self.revive(self.job.record)
        self.job.lose_host(self.now)

    def set_capacity(self, available: bool) -> None:
        self.capacity = available
        self.job.tick()

    @property
    def state(self) -> tuple[object, ...]:
        """All that decides about what can happen next, but for the hour."""
        record = self.job.record
        waits = record.launch_after > self.now
        world = (self.phase, self.reclaimed, self.capacity, self.job.has_instance, waits, len(record.attempts) > 0)
        return (record.secondary_status, record.stop_reason, record.retries, record.failure_reason, *world)


EVENTS = {
    "start": Event(lambda world: world.job.start(), lambda world: True),
    "a minute passes": Event(lambda world: world.wait(60), lambda world: True),
    "MaxRuntime passes": Event(lambda world: world.wait(700), lambda world: True),
    "MaxWaitTime passes": Event(lambda world: world.wait(20_000), lambda world: True),
    "stop": Event(lambda world: world.job.stop(), lambda world: True),
    "interrupt": Event(lambda world: world.job.interrupt(0), lambda world: world.job.is_spot),
    "interrupt for a while": Event(lambda world: world.job.interrupt(50), lambda world: world.job.is_spot),
    "capacity goes": Event(lambda world: world.set_capacity(False), lambda world: world.capacity),
    "capacity comes": Event(lambda world: world.set_capacity(True), lambda world: not world.capacity),
    "download": Event(
        lambda world: world.reach("downloading", lambda: world.job.on_downloading(world.attempt)),
        lambda world: world.phase == "launched",
    ),
    "train": Event(
        lambda world: world.reach("training", lambda: world.job.on_training(world.attempt)),
        lambda world: world.phase == "downloading",
    ),
    **{
        f"exit {code}": Event(
            lambda world, code=code: world.reach("exited", lambda: world.job.on_exited(world.attempt, code)),  # type: ignore[misc]
            lambda world: world.phase == "training",
        )
        for code in (0, 1)
    },
    "finish": Event(
        lambda world: world.reach("", lambda: world.job.on_finished(world.attempt, "s3://b/m")),
        lambda world: world.phase == "exited" and not world.reclaimed,
    ),
    "fail": Event(
        lambda world: world.reach("", lambda: world.job.on_finished(world.attempt, "", FAILURE)),
        lambda world: world.phase != "" and not world.reclaimed,
    ),
    "be lost": Event(lambda world: world.be_lost(), lambda world: world.reclaimed and world.phase != ""),
    "the daemon restarts": Event(lambda world: world.restart(), lambda world: True),
}

Path = tuple[str, ...]


def lived(spot: bool, request: dict[str, Any], path: Path) -> World:
    world = World(spot, **request)
    for event in path:
        EVENTS[event].happens(world)
    return world


@cache
def walk(job: int) -> list[tuple[World, Path, World]]:
    """Return each state of a job, an event in it with the events before, and the state afterwards."""
    spot, request = JOBS[job]
    steps: list[tuple[World, Path, World]] = []
    ahead: list[tuple[Path, World]] = [((), World(spot, **request))]
    seen = set()
    while ahead:
        path, before = ahead.pop(0)
        for name, event in EVENTS.items():
            if event.may_happen(before):
                after = lived(spot, request, (*path, name))
                steps.append((before, (*path, name), after))
                if after.state not in seen:
                    seen.add(after.state)
                    ahead.append(((*path, name), after))
    return steps


def pairs(record: Record) -> list[tuple[SecondaryStatus, SecondaryStatus]]:
    statuses = [each["Status"] for each in record.transitions]
    return list(zip(statuses, statuses[1:], strict=False))


def test_a_job_makes_the_transitions_of_the_table_and_no_others() -> None:
    worlds = [after for job in range(len(JOBS)) for _, _, after in walk(job)]
    observed = {pair for world in worlds for pair in pairs(world.job.record)}
    assert observed == {(before, after) for before, following in TRANSITIONS.items() for after in following}


@pytest.mark.parametrize("job", range(len(JOBS)))
def test_a_job_can_end_from_every_state(job: int) -> None:
    """None is left InProgress for ever."""
    ways: dict[tuple[object, ...], set[tuple[object, ...]]] = {}
    for before, _, after in walk(job):
        ways.setdefault(after.state, set()).add(before.state)
        ways.setdefault(before.state, set())
    ending = {state for state in ways if SecondaryStatus(str(state[0])).status in ("Completed", "Failed", "Stopped")}
    ahead = list(ending)
    while ahead:
        new = ways[ahead.pop()] - ending
        ending |= new
        ahead += new
    assert ways.keys() - ending == set()


@pytest.mark.parametrize("job", range(len(JOBS)))
def test_a_state_that_is_final_stays(job: int) -> None:
    for before, path, after in walk(job):
        if before.job.is_final:
            assert after.job.record == before.job.record, path


@pytest.mark.parametrize("job", range(len(JOBS)))
def test_an_attempt_ends_before_the_next_one_starts(job: int) -> None:
    for _, path, after in walk(job):
        record = after.job.record
        assert all(each.ended is not None for each in record.attempts[:-1]), path
        assert not record.is_final or all(each.ended is not None for each in record.attempts), path


def test_the_status_follows_from_the_secondary_status() -> None:
    finals = [status for status, following in TRANSITIONS.items() if not following]
    assert {status.status for status in finals} == {"Completed", "Failed", "Stopped"}
    assert {status.status for status in TRANSITIONS if status not in finals} == {"InProgress", "Stopping"}
    assert set(TRANSITIONS) == set(SecondaryStatus)
    assert {status.status for status in SecondaryStatus} == set(TrainingJobStatus)
