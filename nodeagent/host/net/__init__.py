"""Interfaces, sockets and firewalls of the machine."""
