"""Beds and checks of the VPN."""
