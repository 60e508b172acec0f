//! End-to-end, attack and fault tests.
