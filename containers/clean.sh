#!/usr/bin/env bash
# Remove what localmode's docker runner, its images and the SDK's own local mode leave in a Docker engine.
#
#     containers/clean.sh              # containers and networks
#     containers/clean.sh --images     # the images of containers/image.sh as well
#
# Stop localmode first: a container that still runs is removed, too.
set -euo pipefail
for filter in label=localmode network=sagemaker-local; do
    docker ps --all --quiet --filter $filter | xargs -r docker rm --force --volumes >/dev/null
done
docker network ls --quiet --filter name=^sagemaker-local$ | xargs -r docker network rm >/dev/null
if [ "${1:-}" = --images ]; then
    # By name, since one image may have several; the base last, of which the others are made.
    docker images --filter label=localmode.image --format '{{.Repository}}:{{.Tag}}' |
        sort | xargs -r docker rmi --force >/dev/null
fi
