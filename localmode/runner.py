"""One attempt: an instance made ready, a container run on it, signals, and what it leaves in S3.

An interruption is what it is on EC2: SIGTERM to PID 1, a grace period, SIGKILL to everything.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from localmode import container
from localmode.checkpoints import Mirror
from localmode.instance import OPT_ML, Instance
from localmode.logs import Logs, LogStream, MetricScanner
from localmode.settings import LocalModeError, Settings
from localmode.storage import Storage, StorageError, parse_uri
from localmode.training import TrainingJob

_log = logging.getLogger(__name__)
_LAUNCHER = [sys.executable, "-I", "-S", container.__file__]
_SAFE_PATH = re.compile(r"[A-Za-z0-9_./+-]+")  # the SDK's shell scripts do not quote


class Reclaimed(Exception):
    """The instance has been taken away."""


class Terminated(Exception):
    """The job is being stopped before its container has started."""


class LocalInstances:
    """Runs attempts on this machine; what training.py calls Instances."""

    def __init__(self, settings: Settings, storage: Storage, logs: Logs, aws: dict[str, str]) -> None:
        self.settings, self.storage, self.logs, self.aws = settings, storage, logs, aws
        preferred = settings.home / "run"
        shutil.rmtree(preferred, ignore_errors=True)  # what a killed daemon's instances left
        if _SAFE_PATH.fullmatch(str(preferred)):
            preferred.mkdir()
            self.root = preferred
        else:
            self.root = Path(tempfile.mkdtemp(prefix="localmode-"))
        self.namespaces = self._choose_runner()
        self._attempts: dict[str, Attempt] = {}
        self._lock = threading.Lock()

    @property
    def runner(self) -> str:
        """The runner in use: `namespace` or `rewrite`."""
        return "namespace" if self.namespaces else "rewrite"

    def launch(self, job: TrainingJob, attempt: int) -> None:
        """Begin an attempt in a thread of its own."""
        with self._lock:
            self._attempts[job.record.name] = Attempt(self, job, attempt)
            self._attempts[job.record.name].start()

    def terminate(self, job: TrainingJob, attempt: int) -> None:
        """SIGTERM, a grace period, SIGKILL."""
        self._attempts[job.record.name].terminate()

    def reclaim(self, job: TrainingJob, attempt: int) -> None:
        """The same, and the instance is gone afterwards."""
        self._attempts[job.record.name].reclaim()

    def forget(self, attempt: Attempt) -> None:
        """Drop an attempt that is over."""
        with self._lock:
            if self._attempts.get(attempt.job.record.name) is attempt:
                del self._attempts[attempt.job.record.name]

    def close(self) -> None:
        """Kill whatever still runs, and wait until it is gone."""
        with self._lock:
            attempts = list(self._attempts.values())
        for attempt in attempts:
            attempt.abandon()
        for attempt in attempts:
            attempt.join()
        shutil.rmtree(self.root, ignore_errors=True)

    def _choose_runner(self) -> bool:
        if self.settings.runner == "rewrite" or sys.platform != "linux":
            if self.settings.runner == "namespace":
                raise LocalModeError("The namespace runner needs Linux; choose LOCALMODE_RUNNER=rewrite")
            return False
        error = self._try_namespaces()
        if error and self.settings.runner == "namespace":
            raise LocalModeError(
                f"This kernel does not allow the namespace runner ({error}); choose LOCALMODE_RUNNER=rewrite"
            )
        return not error

    def _try_namespaces(self) -> str:
        """Run a container that does nothing; return why it failed, or nothing."""
        with tempfile.TemporaryDirectory(dir=self.root) as scratch:
            (Path(scratch) / "ml").mkdir()
            launcher = spawn(Path(scratch), Path(scratch) / "ml", ["true"], {"PATH": "/usr/bin:/bin"}, True)
            with launcher:  # its leash must hold until it has ended
                assert launcher.stdout is not None
                output = launcher.stdout.read().decode().strip()
        return output.rpartition("\n")[2] or "no reason given" if launcher.returncode else ""


def spawn(
    root: Path, opt_ml: Path, command: list[str], environment: dict[str, str], namespaces: bool
) -> subprocess.Popen[bytes]:
    """Start a container; its standard input is the leash that container.py describes."""
    specification = root / "container.json"
    specification.write_text(
        json.dumps(
            {
                "namespaces": namespaces,
                "opt_ml": str(opt_ml),
                "scratch": str(root),
                "directory": str(opt_ml),
                "command": command,
                "environment": environment,
            }
        )
    )
    return subprocess.Popen(
        [*_LAUNCHER, str(specification)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,
    )


class Attempt(threading.Thread):
    """One attempt, from an empty directory to the upload of what came of it."""

    def __init__(self, instances: LocalInstances, job: TrainingJob, number: int) -> None:
        super().__init__(name=f"{job.record.name} attempt {number}", daemon=True)
        self.job = job
        self._number = number
        self._instances = instances
        self._storage = instances.storage
        self._root = instances.root / job.record.name / str(number)
        self._container: subprocess.Popen[bytes] | None = None
        self._mirror: Mirror | None = None
        self._stream: LogStream | None = None
        self._lock = threading.Lock()
        self._terminating = False
        self._reclaiming = False
        self._abandoned = False
        self._plug_pulled = False
        self._timer: threading.Timer | None = None

    # Orders, from other threads.

    def terminate(self) -> None:
        """Ask the container to end; kill it after the grace period."""
        with self._lock:
            self._terminating = True
        self._begin_grace()

    def reclaim(self) -> None:
        """The same, after which the instance is gone."""
        with self._lock:
            self._reclaiming = True
        self._begin_grace()

    def abandon(self) -> None:
        """End at once and report nothing: the daemon itself is ending."""
        with self._lock:
            self._reclaiming = self._abandoned = True
        self._pull_plug()

    def _begin_grace(self) -> None:
        self._send(b"T")
        timer = threading.Timer(self._instances.settings.grace_seconds, self._pull_plug)
        timer.daemon = True
        with self._lock:
            self._timer = timer
        timer.start()

    def _pull_plug(self) -> None:
        self._plug_pulled = True
        if self._reclaiming and self._mirror is not None:
            self._mirror.stop()  # nothing is uploaded once the host is gone
        self._send(b"K")

    def _send(self, order: bytes) -> None:
        with self._lock:
            if self._container is not None and self._container.stdin is not None:
                with suppress(BrokenPipeError, ValueError):  # it has ended by itself
                    self._container.stdin.write(order)

    # The attempt itself.

    def run(self) -> None:
        """Live through the attempt and report how it ended."""
        over = False
        try:
            over = self._live()
        except Reclaimed:
            pass
        except Exception:
            if not self._reclaiming:
                reason = "InternalServerError: an unexpected error in localmode; its log has the details"
                over = self.job.on_finished(self._number, "", reason)
            raise  # to the daemon's log
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._mirror is not None:
                self._mirror.stop()
            shutil.rmtree(self._root, ignore_errors=True)
            with suppress(OSError):  # another attempt's directory may be there
                self._root.parent.rmdir()
            self._instances.forget(self)
            if not over and not self._abandoned:
                self.job.on_lost(self._number)

    def _live(self) -> bool:
        exit_code, failure = None, ""
        record = self.job.record
        self.job.on_downloading(self._number)
        try:
            instance = Instance(self._root, record.name, record.arn, record.request, not self._instances.namespaces)
            self._prepare(instance)
            exit_code = self._execute(instance)
            failure = self._explain(instance, exit_code)
        except Terminated:
            pass
        except StorageError as error:
            failure = f"ClientError: {error}"
        except OSError as error:
            failure = f"InternalServerError: {error}"
        self._check_plug()
        with_model = self.job.on_exited(self._number, exit_code)
        artifacts = ""
        if exit_code is not None:
            try:
                artifacts = self._upload(instance, with_model)
            except (StorageError, OSError) as error:
                failure = failure or f"ClientError: the artifacts could not be uploaded: {error}"
        return self.job.on_finished(self._number, artifacts, failure)

    def _check_plug(self) -> None:
        if self._reclaiming:
            raise Reclaimed

    def _check(self) -> None:
        """Between two steps of the preparation: is it to go on?"""
        self._check_plug()
        if self._terminating:
            raise Terminated

    def _prepare(self, instance: Instance) -> None:
        """Restore the checkpoints, download the channels, write the configuration."""
        checkpoints = self.job.request.get("CheckpointConfig")
        if checkpoints:
            bucket, prefix = parse_uri(checkpoints["S3Uri"])
            directory = instance.path_of(checkpoints.get("LocalPath", f"{OPT_ML}/checkpoints"))
            self._mirror = Mirror(directory, self._storage, bucket, prefix, self._say)
            self._mirror.restore(self._check)
        instance.download_channels(self._storage, self._check)
        instance.write_config()
        self._check()

    def _execute(self, instance: Instance) -> int:
        """Run the container to its end, follow its log, mirror its checkpoints; return its exit code."""
        self._stream = self._instances.logs.stream(f"{self.job.record.name}/algo-1-{int(self.job.record.created)}")
        definitions = self.job.request["AlgorithmSpecification"].get("MetricDefinitions", [])
        scanner = MetricScanner(definitions, self.job.on_metric)
        command, environment = instance.command(), instance.environment(self._instances.aws)
        with self._lock:  # an order that comes now finds the container
            self._check()
            self._container = spawn(self._root, instance.opt_ml, command, environment, self._instances.namespaces)
        self.job.on_training(self._number)
        if self._mirror is not None:
            self._mirror.start()
        with self._container:  # closes the leash and the log
            exit_code = self._follow(self._container, scanner)
        if self._mirror is not None:
            self._mirror.stop()
            if not (self._reclaiming and self._plug_pulled):
                self._mirror.sync()
        return exit_code

    def _follow(self, process: subprocess.Popen[bytes], scanner: MetricScanner) -> int:
        """Carry the container's output to its log stream, line by line, until it ends."""
        assert process.stdout is not None and self._stream is not None
        rest = b""
        while chunk := process.stdout.read(1 << 16):
            *complete, rest = (rest + chunk).split(b"\n")
            lines = [line.decode(errors="replace").rstrip("\r") for line in complete]
            for line in lines:
                scanner.scan(line)
            self._stream.write(lines)
        if rest:
            self._stream.write([rest.decode(errors="replace")])
        return process.wait()

    def _explain(self, instance: Instance, exit_code: int) -> str:
        """Return the FailureReason of a container that failed: what it says itself, or its last lines."""
        if exit_code == 0:
            return ""
        said = ""
        if instance.failure_file.is_file():
            said = instance.failure_file.read_bytes()[:4096].decode(errors="replace").strip()
        elif self._stream is not None:
            said = "; ".join(line.strip() for line in self._stream.last_lines(3))
        return f"AlgorithmError: {said[:900]}, exit code: {exit_code}"

    def _upload(self, instance: Instance, with_model: bool) -> str:
        """Upload output and model as SageMaker does; return the model's URI, or nothing without one."""
        output = self.job.request["OutputDataConfig"]
        bucket, prefix = parse_uri(output["S3OutputPath"])
        target = "/".join(part for part in (prefix.strip("/"), self.job.record.name, "output") if part)
        compressed = output.get("CompressionType", "GZIP") == "GZIP"
        artifacts = ""
        if any((instance.opt_ml / "output" / "data").iterdir()):
            self._upload_tree(instance.opt_ml / "output" / "data", bucket, f"{target}/output", compressed)
        if with_model:
            artifacts = self._upload_tree(instance.opt_ml / "model", bucket, f"{target}/model", compressed)
        return artifacts

    def _upload_tree(self, directory: Path, bucket: str, key: str, compressed: bool) -> str:
        if not compressed:
            for path in sorted(path for path in directory.rglob("*") if path.is_file()):
                self._check_plug()
                self._storage.put_file(bucket, f"{key}/{path.relative_to(directory).as_posix()}", path)
            return f"s3://{bucket}/{key}/"
        archive = self._root / "tmp" / "upload.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
            for path in sorted(directory.rglob("*")):
                self._check_plug()
                tar.add(path, arcname=path.relative_to(directory).as_posix(), recursive=False)
        self._check_plug()
        self._storage.put_file(bucket, f"{key}.tar.gz", archive)
        return f"s3://{bucket}/{key}.tar.gz"

    def _say(self, message: str) -> None:
        """Put a line of localmode's own into the job's log."""
        if self._stream is not None:
            self._stream.write([message])
