"""What the agent reports: messages, state history, reports in parts, the spool."""
