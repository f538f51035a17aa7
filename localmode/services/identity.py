"""The answers of IAM and STS that moto lacks or gives for another kind of caller."""

from __future__ import annotations

from xml.sax.saxutils import escape

from werkzeug.wrappers import Request, Response

from localmode.core.aws import ACCOUNT_ID, ROLE_NAME


def simulate_principal_policy(request: Request) -> Response:
    """Allow every action: localmode enforces no IAM policies, and moto has no such operation.

    https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
    """
    actions = [value for key, value in request.form.items() if key.startswith("ActionNames.member.")]
    resources = [value for key, value in request.form.items() if key.startswith("ResourceArns.member.")]
    results = "".join(
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
        "<EvalDecision>allowed</EvalDecision></member>"
        for action in actions
        for resource in resources or ["*"]
    )
    return _response(
        "SimulatePrincipalPolicy",
        "https://iam.amazonaws.com/doc/2010-05-08/",
        f"<IsTruncated>false</IsTruncated><EvaluationResults>{results}</EvaluationResults>",
    )


def caller_identity() -> Response:
    """Return an assumed role, as SageMaker Studio has it, so that the SDK's get_execution_role() works.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
    """
    return _response(
        "GetCallerIdentity",
        "https://sts.amazonaws.com/doc/2011-06-15/",
        f"<Arn>arn:aws:sts::{ACCOUNT_ID}:assumed-role/{ROLE_NAME}/localmode</Arn>"
        f"<UserId>AROALOCALMODE:localmode</UserId><Account>{ACCOUNT_ID}</Account>",
    )


def _response(action: str, namespace: str, result: str) -> Response:
    return Response(
        f'<{action}Response xmlns="{namespace}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>localmode</RequestId></ResponseMetadata></{action}Response>",
        content_type="text/xml; charset=utf-8",
    )
