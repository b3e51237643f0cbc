-- The tags whose peers a token is for; NULL: the whole fleet. An empty scope does not exist.
ALTER TABLE operator_token ADD COLUMN scope text[] CHECK (cardinality(scope) > 0);

-- Since when each peer has carried each of its tags without an interruption: what happened to it before belongs to those who had it then.
-- Of the tags from before this migration it is not known, so they count from now on.
CREATE TABLE peer_tag (
    peer  text COLLATE "C" NOT NULL REFERENCES peer ON DELETE CASCADE,
    tag   text NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (peer, tag)
);
CREATE INDEX peer_tag_holders ON peer_tag (tag, peer);
INSERT INTO peer_tag (peer, tag, since) SELECT DISTINCT id, unnest(tags), now() FROM peer;
