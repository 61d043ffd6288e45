"""Runs the system tests in several guests: what runs (`choose`), where (`deal`), how far it is (`progress`)."""
