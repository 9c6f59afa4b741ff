"""Multicast DNS: announces the own beacon and collects those of others."""
