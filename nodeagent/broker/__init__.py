"""The broker process of a control plane: decides on join requests and signs grants."""
