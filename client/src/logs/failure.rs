//! That a server's log is not what was seen of it.

use ticket_format::report::{Report, exit};
use ticket_format::tlog::{Checkpoint, Origin};

/// A log that does not go on from what this machine remembers of it: an integrity failure, of which the
/// server, and whoever has its host, owes an explanation (TLOG-6).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {server}'s log {origin} is not what was seen of it: {why}")]
pub struct LogFailure {
    /// `broker` or `key server`.
    pub server: &'static str,
    /// The log.
    pub origin: Origin,
    /// What is remembered.
    pub remembered: Option<Checkpoint>,
    /// What the server shows, where it shows something.
    pub shown: Option<Checkpoint>,
    /// Its note: evidence, where its signatures verify.
    pub note: Option<String>,
    /// What is wrong.
    pub why: String,
}

impl LogFailure {
    /// The failure as a person reads it.
    #[must_use]
    pub fn report(&self) -> Report {
        let Self { server, origin, .. } = self;
        let what = format!("the {server}'s log {origin} is not the one that was seen before");
        let mut why = self.why.clone();
        for (word, checkpoint) in [("seen", &self.remembered), ("shown", &self.shown)] {
            if let Some(Checkpoint { shard, size, root }) = checkpoint {
                let root: String = root[..8].iter().map(|byte| format!("{byte:02x}")).collect();
                why += &format!(
                    "; {word}: shard {}, {size} entries, root {root}",
                    shard.number
                );
            }
        }
        Report::new(exit::INTEGRITY, what).why(why).next(format!(
            "use nothing of this server and tell security: it was rolled back or shows two histories; once they have explained it: `postern logs forget {origin}`"
        ))
    }
}
