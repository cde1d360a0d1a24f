"""The messages of the plugin protocol, generated: make proto."""
