#!/bin/sh
# The recipe by hand as a plain script: what nodeagent's time is held against. It does in a row
# what kubeadm's install guide and tutorials for Raspberry Pis say, with nothing overlapped.
#   baseline.sh cgroup|prepare|init|join NAME VERSION KUBERNETES DOCKER IMAGES [WORDS...]
# KUBERNETES and DOCKER are the bases of the apt repositories, IMAGES that of the images; WORDS is
# the node's address for init, and the printed join command for join.
set -eu
stage=$1 name=$2 version=$3 kubernetes=$4 docker=$5 images=$6
shift 6
export DEBIAN_FRONTEND=noninteractive

fetch() {
    python3 -c 'import sys, urllib.request as u
sys.stdout.write(u.urlopen(sys.argv[1]).read().decode())' "$1"
}

cgroup() {
    hostnamectl set-hostname "$name"
    # Else cloud-init names both nodes alike again after the reboot, and only one shows up.
    echo 'preserve_hostname: true' > /etc/cloud/cloud.cfg.d/99-baseline.cfg
    sed -i '1s/$/ cgroup_memory=1 cgroup_enable=memory/' /boot/firmware/cmdline.txt
    sync
    systemd-run --quiet --on-active=1 systemctl reboot
}

prepare() {
    # swap, for good
    swapoff -a
    systemctl disable --quiet --now dphys-swapfile
    : > /etc/systemd/zram-generator.conf
    systemctl daemon-reload
    systemctl stop dev-zram0.swap 2>/dev/null || true

    printf 'overlay\nbr_netfilter\n' > /etc/modules-load.d/k8s.conf
    modprobe -a overlay br_netfilter
    cat > /etc/sysctl.d/k8s.conf <<EOF
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
net.ipv4.ip_forward = 1
EOF
    sysctl -q --system
    mkdir -p /etc/systemd/system.conf.d /etc/apt/keyrings
    printf '[Manager]\nRuntimeWatchdogSec=15s\n' > /etc/systemd/system.conf.d/watchdog.conf

    flat=$kubernetes/core:/stable:/v${version%.*}/deb/
    keys=/etc/apt/keyrings
    fetch "${flat}Release.key" > $keys/kubernetes.asc
    fetch "$docker/gpg" > $keys/docker.asc
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    echo "deb [signed-by=$keys/kubernetes.asc] $flat /" > /etc/apt/sources.list.d/kubernetes.list
    echo "deb [signed-by=$keys/docker.asc] $docker $release stable" \
        > /etc/apt/sources.list.d/docker.list
    apt-get update -q
    apt-get install -q -y --no-install-recommends containerd.io iptables \
        "kubeadm=$version-*" "kubelet=$version-*" "kubectl=$version-*"
    apt-mark hold kubeadm kubelet kubectl

    containerd config default \
        | sed -e 's/SystemdCgroup = false/SystemdCgroup = true/' \
            -e "s#sandbox = .*#sandbox = '$images/pause:3.10.2'#" > /etc/containerd/config.toml
    systemctl restart containerd
    systemctl enable --quiet --now kubelet
}

init() {
    kubeadm init --pod-network-cidr=10.244.0.0/16 --apiserver-advertise-address="$1" \
        --kubernetes-version="v$version" --image-repository="$images"
    mkdir -p ~pi/.kube
    install -o pi -g pi -m 600 /etc/kubernetes/admin.conf ~pi/.kube/config
}

join() {
    "$@"
}

"$stage" "$@"
