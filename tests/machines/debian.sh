#!/usr/bin/env bash
# A fresh Debian in a folder, and a command run there by an ordinary user in a clone of this repository.
#
#   tests/machines/debian.sh [--suite SUITE] [--arch ARCH] [--carry FOLDER] 'PACKAGE...' 'COMMAND'
#
# Needs root and debootstrap, and for another architecture qemu-user-static. Packages come from where they
# come from here: mirror, proxy, certificates and pip's configuration are carried over. What is committed is
# cloned. Afterwards nothing of it is left. On another architecture packages are unpacked and not configured:
# under emulation their scripts take longer than everything else. FOLDER comes to lie in the user's home.
set -euo pipefail

usage() { sed -n 's/^# \{0,1\}//; 2,10p' "$0" >&2; exit 64; }

suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
arch=$(dpkg --print-architecture)
folder='' arguments=("$@")
while [[ ${1:-} == --* ]]; do
    case $1 in
    --suite) suite=$2 ;;
    --arch) arch=$2 ;;
    --carry) folder=$2 ;;
    *) usage ;;
    esac
    shift 2
done
[ $# = 2 ] || usage
packages=$1 command=$2
project=$(cd "$(dirname "$0")/../.." && pwd)
home=/home/colo uid=1000

# Everything below is mounted in a namespace of its own: when that ends, the folder can be removed safely.
if [ -z "${DEBIAN_ROOT:-}" ]; then
    DEBIAN_ROOT=$(mktemp -d -p /var/tmp debian.XXXXXX)
    export DEBIAN_ROOT
    trap 'grep -q " $DEBIAN_ROOT/" /proc/self/mountinfo || rm -rf --one-file-system "$DEBIAN_ROOT"' EXIT
    chmod 755 "$DEBIAN_ROOT"
    unshare --mount --propagation private "$0" "${arguments[@]}"
    exit
fi
root=$DEBIAN_ROOT

inside() { chroot "$root" env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${carried[@]}" "$@"; }

# What tells programs where to fetch from and whom to trust.
mapfile -d '' -t carried < <(env -0 | grep -zEi '^(pip_|ssl_cert|curl_ca|requests_ca|(http|https|ftp|no)_proxy)')
carried+=(LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive)

is_foreign() { [ "$arch" != "$(dpkg --print-architecture)" ]; }

run_foreign_programs() { # have the kernel hand them to qemu, unless it does already
    local machine=${arch/arm64/aarch64} registry=/proc/sys/fs/binfmt_misc
    [ -e $registry/register ] || mount -t binfmt_misc binfmt_misc $registry
    [ -e "$registry/qemu-$machine" ] && return
    # F: qemu is opened now, from here, so that it need not be in the folder.
    sed "s#[^:]*:[A-Z]*\$#$(command -v "qemu-$machine-static"):F#" "/usr/lib/binfmt.d/qemu-$machine.conf" >$registry/register
    trap 'echo -1 >'"$registry/qemu-$machine" EXIT
}

bootstrap() {
    local mirror proxy package
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "${proxy:-}" ] || export http_proxy=$proxy
    if is_foreign; then
        debootstrap --foreign --variant=minbase --arch="$arch" --include="${packages// /,}" "$suite" "$root" "$mirror"
        for package in "$root"/var/cache/apt/archives/*.deb; do
            dpkg-deb -x "$package" "$root"
        done
        cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
        cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    else
        debootstrap --variant=minbase --arch="$arch" --include=ca-certificates "$suite" "$root" "$mirror"
    fi
}

carry_over() { # whom to trust, apt's and pip's configuration, and the places that these speak of
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    apt-config dump | grep -E '^Acquire::(Check|http)' >"$root/etc/apt/apt.conf.d/90carried" || true
    local file place said=("${carried[@]}")
    for file in /etc/pip.conf /etc/xdg/pip/pip.conf ~/.config/pip/pip.conf ~/.pip/pip.conf; do
        [ -f "$file" ] || continue
        install -D -m 644 "$file" "$root${file/#~/$home}"
        said+=("$(cat "$file")")
    done
    grep -oE '(file://)?/[^ "=]+' <<<"${said[*]}" | sed 's#^file://##' | sort -u | while read -r place; do
        if [ -e "$root$place" ]; then
            continue
        elif [ -d "$place" ]; then
            mkdir -p "$root$place" && mount --bind -o ro "$place" "$root$place"
        elif [ -f "$place" ]; then
            install -D -m 644 "$place" "$root$place"
        fi
    done
}

if is_foreign; then run_foreign_programs; fi
bootstrap
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
carry_over
if ! is_foreign; then
    inside apt-get update -qq
    # shellcheck disable=SC2086  # a list
    inside apt-get install -y -qq $packages
fi
echo "colo:x:$uid:$uid::$home:/bin/bash" >>"$root/etc/passwd"
echo "colo:x:$uid:" >>"$root/etc/group"
mkdir -p "$root$home"
git clone -q "$project" "$root$home/colo-flush"
[ -z "$folder" ] || cp -r "$folder" "$root$home"
chown -R $uid:$uid "$root$home"
carried+=(HOME=$home)
inside setpriv --reuid=$uid --regid=$uid --clear-groups bash -euc "cd ~/colo-flush; $command"
