//! Bytes and meaning: tickets, messages, sealing, wrapped DEKs. No I/O, clock or RNG.
