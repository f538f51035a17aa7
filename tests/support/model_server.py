"""Ask a model server, localmode's own or a real one, for predictions."""

import http.client
import json
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import urlsplit

JSON = "application/json"


class Reply(NamedTuple):
    """The answer of a server."""

    status: int
    content_type: str
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Target:
    """A server: localmode's own or a real one."""

    def __init__(self, url: str, path: str) -> None:
        self.path = path
        self._url = urlsplit(url)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        content = body.encode() if isinstance(body, str) else body
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection(str(self._url.hostname), self._url.port, timeout=60)) as connection:
            connection.request(method, self._url.path + path, content, names)
            response = connection.getresponse()
            return Reply(response.status, response.getheader("Content-Type", ""), response.read().decode())

    def __call__(self, body: Any, content_type: str = JSON, **headers: str) -> Reply:
        """Ask for predictions; a body that is not text is sent as JSON."""
        text = body if isinstance(body, str) else json.dumps(body)
        return self.ask("POST", self.path, text, Content_Type=content_type, **headers)
