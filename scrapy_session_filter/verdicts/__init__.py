"""What an answer says about the session that fetched it."""
