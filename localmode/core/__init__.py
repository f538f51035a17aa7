"""Settings, the state directory, durable files, errors, threads: what every package builds on."""
