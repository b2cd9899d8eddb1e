#!/bin/bash
# Gets OpenSSL's FIPS provider for tests: fips.sh DIR makes DIR/fips.so, and DIR/fips.cnf by fipsinstall. Debian 12 does
# not have the provider. It comes from Debian 13 by apt, which checks it, and is unpacked and not installed. build/ keeps it.
set -euo pipefail

mkdir -p "$1"
place=$(cd "$1" && pwd)
kept=$(cd "$(dirname "$0")/.." && pwd)/build/fips.so

mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
        sed -nE 's|^deb (\[.*\] )?(https?://[^ ]+/debian/?) .*|\2|p; s|^URIs: *([^ ]+/debian/?) *$|\1|p' | head -1
}

fetch() {
    local draft
    draft=$(mktemp -d /tmp/pg_envelope-fips.XXXXXX)
    trap "rm -rf '$draft'" EXIT
    chmod 755 "$draft"
    mkdir -p "$draft"/{lists/partial,cache/archives/partial,files}
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) trixie main" >"$draft/sources.list"
    local own=(-qq -o Dir::Etc::sourcelist="$draft/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::State::lists="$draft/lists" -o Dir::Cache="$draft/cache" -o APT::Sandbox::User=root
        -o Acquire::Languages=none)
    apt-get "${own[@]}" update
    (cd "$draft" && apt-get "${own[@]}" download openssl-provider-fips)
    dpkg-deb -x "$draft"/openssl-provider-fips_*.deb "$draft/files"
    mkdir -p "${kept%/*}"
    cp "$draft"/files/usr/lib/*/ossl-modules/fips.so "$kept.$$"
    mv "$kept.$$" "$kept"
}

installed=$(compgen -G '/usr/lib/*/ossl-modules/fips.so' | head -1 || true)
[ -n "$installed" ] || [ -s "$kept" ] || fetch
cp "${installed:-$kept}" "$place/fips.so"
openssl fipsinstall -quiet -module "$place/fips.so" -out "$place/fips.cnf.new"
echo "module = $place/fips.so" >>"$place/fips.cnf.new"
mv "$place/fips.cnf.new" "$place/fips.cnf"
