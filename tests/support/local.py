"""What the tests of localmode share: the rooms in this process, daemons as processes, jobs that do next to nothing."""

import http.client
import json
import os
import select
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import boto3
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from localmode.cluster.cluster import Cluster
from localmode.core.durable import Journal
from localmode.core.settings import Settings
from localmode.core.wsgi import as_text
from localmode.s3.storage import Storage
from localmode.services.backend import Services
from localmode.services.logs import Logs
from localmode.training.job import TrainingJob
from localmode.training.record import Record
from localmode.training.scheduler import TrainingJobs

RUNNERS = ["namespace", "rewrite"] if sys.platform == "linux" else ["rewrite"]
if os.environ.get("TEST_RUNNER") == "docker":  # `make test-docker`
    RUNNERS = ["docker"]

BUCKET = "sagemaker-us-east-1-123456789012"
ROLE = "arn:aws:iam::123456789012:role/LocalModeExecutionRole"
SOON = 30  # seconds; what has not happened by then is a failure
GRACE = 0.3
IMAGE = os.environ.get("TEST_IMAGE", "none")  # which only the docker runner needs


def job_request(name: str, *command: str, **members: Any) -> dict[str, Any]:
    """Return a CreateTrainingJob request for a container that runs `command` (at most a shell)."""
    algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File", "ContainerEntrypoint": list(command or ["true"])}
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": algorithm | members.pop("algorithm", {}),
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **members,
    }


def spot_request(name: str, *command: str, **members: Any) -> dict[str, Any]:
    """The same on Spot, with checkpoints under s3://BUCKET/checkpoints/NAME."""
    condition = {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600}
    spot = {"EnableManagedSpotTraining": True, "StoppingCondition": condition}
    checkpoints = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/checkpoints/{name}"}}
    return job_request(name, *command, **(spot | checkpoints | members))


def channel(name: str, prefix: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


class Pipe:
    """A named pipe by which a job's container tells the test where it is, or the test the container."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR)
        self._rest = b""

    def __str__(self) -> str:
        return str(self.path)

    def line(self) -> str:
        """Wait for the next line and return it."""
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._descriptor], [], [], SOON)
            assert ready, "the container said nothing"
            self._rest += os.read(self._descriptor, 4096)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def send(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())

    def close(self) -> None:
        os.close(self._descriptor)


def configure_endpoint(sagemaker: Any, name: str, archive: str) -> None:
    """Create a model of an archive (S3 URI), and a configuration of one instance of it; both are called `name`."""
    container = {"Image": "none", "ModelDataUrl": archive}
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "mine", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])


class Rooms:
    """Storage, logs, instances and jobs in this process, without a daemon around them."""

    def __init__(
        self, home: Path, services: Services, storage: Storage, logs: Logs, runner: str, options: tuple[str, ...] = ()
    ) -> None:
        pipes = ("--volume", f"{home.parents[1]}:{home.parents[1]}")  # of the tests, also in the containers
        self.settings = settings = Settings(home, runner, GRACE, docker_options=(*pipes, *options))
        home.mkdir()
        (home / "new").mkdir()
        self.services, self.storage, self.logs = services, storage, logs
        self.instances = Cluster(settings, storage, logs, {"AWS_REGION": "us-east-1"})
        self.journal = Journal(home / "jobs", home / "new")
        self.jobs = TrainingJobs(settings, self.journal, self.instances)
        self.jobs.start()

    def create(self, request: dict[str, Any]) -> TrainingJob:
        job = self.jobs.create(request["TrainingJobName"], request)
        assert job is not None
        return job

    def run(self, request: dict[str, Any]) -> Record:
        """Run a job to its end."""
        return ended(self.create(request))

    def log(self, record: Record, host: str = "algo-1") -> list[str]:
        """Return the lines of the log of one of a job's hosts, as CloudWatch Logs has them."""
        stream = f"{record.name}/{host}-{int(record.created)}"
        group = "/aws/sagemaker/TrainingJobs"
        answer = self.services.logs("GetLogEvents", logGroupName=group, logStreamName=stream, startFromHead=True)
        return [event["message"] for event in answer["events"]]


def put(rooms: Rooms, key: str, content: bytes, tmp_path: Path) -> None:
    """Store an object in the bucket."""
    path = tmp_path / "object"
    path.write_bytes(content)
    rooms.storage.put_file(BUCKET, key, path)


def objects(rooms: Rooms, prefix: str) -> dict[str, bytes]:
    """Return the objects under a prefix of the bucket, by what follows it."""
    return {entry.key[len(prefix) :]: entry.path.read_bytes() for entry in rooms.storage.objects(BUCKET, prefix)}


def ended(job: TrainingJob) -> Record:
    """Wait for the end of a job."""
    with job.changed:
        assert job.changed.wait_for(lambda: job.is_final, SOON), f"still {job.record.secondary_status}"
    return job.record


class Daemon:
    """A daemon over a state directory of its own, its command line and its clients."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "LOCALMODE_", "SAGEMAKER_")) and name != "PYTHONDONTWRITEBYTECODE"
        }
        if os.environ.get("TEST_RUNNER") == "docker":
            pipes = shlex.join(["--volume", f"{home.parents[1]}:{home.parents[1]}"])  # also in the containers
            kept |= {"LOCALMODE_RUNNER": "docker", "LOCALMODE_DOCKER_OPTIONS": pipes}
        self.environment = {**kept, "LOCALMODE_HOME": str(home), "LOCALMODE_GRACE_SECONDS": str(GRACE), **settings}
        self._clients: dict[str, Any] = {}

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m localmode ...` to its end."""
        command = [sys.executable, "-m", "localmode", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=SOON)

    def start(self) -> "Daemon":
        result = self.cli("start")
        assert result.returncode == 0, result.stderr
        self._clients.clear()
        return self

    def stop(self) -> None:
        result = self.cli("stop")
        assert result.returncode == 0, result.stderr

    def kill(self) -> None:
        """SIGKILL, as if the machine's power went; return when all that it started is gone as well."""
        numbers = [self.pid, *(int(found.partition(":")[0]) for found in processes_naming(str(self.home)))]
        descriptors = []
        for number in set(numbers):
            with suppress(ProcessLookupError):
                descriptors.append(os.pidfd_open(number))
        os.kill(self.pid, signal.SIGKILL)
        for descriptor in descriptors:
            assert select.select([descriptor], [], [], SOON)[0], "something outlives the daemon"
            os.close(descriptor)

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "daemon.json").read_text()))

    @property
    def pid(self) -> int:
        return int(self.state["pid"])

    @property
    def port(self) -> int:
        return int(self.state["port"])

    def client(self, service: str) -> Any:
        """Return a boto3 client that needs no environment variable."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                region_name="us-east-1",
                endpoint_url=f"http://127.0.0.1:{self.port}",
                aws_access_key_id=self.state["access_key"],
                aws_secret_access_key=self.state["secret_key"],
                config=Config(retries={"total_max_attempts": 1}, max_pool_connections=20),
            )
        return self._clients[service]

    @property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @property
    def s3(self) -> Any:
        return self.client("s3")

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send one raw request with no signature but that in its headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SOON)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def signed(self, service: str, method: str, path: str, body: bytes = b"", **headers: str) -> dict[str, str]:
        """Return the headers of a request for a service, with its signature."""
        host = {"Host": f"127.0.0.1:{self.port}"}
        keys = Credentials(self.state["access_key"], self.state["secret_key"])
        return signed(keys, service, method, path, body, host | headers)

    def send(
        self, service: str, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send one raw request with a signature; its headers have one character for each byte."""
        said = {name: as_text(value) for name, value in headers.items()}
        bytewise = {name: value for name, value in headers.items() if value != said[name]}
        return self.request(method, path, body, self.signed(service, method, path, body, **said) | bytewise)

    def call(self, operation: str, body: Any) -> tuple[int, Any]:
        """Call an operation of SageMaker with a raw body; return status and raw answer."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, answer = self.send("sagemaker", "POST", "/", content, **{"X-Amz-Target": f"SageMaker.{operation}"})
        return status, json.loads(answer)

    def finished(self, name: str) -> dict[str, Any]:
        """Wait for the end of a job and describe it."""
        waiter = self.sagemaker.get_waiter("training_job_completed_or_stopped")
        try:
            waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": int(SOON / 0.05)})
        except Exception as error:  # noqa: BLE001 - a failed job is for the test to judge
            assert "terminal failure state" in str(error), error
        return dict(self.sagemaker.describe_training_job(TrainingJobName=name))


class _SaidHash(S3SigV4Auth):
    """Signs the hash of the body that the request says, if it says one: that of a body in chunks."""

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["said"] = request.headers.get("x-amz-content-sha256")
        super()._modify_request_before_signing(request)

    def payload(self, request: AWSRequest) -> str:
        return request.context["said"] or super().payload(request)


def signed(
    keys: Credentials, service: str, method: str, path: str, body: bytes, headers: dict[str, str]
) -> dict[str, str]:
    """Return headers, `Host` among them, together with the signature of the request."""
    path, _, query = path.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1")
    encoded = "&".join("=".join(quote(text, "-_.~", "latin-1") for text in pair) for pair in pairs)
    url = f"http://{headers['Host']}/{quote(unquote_to_bytes(path.removeprefix('/').encode('latin-1')))}?{encoded}"
    request = AWSRequest(method, url, headers, body)
    (_SaidHash if service == "s3" else SigV4Auth)(keys, service, "us-east-1").add_auth(request)
    return dict(request.headers.items())


def processes_naming(text: str) -> list[str]:
    """Return the command lines of all processes that have `text` in their arguments or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:  # gone meanwhile
            continue
        if text.encode() in arguments + environment and int(process.name) != os.getpid():
            found.append(f"{process.name}: {arguments.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def containers(home: str) -> list[str]:
    """Return the names of all containers, also of those that have ended, of state directories that begin so."""
    command = ["docker", "ps", "--all", "--filter", "label=localmode", "--format", '{{.Label "localmode"}} {{.Names}}']
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.rpartition(" ")[2] for line in lines if line.startswith(home)]
