"""Recordings of every message and file that leaves a process, and how each is read."""
