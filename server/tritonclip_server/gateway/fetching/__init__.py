"""Images from URLs, with nothing of this network within a caller's reach."""
