//! Why a body was refused.

/// Why an object body could not be written or was refused.
///
/// All but [`BodyError::TooLong`], [`BodyError::WholeTooLong`] and [`BodyError::RangeOutside`] are integrity failures: what was
/// released before the error is genuine, but the object as a whole is not to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Fewer bytes than the salt and the commitment.
    #[error("the body has {have} bytes, its header alone needs 56: it was cut off")]
    HeaderTruncated {
        /// Bytes that were there.
        have: u64,
    },
    /// The commitment is not the one of this data key, dataset and context (`OBJ-5`).
    #[error(
        "the body does not belong to this data key and context: its key commitment is another one"
    )]
    WrongCommitment,
    /// A chunk failed authentication: altered, moved, or from another object (`OBJ-7`).
    #[error("chunk {index} of the body failed authentication: it was altered, moved or swapped")]
    ChunkRefused {
        /// Number of the chunk, from zero.
        index: u64,
    },
    /// The body ends where no body can end: after a full chunk, or inside a tag (`OBJ-6`).
    #[error("the body ends after {have} bytes, where no body can end: it was cut off")]
    Truncated {
        /// Bytes of the body that were there, header included.
        have: u64,
    },
    /// Fewer or more bytes of a range arrived than the plan asked for.
    #[error("a range read wanted {want} bytes of the body and got {have}")]
    RangeLength {
        /// Bytes that the plan asked for.
        want: u64,
        /// Bytes that were given.
        have: u64,
    },
    /// More than 2^38 chunks (`OBJ-6`).
    #[error("the object is longer than 4 PiB, the most that one body can hold")]
    TooLong,
    /// The tag of a body that is one message is another one (`AMZ-8`).
    #[error("the body failed authentication: it was altered, cut off or swapped")]
    WholeRefused,
    /// More than one AES-GCM message holds (`AMZ-1`).
    #[error("the object is longer than 64 GiB less 32 bytes, the most that this format can hold")]
    WholeTooLong,
    /// The asked range does not lie in the object.
    #[error("bytes {start}..{end} do not lie in the object of {len} bytes")]
    RangeOutside {
        /// First byte asked for.
        start: u64,
        /// First byte not asked for.
        end: u64,
        /// Length of the plaintext, as far as the store says.
        len: u64,
    },
    /// The cryptographic library refused a call that cannot fail on valid lengths.
    #[error("the cryptographic library refused an operation")]
    Library,
}

impl BodyError {
    /// True if the bytes are at fault, so the output must not be used (exit code 9).
    #[must_use]
    pub fn is_integrity(&self) -> bool {
        !matches!(
            self,
            Self::TooLong | Self::WholeTooLong | Self::RangeOutside { .. } | Self::Library
        )
    }
}
