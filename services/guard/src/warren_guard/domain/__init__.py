"""Pure: what is protected, and the table that protects it."""
