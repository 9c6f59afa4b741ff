"""Settings: read, checked, shown."""
