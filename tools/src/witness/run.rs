//! `postern-witness run`.

use std::path::PathBuf;
use std::sync::Arc;

use audit_log::witness::{self, ServeLimits, StateError, Witness};
use store::files;
use ticket_format::report::{Report, exit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::config::Setup;
use super::keys::{Keys, STATE};
use super::say;

pub(crate) fn state_report(error: &StateError) -> Report {
    let (code, next) = match error {
        StateError::Damaged { .. } | StateError::Missing { .. } => (
            exit::INTEGRITY,
            "never start a witness from less than it signed",
        ),
        StateError::InUse { .. } => (exit::CONFLICT, "one process serves a witness"),
        StateError::NotPrivate { .. } => (
            exit::CONFIG,
            "close it to others and ask who could write to it",
        ),
        StateError::Twice { .. } | StateError::TooMany { .. } => {
            (exit::CONFIG, "take logs out of the configuration")
        }
        StateError::Io { .. } | StateError::Exists { .. } => {
            (exit::LOCAL, "check the directory and the disk")
        }
    };
    Report::new(code, "the witness's state cannot be used")
        .why(error)
        .next(next)
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`Report`]: state, socket.
pub async fn serve(setup: Setup, keys: &Keys, ready_file: Option<PathBuf>) -> Result<(), Report> {
    let cannot = |error: &dyn std::fmt::Display| {
        Report::new(exit::LOCAL, "the witness cannot start").why(error)
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| cannot(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| cannot(&error))?;
    let secret = keys.secret()?;
    let state = setup.data_dir.join(STATE);
    let logs = setup.logs;
    let opened = tokio::task::spawn_blocking(move || Witness::open(&state, secret, logs));
    let witness = opened
        .await
        .map_err(|error| cannot(&error))?
        .map_err(|error| state_report(&error))?;
    let listener = TcpListener::bind(setup.listen)
        .await
        .map_err(|error| cannot(&format!("listen {}: {error}", setup.listen)))?;
    let address = listener.local_addr().map_err(|error| cannot(&error))?;
    say(&format!("listening {address}"));
    if let Some(path) = ready_file.or(setup.ready_file) {
        files::write_private(&path, format!("{address}\n").as_bytes())
            .map_err(|error| cannot(&error))?;
    }
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(%address, witness = keys.name(), "serving");
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("stopping");
    };
    witness::serve(
        listener,
        Arc::new(witness),
        witness::system_clock(),
        ServeLimits::default(),
        stopped,
    )
    .await
    .map_err(|error| Report::new(exit::LOCAL, "the witness had to stop").why(error))
}
