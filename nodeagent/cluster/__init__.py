"""kubeadm and what stands on it."""
