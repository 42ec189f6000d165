//! Lays out the tables of the ledger's file.

/// The number in the file that says it is one of ours: `FERL`.
pub(super) const APPLICATION_ID: i64 = 0x4645_524C;

/// The layout that this release reads and writes.
pub(super) const FORMAT: i64 = 1;

/// Makes an empty file a ledger without rows.
///
/// `log` and `checkpoints` only grow: the triggers guard against mistakes, the hashes against malice. All other
/// tables follow from the log and are changed in the same transaction, except `sealed`, whose blobs never enter it.
pub(in crate::ledger) const TABLES: &str = "
CREATE TABLE chain (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    trust_domain TEXT NOT NULL,
    replica TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    -- The last row of the log that the tables below follow from.
    sequence INTEGER NOT NULL,
    -- The key that signs this epoch's checkpoints, as SubjectPublicKeyInfo.
    key BLOB NOT NULL,
    revocations INTEGER NOT NULL,
    authorities INTEGER NOT NULL,
    bundles INTEGER NOT NULL,
    hosts INTEGER NOT NULL,
    next_bundle INTEGER NOT NULL
) STRICT;

CREATE TABLE log (
    sequence INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER log_keeps_rows BEFORE DELETE ON log
    BEGIN SELECT RAISE(ABORT, 'rows of the log are never deleted'); END;
CREATE TRIGGER log_keeps_words BEFORE UPDATE ON log
    BEGIN SELECT RAISE(ABORT, 'rows of the log are never changed'); END;

CREATE TABLE checkpoints (
    sequence INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    hash BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;
CREATE TRIGGER checkpoints_keep_rows BEFORE DELETE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'checkpoints are never deleted'); END;
CREATE TRIGGER checkpoints_keep_words BEFORE UPDATE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'checkpoints are never changed'); END;

CREATE TABLE authorities (
    number INTEGER PRIMARY KEY,
    authority TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    step TEXT NOT NULL,
    since INTEGER NOT NULL,
    prepared INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    certificate TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL
) STRICT;

CREATE TABLE sealed (
    authority TEXT PRIMARY KEY REFERENCES authorities (authority),
    blob BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Rows in the order of issue, so that a new one touches the last page; the index holds the last eight octets of
-- the serial and not all of it, because its pages are the ones that every issue touches somewhere at random.
CREATE TABLE live (
    number INTEGER PRIMARY KEY,
    tag INTEGER NOT NULL,
    serial BLOB NOT NULL,
    issuer INTEGER NOT NULL REFERENCES authorities (number),
    not_after INTEGER NOT NULL,
    id TEXT NOT NULL,
    host TEXT
) STRICT;
CREATE INDEX live_by_tag ON live (tag);
CREATE INDEX live_by_end ON live (not_after);

CREATE TABLE tokens (
    number INTEGER PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    secret TEXT NOT NULL UNIQUE,
    identities TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    state TEXT NOT NULL,
    host TEXT
) STRICT;

CREATE TABLE hosts (
    host TEXT PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    identities TEXT NOT NULL,
    token TEXT NOT NULL REFERENCES tokens (token),
    enrolled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revocations (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    issuer TEXT,
    not_after INTEGER,
    reason TEXT NOT NULL,
    revoked_by TEXT NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE bundles (
    sequence INTEGER PRIMARY KEY,
    anchors TEXT NOT NULL,
    published INTEGER NOT NULL
) STRICT;

CREATE TABLE acknowledgements (
    who TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";
