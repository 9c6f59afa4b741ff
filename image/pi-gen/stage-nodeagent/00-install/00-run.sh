#!/bin/bash -e
# Installs the package beside this script, and what it depends on, in the image.

# shellcheck disable=SC2154  # ROOTFS_DIR and on_chroot are pi-gen's
install -m 0644 files/nodeagent_*_all.deb "${ROOTFS_DIR}/tmp/nodeagent.deb"
on_chroot <<'EOF'
apt-get install --yes --no-install-recommends /tmp/nodeagent.deb
rm /tmp/nodeagent.deb
EOF
