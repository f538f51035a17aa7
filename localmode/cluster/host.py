"""One host of an attempt (algo-1, algo-2, ...): its directories, container, log stream and checkpoints."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from localmode.cluster.checkpoint_sync import CheckpointSync
from localmode.cluster.containers import docker as engine
from localmode.cluster.containers.launch import spawn
from localmode.cluster.filesystem import Filesystem
from localmode.cluster.output import Lines, MetricScanner
from localmode.core.runners import OPT_ML
from localmode.core.settings import Settings
from localmode.s3.storage import Storage, parse_uri
from localmode.services.logs import Logs, LogStream
from localmode.training.job import TrainingJob


class Addresses:
    """Loopback addresses for hosts, which can then all listen on the same port: 127.0.0.0/8 is this machine."""

    def __init__(self, home: Path) -> None:
        first, second = hashlib.sha256(bytes(home)).digest()[:2]  # other daemons use other ones
        self._pool = [f"127.{first % 254 + 1}.{second}.{last}" for last in range(1, 255)]
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, count: int) -> Iterator[list[str]]:
        """Lend addresses that no other host has at the same time; raise OSError if there are not enough."""
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
    """What all hosts of a daemon share. `aws` are the environment variables that point AWS clients to the daemon."""

    settings: Settings
    storage: Storage
    logs: Logs
    aws: dict[str, str]
    root: Path
    runner: str
    addresses: Addresses
    container_options: Sequence[str] = ()


class Host:
    """One host of an attempt."""

    def __init__(self, machine: Machine, job: TrainingJob, root: Path, index: int, count: int) -> None:
        """Make the directories of host number `index` of `count` below `root`."""
        self.filesystem = Filesystem(root, job.record, machine.runner, index, count)
        self.name = self.filesystem.host
        self.exit_code = 0  # of its container, once that has exited
        self._machine, self._job = machine, job
        self._environment: dict[str, str] = {}
        self._container: subprocess.Popen[bytes] | None = None
        # https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html names streams so
        self._stream_name = f"{job.record.name}/{self.name}-{int(job.record.created)}"
        self._stream: LogStream | None = None
        self._checkpoints: CheckpointSync | None = None

    def prepare(self, check: Callable[[], None]) -> None:
        """Restore the checkpoints, download the channels, write the configuration.

        `check` is called between the steps and may raise to end this. Raises StorageError, ImageError or OSError.
        """
        if self._machine.runner == "docker":
            engine.check_image(self.filesystem.image)
        checkpoints = self._job.request.get("CheckpointConfig")
        if checkpoints:
            bucket, prefix = parse_uri(checkpoints["S3Uri"])
            directory = self.filesystem.path_of(checkpoints.get("LocalPath", f"{OPT_ML}/checkpoints"))
            self._checkpoints = CheckpointSync(directory, self._machine.storage, bucket, prefix, self.log)
            self._checkpoints.restore(check)
        self.filesystem.download_channels(self._machine.storage, check)
        self.filesystem.write_config()
        check()

    def make_ready(self) -> None:
        """Open the log stream and make the environment, which takes a while, before the container starts."""
        self._stream = self._machine.logs.stream(self._stream_name)
        self._environment = self.filesystem.environment(self._machine.aws)

    def start(self, addresses: dict[str, str]) -> None:
        """Start the container. `addresses` are those of all hosts, by name."""
        self._container = spawn(
            self.filesystem.root,
            self.filesystem.opt_ml,
            self.filesystem.command(),
            self._environment,
            self._machine.runner,
            addresses,
            self.filesystem.image,
            self._machine.container_options,
        )

    def send(self, signal: bytes) -> None:
        """Send TERMINATE or KILL to the container that has been started."""
        assert self._container is not None and self._container.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # it has exited
            self._container.stdin.write(signal)

    def run(self) -> int:
        """Follow the container to its end, synchronize its checkpoints; return its exit code."""
        assert self._container is not None
        if self._checkpoints is not None:
            self._checkpoints.start()
        with self._container:  # closes the control pipe and the log
            self.exit_code = self._follow(self._container)
        if self._checkpoints is not None:
            self._checkpoints.stop()
            self._checkpoints.sync()
        return self.exit_code

    def _follow(self, process: subprocess.Popen[bytes]) -> int:
        """Copy the container's output to its log stream, line by line, until it ends; return the exit code."""
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
        return code if code >= 0 else 128 - code  # the shim itself was killed

    def close(self) -> None:
        """Kill the container if it still runs, and wait until it has exited."""
        if self._checkpoints is not None:
            self._checkpoints.stop()
        if self._container is not None:
            with self._container:  # closes the control pipe
                pass

    def cut_off(self) -> None:
        """Upload no more checkpoints; an upload under way leaves nothing in S3. Does not wait for it."""
        if self._checkpoints is not None:
            self._checkpoints.cut_off()

    def explain(self) -> str:
        """Return the FailureReason of a container that failed: its failure file, or its last lines."""
        reason = ""
        if self.filesystem.failure_file.is_file():
            with self.filesystem.failure_file.open("rb") as file:
                reason = file.read(4096).decode(errors="replace").strip()
        elif self._stream is not None:
            reason = "; ".join(line.strip() for line in self._stream.last_lines(3))
        return f"AlgorithmError: {reason[:900]}, exit code: {self.exit_code}"

    def log(self, message: str) -> None:
        """Add a line of localmode's own to this host's log, in which names that are not UTF-8 are escaped."""
        if self._stream is not None:
            self._stream.write([message.encode(errors="backslashreplace").decode()])
