"""The AWS services that moto serves (IAM, STS, CloudWatch Logs), as WSGI applications in this process."""

from __future__ import annotations

import json
import logging
import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import get_input_stream

from localmode.core.aws import ACCOUNT_ID, ROLE_NAME
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from localmode.core.wsgi import readable
from localmode.services.changes import Change, Changes

SERVICES = ("iam", "sts", "logs")
_ONLY_READS = ("Describe", "Filter", "Generate", "Get", "List", "Simulate", "Start", "Stop", "Test")
_FILTER = re.compile(r'\s*|[^\W\d_]\w*(\s+\w+)*|"[^"]*"')  # what moto can look for; for anything else it returns all
_log = logging.getLogger(__name__)
_XML = "text/xml; charset=utf-8"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


class Services:
    """moto behind one door, with the two answers that it lacks or gives wrongly."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._apps = {service: create_backend_app(service) for service in SERVICES}
        self._lock = threading.Lock()
        self._changes = Changes(settings.home / "changes.jsonl")
        self._forget_logs: dict[str, Callable[[str | None], None]] = {}
        changes = self._changes.all()
        for change in changes or []:
            self._make_again(change)
        if changes is None:
            self.query(Action="CreateRole", RoleName=ROLE_NAME, AssumeRolePolicyDocument=json.dumps(_TRUST))

    def handle(self, service: str, environ: dict[str, Any]) -> Response:
        """Answer one request that a client sent to `service`."""
        body = get_input_stream(environ).read()
        operation = _operation(service, environ, body)
        if operation == "SimulatePrincipalPolicy":
            return self._simulate_principal_policy(Request(environ | readable(body)))
        if operation == "GetCallerIdentity":
            return self._caller_identity()
        if service == "logs" and operation == "FilterLogEvents":
            _check_filter(body)
            body = self._with_stream_names(body)
        try:
            with self._lock:  # moto draws all that it draws from one generator, whose seed belongs to a change
                if service == "sts" or operation.startswith(_ONLY_READS):
                    return self._send(service, environ | readable(body))
                return self._change(Change.made_now(service, environ, body), operation)
        except (HTTPException, OSError):  # the body is not what its headers say; the disk
            raise
        except NotImplementedError as error:
            raise ApiError(
                "UnknownOperationException", f"localmode does not implement this of {service}: {error}"
            ) from error
        except Exception as error:  # moto takes much of a request for granted
            _log.warning("%s: moto failed with %r", service, error)
            raise ApiError(
                "ValidationError", f"localmode's {service} can make nothing of this request: {error!r}"
            ) from error

    def query(self, **parameters: str) -> Response:
        """Call an operation of IAM; raise RuntimeError if it fails."""
        operation = parameters["Action"]
        builder = EnvironBuilder(method="POST", data={"Version": "2010-05-08", **parameters})
        return _checked(self.handle("iam", builder.get_environ()), operation)

    def logs(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation of CloudWatch Logs; raise RuntimeError if it fails.

        The events of jobs and endpoints are not written down here: logs.py keeps them.
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

    def keep_log_group(self, group: str, forget: Callable[[str | None], None]) -> None:
        """Say who keeps the events of a log group: `forget` is called with a stream that a client deletes, or None."""
        self._forget_logs[group] = forget

    def _send(self, service: str, environ: dict[str, Any]) -> Response:
        """Pass a WSGI request to moto and collect its answer."""
        response = Response.from_app(self._apps[service], environ)
        for header, _ in list(response.headers):
            if header.lower().startswith("access-control-"):  # no web page may read what the daemon says
                del response.headers[header]
        return response

    def _change(self, change: Change, operation: str) -> Response:
        """Make a request that changes something; before it is answered it is on disk."""
        response = self._carry_out(change)
        if response.status_code < 300:
            if operation in ("DeleteLogGroup", "DeleteLogStream"):
                request = json.loads(change.body)
                if forget := self._forget_logs.get(request.get("logGroupName")):
                    forget(request.get("logStreamName"))
            self._changes.add(change)
        self._changes.write()
        return response

    def _make_again(self, change: Change) -> None:
        """Make a request of before a restart; another version of moto may refuse what its forerunner took."""
        try:
            refusal = "" if (answer := self._carry_out(change)).status_code < 300 else answer.get_data(as_text=True)
        except Exception as error:  # noqa: BLE001 - as above
            refusal = repr(error)
        if refusal:
            _log.warning("%s: a change of %s could not be made again: %s", change.service, change.when, refusal)

    def _carry_out(self, change: Change) -> Response:
        with change.conditions():
            return self._send(change.service, change.environ())

    def trusts_sagemaker(self, role_name: str) -> bool:
        """Tell whether there is a role of this name that SageMaker may assume."""
        try:
            answer = self.query(Action="GetRole", RoleName=role_name)
        except RuntimeError:  # no such role
            return False
        policy = ElementTree.fromstring(answer.data).findtext(".//{*}AssumeRolePolicyDocument") or ""
        return "sagemaker.amazonaws.com" in unquote(policy)

    def _with_stream_names(self, body: bytes) -> bytes:
        """Name the log streams that a FilterLogEvents request gives a prefix of, which moto overlooks."""
        try:
            request = json.loads(body)
            prefix = request["logStreamNamePrefix"]
            names: list[str] = []
            page: dict[str, Any] = {"logGroupName": request["logGroupName"], "logStreamNamePrefix": prefix}
            while True:
                answer = self.logs("DescribeLogStreams", **page)
                names += [stream["logStreamName"] for stream in answer["logStreams"]]
                if not answer.get("nextToken"):
                    break
                page["nextToken"] = answer["nextToken"]
        except (ValueError, KeyError, TypeError, RuntimeError):  # no prefix, or something that moto will refuse
            return body
        return json.dumps({**request, "logStreamNames": names or [prefix]}).encode()

    def _simulate_principal_policy(self, request: Request) -> Response:
        """Allow everything: localmode enforces no IAM policy (moto has no such operation)."""
        actions = [value for key, value in request.form.items() if key.startswith("ActionNames.member.")]
        resources = [value for key, value in request.form.items() if key.startswith("ResourceArns.member.")]
        results = "".join(
            f"<member><EvalActionName>{escape(action)}</EvalActionName>"
            f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
            "<EvalDecision>allowed</EvalDecision></member>"
            for action in actions
            for resource in resources or ["*"]
        )
        return _query_answer(
            "SimulatePrincipalPolicy",
            "https://iam.amazonaws.com/doc/2010-05-08/",
            f"<IsTruncated>false</IsTruncated><EvaluationResults>{results}</EvaluationResults>",
        )

    def _caller_identity(self) -> Response:
        """Name an assumed role, as in SageMaker Studio, so that get_execution_role() finds one."""
        return _query_answer(
            "GetCallerIdentity",
            "https://sts.amazonaws.com/doc/2011-06-15/",
            f"<Arn>arn:aws:sts::{ACCOUNT_ID}:assumed-role/{ROLE_NAME}/localmode</Arn>"
            f"<UserId>AROALOCALMODE:localmode</UserId><Account>{ACCOUNT_ID}</Account>",
        )


def _operation(service: str, environ: dict[str, Any], body: bytes) -> str:
    """Return the name of the operation that a request asks for; empty if it names none."""
    if service == "logs":
        return str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]
    request = Request(environ | readable(body))
    return request.form.get("Action") or request.args.get("Action", "")  # as moto prefers them


def _check_filter(body: bytes) -> None:
    """Raise ApiError for a FilterLogEvents request whose pattern would be ignored."""
    try:
        pattern = json.loads(body).get("filterPattern")
    except (ValueError, AttributeError):  # moto will refuse it
        return
    if isinstance(pattern, str) and not _FILTER.fullmatch(pattern):
        message = "localmode's logs know as a filterPattern only words, the first of a letter, or one quoted phrase"
        raise ApiError("InvalidParameterException", f"{message}: {pattern!r}")


def _checked(response: Response, operation: str) -> Response:
    if response.status_code >= 300:
        raise RuntimeError(f"{operation}: {response.status} {response.get_data(as_text=True)[:300]}")
    return response


def _query_answer(action: str, namespace: str, result: str) -> Response:
    return Response(
        f'<{action}Response xmlns="{namespace}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>localmode</RequestId></ResponseMetadata></{action}Response>",
        content_type=_XML,
    )
