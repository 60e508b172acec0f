//! The closed list of codes with which one side tells the other that something will not go on.
//!
//! The same numbers serve as QUIC application error codes in three frames: CONNECTION_CLOSE (the
//! connection ends), RESET_STREAM (no answer will come) and STOP_SENDING (the rest of the message
//! is not wanted). Errors of QUIC and TLS themselves use the numbers of RFC 9000 section 20.1 and
//! RFC 9001 section 4.8. Nobody answers an error with an error: whoever receives a code ends its
//! own half in silence.

use quinn::VarInt;

/// Why a connection or an exchange ended without an answer.
///
/// The numbers are part of the protocol and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    /// The caller is done with the connection. Connections only.
    Done = 0,
    /// The server is shutting down. On a stream: the message was not handed to the handler.
    GoingAway = 1,
    /// A limit on connections, exchanges or buffered bytes is reached. The message was not handed
    /// to the handler.
    Busy = 2,
    /// The message is longer than the receiver allows. On a request: not handed to the handler.
    TooLarge = 3,
    /// The message did not arrive whole before the deadline. Not handed to the handler.
    TooSlow = 4,
    /// The server had taken the message, but no answer came of it: the handler failed, the grace
    /// time of a shutdown ended, or the caller took too long to receive it. The outcome is unknown.
    Unfinished = 5,
    /// The peer's messages break the protocol so that nothing sensible can follow. Connections only.
    Misuse = 6,
    /// The caller gave up on its exchange. Sent by callers only.
    Abandoned = 7,
}

// rule: TR-6, REF-3
impl Code {
    /// Every code, in the order of the numbers.
    pub const ALL: [Code; 8] = [
        Code::Done,
        Code::GoingAway,
        Code::Busy,
        Code::TooLarge,
        Code::TooSlow,
        Code::Unfinished,
        Code::Misuse,
        Code::Abandoned,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The code with that number, or `None` for a number outside the list.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|code| u64::from(code.number()) == number)
    }

    /// The stable lower-case name for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Code::Done => "done",
            Code::GoingAway => "going away",
            Code::Busy => "busy",
            Code::TooLarge => "too large",
            Code::TooSlow => "too slow",
            Code::Unfinished => "unfinished",
            Code::Misuse => "misuse",
            Code::Abandoned => "abandoned",
        }
    }

    pub(crate) fn varint(self) -> VarInt {
        VarInt::from_u32(self.number())
    }

    pub(crate) fn from_varint(number: VarInt) -> Option<Self> {
        Self::from_number(number.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_own_number_and_is_found_by_it() {
        // rule: TR-6
        for (position, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.number() as usize, position);
            assert_eq!(Code::from_number(u64::from(code.number())), Some(code));
        }
        assert_eq!(Code::from_number(Code::ALL.len() as u64), None);
        assert_eq!(Code::from_number(u64::MAX), None);
    }
}
