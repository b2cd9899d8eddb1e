#!/bin/bash
# Runs a make target on a fresh Debian with nothing but git and make, in a chroot that is removed afterwards:
#     try-fresh.sh [--suite NAME] [--worktree] [--keep] [--as-user] DIR TARGET...
#     try-fresh.sh [--suite NAME] [--worktree] [--keep] --script FILE DIR    a script of the sources instead of a target
# NAME is a release of Debian: bookworm, unless another one is named. The chroot is made in DIR/root-NAME; DIR/NAME.tar
# keeps the bare system for the next time. HEAD is tried, or with --worktree the files as they are now. With --as-user the
# last step runs as an unprivileged user, after root's `make install`.
set -euo pipefail

suite=bookworm source=head keep="" user="" script=""
while [[ ${1:-} == --* ]]; do
    case $1 in
    --suite) suite=$2; shift ;;
    --worktree) source=worktree ;;
    --keep) keep=1 ;;
    --as-user) user=1 ;;
    --script) script=$2; shift ;;
    *) break ;;
    esac
    shift
done
[ -z "$script" ] || set -- "$@" script
if [ $# -lt 2 ] || [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
    sed -n '2,7s/^# //p' "$0" >&2
    echo "It needs root, and debootstrap (apt-get install debootstrap)." >&2
    exit 2
fi

repository=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
place=$(cd "$1" && pwd)
root=$place/root-$suite
base=$place/$suite.tar
shift

# The mirror of this machine's own sources, in the old or the new form.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
        sed -nE 's|^deb (\[.*\] )?(https?://[^ ]+/debian/?) .*|\2|p; s|^URIs: *([^ ]+/debian/?) *$|\1|p' | head -1
}

make_base() {
    [ ! -s "$base" ] || return 0
    echo "Making a bare Debian $suite ..."
    # The steps of `sid` are those of every release, also of one that is younger than this machine's debootstrap.
    debootstrap --variant=minbase --include=git,make "$suite" "$root" "$(mirror)" sid >"$place/$suite.log" 2>&1 ||
        { tail -20 "$place/$suite.log" >&2; exit 1; }
    tar -C "$root" -cf "$base.new" . && mv "$base.new" "$base"
    rm -rf "$root"
}

# The root is a mount of its own, and private: what a trial mounts below it stays there.
mount_all() {
    mount --bind "$root" "$root"
    mount --make-private "$root"
    mkdir -p "$root/proc" "$root/dev" "$root/sys"
    mount -t proc proc "$root/proc"
    mount -t tmpfs -o mode=755 dev "$root/dev"
    for node in null zero full random urandom tty; do
        touch "$root/dev/$node"
        mount --bind "/dev/$node" "$root/dev/$node"
    done
    mkdir "$root/dev/shm"
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
    ln -s /proc/self/fd "$root/dev/fd"
    # A terminal that asks for a password.
    mkdir "$root/dev/pts"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
}

# Ends what the trial left running, by its root folder, and then unmounts: never the other way round.
clean_up() {
    local process
    for process in /proc/[0-9]*; do
        case $(readlink "$process/root" 2>/dev/null) in
        "$root" | "$root"/*) kill -9 "${process#/proc/}" 2>/dev/null || true ;;
        esac
    done
    sleep 0.2
    awk -v root="$root" '$2 == root || index($2, root "/") == 1 { print $2 }' /proc/mounts | sort -r | xargs -r -n1 umount
    [ -n "$keep" ] || rm -rf --one-file-system "$root"
}

copy_sources() {
    mkdir -p "$root/root/pg_envelope"
    if [ "$source" = head ]; then
        git clone --quiet "$repository" "$root/root/pg_envelope"
    else
        git -C "$repository" ls-files -z --cached --others --exclude-standard |
            (cd "$repository" && xargs -0 -I{} sh -c '[ ! -e "$1" ] || printf "%s\0" "$1"' - {}) |
            tar -C "$repository" --null -T - -c | tar -C "$root/root/pg_envelope" -x
    fi
}

inside() {
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        "${settings[@]}" "$@"
}

# How this machine reaches its package index; the certificates under another name than Debian's, whose package writes its own.
settings=()
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL http_proxy https_proxy no_proxy; do
    [ -z "${!name:-}" ] || settings+=("$name=${!name}")
done
certificates=/etc/ssl/certs/ca-certificates.crt
[ ! -s "$certificates" ] || settings+=("PIP_CERT=/etc/trial.pem")

if [ -e "$root" ]; then
    echo "try-fresh.sh: $root exists; remove it first" >&2
    exit 1
fi
trap clean_up EXIT
make_base
mkdir "$root"
tar -C "$root" -xf "$base"
mount_all
cp /etc/resolv.conf "$root/etc/resolv.conf"
[ ! -s "$certificates" ] || cp "$certificates" "$root/etc/trial.pem"
copy_sources
if [ -n "$script" ]; then
    inside "/root/pg_envelope/$script"
elif [ -n "$user" ]; then
    inside make -C /root/pg_envelope install
    inside useradd --create-home trial
    inside cp -a /root/pg_envelope /home/trial/
    inside chown -R trial: /home/trial/pg_envelope
    inside setpriv --reuid trial --regid trial --clear-groups env HOME=/home/trial make -C /home/trial/pg_envelope "$@"
else
    inside make -C /root/pg_envelope "$@"
fi
