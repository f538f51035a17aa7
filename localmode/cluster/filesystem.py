"""The files of a host: the /opt/ml tree with its channels and configuration, and what the container starts with.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localmode.cluster import python_environment
from localmode.core.archives import ArchiveError, unpack
from localmode.core.runners import OPT_ML
from localmode.s3.storage import Storage, StorageError, parse_uri
from localmode.training.record import Record

_GROUP = "homogeneousCluster"  # what SageMaker calls the instances of a job without instance groups
SHARDED = "ShardedByS3Key"
_CODE_CHANNELS = ("code", "sm_drivers")  # where the SDK puts scripts that contain /opt/ml literally


class Filesystem:
    """The directories of one host of an attempt, which are removed when it ends."""

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
        """The file in which the container may give the reason of a failure."""
        return self.opt_ml / "output" / "failure"

    @property
    def image(self) -> str:
        """The job's image; only the docker runner uses it."""
        return str(self._request["AlgorithmSpecification"].get("TrainingImage", ""))

    def path_of(self, container_path: str) -> Path:
        """Return the path on this machine of a path below /opt/ml in the container."""
        return self.opt_ml / Path(container_path).relative_to(OPT_ML)

    def seen_inside(self, text: str) -> str:
        """Return a text with /opt/ml replaced by the path at which the container finds it."""
        return text.replace(OPT_ML, str(self.opt_ml)) if self._rewrite else text

    def download_channels(self, storage: Storage, check: Callable[[], None]) -> None:
        """Copy every channel's objects to input/data/CHANNEL; raise StorageError where that fails.

        `check` is called before each object and may raise to end this. With ShardedByS3Key, every host gets about the
        same number of objects (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3DataSource.html does
        not say which).
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
            "network_interface_name": "lo",  # the loopback interface, which has the hosts' addresses
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
        """Return the container's entrypoint and arguments; an empty entrypoint stands for the image's own."""
        algorithm = self._request["AlgorithmSpecification"]
        default = (
            ["", *python_environment.DEFAULT_ENTRYPOINT] if self._docker else python_environment.DEFAULT_ENTRYPOINT
        )
        entrypoint = algorithm.get("ContainerEntrypoint") or default
        return [self.seen_inside(part) for part in (*entrypoint, *algorithm.get("ContainerArguments", []))]

    def environment(self, aws: dict[str, str]) -> dict[str, str]:
        """Return the container's environment; without an image, it contains this machine's Python, but nothing else."""
        return {
            **({} if self._docker else python_environment.variables(self.root, self.seen_inside, self._rewrite)),
            "TRAINING_JOB_NAME": self._name,
            "TRAINING_JOB_ARN": self._arn,
            **aws,
            **{key: self.seen_inside(value) for key, value in self._request.get("Environment", {}).items()},
        }

    def _unpack_submitted_code(self, storage: Storage) -> None:
        """Unpack the code of SDK v2 where the toolkit would unpack it, and rewrite its paths."""
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
        """Replace /opt/ml in a text file; leave binary files alone."""
        content = path.read_bytes()
        if OPT_ML.encode() in content and b"\0" not in content:
            path.write_bytes(content.replace(OPT_ML.encode(), str(self.opt_ml).encode()))


def _distribution(channel: dict[str, Any]) -> str:
    return str(channel["DataSource"]["S3DataSource"].get("S3DataDistributionType", "FullyReplicated"))


def copy_into(directory: Path, name: str, source: Path) -> Path | None:
    """Copy an object's content to `directory/name` and return that path; None for the name of a directory.

    Raises StorageError for a name that leads out of the directory, or that no file can have here; FileNotFoundError
    for an object that has been deleted meanwhile.
    """
    target = contained(directory, name)
    if target is None:
        return None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise StorageError(f"The S3 object name {name!r} is a file's as well as a directory's") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise StorageError(f"The S3 object name {name!r} is too long for a file") from error
        raise
    return target


def contained(directory: Path, name: str) -> Path | None:
    """Return `directory/name`; None for the name of a directory. Raises StorageError for a name that leads out."""
    parts = [part for part in name.split("/") if part]
    if any(part in (".", "..") or "\0" in part for part in parts):
        raise StorageError(f"The S3 object name {name!r} leads out of its directory")
    if not parts or name.endswith("/"):
        return None
    return directory.joinpath(*parts)
