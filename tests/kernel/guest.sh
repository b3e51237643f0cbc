#!/bin/sh
# Inside the virtual machine of vm.py, as root: makes it look like a gateway, then runs the tests.
#
#   guest.sh PARTS CHECKOUT [PYTEST OPTION...]
#
# What the image's file `bound` names comes from the image. /etc and /usr may be written here: they are overlays that end with the machine.
set -eu
parts=$1 checkout=$2
shift 2
read -r booted _ </proc/uptime

mount -t tmpfs tmpfs /tmp
modprobe virtio_blk
modprobe ext4
mkdir /run/image /run/parts
mount -t ext4 -o noatime /dev/vda /run/image
mount --bind "$parts" /run/parts
while read -r path; do
    mount --bind "/run/image$path" "$path"
done </run/image/bound
# Debian's AppArmor as if it were installed, with the profiles of the strongSwan packages in enforce mode.
cp -a "$parts/apparmor/etc/." /etc/
cp -a "$parts/apparmor/usr/share/apparmor-features" /usr/share/
"$parts/apparmor/sbin/apparmor_parser" -r /etc/apparmor.d/usr.lib.ipsec.charon /etc/apparmor.d/usr.sbin.swanctl
echo 0 >/proc/sys/kernel/printk_ratelimit # no denial may go unsaid

mount --bind /run/parts "$parts" # it may lie in the checkout, and holds the kernel's modules
modprobe tun
# What the guard's table needs: one by one, as the kernel asks for them, they would take nft longer than the guard waits for it.
modprobe -a nft_ct nft_fib_inet nft_nat nft_chain_nat nft_masq xfrm_interface
ip link set lo up

cd "$checkout"
echo "kernel $(uname -r), up after $booted s"
export WARREN_TEST_VM=1 # what is missing here is an error, and no reason to skip
exec build/venv/bin/python -m pytest -p no:cacheprovider -m kernel tests/kernel "$@"
