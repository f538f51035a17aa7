"""One host of an attempt (algo-1, algo-2, ...): its directories, its container, its log stream, its mirror."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from localmode.cluster.checkpoint_sync import Mirror
from localmode.cluster.containers import docker as engine
from localmode.cluster.containers.launch import spawn
from localmode.cluster.filesystem import Instance
from localmode.cluster.output import Lines, MetricScanner
from localmode.core.runners import OPT_ML
from localmode.core.settings import Settings
from localmode.s3.storage import Storage, parse_uri
from localmode.services.logs import Logs, LogStream
from localmode.training.job import TrainingJob


class Addresses:
    """Loopback addresses for hosts, so that each can listen on the same port: all of 127.0.0.0/8 is this machine."""

    def __init__(self, home: Path) -> None:
        first, second = hashlib.sha256(bytes(home)).digest()[:2]  # daemons over other directories use others
        self._pool = [f"127.{first % 254 + 1}.{second}.{last}" for last in range(1, 255)]
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, count: int) -> Iterator[list[str]]:
        """Lend addresses that no other host has meanwhile; raise OSError if there are none left."""
        with self._lock:
            taken, self._pool = self._pool[:count], self._pool[count:]
        try:
            if len(taken) < count:
                raise OSError("too many hosts run at the same time: there is no loopback address left")
            yield taken
        finally:
            with self._lock:
                self._pool += taken


@dataclass(frozen=True)
class Machine:
    """What hosts run on. `runner` is one of settings.py's, `aws` the environment by which jobs find the daemon."""

    settings: Settings
    storage: Storage
    logs: Logs
    aws: dict[str, str]
    root: Path
    runner: str
    addresses: Addresses
    container_options: Sequence[str] = ()


class Host:
    """One instance of a job's cluster."""

    def __init__(self, machine: Machine, job: TrainingJob, root: Path, index: int, count: int) -> None:
        self.instance = Instance(root, job.record, machine.runner, index, count)
        self.name = self.instance.host
        self.exit_code = 0  # of its container, once that has ended
        self._machine, self._job = machine, job
        self._environment: dict[str, str] = {}
        self._container: subprocess.Popen[bytes] | None = None
        # https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html names streams so
        self._stream_name = f"{job.record.name}/{self.name}-{int(job.record.created)}"
        self._stream: LogStream | None = None
        self._mirror: Mirror | None = None

    def prepare(self, check: Callable[[], None]) -> None:
        """Restore the checkpoints, download the channels, write the configuration; `check` may raise to end it."""
        if self._machine.runner == "docker":
            engine.check_image(self.instance.image)
        checkpoints = self._job.request.get("CheckpointConfig")
        if checkpoints:
            bucket, prefix = parse_uri(checkpoints["S3Uri"])
            directory = self.instance.path_of(checkpoints.get("LocalPath", f"{OPT_ML}/checkpoints"))
            self._mirror = Mirror(directory, self._machine.storage, bucket, prefix, self.say)
            self._mirror.restore(check)
        self.instance.download_channels(self._machine.storage, check)
        self.instance.write_config()
        check()

    def make_ready(self) -> None:
        """Do what takes a while before the container can start."""
        self._stream = self._machine.logs.stream(self._stream_name)
        self._environment = self.instance.environment(self._machine.aws)

    def start(self, addresses: dict[str, str]) -> None:
        """Start the container. `addresses` are those of all hosts, by name."""
        self._container = spawn(
            self.instance.root,
            self.instance.opt_ml,
            self.instance.command(),
            self._environment,
            self._machine.runner,
            addresses,
            self.instance.image,
            self._machine.container_options,
        )

    def send(self, order: bytes) -> None:
        """Give an order to the container: `T` for SIGTERM, `K` for SIGKILL. Without a container nothing happens."""
        if self._container is not None and self._container.stdin is not None:
            with suppress(BrokenPipeError, ValueError):  # it has ended by itself
                self._container.stdin.write(order)

    def run(self, is_gone: Callable[[], bool]) -> int:
        """Follow the container to its end, mirror its checkpoints; return its exit code.

        `is_gone` tells whether by then the host is, so that what has not been uploaded is lost.
        """
        assert self._container is not None
        if self._mirror is not None:
            self._mirror.start()
        with self._container:  # closes the leash and the log
            self.exit_code = self._follow(self._container)
        if self._mirror is not None:
            self._mirror.stop()
            if not is_gone():
                self._mirror.sync()
        return self.exit_code

    def _follow(self, process: subprocess.Popen[bytes]) -> int:
        """Carry the container's output to its log stream, line by line, until it ends."""
        assert process.stdout is not None and self._stream is not None
        definitions = self._job.request["AlgorithmSpecification"].get("MetricDefinitions", [])
        scanner = MetricScanner(definitions, self._job.on_metric)
        lines = Lines()
        while chunk := process.stdout.read(1 << 16):
            complete = lines.feed(chunk)
            for line in complete:
                scanner.scan(line)
            self._stream.write(complete)
        self._stream.write(lines.rest())
        code = process.wait()
        return code if code >= 0 else 128 - code  # the launcher itself was killed

    def close(self) -> None:
        """End what still runs, and wait until it is gone."""
        self.stop_mirror()
        if self._container is not None:
            with self._container:  # closes the leash
                pass

    def stop_mirror(self) -> None:
        """Upload no more checkpoints; an upload under way is finished first."""
        if self._mirror is not None:
            self._mirror.stop()

    def explain(self) -> str:
        """Return the FailureReason of a container that failed: what it says itself, or its last lines."""
        said = ""
        if self.instance.failure_file.is_file():
            with self.instance.failure_file.open("rb") as file:
                said = file.read(4096).decode(errors="replace").strip()
        elif self._stream is not None:
            said = "; ".join(line.strip() for line in self._stream.last_lines(3))
        return f"AlgorithmError: {said[:900]}, exit code: {self.exit_code}"

    def say(self, message: str) -> None:
        """Put a line of localmode's own into this host's log."""
        if self._stream is not None:
            self._stream.write([message.encode(errors="backslashreplace").decode()])  # with names that are not UTF-8
