"""What an attempt finds on its instance: the /opt/ml tree, a Python environment, the environment variables.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import site
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localmode.archives import ArchiveError, unpack
from localmode.checkpoints import copy_into
from localmode.record import Record
from localmode.storage import Storage, StorageError, parse_uri

OPT_ML = "/opt/ml"
MAX_HOSTS = 4
_GROUP = "homogeneousCluster"  # what SageMaker calls the instances of a job without instance groups
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHARDED = "ShardedByS3Key"
_CODE_CHANNELS = ("code", "sm_drivers")  # where the SDK puts scripts, in which /opt/ml stands literally
_DEFAULT_ENTRYPOINT = ["train"]
_NO_TRAIN = (
    "The container's command is `train`, as of every job without a ContainerEntrypoint (those of SDK v2 and of "
    "tuners), and it is not installed here: `make toolkit` installs that of the sagemaker-training toolkit."
)


def too_many(count: int, runner: str) -> str:
    """Return why a runner cannot run so many instances; nothing if it can."""
    if count > MAX_HOSTS:
        return f"localmode does not do this: an InstanceCount above {MAX_HOSTS}. On AWS it would be accepted."
    if count > 1 and runner == "rewrite":
        return (
            f"localmode does not do this with its rewrite runner: an InstanceCount of {count}. It takes the namespace "
            "or the docker runner (LOCALMODE_RUNNER, on Linux), where every host has a name and an address of its own."
        )
    return ""


class Instance:
    """The directories of one host of an attempt; gone when it ends."""

    def __init__(self, root: Path, record: Record, runner: str, index: int, count: int) -> None:
        self.root = root
        self.opt_ml = root / "ml"
        self.hosts = [f"algo-{number}" for number in range(1, count + 1)]
        self.host = self.hosts[index]
        self._index = index
        self._name, self._arn, self._request = record.name, record.arn, record.request
        self._rewrite, self._docker = runner == "rewrite", runner == "docker"
        for directory in ("input/config", "input/data", "model", "output/data", "checkpoints", "code"):
            (self.opt_ml / directory).mkdir(parents=True)
        for directory in ("tmp", "home"):
            (root / directory).mkdir()

    @property
    def failure_file(self) -> Path:
        """Where the container may say why it failed."""
        return self.opt_ml / "output" / "failure"

    @property
    def image(self) -> str:
        """The job's image; only the docker runner uses it."""
        return str(self._request["AlgorithmSpecification"].get("TrainingImage", ""))

    def path_of(self, container_path: str) -> Path:
        """Return where a path below /opt/ml lies on this machine."""
        return self.opt_ml / Path(container_path).relative_to(OPT_ML)

    def seen_inside(self, text: str) -> str:
        """Return a text in which /opt/ml has the name that the container knows it by."""
        return text.replace(OPT_ML, str(self.opt_ml)) if self._rewrite else text

    def download_channels(self, storage: Storage, check: Callable[[], None]) -> None:
        """Copy every channel's objects to input/data/CHANNEL; `check` may raise to end it.

        Of a channel that is ShardedByS3Key every host gets about its share of the objects
        (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3DataSource.html does not say which).
        """
        for channel in self._request.get("InputDataConfig", []):
            name = channel["ChannelName"]
            source = channel["DataSource"]["S3DataSource"]["S3Uri"]
            bucket, prefix = parse_uri(source)
            first, step = (self._index, len(self.hosts)) if _distribution(channel) == SHARDED else (0, 1)
            directory = self.opt_ml / "input" / "data" / name
            directory.mkdir()
            entries = storage.objects(bucket, prefix)
            if not entries:
                raise StorageError(f"Data download failed: no S3 objects found under {source!r}")
            for entry in entries[first::step]:
                check()
                relative = entry.key[len(prefix) :].lstrip("/") or entry.key.rpartition("/")[2]
                try:
                    target = copy_into(directory, relative, entry.path)
                except FileNotFoundError as error:
                    gone = f"Data download failed: the S3 object {entry.key!r} has been deleted meanwhile"
                    raise StorageError(gone) from error
                if target is not None and self._rewrite and name in _CODE_CHANNELS:
                    self._rewrite_file(target)
        if self._rewrite:
            self._unpack_submitted_code(storage)

    def write_config(self) -> None:
        """Write input/config/*.json."""
        channels = {
            channel["ChannelName"]: {
                "TrainingInputMode": "File",
                "S3DistributionType": _distribution(channel),
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            }
            for channel in self._request.get("InputDataConfig", [])
        }
        instance_type = self._request["ResourceConfig"].get("InstanceType", "local")
        resources = {
            "current_host": self.host,
            "current_instance_type": instance_type,
            "current_group_name": _GROUP,
            "hosts": self.hosts,
            "instance_groups": [{"instance_group_name": _GROUP, "instance_type": instance_type, "hosts": self.hosts}],
            "network_interface_name": "lo",  # where the hosts' addresses are
        }
        documents = {
            "hyperparameters": self._request.get("HyperParameters", {}),
            "inputdataconfig": channels,
            "resourceconfig": resources,
        }
        for document, content in documents.items():
            path = self.opt_ml / "input" / "config" / f"{document}.json"
            path.write_text(self.seen_inside(json.dumps(content)))

    def command(self) -> list[str]:
        """Return the container's entrypoint and arguments; the entrypoint is empty where it is the image's own."""
        algorithm = self._request["AlgorithmSpecification"]
        default = ["", *_DEFAULT_ENTRYPOINT] if self._docker else _DEFAULT_ENTRYPOINT
        entrypoint = algorithm.get("ContainerEntrypoint") or default
        return [self.seen_inside(part) for part in (*entrypoint, *algorithm.get("ContainerArguments", []))]

    def environment(self, aws: dict[str, str]) -> dict[str, str]:
        """Return the container's environment: nothing of this machine's own but, without an image, its Python."""
        return {
            **({} if self._docker else self._surroundings()),
            "TRAINING_JOB_NAME": self._name,
            "TRAINING_JOB_ARN": self._arn,
            **aws,
            **{key: self.seen_inside(value) for key, value in self._request.get("Environment", {}).items()},
        }

    def _surroundings(self) -> dict[str, str]:
        """Return the part of the environment that otherwise an image has."""
        return {
            "PATH": f"{self._make_python()}:{Path(sys.executable).parent}:{_SYSTEM_PATH}",
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "VIRTUAL_ENV": str(self.root / "env"),
            "SAGEMAKER_BASE_DIR": self.seen_inside(OPT_ML),  # for the toolkit, in whose code /opt/ml stands
            # Or the toolkit waits a quarter of an hour for algo-1 to have an address.
            **({"SM_STUDIO_LOCAL_MODE": "true"} if self._rewrite else {}),
        }

    def _make_python(self) -> Path:
        """Make an environment on top of the daemon's: what a job installs, it installs for itself alone."""
        environment = self.root / "env"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = environment / "lib" / version / "site-packages"
        packages.mkdir(parents=True)
        bin_directory = environment / "bin"
        bin_directory.mkdir()
        base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        for name in ("python", "python3", version):
            (bin_directory / name).symlink_to(base)
        for name, line in _programs(f"{bin_directory}/python3").items():
            (bin_directory / name).write_text(f"#!/bin/sh\n{line}\n")
            (bin_directory / name).chmod(0o755)
        (environment / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
        (packages / "workshop.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        return bin_directory

    def _unpack_submitted_code(self, storage: Storage) -> None:
        """Unpack the code of SDK v2 where the toolkit would, which then leaves it there, and rewrite its paths."""
        uri = self._request.get("HyperParameters", {}).get("sagemaker_submit_directory", "").strip('"')
        if not uri.startswith("s3://"):
            return
        bucket, key = parse_uri(uri)
        for entry in storage.objects(bucket, key):
            if entry.key == key:
                try:
                    unpack(entry.path, self.opt_ml / "code")
                except ArchiveError as error:
                    raise StorageError(f"{uri!r} {error}") from error
        for path in (self.opt_ml / "code").rglob("*"):
            if path.is_file():
                self._rewrite_file(path)

    def _rewrite_file(self, path: Path) -> None:
        """Replace /opt/ml in a text file; a file that is no text is left alone."""
        content = path.read_bytes()
        if OPT_ML.encode() in content and b"\0" not in content:
            path.write_bytes(content.replace(OPT_ML.encode(), str(self.opt_ml).encode()))


def _distribution(channel: dict[str, Any]) -> str:
    return str(channel["DataSource"]["S3DataSource"].get("S3DataDistributionType", "FullyReplicated"))


def _programs(python: str) -> dict[str, str]:
    """Return what the daemon's Python programs are to a job: shell lines that run them with the job's Python."""
    own = Path(sys.executable).parent
    programs = {}
    for path in own.iterdir():
        if path.is_file() and not path.is_symlink() and _runs_python(path):
            programs[path.name] = f'exec {python} {shlex.quote(str(path))} "$@"'
    if not shutil.which(_DEFAULT_ENTRYPOINT[0], path=f"{own}:{_SYSTEM_PATH}"):
        programs[_DEFAULT_ENTRYPOINT[0]] = f"echo {shlex.quote(_NO_TRAIN)} | tee output/failure; exit 127"
    # The SDK's drivers look for pip3, which an environment made by uv does not have.
    return {**programs, **dict.fromkeys(("pip", "pip3"), f'exec {python} -m pip "$@"')}


def _runs_python(path: Path) -> bool:
    """Whether a file is a Python script as installers write them, for the Python that runs this."""
    with path.open("rb") as file:
        start = file.read(1024)
    interpreter = Path(os.fsdecode(start[2:].split(maxsplit=1)[0])) if start.startswith(b"#!/") else Path()
    own = Path(sys.executable).parent
    return interpreter.name.startswith("python") and interpreter.parent.resolve() == own.resolve()  # by any path
