"""Fuzzing of every parser that bytes from the network reach."""
