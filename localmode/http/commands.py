"""localmode's own commands over HTTP: POST /_localmode/COMMAND with a JSON object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.wrappers import Response

from localmode.core.control import PATH
from localmode.core.errors import ApiError
from localmode.http.request import Environ, read_json
from localmode.http.responses import json_response

Command = Callable[[dict[str, Any]], dict[str, Any]]


class CommandHandler:
    """Runs the commands that it is given by name, and `stop`."""

    def __init__(self, commands: dict[str, Command], shut_down: Callable[[], None]) -> None:
        self._commands = commands
        self._shut_down = shut_down

    def __call__(self, environ: Environ, path: str) -> Response:
        """Run one command; raise ApiError for an unknown one, or for a body that is not a JSON object."""
        name = path.removeprefix(PATH)
        if name == "stop":
            response = json_response({})
            response.call_on_close(self._shut_down)  # after the client has the response
            return response
        command = self._commands.get(name)
        if command is None:
            raise ApiError("UnknownOperationException", f"localmode has no command {path}")
        request = read_json(environ)
        if not isinstance(request, dict):
            raise ApiError("SerializationException", "The request is not a JSON object")
        return json_response(command(request))
