"""Programs that run in an environment of their own: each reads a request as JSON and writes an answer."""
