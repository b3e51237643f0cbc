-- The last known state of every peer and of every tunnel at each end, so that a restart begins where it ended.

-- `view` is the JSON of warren_metrics.domain.peers.PeerView.
CREATE TABLE peer (
    id   text PRIMARY KEY,
    view text NOT NULL
);

-- `view` is the JSON of warren_metrics.domain.peers.TunnelView: the tunnel as `peer` told it last.
CREATE TABLE tunnel (
    peer text NOT NULL,
    name text NOT NULL,
    view text NOT NULL,
    PRIMARY KEY (peer, name)
);
