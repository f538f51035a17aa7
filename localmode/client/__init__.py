"""The client side: start, join, command and stop the daemon, point AWS clients at it."""
