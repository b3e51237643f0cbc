"""What the client changes on its host, and how all of it is put back.

`changes`, `plan`, `kill_switch`, `resolv_conf` are pure; `routing`, `dns`, `nft` are the adapters; `journal` is the file that is
written before each change; `host` joins them.
"""
