//! Names of places: `s3://bucket/key`, a path, or `-`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use object_store::path::Path;

/// What the name of an encrypted file ends with.
pub const SUFFIX: &str = ".postern";

/// A place that an object is read from or written to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// An object in a bucket, or with an empty key the whole bucket.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key, byte for byte as S3 has it.
        key: String,
    },
    /// A file.
    File(PathBuf),
    /// Standard input or output.
    Stdio,
}

/// Why a name is not that of a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Nothing was given.
    #[error("a place is s3://bucket/key, a path, or - for standard input or output")]
    Empty,
    /// Not a bucket name as S3 has them.
    #[error("{0:?} is not a bucket: 3 to 63 lower-case letters, digits, dots and hyphens")]
    Bucket(String),
    /// A key that cannot be passed on unchanged.
    #[error(
        "the key {0:?} cannot be used: at most 1,024 bytes, no control characters, no empty, \
         \".\" or \"..\" part, no / at either end"
    )]
    Key(String),
    /// Another scheme.
    #[error("{0:?} has an unknown scheme: write s3://bucket/key, or ./ before a path")]
    Scheme(String),
}

impl Location {
    /// The canonical logical name of an object at this place, to which its wrap is bound:
    /// `s3://bucket/key` with the key as it is, or the base name of the file without
    /// [`SUFFIX`]. Standard input and output have none.
    // rule: OBJ-11
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match self {
            Self::S3 { bucket, key } => Some(format!("s3://{bucket}/{key}")),
            Self::File(path) => {
                let base = path.file_name()?.to_str()?;
                let plain = base.strip_suffix(SUFFIX).filter(|plain| !plain.is_empty());
                Some(plain.unwrap_or(base).to_owned())
            }
            Self::Stdio => None,
        }
    }

    /// True if objects at this place carry their name themselves, since the place may change
    /// its own without notice.
    pub(super) fn stores_name(&self) -> bool {
        !matches!(self, Self::S3 { .. })
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            check_bucket(bucket)?;
            check_prefix(key)?;
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            });
        }
        match text {
            "" => Err(LocationError::Empty),
            "-" => Ok(Self::Stdio),
            _ if text.contains("://") => Err(LocationError::Scheme(text.to_owned())),
            _ => Ok(Self::File(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::File(path) => path.display().fmt(f),
            Self::Stdio => f.write_str("-"),
        }
    }
}

fn check_bucket(bucket: &str) -> Result<(), LocationError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = bucket.as_bytes();
    let good = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| plain(*b) || matches!(b, b'.' | b'-'))
        && bytes.first().is_some_and(|b| plain(*b))
        && bytes.last().is_some_and(|b| plain(*b))
        && !bucket.contains("..");
    if good {
        Ok(())
    } else {
        Err(LocationError::Bucket(bucket.to_owned()))
    }
}

/// A prefix for listing may end anywhere, so less is asked of it than of a key.
fn check_prefix(key: &str) -> Result<(), LocationError> {
    if key.len() <= 1024 && !key.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(LocationError::Key(key.to_owned()))
    }
}

/// The key as the S3 client takes it, provided that the client will not change it.
pub(super) fn object_path(key: &str) -> Result<Path, LocationError> {
    check_prefix(key)?;
    match Path::parse(key) {
        Ok(path) if path.as_ref() == key && !key.is_empty() => Ok(path),
        _ => Err(LocationError::Key(key.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_shown_alike() {
        for text in [
            "s3://bucket/a/b c/ä.txt",
            "s3://my.bucket-1/",
            "-",
            "dir/file",
            "./a:b",
        ] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        assert_eq!(
            "s3://bucket".parse::<Location>().unwrap().to_string(),
            "s3://bucket/"
        );
    }

    #[test]
    fn places_that_are_none_are_refused() {
        for bucket in [
            "",
            "ab",
            "Bucket",
            "-abc",
            "abc.",
            "a..b",
            "a_b",
            "user@host",
            "a:9",
        ] {
            let refused = format!("s3://{bucket}/key").parse::<Location>();
            assert_eq!(refused, Err(LocationError::Bucket(bucket.to_owned())));
        }
        assert_eq!("".parse::<Location>(), Err(LocationError::Empty));
        assert!(matches!(
            "http://h/x".parse::<Location>(),
            Err(LocationError::Scheme(_))
        ));
        assert!(matches!(
            "s3://bucket/a\nb".parse::<Location>(),
            Err(LocationError::Key(_))
        ));
        let long = format!("s3://bucket/{}", "k".repeat(1025));
        assert!(matches!(
            long.parse::<Location>(),
            Err(LocationError::Key(_))
        ));
    }

    #[test]
    fn keys_that_the_s3_client_would_change_are_refused() {
        for key in ["", "/a", "a/", "a//b", "a/../b", "./a", "a/.", "a\u{7f}"] {
            assert!(object_path(key).is_err(), "{key:?}");
        }
        for key in ["a", "a/b", "a%2Fb", "a b/ü?#&=+", "..a", "a*~[x]{y}"] {
            assert_eq!(object_path(key).map(|p| p.to_string()), Ok(key.to_owned()));
        }
    }

    /// rule: OBJ-11
    #[test]
    fn the_canonical_name_is_the_key_as_it_is_or_the_base_name() {
        let name = |text: &str| text.parse::<Location>().unwrap().name();
        assert_eq!(
            name("s3://bucket/a%20b/Ä").as_deref(),
            Some("s3://bucket/a%20b/Ä")
        );
        assert_eq!(
            name("/tmp/report.csv.postern").as_deref(),
            Some("report.csv")
        );
        assert_eq!(name("report.csv").as_deref(), Some("report.csv"));
        assert_eq!(name("dir/.postern").as_deref(), Some(".postern"));
        assert_eq!(name("-"), None);
    }
}
