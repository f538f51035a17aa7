"""The script of the clients' jobs: prints what it was given, and waits for one interruption if INTERRUPTED is set."""

import json
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

checkpoints = Path("/opt/ml/checkpoints")
attempt = 1 + len(list(checkpoints.glob("attempt-*")))


def leave(*_: object) -> None:
    (checkpoints / "saved-on-sigterm").touch()
    print(f"attempt {attempt} was told", flush=True)
    sys.exit(143)


def facts() -> dict[str, object]:
    channels = [name for name in json.loads(os.environ["SM_CHANNELS"]) if name not in ("code", "sm_drivers")]
    folders = {name: Path(os.environ[f"SM_CHANNEL_{name.upper()}"]) for name in channels}
    return {
        "arguments": sys.argv[1:],
        "hyperparameters": json.loads(os.environ["SM_HPS"]),
        "greeting": os.environ.get("GREETING"),
        "channels": {
            name: sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            for name, folder in folders.items()
        },
        "package": find_spec("only_for_this_job") is not None,
    }


signal.signal(signal.SIGTERM, leave)
print("facts", json.dumps(facts()))
print("loss=0.25")
for number in range(40):
    print(f"attempt {attempt} line {number:02}")
sys.stdout.flush()
(Path(os.environ["SM_MODEL_DIR"]) / "weights").write_text("weights")
(checkpoints / f"attempt-{attempt}").touch()
if os.environ.get("INTERRUPTED") and attempt == 1:
    signal.pause()
print("found", *sorted(path.name for path in checkpoints.iterdir()))
