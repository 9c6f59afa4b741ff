"""Joining and leaving: the messages of both ends, and how a node asks."""
