VERSION = "0.2.0"
"""The version of this SDK; it rises together with that of the Go SDK."""
