"""The daemon: one process per state directory, which serves AWS clients and ends with everything that it started."""

from __future__ import annotations

import gc
import json
import logging
import os
import secrets
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any

from localmode.api.registry import SageMaker
from localmode.cluster.cluster import Cluster
from localmode.core.durable import Journal, replace_atomically
from localmode.core.errors import LocalModeError
from localmode.core.home import STATE_FILE, holds, is_running, read_state, take_lock, write_format
from localmode.core.settings import Settings
from localmode.core.threads import start_thread
from localmode.hosting.provisioning import Hosting
from localmode.hosting.registry import Endpoints
from localmode.http.app import command_route, make_application, service_routes
from localmode.http.commands import Command
from localmode.http.server import bind, make_server
from localmode.s3.app import S3Application
from localmode.s3.storage import Storage
from localmode.s3.store.objects import ObjectStore
from localmode.services.backend import Services
from localmode.services.logs import Logs
from localmode.training.job import Instances
from localmode.training.scheduler import TrainingJobs

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0  # how often a daemon looks whether its state directory still exists


class Daemon:
    """A daemon over a state directory.

    `application` is its WSGI application, which answers requests also while the daemon does not serve.
    """

    def __init__(self, settings: Settings, instances: Instances | None = None) -> None:
        """Load the state; raise LocalModeError if a file in the directory is damaged.

        `instances` replaces the cluster that runs training jobs.
        """
        self._settings = settings
        home = settings.home
        state = read_state(home)
        # The next daemon has the port and the keys of the last one, so that AWS clients that are in use find it.
        self._listener = bind(int(state.get("port", 0)))
        self._access_key = state.get("access_key") or "LOCALMODE" + secrets.token_hex(8).upper()
        self._secret_key = state.get("secret_key") or secrets.token_urlsafe(30)
        self._started = time.time()
        self._scratch = home / "new"
        self._scratch.mkdir(exist_ok=True)
        write_format(home, self._scratch)
        services = Services(settings)
        store = ObjectStore(home / "s3")
        store.create_bucket(settings.default_bucket)
        storage = Storage(store)
        s3 = S3Application(store, settings.region)
        logs = Logs(home / "logs" / "training", services)
        self._instances = instances or Cluster(settings, storage, logs, self.environment())
        hosting = Hosting(settings, storage, services, self.environment())
        self._endpoints = Endpoints(settings, hosting, self._journal("endpoints"))
        self._jobs = TrainingJobs(settings, self._journal("jobs"), self._instances)
        sagemaker = SageMaker(
            settings,
            storage,
            self._jobs,
            self._endpoints,
            self._journal("models"),
            self._journal("endpoint-configs"),
            services.trusts_sagemaker,
        )
        commands: dict[str, Command] = {
            "status": self._status,
            "interrupt": self._interrupt,
            "spot-capacity": self._set_spot_capacity,
        }
        routes = [*service_routes(sagemaker, s3, services), command_route(commands, self._shut_down)]
        self.application = make_application(self.port, self._access_key, self._secret_key, routes)
        self._server = make_server(self._listener, self.application)

    @property
    def port(self) -> int:
        """The port of the HTTP server."""
        return int(self._listener.getsockname()[1])

    def environment(self) -> dict[str, str]:
        """Return the environment variables by which AWS clients find the daemon."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": self._access_key,
            "AWS_SECRET_ACCESS_KEY": self._secret_key,
            "AWS_DEFAULT_REGION": self._settings.region,
            "AWS_REGION": self._settings.region,
        }

    def start(self) -> None:
        """Go on with the jobs of the last daemon, and write down how to reach this one; raise OSError."""
        self._endpoints.start()
        self._jobs.start()
        self._write_state()

    def run(self, lock: int) -> None:
        """Serve until a client, a signal or the deletion of the state directory ends the daemon.

        `lock` is the daemon's lock of the state directory. The process that starts the daemon reads `ready` from its
        standard output.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._shut_down())
        gc.freeze()  # a collection over moto's objects would delay requests by 30 ms
        with suppress(BrokenPipeError):  # the process that started the daemon may have been killed
            os.write(sys.stdout.fileno(), b"ready\n")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # releases the start lock: see client.lifecycle
        watch = partial(self._watch, lock)
        start_thread("state directory", watch, "The daemon does not end if its state directory is deleted.")
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            self.close()

    def close(self) -> None:
        """Kill all attempts and model servers, and stop listening."""
        self._jobs.close()
        self._endpoints.close()
        self._server.server_close()
        self._listener.close()

    def _write_state(self) -> None:
        """Write down how to reach the daemon."""
        state = {
            "pid": os.getpid(),
            "port": self.port,
            "access_key": self._access_key,
            "secret_key": self._secret_key,
            "region": self._settings.region,
            "default_bucket": self._settings.default_bucket,
            "role_arn": self._settings.role_arn,
        }
        with replace_atomically(self._settings.home / STATE_FILE, self._scratch) as file:
            file.write(json.dumps(state, indent=1).encode())

    def _watch(self, lock: int) -> None:
        """End the daemon when its state directory is deleted: clients cannot find it any more."""
        while holds(lock, self._settings.home):
            time.sleep(_LOOK_SECONDS)
        _log.error("%s has been deleted", self._settings.home)
        self._shut_down()

    def _journal(self, name: str) -> Journal:
        return Journal(self._settings.home / name, self._scratch)

    # localmode's own commands

    def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        unfinished = [job for job in self._jobs.all() if not job.is_final]
        return {
            "pid": os.getpid(),
            "url": f"http://127.0.0.1:{self.port}",
            "home": str(self._settings.home),
            "runner": self._instances.runner,
            "default_bucket": self._settings.default_bucket,
            "role_arn": self._settings.role_arn,
            "uptime_seconds": round(time.time() - self._started, 1),
            "spot_capacity": self._jobs.spot_capacity,
            "training_jobs": {job.record.name: job.record.secondary_status for job in unfinished},
            "endpoints": {record["EndpointName"]: record["EndpointStatus"] for record in self._endpoints.all()},
        }

    def _interrupt(self, request: dict[str, Any]) -> dict[str, Any]:
        outage = request.get("outage", 0)
        if isinstance(outage, bool) or not isinstance(outage, (int, float)) or not 0 <= outage <= 86400:
            raise LocalModeError(f"outage is {outage!r}; it must be a number of seconds from 0 to 86400")
        self._jobs.interrupt(str(request.get("training_job_name", "")), float(outage))
        return {}

    def _set_spot_capacity(self, request: dict[str, Any]) -> dict[str, Any]:
        available = request.get("available")
        if not isinstance(available, bool):
            raise LocalModeError(f"available is {available!r}; it must be true or false")
        self._jobs.set_spot_capacity(available)
        return {}

    def _shut_down(self) -> None:
        """End serve_forever; `shutdown` waits for it, and this may be called in its thread."""
        start_thread("shutdown", self._server.shutdown, "The daemon goes on; send it SIGKILL.")


def main(settings: Settings) -> int:
    """Run a daemon; the process that started it reads `ready`, or one line with an error, from standard output."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if is_running(settings.home):
        print(f"a daemon is running over {settings.home} already", flush=True)
        return 1
    lock = take_lock(settings.home)
    try:
        daemon = Daemon(settings)
        daemon.start()
    except (LocalModeError, OSError) as error:
        print(error, flush=True)
        return 1
    daemon.run(lock)
    return 0
