"""Messages and payloads as bytes (RFC 7296, 3): `parse_` and `build_` pairs over frozen values.

This is the only place that judges malformed input: any bytes give a value or one MalformedMessageError. It knows no keys
but for `protection`, which opens and seals the encrypted payload.
"""
