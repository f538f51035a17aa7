"""Every exercise has a solution that runs, and whose answer is right."""

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.support.local import BUCKET, ROLE, Daemon, configure_endpoint
from workshop import ROOT, dataset, progress, solutions

OPTIONS = {"epochs": 2, "checkpoint-every": 8}


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dataset.Channel]:
    return dataset.prepare("digits", tmp_path_factory.mktemp("data"))


def command(channels: dict[str, dataset.Channel], out: Path) -> list[str]:
    places = {name: channels[name].directory for name in ("train", "validation")}
    places |= {"model-dir": out / "model", "output-data-dir": out / "output", "checkpoint-dir": out / "checkpoints"}
    return [sys.executable, str(ROOT / "source_dir/train.py"), *(f"--{n}={v}" for n, v in (places | OPTIONS).items())]


@pytest.fixture(scope="module")
def whole(channels: dict[str, dataset.Channel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished training."""
    out = tmp_path_factory.mktemp("whole")
    subprocess.run(command(channels, out), check=True, capture_output=True)
    return out


def test_every_exercise_has_one_solution() -> None:
    solved = [text.partition(":")[0] for f in vars(solutions).values() if (text := getattr(f, "__doc__", None) or "")]
    asked = []
    for number, path in enumerate(sorted((ROOT / "notebooks").glob("0*.ipynb")), 1):
        (cell,) = [cell.source for cell in nbformat.read(path, 4).cells if "### Exercises" in cell.source]
        asked += [f"{number}.{line[0]}" for line in cell.splitlines() if line[1:3] == ". "]
    assert len(asked) >= 8
    assert sorted(name for name in solved if name[:1].isdigit()) == asked


def test_the_best_cadence_loses_the_least_time() -> None:
    def lost(every: float) -> float:
        return 0.006 / every + every / 2 / 7200

    best = solutions.best_cadence(0.006, 7200)
    assert 9 < best < 9.5 and 30 < solutions.best_cadence(0.063, 7200) < 30.5
    assert lost(best) < min(lost(best * 0.9), lost(best * 1.1))
    assert lost(best * 2) / lost(best) == pytest.approx(1.25)


def test_a_damaged_newest_checkpoint_is_skipped(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest, loaded = solutions.damaged_newest(whole / "checkpoints")
    assert progress.newest_step([loaded]) < progress.newest_step([newest]) == 40
    assert newest in capsys.readouterr().out
    assert (whole / "checkpoints" / newest).exists()


def test_without_momentum_the_weights_differ_a_little(
    channels: dict[str, dataset.Channel], whole: Path, tmp_path: Path
) -> None:
    same, largest = solutions.without_momentum(lambda out: command(channels, out), whole, tmp_path / "out")
    assert not same and 0 < largest < 1


def test_training_seconds_are_those_on_the_instance(at_daemon: Daemon, name: str) -> None:
    from tests.support.local import job_request

    at_daemon.sagemaker.create_training_job(**job_request(name))
    job = progress.follow(name)
    seconds = solutions.seconds_by_status(job["SecondaryStatusTransitions"])
    used = sum(seconds[status] for status in ("Downloading", "Training", "Uploading"))
    assert used <= job["TrainingTimeInSeconds"] <= used + 1
    assert list(seconds) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:sagemaker")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK leaves a directory open
def test_a_job_that_runs_too_long_is_stopped_and_has_not_failed(
    at_daemon: Daemon, channels: dict[str, dataset.Channel]
) -> None:
    trainer, inputs = job_of_the_course(channels)
    plain = {"hyperparameters": trainer.hyperparameters}
    exec(failing_cell(), {"trainer": trainer, "inputs": inputs, "plain": plain, "progress": progress})
    assert solutions.too_short(trainer, inputs) == ("Stopped", "MaxRuntimeExceeded", False)


def failing_cell() -> str:
    """The cell of notebook 2 with the job that fails; it precedes the exercise."""
    cells = nbformat.read(ROOT / "notebooks" / "02_train_on_demand.ipynb", 4).cells
    (source,) = [cell.source for cell in cells if "progress.TrainingFailed" in cell.source]
    return str(source)


def job_of_the_course(channels: dict[str, dataset.Channel]) -> tuple[Any, list[Any]]:
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.core.training import configs
    from sagemaker.train import ModelTrainer

    session = Session()
    inputs = [
        configs.InputData(
            channel_name=channel,
            data_source=session.upload_data(str(channels[channel].directory), session.default_bucket(), channel),
        )
        for channel in ("train", "validation")
    ]
    trainer = ModelTrainer(
        sagemaker_session=session,
        role=ROLE,
        base_job_name="too-short",
        training_image="image",
        source_code=configs.SourceCode(source_dir=str(ROOT / "source_dir"), entry_script="train.py"),
        compute=configs.Compute(instance_type="ml.m5.xlarge", instance_count=1),
        stopping_condition=configs.StoppingCondition(max_runtime_in_seconds=600),
        hyperparameters={"epochs": 100_000},
    )
    return trainer, inputs


def test_the_reported_savings_are_not_the_real_ones() -> None:
    reported, real = solutions.savings(3)
    assert reported == pytest.approx(65) and 49 < real < 50
    assert solutions.savings(12)[1] > 0 > solutions.savings(13)[1]


def test_a_prefix_without_a_slash_matches_its_neighbours(at_daemon: Daemon, name: str) -> None:
    at_daemon.s3.create_bucket(Bucket=BUCKET)
    without, with_slash = solutions.neighbours(BUCKET, name)
    assert without == ["run-1/checkpoint", "run-10/checkpoint"] and with_slash == ["run-1/checkpoint"]
    assert "Contents" not in at_daemon.s3.list_objects_v2(Bucket=BUCKET, Prefix=name)


def test_the_times_of_a_request_and_of_an_image_are_separated() -> None:
    request, image = solutions.request_and_image(0.006, 1, 0.0119, 60)
    assert request == pytest.approx(0.0059) and image == pytest.approx(0.0001)


def test_an_endpoint_with_few_requests_is_idle() -> None:
    share = solutions.share_of_day(10_000, 60, 0.006, 0.0001)
    assert share * 86_400 == pytest.approx(167 * 0.006 + 1) and share < 0.001


def test_an_image_of_the_wrong_size_is_refused_by_the_model(
    at_daemon: Daemon, whole: Path, tmp_path: Path, name: str
) -> None:
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(whole / "model" / "1", "1")
    at_daemon.s3.create_bucket(Bucket=BUCKET)
    at_daemon.s3.upload_file(str(tmp_path / "model.tar.gz"), BUCKET, f"{name}/model.tar.gz")
    sagemaker = at_daemon.sagemaker
    configure_endpoint(sagemaker, name, f"s3://{BUCKET}/{name}/model.tar.gz")
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    progress.follow_endpoint(name)
    code, status, message = solutions.wrong_size(name)
    assert (code, status) == ("ModelError", 400) and "(1, 2, 1)" in message and "(None, 8, 8, 1)" in message
    sagemaker.delete_endpoint(EndpointName=name)
