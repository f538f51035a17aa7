"""The daemon's process: one per state directory, made of the rooms, and gone with everything it started."""

from __future__ import annotations

import gc
import json
import logging
import os
import secrets
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from localmode.api.registry import SageMaker
from localmode.cluster.cluster import Cluster
from localmode.core.durable import Journal, replace_atomically
from localmode.core.errors import LocalModeError
from localmode.core.home import STATE_FILE, holds, is_running, read_state, take_lock
from localmode.core.settings import Settings
from localmode.hosting.provisioning import Hosting
from localmode.hosting.registry import Endpoints
from localmode.http.app import Application, Command
from localmode.http.server import bind, serve_on
from localmode.s3.app import S3Application
from localmode.s3.storage import Storage
from localmode.s3.store.objects import ObjectStore
from localmode.services.backend import Services
from localmode.services.logs import Logs
from localmode.training.scheduler import TrainingJobs

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0  # how long a daemon outlives its state directory


class Daemon:
    """The rooms, put together over one state directory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        home = settings.home
        state = read_state(home)
        # Port and keys stay from one daemon to the next, so that running kernels find the new one.
        self._listener = bind(int(state.get("port", 0)))
        self._access_key = state.get("access_key") or "LOCALMODE" + secrets.token_hex(8).upper()
        self._secret_key = state.get("secret_key") or secrets.token_urlsafe(30)
        self._started = time.time()
        self._scratch = home / "new"
        self._scratch.mkdir(exist_ok=True)
        services = Services(settings)
        store = ObjectStore(home / "s3")
        store.create_bucket(settings.default_bucket)
        storage = Storage(store)
        s3 = S3Application(store, settings.region)
        logs = Logs(home / "logs" / "training", services)
        self._instances = Cluster(settings, storage, logs, self.environment())
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
        keys = (self._access_key, self._secret_key)
        application = Application(self.port, *keys, sagemaker, s3, services, commands, self._shut_down)
        self._server = serve_on(self._listener, application)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    def environment(self) -> dict[str, str]:
        """Return the variables by which any AWS client finds the daemon."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": self._access_key,
            "AWS_SECRET_ACCESS_KEY": self._secret_key,
            "AWS_DEFAULT_REGION": self._settings.region,
            "AWS_REGION": self._settings.region,
        }

    def run(self, lock: int) -> None:
        """Write down where to find it, and serve until it is told to stop, or somebody deletes its state directory."""
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
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._shut_down())
        gc.freeze()  # moto's objects stay: to look them all over takes 30 ms, in the middle of some request
        with suppress(BrokenPipeError):  # whoever started it may have been killed
            os.write(sys.stdout.fileno(), b"ready\n")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # until here it was the lock of those who start a daemon
        threading.Thread(target=self._watch, args=[lock], name="state directory", daemon=True).start()
        try:
            self._jobs.start()
            self._server.serve_forever(poll_interval=0.1)
        finally:
            self._jobs.close()
            self._endpoints.close()

    def _watch(self, lock: int) -> None:
        """End without a state directory: nobody can find this daemon any more, and nothing can be kept."""
        while holds(lock, self._settings.home):
            time.sleep(_LOOK_SECONDS)
        _log.error("%s has been deleted", self._settings.home)
        self._shut_down()

    def _journal(self, name: str) -> Journal:
        return Journal(self._settings.home / name, self._scratch)

    # Commands of localmode's own

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
            raise LocalModeError(f"outage is {outage!r}; it takes seconds from 0 to 86400")
        self._jobs.interrupt(str(request.get("training_job_name", "")), float(outage))
        return {}

    def _set_spot_capacity(self, request: dict[str, Any]) -> dict[str, Any]:
        available = request.get("available")
        if not isinstance(available, bool):
            raise LocalModeError(f"available is {available!r}; it takes true or false")
        self._jobs.set_spot_capacity(available)
        return {}

    def _shut_down(self) -> None:
        threading.Thread(target=self._server.shutdown, daemon=True).start()  # it waits for the thread that serves


def main(settings: Settings) -> int:
    """Run a daemon to its end; the process that started it reads `ready` or one line of error from stdout."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    threading.excepthook = lambda failure: _log.error(
        "in thread %s", failure.thread and failure.thread.name, exc_info=failure.exc_value
    )
    if is_running(settings.home):
        print(f"a daemon is running over {settings.home} already", flush=True)
        return 1
    lock = take_lock(settings.home)
    try:
        daemon = Daemon(settings)
    except (LocalModeError, OSError) as error:
        print(error, flush=True)
        return 1
    daemon.run(lock)
    return 0
