//! Append-only audit records with group commit.
