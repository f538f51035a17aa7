"""The process of the model server ends with its standard input."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.local import SOON


def test_a_server_that_still_imports_tensorflow_ends_with_its_standard_input(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(
        "import sys, threading\nprint('importing', file=sys.stderr, flush=True)\nthreading.Event().wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "localmode.modelserver", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        start_new_session=True,
        text=True,
    ) as server:
        assert server.stdin is not None and server.stderr is not None
        try:
            assert server.stderr.readline() == "importing\n"
            server.stdin.close()
            assert server.wait(SOON) == -signal.SIGKILL
        finally:
            server.kill()
