"""Sans-IO IKEv2 and ESP, and the asyncio client and server."""
