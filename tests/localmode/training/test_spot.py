"""Billing by examples, and the Spot market."""

from pathlib import Path

import pytest

from localmode.training.spot import AttemptTimes, SpotMarket, billable_seconds, savings_percent, training_seconds

NOW = 1e6


def attempts(*phases: tuple[float, float]) -> list[AttemptTimes]:
    """Return attempts of (downloading, training and uploading) seconds, an hour apart."""
    starts = [3600.0 * number for number in range(len(phases))]
    return [AttemptTimes(t, t + down, t + down + rest) for t, (down, rest) in zip(starts, phases, strict=True)]


@pytest.mark.parametrize(
    ("phases", "discount", "training", "billable"),
    [
        ([(0, 100)], 0.0, 100, 100),  # On-Demand pays for every second
        ([(10, 90)], 0.0, 100, 100),
        ([(0, 500)], 0.8, 500, 100),  # https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training.html
        ([(23, 2400)], 1 - 837 / 2423, 2423, 837),  # the launch announcement's job
        ([(10, 90)], 0.7, 100, 30),
        ([(10, 90)], 1.0, 100, 0),
        ([(10, 100), (10, 50)], 0.0, 170, 160),  # download is charged once,
        ([(10, 100), (30, 50), (20, 50)], 0.0, 260, 230),  # the longest one
        ([(10, 100), (10, 50)], 0.7, 170, 48),
        ([(0, 0.2)], 0.0, 1, 1),  # whole seconds, rounded up
        ([], 0.7, 0, 0),
    ],
)
def test_billing(phases: list[tuple[float, float]], discount: float, training: int, billable: int) -> None:
    assert training_seconds(attempts(*phases), NOW) == training
    assert billable_seconds(attempts(*phases), discount, NOW) == billable


@pytest.mark.parametrize(
    ("training", "billable", "percent"), [(500, 100, 80), (2423, 837, 65), (100, 100, 0), (100, 0, 100), (0, 0, 0)]
)
def test_savings_by_the_documented_formula(training: int, billable: int, percent: int) -> None:
    assert int(savings_percent(training, billable)) == percent


def test_an_attempt_that_still_runs_counts_up_to_now() -> None:
    running = [AttemptTimes(downloading=100.0, training=110.0)]
    assert training_seconds(running, 150.0) == 50


def test_an_attempt_lost_while_downloading_has_used_its_instance_only_for_that() -> None:
    lost = AttemptTimes(downloading=100.0, ended=104.0)
    assert (lost.used(NOW), lost.download(NOW)) == (4, 4)


def test_an_attempt_that_never_had_an_instance_used_none() -> None:
    assert AttemptTimes(ended=104.0).used(NOW) == 0


def test_a_clock_set_back_makes_no_negative_time() -> None:
    assert AttemptTimes(downloading=100.0, training=90.0, ended=80.0).used(NOW) == 0


def test_capacity_goes_and_comes(tmp_path: Path) -> None:
    market = SpotMarket(tmp_path / "none")
    assert market.available
    for available in (False, False, True, True):
        market.set_capacity(available)
        assert market.available is available
        assert SpotMarket(tmp_path / "none").available is available
