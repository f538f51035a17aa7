"""How often the daemon can be killed without losing anything: SIGKILL at random moments while all of it is at work.

    make bench

Each siege has a seed of its own, so that one that fails can be run again: `python tests/bench/kills.py SEED`.
"""

import secrets
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.durability import Siege
from tests.support.local import Daemon

KILLS = 15


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else secrets.randbelow(1_000_000)
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(Path(directory) / "state")
        siege = Siege(daemon, seed, Path(directory))
        began = time.monotonic()
        try:
            siege.begin(with_endpoint=True)
            for _ in range(KILLS):
                siege.round()
            siege.end(with_endpoint=True)
        except AssertionError:
            print(f"seed {seed}, after {siege.kills} kills and {siege.count} acknowledged writes:", file=sys.stderr)
            raise
        finally:
            daemon.cli("stop")
    print(
        f"killed {siege.kills} times in {time.monotonic() - began:.0f} s (seed {seed}): all of {siege.count} writes, "
        f"{len(siege.jobs)} jobs and the endpoint are there, the Spot jobs with the hash of an uninterrupted run"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
