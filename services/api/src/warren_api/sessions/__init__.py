"""Browser sessions: who is signed in, by what, until when.

A session is one more way to present a credential: `identity` finds the credential of a request (a bearer token, or the session that
its cookie names), and the issuer of the credential is asked each time whose it is and with which role. A further way to sign in, such as
OpenID Connect, adds one entry to `Identity`'s checks and an endpoint that opens sessions.
"""
