"""The HTTP front of the daemon on the loopback interface."""
