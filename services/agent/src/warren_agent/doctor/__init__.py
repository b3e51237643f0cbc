"""`warren-agent doctor` and `support-bundle`: what this host, its daemon and its bus are like. Imported by these commands only."""
