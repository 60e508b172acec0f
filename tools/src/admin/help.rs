//! Completions, man pages and help topics.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use client::cli::output::Printed;
use ticket_format::Refusal;
use ticket_format::report::{Report, exit};

use super::args::Cli;

const EXIT_CODES: &str = "\
0    done
1    local failure
2    usage
3    no ticket, or expired: log in
4    refused by policy
5    denied (ticket, node, launch)
6    not found
7    conflict (exists, already used)
8    unreachable or busy: safe to retry
9    integrity failure: do not use the output
10   configuration
130  interrupted
";

const ENVIRONMENT: &str = "\
POSTERN_ADMIN_CONFIG     configuration file (--config)
POSTERN_BROKER_KEYS      the broker's broker-keys.toml (--broker)
POSTERN_ADMIN_KEY        the admin's key (--admin-key)
POSTERN_PASSPHRASE_FILE  file with its passphrase, mode 0600 (--passphrase-file)
POSTERN_FORMAT           text, json or jsonl (--format)
POSTERN_TIMEOUT          how long to wait for a server (--timeout)
XDG_CONFIG_HOME          where postern/admin.toml is looked for; then /etc/postern/admin.toml
NO_COLOR, CLICOLOR, TERM whether output is coloured (--color)

A flag wins over its variable, a variable over the file.
";

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
pub fn topic(words: &[String]) -> Printed {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["exit-codes"] => print(EXIT_CODES),
        ["environment"] => print(ENVIRONMENT),
        ["refusals"] => {
            let line = |refusal: &Refusal| {
                format!(
                    "{:<3} {:<22} {}\n",
                    refusal.number(),
                    refusal.name(),
                    refusal.meaning()
                )
            };
            print(&Refusal::ALL.iter().map(line).collect::<String>())
        }
        ["refusal", which] => {
            let by_number = which.parse().ok().and_then(Refusal::from_number);
            let found = by_number.or_else(|| {
                Refusal::ALL
                    .iter()
                    .copied()
                    .find(|refusal| refusal.name() == *which)
            });
            let refusal = found.ok_or_else(|| {
                unknown(
                    &format!("refusal {which}"),
                    "see `postern-admin help refusals`",
                )
            })?;
            print(&format!(
                "{refusal}\n  means: {}\n  next:  {}\n  exit:  {}\n  retry: {}\n",
                refusal.meaning(),
                refusal.next_step(),
                refusal.exit_code(),
                if refusal.retry_is_safe() {
                    "safe"
                } else {
                    "no"
                },
            ))
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

fn print(text: &str) -> Printed {
    let mut stdout = anstream::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Report::new(exit::LOCAL, "cannot write to stdout").why(error))
        }
        _ => Ok(()),
    }
}
