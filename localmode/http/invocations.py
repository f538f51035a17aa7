"""InvokeEndpoint over HTTP.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from __future__ import annotations

from werkzeug.wrappers import Response

from localmode.core.errors import ApiError, unsupported
from localmode.hosting.runtime import Invoker
from localmode.http.request import Environ, read_body

_FORWARDED = {  # the headers that the model server gets
    "CONTENT_TYPE": "Content-Type",
    "HTTP_ACCEPT": "Accept",
    "HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES": "X-Amzn-SageMaker-Custom-Attributes",
}
_UNSUPPORTED = {
    "HTTP_X_AMZN_SAGEMAKER_TARGET_MODEL": "TargetModel",
    "HTTP_X_AMZN_SAGEMAKER_TARGET_CONTAINER_HOSTNAME": "TargetContainerHostname",
    "HTTP_X_AMZN_SAGEMAKER_ENABLE_EXPLANATIONS": "EnableExplanations",
    "HTTP_X_AMZN_SAGEMAKER_INFERENCE_COMPONENT": "InferenceComponentName",
    "HTTP_X_AMZN_SAGEMAKER_SESSION_ID": "SessionId",
}


class InvocationHandler:
    """Answers POST /endpoints/NAME/invocations."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker

    def __call__(self, environ: Environ, name: str) -> Response:
        """Pass the request to the endpoint; raise ApiError for members that localmode does not support."""
        for variable, member in _UNSUPPORTED.items():
            if variable in environ:
                raise ApiError("ValidationError", unsupported(member))
        headers = {header: environ[variable] for variable, header in _FORWARDED.items() if environ.get(variable)}
        target_variant = environ.get("HTTP_X_AMZN_SAGEMAKER_TARGET_VARIANT", "")
        variant, answer = self._invoker.invoke(name, read_body(environ), headers, target_variant)
        response = Response(answer.body, content_type=answer.content_type)
        response.headers["x-Amzn-Invoked-Production-Variant"] = variant
        return response
