#!/usr/bin/env bash
# Installs the Debian packages that the demo needs, with --tests also those of the tests, with --compose also a Docker engine and
# docker-compose, with --vm also those that boot a virtual machine, with --browser also Chromium: as root, noninteractive, without recommends. With
# --no-strongswan all but strongSwan: the demo on the userspace driver needs none.
#
# strongswan-charon pulls in strongswan-starter, whose post-install starts a charon on the host. A temporary policy-rc.d
# forbids that, and the unit that came with the package is disabled so that no charon starts with the next boot either.
# A strongSwan that was installed before is never touched; the same goes for the Docker engine. Prints one line that names what was installed, and with --list FILE
# writes the names into FILE (none: it is empty). Without root it prints the one command to run and fails.
set -euo pipefail

tests="" compose="" vm="" browser="" list="" strongswan=yes
while [ $# -gt 0 ]; do
    case $1 in
        --tests) tests=yes ;;
        --compose) compose=yes ;;
        --vm) vm=yes ;;
        --browser) browser=yes ;;
        --no-strongswan) strongswan="" ;;
        --list) list=${2:?--list needs a file} && shift ;;
        *) echo "usage: $0 [--tests] [--compose] [--vm] [--browser] [--no-strongswan] [--list FILE]" >&2 && exit 2 ;;
    esac
    shift
done
[ -z "$list" ] || : > "$list"

packages=(python3-venv ca-certificates iproute2 iputils-ping nftables)
[ -z "$strongswan" ] || packages+=(strongswan-charon strongswan-swanctl libcharon-extra-plugins libcharon-extauth-plugins
    libstrongswan-extra-plugins libstrongswan-standard-plugins)
[ -z "$tests" ] || packages+=(iperf3 tcpdump tshark prometheus prometheus-alertmanager)
# One test drives the web page: Chromium without windows needs 180 MB less than the whole, which will do where it is.
[ -z "$tests" ] || [ -x /usr/bin/chromium ] || packages+=(chromium-headless-shell)
if [ -n "$compose" ]; then  # an engine of another origin will do, and must stay
    packages+=(iptables debootstrap)
    command -v dockerd >/dev/null || packages+=(docker.io)
    docker compose version >/dev/null 2>&1 || packages+=(docker-compose)
fi
[ -z "$browser" ] || packages+=(chromium fonts-dejavu-core)
[ -z "$vm" ] || packages+=(qemu-system-x86 kmod file e2fsprogs)

is_installed() { dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii'; }

missing=()
for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    # One command: this script also installs by apt, but a user without root would have to trust and find it.
    echo "Debian packages are missing. Run once as root:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

policy=${SETUP_ROOT:-}/usr/sbin/policy-rc.d  # tests give a root of their own
saved=""
made=""
# An existing policy that already forbids starts may stay; any other one is set aside until the end.
if [ ! -x "$policy" ] || { "$policy" strongswan-starter start >/dev/null 2>&1; [ $? -ne 101 ]; }; then
    if [ -e "$policy" ]; then
        saved=$(mktemp "$policy.XXXXXX")
        mv -f "$policy" "$saved"
    fi
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    made=yes
fi
cleanup() {
    [ -z "$made" ] || rm -f "$policy"
    [ -z "$saved" ] || mv -f "$saved" "$policy"
}
trap cleanup EXIT

starter_was_there=""
is_installed strongswan-starter && starter_was_there=yes

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null

# Units that came with what was installed just now; missing ones are fine.
note=""
disable() { command -v systemctl >/dev/null && systemctl disable --quiet "$@" 2>/dev/null; }
if [ -z "$starter_was_there" ] && disable strongswan-starter; then
    note=" (strongswan-starter is disabled: no charon runs on this machine by itself)"
fi
for unit in prometheus prometheus-alertmanager; do
    if [[ " ${missing[*]} " == *" $unit "* ]] && disable "$unit"; then
        note+=" ($unit is disabled: the tests start their own)"
    fi
done
if [[ " ${missing[*]} " == *" docker.io "* ]] && disable docker.service docker.socket containerd.service; then
    note+=" (docker.service is disabled: no engine runs on this machine by itself)"
fi
[ -z "$list" ] || echo "${missing[*]}" > "$list"
echo "installed Debian packages: ${missing[*]}$note"
