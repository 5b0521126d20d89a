#!/bin/bash
# Installs the package into a copy of this machine's root that is thrown away, and uses it: units, service, completions,
# man pages, log rotation, upgrade, removal, purge. The copy is an overlay in a mount namespace; needs root.
#   installed.sh PACKAGE.deb FOLDER-WITH-THIS-FILE
set -euo pipefail
package=$(realpath "$1")
here=$(realpath "$2")

if [ "${3:-}" != inside ]; then
    exec unshare --mount --net --pid --fork --propagation private -- "$0" "$package" "$here" inside
fi
# a network of its own: the ports of the default configuration are free there
ip link set lo up
work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
mkdir "$work"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
mount -t proc proc "$work/root/proc"
mount --bind /dev "$work/root/dev"
mount -t tmpfs tmpfs "$work/root/run"
mount -t tmpfs tmpfs "$work/root/tmp"
mkdir "$work/root/tmp/check"
cp "$package" "$here"/service.py "$here"/installed-inside.sh "$work/root/tmp/check/"
exec chroot "$work/root" /bin/bash /tmp/check/installed-inside.sh "/tmp/check/$(basename "$package")"
