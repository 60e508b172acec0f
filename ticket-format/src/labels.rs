//! Every label of the protocol, in one place (`spec/ticket.md`, section 6). Two uses never share one.

/// What a ticket key signs to show that it can (KEY-4).
pub const TICKET_KEY_PROOF: &str = "postern/1 ticket key proof";
/// Input of the launch, node and proof keys' signatures on a login.
pub const LOGIN_REQUEST: &str = "postern/1 login request";
/// Input of the old node, new node and proof keys' signatures on a renewal.
pub const RENEW_REQUEST: &str = "postern/1 renew request";
/// Input of the node ticket's and the job's proof keys' signatures on an issue request.
pub const ISSUE_REQUEST: &str = "postern/1 issue request";
/// Input of the dataset ticket's proof key's signature when it is presented.
pub const PRESENT_REQUEST: &str = "postern/1 present request";
/// Input of the key server's signature over its encapsulation (PRE-2).
pub const PRESENT_ANSWER: &str = "postern/1 present answer";
/// Input of the request MAC of redeem.
pub const REDEEM_REQUEST: &str = "postern/1 redeem request";
/// Input of the request MAC of generate.
pub const GENERATE_REQUEST: &str = "postern/1 generate request";
/// Input of the request MAC of rewrap.
pub const REWRAP_REQUEST: &str = "postern/1 rewrap request";
/// Input of a subscriber's signature (DEN-3).
pub const FEED_REQUEST: &str = "postern/1 feed request";
/// Input of the feed key's signature (DEN-4).
pub const FEED_ANSWER: &str = "postern/1 feed answer";
/// Input of the ticket's proof key's signature when its denial is watched (WIP-1).
pub const WATCH_REQUEST: &str = "postern/1 watch request";
/// Input of the key server's signature over what it says of a watched ticket (WIP-2).
pub const WATCH_ANSWER: &str = "postern/1 watch answer";
/// Input of the ticket's proof key's last signature (WIP-2).
pub const WIPE_REQUEST: &str = "postern/1 wipe request";
/// Input of the node ticket's proof key's signature when it asks what an alias names (ALI-2).
pub const ALIAS_REQUEST: &str = "postern/1 alias request";
/// Evidence of a login (LOG-10).
pub const EVIDENCE_LOGIN: &str = "postern/1 evidence login";
/// Evidence of a renewal (REN-6).
pub const EVIDENCE_RENEW: &str = "postern/1 evidence renew";
/// Evidence of an issue (ISS-2).
pub const EVIDENCE_ISSUE: &str = "postern/1 evidence issue";
/// A producer's signature on a public wrap (WRAP-4).
pub const PRODUCER: &str = "postern/1 producer";
/// Links of the evidence chain (TKT-8).
pub const EVIDENCE: &str = "postern/1 evidence";
/// HPKE `info` of a presented ticket (SEAL-1).
pub const HPKE: &str = "postern/1 hpke";
/// HPKE `info` of a public wrap (WRAP-3).
pub const PUBLIC: &str = "postern/1 public";
/// HPKE export for a public wrap (WRAP-3).
pub const PUBLIC_WRAP: &str = "postern/1 public wrap";
/// Associated data of a local wrap (WRAP-2).
pub const WRAP: &str = "postern/1 wrap";
/// HPKE export for the request MAC (SEAL-3).
pub const REQUEST_MAC: &str = "postern/1 request mac";
/// HPKE export for an answer (SEAL-4).
pub const ANSWER_KEY: &str = "postern/1 answer key";
/// HKDF info of the launch key (BOOT-2).
pub const LAUNCH_KEY: &str = "postern/1 launch key";
/// Denial chain (DEN-1).
pub const DENIAL: &str = "postern/1 denial";
/// HPKE `info` of a share for its holder (ROOT-3).
pub const SHARE: &str = "postern/1 share";
/// HPKE `info` of a share for the server that collects it (ROOT-4).
pub const SHARE_GIVEN: &str = "postern/1 share given";
/// HPKE `info` of imported material (IMP-1).
pub const IMPORT: &str = "postern/1 import";
/// HKDF info of a key that is derived of imported material (IMP-2).
pub const IMPORTED: &str = "postern/1 imported key";
/// HPKE `info` of a share of an export (IMP-4).
pub const EXPORT: &str = "postern/1 export";
/// Associated data of a DEK that is sealed for a recovery recipient (RCP-1).
pub const RECOVERY: &str = "postern/1 recovery";
/// Context of an object's body (`spec/object.md`).
pub const OBJECT: &str = "postern/1 object";

/// The marker in user-data (BOOT-1).
pub const BOOTSTRAP_MARKER: &str = "# postern/1 ";
/// TLS ALPN (TR-1).
pub const ALPN: &[u8] = b"postern/1";

/// Every label that enters a signature, hash or derivation: a test holds that no two are equal.
pub const ALL: &[&str] = &[
    LOGIN_REQUEST,
    RENEW_REQUEST,
    ISSUE_REQUEST,
    PRESENT_REQUEST,
    PRESENT_ANSWER,
    REDEEM_REQUEST,
    GENERATE_REQUEST,
    REWRAP_REQUEST,
    FEED_REQUEST,
    FEED_ANSWER,
    WATCH_REQUEST,
    WATCH_ANSWER,
    WIPE_REQUEST,
    ALIAS_REQUEST,
    RECOVERY,
    EVIDENCE_LOGIN,
    EVIDENCE_RENEW,
    EVIDENCE_ISSUE,
    PRODUCER,
    EVIDENCE,
    HPKE,
    PUBLIC,
    PUBLIC_WRAP,
    WRAP,
    REQUEST_MAC,
    ANSWER_KEY,
    LAUNCH_KEY,
    DENIAL,
    SHARE,
    SHARE_GIVEN,
    IMPORT,
    IMPORTED,
    EXPORT,
    OBJECT,
];
