"""The HTTP protocol of localmode's own commands: POST /_localmode/COMMAND with the secret key in a header."""

KEY_HEADER = "X-Localmode-Key"
PATH = "/_localmode/"
