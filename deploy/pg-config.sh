#!/bin/sh
# Prints the path of the pg_config of the server to use: the newest Debian server (15 or later) that has PL/Python,
# else the newest without, else the pg_config in PATH. Ends with 1 when there is none.
set -eu

if [ -n "${PG_CONFIG:-}" ]; then
    command -v "$PG_CONFIG"
    exit
fi

newest=
newest_with_python=
for root in $(ls -d /usr/lib/postgresql/* 2>/dev/null | sort -V); do
    case ${root##*/} in *[!0-9]*) continue ;; esac
    [ "${root##*/}" -ge 15 ] && [ -x "$root/bin/postgres" ] && [ -x "$root/bin/pg_config" ] || continue
    newest=$root/bin/pg_config
    [ -e "$root/lib/plpython3.so" ] && newest_with_python=$newest
done

if [ -n "$newest" ]; then
    echo "${newest_with_python:-$newest}"
else
    command -v pg_config
fi
