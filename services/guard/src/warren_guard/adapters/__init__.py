"""What the guard needs of the world: nft, netlink sockets, a file."""
