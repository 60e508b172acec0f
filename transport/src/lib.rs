//! QUIC endpoints: pinned identities, exporter, one stream per exchange.
