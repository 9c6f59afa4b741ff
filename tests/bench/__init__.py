"""Figures of this version beside a released one, measured in the same run (``make bench``)."""
