"""Images as untrusted files: fetched, checked, decoded and kept."""
