"""The AWS services that moto serves (S3, IAM, STS, CloudWatch Logs), as WSGI applications in this process."""

from __future__ import annotations

import io
import json
import os
import xml.etree.ElementTree as ElementTree
from typing import Any
from urllib.parse import unquote

os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"  # no web page may reach the daemon
os.environ["MOTO_S3_DEFAULT_KEY_BUFFER_SIZE"] = str(1 << 20)  # larger objects stay out of memory

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import get_input_stream

from localmode.settings import ACCOUNT_ID, ROLE_NAME, Settings

SERVICES = ("s3", "iam", "sts", "logs")
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
        self.query(
            "iam",
            "2010-05-08",
            Action="CreateRole",
            RoleName=ROLE_NAME,
            AssumeRolePolicyDocument=json.dumps(_TRUST),
        )

    def handle(self, service: str, environ: dict[str, Any]) -> Response:
        """Answer one request that a client sent to `service`."""
        if service in ("iam", "sts"):
            environ["wsgi.input"] = io.BytesIO(get_input_stream(environ).read())  # read here and again by moto
            request = Request(environ)
            action = request.form.get("Action", "")
            environ["wsgi.input"].seek(0)
            if action == "SimulatePrincipalPolicy":
                return self._simulate_principal_policy(request)
            if action == "GetCallerIdentity":
                return self._caller_identity()
        elif environ.get("HTTP_X_AMZ_TARGET", "").endswith(".FilterLogEvents"):
            body = self._with_stream_names(get_input_stream(environ).read())
            environ.update({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
        return self.send(service, environ)

    def send(self, service: str, environ: dict[str, Any]) -> Response:
        """Pass a WSGI request to moto and collect its answer."""
        return Response.from_app(self._apps[service], environ)

    def call(
        self, service: str, method: str, path: str, headers: dict[str, str], body: Any = b"", query: str = ""
    ) -> Response:
        """Send a request of the daemon's own to moto; `body` is bytes or a file. Errors come back as answers."""
        signature = f"AWS4-HMAC-SHA256 Credential=localmode/20260101/{self._settings.region}/{service}/aws4_request"
        builder = EnvironBuilder(
            path=path,
            method=method,
            query_string=query,
            headers=Headers({"Authorization": f"{signature}, SignedHeaders=host, Signature=0", **headers}),
            **({"data": body} if isinstance(body, bytes) else {"input_stream": body}),
        )
        environ = builder.get_environ()
        environ["wsgi.input_terminated"] = True  # read at once: piece by piece, a large body would stall every thread
        return self.send(service, environ)

    def query(self, service: str, version: str, **parameters: str) -> Response:
        """Call an operation of a service with the query protocol; raise RuntimeError if it fails."""
        builder = EnvironBuilder(method="POST", data={"Version": version, **parameters})
        environ = builder.get_environ()
        return _checked(self.send(service, environ), parameters["Action"])

    def logs(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation of CloudWatch Logs; raise RuntimeError if it fails."""
        headers = {
            "X-Amz-Target": f"Logs_20140328.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        response = self.call("logs", "POST", "/", headers, json.dumps(parameters).encode())
        return dict(json.loads(_checked(response, operation).data or b"{}"))

    def trusts_sagemaker(self, role_name: str) -> bool:
        """Tell whether there is a role of this name that SageMaker may assume."""
        try:
            answer = self.query("iam", "2010-05-08", Action="GetRole", RoleName=role_name)
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
            f"<member><EvalActionName>{_escape(action)}</EvalActionName>"
            f"<EvalResourceName>{_escape(resource)}</EvalResourceName>"
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


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
