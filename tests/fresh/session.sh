#!/bin/bash
# On a fresh Debian 12, in a chroot, as root: follows README's "Install on a server" to the letter, and then what
# docs/install.md says about other set-ups. Ends with 0 when all of it works. Started by `make fresh`.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/fresh
umask 077 # a careful administrator's

say() { printf '\n=== %s\n' "$*"; }
fail() { say "FAILED: $*"; tail -20 /run/unit/*.log 2>/dev/null; exit 1; }
readme() { sed -n '/^## Install on a server/,/^## /s/^    //p' README.md | sed 's/ *# .*//'; }
sql() { (cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d mydb -c "$1" </dev/null); }
unit() { cat >"/etc/systemd/system/pg-envelope-broker.service.d/$1.conf"; }
answers() { sql "SELECT state FROM envelope.status() WHERE check_name = 'broker'" | grep -qx ok; }
wait_for_broker() {
    for _ in $(seq 40); do answers && return; sleep 0.2; done
    fail "the broker does not answer"
}
begin() { systemctl start pg-envelope-broker; wait_for_broker; }
finish() { systemctl stop pg-envelope-broker; }
loopback() { /usr/bin/python3 -c 'import fcntl, socket, struct
with socket.socket() as s: fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 1))'; }

# With a network of its own, no port is somebody else's. What is fetched is fetched before.
if [ "${1:-}" != alone ]; then
    say "A Debian server with PostgreSQL, and what this trial needs"
    apt-get -qq update && apt-get -qq install -y --no-install-recommends postgresql systemd python3-seccomp softhsm2 \
        opensc logrotate >/dev/null 2>&1
    install -m 755 "$here/systemctl" /usr/local/sbin/systemctl
    mkdir -p /etc/systemd/system/pg-envelope-broker.service.d
    say "README: make install"
    readme | grep -qx 'make install' || fail "README does not say make install"
    make install
    make -s .venv/.stack
    make install EXTRAS=pkcs11
    echo "127.0.0.1 localhost vault.example" >/etc/hosts
    exec unshare --net -- "$here/session.sh" alone
fi
loopback
# The service has a root of its own, by which nobody else would find it.
trap 'kill "$(cat /run/unit/pg-envelope-broker)" 2>/dev/null || true; pg_ctlcluster --force 15 main stop || true' EXIT
pg_ctlcluster 15 main start
runuser -u postgres -- createdb mydb
.venv/bin/python -m "tests.fresh.kms"
systemd-analyze verify /usr/local/lib/systemd/system/pg-envelope-*.{service,timer} || fail "the units are not valid"

say "README, the rest"
while read -r line; do
    printf '# %s\n' "$line"
    case $line in
    *status*) wait_for_broker ;;
    esac
    bash -c "$line" </dev/null || fail "$line"
done < <(readme)

say "A protected table"
wait_for_broker
sql "CREATE TABLE t (id int PRIMARY KEY, email text); INSERT INTO t VALUES (1, 'ada@example.org')"
sql "CALL envelope.protect('t', '[\"email\"]')"
[ "$(sql 'SELECT email FROM t')" = ada@example.org ] || fail "the value is not read back"
sql "SELECT envelope.rotate('t')"
sql "CALL envelope.rotate_kek('default')"
sql "SELECT check_name, state, detail FROM envelope.status() WHERE state <> 'ok'" | grep . && fail "status is not ok"
[ "$(stat -c '%U:%G %a' /run/pg_envelope/broker.sock)" = "pg-envelope:postgres 660" ] || fail "owner of the socket"

say "--check beside it, and a new start"
pg-envelope broker --check --config /etc/pg_envelope/broker.toml
finish
pg-envelope broker --check --config /etc/pg_envelope/broker.toml
begin
[ "$(sql 'SELECT email FROM t')" = ada@example.org ] || fail "the value is not read after a new start"

say "init once more, also after somebody gave the folder away"
finish
chown -R pg-envelope: /etc/pg_envelope
readme | grep init | bash
begin
[ "$(sql 'SELECT email FROM t')" = ada@example.org ] || fail "the value is not read after a second init"

say "docs/logrotate.md"
finish
sed -i '/^\[broker\]/a audit_log = "/var/log/pg_envelope/audit.log"' /etc/pg_envelope/broker.toml
sed -n '/^    \/var\/log/,/^    }/s/^    //p' docs/logrotate.md >/etc/logrotate.d/pg-envelope
chmod 644 /etc/logrotate.d/pg-envelope
begin
logrotate --force /etc/logrotate.d/pg-envelope
sleep 1
sql "SELECT envelope.flush('into the new file')"
grep -q 'into the new file' /var/log/pg_envelope/audit.log || fail "no event after the rotation of the log"
grep -q '"started"' /var/log/pg_envelope/audit.log.1 || fail "the old log is gone"
[ "$(stat -c '%U %a' /var/log/pg_envelope/audit.log)" = "pg-envelope 600" ] || fail "owner of the new log"

say "Rotation by schedule, as the timer's unit runs it"
(cd / && runuser -u postgres -- env PGDATABASE=mydb pg-envelope rotate --due)

say "socket_group"
finish
groupadd readers
sed -i '/^\[broker\]/a socket_group = "readers"' /etc/pg_envelope/broker.toml
! pg-envelope broker --check --config /etc/pg_envelope/broker.toml >/tmp/check || fail "--check finds nothing"
grep -q socket_group /tmp/check || fail "--check does not name socket_group"
unit group <<<$'[Service]\nSupplementaryGroups=readers'
usermod --append --groups readers pg-envelope
usermod --append --groups readers postgres
pg_ctlcluster 15 main restart
begin
[ "$(stat -c %G /run/pg_envelope/broker.sock)" = readers ] || fail "group of the socket"
finish
sed -i '/^socket_group/d' /etc/pg_envelope/broker.toml
rm /etc/systemd/system/pg-envelope-broker.service.d/group.conf

say "Credentials"
chown root: /etc/pg_envelope/role_id /etc/pg_envelope/secret_id
unit credentials <<<$'[Service]\nLoadCredential=role_id:/etc/pg_envelope/role_id\nLoadCredential=secret_id:/etc/pg_envelope/secret_id'
sed -i -E 's|"/etc/pg_envelope/(role_id\|secret_id)"|"/run/credentials/pg-envelope-broker.service/\1"|g' /etc/pg_envelope/broker.toml
begin
sql "SELECT envelope.flush('all from the KMS')"
[ "$(sql 'SELECT email FROM t')" = ada@example.org ] || fail "the value is not read with credentials"
finish
rm /etc/systemd/system/pg-envelope-broker.service.d/credentials.conf

say "A keyring"
mv /etc/pg_envelope /etc/pg_envelope.vault
mkdir -m 711 /etc/pg_envelope
openssl rand -base64 32 >/etc/pg_envelope/passphrase
pg-envelope init --service --out /etc/pg_envelope --kek local --keyring /var/lib/pg_envelope/keyring \
    --passphrase-file /etc/pg_envelope/passphrase
pg-envelope broker --check --config /etc/pg_envelope/broker.toml
begin
sql "SELECT envelope.create_key('k', kek => 'local')"
sql "CALL envelope.rotate_kek('local')"
finish

say "SoftHSM"
export SOFTHSM2_CONF=/var/lib/pg_envelope/softhsm2.conf
as_broker() { runuser -u pg-envelope -- "$@"; }
as_broker mkdir -m 700 /var/lib/pg_envelope/tokens
as_broker sh -c 'printf "directories.tokendir = /var/lib/pg_envelope/tokens\n" >$SOFTHSM2_CONF'
as_broker softhsm2-util --init-token --free --label pg-envelope --so-pin 12345678 --pin 87654321
as_broker pkcs11-tool --module /usr/lib/softhsm/libsofthsm2.so --token-label pg-envelope --login --pin 87654321 \
    --keygen --key-type aes:32 --label app --id 00000001 --sensitive --usage-decrypt
echo 87654321 >/etc/pg_envelope/pin
chown pg-envelope /etc/pg_envelope/pin
unit softhsm <<<$'[Service]\nEnvironment=SOFTHSM2_CONF=/var/lib/pg_envelope/softhsm2.conf'
cat >>/etc/pg_envelope/broker.toml <<'TOML'

[kms.hsm]
provider = "pkcs11"
module = "/usr/lib/softhsm/libsofthsm2.so"
token = "pg-envelope"
pin_file = "/etc/pg_envelope/pin"

[kek.hsm]
kms = "hsm"
key = "app"
TOML
begin
sql "SELECT envelope.create_key('h', kek => 'hsm')"
sql "CALL envelope.rotate_kek('hsm')"
finish

say "All of it works"
