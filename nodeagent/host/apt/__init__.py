"""apt and dpkg: what they hold, do and say."""
