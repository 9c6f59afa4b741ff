#!/bin/sh
# Installs nodeagent and the packages beside this file. systemd starts it again until it ends well,
# so it may fail or lose power anywhere.
set -eu

folder=/boot/firmware/nodeagent
status=${folder%/*}/nodeagent-status.txt # the agent's own, once there is one
state=/var/lib/nodeagent-install
fetched=/run/nodeagent-lists
failed="nodeagent could not be installed yet. It is tried again every 15 seconds."
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

# apt-get also fails where a package of the system cannot be configured, which is no concern of ours.
# The options of the agent's own installations (host/apt/actions.py, which says why).
get_install() {
    get install --fix-broken --no-remove -o Acquire::Retries=3 -o Acquire::http::Timeout=30 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" || is_installed
}

# A power cut may have torn the lists, and apt refuses torn ones for good: once a boot they are
# fetched from the beginning.
get_lists() {
    [ -e "$fetched" ] || rm -rf /var/lib/apt/lists/*_*
    if get update; then : >"$fetched"; fi
}

get() {
    apt-get -o DPkg::Lock::Timeout=600 --yes --no-install-recommends "$@"
}

install() {
    dpkg --force-confold --configure -a || true # as the agent does: some need what comes next
    # First with what is on the card alone, which needs no network; then with the archive's help.
    # Names of Debian packages hold no spaces.
    # shellcheck disable=SC2046
    get_install $(needed) || {
        get_lists
        get_install $(needed) || get_install "$folder"/nodeagent_*.deb
    }
}

# On the screen and on the boot partition, which is written to only where there is news.
tell() {
    why=$(grep -E '^(E: |dpkg: error|Errors were)' "$1" | tail -n 5) || true
    text="$failed
The reason: ${why:-see the journal.}
All that was said: sudo journalctl -u nodeagent-install"
    [ "$(cat "$status" 2>/dev/null)" = "$text" ] && return
    (echo "$text" >/dev/console) 2>/dev/null || true
    (echo "$text" >"$status" && sync "$status") 2>/dev/null || true
}

if ! is_installed; then
    # Two at a time would fail one another; cloud-init takes what it cannot install for an error.
    if command -v cloud-init >/dev/null; then
        timeout 300 cloud-init status --wait >/dev/null 2>&1 || true
    fi
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if ! install >"$log" 2>&1; then
        cat "$log"
        tell "$log"
        exit 1
    fi
    cat "$log"
    if grep -q -F "$failed" "$status" 2>/dev/null; then rm -f "$status"; fi
fi

mkdir -p "$state"
: >"$state/done"
sync "$state/done"
rm -f /etc/systemd/system/multi-user.target.wants/nodeagent-install.service \
    /etc/systemd/system/nodeagent-install.service
