"""`warren ike`: probe a gateway, decode a capture. Needs the extra `warren-cli[ike]`."""
