"""What an attempt uploads at its end."""

import io
import tarfile
import threading

import pytest

from tests.support.local import (
    BUCKET,
    SOON,
    Rooms,
    ended,
    job_request,
    objects,
)

SHELL = ("/bin/bash", "-c")
PYTHON = ("python3", "-c")


def test_the_model_and_the_output_are_uploaded(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, *SHELL, "echo m > /opt/ml/model/m; echo o > /opt/ml/output/data/o"))
    found = objects(rooms, f"out/{name}/output/")
    assert record.model_artifacts == f"s3://{BUCKET}/out/{name}/output/model.tar.gz"
    for archive, member in (("model.tar.gz", "m"), ("output.tar.gz", "o")):
        with tarfile.open(fileobj=io.BytesIO(found[archive])) as tar:
            assert tar.getnames() == [member]


def test_uncompressed_output_keeps_its_files(rooms: Rooms, name: str) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"}
    record = rooms.run(
        job_request(name, *SHELL, "mkdir /opt/ml/model/1; echo m > /opt/ml/model/1/m", OutputDataConfig=output)
    )
    assert objects(rooms, f"out/{name}/output/") == {"model/1/m": b"m\n"}
    assert record.model_artifacts == f"s3://{BUCKET}/out/{name}/output/model/"


def test_uncompressed_output_has_the_files_that_its_links_lead_to(rooms: Rooms, name: str) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"}
    command = """
        cd /opt/ml/model; mkdir 1; echo m > 1/m; ln -s 1/m relative; ln -s /opt/ml/model/relative absolute
        ln -s /opt/ml/model/1 latest; ln -s /opt/ml/model/latest/../1/m through
        ln -s /etc/passwd secret; ln -s ../output/data/o out; ln -s nowhere broken; ln -s loop loop; ln -s . self
        ln -s / "$(printf '\\377')"
        echo o > /opt/ml/output/data/o"""
    record = rooms.run(job_request(name, *SHELL, command, OutputDataConfig=output))
    links = {f"model/{link}": b"m\n" for link in ("1/m", "relative", "absolute", "through")}
    assert record.status == "Completed"
    assert objects(rooms, f"out/{name}/output/") == {**links, "output/o": b"o\n"}
    assert rooms.log(record) == [
        f"localmode: model/{link} is not uploaded: it is a link to no file in /opt/ml/model"
        for link in ("broken", "latest", "loop", "out", "secret", "self", r"\udcff")
    ]


def test_an_uncompressed_file_that_s3_cannot_name_fails_the_job(rooms: Rooms, name: str) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"}
    command = "echo 1 > \"$(printf '/opt/ml/model/\\377')\""
    record = rooms.run(job_request(name, *SHELL, command, OutputDataConfig=output))
    assert record.status == "Failed"
    assert record.failure_reason.startswith("ClientError: the artifacts could not be uploaded: 'out/")
    assert record.failure_reason.endswith("cannot be the key of an S3 object: it is not UTF-8")


@pytest.mark.parametrize("directory", ["output/data", "output", "model"])
def test_a_job_may_remove_the_directories_for_its_output(rooms: Rooms, name: str, directory: str) -> None:
    record = rooms.run(job_request(name, *SHELL, f"rm -rf /opt/ml/{directory}"))
    assert (record.status, record.failure_reason) == ("Completed", "")


def test_the_instance_s_directories_are_gone_afterwards(rooms: Rooms, name: str) -> None:
    job = rooms.create(job_request(name))
    ended(job)
    for thread in threading.enumerate():
        if thread.name == f"{name} attempt 1":
            thread.join(SOON)
    assert not (rooms.instances.root / name).exists()
