#!/usr/bin/env bash
# Puts into a folder what `make test-kernel` boots and this machine need not have installed:
#
#   deploy/debian/vm-parts.sh FOLDER        (root; a few seconds, 70 MB to fetch, 410 MB on disk)
#
#   boot/, lib/modules/   Debian's newest kernel, with its modules
#   bin/busybox           a static one, for the initramfs
#   apparmor/             apparmor_parser, and the abstractions that Debian's profiles include
#
# They come as packages from apt's mirror and are unpacked, not installed: no other kernel boots next, and no profile is
# enforced on this machine because of a test. The folder is whole or absent: it is made as FOLDER.part.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # of root's: `su` alone leaves them out

folder=$1 part=$1.part

cannot() {
    echo "no virtual machine for make test-kernel: $1" >&2
    exit 1
}

[ ! -e "$folder/boot" ] || exit 0
[ "$(id -u)" -eq 0 ] || cannot "run it as root: apt-get update and apt-get download need it"
[ "$(dpkg --print-architecture)" = amd64 ] || cannot "this machine is not amd64"

apt-get update -qq || cannot "apt-get update failed; see to apt's sources and the network"
kernel=$(apt-cache depends --important linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*-amd64\)$/\1/p' | head -n 1)
[ -n "$kernel" ] || cannot "apt knows no linux-image-amd64; its sources must hold Debian's main"

trap 'rm -rf "$part"' EXIT
rm -rf "$part"
mkdir -p "$part/packages" "$part/bin" "$part/apparmor"
echo "putting $kernel, busybox-static and apparmor into $folder (unpacked, not installed)"
(
    cd "$part/packages"
    apt-get download -qq -o APT::Sandbox::User=root "$kernel" busybox-static apparmor
) || cannot "apt-get download failed; see to the network"
dpkg-deb -x "$part"/packages/linux-image-*.deb "$part"
dpkg-deb -x "$part"/packages/apparmor_*.deb "$part/apparmor"
dpkg-deb --fsys-tarfile "$part"/packages/busybox-static_*.deb | tar -C "$part" -xf - ./bin/busybox
rm -r "$part/packages" "$part/usr"
depmod -b "$part" "${kernel#linux-image-}"
mv -T "$part" "$folder"
