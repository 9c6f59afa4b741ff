"""A node's status, in every form in which it is shown."""
