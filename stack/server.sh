#!/bin/bash
# Installs the extension into a PostgreSQL server, or takes it out: `server.sh install`, `server.sh uninstall`.
# Control file and script go to the server's sharedir; the Python part into a venv of its own under pkglibdir, so that
# neither PYTHONPATH nor the distribution's packages get in its way.
set -euo pipefail
umask 022
# PYTHONHOME, PYTHONPATH and PYTHONDONTWRITEBYTECODE would all change what ends up in the venv.
for name in ${!PYTHON*}; do [ "$name" = PYTHON ] || unset "$name"; done

cd "$(dirname "$0")/.."
python=${PYTHON:-/usr/bin/python3}
command=${BINDIR:-/usr/local/bin}/pg-envelope
pg_config=$(stack/pg-config.sh)
scripts=$("$pg_config" --sharedir)/extension
venv=$("$pg_config" --pkglibdir)/pg_envelope

need_write() {
    local place
    for place in "$scripts" "${venv%/*}" "${command%/*}"; do
        [ -w "$place" ] && continue
        echo "pg_envelope: no right to write to $place; run: sudo make ${1}" >&2
        exit 1
    done
}

# What the installed venv depends on: the distributions it needs, and the project's own sources.
needs_hash() { (cat pyproject.toml; "$python" -VV; echo "$venv") | sha256sum | cut -c1-64; }
sources_hash() {
    find plpython client extension/pg_envelope.control pyproject.toml -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z |
        xargs -0 sha256sum | sha256sum | cut -c1-64
}

same() { [ -f "$1" ] && [ "$(<"$1")" = "$2" ]; }

up_to_date() {
    local file
    same "$venv/.needs" "$(needs_hash)" && same "$venv/.sources" "$(sources_hash)" || return 1
    for file in extension/pg_envelope.control extension/pg_envelope--*.sql; do
        cmp -s "$file" "$scripts/${file##*/}" || return 1
    done
    [ "$(readlink "$command")" = "$venv/bin/pg-envelope" ]
}

install_scripts() {
    rm -f "$scripts"/pg_envelope--*.sql
    install -m 644 extension/pg_envelope.control extension/pg_envelope--*.sql "$scripts/"
}

pip() { .venv/bin/python -m pip -qq --disable-pip-version-check "$@"; }

# Built without isolation: hatchling is in .venv already, so that a change of sources needs no network.
build_wheel() {
    rm -rf build/wheel
    pip wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
    ls build/wheel/*.whl
}

install_venv() {
    local wheel
    wheel=$(build_wheel)
    if same "$venv/.needs" "$(needs_hash)"; then
        rm -f "$venv/.sources"
        pip --python "$venv/bin/python" install --no-deps --force-reinstall "$wheel"
    else
        rm -rf "$venv"
        "$python" -m venv --without-pip "$venv"
        pip --python "$venv/bin/python" install "${wheel}[all]"
        needs_hash >"$venv/.needs"
    fi
    sources_hash >"$venv/.sources"
}

install_all() {
    ! up_to_date || return 0
    need_write install
    exec 9>"${venv}.lock"
    flock 9
    ! up_to_date || return 0
    echo "Installing the extension into $("$pg_config" --version) ..."
    install_scripts
    same "$venv/.sources" "$(sources_hash)" && same "$venv/.needs" "$(needs_hash)" || install_venv
    ln -sfn "$venv/bin/pg-envelope" "$command"
}

uninstall_all() {
    need_write uninstall
    rm -f "$scripts"/pg_envelope--*.sql "$scripts/pg_envelope.control" "${venv}.lock"
    [ "$(readlink "$command")" != "$venv/bin/pg-envelope" ] || rm -f "$command"
    rm -rf "$venv"
}

case ${1:-} in
install) install_all ;;
uninstall) uninstall_all ;;
*)
    echo "usage: $0 install|uninstall" >&2
    exit 2
    ;;
esac
