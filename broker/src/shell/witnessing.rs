//! Witnessing the logs of others (TLOG-9), and reading one's own files back for `status`.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use audit_log::guard::WitnessSection;
use audit_log::witness::{ServeLimits, Witness, serve, system_clock};
use audit_log::{Entries, Opened};
use store::files;
use ticket_format::cbor::Decode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::limits;
use ticket_format::tlog::WitnessSecret;
use tokio::net::TcpListener;

use super::init::WITNESS;

/// Begins to witness: from here on the socket answers, until `shutdown` completes.
///
/// # Errors
/// One line: what cannot be used.
pub(super) async fn witness(
    section: &WitnessSection,
    data: &Path,
    secret: WitnessSecret,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<SocketAddr, String> {
    // rule: TLOG-9
    let logs = section.log_keys().map_err(|error| error.to_string())?;
    let state = data.join(WITNESS);
    let opened = tokio::task::spawn_blocking(move || Witness::open(&state, secret, logs));
    let opened = opened.await.map_err(|error| error.to_string())?;
    let witness = Arc::new(opened.map_err(|error| format!("[witness]: {error}"))?);
    let at = section.listen;
    let cannot = |error: std::io::Error| format!("[witness] listen {at}: {error}");
    let listener = TcpListener::bind(at).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    let served = serve(
        listener,
        witness,
        system_clock(),
        ServeLimits::default(),
        shutdown,
    );
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "this broker witnesses no more");
        }
    });
    if let Some(path) = &section.ready_file {
        files::write_private(path, format!("{bound}\n").as_bytes())
            .map_err(|error| format!("[witness] ready-file: {error}"))?;
    }
    Ok(bound)
}

/// What the verifier of a log has to know of entries.
pub(super) struct Kinds;

impl Entries for Kinds {
    fn opened(&mut self, entry: &[u8]) -> Option<Opened> {
        // rule: TLOG-4
        let entry = Entry::from_cbor(entry, limits::ENTRY).ok()?;
        let previous = entry.log.filter(|_| entry.kind == Kind::ShardOpened)?;
        Some(Opened {
            previous: previous.shard,
            size: previous.size,
            root: previous.root,
            before: entry.count?,
            recovery: entry.proof.is_some(),
        })
    }

    fn is_closed(&mut self, entry: &[u8]) -> bool {
        let entry = Entry::from_cbor(entry, limits::ENTRY);
        entry.is_ok_and(|entry| entry.kind == Kind::ShardClosed)
    }
}
