#!/bin/bash -e
# pi-gen runs this before the stage: it begins with what the stage before it made.

# shellcheck disable=SC2154  # ROOTFS_DIR and copy_previous are pi-gen's
if [ ! -d "${ROOTFS_DIR}" ]; then
	copy_previous
fi
