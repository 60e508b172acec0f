//! User metadata of an encrypted object.
