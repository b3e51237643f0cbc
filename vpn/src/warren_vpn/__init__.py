"""`warren vpn`: an IKEv2 VPN server with users and address pools, and its client, on `warren_ikev2`. Linux only."""
