-- The registry's schema. `revision` is one counter for the whole fleet: whoever changes anything locks its row first, so
-- revisions are given in the order of commits, and "everything after revision N" misses nothing.

CREATE TABLE fleet (
    single               boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch                bigint NOT NULL DEFAULT 1 CHECK (epoch > 0),
    revision             bigint NOT NULL DEFAULT 0 CHECK (revision >= 0),
    tombstones_reclaimed bigint NOT NULL DEFAULT 0,
    -- Which incarnation of the stream DIRECTORY the marks in directory_record.published belong to.
    stream_incarnation   text NOT NULL DEFAULT ''
);
INSERT INTO fleet DEFAULT VALUES;

-- Which keys the trust document named, and since which revision of it.
CREATE TABLE trust (
    epoch        bigint NOT NULL,
    revision     bigint NOT NULL,
    policy_key   text NOT NULL,
    registry_key text NOT NULL,
    PRIMARY KEY (epoch, revision)
);

-- Tokens are kept as SHA-256 of 256 random bits: see domain/tokens.py.
CREATE TABLE join_token (
    id         text PRIMARY KEY,
    digest     bytea NOT NULL,
    tags       text[] NOT NULL,
    uses       integer NOT NULL CHECK (uses > 0),
    used       integer NOT NULL DEFAULT 0 CHECK (used >= 0 AND used <= uses),
    peer       text,
    subnets    cidr[] NOT NULL,
    note       text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE operator_token (
    digest     bytea PRIMARY KEY,
    name       text NOT NULL,
    role       text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz
);

CREATE TABLE peer (
    id           text PRIMARY KEY CHECK (id ~ '^[a-z0-9_-]{1,63}$'),
    nkey         text NOT NULL UNIQUE CHECK (nkey ~ '^U[A-Z2-7]{55}$'),
    tags         text[] NOT NULL,
    version      bigint NOT NULL,
    join_token   text NOT NULL,
    hostname     text NOT NULL,
    allowed      cidr[] NOT NULL,
    identity     text NOT NULL,
    announcement jsonb,
    enrolled_at  timestamptz NOT NULL,
    announced_at timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX peer_version ON peer (version);
-- No two peers of the fleet may be one another to IKE; a revoked peer gives its identity back.
CREATE UNIQUE INDEX peer_identity ON peer (identity) WHERE revoked_at IS NULL;

CREATE TABLE peer_subnet (
    peer   text NOT NULL REFERENCES peer ON DELETE CASCADE,
    subnet cidr NOT NULL,
    PRIMARY KEY (peer, subnet)
);
CREATE INDEX peer_subnet_overlap ON peer_subnet USING gist (subnet inet_ops);

-- A revoked key never returns, also when its peer id has been given to a new key.
CREATE TABLE revoked_key (
    nkey       text PRIMARY KEY,
    peer       text NOT NULL,
    version    bigint NOT NULL,
    revoked_at timestamptz NOT NULL
);

CREATE TABLE presence (
    peer      text PRIMARY KEY,
    state     text NOT NULL,
    since     timestamptz,
    last_seen timestamptz,
    reason    text NOT NULL
);

-- What the directory says, one row for each reader and peer. The row is written in a transaction of its own revision;
-- `published` is the relay's mark: a row that is not published yet is the outbox.
CREATE TABLE directory_record (
    reader          text NOT NULL,
    peer            text NOT NULL,
    epoch           bigint NOT NULL,
    revision        bigint NOT NULL,
    peer_version    bigint NOT NULL,
    withdrawn       boolean NOT NULL,
    payload         text NOT NULL,
    signature       text NOT NULL,
    signed_by       text NOT NULL,
    changed_at      timestamptz NOT NULL,
    published       boolean NOT NULL DEFAULT false,
    stream_sequence bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (reader, peer)
);
CREATE INDEX directory_record_pending ON directory_record (withdrawn, revision) WHERE NOT published;

-- Events that were decided with a change and are to be published after its commit.
CREATE TABLE outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id    text NOT NULL UNIQUE,
    subject     text NOT NULL,
    type        text NOT NULL,
    payload     text NOT NULL,
    traceparent text NOT NULL,
    created_at  timestamptz NOT NULL
);

-- Whose connections are to be ended after a commit: a KICK before it would let the old rights in again.
CREATE TABLE kick (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bus_user     text NOT NULL,
    requested_at timestamptz NOT NULL
);

-- The auth callout keeps the last known rows for the time when PostgreSQL is away, and hears of changes by this channel.
CREATE FUNCTION tell_admission() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('warren_admission', TG_TABLE_NAME || ' ' || NEW.nkey);
    RETURN NULL;
END
$$;
CREATE TRIGGER peer_told AFTER INSERT OR UPDATE OF nkey, tags, revoked_at ON peer
    FOR EACH ROW EXECUTE FUNCTION tell_admission();
CREATE TRIGGER revoked_key_told AFTER INSERT ON revoked_key
    FOR EACH ROW EXECUTE FUNCTION tell_admission();
