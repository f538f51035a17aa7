"""The server: its address, and clients that send nothing, slowly or garbage."""

import socket
from pathlib import Path

import pytest

from tests.support.local import BUCKET, SOON, Daemon
from tests.support.raw_http import head, raw, status_of


def test_the_server_listens_only_on_the_loopback_address(daemon: Daemon) -> None:
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line]
    ours = [address for address in listening if int(address.partition(":")[2], 16) == daemon.port]
    assert ours == [f"0100007F:{daemon.port:04X}"]
    assert f":{daemon.port:04X} " not in Path("/proc/net/tcp6").read_text()


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\r\n\r\n", b"GET", b"\xff" * 70_000, b"A B C D\r\n\r\n"]
)
def test_garbage_is_refused_and_the_server_goes_on(daemon: Daemon, garbage: bytes) -> None:
    answer = raw(daemon, garbage)
    assert b" 200 " not in answer


def test_a_client_that_sends_nothing_does_not_block_others(daemon: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=SOON) as silent:
        silent.sendall(b"POST / HTTP/1.1\r\n")
        assert daemon.call("ListTrainingJobs", {})[0] == 200


def test_a_slow_upload_does_not_block_others(daemon: Daemon, name: str) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=SOON) as slow:
        slow.sendall(head(daemon, "s3", "Content-Length: 10", method="PUT", path=f"/{BUCKET}/{name}") + b"12345")
        daemon.s3.put_object(Bucket=BUCKET, Key=f"{name}-2", Body=b"1")
        slow.sendall(b"67890")
        assert status_of(slow.recv(100)) == 200
