"""Loosen the exact pins of the requirements, to see what tomorrow's releases break.

    python3 .ci/drift.py requirements.txt ...     # rewrites the files: for a checkout that is thrown away

A pin `name==1.2.3` becomes the newest release of its major version that is not older. TensorFlow and Keras stay
within their minor version: the course trains and serves with the one that SageMaker has images of.
"""

import re
import sys
from pathlib import Path

MINOR_ONLY = ("tensorflow", "tensorflow-cpu", "keras")
_PIN = re.compile(r"^([A-Za-z0-9_.\[\],-]+)==(\d+)\.(\d+)((?:\.\d+)*)", re.MULTILINE)


def loosened(text: str) -> str:
    """Return the text of a requirements file with its pins loosened."""

    def loosen(match: re.Match[str]) -> str:
        name, major, minor, rest = match.groups()
        below = f"{major}.{int(minor) + 1}" if name.partition("[")[0] in MINOR_ONLY else str(int(major) + 1)
        return f"{name}>={major}.{minor}{rest},<{below}"

    return _PIN.sub(loosen, text)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(loosened(path.read_text()))
