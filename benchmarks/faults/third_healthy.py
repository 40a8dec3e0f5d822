"""Healthy runs that are odd in new ways; read once, with the third set."""

CONFIGURATIONS: dict = {}
