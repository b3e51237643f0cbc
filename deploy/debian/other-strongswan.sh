#!/usr/bin/env bash
# Puts the strongSwan of another Debian release into a folder of its own, for `make test-all`:
#
#   deploy/debian/other-strongswan.sh SUITE FOLDER        (trixie, sid; root; about 30 s and 260 MB each)
#
# It comes by debootstrap from the mirror that this machine's apt is configured with. Nothing else of the machine changes,
# but that the package debootstrap is installed where it is missing. The folder is whole or absent: it is made as
# FOLDER.part, in a mount namespace of its own so that no mount outlives this script. Where it cannot be had, one line says
# why, here and in FOLDER.reason (the tests that wanted it are skipped with that line), and the exit code is 1.
set -euo pipefail

suite=$1 folder=$2 part=$2.part reason=$2.reason
packages=strongswan-charon,strongswan-swanctl,libcharon-extra-plugins,libcharon-extauth-plugins
packages+=,libstrongswan-extra-plugins,libstrongswan-standard-plugins

cannot() {
    echo "no strongSwan of Debian $suite: $1" | tee "$reason" >&2
    exit 1
}
version() { dpkg-query --admindir="$folder/var/lib/dpkg" -W -f '${Version}' strongswan-charon; }

mkdir -p "$(dirname "$folder")"
if [ -x "$folder/usr/lib/ipsec/charon" ]; then
    rm -f "$reason"
    echo "$folder: strongSwan $(version) of Debian $suite (remove the folder for a newer one)"
    exit 0
fi
[ "$(id -u)" -eq 0 ] || cannot "debootstrap needs root"

export DEBIAN_FRONTEND=noninteractive
if ! command -v debootstrap >/dev/null; then
    echo "installing the Debian package debootstrap"
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends debootstrap >/dev/null; } ||
        cannot "the package debootstrap cannot be installed"
fi

# What apt itself calls the mirror: no format of a sources file to know. It knows the label once it has read the Release.
mirror_of_apt() { apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' 'Component: main' | sort -u | head -n 1; }
mirror=$(mirror_of_apt)
if [ -z "$mirror" ]; then
    apt-get update -qq || cannot "apt-get update failed"
    mirror=$(mirror_of_apt)
fi
[ -n "$mirror" ] || cannot "apt is configured with no Debian mirror"

trap 'rm -rf --one-file-system "$part"' EXIT
rm -rf --one-file-system "$part"
echo "putting the strongSwan of Debian $suite into $folder (debootstrap, from apt's mirror)"
unshare --mount --propagation private debootstrap --variant=minbase --include="$packages" "$suite" "$part" "$mirror" \
    > "$folder.log" 2>&1 || cannot "debootstrap: $(tail -n 1 "$folder.log") (all of it: $folder.log)"
rm -rf "$part"/var/cache/apt/archives/*.deb
mv -T "$part" "$folder"
rm -f "$reason"
echo "$folder: strongSwan $(version) of Debian $suite"
