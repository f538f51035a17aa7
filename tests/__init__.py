"""The tests. A package, so that `tests.support` is not looked up in a `tests` that some dependency installs."""
