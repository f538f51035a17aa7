#!/usr/bin/env bash
# The tests of the docker runner, as `make test-docker` runs them; they leave the image, and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
TEST_IMAGE=$(.venv/bin/python containers/name.py)
export TEST_IMAGE TEST_RUNNER=docker
docker image inspect "$TEST_IMAGE" >/dev/null 2>&1 || containers/image.sh
.venv/bin/python -m pytest tests/test_runner.py tests/test_container.py tests/test_hosts.py tests/test_clients.py \
    tests/test_daemon.py tests/test_docker.py "$@"
