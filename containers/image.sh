#!/usr/bin/env bash
# Build an image with TensorFlow for localmode's docker runner and for the SDK's own local mode.
#
#     containers/image.sh             # under the name by which the SDK asks for it, as the notebooks do
#     containers/image.sh NAME...     # under other names
#
# The base is debian:bookworm-slim, from a registry; as root on Debian with debootstrap it is made without one.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
[ -x .venv/bin/uv ] || { echo "containers/image.sh needs .venv: run make env first" >&2; exit 1; }
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

# The very versions that the course runs with, for the Python of the image.
mkdir "$work/context"
grep -E '^(tensorflow|keras|numpy|boto3)' requirements.txt >"$work/requirements.txt"
install() {
    rm -rf "$work/context/packages"
    .venv/bin/uv pip install --quiet --python $python --python-version 3.11 --target "$work/context/packages" \
        --requirement "$work/requirements.txt" "$@"
}
install "$(grep -o 'sagemaker-training==[0-9.]*' pyproject.toml)" 2>/dev/null || {
    echo "the image gets no train for jobs without an entrypoint (SDK v2): to build that takes gcc and Python 3.11"
    install --only-binary :all:
}
rm -rf "$work/context/packages/bin"
cp containers/Dockerfile "$work/context"
echo "building $1 on $base"
DOCKER_BUILDKIT=0 docker build --quiet --network host --build-arg BASE=$base "${@/#/--tag=}" "$work/context" \
    >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
