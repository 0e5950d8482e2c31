"""The tables of environment variables and of a profile's keys, from ``trishula.settings``."""

from __future__ import annotations

from deploy.docs.from_code.rst import list_table

from trishula.settings import PROFILE_KEYS, VARIABLES

__all__ = ["profile_keys", "variables"]


def variables() -> str:
    """Each environment variable and its meaning."""
    rows = [(f"``{name}``", meaning) for name, meaning in VARIABLES.items()]
    return list_table(("Variable", "Meaning"), rows, (30, 70))


def profile_keys() -> str:
    """Each key of a profile and its meaning."""
    rows = [(f"``{name}``", meaning) for name, meaning in PROFILE_KEYS.items()]
    return list_table(("Key", "Meaning"), rows, (20, 80))
