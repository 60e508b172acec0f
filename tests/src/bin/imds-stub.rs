//! Runs the metadata service stand-in until it is interrupted or terminated.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tests::imds_stub::{StubConfig, serve};
use tokio::signal::unix::{SignalKind, signal};

/// Serves a signed identity document and user-data on loopback, as IMDSv2 does on EC2.
#[derive(Parser)]
#[command(name = "imds-stub")]
struct Arguments {
    /// The identity document, JSON as AWS signed it.
    #[arg(long, value_name = "FILE")]
    document: PathBuf,
    /// The document's rsa2048 proof, base64 text.
    #[arg(long, value_name = "FILE")]
    rsa2048: PathBuf,
    /// The document's pkcs7 proof, base64 text.
    #[arg(long, value_name = "FILE")]
    pkcs7: Option<PathBuf>,
    /// The document's bare signature, base64 text.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// User-data, raw bytes; none: the service answers 404.
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// Loopback address to listen on; port 0 takes any free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed standard error leaves nothing to tell it to.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> io::Result<()> {
    let config = StubConfig {
        listen: arguments.listen,
        document: read(&arguments.document)?,
        rsa2048: Some(read(&arguments.rsa2048)?),
        pkcs7: arguments.pkcs7.as_deref().map(read).transpose()?,
        signature: arguments.signature.as_deref().map(read).transpose()?,
        user_data: arguments.user_data.as_deref().map(read).transpose()?,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let (address, handle) = serve(config).await?;
    writeln!(io::stdout(), "listening http://{address}")?;
    io::stdout().flush()?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    handle.stop().await;
    Ok(())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}
