# shellcheck shell=bash
# Sourced: a Debian release in a folder of its own, by debootstrap from the mirror that this machine's apt is configured with.
# Nothing else of the machine changes, but that the package debootstrap is installed where it is missing.
# The sourcing script defines `cannot WHY`, which ends it.

# What apt itself calls the mirror: no format of a sources file to know. It knows the label once it has read the Release.
mirror_of_apt() { apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' 'Component: main' | sort -u | head -n 1; }

# debian_root SUITE FOLDER PACKAGES: the folder is whole or absent. It is made as FOLDER.part, in a mount namespace of its own so
# that no mount outlives this. All that debootstrap says goes to FOLDER.log.
debian_root() {
    local suite=$1 folder=$2 packages=$3 part=$2.part mirror
    [ "$(id -u)" -eq 0 ] || cannot "debootstrap needs root"
    export DEBIAN_FRONTEND=noninteractive
    if ! command -v debootstrap >/dev/null; then
        echo "installing the Debian package debootstrap"
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends debootstrap >/dev/null; } ||
            cannot "the package debootstrap cannot be installed"
    fi
    mirror=$(mirror_of_apt)
    if [ -z "$mirror" ]; then
        apt-get update -qq || cannot "apt-get update failed"
        mirror=$(mirror_of_apt)
    fi
    [ -n "$mirror" ] || cannot "apt is configured with no Debian mirror"
    trap 'rm -rf --one-file-system "'"$part"'"' EXIT
    rm -rf --one-file-system "$part"
    unshare --mount --propagation private debootstrap --variant=minbase --include="$packages" "$suite" "$part" "$mirror" \
        > "$folder.log" 2>&1 || cannot "debootstrap: $(tail -n 1 "$folder.log") (all of it: $folder.log)"
    rm -rf "$part"/var/cache/apt/archives/*.deb
    mv -T "$part" "$folder"
}
