"""nodeagent: turns freshly flashed Raspberry Pis into a Ready Kubernetes cluster."""

__version__ = "0.2.0"
