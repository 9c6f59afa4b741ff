"""The network process: everything that strangers can send packets to."""
