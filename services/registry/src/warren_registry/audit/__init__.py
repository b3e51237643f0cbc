"""The audit log: every command of an operator, written in its transaction, and never changed."""
