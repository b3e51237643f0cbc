-- Precedence among peers that protect the same networks; set by an operator, never announced.
ALTER TABLE peer ADD COLUMN priority integer;
