"""InvokeEndpoint: which server takes a request, and what becomes of its answer."""

from __future__ import annotations

from localmode.core.aws import ACCOUNT_ID
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from localmode.hosting.fleet import Fleet, Unavailable, UnknownVariant
from localmode.hosting.provisioning import LOG_GROUP
from localmode.hosting.registry import Endpoints
from localmode.hosting.server_process import TIMEOUT_SECONDS, Answer, ModelServer

MAX_PAYLOAD_BYTES = 6 << 20  # of a request and of an answer: botocore's model of InvokeEndpoint


class Invoker:
    """Passes requests on to the endpoints of a register."""

    def __init__(self, settings: Settings, endpoints: Endpoints) -> None:
        self._settings = settings
        self._endpoints = endpoints

    def invoke(self, name: str, body: bytes, headers: dict[str, str], target: str = "") -> tuple[str, Answer]:
        """Return the variant that answered, and its answer; raise ApiError where there is none, or an error."""
        if len(body) > MAX_PAYLOAD_BYTES:
            raise ApiError("413", f"HTTP content length exceeded {MAX_PAYLOAD_BYTES} bytes.", 413)
        variant, server, fleet = self._reserve(name, target)
        try:
            answer = server.invoke(body, headers)
        except TimeoutError as error:
            message = (
                "Your invocation timed out while waiting for a response from container primary: it has "
                f"{TIMEOUT_SECONDS:.0f} seconds to answer"
            )
            raise self._model_error(name, 0, message) from error
        except OSError as error:
            raise _unavailable(f"the instance of production variant {variant} does not answer ({error})") from error
        finally:
            fleet.release(server)
        if answer.status >= 300:
            raise self._model_error(name, answer.status, answer.body.decode(errors="replace"))
        if len(answer.body) > MAX_PAYLOAD_BYTES:
            message = f"an answer of {len(answer.body)} bytes, where {MAX_PAYLOAD_BYTES} are the most"
            raise self._model_error(name, answer.status, message)
        return variant, answer

    def _reserve(self, name: str, target: str) -> tuple[str, ModelServer, Fleet]:
        """Choose the server for a request; return its variant, itself, and the fleet to release it to."""
        self._endpoints.serving(name).up.wait(TIMEOUT_SECONDS)  # after a restart of the daemon
        with self._endpoints.lock:  # so that no request comes to a fleet that is being retired
            fleet = self._endpoints.serving(name)
            try:
                return *fleet.reserve(target), fleet
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


def _unavailable(why: str) -> ApiError:
    """Return the error that AWS's clients answer by trying again."""
    return ApiError("ServiceUnavailable", f"The service is unavailable. Try your call again: {why}.", 503)
