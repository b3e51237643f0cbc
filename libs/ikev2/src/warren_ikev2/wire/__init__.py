"""Messages and payloads as bytes (RFC 7296, 3): `parse_` and `build_` pairs over frozen values.

Only this package decides what is malformed: any bytes give a value or one MalformedMessageError. It handles no keys;
`warren_ikev2.protection` encrypts and decrypts.
"""
