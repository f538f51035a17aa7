"""Clusters: attempts of training jobs on the hosts that run them."""
