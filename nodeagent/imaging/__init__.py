"""Runs on the computer of the person who flashes the cards."""
