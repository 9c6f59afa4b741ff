"""What strangers try: each part attacks the shipped code and says what came of it."""
