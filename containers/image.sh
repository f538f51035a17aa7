#!/usr/bin/env bash
# Build an image with TensorFlow for localmode's docker runner and for the SDK's own local mode.
#
#     containers/image.sh             # with the name of the image that the notebooks train in
#     containers/image.sh NAME...     # with other names
#
# The base is debian:bookworm-slim, from a registry; as root on Debian with debootstrap, the script makes the base itself.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
[ -x .venv/bin/uv ] || { echo "containers/image.sh needs .venv; run `make env` first" >&2; exit 1; }
if [ $# = 0 ]; then
    set -- "$($python containers/name.py)"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

base=debian:bookworm-slim
if [ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null && ! docker image inspect $base >/dev/null 2>&1; then
    base=localmode-base
    if ! docker image inspect $base >/dev/null 2>&1; then
        echo "making $base with debootstrap"
        debootstrap --variant=minbase bookworm "$work/root" http://deb.debian.org/debian >"$work/log" 2>&1 ||
            { tail -n 5 "$work/log" >&2; exit 1; }
        tar -C "$work/root" -c . | docker import --change 'LABEL localmode.image=base' - $base >/dev/null
    fi
fi

# The versions that the course runs with, for the Python of the image and the processor of the engine.
case $(docker version --format '{{.Server.Arch}}') in
    arm64) target=(--python-version 3.11 --python-platform aarch64-manylinux_2_28) ;;
    *) target=(--python-version 3.11 --python-platform x86_64-manylinux_2_28) ;;
esac
toolkit=$(grep -o '^sagemaker-training==[0-9.]*' requirements-toolkit.txt)
mkdir -p "$work/context/toolkit"
{ grep -E '^(tensorflow|keras|numpy|boto3)' requirements.txt; echo "$toolkit"; } |
    .venv/bin/uv pip compile --quiet "${target[@]}" --constraint requirements.lock \
        --no-emit-package sagemaker-training --output-file "$work/requirements.txt" - >"$work/log"
.venv/bin/uv pip install --quiet --python $python "${target[@]}" --target "$work/context/packages" \
    --requirement "$work/requirements.txt"
rm -rf "$work/context/packages/bin"
$python -m pip download -qq --no-deps --no-binary :all: --dest "$work/context/toolkit" "$toolkit"
cp containers/Dockerfile "$work/context"
echo "building $1 on $base"
DOCKER_BUILDKIT=0 docker build --quiet --network host --build-arg BASE=$base "${@/#/--tag=}" "$work/context" \
    >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
docker image prune --force --filter label=localmode.image=stage >/dev/null
