//! A new wrap beside a body that stays as it is.

use std::sync::Arc;

use futures::stream::StreamExt;

use super::rewrite::finish;
use super::{CopyError, Failed, Job, Progress};
use crate::object::keys::NewWrap;
use crate::object::metadata::ObjectMetadata;
use crate::s3::{ObjectSource, StoreError, Stores};

/// Puts a new wrap of its data key beside an object; gives the length of the body. S3 changes no
/// metadata in place but copies an object onto itself with other metadata; where it cannot, the body
/// comes here and goes back as it is.
// rule: OBJ-16
pub(super) async fn put_wrap<E>(
    stores: Stores,
    job: Job,
    source: ObjectSource,
    wrap: NewWrap,
    progress: Arc<dyn Progress>,
) -> Result<u64, CopyError<E>> {
    let expected = source.body_len();
    progress.begin(&job, expected);
    let metadata = ObjectMetadata {
        wrapped: wrap.wrapped,
        kek_version: wrap.kek_version,
        stored_context: source.metadata.stored_context.clone(),
        // They stand beside the object, and stay: they are of its data key, not of this wrap (RCP-3).
        recoveries: Vec::new(),
    };
    if source.relabel(&stores, &metadata).await? {
        let len = expected.unwrap_or_default();
        progress.advance(len);
        return Ok(len);
    }
    let mut sink = source.replacement(&stores, &metadata)?;
    let written = async {
        let mut read = 0_u64;
        let mut body = source.into_body(&stores).await?;
        while let Some(piece) = body.next().await {
            let piece = piece?;
            read += piece.len() as u64;
            progress.advance(piece.len() as u64);
            sink.write(&piece).await?;
        }
        // The body is not opened here: what the store had said must at least have come.
        if expected.is_some_and(|expected| expected != read) {
            return Err(Failed::Store(StoreError::Answer {
                place: job.to.to_string(),
                why: "it sent another number of bytes than it had said",
            }));
        }
        Ok(read)
    };
    let written = written.await;
    finish(sink, written, &job).await
}
