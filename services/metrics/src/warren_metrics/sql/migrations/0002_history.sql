-- What happened to tunnels and peers: one partition a day (`<table>_20260102`, made by the writer), removed when it is too old.
-- `at` is when the bus stored the cause; `event_id` makes a repeated event the same row; `sequence`, of EVENT, orders equal times.

CREATE TABLE tunnel_transition (
    at        timestamptz NOT NULL,
    sequence  bigint NOT NULL,
    event_id  uuid NOT NULL,
    peer      text COLLATE "C" NOT NULL,
    tunnel    text COLLATE "C" NOT NULL,
    state     text NOT NULL,
    reason    text NOT NULL,
    detail    text NOT NULL,
    policy    text,
    other     text,
    initiator boolean NOT NULL,
    removed   boolean NOT NULL,
    PRIMARY KEY (at, event_id)
) PARTITION BY RANGE (at);
CREATE INDEX tunnel_transition_order ON tunnel_transition (tunnel, at, sequence);

CREATE TABLE peer_transition (
    at       timestamptz NOT NULL,
    sequence bigint NOT NULL,
    event_id uuid NOT NULL,
    peer     text COLLATE "C" NOT NULL,
    presence text NOT NULL,
    reason   text NOT NULL,
    revoked  boolean NOT NULL,
    PRIMARY KEY (at, event_id)
) PARTITION BY RANGE (at);
CREATE INDEX peer_transition_peer ON peer_transition (peer, at, sequence);

CREATE TABLE applied_revision (
    at          timestamptz NOT NULL,
    sequence    bigint NOT NULL,
    event_id    uuid NOT NULL,
    peer        text COLLATE "C" NOT NULL,
    epoch       bigint NOT NULL,
    revision    bigint NOT NULL,
    ok          boolean NOT NULL,
    duration_ms double precision NOT NULL,
    error       text NOT NULL,
    PRIMARY KEY (at, event_id)
) PARTITION BY RANGE (at);
CREATE INDEX applied_revision_peer ON applied_revision (peer, at, sequence);

-- What each end and each peer was when the oldest partition began: the newest rows of those that were removed.
CREATE TABLE tunnel_before (
    LIKE tunnel_transition,
    PRIMARY KEY (tunnel, peer)
);
CREATE TABLE peer_before (
    LIKE peer_transition,
    PRIMARY KEY (peer)
);
CREATE TABLE applied_before (
    LIKE applied_revision,
    PRIMARY KEY (peer)
);

-- The ends and peers that have rows: each is looked up by its index, instead of sorting all rows.
CREATE TABLE tunnel_end (
    tunnel text COLLATE "C" NOT NULL,
    peer   text COLLATE "C" NOT NULL,
    PRIMARY KEY (tunnel, peer)
);
CREATE TABLE known_peer (
    peer text COLLATE "C" PRIMARY KEY
);

-- The event up to which rows are stored, moved in the same transaction as they are; `first_at`: when the history began.
CREATE TABLE history_position (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    sequence bigint NOT NULL DEFAULT 0,
    first_at timestamptz
);
INSERT INTO history_position DEFAULT VALUES;
