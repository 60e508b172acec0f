//! Topics, completions, man pages, and the settings in force.

use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use serde_json::{Value, json};
use ticket_format::Refusal;
use ticket_format::report::{Report, exit};

use super::app::{App, Ended};
use super::args::Cli;
use super::output::{Printed, print};
use super::settings::{SYSTEM_FILE, Setting};

/// `postern help …`.
pub fn help(app: &App, topic: &[String]) -> Ended {
    let words: Vec<&str> = topic.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            print(&Cli::command().render_help().to_string())?;
            print("\nTopics: exit-codes, environment, wallet, agent, logs, refusals, refusal N\n")?;
        }
        ["exit-codes"] => exit_codes(app)?,
        ["environment"] => environment(app)?,
        ["wallet"] => print(WALLET)?,
        ["agent"] => print(&agent())?,
        ["logs"] => print(LOGS)?,
        ["refusals"] => refusals(app)?,
        ["refusal", number] => refusal(app, number)?,
        _ => command(&words)?,
    }
    Ok(exit::DONE)
}

fn unknown(what: String) -> Report {
    Report::new(exit::USAGE, what).next("`postern help` lists commands and topics")
}

fn command(words: &[&str]) -> Printed {
    let mut command = Cli::command();
    command.build();
    let mut at = &mut command;
    for word in words {
        at = at.find_subcommand_mut(word).ok_or_else(|| {
            unknown(format!(
                "there is no command or topic {:?}",
                words.join(" ")
            ))
        })?;
    }
    print(&at.render_long_help().to_string())
}

/// Exit codes and their meanings (CONVENTIONS: each documented).
pub const EXIT_CODES: &[(u8, &str)] = &[
    (exit::DONE, "done"),
    (exit::LOCAL, "a failure on this machine"),
    (exit::USAGE, "wrong usage"),
    (exit::NO_TICKET, "no ticket, or expired: log in"),
    (exit::REFUSED, "refused by policy"),
    (exit::DENIED, "denied: ticket, node or launch"),
    (exit::NOT_FOUND, "not found"),
    (
        exit::CONFLICT,
        "conflict: exists, already used, changed meanwhile",
    ),
    (exit::RETRY, "unreachable or busy: safe to retry"),
    (
        exit::INTEGRITY,
        "integrity failure: do not use the output (see `help logs`)",
    ),
    (exit::CONFIG, "configuration"),
    (125, "`exec`: the program was not started"),
    (126, "`exec`: the program may not be executed"),
    (127, "`exec`: there is no such program"),
    (super::INTERRUPTED, "interrupted"),
];

fn exit_codes(app: &App) -> Printed {
    let rows = EXIT_CODES
        .iter()
        .map(|(code, meaning)| vec![json!(code), json!(meaning)]);
    app.out
        .rows("exit_codes", &["code", "meaning"], rows.collect())
}

fn environment(app: &App) -> Printed {
    let settings = Setting::ALL.iter().map(|setting| {
        vec![
            json!(setting.variable()),
            json!(setting.name()),
            json!(setting.meaning()),
        ]
    });
    let others = [
        (
            "POSTERN_LOG",
            "which events are logged, as tracing's filters have it; goes before -v",
        ),
        ("NO_COLOR", "no colour; so do CLICOLOR=0 and TERM=dumb"),
        (
            "XDG_CONFIG_HOME",
            "base of the user's file postern/config.toml",
        ),
        ("XDG_STATE_HOME", "base of the node's state"),
        ("XDG_RUNTIME_DIR", "base of the wallet"),
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "the metadata service, as for the AWS SDKs",
        ),
        (
            "AWS_REGION",
            "region, credentials and endpoint of S3, as for the AWS SDKs",
        ),
    ];
    let others = others
        .iter()
        .map(|(name, meaning)| vec![json!(name), Value::Null, json!(meaning)]);
    app.out.rows(
        "environment",
        &["variable", "setting", "meaning"],
        settings.chain(others).collect(),
    )?;
    app.out.line(format!(
        "\nFiles: $XDG_CONFIG_HOME/postern/config.toml, then {SYSTEM_FILE}."
    ))
}

const WALLET: &str = "\
The wallet is one file with the node ticket, the dataset tickets and their session keys.

It is FILE:$XDG_RUNTIME_DIR/postern/wallet, or for root FILE:/run/postern/0/wallet, unless --wallet or
POSTERN_WALLET says otherwise. These places are in memory: tickets do not outlive the instance.

The file has mode 0600, must be yours, must not be a symbolic link, and is replaced in one step under a
lock. It is sealed under a key that lies in the node's state (--state): copied without that state it is
worthless, and a state that is found on another instance is thrown away by `postern login`.

`postern logout` erases the wallet. The node key stays, so that `postern login` works again; with
--forget it goes too, and the instance cannot come back under its launch.

`postern watch` holds one request open for each ticket and hears of its denial at once. It then erases
the ticket and its keys, and the wallet with the last of them, tells the server, and ends with exit
code 5. Copies that take longer than some seconds watch their ticket by themselves.
";

const LOGS: &str = "\
Broker and key servers record every act in a log that can only grow, and prove it with each answer by a
receipt. No ticket and no key is used without one that verifies, by keys that came with the bootstrap
and the dataset record; where a dataset requires witnesses, they must have cosigned it.

The newest checkpoint (size and root) that was seen of each log stands in the directory `checkpoints` of
the node's state, one file for each log, shared by all jobs of the node. On every new connection the
server must prove that its log goes on from there. `postern logs` lists them.

Exit code 9 that names a log means that a server cannot prove it, or has signed two histories: it was
rolled back, restored from an old copy, or somebody has rewritten its records. Nothing that it said is
used. Keep the file that `postern logs` names, it is evidence, and tell security. Where the contradiction
is signed, the server is not used any more, by no job of this node, whatever it shows later.

Once security has explained it, as after a recovery that a quorum signed, `postern logs forget ORIGIN`
lets this node begin anew with what the server shows next.
";

/// The command of that name, and what its rules look like.
fn agent() -> String {
    let mut command = Cli::command();
    command.build();
    let help = command.find_subcommand_mut("agent");
    let help = help.map(|agent| agent.render_long_help().to_string());
    help.unwrap_or_default() + AGENT
}

const AGENT: &str = r#"
One agent runs on each node, after `postern login`. It keeps the node's ticket and, for each job, tickets
and session keys of the job's own. Its rules, TOML that only root or its user may be able to change:

  cache_age = "5m"                      # how long a data key is kept, in locked memory; 0 keeps none
  cache_count = 10000                   # how many, of all jobs together

  [[job]]                               # the first table whose every condition is met serves a caller
  name = "analysis"
  user = "analyst"                      # a name or number, told by the kernel
  unit = "analysis.service"             # a systemd unit, told by the kernel; user, unit or both
  datasets = ["genomes"]
  actions = ["decrypt", "encrypt"]      # and rewrap
  require = { table = "readings" }      # pairs that every context must have; may be left out
  budget = 10000                        # data keys of one ticket
  life = "1h"                           # of one ticket

`postern exec --dataset genomes -- CMD` runs a program of such a job with a door that speaks AWS KMS, at
AWS_ENDPOINT_URL_KMS. `postern status` shows what the agent holds.
"#;

fn refusals(app: &App) -> Printed {
    let row = |refusal: &Refusal| {
        vec![
            json!(refusal.number()),
            json!(refusal.name()),
            json!(refusal.exit_code()),
            json!(refusal.meaning()),
            json!(refusal.next_step()),
        ]
    };
    let columns = ["number", "name", "exit", "meaning", "next"];
    app.out
        .rows("refusals", &columns, Refusal::ALL.iter().map(row).collect())
}

fn refusal(app: &App, which: &str) -> Printed {
    let by_number = which.parse().ok().and_then(Refusal::from_number);
    let by_name = || {
        Refusal::ALL
            .iter()
            .copied()
            .find(|refusal| refusal.name() == which)
    };
    let refusal = by_number
        .or_else(by_name)
        .ok_or_else(|| unknown(format!("there is no refusal {which:?}")))?;
    let mut text = String::new();
    let _ = writeln!(text, "{refusal}");
    let _ = writeln!(text, "  means: {}", refusal.meaning());
    let _ = writeln!(text, "  next:  {}", refusal.next_step());
    let _ = write!(text, "  exit:  {}", refusal.exit_code());
    let object = json!({
        "number": refusal.number(),
        "name": refusal.name(),
        "meaning": refusal.meaning(),
        "next": refusal.next_step(),
        "exit": refusal.exit_code(),
    });
    app.done(text, object)
}

/// `postern completions SHELL`.
pub fn completions(shell: clap_complete::Shell) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "postern", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(exit::DONE)
}

/// `postern man DIR`.
pub fn man(dir: &Path) -> Ended {
    let failed = |error| Report::new(exit::LOCAL, "the man pages were not written").why(error);
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
    Ok(exit::DONE)
}

/// `postern config show`.
pub fn config(app: &App, origin: bool) -> Ended {
    let mut columns = vec!["setting", "value"];
    if origin {
        columns.push("origin");
    }
    let row = |setting: &Setting| {
        let found = app.settings.effective(*setting);
        let value = found.as_ref().map(|found| found.value.clone());
        let mut row = vec![json!(setting.name()), json!(value)];
        if origin {
            let origin = found.map_or("unset".to_owned(), |found| found.origin.to_string());
            row.push(json!(origin));
        }
        row
    };
    app.out
        .rows("settings", &columns, Setting::ALL.iter().map(row).collect())?;
    Ok(exit::DONE)
}
