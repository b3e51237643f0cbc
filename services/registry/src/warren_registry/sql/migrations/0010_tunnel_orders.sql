-- The last order of an operator to a tunnel of this peer (TunnelOrder); it travels in the peer's record.
ALTER TABLE peer ADD COLUMN tunnel_order jsonb;
