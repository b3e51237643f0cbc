-- Policies, their history, the audit chain and the outbox.

-- Where the service stands. Every commit locks this one row, which puts the commits in one order.
CREATE TABLE head (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch      bigint NOT NULL,
    revision   bigint NOT NULL,
    audit_seq  bigint NOT NULL,
    audit_hash bytea NOT NULL CHECK (length(audit_hash) = 32)
);
INSERT INTO head (epoch, revision, audit_seq, audit_hash) VALUES (1, 0, 0, decode(repeat('00', 32), 'hex'));

-- One row a revision. `published_at` is null as long as the relay has to publish it.
CREATE TABLE revision (
    revision     bigint PRIMARY KEY,
    epoch        bigint NOT NULL,
    at           timestamptz NOT NULL,
    actor        text NOT NULL,
    traceparent  text NOT NULL,
    published_at timestamptz
);
CREATE INDEX revision_unpublished ON revision (revision) WHERE published_at IS NULL;

-- The policies as they are now. `document` is the JSON exactly as it is hashed in the audit log.
CREATE TABLE policy (
    id         text PRIMARY KEY,
    version    integer NOT NULL,
    revision   bigint NOT NULL REFERENCES revision,
    document   text NOT NULL,
    updated_at timestamptz NOT NULL,
    actor      text NOT NULL
);

-- Every version that ever was; a deletion has no document and the version that it deleted.
CREATE TABLE policy_history (
    revision bigint NOT NULL REFERENCES revision,
    policy   text NOT NULL,
    version  integer NOT NULL,
    action   text NOT NULL CHECK (action IN ('created', 'updated', 'deleted')),
    document text,
    PRIMARY KEY (revision, policy)
);
CREATE INDEX policy_history_versions ON policy_history (policy, version);

-- The audit log: warren_policy.domain.audit says how the hashes chain.
CREATE TABLE audit (
    seq      bigint PRIMARY KEY,
    at       timestamptz NOT NULL,
    actor    text NOT NULL,
    action   text NOT NULL,
    epoch    bigint NOT NULL,
    revision bigint NOT NULL,
    trace_id text NOT NULL,
    detail   text NOT NULL,
    hash     bytea NOT NULL
);

-- What the relay has to publish: sets first, then events, in this order. Rows go when they are published.
CREATE TABLE outbox_set (
    revision bigint NOT NULL REFERENCES revision,
    ordinal  integer NOT NULL,
    reader   text NOT NULL,
    event_id text NOT NULL,
    payload  bytea NOT NULL,
    PRIMARY KEY (revision, ordinal)
);
CREATE TABLE outbox_event (
    revision bigint NOT NULL REFERENCES revision,
    ordinal  integer NOT NULL,
    subject  text NOT NULL,
    type     text NOT NULL,
    event_id text NOT NULL,
    payload  bytea NOT NULL,
    PRIMARY KEY (revision, ordinal)
);

-- The newest published set of every reader, from which a lost stream is made again.
CREATE TABLE reader_set (
    reader   text PRIMARY KEY,
    revision bigint NOT NULL REFERENCES revision,
    event_id text NOT NULL,
    payload  bytea NOT NULL
);
