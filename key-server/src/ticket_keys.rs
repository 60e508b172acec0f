//! The broker's ticket-signing keys, as this server has followed them through the feed (KEY-2).

use std::sync::{Arc, PoisonError, RwLock};

use ticket_format::keys::TicketKey;
use ticket_format::ticket::TicketKeys;

/// The keys that tickets are verified by. They are replaced while requests are being decided: who decides
/// by them asks for them once.
#[derive(Debug)]
pub struct TicketRing(RwLock<Arc<TicketKeys>>);

/// The configured key is none of those that were followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the ticket key of the configuration, {configured}, is none of those that this server has followed, the newest of which is {newest}: configure one of them"
)]
pub struct OtherKeys {
    // Keys are large, and errors are to be small.
    configured: Box<TicketKey>,
    newest: Box<TicketKey>,
}

impl TicketRing {
    /// What the store has of the configured key; where it has nothing, that key alone.
    ///
    /// # Errors
    /// [`OtherKeys`].
    pub fn open(configured: TicketKey, kept: Option<TicketKeys>) -> Result<Self, OtherKeys> {
        // rule: KEY-2
        let keys = kept.unwrap_or_else(|| TicketKeys::of(configured));
        if !keys.knows(&configured) {
            return Err(OtherKeys {
                configured: Box::new(configured),
                newest: Box::new(*keys.newest()),
            });
        }
        Ok(Self(RwLock::new(Arc::new(keys))))
    }

    /// The keys as they stand.
    #[must_use]
    pub fn get(&self) -> Arc<TicketKeys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts keys in force that are durable.
    pub fn put(&self, keys: TicketKeys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::keys::TicketSecret;

    #[test]
    fn a_configured_key_that_was_never_followed_is_refused() {
        // rule: KEY-2
        let key = |seed| TicketSecret::from_seed(&[seed; 32]).public();
        let fresh = TicketRing::open(key(1), None).unwrap();
        assert_eq!(fresh.get().newest(), &key(1));
        let kept = TicketKeys::of(key(1));
        assert!(TicketRing::open(key(1), Some(kept.clone())).is_ok());
        let refused = TicketRing::open(key(2), Some(kept)).unwrap_err();
        assert!(refused.to_string().contains("configure one of them"));
    }
}
