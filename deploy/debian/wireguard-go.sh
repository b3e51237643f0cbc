#!/usr/bin/env bash
# Puts the wireguard-go of Debian sid into a folder, for `make bench ONLY=tunnel`:
#
#   deploy/debian/wireguard-go.sh FOLDER        (5 s and 10 MB)
#
# The package is unpacked, not installed: it is one static program. apt looks it up with lists of its own below FOLDER. Where it
# cannot be had, one line says why, and the exit code is 1.
set -euo pipefail

mkdir -p "$(dirname "$1")"
folder=$(realpath "$(dirname "$1")")/$(basename "$1")
cannot() {
    echo "no wireguard-go of Debian sid: $1" >&2
    exit 1
}
. "$(dirname "$0")/debootstrap.sh"

[ -x "$folder/usr/bin/wireguard-go" ] && exit 0
mirror=$(mirror_of_apt)
[ -n "$mirror" ] || { apt-get update -qq && mirror=$(mirror_of_apt); } || cannot "apt-get update failed"
[ -n "$mirror" ] || cannot "apt is configured with no Debian mirror"
part=$folder.part
trap 'rm -rf --one-file-system "$part"' EXIT
mkdir -p "$part"/lists/partial "$part"/cache/archives/partial "$part"/etc
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $mirror sid main" > "$part/etc/sources.list"
part=$(realpath "$part")
own=(-o "Dir::Etc::sourcelist=$part/etc/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$part/lists"
    -o "Dir::Cache=$part/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none)
apt-get "${own[@]}" update -qq > "$folder.log" 2>&1 || cannot "apt-get update: $(tail -n 1 "$folder.log")"
(cd "$part" && apt-get "${own[@]}" download wireguard-go >> "$folder.log" 2>&1) || cannot "apt-get download: $(tail -n 1 "$folder.log")"
mkdir "$part/unpacked"
dpkg-deb --extract "$part"/wireguard-go_*.deb "$part/unpacked"
rm -rf "$folder"
mv -T "$part/unpacked" "$folder"
echo "$folder: $("$folder/usr/bin/wireguard-go" --version | head -n 1)"
