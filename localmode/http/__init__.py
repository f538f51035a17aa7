"""The HTTP server of the daemon: host check, authentication, error responses, routes."""
