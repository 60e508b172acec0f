//! The broker: login, renew, issue, denials, statements.
