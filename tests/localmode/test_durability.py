"""Acknowledged changes survive kills at any moment, full and read-only disks, and damaged journals."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from localmode.api.resources import Resources
from localmode.core.durable import Journal
from localmode.core.errors import LocalModeError
from localmode.hosting.provisioning import Hosting
from localmode.hosting.registry import Endpoints
from localmode.training.scheduler import TrainingJobs
from tests.support.durability import KillRounds
from tests.support.local import BUCKET, RUNNERS, SOON, Daemon, Pipe, Rooms, job_request, spot_request

Make = Callable[..., Daemon]
needs_mounts = pytest.mark.skipif("namespace" not in RUNNERS, reason="needs a mount namespace")


@pytest.mark.slow
def test_acknowledged_changes_survive_kills_at_random_moments(new_daemon: Make, tmp_path: Path) -> None:
    rounds = KillRounds(new_daemon(), seed=20261120, scratch=tmp_path)
    rounds.begin(with_endpoint=True)
    for _ in range(3):
        rounds.round()
    rounds.end(with_endpoint=True)


# Full and read-only disks


def inside(mount: str, home: Path, *arguments: str) -> list[str]:
    """Return a command line that runs `mount` on the state directory, and then localmode, in a mount namespace."""
    script = f'{mount} && exec "$@"'
    command = [sys.executable, "-m", "localmode", *arguments]
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(home), *command]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose state directory is a disk of 24 MB."""
    home = tmp_path / "home"
    home.mkdir()
    command = inside('mount -t tmpfs -o size=24m,mode=0700 tmpfs "$0"', home, "serve", "--home", str(home))
    environment = Daemon(home, LOCALMODE_RUNNER="rewrite").environment
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", (tmp_path / "log").read_text()
        daemon = Daemon(Path(f"/proc/{process.pid}/root{home}"))
        try:
            yield daemon
            daemon.sagemaker.list_training_jobs()  # it still answers
        finally:
            process.terminate()
            process.wait(SOON)


def fill(daemon: Daemon, size: int) -> dict[str, bytes]:
    """Write objects until the disk is full; return those that were acknowledged."""
    written: dict[str, bytes] = {}
    with pytest.raises(ClientError) as refusal:
        for number in range(10_000):
            key = f"{size}/{number}"
            content = bytes([number % 251]) * size
            daemon.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
            written[key] = content
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert "No space left on device" in refusal.value.response["Error"]["Message"]
    return written


@needs_mounts
def test_a_full_disk_is_reported_and_loses_no_data(small_disk: Daemon, pipe: Pipe, order: Pipe) -> None:
    script = f"echo up > {pipe}; read line < {order}; echo done > /opt/ml/checkpoints/last"
    small_disk.sagemaker.create_training_job(**spot_request("running", "bash", "-c", script))
    pipe.line()
    written = {**fill(small_disk, 1 << 20), **fill(small_disk, 100_000), **fill(small_disk, 4096)}
    with pytest.raises(ClientError, match="could not write its state.*No space left on device"):
        small_disk.sagemaker.create_training_job(**job_request("refused", "true" * 50))
    with pytest.raises(ClientError, match="not found"):
        small_disk.sagemaker.describe_training_job(TrainingJobName="refused")
    for key, content in written.items():
        assert small_disk.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content
    for key in [key for key in written if key.startswith(f"{1 << 20}/")]:
        small_disk.s3.delete_object(Bucket=BUCKET, Key=key)
    order.send("go")
    assert small_disk.finished("running")["TrainingJobStatus"] == "Completed"
    saved = small_disk.s3.get_object(Bucket=BUCKET, Key="checkpoints/running/last")
    assert saved["Body"].read() == b"done\n"


@needs_mounts
def test_a_read_only_state_directory_is_a_one_line_error_and_unchanged(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    daemon.s3.put_object(Bucket=BUCKET, Key="kept", Body=b"1")
    daemon.stop()
    before = {path: path.stat().st_mtime_ns for path in daemon.home.rglob("*")}
    command = inside('mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"', daemon.home, "start")
    result = subprocess.run(command, env=daemon.environment, capture_output=True, text=True, timeout=SOON)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert f"cannot use its state directory {daemon.home}" in result.stderr
    assert "Read-only file system" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in daemon.home.rglob("*")} == before
    assert daemon.start().s3.get_object(Bucket=BUCKET, Key="kept")["Body"].read() == b"1"


# Damaged journals

DAMAGED = [b"", b"{", b"[]", b"{}", b"3", b"null", b"\xff\xfe", bytes(100), b'{"CreationTime": 1}']


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
@pytest.mark.parametrize("kind", ["jobs", "models", "endpoints"])
def test_a_damaged_journal_is_reported_and_unchanged(
    rooms_by_runner: Callable[[str], Rooms], tmp_path: Path, kind: str, content: bytes
) -> None:
    rooms = rooms_by_runner("rewrite")
    journal = Journal(tmp_path, tmp_path)
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(LocalModeError, match=f"{path} is damaged .*; move it away"):
        if kind == "jobs":
            TrainingJobs(rooms.settings, journal, rooms.instances)
        elif kind == "endpoints":
            Endpoints(rooms.settings, Hosting(rooms.settings, rooms.storage, rooms.services, {}), journal)
        else:
            Resources(journal, rooms.settings, "model", "model", "Model")
    assert path.read_bytes() == content
