"""Pure domain: expand, check, plan, crypto profiles."""
