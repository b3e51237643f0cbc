"""The words everybody shares: events, commands, subjects, models."""
