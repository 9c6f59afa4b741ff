"""mdns."""
