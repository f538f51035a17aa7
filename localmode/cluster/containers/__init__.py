"""Containers: kernel namespaces, rewritten paths, or Docker."""
