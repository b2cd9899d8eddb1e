#!/bin/bash
# Finds what this machine lacks to build, install and run pg_envelope. As root on Debian it installs that with apt-get;
# elsewhere it prints the list with the commands, and ends with 1. With nothing missing it says nothing.
set -euo pipefail
umask 022

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-/usr/bin/python3}
log=$(mktemp /tmp/pg_envelope-install.XXXXXX)
trap 'rm -f "$log"' EXIT

fail() {
    printf 'pg_envelope: %s\n' "$@" >&2
    exit 1
}

# One line for each thing that is missing: a word for the package, a tab, what it is.
missing() {
    missing_server
    "$python" -c 'import ensurepip, venv' 2>/dev/null || printf 'python3-venv\tPython 3.11 or later with venv, as %s\n' "$python"
    [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -d /etc/pki ] || printf 'ca-certificates\tCA certificates\n'
    [ -z "${FOR_TESTS:-}" ] || ! can_install || missing_for_tests
    # Only PostgreSQL's package makes this user; a server cannot run as root.
    [ "$(id -u)" != 0 ] || id postgres >/dev/null 2>&1 || [ ! -f /etc/debian_version ] || printf 'postgresql-common\tthe user postgres\n'
}

# Peers that tests run against; without them those tests skip.
missing_for_tests() {
    command -v softhsm2-util >/dev/null || printf 'softhsm2\tSoftHSM2, for tests\n'
    [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || printf 'pgbouncer\tpgbouncer, for tests\n'
    command -v redis-server >/dev/null || printf 'redis-server\tRedis, for tests\n'
    command -v gpg >/dev/null || printf 'gnupg\tGnuPG, for tests\n'
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || printf 'libfaketime\tlibfaketime, for tests\n'
}

missing_server() {
    local pg_config
    if ! pg_config=$("$here/pg-config.sh") || [ ! -x "$("$pg_config" --bindir)/postgres" ]; then
        printf 'postgresql\tPostgreSQL 15 or later, the server\n'
        printf 'postgresql-plpython3\tPL/Python 3 for that server\n'
    elif [ ! -e "$("$pg_config" --pkglibdir)/plpython3.so" ]; then
        printf 'postgresql-plpython3-%s\tPL/Python 3 for %s\n' "$(major "$pg_config")" "$pg_config"
    fi
}

major() {
    "$1" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/'
}

can_install() {
    [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null
}

explain() {
    echo "pg_envelope needs, and this machine lacks:"
    cut -f2 <<<"$1" | sed 's/^/  - /'
    if [ -f /etc/debian_version ]; then
        echo "As root:  $0"
        echo "or:       apt-get update && apt-get install -y $(debian_names "$1" | xargs)"
    else
        echo "Fedora:   dnf install postgresql-server postgresql-plpython3 python3 ca-certificates"
        echo "Others:   install PostgreSQL with PL/Python from https://www.postgresql.org/download/,"
        echo "          then set PG_CONFIG=/path/to/pg_config and PYTHON=/path/to/the/python3 that PL/Python was built with."
    fi
}

# The packages' real names: a new server is the newest one for which the distribution has PL/Python.
debian_names() {
    local version
    version=$(apt-cache pkgnames postgresql-plpython3- 2>/dev/null | sed 's/.*-//' | sort -n | tail -1)
    cut -f1 <<<"$1" | sed -E "s/^(postgresql|postgresql-plpython3)\$/\1-${version:-15}/"
}

# Debian's package would make and start a cluster "main". Nobody asked for one here.
keep_from_making_a_cluster() {
    local file=/etc/postgresql-common/createcluster.conf
    [ ! -e "$file" ] || return 0
    mkdir -p "${file%/*}"
    printf '%s\n' '# pg_envelope: no cluster is made when the package is installed' 'create_main_cluster = false' >"$file"
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=120 \
        "$@" >"$log" 2>&1 </dev/null
}

refresh() {
    echo "Refreshing the list of Debian packages ..."
    apt update || { cat "$log" >&2; fail "apt-get update failed"; }
}

install_packages() {
    local names
    # Without lists apt knows no package at all.
    apt-cache pkgnames postgresql-plpython3- 2>/dev/null | grep -q . || refresh
    mapfile -t names < <(debian_names "$1")
    keep_from_making_a_cluster
    echo "Installing ${names[*]} ..."
    apt install -y --no-install-recommends "${names[@]}" && return
    # A list that is too old names files that the mirror has no longer.
    refresh
    apt install -y --no-install-recommends "${names[@]}" || { cat "$log" >&2; fail "apt-get install ${names[*]} failed"; }
}

check_versions() {
    local pg_config embedded own
    pg_config=$("$here/pg-config.sh")
    [ "$(major "$pg_config")" -ge 15 ] || fail "$pg_config is of PostgreSQL $(major "$pg_config"); 15 or later is needed (set PG_CONFIG)"
    own=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ "${own#*.}" -ge 11 ] || fail "$python is Python $own; 3.11 or later is needed (set PYTHON)"
    embedded=$(ldd "$("$pg_config" --pkglibdir)/plpython3.so" | sed -nE 's/.*libpython(3\.[0-9]+).*/\1/p' | head -1)
    [ -z "$embedded" ] || [ "$embedded" = "$own" ] ||
        fail "PL/Python of $pg_config runs Python $embedded, but $python is $own" "set PYTHON to a Python $embedded"
}

if [ -n "${PG_CONFIG:-}" ] && ! command -v "$PG_CONFIG" >/dev/null; then
    fail "there is no PG_CONFIG=$PG_CONFIG"
fi
list=$(missing)
if [ -n "$list" ]; then
    can_install || { explain "$list" >&2; exit 1; }
    install_packages "$list"
    list=$(missing)
    [ -z "$list" ] || { explain "$list" >&2; exit 1; }
fi
check_versions
