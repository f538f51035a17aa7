"""Move the exact pins of the requirements to the newest releases that their versions allow: `make upgrade`.

    python3 .ci/drift.py loosen    # name==1.2.3 becomes name>=1.2.3,<2 in requirements*.txt
    python3 .ci/drift.py pin       # and becomes the version that the lock file has

TensorFlow and Keras stay within their minor version, for which SageMaker has images.
"""

import re
import sys
from pathlib import Path

MINOR_ONLY = ("tensorflow", "tensorflow-cpu", "keras")
_NAME = r"^([A-Za-z0-9_.\[\],-]+)"
_PIN = re.compile(_NAME + r"==(\d+)\.(\d+)((?:\.\d+)*)", re.MULTILINE)
_RANGE = re.compile(_NAME + r">=[\d.]+,<[\d.]+", re.MULTILINE)
_LOCKED = re.compile(r"^([a-z0-9-]+)==([^\s;]+)", re.MULTILINE)


def loosened(text: str) -> str:
    """Return the text of a requirements file with its pins loosened."""

    def loosen(match: re.Match[str]) -> str:
        name, major, minor, rest = match.groups()
        below = f"{major}.{int(minor) + 1}" if name.partition("[")[0] in MINOR_ONLY else str(int(major) + 1)
        return f"{name}>={major}.{minor}{rest},<{below}"

    return _PIN.sub(loosen, text)


def pinned(text: str, lock: str) -> str:
    """Return the text of a loosened requirements file with the versions of a lock file.

    Raises ValueError if the lock file has not exactly one version of a requirement.
    """
    versions: dict[str, set[str]] = {}
    for name, version in _LOCKED.findall(lock):
        versions.setdefault(name, set()).add(version)

    def pin(match: re.Match[str]) -> str:
        name = match.group(1)
        found = versions.get(name.partition("[")[0].lower().replace("_", "-"), set())
        if len(found) != 1:
            raise ValueError(f"the lock file has {len(found)} versions of {name}; pin it by hand")
        return f"{name}=={found.pop()}"

    return _RANGE.sub(pin, text)


def lock_of(requirements: Path) -> Path:
    """Return the lock file that covers a requirements file: its own, or the one that the others share."""
    own = requirements.with_suffix(".lock")
    return own if own.exists() else requirements.with_name("requirements.lock")


def main(root: Path, step: str) -> None:
    """Rewrite all requirements files in a directory; `step` is "loosen" or "pin"."""
    for path in root.glob("requirements*.txt"):
        text = path.read_text()
        path.write_text(loosened(text) if step == "loosen" else pinned(text, lock_of(path).read_text()))


if __name__ == "__main__":
    if sys.argv[1:] not in (["loosen"], ["pin"]):
        sys.exit(__doc__)
    main(Path(__file__).parents[1], sys.argv[1])
