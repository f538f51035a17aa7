#!/usr/bin/env bash
# Run the tests of the docker runner, as `make test-docker` does. Only the image remains in the engine.
set -euo pipefail
cd "$(dirname "$0")/.."
TEST_IMAGE=$(.venv/bin/python containers/name.py)
export TEST_IMAGE TEST_RUNNER=docker
docker image inspect "$TEST_IMAGE" >/dev/null 2>&1 || containers/image.sh
.venv/bin/python -m pytest tests/localmode/cluster tests/localmode/test_daemon.py tests/end_to_end/test_clients.py "$@"
