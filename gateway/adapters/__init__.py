"""Adapters: what fills the Protocols of the features."""
