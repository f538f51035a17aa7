"""The servers that are asked: localmode's own and, if these variables have the URLs, real ones with the same model.

    INFERENCE_CONTAINER_URL   http://HOST:8080
    TENSORFLOW_SERVING_URL    http://HOST:8501/v1/models/model

tests/support/serving_model.py writes the model. localmode must give the answers of the real ones.
"""

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.model_server import Target


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.serving_model import save_model

    return save_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serve directories in this process; each call returns a URL."""
    from localmode.modelserver.server import Server, prepare

    running = []

    def start(directory: Path) -> str:
        server = Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
        try:
            url = prepare(server, directory)
        except ValueError:
            server.server_close()
            raise
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return url

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture(scope="session")
def own_url(serve: Callable[[Path], str], model: Path) -> str:
    return serve(model)


REAL_CONTAINER = os.environ.get("INFERENCE_CONTAINER_URL", "")
REAL_SERVING = os.environ.get("TENSORFLOW_SERVING_URL", "")


@pytest.fixture(scope="session", params=["ours", *["container"] * bool(REAL_CONTAINER)])
def container(request: pytest.FixtureRequest, own_url: str) -> Target:
    """A container: /ping and /invocations."""
    return Target(own_url if request.param == "ours" else REAL_CONTAINER, "/invocations")


@pytest.fixture(
    scope="session",
    params=["ours", "our REST API", *["container"] * bool(REAL_CONTAINER), *["serving"] * bool(REAL_SERVING)],
)
def predict(request: pytest.FixtureRequest, own_url: str) -> Target:
    """A server that accepts TensorFlow Serving's JSON: a container or TensorFlow Serving itself."""
    return {
        "ours": Target(own_url, "/invocations"),
        "our REST API": Target(own_url, "/v1/models/model:predict"),
        "container": Target(REAL_CONTAINER or own_url, "/invocations"),
        "serving": Target(REAL_SERVING.removesuffix("/v1/models/model") or own_url, "/v1/models/model:predict"),
    }[request.param]
