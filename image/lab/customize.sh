#!/bin/sh
# mmdebstrap's customize hook for the lab's base image: what packages and files alone do not say.
set -eu
root=$1

echo raspberrypi > "$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n' > "$root/etc/hosts"
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root"/etc/ssh/ssh_host_*
mkdir -p "$root/boot/firmware" "$root/var/log/journal"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

# Work that a card of a Pi has no use for and an emulated processor pays for.
for unit in e2scrub_all.timer e2scrub_reap.service dpkg-db-backup.timer fstrim.timer \
    sshd-keygen.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" systemctl -q enable dphys-swapfile.service systemd-networkd.service \
    systemd-resolved.service systemd-timesyncd.service ssh.service
