#!/bin/bash -e
# Installs the package beside this script, and what it depends on, in the image. Not by way of /tmp or
# /run: pi-gen's on_chroot mounts an empty tmpfs over both.

# shellcheck disable=SC2154  # ROOTFS_DIR and on_chroot are pi-gen's
install -m 0644 files/nodeagent_*_all.deb "${ROOTFS_DIR}/var/lib/nodeagent.deb"
on_chroot <<'EOF'
apt-get install --yes --no-install-recommends /var/lib/nodeagent.deb
rm /var/lib/nodeagent.deb
EOF
