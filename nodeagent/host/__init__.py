"""The machine under the agent; nothing of Kubernetes."""
