"""Starting, joining and stopping a daemon, also from several processes at once."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from localmode.client import lifecycle
from localmode.core.home import claim, is_running
from localmode.core.settings import Settings
from tests.support.local import BUCKET, SOON, Daemon, processes_naming

SHELL = ("/bin/bash", "-c")


Make = Callable[..., Daemon]


def started(*daemons: Daemon) -> list[subprocess.CompletedProcess[str]]:
    """Start daemons at the same time."""
    command = [sys.executable, "-m", "localmode", "start"]
    processes = [
        subprocess.Popen(command, env=d.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for d in daemons
    ]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=SOON)
        results.append(subprocess.CompletedProcess(command, process.returncode, out, err))
    return results


def test_a_second_start_joins_the_running_daemon(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    pid = daemon.pid
    again = daemon.cli("start")
    assert "already running" in again.stdout
    assert daemon.pid == pid


def test_simultaneous_starts_give_one_daemon(new_daemon: Make) -> None:
    daemon = new_daemon()
    results = started(daemon, daemon, daemon)
    words = sorted(result.stdout.partition(" at ")[0] for result in results)
    assert [result.returncode for result in results] == [0, 0, 0], results
    assert words == ["localmode already running", "localmode already running", "localmode started"]
    assert len(processes_naming(f"serve\0--home\0{daemon.home}")) == 1


def test_a_daemon_starts_while_another_thread_asks_whether_it_runs(new_daemon: Make) -> None:
    daemon = new_daemon()
    claim(daemon.home)
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            is_running(daemon.home)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        daemon.start()
    finally:
        done.set()
        watcher.join(10)
    assert is_running(daemon.home)


def test_a_start_while_another_process_stops_the_daemon_gives_a_new_one(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    with subprocess.Popen([sys.executable, "-m", "localmode", "stop"], env=daemon.environment) as stopping:
        for _ in range(100):
            if not is_running(daemon.home) or daemon.cli("start").stdout.startswith("localmode started"):
                break
    assert stopping.returncode == 0
    daemon.start()
    assert daemon.sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_killing_the_process_that_starts_a_daemon_does_not_stop_the_daemon(new_daemon: Make) -> None:
    """The daemon has its lock, and waits for a journal that the test writes later."""
    daemon = new_daemon()
    claim(daemon.home)
    journal = daemon.home / "models" / "slow.json"
    journal.parent.mkdir()
    os.mkfifo(journal)

    def begin(command: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "localmode", command]
        return subprocess.Popen(line, env=daemon.environment, stdout=-1, stderr=-1, text=True)

    with begin("start") as starter, ThreadPoolExecutor(1) as pool:
        opening = pool.submit(journal.open, "w")  # until the daemon opens it to read
        try:
            file = opening.result(SOON)
        finally:
            os.close(os.open(journal, os.O_RDONLY | os.O_NONBLOCK))  # or the pool would wait for ever
        assert is_running(daemon.home)
        starter.kill()
    with begin("start") as joining, begin("status") as asking:
        with file:
            file.write('{"ModelName": "slow", "ModelArn": "arn", "CreationTime": 0}')
        joined, answer = joining.communicate(timeout=SOON), asking.communicate(timeout=SOON)
    assert (joined[1], answer[1]) == ("", "")
    assert joined[0].startswith("localmode already running at")
    assert json.loads(answer[0])["pid"] == daemon.pid
    assert (daemon.home / "sagemaker-config.yaml").exists()


def test_a_start_waits_until_another_process_has_deleted_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    claim(home)
    (home / "old").touch()
    deleting, go_on = threading.Event(), threading.Event()
    found: list[list[str]] = []

    def delete_slowly(home: Path) -> None:
        deleting.set()
        assert go_on.wait(SOON)

    monkeypatch.setattr(lifecycle, "remove_run_directory", delete_slowly)
    monkeypatch.setattr(lifecycle, "_spawn", lambda *_: found.append(sorted(path.name for path in home.iterdir())))
    with ThreadPoolExecutor(2) as pool:
        reset = pool.submit(lifecycle.reset, home)
        assert deleting.wait(SOON)
        start = pool.submit(lifecycle.ensure_daemon, Settings(home))
        wait([start], 0.3)
        go_on.set()
        assert (reset.result(), start.result()) == (None, True)
    assert found == [["daemon.lock", "logs", "sagemaker-config.yaml", "start.lock"]]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_stop_reports_that_no_daemon_runs(new_daemon: Make) -> None:
    daemon = new_daemon()
    assert daemon.cli("stop").stdout == f"no daemon runs over {daemon.home}\n"
    assert not daemon.home.exists()


def test_reset_deletes_everything(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    daemon.s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    assert daemon.cli("reset").stdout == f"stopped; {daemon.home} is deleted\n"
    assert not daemon.home.exists()
    assert "Contents" not in daemon.start().s3.list_objects_v2(Bucket=BUCKET)


def test_reset_of_a_missing_directory_succeeds(new_daemon: Make) -> None:
    assert new_daemon().cli("reset").returncode == 0
