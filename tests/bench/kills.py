"""How often the daemon can be killed without losing anything: SIGKILL at random moments while all of it is at work.

    make bench

Each run has its own seed, with which a failed one can be repeated: `python tests/bench/kills.py SEED`.
"""

import secrets
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.durability import KillRounds
from tests.support.local import Daemon

KILLS = 15


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else secrets.randbelow(1_000_000)
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(Path(directory) / "state")
        rounds = KillRounds(daemon, seed, Path(directory))
        began = time.monotonic()
        try:
            rounds.begin(with_endpoint=True)
            for _ in range(KILLS):
                rounds.round()
            rounds.end(with_endpoint=True)
        except AssertionError:
            print(f"seed {seed}, after {rounds.kills} kills and {rounds.count} acknowledged writes:", file=sys.stderr)
            raise
        finally:
            daemon.cli("stop")
    print(
        f"killed {rounds.kills} times in {time.monotonic() - began:.0f} s (seed {seed}): all of {rounds.count} writes, "
        f"{len(rounds.jobs)} jobs and the endpoint are there, the Spot jobs with the hash of an uninterrupted run"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
