"""Start the model server: `python -m localmode.modelserver DIRECTORY`.

The process ends with its standard input from its first moment on, also during the seconds in which it imports
TensorFlow. That is why the import stands below the start of the thread.
"""

import os
import signal
import sys
import threading
from pathlib import Path


def _end_with_standard_input() -> None:
    sys.stdin.read()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # also ends the processes that inference.py has started
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_standard_input, daemon=True).start()

    from localmode.modelserver.server import main

    sys.exit(main(Path(sys.argv[1])))
