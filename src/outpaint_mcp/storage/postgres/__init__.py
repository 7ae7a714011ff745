"""The store in a PostgreSQL database, for servers and workers on several machines."""
