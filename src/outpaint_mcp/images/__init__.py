"""Images as untrusted files: fetched, checked, decoded and stored."""
