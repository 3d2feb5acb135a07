"""Render build reports for terminals, CI comments, machines and browsers."""
