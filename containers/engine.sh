#!/usr/bin/env bash
# Install and start a Docker engine from Debian's packages, as root on Debian, unless one answers.
#
#     containers/engine.sh
#
# It also installs debootstrap, with which containers/image.sh makes its base image without a registry. To stop the engine:
# kill "$(cat /run/docker.pid)".
set -euo pipefail
if docker info >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no Docker engine answers; start one (this script installs one only as root on Debian)" >&2
    exit 1
fi
log=$(mktemp)
{ apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        docker.io docker-compose debootstrap iptables; } >"$log" 2>&1 || { tail -n 5 "$log" >&2; exit 1; }
# If an init system runs, the package has started the engine already.
docker info >/dev/null 2>&1 || setsid dockerd >"$log" 2>&1 </dev/null &
for _ in $(seq 150); do
    if docker info >/dev/null 2>&1; then
        rm -f "$log"
        exit 0
    fi
    sleep 0.2
done
tail -n 5 "$log" >&2
exit 1
