"""Send localmode's own commands to a running daemon."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from localmode.core.control import KEY_HEADER, PATH
from localmode.core.errors import LocalModeError
from localmode.core.home import is_running, read_state, start_lock


def command(home: Path, name: str, **parameters: Any) -> dict[str, Any]:
    """Send a command to the daemon of a state directory; return its answer.

    Raises LocalModeError if no daemon runs, if it refuses the command, or if it does not answer.
    """
    return send(home, running_state(home), name, parameters)


def send(home: Path, state: dict[str, Any], name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Send a command to the daemon that `state` describes; raise LocalModeError if it refuses or does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", state["port"])
    try:
        headers = {KEY_HEADER: state["secret_key"]}
        connection.request("POST", PATH + name, json.dumps(parameters), headers)
        response = connection.getresponse()
        answer = dict(json.loads(response.read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        log = home / "logs" / "daemon.log"
        raise LocalModeError(f"The daemon over {home} does not answer ({error}); see {log}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise LocalModeError(answer["message"])
    return answer


def running_state(home: Path) -> dict[str, Any]:
    """Return address and keys of the running daemon; raise LocalModeError if none runs."""
    if is_running(home):
        with start_lock(home):  # a daemon that is being started has not written its address yet
            if is_running(home):
                return read_state(home)
    raise LocalModeError(f"No daemon runs over {home}; `python -m localmode start` starts one")
