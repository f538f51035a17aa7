"""What runs in the user's process: start, join, command and stop a daemon, and direct AWS clients to it."""
