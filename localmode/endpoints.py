"""Models, endpoint configurations and endpoints: a model server of one's own per endpoint."""

from __future__ import annotations

import http.client
import json
import logging
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any

from localmode import serving
from localmode.disk import Journal
from localmode.settings import ACCOUNT_ID, Settings
from localmode.shapes import ApiError
from localmode.storage import Storage, StorageError, parse_uri

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 60  # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html


class ModelServerError(Exception):
    """A model that cannot be served; the message goes into the endpoint's FailureReason."""


def unpack(archive: Path, directory: Path) -> None:
    """Unpack the files and directories of a tar archive; raise ModelServerError for links, devices and ways out.

    By hand, since Python has extraction filters only from 3.11.4 on.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            target = directory / member.name
            if member.name.startswith("/") or ".." in Path(member.name).parts:
                raise ModelServerError(f"model.tar.gz has a member outside of it: {member.name!r}")
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                target.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as source, target.open("wb") as copy:  # type: ignore[union-attr]
                    shutil.copyfileobj(source, copy)
            else:
                raise ModelServerError(f"model.tar.gz has a member that is no file or directory: {member.name!r}")


class ModelServer:
    """A child process that serves one model archive, on a loopback port of its own."""

    def __init__(self, directory: Path, log: Path) -> None:
        self._directory = directory
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self._token = ""

    def start(self, archive: Path) -> None:
        """Unpack the archive, start the process and wait until it answers; raise ModelServerError."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        try:
            unpack(archive, self._directory)
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:  # the last two: a damaged archive
            raise ModelServerError(f"model.tar.gz cannot be unpacked: {error}") from error
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", serving.__file__, str(self._directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()  # one line: ready, or why not
        try:
            ready = json.loads(answer)
        except ValueError:
            ready = {"error": f"the model server ended without a word; see {self._log.name} in localmode's logs"}
        if "error" in ready:
            self.stop()
            raise ModelServerError(ready["error"])
        self._port, self._token = ready["port"], ready["token"]

    def invoke(self, body: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """POST to /invocations; return status, content type and body; raise OSError where it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("POST", "/invocations", body, {"X-Localmode-Token": self._token, **headers})
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type", ""), response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def stop(self) -> None:
        """End the process and remove its files."""
        if self._process is not None:
            self._process.kill()
            with self._process:  # closes the pipes and waits
                pass
        shutil.rmtree(self._directory, ignore_errors=True)


class Endpoint:
    """One endpoint: its description and its server."""

    def __init__(self, record: dict[str, Any], server: ModelServer) -> None:
        self.record = record
        self.server = server
        self.settled = threading.Event()  # set when the server is up or has failed


class Endpoints:
    """All endpoints, kept on disk; those that were in service come back with the daemon."""

    def __init__(self, settings: Settings, storage: Storage, journal: Journal) -> None:
        self._settings = settings
        self._storage = storage
        self._journal = journal
        self._lock = threading.RLock()
        self._endpoints: dict[str, Endpoint] = {}
        self._closing = False
        for name, record in journal.load(dict).items():
            if record["EndpointStatus"] == "Deleting":
                journal.delete(name)
            else:
                self._begin(record)

    def create(self, record: dict[str, Any]) -> bool:
        """Begin to create an endpoint; its status says how that went. Return False for a name in use."""
        with self._lock:
            if record["EndpointName"] in self._endpoints:
                return False
            self._save(record)
            self._begin(record)
            return True

    def get(self, name: str) -> dict[str, Any] | None:
        """Return the record of an endpoint."""
        with self._lock:
            endpoint = self._endpoints.get(name)
            return dict(endpoint.record) if endpoint else None

    def all(self) -> list[dict[str, Any]]:
        """Return all records."""
        with self._lock:
            return [dict(endpoint.record) for endpoint in self._endpoints.values()]

    def delete(self, name: str) -> None:
        """Begin to delete an endpoint: its server ends, then it is forgotten."""
        with self._lock:
            endpoint = self._endpoints[name]
            if endpoint.record["EndpointStatus"] == "Deleting":
                return
            endpoint.record["EndpointStatus"] = "Deleting"
            self._save(endpoint.record)
        threading.Thread(target=self._take_down, args=(endpoint,), name=f"delete {name}", daemon=True).start()

    def _take_down(self, endpoint: Endpoint) -> None:
        endpoint.settled.wait()
        endpoint.server.stop()
        with self._lock:
            self._journal.delete(endpoint.record["EndpointName"])
            del self._endpoints[endpoint.record["EndpointName"]]

    def invoke(self, name: str, body: bytes, headers: dict[str, str]) -> tuple[str, str, bytes]:
        """Return the variant that answered, content type and body; raise ApiError where there is no answer."""
        with self._lock:
            endpoint = self._endpoints.get(name)
        if endpoint is None or endpoint.record["EndpointStatus"] not in ("InService", "Creating"):
            raise ApiError("ValidationError", f"Endpoint {name} of account {ACCOUNT_ID} not found.")
        if endpoint.record["EndpointStatus"] == "Creating":
            raise ApiError("ValidationError", f"Endpoint {name} is being created and takes no requests yet.")
        endpoint.settled.wait(_TIMEOUT_SECONDS)  # after a restart of the daemon
        try:
            status, content_type, answer = endpoint.server.invoke(body, headers)
        except TimeoutError as error:
            raise self._model_error(name, 0, f"Your invocation timed out after {_TIMEOUT_SECONDS} seconds.") from error
        except OSError as error:
            raise self._model_error(name, 503, f"The model server does not answer: {error}") from error
        if status >= 300:
            raise self._model_error(name, status, answer.decode(errors="replace"))
        return endpoint.record["VariantName"], content_type, answer

    def close(self) -> None:
        """Stop all servers; the journal keeps the endpoints."""
        with self._lock:
            self._closing = True  # a server that ends from now on has not failed
            endpoints = list(self._endpoints.values())
        for endpoint in endpoints:
            endpoint.server.stop()

    def _begin(self, record: dict[str, Any]) -> None:
        name = record["EndpointName"]
        server = ModelServer(
            self._settings.home / "serving" / name,
            self._settings.home / "logs" / "endpoints" / f"{name}.log",
        )
        endpoint = Endpoint(record, server)
        self._endpoints[name] = endpoint
        if record["EndpointStatus"] == "Failed":  # before a restart
            endpoint.settled.set()
            return
        threading.Thread(target=self._bring_up, args=(endpoint,), name=f"endpoint {name}", daemon=True).start()

    def _bring_up(self, endpoint: Endpoint) -> None:
        status, reason = "Failed", "InternalServerError: an unexpected error in localmode; its log has the details"
        try:
            endpoint.server.start(self._archive(endpoint.record["ModelDataUrl"]))
            status, reason = "InService", ""
        except (ModelServerError, StorageError, OSError) as error:
            variant = endpoint.record["VariantName"]
            reason = f"The primary container for production variant {variant} cannot serve the model: {error}"
        finally:
            self._settle(endpoint, status, reason)

    def _settle(self, endpoint: Endpoint, status: str, reason: str) -> None:
        with self._lock:
            if endpoint.record["EndpointStatus"] != "Deleting" and not self._closing:
                endpoint.record["EndpointStatus"] = status
                endpoint.record["LastModifiedTime"] = time.time()
                if reason:
                    endpoint.record["FailureReason"] = reason
                self._save(endpoint.record)
        endpoint.settled.set()

    def _archive(self, uri: str) -> Path:
        bucket, key = parse_uri(uri)
        entry = self._storage.files.get(bucket, key)
        if entry is None:
            raise StorageError(f"There is no model archive at {uri}")
        return entry.path

    def _save(self, record: dict[str, Any]) -> None:
        self._journal.save(record["EndpointName"], record)

    def _model_error(self, name: str, status: int, message: str) -> ApiError:
        group = f"/aws/sagemaker/Endpoints/{name}"
        kind = "client" if 400 <= status < 500 else "server"
        return ApiError(
            "ModelError",
            f'Received {kind} error ({status}) from primary with message "{message}". '
            f"See {group} in account {ACCOUNT_ID} for more information.",
            424,
            OriginalStatusCode=status,
            OriginalMessage=message,
            LogStreamArn=f"arn:aws:logs:{self._settings.region}:{ACCOUNT_ID}:log-group:{group}",
        )
