"""Client profiles: one model, its file, its QR code, and the profiles of strongSwan's, Apple's and Windows's clients."""
