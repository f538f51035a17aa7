#!/usr/bin/env bash
# Remove what the docker runner of localmode and the SDK's own local mode leave in a Docker engine.
#
#     containers/clean.sh              # containers and networks
#     containers/clean.sh --images     # the images of containers/image.sh as well
#
# Stop localmode first: running containers are removed, too.
set -euo pipefail
for filter in label=localmode network=sagemaker-local; do
    docker ps --all --quiet --filter $filter | xargs -r docker rm --force --volumes >/dev/null
done
docker network ls --quiet --filter name=^sagemaker-local$ | xargs -r docker network rm >/dev/null
if [ "${1:-}" = --images ]; then
    # By name, since an image may have several names; the base comes last, because the others are built on it.
    docker images --filter label=localmode.image --format '{{.Repository}}:{{.Tag}}' |
        sort | xargs -r docker rmi --force >/dev/null
fi
