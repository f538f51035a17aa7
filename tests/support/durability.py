"""Kill a daemon at random moments while clients write, jobs train and an endpoint answers."""

import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.local import (
    BUCKET,
    SOON,
    Daemon,
    channel,
    configure_endpoint,
    job_request,
    processes_naming,
    spot_request,
)

STEPS = 150
GONE = None

# A chain of hashes replaces the weights: each step depends on the one before. A step that is lost, repeated or started
# from a damaged checkpoint therefore gives another hash.
TRAIN = f"""
import hashlib, json, time
from pathlib import Path
host = json.loads(Path("/opt/ml/input/config/resourceconfig.json").read_text())["current_host"]
checkpoint, state, step = Path(f"/opt/ml/checkpoints/{{host}}"), b"", 0
if checkpoint.exists():
    saved = json.loads(checkpoint.read_text())
    state, step = bytes.fromhex(saved["state"]), saved["step"]
while step < {STEPS}:
    time.sleep(0.03)
    state = hashlib.sha256(state).digest()
    step += 1
    draft = Path(str(checkpoint) + ".sagemaker-ignore")
    draft.write_text(json.dumps({{"state": state.hex(), "step": step}}))
    draft.rename(checkpoint)
Path("/opt/ml/model/hash").write_text(state.hex())
"""

SCRIPTS = {"spot": TRAIN, "lost": "import time; time.sleep(3600)", "quick": ""}

MODEL = """
import sys
import tensorflow as tf
class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="inputs")])
    def __call__(self, inputs):
        return {"output_0": inputs * 2.0 + 1.0}
model = Model()
tf.saved_model.save(model, sys.argv[1] + "/1", signatures=model.__call__)
"""


def expected_hash() -> str:
    state = b""
    for _ in range(STEPS):
        state = hashlib.sha256(state).digest()
    return state.hex()


class Writer(threading.Thread):
    """A client of S3 that records acknowledged changes, and the change of a request without an answer."""

    def __init__(self, rounds: "KillRounds", number: int) -> None:
        super().__init__(daemon=True)
        self.rounds, self.number = rounds, number
        self.random = random.Random(f"{rounds.seed} {number} {rounds.kills}")
        self.unexpected: Exception | None = None

    def run(self) -> None:
        s3 = self.rounds.client("s3")
        try:
            while not self.rounds.killed.is_set():
                self.write(s3)
        except (BotoCoreError, ClientError) as error:
            if not self.rounds.killed.is_set():  # the daemon runs, so it should have answered
                self.unexpected = error

    def write(self, s3: Any) -> None:
        choose = self.random
        key = f"objects/{self.number}/{choose.randrange(30)}"
        content: bytes | None = choose.randbytes(choose.choice([0, 100, 10_000, 300_000]))
        action = choose.choice(["put", "put", "put", "delete", "copy", "multipart"])
        source = choose.choice([*sorted(set(self.rounds.held(self.number)) - {key}), ""])
        if action == "copy" and not source:
            action = "put"
        if action == "delete":
            content = GONE
        elif action == "copy":
            content = self.rounds.acknowledged[source]
        elif action == "multipart":
            content = choose.randbytes(5 << 20) + b"end"
        self.rounds.under_way(key, content)
        if action == "delete":
            s3.delete_object(Bucket=BUCKET, Key=key)
        elif action == "copy":
            s3.copy_object(Bucket=BUCKET, Key=key, CopySource={"Bucket": BUCKET, "Key": source})
        elif action == "multipart":
            self.write_in_parts(s3, key, content or b"")
        else:
            s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        self.rounds.acknowledge(key, content)

    def write_in_parts(self, s3: Any, key: str, content: bytes) -> None:
        upload = {"Bucket": BUCKET, "Key": key}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        parts = []
        for number, part in enumerate((content[: 5 << 20], content[5 << 20 :]), 1):
            parts.append({"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=part)["ETag"]})
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


class KillRounds:
    """A daemon that is killed in each round, and the changes that it has acknowledged."""

    def __init__(self, daemon: Daemon, seed: int, scratch: Path) -> None:
        self.daemon, self.seed, self.scratch = daemon, seed, scratch
        self.random = random.Random(seed)
        self.kills = 0
        self.killed = threading.Event()
        self.acknowledged: dict[str, bytes] = {}
        self.possible: dict[str, bytes | None] = {}  # content after a request without an answer, if it was carried out
        self.count = 0
        self.changed = threading.Condition()
        self.jobs: dict[str, str] = {}  # name -> kind
        self.finished: dict[str, dict[str, Any]] = {}

    # Changes by clients

    def client(self, service: str) -> Any:
        """Return a client for one thread; it does not retry."""
        state = self.daemon.state
        return boto3.session.Session().client(
            service,
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{state['port']}",
            aws_access_key_id=state["access_key"],
            aws_secret_access_key=state["secret_key"],
            config=Config(retries={"total_max_attempts": 1}, read_timeout=SOON),
        )

    def held(self, number: int) -> list[str]:
        with self.changed:
            return [key for key in self.acknowledged if key.startswith(f"objects/{number}/")]

    def under_way(self, key: str, content: bytes | None) -> None:
        with self.changed:
            self.possible[key] = content

    def acknowledge(self, key: str, content: bytes | None) -> None:
        with self.changed:
            del self.possible[key]
            if content is GONE:
                self.acknowledged.pop(key, None)
            else:
                self.acknowledged[key] = content
            self.count += 1
            self.changed.notify_all()

    # Rounds

    def begin(self, with_endpoint: bool) -> None:
        self.daemon.start()
        if with_endpoint:
            self.put_endpoint()
        for kind, script in SCRIPTS.items():
            self.daemon.s3.put_object(Bucket=BUCKET, Key=f"code/{kind}.py", Body=script.encode())
        status = json.loads(self.daemon.cli("status").stdout)
        self.submit("spot", "spot")
        self.submit("spot-2", "spot", hosts=2 if status["runner"] == "namespace" else 1)

    def round(self) -> None:
        """Kill the daemon while clients write and jobs train, start it again, and check its state."""
        self.submit(f"lost-{self.kills}", "lost")
        self.submit(f"quick-{self.kills}", "quick")
        self.killed.clear()
        goal = self.count + self.random.randrange(1, 60)
        writers = [Writer(self, number) for number in range(3)]
        for writer in writers:
            writer.start()
        with self.changed:
            assert self.changed.wait_for(lambda: self.count >= goal, SOON), "the writers are stuck"
            self.killed.set()
        self.daemon.kill()
        for writer in writers:
            writer.join(SOON)
            assert writer.unexpected is None, writer.unexpected
        self.kills += 1
        assert processes_naming(str(self.daemon.home)) == []
        self.daemon.start()
        self.check_objects()
        self.check_jobs()

    def end(self, with_endpoint: bool) -> None:
        """Wait until the jobs have ended, and check the state again."""
        for name, kind in self.jobs.items():
            if kind == "spot":
                job = self.daemon.finished(name)
                assert job["TrainingJobStatus"] == "Completed", job
                assert self.model(name) == {"hash": expected_hash()}, name
                assert "Interrupted" in [transition["Status"] for transition in job["SecondaryStatusTransitions"]]
        self.check_objects()
        self.check_jobs()
        if with_endpoint:
            self.check_endpoint()

    # Checks

    def check_objects(self) -> None:
        """Check that every acknowledged object has its bytes, and that there are no other objects."""
        s3 = self.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="objects/")
        listed = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        found = {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in listed}
        for key, content in self.possible.items():  # carried out or not; now it is known which
            assert found.get(key, GONE) in (content, self.acknowledged.get(key, GONE)), f"{key} is neither"
            if key in found:
                self.acknowledged[key] = found[key]
            else:
                self.acknowledged.pop(key, None)
        self.possible.clear()
        assert found.keys() == self.acknowledged.keys()
        assert [key for key in found if found[key] != self.acknowledged[key]] == []

    def check_jobs(self) -> None:
        """Check that every accepted job has a possible status, and that no finished job has changed."""
        for name, kind in self.jobs.items():
            job = self.daemon.sagemaker.describe_training_job(TrainingJobName=name)
            del job["ResponseMetadata"]
            statuses = [transition["Status"] for transition in job["SecondaryStatusTransitions"]]
            assert statuses[0] == "Starting", statuses
            assert statuses[-1] == job["SecondaryStatus"]
            if kind == "spot":
                assert job["TrainingJobStatus"] in ("InProgress", "Completed"), job
            elif job["TrainingJobStatus"] == "Failed":
                assert job["FailureReason"].startswith("InternalServerError"), job
            elif kind == "lost":
                assert job["TrainingJobStatus"] == "InProgress", job
            elif job["TrainingJobStatus"] == "Completed":
                assert self.model(name) == {}
            if name in self.finished:
                assert job == self.finished[name]
            elif job["TrainingJobStatus"] != "InProgress":
                self.finished[name] = job

    def check_endpoint(self) -> None:
        waiter = self.daemon.sagemaker.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName="double", WaiterConfig={"Delay": 0.1, "MaxAttempts": SOON * 10})
        answer = self.daemon.client("sagemaker-runtime").invoke_endpoint(
            EndpointName="double", ContentType="application/json", Body=json.dumps({"instances": [[1.0, 2.0]]})
        )
        assert json.loads(answer["Body"].read()) == {"predictions": [[3.0, 5.0]]}

    # Jobs and the endpoint

    def submit(self, name: str, kind: str, hosts: int = 1) -> None:
        request = spot_request if kind == "spot" else job_request
        members = request(
            name, "python3", f"/opt/ml/input/data/code/{kind}.py", InputDataConfig=[channel("code", "code/")]
        )
        members["ResourceConfig"]["InstanceCount"] = hosts
        self.daemon.sagemaker.create_training_job(**members)
        self.jobs[name] = kind

    def model(self, name: str) -> dict[str, str]:
        job = self.daemon.sagemaker.describe_training_job(TrainingJobName=name)
        key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{BUCKET}/")
        archive = self.daemon.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        found = {}
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None, f"{member.name} is not a file"
                found[member.name] = file.read().decode()
        return found

    def put_endpoint(self) -> None:
        directory = self.scratch / "model"
        directory.mkdir()
        subprocess.run([sys.executable, "-c", MODEL, str(directory)], check=True, capture_output=True, timeout=120)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            tar.add(directory / "1", "1")
        self.daemon.s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=buffer.getvalue())
        configure_endpoint(self.daemon.sagemaker, "double", f"s3://{BUCKET}/model.tar.gz")
        self.daemon.sagemaker.create_endpoint(EndpointName="double", EndpointConfigName="double")
