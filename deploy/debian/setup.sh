#!/usr/bin/env bash
# Installs the Debian packages that the demo and the tests need: as root, noninteractive, without recommends.
#
# strongswan-charon pulls in strongswan-starter, whose post-install starts a charon on the host. A temporary policy-rc.d
# forbids that; a policy-rc.d that exists already is kept, and a strongSwan that runs already is never touched.
# Prints one line that names what was installed. Without root it prints the one command to run and fails.
set -euo pipefail

packages=(python3-venv ca-certificates iproute2 iputils-ping strongswan-charon strongswan-swanctl
    libcharon-extra-plugins libcharon-extauth-plugins libstrongswan-extra-plugins libstrongswan-standard-plugins
    nftables iperf3 tcpdump)

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "Debian packages are missing. Run once as root, without starting strongSwan on the host:" >&2
    echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

made_policy=""
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    made_policy=yes
fi
cleanup() { [ -z "$made_policy" ] || rm -f /usr/sbin/policy-rc.d; }
trap cleanup EXIT

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
echo "installed Debian packages: ${missing[*]}"
