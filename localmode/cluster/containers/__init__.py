"""Containers: their shims, with kernel namespaces, with rewritten paths, or with Docker."""
