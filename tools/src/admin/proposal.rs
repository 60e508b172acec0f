//! `postern-admin proposal`: what waits for more signatures, in the broker's inbox or in a file.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use client::cli::output::{Format, Printed};
use serde_json::{Map, Value, json};
use store::files;
use ticket_format::ids::StatementId;
use ticket_format::limits;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::{
    Act, Admin as AdminEntry, AdminSet, AdminSetBody, Audience, ProposalList, ProposalRow,
    ProposalShow, ProposalWithdraw, Propose, ReceivedStatement,
};
use ticket_format::time::Timestamp;

use super::remote::Admin;
use super::view::{object, text};
use super::{Context, ask, block_on, now, words};

/// What waits for signatures.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what waits
    List,
    /// Say in words what one would do
    Show {
        /// Its id, or a file
        proposal: Which,
    },
    /// Take one back: as one who signed it, or as security
    Withdraw {
        /// Its id
        id: StatementId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// A proposal: in the inbox by its id, or in a file.
#[derive(Clone, Debug)]
pub enum Which {
    /// In the broker's inbox.
    Inbox(StatementId),
    /// In a file.
    File(PathBuf),
}

impl std::str::FromStr for Which {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text
            .parse()
            .map_or_else(|_| Self::File(PathBuf::from(text)), Self::Inbox))
    }
}

/// A statement that waits.
#[derive(Clone, Debug)]
pub struct Proposed {
    /// Its id.
    pub id: StatementId,
    /// What it would do.
    pub act: Act,
    /// How many signatures count.
    pub counting: u64,
    /// How many must.
    pub needed: u64,
    /// Until when it is kept, or good.
    pub until: Timestamp,
    /// The file that it is in; none: the inbox.
    pub file: Option<PathBuf>,
}

impl Proposed {
    /// How the next admin names it.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.file {
            Some(file) => file.display().to_string(),
            None => self.id.to_string(),
        }
    }

    /// Says so, on stdout.
    ///
    /// # Errors
    /// Stdout failed.
    pub fn print(&self, context: &Context) -> Printed {
        if context.output.format == Format::Text {
            let until = if self.until == Timestamp::LAST {
                String::new()
            } else {
                format!(", kept until {}", self.until)
            };
            return context.output.line(format_args!(
                "proposed {}: {} of {} signatures{until}; next: postern-admin approve {}",
                self.id,
                self.counting,
                self.needed,
                self.name()
            ));
        }
        context.output.object(self.json())
    }

    /// As JSON has it.
    #[must_use]
    pub fn json(&self) -> Map<String, Value> {
        object! {
            "proposed": text(self.id),
            "act": self.act.name(),
            "signatures": self.counting,
            "needed": self.needed,
            "until": text(self.until),
            "file": self.file.as_ref().map(|file| text(file.display())),
        }
    }
}

/// How many admins must sign this act.
///
/// # Errors
/// The set in force has no number for it.
pub fn needed(set: &AdminSet, act: Act) -> Result<u64, Report> {
    set.quorum(act).ok_or_else(|| {
        Report::new(exit::REFUSED, format!("nobody may do {act} in this realm"))
            .why(format!(
                "version {} of the admin set has no number for it",
                set.version()
            ))
            .next("let security change the set: postern-admin admin-set change --rule ACT=K")
    })
}

/// Writes a statement into a new file.
///
/// # Errors
/// It exists, or cannot be written.
pub fn write_new(file: &Path, statement: &[u8]) -> Result<(), Report> {
    files::create_private(file, statement).map_err(|error| {
        let code = match error {
            files::FileError::Exists(_) => exit::CONFLICT,
            _ => exit::LOCAL,
        };
        Report::new(code, format!("{} was not written", file.display()))
            .why(error)
            .next("give another file")
    })
}

/// Leaves a statement for others to sign: in this file, or in the broker's inbox.
///
/// # Errors
/// The file exists, or the broker does not take it.
pub async fn leave(
    admin: &Admin,
    statement: &[u8],
    file: Option<&Path>,
) -> Result<Proposed, Report> {
    let Some(file) = file else {
        let mut broker = admin.broker()?;
        let row = broker
            .ask(&Propose {
                statement: statement.to_vec(),
            })
            .await?;
        broker.close().await;
        return Ok(of_row(&row));
    };
    write_new(file, statement)?;
    let opened = open(statement, admin).await?;
    Ok(opened.proposed(Some(file.to_owned())))
}

fn of_row(row: &ProposalRow) -> Proposed {
    Proposed {
        id: row.id,
        act: row.act,
        counting: row.counting,
        needed: row.needed,
        until: row.until,
        file: None,
    }
}

/// A proposal whose every signature was verified by the set in force.
#[derive(Debug)]
pub struct Opened {
    /// The statement.
    pub received: ReceivedStatement,
    /// Who signed.
    pub signers: Vec<AdminEntry>,
    /// How many of them count.
    pub counting: u64,
    /// How many must.
    pub needed: u64,
    /// The set by which it was verified: its own, where it is a realm's first.
    pub set: AdminSet,
    /// Whether it is a realm's first set, which all its admins sign.
    pub first: bool,
}

impl Opened {
    /// As it is told.
    #[must_use]
    pub fn proposed(&self, file: Option<PathBuf>) -> Proposed {
        let payload = self.received.payload();
        Proposed {
            id: payload.id,
            act: payload.act,
            counting: self.counting,
            needed: self.needed,
            until: payload.expires,
            file,
        }
    }

    /// Whether it may be carried out.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.counting >= self.needed
    }
}

/// The realm's first set, if that is what the statement is of: it is verified by itself.
fn first_set(received: &ReceivedStatement) -> Option<AdminSetBody> {
    let body = received.body::<AdminSetBody>().ok()?;
    (body.version == 1).then_some(body)
}

/// Verifies a statement's signatures: by the set in force, or a realm's first set by itself.
///
/// # Errors
/// It is no statement, of another realm, expired, or a signature does not hold.
pub async fn open(statement: &[u8], admin: &Admin) -> Result<Opened, Report> {
    let refused = |error: ticket_format::statement::StatementRefusal| {
        let mut report = Report::new(exit::INTEGRITY, "the statement is not to be signed")
            .why(error)
            .next("ask whom it came from");
        report.refusal = Some(error.refusal());
        report
    };
    let received = ReceivedStatement::parse(statement).map_err(refused)?;
    let payload = received.payload();
    if payload.realm != admin.realm() {
        return Err(refused(ticket_format::statement::StatementRefusal::Realm));
    }
    if now() >= payload.expires || now().plus(limits::SKEW) < payload.not_before {
        return Err(refused(ticket_format::statement::StatementRefusal::Expired));
    }
    let (set, first) = match first_set(&received) {
        Some(body) => {
            let set = AdminSet::new(body).map_err(|fault| {
                Report::new(exit::INTEGRITY, "this first admin set cannot stand").why(fault)
            })?;
            (set, true)
        }
        None => (admin.set().await?.clone(), false),
    };
    let signers = received.signed_by(&set).map_err(refused)?;
    let (counting, needed) = if first {
        (signers.len() as u64, set.admins().len() as u64)
    } else {
        (
            set.counting(payload.act, &signers),
            needed(&set, payload.act)?,
        )
    };
    Ok(Opened {
        received,
        signers,
        counting,
        needed,
        set,
        first,
    })
}

/// Fetches a proposal: from a file, or from the broker's inbox.
///
/// # Errors
/// There is none.
pub async fn fetch(admin: &Admin, which: &Which) -> Result<Vec<u8>, Report> {
    match which {
        Which::File(file) => files::read_bounded(file, limits::STATEMENT as u64).map_err(|error| {
            Report::new(
                exit::NOT_FOUND,
                format!("there is no proposal in {}", file.display()),
            )
            .why(error)
            .next("give the id of `postern-admin list --pending`, or a file")
        }),
        Which::Inbox(id) => {
            let mut broker = admin.broker()?;
            let view = broker.ask(&ProposalShow { id: *id }).await?;
            broker.close().await;
            let same = ReceivedStatement::parse(&view.statement)
                .is_ok_and(|received| received.payload().id == *id);
            if same {
                Ok(view.statement)
            } else {
                Err(Report::new(
                    exit::INTEGRITY,
                    "the broker shows another statement than was asked for",
                ))
            }
        }
    }
}

/// Runs one of them.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::List => list(context),
        Command::Show { proposal } => show(context, &proposal),
        Command::Withdraw { id, yes } => withdraw(context, id, yes),
    }
}

/// Lists what waits in the broker's inbox.
///
/// # Errors
/// Whatever stopped it.
pub fn list(context: &Context) -> Printed {
    let (_, admin) = context.admin()?;
    block_on(async {
        let (mut broker, mut rows) = (admin.broker()?, Vec::new());
        let mut page = ProposalList::first();
        loop {
            let answer = broker.ask(&page).await?;
            let Some(last) = answer.rows.last() else {
                break;
            };
            page = ProposalList::after(last.id);
            rows.extend(answer.rows.iter().map(|row| {
                vec![
                    text(row.id),
                    text(row.act),
                    json!(format!("{} of {}", row.counting, row.needed)),
                    json!(row.signers),
                    text(match row.audience {
                        Audience::Everyone => "everyone".to_owned(),
                        Audience::Server(key) => key.to_string(),
                    }),
                    text(row.until),
                ]
            }));
            if !answer.more {
                break;
            }
        }
        broker.close().await;
        let columns = ["id", "act", "signatures", "signers", "for", "until"];
        context.output.rows("proposals", &columns, rows)
    })
}

fn show(context: &Context, which: &Which) -> Printed {
    let (config, admin) = context.admin()?;
    block_on(async {
        let statement = fetch(&admin, which).await?;
        let opened = open(&statement, &admin).await?;
        let lines = words::of(&opened, &admin, &config).await?;
        if context.output.format == Format::Text {
            return lines
                .iter()
                .chain(&words::signatures(&opened))
                .try_for_each(|line| context.output.line(Printable(line)));
        }
        let names: Vec<&str> = opened.signers.iter().map(|one| one.name.as_str()).collect();
        let file = match which {
            Which::File(file) => Some(file.clone()),
            Which::Inbox(_) => None,
        };
        let mut object = opened.proposed(file).json();
        object.insert("signers".to_owned(), json!(names));
        object.insert("words".to_owned(), json!(lines));
        context.output.object(object)
    })
}

fn withdraw(context: &Context, id: StatementId, yes: bool) -> Printed {
    let (_, admin) = context.admin()?;
    block_on(async {
        context.talk(format_args!("Proposal {id} waits no more, for anybody"));
        ask::confirm_async(yes, id.to_string()).await?;
        let mut broker = admin.broker()?;
        broker.ask(&ProposalWithdraw { id }).await?;
        broker.close().await;
        context.output.object(object! { "withdrawn": text(id) })
    })
}
