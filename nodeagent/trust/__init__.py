"""What nodes of a fleet prove to each other: keys, certificates, signed messages."""
