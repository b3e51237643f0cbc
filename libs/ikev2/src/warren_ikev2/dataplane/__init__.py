"""The batched ESP data plane: a TUN device with offloads on one side, UDP with segmentation offloads on the other.

Place in the architecture: `warren_ikev2.esp` protects one packet at a time and is the reference; this package does the same for
trains of packets, with numpy (the extra `dataplane`), and hands everything unusual to it. One process of its own
runs it (`process`), next to the process with the IKEv2 engine, which controls it over a socket pair (`control`).

- `vnet`, `checksum`, `segment`   the TUN device's offloads, one packet at a time
- `layout`                        how trains lie in memory, for numpy
- `seal`, `open`, `runs`          trains out, trains in, and their merging
- `merge`                         merging one packet at a time
"""
