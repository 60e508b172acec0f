//! The key server: vault, redeem, generate, rewrap, feed follower.
