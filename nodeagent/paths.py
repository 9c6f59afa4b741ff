"""Paths and ports that more than one module shares. Nothing here imports anything."""

from __future__ import annotations

# The broker's folder, owner nodeagent-broker: what the agent hands it, and its memory.
BROKER = "/var/lib/nodeagent-broker"
BROKER_CONFIG = f"{BROKER}/config.json"
BROKER_CA = f"{BROKER}/ca.crt"
BROKER_CLIENT_CERT, BROKER_CLIENT_KEY = f"{BROKER}/client.crt", f"{BROKER}/client.key"
BROKER_CERT, BROKER_KEY = f"{BROKER}/broker.crt", f"{BROKER}/broker.key"

# The endpoint's folder, owner nodeagent: server certificate and key, in memory only.
ENDPOINT = "/run/nodeagent/endpoint"
SERVER_CERT, SERVER_KEY = f"{ENDPOINT}/server.crt", f"{ENDPOINT}/server.key"
ROOT_CERT = f"{ENDPOINT}/root.crt"

# kubeadm's (kubernetes.io, "Implementation details").
KUBERNETES_CA = "/etc/kubernetes/pki/ca.crt"
