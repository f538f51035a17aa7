"""InvokeEndpoint: pass a request to a server of the endpoint, and turn its errors into those of AWS."""

from __future__ import annotations

from localmode.core.aws import ACCOUNT_ID
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from localmode.hosting.endpoint import not_found
from localmode.hosting.errors import Unavailable, UnknownVariant
from localmode.hosting.fleet import Reservation
from localmode.hosting.provisioning import LOG_GROUP
from localmode.hosting.registry import Endpoints
from localmode.hosting.server_process import TIMEOUT_SECONDS, Answer

MAX_PAYLOAD_BYTES = 6 << 20  # of a request and of an answer: botocore's model of InvokeEndpoint


class Invoker:
    """Passes requests to the endpoints of a registry."""

    def __init__(self, settings: Settings, endpoints: Endpoints) -> None:
        self._settings = settings
        self._endpoints = endpoints

    def invoke(self, name: str, body: bytes, headers: dict[str, str], target: str = "") -> tuple[str, Answer]:
        """Return the variant that answered and its answer; raise ApiError if there is none, or if it is an error."""
        if len(body) > MAX_PAYLOAD_BYTES:
            raise ApiError("413", f"HTTP content length exceeded {MAX_PAYLOAD_BYTES} bytes.", 413)
        reservation = self._reserve(name, target)
        variant = reservation.variant
        try:
            answer = reservation.server.invoke(body, headers)
        except TimeoutError as error:
            message = (
                "Your invocation timed out while waiting for a response from container primary: it has "
                f"{TIMEOUT_SECONDS:.0f} seconds to answer"
            )
            raise self._model_error(name, 0, message) from error
        except OSError as error:
            raise _unavailable(f"the instance of production variant {variant} does not answer ({error})") from error
        finally:
            reservation.release()
        if answer.status >= 300:
            raise self._model_error(name, answer.status, answer.body.decode(errors="replace"))
        if len(answer.body) > MAX_PAYLOAD_BYTES:
            message = f"the answer has {len(answer.body)} bytes; at most {MAX_PAYLOAD_BYTES} are allowed"
            raise self._model_error(name, answer.status, message)
        return variant, answer

    def _reserve(self, name: str, target: str) -> Reservation:
        endpoint = self._endpoints.find(name)
        if endpoint is None:
            raise not_found(name)
        try:
            return endpoint.reserve(target)
        except UnknownVariant as error:
            raise ApiError("ValidationError", f"Endpoint {name} of account {ACCOUNT_ID}: {error}.") from error
        except Unavailable as error:
            raise _unavailable(str(error)) from error

    def _model_error(self, name: str, status: int, message: str) -> ApiError:
        kind = "client" if 400 <= status < 500 else "server"
        return ApiError(
            "ModelError",
            f'Received {kind} error ({status}) from primary with message "{message}". '
            f"See {LOG_GROUP}{name} in account {ACCOUNT_ID} for more information.",
            424,
            OriginalStatusCode=status,
            OriginalMessage=message,
            LogStreamArn=f"arn:aws:logs:{self._settings.region}:{ACCOUNT_ID}:log-group:{LOG_GROUP}{name}",
        )


def _unavailable(reason: str) -> ApiError:
    """Return the error after which AWS's clients send the request again."""
    return ApiError("ServiceUnavailable", f"The service is unavailable. Try your call again: {reason}.", 503)
