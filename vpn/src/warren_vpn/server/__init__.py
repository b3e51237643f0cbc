"""The VPN server: an IKEv2 responder for many clients, with address pools, in the foreground for systemd.

Place in the architecture: the engine and its data process are `warren_ikev2`'s; this package has what makes a VPN server of them.

- `settings`     server.toml, validated; `folder` writes the first one with keys and a CA
- `connections`  settings and users as connections of the engine (pure)
- `ruleset`      the nftables table (pure); `sysctl` forwarding; `network` puts both in place and back; `cleaner` is the process
  that does so when the server is killed
- `accounts`     sessions, their traffic, and refusals by kind
- `control`      the messages of the control socket; `control_server` and `control_client` are its two ends
- `service`      joins them; `run` is the foreground process
"""
