//! What the command line looks like.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::seal::Kem;
use ticket_format::ticket::Action;
use ticket_format::tlog::Origin;

use super::settings::Flags;
use crate::s3::Location;
use crate::s3::copy::{Format, Reading};

/// Tickets and data keys for encrypted datasets.
#[derive(Debug, Parser)]
#[command(
    name = "postern",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
#[command(
    after_help = "`postern help` lists the topics: exit-codes, environment, wallet, logs, refusals."
)]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Directory of the node's state [env: POSTERN_STATE]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<String>,
    /// The wallet, FILE:PATH [env: POSTERN_WALLET]
    #[arg(long, global = true, value_name = "FILE:PATH")]
    pub wallet: Option<String>,
    /// How results are printed [env: POSTERN_FORMAT]
    #[arg(long, global = true, value_parser = ["text", "json", "jsonl"])]
    pub format: Option<String>,
    /// Print tables without their first line
    #[arg(long, global = true)]
    pub no_header: bool,
    /// Colour [env: POSTERN_COLOR, NO_COLOR, CLICOLOR]
    #[arg(long, global = true, value_parser = ["auto", "always", "never"])]
    pub color: Option<String>,
    /// How long to wait and try again, such as 30s or 5m [env: POSTERN_TIMEOUT]
    #[arg(long, global = true, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Say more; repeat for more still
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Get a node ticket with this instance's user-data and identity document
    Login(Login),
    /// Get the next node ticket with the node key
    Renew(Renew),
    /// Say whether there is a live node ticket (exit code 0 or 3)
    Status {
        /// Print nothing; the exit code says it
        #[arg(short, long)]
        quiet: bool,
    },
    /// List the wallet's tickets
    Tickets,
    /// List the servers' logs and what was seen of each; forget one
    Logs {
        /// Without it, list them.
        #[command(subcommand)]
        command: Option<Logs>,
    },
    /// Erase the wallet
    Logout(Logout),
    /// Wait for the denial of the wallet's tickets, and erase what is denied (exit code 5)
    Watch(Watch),
    /// Hold this node's tickets, and give each job on it the keys that are the job's
    Agent(Agent),
    /// Run a program with a door to the datasets of its job, by the agent
    ///
    /// The program's exit code is that of the command; 125 when there was no door, 126 and 127 as env(1)
    /// has them. SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1 and SIGUSR2 go on
    /// to it. The door closes when it ends.
    Exec(Exec),
    /// Get a dataset ticket
    Issue(Issue),
    /// Redeem, generate and rewrap single data keys
    #[command(subcommand)]
    Dek(Dek),
    /// Keys of producers, who encrypt without any server
    #[command(subcommand)]
    Producer(Producer),
    /// Encrypt files to s3:// or *.postern
    Encrypt(Encrypt),
    /// Decrypt s3:// or *.postern to files
    Decrypt(Decrypt),
    /// Encrypt or decrypt, by which side is s3:// or *.postern
    Cp(Cp),
    /// Decrypt one object to standard output
    Cat(Cat),
    /// List the encrypted objects under s3://bucket/prefix
    Ls(Ls),
    /// Wrap the data keys under s3://bucket/prefix anew, or carry out an exposure plan
    ///
    /// With a prefix: every object of the dataset whose wrap is not of the current KEK version gets a
    /// new wrap by a copy onto itself in S3; bodies stay, context and other metadata too. Which version
    /// is current the key server's answers tell: the first object of a run is wrapped anew in any case.
    /// Run again after it was cut off, it goes on where it was. `0 wraps left` of an old version is to
    /// be believed only when all prefixes have been gone through to their ends.
    ///
    /// With --plan: objects are written anew under fresh data keys, or get new wraps, only over the
    /// versions that the plan means: what has changed since is skipped.
    ///
    /// Older versions that a bucket keeps are not touched; delete them where their data keys must open
    /// nothing, and before the KEK version that wraps them is destroyed.
    Rewrap(Rewrap),
    /// Check everything that this machine needs, one line each
    Doctor(Doctor),
    /// Show the settings in force
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Explain a command or a topic: exit-codes, environment, wallet, logs, refusals, refusal N
    Help {
        /// A command or a topic
        topic: Vec<String>,
    },
    /// Write the man pages
    #[command(hide = true)]
    Man {
        /// Where to
        dir: PathBuf,
    },
}

/// `postern login`.
#[derive(Debug, Args)]
pub struct Login {
    /// Get a new ticket although there is a live one
    #[arg(long)]
    pub force: bool,
    /// Directory of <region>.pem files in place of the built-in AWS keys [env: POSTERN_REGION_KEYS]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub region_keys: Option<String>,
    /// Also write the ticket's bytes here; alone they open nothing
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ticket_out: Option<PathBuf>,
}

/// `postern renew`.
#[derive(Debug, Args)]
pub struct Renew {
    /// Stay, and renew at half of each ticket's life until terminated
    #[arg(long)]
    pub watch: bool,
    /// Also write the ticket's bytes here; alone they open nothing
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ticket_out: Option<PathBuf>,
}

/// `postern logs …`.
#[derive(Debug, Subcommand)]
pub enum Logs {
    /// Forget what was seen of a log, once security has explained why it is another one
    ///
    /// Whatever its server shows next is then taken for the log.
    Forget {
        /// The log's origin, as `postern logs` lists it
        origin: Origin,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Only say what would be forgotten
        #[arg(long)]
        dry_run: bool,
    },
}

/// `postern logout`.
#[derive(Debug, Args)]
pub struct Logout {
    /// Erase the node key too: this instance can then not come back under its launch
    #[arg(long)]
    pub forget: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Only say what would be erased
    #[arg(long)]
    pub dry_run: bool,
}

/// `postern watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Watch the ticket to this dataset only; repeat for more
    #[arg(long, value_name = "NAME")]
    pub dataset: Vec<String>,
    /// When the node ticket is denied, erase the node key too: the instance cannot come back
    #[arg(long, conflicts_with = "dataset")]
    pub forget: bool,
}

/// `postern agent`.
#[derive(Debug, Args)]
pub struct Agent {
    /// Whom it serves, and what
    #[arg(long, value_name = "FILE", default_value = crate::agent::rules::FILE, value_hint = ValueHint::FilePath)]
    pub rules: PathBuf,
    /// Where it listens [env: POSTERN_AGENT]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<String>,
}

/// `postern exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// A dataset of the job's, by its name in the agent's rules; repeat for more
    #[arg(long, value_name = "NAME", required = true)]
    pub dataset: Vec<String>,
    /// The agent's socket [env: POSTERN_AGENT]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub agent: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<std::ffi::OsString>,
}

/// `postern issue`.
#[derive(Debug, Args)]
pub struct Issue {
    /// The dataset's name
    pub dataset: String,
    /// What for: decrypt, encrypt, rewrap
    #[arg(
        long,
        value_name = "ACTIONS",
        value_delimiter = ',',
        default_value = "decrypt"
    )]
    pub action: Vec<Action>,
    /// A pair that every object's context will have to hold; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub require: Vec<(String, String)>,
    /// Life of the ticket
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::settings::duration)]
    pub life: std::time::Duration,
    /// Most data keys
    #[arg(long, value_name = "N", default_value_t = super::issue::BUDGET, value_parser = clap::value_parser!(u64).range(1..))]
    pub budget: u64,
    /// KEM of the ticket's sealing key
    #[arg(long, default_value = "xwing", value_name = "KEM", value_parser = kem)]
    pub kem: Kem,
    /// Also write the ticket's bytes here; alone they open nothing
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ticket_out: Option<PathBuf>,
    /// Also write the dataset record, signed by its owners, which producers encrypt with
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub record_out: Option<PathBuf>,
}

/// The context of data keys that belong to no object at hand.
#[derive(Clone, Debug, Args)]
pub struct ContextArgs {
    /// Name of the object, the pair `name` of the context
    #[arg(long)]
    pub name: Option<String>,
    /// A pair of the encryption context; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub context: Vec<(String, String)>,
}

/// `postern dek`.
#[derive(Debug, Subcommand)]
pub enum Dek {
    /// Redeem wrapped data keys: one verdict each
    Redeem {
        /// The dataset
        #[arg(long)]
        dataset: Option<String>,
        /// The whole context.
        #[command(flatten)]
        context: ContextArgs,
        /// Accept keys that nobody signed for (public-unsigned)
        #[arg(long)]
        accept_unsigned: bool,
        /// Print the data keys
        #[arg(long)]
        reveal: bool,
        /// Write the data keys here with mode 0600: 32 bytes each in order, or as PEM where the context has the
        /// pair key-pair=KIND
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
        /// Files that hold one wrapped data key, as bytes or base64url; - for standard input
        #[arg(required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Have data keys made
    Generate {
        /// The dataset
        #[arg(long)]
        dataset: Option<String>,
        /// The whole context.
        #[command(flatten)]
        context: ContextArgs,
        /// How many
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
        count: u64,
        /// Print the data keys
        #[arg(long)]
        reveal: bool,
        /// Write the wrapped data key here
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
        /// Make key pairs of this kind; the pair key-pair=KIND joins the context
        #[arg(long, value_name = "KIND", value_parser = key_pair)]
        key_pair: Option<KeyPairKind>,
        /// Write the public keys of the pairs here, as PEM
        #[arg(long, value_name = "FILE", requires = "key_pair", value_hint = ValueHint::FilePath)]
        public_out: Option<PathBuf>,
        /// Write the data keys here with mode 0600: 32 bytes each in order, of key pairs the private parts as PEM
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        dek_out: Option<PathBuf>,
    },
    /// Have a wrapped data key wrapped anew under the current KEK version
    Rewrap {
        /// The dataset
        #[arg(long)]
        dataset: Option<String>,
        /// The whole context.
        #[command(flatten)]
        context: ContextArgs,
        /// A pair of the new context, if it is to be another one; repeat for more
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        new_context: Vec<(String, String)>,
        /// Write the new wrapped data key here
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
        /// A file that holds the wrapped data key, as bytes or base64url; - for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// `postern producer`.
#[derive(Debug, Subcommand)]
pub enum Producer {
    /// Make a producer's signing key; prints the public half, which an admin registers
    Init {
        /// Where the secret goes, with mode 0600
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: PathBuf,
    },
}

/// How objects are copied.
#[derive(Clone, Debug, Args)]
pub struct CopyArgs {
    /// URL of the S3 server [env: POSTERN_S3, AWS_ENDPOINT_URL_S3]
    #[arg(long, value_name = "URL")]
    pub s3: Option<String>,
    /// Objects that move at one time [env: POSTERN_PARALLEL; default: 4]
    #[arg(long, value_name = "N")]
    pub parallel: Option<String>,
    /// Name of the object, where it is not that of its place
    #[arg(long)]
    pub name: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// What is accepted of objects of the Amazon S3 Encryption Client.
#[derive(Clone, Copy, Debug, Args)]
pub struct ReadArgs {
    /// Accept objects of the S3 Encryption Client's version 2, which are not committed to their data keys
    #[arg(long)]
    pub accept_uncommitted: bool,
    /// Write to standard output what is not verified yet, of objects of the S3 Encryption Client: if exit code 9
    /// comes at the end, do not use what came before
    #[arg(long)]
    pub release_unverified: bool,
}

impl ReadArgs {
    /// As the copier takes it.
    #[must_use]
    pub fn reading(self) -> Reading {
        Reading {
            accept_uncommitted: self.accept_uncommitted,
            release_unverified: self.release_unverified,
        }
    }
}

/// Where keys for encryption come from.
#[derive(Clone, Debug, Args)]
pub struct KeyArgs {
    /// Have the dataset's key server make the data keys
    #[arg(long, conflicts_with = "record")]
    pub dataset: Option<String>,
    /// Make the data keys here, with the dataset record that its owners signed
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "admin_set")]
    pub record: Option<PathBuf>,
    /// The admin set by which the record is believed, or the statement that it came with
    #[arg(long, value_name = "FILE", requires = "record", value_hint = ValueHint::FilePath)]
    pub admin_set: Option<PathBuf>,
    /// Sign for the objects with this producer's secret
    #[arg(long, value_name = "FILE", requires = "record", value_hint = ValueHint::FilePath)]
    pub producer: Option<PathBuf>,
    /// A further pair of each object's encryption context; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub context: Vec<(String, String)>,
    /// Format of the objects: postern, or s3ec for the Amazon S3 Encryption Client [default: postern]
    #[arg(long = "as", value_name = "FORMAT", value_parser = object_format, conflicts_with = "record")]
    pub write_as: Option<Format>,
}

/// `postern encrypt`.
#[derive(Debug, Args)]
pub struct Encrypt {
    /// A file, a directory ending in /, or - for standard input
    pub from: Location,
    /// s3://bucket/key, *.postern, or a prefix or directory ending in /
    pub to: Location,
    /// Keys.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Copying.
    #[command(flatten)]
    pub copy: CopyArgs,
}

/// `postern decrypt`.
#[derive(Debug, Args)]
pub struct Decrypt {
    /// s3://bucket/key, *.postern, or a prefix or directory ending in /
    pub from: Location,
    /// A file, a directory ending in /, or - for standard output
    pub to: Location,
    /// The dataset; without it the one live dataset ticket is used
    #[arg(long)]
    pub dataset: Option<String>,
    /// Accept objects that nobody signed for (public-unsigned)
    #[arg(long)]
    pub accept_unsigned: bool,
    /// What is accepted.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Copying.
    #[command(flatten)]
    pub copy: CopyArgs,
}

/// `postern cp`.
#[derive(Debug, Args)]
pub struct Cp {
    /// Where from
    pub from: Location,
    /// Where to
    pub to: Location,
    /// Keys.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Accept objects that nobody signed for (public-unsigned)
    #[arg(long)]
    pub accept_unsigned: bool,
    /// What is accepted.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Copying.
    #[command(flatten)]
    pub copy: CopyArgs,
}

/// `postern cat`.
#[derive(Debug, Args)]
pub struct Cat {
    /// s3://bucket/key, a file, or - for standard input
    pub from: Location,
    /// Bytes a-b with b included, a- from a on, or -n for the last n
    #[arg(long, value_name = "A-B", value_parser = super::read::byte_range, allow_hyphen_values = true)]
    pub range: Option<crate::s3::copy::ByteRange>,
    /// The dataset; without it the one live dataset ticket is used
    #[arg(long)]
    pub dataset: Option<String>,
    /// Accept objects that nobody signed for (public-unsigned)
    #[arg(long)]
    pub accept_unsigned: bool,
    /// What is accepted.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Name of the object, where it is not that of its place
    #[arg(long)]
    pub name: Option<String>,
    /// URL of the S3 server [env: POSTERN_S3, AWS_ENDPOINT_URL_S3]
    #[arg(long, value_name = "URL")]
    pub s3: Option<String>,
}

/// `postern ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// s3://bucket/prefix
    pub place: Location,
    /// URL of the S3 server [env: POSTERN_S3, AWS_ENDPOINT_URL_S3]
    #[arg(long, value_name = "URL")]
    pub s3: Option<String>,
}

/// `postern rewrap`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["place", "plan"]))]
pub struct Rewrap {
    /// s3://bucket/prefix: all objects whose keys begin so
    pub place: Option<Location>,
    /// The plan that `postern-admin exposure --plan` wrote; what is done stands in FILE.done
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub plan: Option<PathBuf>,
    /// The dataset whose wraps are meant; of a plan only its objects: repeat for more
    #[arg(long, value_name = "NAME")]
    pub dataset: Vec<String>,
    /// Only look at the objects, and say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Where a prefix's run keeps how far it is [default: with the node's state]
    #[arg(long, value_name = "FILE", conflicts_with = "plan", value_hint = ValueHint::FilePath)]
    pub journal: Option<PathBuf>,
    /// Accept objects that nobody signed for (public-unsigned), where they are decrypted
    #[arg(long, requires = "plan")]
    pub accept_unsigned: bool,
    /// URL of the S3 server [env: POSTERN_S3, AWS_ENDPOINT_URL_S3]
    #[arg(long, value_name = "URL")]
    pub s3: Option<String>,
    /// Objects that move at one time [env: POSTERN_PARALLEL; default: 4, of a prefix 16]
    #[arg(long, value_name = "N")]
    pub parallel: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// `postern doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Directory of <region>.pem files in place of the built-in AWS keys [env: POSTERN_REGION_KEYS]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub region_keys: Option<String>,
}

/// `postern config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print every setting
    Show {
        /// And where its value comes from
        #[arg(long)]
        origin: bool,
    },
}

impl Cli {
    fn agent(&self) -> Option<String> {
        match &self.command {
            Command::Agent(args) => args.socket.clone(),
            Command::Exec(args) => args.agent.clone(),
            _ => None,
        }
    }

    /// What the flags set.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let Global {
            state,
            wallet,
            format,
            color,
            timeout,
            ..
        } = self.global.clone();
        let (mut region_keys, mut s3, mut parallel) = (None, None, None);
        match &self.command {
            Command::Login(Login {
                region_keys: dir, ..
            })
            | Command::Doctor(Doctor { region_keys: dir }) => {
                region_keys.clone_from(dir);
            }
            Command::Encrypt(Encrypt { copy, .. })
            | Command::Decrypt(Decrypt { copy, .. })
            | Command::Cp(Cp { copy, .. }) => {
                s3.clone_from(&copy.s3);
                parallel.clone_from(&copy.parallel);
            }
            Command::Rewrap(Rewrap {
                s3: url,
                parallel: number,
                ..
            }) => {
                s3.clone_from(url);
                parallel.clone_from(number);
            }
            Command::Cat(Cat { s3: url, .. }) | Command::Ls(Ls { s3: url, .. }) => {
                s3.clone_from(url)
            }
            _ => {}
        }
        Flags {
            state,
            wallet,
            format,
            color,
            timeout,
            region_keys,
            s3,
            parallel,
            agent: self.agent(),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn object_format(text: &str) -> Result<Format, String> {
    match text {
        "postern" => Ok(Format::Postern),
        "s3ec" => Ok(Format::S3ec),
        _ => Err("expected postern or s3ec".to_owned()),
    }
}

fn key_pair(text: &str) -> Result<KeyPairKind, String> {
    let kind = KeyPairKind::ALL.iter().find(|kind| kind.name() == text);
    kind.copied()
        .ok_or_else(|| "expected x25519, ed25519 or p-256".to_owned())
}

fn kem(text: &str) -> Result<Kem, String> {
    match text {
        "xwing" => Ok(Kem::XWing),
        "x25519" => Ok(Kem::X25519),
        _ => Err("expected xwing or x25519".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
