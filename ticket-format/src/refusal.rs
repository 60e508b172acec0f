//! The closed, numbered list of refusals (`spec/refusals.md`). One table; every name, number, sentence and exit code comes from it.

macro_rules! refusals {
    ($($number:literal $variant:ident $name:literal $exit:literal $meaning:literal $next:literal;)*) => {
        /// Why a request was refused: what a peer is told, what the record and the metric say (REF-1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Refusal {
            $(#[doc = $meaning] $variant = $number,)*
        }

        impl Refusal {
            /// Every refusal, by ascending number.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$variant,)*];

            /// The refusal of this number.
            #[must_use]
            pub fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The stable kebab-case name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, one clause.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What to do next, one clause.
            #[must_use]
            pub fn next_step(self) -> &'static str {
                match self { $(Self::$variant => $next,)* }
            }

            /// The exit code of a command that ends with this refusal.
            #[must_use]
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit,)* }
            }
        }
    };
}

refusals! {
    1 Malformed "malformed" 1 "the message is not deterministic CBOR of the expected shape" "client bug or damage: update the client";
    2 Unsupported "unsupported" 1 "verb or version unknown" "update the client or the server";
    3 TooLarge "too-large" 1 "a limit of section 11 was passed" "send fewer or smaller items";
    4 Busy "busy" 8 "the server sheds load" "retry with back-off";
    5 Internal "internal" 8 "the server failed; its log says why" "retry; then ask the operator";
    10 NotAuthenticated "not-authenticated" 4 "unknown launch, node or key, or a signature that does not verify" "check that user-data and launch belong together";
    11 LaunchClosed "launch-closed" 4 "outside the launch's window" "create a new launch";
    12 LaunchUsed "launch-used" 7 "the launch has no use left" "create a new launch; if nobody else should have used it, treat it as stolen";
    13 IdentityRefused "identity-refused" 4 "the identity document does not verify" "fetch it again from the metadata service; check the region table";
    14 Denied "denied" 5 "a denial hits this ticket, node or launch" "ask an admin";
    15 IdentityMismatch "identity-mismatch" 4 "account, region or image is not the launch's" "launch in the right place or create a launch that fits";
    16 DocumentTooOld "document-too-old" 4 "the instance was launched too long ago for this launch" "start a new instance or raise the launch's maximum age";
    17 DocumentFromFuture "document-from-future" 4 "pendingTime is ahead of the broker's clock" "check clocks";
    18 NodeConflict "node-conflict" 5 "this node logged in with another node key; its record is now frozen" "ask an admin to decide";
    19 NodeFrozen "node-frozen" 5 "the node's record is frozen" "ask an admin to decide";
    20 KeyReused "key-reused" 4 "a key is used in two roles or registered already" "make fresh keys";
    22 NodeExpired "node-expired" 3 "the launch's node life is over" "start a new instance";
    23 Fork "fork" 5 "an outdated node key was used: two holders of one identity; the record is now frozen" "ask an admin to decide";
    24 RetryOver "retry-over" 3 "this login was answered before; the retry window is over" "renew with the node key";
    30 TicketMalformed "ticket-malformed" 3 "the ticket does not have the one accepted shape" "log in or issue again";
    31 TicketSignature "ticket-signature" 3 "unknown signing key or bad signature" "log in or issue again";
    32 TicketExpired "ticket-expired" 3 "the ticket's life is over" "log in or issue again";
    33 TicketNotYetValid "ticket-not-yet-valid" 3 "the ticket begins in the future" "check clocks";
    34 TicketAudience "ticket-audience" 3 "the ticket is for another server" "ask the server that the ticket names";
    35 TicketKind "ticket-kind" 3 "node ticket where a dataset ticket is wanted, or the reverse" "present the right ticket";
    36 Possession "possession" 3 "the proof does not verify on this connection" "make the proof anew on this connection";
    37 HandleUnknown "handle-unknown" 3 "no such presented ticket on this connection" "present the ticket first";
    40 Policy "policy" 4 "no policy permits it" "ask who owns the dataset";
    41 DatasetUnknown "dataset-unknown" 6 "no such dataset" "check the name";
    42 Budget "budget" 4 "the ticket's or node's budget is used up" "issue a new ticket, or ask for a larger budget";
    43 Action "action" 4 "the ticket does not carry this action" "issue a ticket with the action";
    44 Context "context" 4 "a required pair is missing from the item's context" "give the context that the ticket demands";
    45 Kem "kem" 4 "the dataset does not allow this KEM" "use X-Wing";
    46 Evidence "evidence" 9 "the dataset wants evidence beside the ticket, and it is missing or does not prove what the ticket says" "log in again; if it persists, the broker is not to be trusted: tell security";
    47 Receipt "receipt" 9 "the ticket came without proof that its issue stands in the broker's log, or that log has forked" "issue again; if it persists, the broker is not to be trusted: tell security";
    50 WrapMalformed "wrap-malformed" 9 "not a wrapped DEK" "the object's metadata is damaged";
    51 WrapDataset "wrap-dataset" 4 "the wrap is of another dataset" "issue a ticket for that dataset";
    52 KekUnknown "kek-unknown" 4 "the key server has no such KEK" "ask the operator";
    53 KekState "kek-state" 4 "the KEK may not be used so" "ask the operator";
    54 WrapAuthentication "wrap-authentication" 9 "the wrap does not open with this context" "wrong context, or damage: do not use the object";
    55 WrapCommitment "wrap-commitment" 9 "the public wrap's commitment does not match" "damage: do not use the object";
    56 Producer "producer" 9 "the producer is not registered or its signature does not verify" "ask the dataset's owner";
    60 Lease "lease" 8 "the key server has not heard the broker for its lease" "retry shortly; check the broker";
    61 NotSubscriber "not-subscriber" 4 "no dataset record names this subscriber" "register a dataset record";
    62 Rollback "rollback" 9 "state older than what was seen before was offered" "integrity alarm: find out who restored what";
    63 Clock "clock" 10 "the clock reads before the last persisted time" "set the clock";
    64 AuditUnavailable "audit-unavailable" 8 "the record cannot be written" "free disk space; retry";
    65 StoreUnavailable "store-unavailable" 8 "the store cannot be written" "free disk space; retry";
    66 Unwitnessed "unwitnessed" 8 "too few witnesses have cosigned the record in time" "retry; check the witnesses";
    67 Pruned "pruned" 6 "what would prove it is not kept in the log any more" "let security look at the archive; where all is well, have the caller forget its checkpoint";
    68 Sealed "sealed" 8 "the key server is sealed: it has no root key" "have shares given: `postern-admin unseal`";
    69 ImportUnknown "import-unknown" 7 "no such import of this dataset: it was used, is over, or the key server was restarted" "begin again: `postern-admin dataset import begin`";
    70 StatementMalformed "statement-malformed" 1 "not a statement, or its act is unknown" "update the tool";
    71 StatementSignature "statement-signature" 1 "signer not registered or signature bad" "sign with a registered admin key";
    72 StatementExpired "statement-expired" 1 "outside not-before and expiry" "make it anew";
    73 StatementReplayed "statement-replayed" 7 "this id was used before" "make it anew";
    74 StatementAudience "statement-audience" 1 "the statement is for another server or realm" "send it to the server that it names";
    75 Exists "exists" 7 "there is one already" "choose another name";
    76 NotFound "not-found" 6 "there is none" "check the name";
    77 Invalid "invalid" 1 "the act's content does not hold; the detail says what" "mend it and sign again";
    78 Quorum "quorum" 4 "too few admins of the role that the act needs have signed" "have it approved: `postern-admin approve`";
    79 Stale "stale" 7 "another one stands by now than the one that the statement replaces or names" "look again, and make it anew";
}

impl Refusal {
    /// The number on the wire, 1 to 99.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn retry_is_safe(self) -> bool {
        matches!(
            self,
            Self::Busy
                | Self::Internal
                | Self::Lease
                | Self::AuditUnavailable
                | Self::StoreUnavailable
                | Self::Unwitnessed
                | Self::Sealed
        )
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refusal {}: {}", self.number(), self.name())
    }
}

impl std::error::Error for Refusal {}
