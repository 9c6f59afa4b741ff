#!/bin/sh
# Installs nodeagent and the packages beside this file. systemd starts it again until it ends well,
# so it may fail or lose power anywhere.
set -eu

folder=/boot/firmware/nodeagent
state=/var/lib/nodeagent-install
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' nodeagent 2>/dev/null)" = installed ]
}

# Those that this system has in that version or a newer one are left out.
needed() {
    for deb in "$folder"/*.deb; do
        name=$(dpkg-deb -f "$deb" Package)
        version=$(dpkg-deb -f "$deb" Version)
        have=$(dpkg-query -W -f '${Version}' "$name" 2>/dev/null || true)
        if [ -z "$have" ] || dpkg --compare-versions "$have" lt "$version" ||
            [ "$name" = nodeagent ]; then
            echo "$deb"
        fi
    done
}

get() {
    apt-get -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold \
        --yes --no-install-recommends "$@"
}

if ! is_installed; then
    # Two at a time would fail one another; cloud-init takes what it cannot install for an error.
    if command -v cloud-init >/dev/null; then
        timeout 300 cloud-init status --wait >/dev/null 2>&1 || true
    fi
    dpkg --force-confold --configure -a
    # First with what is on the card alone, which needs no network; then with the archive's help.
    # Names of Debian packages hold no spaces.
    # shellcheck disable=SC2046
    get install $(needed) || {
        get update
        get install $(needed) || get install "$folder"/nodeagent_*.deb
    }
fi

mkdir -p "$state"
: >"$state/done"
sync "$state/done"
rm -f /etc/systemd/system/multi-user.target.wants/nodeagent-install.service \
    /etc/systemd/system/nodeagent-install.service
