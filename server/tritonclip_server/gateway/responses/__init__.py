"""Responses as bytes, and what they hold."""
