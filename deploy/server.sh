#!/bin/bash
# Installs the extension into a PostgreSQL server, or takes it out: `server.sh install`, `server.sh uninstall`.
# Control file and script go to the server's sharedir; the Python part into a venv of its own under pkglibdir, so that
# neither PYTHONPATH nor the distribution's packages get in its way. `pkglibdir/pg_envelope` is a link to the build in
# use, in pg_envelope.d beside it. All that is new is written beside the old before anything changes: the build, which
# is checked there, and each file as NAME.new. What follows are renames, which need no room on the disk. So an installation
# that fails, or is killed, leaves the one before as it was, and the next one removes what it left. The build before
# stays for sessions that still run on it, until the next installation.
set -euo pipefail
umask 022
# PYTHONHOME, PYTHONPATH and PYTHONDONTWRITEBYTECODE would all change what ends up in the venv.
for name in ${!PYTHON*}; do [ "$name" = PYTHON ] || unset "$name"; done

cd "$(dirname "$0")/.."
python=${PYTHON:-/usr/bin/python3}
command=${BINDIR:-/usr/local/bin}/pg-envelope
units=${UNITDIR:-$(dirname "${command%/*}")/lib/systemd/system}
pg_config=$(deploy/pg-config.sh)
scripts=$("$pg_config" --sharedir)/extension
venv=$("$pg_config" --pkglibdir)/pg_envelope
builds=$venv.d
unfinished=
new=

need_write() {
    local place
    for place in "$scripts" "${venv%/*}" "${command%/*}"; do
        [ -w "$place" ] && continue
        echo "pg_envelope: no right to write to $place; run: sudo make ${1}" >&2
        exit 1
    done
}

# What an installation that was killed left behind: all but what is in use, and the build before; one a line.
leftovers() {
    local file
    for file in "$scripts"/pg_envelope*.new "$units"/pg-envelope-*.new "$command.new" "$venv.new"; do
        [ ! -e "$file" ] && [ ! -L "$file" ] || printf '%s\n' "$file"
    done
    [ ! -d "$builds" ] || find "$builds" -mindepth 1 -maxdepth 1 ! \( -name before -type l \) \
        ! -name "$(build_of "$venv")" ! -name "$(build_of "$builds/before")"
}

build_of() { basename "$(readlink "$1" || true)"; }

sweep() { leftovers | xargs -r -d '\n' rm -rf --; }

clean_up() {
    [ -n "$unfinished" ] || return 0
    sweep
    echo "pg_envelope: the installation failed. Nothing was changed: what was installed before is still in use." >&2
}

# Extras of pyproject.toml that somebody asked for, now or at an earlier installation: one a line.
extras() { { cat "$venv/.extras" 2>/dev/null || true; tr ' ,' '\n\n' <<<"${EXTRAS:-}"; } | sed '/^$/d' | LC_ALL=C sort -u; }

# What the installed venv depends on: the distributions it needs, and the project's own sources.
needs_hash() { (cat pyproject.toml; "$python" -VV; echo "$venv"; extras) | sha256sum | cut -c1-64; }
sources_hash() {
    find plpython client extension/pg_envelope.control pyproject.toml -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z |
        xargs -0 sha256sum | sha256sum | cut -c1-64
}

same() { [ -f "$1" ] && [ "$(<"$1")" = "$2" ]; }

built() { [ -L "$venv" ] && same "$venv/.needs" "$(needs_hash)" && same "$venv/.sources" "$(sources_hash)"; }

up_to_date() {
    local file
    built && [ -z "$(leftovers)" ] || return 1
    for file in extension/pg_envelope.control extension/pg_envelope--*.sql; do
        cmp -s "$file" "$scripts/${file##*/}" || return 1
    done
    for file in deploy/systemd/*; do
        unit "$file" | cmp -s - "$units/${file##*/}" || return 1
    done
    [ "$(readlink "$command")" = "$venv/bin/pg-envelope" ]
}

unit() { sed "s|/usr/local/bin/pg-envelope|$command|" "$1"; }

stage() { cat >"$1.new" && chmod 644 "$1.new"; }

stage_all() {
    local file
    mkdir -p "$units"
    for file in extension/pg_envelope.control extension/pg_envelope--*.sql; do
        stage "$scripts/${file##*/}" <"$file"
    done
    for file in deploy/systemd/*; do
        unit "$file" | stage "$units/${file##*/}"
    done
    ln -s "$venv/bin/pg-envelope" "$command.new"
}

# Each file is replaced at once: who reads it sees the old one or the new one.
put_all() {
    local file
    for file in "$scripts"/pg_envelope*.new "$units"/pg-envelope-*.new "$command.new"; do
        mv -fT "$file" "${file%.new}"
    done
    for file in "$scripts"/pg_envelope--*.sql; do
        [ -e "extension/${file##*/}" ] || rm -f "$file"
    done
}

pip() { .venv/bin/python -m pip -qq --disable-pip-version-check "$@"; }

# Built without isolation: hatchling is in .venv already, so that a change of sources needs no network.
build_wheel() {
    local place=$1/.wheel
    pip wheel --no-deps --no-build-isolation --wheel-dir "$place" .
    ls "$place"/*.whl
}

# The distributions in a venv, `name==version` a line, names in their normal form.
distributions() {
    "$1/bin/python" -I -c 'import importlib.metadata, re
for name, version in sorted({(re.sub(r"[-_.]+", "-", one.name).lower(), one.version) for one in importlib.metadata.distributions()}):
    print(f"{name}=={version}")'
}

# Packages that somebody added to the venv by hand: an upgrade keeps them, at their versions.
carry_over() {
    local new=$1 added
    [ -x "$venv/bin/python" ] || return 0
    distributions "$new" >"$new/.distributions"
    mapfile -t added < <(distributions "$venv" | grep -vF -f <(sed 's/==.*/==/' "$new/.distributions") || true)
    [ ${#added[@]} = 0 ] || pip --python "$new/bin/python" install --constraint "$new/.distributions" "${added[@]}" || {
        echo "pg_envelope: these packages do not fit the new version: ${added[*]}" >&2
        echo "Remove them from the venv $venv, or install them as extras: make install EXTRAS=\"...\"" >&2
        return 1
    }
}

# From the build in use when only the project's own sources changed, which needs no network; otherwise from nothing.
fill() {
    local new=$1 wheel chosen
    if same "$venv/.needs" "$(needs_hash)"; then
        cp -al "$(readlink -f "$venv")/." "$new/"
        rm -f "$new"/.sources
        { grep -rlI "^#!$(readlink -f "$venv")/" "$new/bin" || true; } | xargs -r sed -i "1s|^#!.*/bin/|#!$new/bin/|"
        wheel=$(build_wheel "$new")
        pip --python "$new/bin/python" install --no-deps --force-reinstall "$wheel"
    else
        "$python" -m venv --without-pip "$new"
        wheel=$(build_wheel "$new")
        chosen=$(extras | paste -sd, -)
        pip --python "$new/bin/python" install "${wheel}[all${chosen:+,$chosen}]"
        carry_over "$new"
        extras >"$new/.extras"
        needs_hash >"$new/.needs"
    fi
    rm -rf "$new/.wheel"
    sources_hash >"$new/.sources"
}

# What a session, the broker and the command load, in the venv as it is.
check() {
    "$1/bin/python" -I -c 'import pg_envelope.backend.session, pg_envelope.broker.app, pg_envelope_client.cli'
    "$1/bin/pg-envelope" --help >/dev/null
}

build() {
    mkdir -p "$builds"
    new=$(mktemp -d "$builds/XXXXXXXX")
    chmod 755 "$new"
    fill "$new"
    check "$new"
}

# A link of this name, in one step.
point() { ln -sfn "$1" "$2.new" && mv -fT "$2.new" "$2"; }

switch() {
    [ ! -L "$venv" ] || point "$(build_of "$venv")" "$builds/before"
    if [ -d "$venv" ] && [ ! -L "$venv" ]; then
        ln -sfn "${builds##*/}/${new##*/}" "$venv.new"
        exchange "$venv.new" "$venv"
    else
        point "${builds##*/}/${new##*/}" "$venv"
    fi
}

# A folder of its own, as earlier versions made it: `mv` cannot put a link in its place.
exchange() {
    "$python" -Ic 'import ctypes, os, sys
HERE, EXCHANGE = -100, 2
one, other = map(os.fsencode, sys.argv[1:])
if ctypes.CDLL(None, use_errno=True).renameat2(HERE, one, HERE, other, EXCHANGE):
    sys.exit(os.strerror(ctypes.get_errno()))' "$@"
}

reload() { [ ! -d /run/systemd/system ] || [ "$(id -u)" != 0 ] || systemctl daemon-reload; }

install_all() {
    ! up_to_date || return 0
    need_write install
    exec 9>"${venv}.lock"
    flock 9
    ! up_to_date || return 0
    echo "Installing the extension into $("$pg_config" --version) ..."
    sweep
    trap clean_up EXIT
    unfinished=1
    stage_all
    built || build
    unfinished=
    [ -z "$new" ] || switch
    put_all
    sweep
    reload
}

warn() {
    cat >&2 <<TEXT
pg_envelope: from now on no session of $("$pg_config" --version) can read or write a protected table, in any database.
Before you uninstall, CALL envelope.unprotect(...) for each table of envelope.columns, in each database that has the
extension. Nothing else is removed: ciphertext and the key catalog stay in the databases, and configuration, ledger and
audit log in /etc/pg_envelope, /var/lib/pg_envelope and /var/log/pg_envelope. Keys stay in the KMS.
TEXT
}

uninstall_all() {
    local file
    need_write uninstall
    warn
    [ -n "${YES:-}" ] || { echo "To do it: make uninstall YES=1" >&2; exit 1; }
    sweep
    rm -f "$scripts"/pg_envelope--*.sql "$scripts/pg_envelope.control" "${venv}.lock"
    [ "$(readlink "$command")" != "$venv/bin/pg-envelope" ] || rm -f "$command"
    for file in deploy/systemd/*; do
        rm -f "$units/${file##*/}"
    done
    rm -rf "$venv" "$builds"
}

case ${1:-} in
install) install_all ;;
uninstall) uninstall_all ;;
*)
    echo "usage: $0 install|uninstall" >&2
    exit 2
    ;;
esac
