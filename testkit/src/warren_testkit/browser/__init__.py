"""The web page in a browser (`chromium`) on a running demo (`demo`)."""
