#!/bin/bash
# Builds the two images of Dockerfile.postgres: `docker.sh`. DOCKER_BUILD_ARGS are added to `docker build`.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! docker version >/dev/null 2>&1; then
    echo "pg_envelope: DOCKER=1 needs a Docker that runs and that you may use; 'docker version' says:" >&2
    docker version 2>&1 | tail -1 >&2
    echo "Debian: apt-get install docker.io. Without Docker, leave DOCKER=1 away." >&2
    exit 1
fi

for target in openbao postgres; do
    echo "Building the image pg-envelope-$target ..."
    log=$(mktemp)
    # shellcheck disable=SC2086
    docker build ${DOCKER_BUILD_ARGS:-} --file Dockerfile.postgres --target "$target" --tag "pg-envelope-$target" . >"$log" 2>&1 ||
        { tail -40 "$log" >&2; rm -f "$log"; exit 1; }
    rm -f "$log"
done
