#!/bin/sh
# Put on a card by `nodeagent image seed`. Started at boot by cloud-init (as a boothook of its vendor
# data) or, where there is none, by systemd.run= on the kernel's command line. Leaves a service
# that installs the agent: what is started here would end with cloud-init's or that boot.
#
# It may run at every boot, may lose power anywhere, and ends well below cloud-init, which would take
# its failure for its own.

unit=/etc/systemd/system/nodeagent-install.service
wants=/etc/systemd/system/multi-user.target.wants # as systemctl enable, which needs a bus
line=/boot/firmware/cmdline.txt
# The quotes, which systemd takes away, hide the path from the sed of Raspberry Pi OS's imager_fixup.
word='systemd.run=/boot"/"firmware/nodeagent/first-boot.sh'
failed=systemd.run_failure_action=reboot

# On the screen, and where somebody looks who has the card in another computer.
say() {
    (echo "nodeagent: $1" >/dev/console) 2>/dev/null
    echo "nodeagent could not be installed: $1" >/boot/firmware/nodeagent-status.txt
}

install_unit() {
    cat >"$unit.new" <<'UNIT' || return 1
# Installs nodeagent from the boot partition, once; tried again until it is done.
[Unit]
Description=Installs nodeagent from the boot partition
RequiresMountsFor=/boot/firmware
ConditionPathExists=!/var/lib/nodeagent-install/done
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=/bin/sh /boot/firmware/nodeagent/install.sh
Restart=on-failure
RestartSec=15

[Install]
WantedBy=multi-user.target
UNIT
    sync "$unit.new" && mv "$unit.new" "$unit" && sync &&
        mkdir -p "$wants" && ln -sf "$unit" "$wants/nodeagent-install.service" && sync
}

# Only bytes in place change: a file that is replaced can be lost on FAT with the power.
take_word_out() {
    size=$(wc -c <"$line")
    left=$(sed "s| $word||; s| $failed||" "$line")
    case $left in
    *" systemd.run="*) ;; # Raspberry Pi Imager's own; it takes the other words out itself
    *) left=$(printf '%s' "$left" |
        sed 's| systemd\.run_success_action=reboot||; s| systemd\.unit=kernel-command-line\.target||') ;;
    esac
    printf "%-$((size - 1))s\n" "$left" | dd of="$line" conv=notrunc,fsync 2>/dev/null
    ! grep -q -F " $word" "$line"
}

if [ ! -e /var/lib/nodeagent-install/done ]; then
    install_unit || say "$unit cannot be written."
fi
# Beside cloud-init, which sets INSTANCE_ID for its hooks, nothing may wait.
if [ -z "${INSTANCE_ID-}" ] && grep -q -F " $word" /proc/cmdline; then
    # The boot goes on with a reboot, which with this word would begin all over again.
    take_word_out || { mount -o remount,rw /boot/firmware && take_word_out; } || {
        say "$line cannot be changed. Take out $word by hand."
        # That reboot would come again and again: this boot becomes a usual one, and ends here never.
        systemctl daemon-reload
        systemctl start --no-block multi-user.target
        exec sleep infinity
    }
    # This boot ends when all that the line asks for has ended, which may be never: then the usual
    # system starts beside it.
    case $(cat "$line") in
    *" systemd.run="*)
        sleep 900 && {
            say "what $line asks for at boot (systemd.run=) has not ended for 15 minutes. If it hangs, take it out."
            systemctl daemon-reload
            systemctl start --no-block multi-user.target
        } &
        ;;
    esac
elif [ ! -e /var/lib/nodeagent-install/done ]; then
    systemctl daemon-reload
    systemctl start --no-block nodeagent-install.service
fi
exit 0
