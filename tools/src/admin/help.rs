//! Completions, man pages and help topics.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use client::cli::help::EXIT_CODES;
use client::cli::output::{Printed, print};
use serde_json::json;
use ticket_format::Refusal;
use ticket_format::report::{Report, exit};

use super::Context;
use super::args::Cli;
use super::view::object;

const ENVIRONMENT: &[(&str, &str)] = &[
    ("POSTERN_ADMIN_CONFIG", "configuration file (--config)"),
    (
        "POSTERN_BROKER_KEYS",
        "the broker's broker-keys.toml (--broker)",
    ),
    ("POSTERN_ADMIN_KEY", "the admin's key (--admin-key)"),
    (
        "POSTERN_ADMIN_SET",
        "the admin set by which signatures are checked (--admin-set)",
    ),
    (
        "SSH_AUTH_SOCK",
        "the OpenSSH agent that signs, where the configuration has agent-key",
    ),
    (
        "POSTERN_PASSPHRASE_FILE",
        "file with its passphrase, mode 0600 (--passphrase-file)",
    ),
    (
        "POSTERN_SHARE_KEY",
        "the admin's share key (--share-key of unseal and drill)",
    ),
    (
        "POSTERN_SHARE_PASSPHRASE_FILE",
        "file with the share key's passphrase (--share-passphrase-file)",
    ),
    ("POSTERN_FORMAT", "text, json or jsonl (--format)"),
    (
        "POSTERN_TIMEOUT",
        "how long to wait for a server (--timeout)",
    ),
    (
        "XDG_CONFIG_HOME",
        "where postern/admin.toml is looked for; then /etc/postern/admin.toml",
    ),
    (
        "NO_COLOR",
        "no colour; so do CLICOLOR=0 and TERM=dumb (--color)",
    ),
];

/// Prints a completion script.
///
/// # Errors
/// Stdout failed.
pub fn completions(shell: clap_complete::Shell) -> Printed {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "postern-admin", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Writes a man page for every command.
///
/// # Errors
/// The directory cannot be written.
pub fn man(directory: &Path) -> Printed {
    let failed = |error: std::io::Error| {
        Report::new(
            exit::LOCAL,
            format!("cannot write man pages to {}", directory.display()),
        )
        .why(error)
    };
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)
}

/// Explains a topic, a refusal or a command.
///
/// # Errors
/// There is no such topic.
pub fn topic(context: &Context, words: &[String]) -> Printed {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = context.output;
    match words.as_slice() {
        ["exit-codes"] => {
            let row = |(code, meaning): &(u8, &str)| vec![json!(code), json!(meaning)];
            let rows = EXIT_CODES.iter().map(row).collect();
            output.rows("exit_codes", &["code", "meaning"], rows)
        }
        ["environment"] => {
            let row = |(name, meaning): &(&str, &str)| vec![json!(name), json!(meaning)];
            let rows = ENVIRONMENT.iter().map(row).collect();
            output.rows("environment", &["variable", "meaning"], rows)
        }
        ["refusals"] => {
            let row = |refusal: &Refusal| {
                vec![
                    json!(refusal.number()),
                    json!(refusal.name()),
                    json!(refusal.meaning()),
                ]
            };
            let rows = Refusal::ALL.iter().map(row).collect();
            output.rows("refusals", &["number", "name", "meaning"], rows)
        }
        ["refusal", which] => {
            let by_number = which.parse().ok().and_then(Refusal::from_number);
            let by_name = || {
                let mut all = Refusal::ALL.iter().copied();
                all.find(|refusal| refusal.name() == *which)
            };
            let refusal = by_number.or_else(by_name).ok_or_else(|| {
                unknown(
                    &format!("refusal {which}"),
                    "see `postern-admin help refusals`",
                )
            })?;
            output.object(object! {
                "number": refusal.number(),
                "name": refusal.name(),
                "meaning": refusal.meaning(),
                "next": refusal.next_step(),
                "exit": refusal.exit_code(),
                "retry": refusal.retry_is_safe(),
            })
        }
        command => {
            let mut all = Cli::command();
            // Fills in what commands take from those above them.
            all.build();
            let mut found: &mut Command = &mut all;
            for word in command {
                found = found.find_subcommand_mut(word).ok_or_else(|| {
                    unknown(
                        word,
                        "topics: exit-codes, environment, refusals, refusal N, or a command",
                    )
                })?;
            }
            print(&found.render_long_help().to_string())
        }
    }
}

fn unknown(what: &str, next: &str) -> Report {
    Report::new(exit::USAGE, format!("there is no help on {what}")).next(next)
}
