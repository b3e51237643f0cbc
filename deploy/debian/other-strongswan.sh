#!/usr/bin/env bash
# Puts the strongSwan of another Debian release into a folder of its own, for `make test-all`:
#
#   deploy/debian/other-strongswan.sh SUITE FOLDER        (trixie, sid; root; about 30 s and 260 MB each)
#
# It comes by debootstrap (debootstrap.sh). Where it cannot be had, one line says why, here and in FOLDER.reason (the tests that
# wanted it are skipped with that line), and the exit code is 1.
set -euo pipefail

suite=$1 folder=$2 reason=$2.reason
packages=strongswan-charon,strongswan-swanctl,libcharon-extra-plugins,libcharon-extauth-plugins
packages+=,libstrongswan-extra-plugins,libstrongswan-standard-plugins

cannot() {
    echo "no strongSwan of Debian $suite: $1" | tee "$reason" >&2
    exit 1
}
version() { dpkg-query --admindir="$folder/var/lib/dpkg" -W -f '${Version}' strongswan-charon; }
. "$(dirname "$0")/debootstrap.sh"

mkdir -p "$(dirname "$folder")"
if [ -x "$folder/usr/lib/ipsec/charon" ]; then
    rm -f "$reason"
    echo "$folder: strongSwan $(version) of Debian $suite (remove the folder for a newer one)"
    exit 0
fi
echo "putting the strongSwan of Debian $suite into $folder (debootstrap, from apt's mirror)"
debian_root "$suite" "$folder" "$packages"
rm -f "$reason"
echo "$folder: strongSwan $(version) of Debian $suite"
