"""The AWS services that moto serves (IAM, STS, CloudWatch Logs), as WSGI applications in this process."""

from __future__ import annotations

import json
import logging
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import get_input_stream

from localmode.core.aws import ROLE_NAME
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from localmode.core.wsgi import readable
from localmode.services.changes import Change, Journal
from localmode.services.errors import ServiceError
from localmode.services.filters import check_pattern, with_stream_names
from localmode.services.identity import caller_identity, simulate_principal_policy

SERVICES = ("iam", "sts", "logs")
_READING = ("Describe", "Filter", "Generate", "Get", "List", "Simulate", "Start", "Stop", "Test")
_log = logging.getLogger(__name__)
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


class Services:
    """IAM, STS and CloudWatch Logs: moto, with its changes on disk and the answers that it lacks.

    `create_app` returns moto's WSGI application of a service.
    """

    def __init__(self, settings: Settings, create_app: Callable[[str], Any] = create_backend_app) -> None:
        self._settings = settings
        self._apps = {service: create_app(service) for service in SERVICES}
        self._moto = threading.Lock()  # moto has one random generator, and each change sets its seed
        self._journal = Journal(settings.home / "changes.jsonl")
        self._on_log_deletion: dict[str, Callable[[str | None], None]] = {}
        changes = self._journal.read()
        for change in changes or []:
            self._replay(change)
        if changes is None:
            self.query(Action="CreateRole", RoleName=ROLE_NAME, AssumeRolePolicyDocument=json.dumps(_TRUST))

    def handle(self, service: str, environ: dict[str, Any]) -> Response:
        """Answer a request to `service`; what it changes is on disk when this returns.

        Raises ApiError for what moto does not implement or cannot parse, OSError if the disk refuses the change.
        """
        body = get_input_stream(environ).read()
        operation = _operation(service, environ, body)
        if operation == "SimulatePrincipalPolicy":
            return simulate_principal_policy(Request(environ | readable(body)))
        if operation == "GetCallerIdentity":
            return caller_identity()
        if service == "logs" and operation == "FilterLogEvents":
            check_pattern(body)
            body = with_stream_names(body, self.logs)
        reads = service == "sts" or operation.startswith(_READING)
        try:
            with self._moto:
                if reads:
                    return self._send(service, environ | readable(body))
                response = self._make(Change.made_now(service, environ, body), operation)
        except (HTTPException, OSError):  # the body is not what its headers say
            raise
        except NotImplementedError as error:
            raise ApiError(
                "UnknownOperationException", f"localmode does not implement this operation of {service}: {error}"
            ) from error
        except Exception as error:
            _log.warning("%s: moto failed with %r", service, error)
            raise ApiError("ValidationError", f"localmode's {service} cannot parse this request: {error!r}") from error
        # Outside the lock, so that no other request waits for the disk. A refused request waits as well: it may be
        # refused because of a change that is not on disk yet.
        self._journal.write()
        return response

    def query(self, **parameters: str) -> Response:
        """Call an operation of IAM; raise ServiceError if it fails."""
        operation = parameters["Action"]
        builder = EnvironBuilder(method="POST", data={"Version": "2010-05-08", **parameters})
        return _checked(self.handle("iam", builder.get_environ()), operation)

    def logs(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation of CloudWatch Logs; raise ServiceError if it fails.

        PutLogEvents is not written to the journal: localmode.services.logs keeps the events of jobs and endpoints.
        """
        signature = f"AWS4-HMAC-SHA256 Credential=localmode/20260101/{self._settings.region}/logs/aws4_request"
        headers = {
            "Authorization": f"{signature}, SignedHeaders=host, Signature=0",
            "X-Amz-Target": f"Logs_20140328.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        builder = EnvironBuilder(method="POST", headers=Headers(headers), data=json.dumps(parameters).encode())
        environ = builder.get_environ()
        response = self._send("logs", environ) if operation == "PutLogEvents" else self.handle("logs", environ)
        return dict(json.loads(_checked(response, operation).data or b"{}"))

    def on_log_deletion(self, group: str, forget: Callable[[str | None], None]) -> None:
        """Call `forget` when a client deletes a stream of a log group, with its name, or the group, with None."""
        self._on_log_deletion[group] = forget

    def trusts_sagemaker(self, role_name: str) -> bool:
        """Tell whether there is a role of this name that SageMaker may assume."""
        try:
            answer = self.query(Action="GetRole", RoleName=role_name)
        except ServiceError:  # no such role
            return False
        policy = ElementTree.fromstring(answer.data).findtext(".//{*}AssumeRolePolicyDocument") or ""
        return "sagemaker.amazonaws.com" in unquote(policy)

    def _send(self, service: str, environ: dict[str, Any]) -> Response:
        """Pass a WSGI request to moto and collect its answer."""
        response = Response.from_app(self._apps[service], environ)
        for header, _ in list(response.headers):
            if header.lower().startswith("access-control-"):  # no web page may read the daemon's answers
                del response.headers[header]
        return response

    def _make(self, change: Change, operation: str) -> Response:
        """Make a change and add it to the journal if moto accepts it."""
        response = self._carry_out(change)
        if response.status_code < 300:
            if operation in ("DeleteLogGroup", "DeleteLogStream"):
                request = json.loads(change.body)
                if forget := self._on_log_deletion.get(request.get("logGroupName")):
                    forget(request.get("logStreamName"))
            self._journal.add(change)
        return response

    def _replay(self, change: Change) -> None:
        """Make a change of the journal again; another version of moto may refuse what its predecessor accepted."""
        try:
            refusal = "" if (answer := self._carry_out(change)).status_code < 300 else answer.get_data(as_text=True)
        except Exception as error:  # noqa: BLE001 - as above
            refusal = repr(error)
        if refusal:
            _log.warning("%s: the change of %s could not be made again: %s", change.service, change.when, refusal)

    def _carry_out(self, change: Change) -> Response:
        with change.conditions():
            return self._send(change.service, change.environ())


def _operation(service: str, environ: dict[str, Any], body: bytes) -> str:
    """Return the name of the operation that a request asks for; empty if it names none."""
    if service == "logs":
        return str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]
    request = Request(environ | readable(body))
    return request.form.get("Action") or request.args.get("Action", "")  # in moto's order


def _checked(response: Response, operation: str) -> Response:
    if response.status_code >= 300:
        raise ServiceError(operation, response.status, response.get_data(as_text=True))
    return response
