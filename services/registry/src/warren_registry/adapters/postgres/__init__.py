"""Rows in PostgreSQL. Every class works on the connection of one transaction."""
