"""Tokens become a sampling index: which rows make which slot of which step."""
