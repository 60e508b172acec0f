//! Numbers of the protocol (`spec/protocol.md`, section 11). Sizes in bytes, times in seconds.

/// Request or answer.
pub const MESSAGE: usize = 2 * 1024 * 1024;
/// Body of login, renew, issue, feed, watch or wipe.
pub const SMALL_MESSAGE: usize = 32 * 1024;
/// Body of present, with its evidence.
pub const PRESENT: usize = 96 * 1024;
/// Ticket (TKT-1).
pub const TICKET: usize = 8 * 1024;
/// Statement: its largest part is a policy text.
pub const STATEMENT: usize = 96 * 1024;
/// Statement of a launch, an admin set or a lifting.
pub const RECORD: usize = 16 * 1024;
/// IID proof as text.
pub const IID_TEXT: usize = 8 * 1024;
/// Items in one redeem, generate or rewrap.
pub const ITEMS: usize = 1_000;
/// Items in one rewrap, which its record names twice, and new wraps that it says are in place, together.
pub const REWRAPS: usize = 500;
/// KEK versions of one dataset: an entry names each by one byte, and none by 255 (INV-1).
pub const KEKS: usize = 255;
/// Wrapped DEK on the wire.
pub const WRAPPED: usize = 1_400;
/// `local` wrapped DEK (WRAP-1).
pub const LOCAL_WRAP: usize = 160;
/// `public` wrapped DEK (WRAP-1).
pub const PUBLIC_WRAP: usize = 1_340;
/// Pairs in a context.
pub const PAIRS: usize = 16;
/// Key of a pair.
pub const PAIR_KEY: usize = 64;
/// Value of a pair.
pub const PAIR_VALUE: usize = 1_024;
/// Names of datasets, nodes, realms.
pub const NAME: usize = 128;
/// Policy text.
pub const POLICY: usize = 64 * 1024;
/// Audit entry (AUD-3).
pub const ENTRY: usize = 60 * 1024;
/// Proof of a receipt, and checkpoint with its cosignatures.
pub const NOTE: usize = 48 * 1024;
/// Witness policy.
pub const WITNESS_POLICY: usize = 16 * 1024;
/// Witnesses of one log.
pub const WITNESSES: usize = 8;
/// Sizes that are asked about beside a checkpoint (TLOG-6).
pub const OTHERS: usize = 64;
/// Shards proven in one answer (TLOG-6).
pub const SHARD_LINKS: usize = 16;
/// Epochs in one feed answer.
pub const EPOCHS: usize = 1_000;
/// Reports in one feed request.
pub const REPORTS: usize = 16;
/// Admins in a set, signatures on a statement.
pub const ADMINS: usize = 16;
/// Admin set as a map, in a bootstrap.
pub const ADMIN_SET: usize = 4_096;
/// Subscribers of the feed.
pub const SUBSCRIBERS: usize = 1_024;
/// Presented tickets per connection.
pub const PRESENTED: usize = 64;
/// User-data (EC2's own limit).
pub const USER_DATA: usize = 16 * 1024;

/// How far two honest clocks may differ (TIM-1).
pub const SKEW: u64 = 60;
/// Life of a node ticket.
pub const NODE_TICKET_LIFE: u64 = 8 * 3_600;
/// Longest life of any ticket: denials are kept this long and the skew (DEN-7).
pub const LONGEST_TICKET_LIFE: u64 = 24 * 3_600;
/// Within this time of its claim a login may be retried (LOG-7).
pub const LOGIN_RETRY_WINDOW: u64 = 10 * 60;
/// Longest span between a statement's not-before and expiry (ADM-1).
pub const STATEMENT_LIFE: u64 = 24 * 3_600;
/// Longest that the broker holds a feed request, in milliseconds.
pub const FEED_HOLD_MS: u64 = 30_000;
