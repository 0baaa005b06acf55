"""Plumbing that every service shares: settings, serving, databases, logs. It knows no domain."""
