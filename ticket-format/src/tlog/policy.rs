//! Which witnesses are enough (c2sp.org/tlog-policy).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::SignedCheckpoint;
use super::note::{self, BadSignature, NotANote, NotAVkey, Vkey, VkeyKind};
use crate::limits;

/// Most logs, witnesses and groups, each.
const MOST: usize = 32;

/// A policy: witnesses, groups of them, and the quorum. Each witness line is one key: who cosigns with an
/// Ed25519 and an ML-DSA-44 key has two lines, and whoever writes the policy puts the two into one group,
/// or `2 of` two of them may be one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessPolicy {
    text: String,
    logs: Vec<Vkey>,
    witnesses: Vec<Vkey>,
    groups: Vec<Group>,
    quorum: Option<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    needed: usize,
    members: Vec<Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// Why a text is no policy, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct PolicyError {
    /// The line, from 1; 0: of the text as a whole.
    pub line: usize,
    /// What is wrong.
    pub fault: PolicyFault,
}

/// What is wrong with a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// Longer than 16 KiB.
    #[error("the policy is too long")]
    TooLong,
    /// A control character other than tab and line end.
    #[error("it has a control character")]
    Control,
    /// A keyword other than log, witness, group and quorum, or other parts behind it.
    #[error(
        "a line reads `log VKEY [URL]`, `witness NAME VKEY [URL]`, `group NAME all|any|K NAME...` or `quorum NAME`"
    )]
    Line,
    /// A key.
    #[error("{0}")]
    Vkey(#[from] NotAVkey),
    /// A log's key that cosigns, or a witness's that signs notes.
    #[error("the key is of a kind that a log or a witness does not use here")]
    Kind,
    /// A name that means something by itself.
    #[error("`none` is no name for a witness or a group")]
    Reserved,
    /// The same key, or name, twice.
    #[error("a key or a name stands there twice")]
    Twice,
    /// More than 32 of one kind.
    #[error("more than 32 logs, witnesses or groups")]
    TooMany,
    /// A member that no line before defines.
    #[error("a name is not defined on a line before")]
    Unknown,
    /// A member of two groups, or twice of one.
    #[error("a name is a member twice")]
    MemberTwice,
    /// K is not between 1 and the number of members.
    #[error("a group needs 1 to as many as its members")]
    Threshold,
    /// None, or more than one.
    #[error("a policy has exactly one quorum line")]
    Quorum,
}

/// Too few valid cosignatures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwitnessed {
    /// The note does not read.
    #[error(transparent)]
    Note(#[from] NotANote),
    /// A witness's line that does not verify spoils the note; so does a log's.
    #[error("a signature of {0} does not verify")]
    Bad(String),
    /// The policy names logs, and none of them signed.
    #[error("no log that the witness policy names has signed it")]
    OtherLog,
    /// The quorum is not there.
    #[error("the witness policy is not satisfied: {}", if .0.is_empty() { "nobody has cosigned".to_owned() } else { format!("only {} cosigned", .0.join(", ")) })]
    TooFew(Vec<String>),
}

impl WitnessPolicy {
    /// The logs that it names.
    #[must_use]
    pub fn logs(&self) -> &[Vkey] {
        &self.logs
    }

    /// The witnesses that it names.
    #[must_use]
    pub fn witnesses(&self) -> &[Vkey] {
        &self.witnesses
    }

    /// Whether it is `quorum none`.
    #[must_use]
    pub fn needs_none(&self) -> bool {
        self.quorum.is_none()
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether enough witnesses have cosigned and, where the policy names logs, one of them has signed under
    /// the checkpoint's own origin.
    ///
    /// # Errors
    /// [`Unwitnessed`].
    pub fn check(&self, checkpoint: &SignedCheckpoint) -> Result<(), Unwitnessed> {
        // rule: TLOG-8
        let (_, lines) = note::split(checkpoint.note())?;
        let signed_by = |key: &Vkey| {
            let mut has = false;
            for line in lines.iter().filter(|line| line.is_of(key)) {
                let verified = key.verify(checkpoint.checkpoint(), &line.signature);
                verified.map_err(|BadSignature| Unwitnessed::Bad(key.name().to_owned()))?;
                has = true;
            }
            Ok::<bool, Unwitnessed>(has)
        };
        let shard = checkpoint.checkpoint().shard.to_string();
        let mut known = self.logs.is_empty();
        for log in self.logs.iter().filter(|log| log.name() == shard) {
            known |= signed_by(log)?;
        }
        if !known {
            return Err(Unwitnessed::OtherLog);
        }
        let cosigned = self.witnesses.iter().map(signed_by);
        let cosigned = cosigned.collect::<Result<Vec<bool>, _>>()?;
        if self.quorum.is_none_or(|quorum| self.has(quorum, &cosigned)) {
            return Ok(());
        }
        let named = self.witnesses.iter().zip(&cosigned);
        let names = named
            .filter(|(_, has)| **has)
            .map(|(witness, _)| witness.name().to_owned());
        Err(Unwitnessed::TooFew(names.collect()))
    }

    fn has(&self, member: Member, cosigned: &[bool]) -> bool {
        match member {
            Member::Witness(witness) => cosigned[witness],
            // A group's members are defined before it, so this ends.
            Member::Group(group) => {
                let group = &self.groups[group];
                let have = group
                    .members
                    .iter()
                    .filter(|member| self.has(**member, cosigned));
                have.count() >= group.needed
            }
        }
    }
}

impl fmt::Display for WitnessPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for WitnessPolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let whole = |fault| PolicyError { line: 0, fault };
        if text.len() > limits::WITNESS_POLICY {
            return Err(whole(PolicyFault::TooLong));
        }
        if text
            .bytes()
            .any(|byte| (byte < 0x20 && byte != b'\t' && byte != b'\n') || byte == 0x7f)
        {
            return Err(whole(PolicyFault::Control));
        }
        let mut parser = Parser::default();
        for (number, line) in text.split('\n').enumerate() {
            let parsed = parser.line(line);
            parsed.map_err(|fault| PolicyError {
                line: number + 1,
                fault,
            })?;
        }
        let quorum = parser.quorum.ok_or(whole(PolicyFault::Quorum))?;
        Ok(Self {
            text: text.to_owned(),
            logs: parser.logs,
            witnesses: parser.witnesses,
            groups: parser.groups,
            quorum,
        })
    }
}

#[derive(Default)]
struct Parser {
    logs: Vec<Vkey>,
    witnesses: Vec<Vkey>,
    groups: Vec<Group>,
    names: BTreeMap<String, (Member, bool)>,
    quorum: Option<Option<Member>>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), PolicyFault> {
        let words: Vec<&str> = line
            .split([' ', '\t'])
            .filter(|word| !word.is_empty())
            .collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", vkey] | ["log", vkey, _] => self.log(vkey.parse()?),
            ["witness", name, vkey] | ["witness", name, vkey, _] => {
                self.witness(name, vkey.parse()?)
            }
            ["group", name, needed, members @ ..] if !members.is_empty() => {
                self.group(name, needed, members)
            }
            ["quorum", name] => self.quorum(name),
            _ => Err(PolicyFault::Line),
        }
    }

    fn log(&mut self, vkey: Vkey) -> Result<(), PolicyFault> {
        if vkey.kind() == VkeyKind::CosignatureEd25519 {
            return Err(PolicyFault::Kind);
        }
        if self.logs.iter().any(|log| log.key() == vkey.key()) {
            return Err(PolicyFault::Twice);
        }
        bounded(&mut self.logs, vkey)
    }

    fn witness(&mut self, name: &str, vkey: Vkey) -> Result<(), PolicyFault> {
        if vkey.kind() == VkeyKind::Ed25519 {
            return Err(PolicyFault::Kind);
        }
        if self
            .witnesses
            .iter()
            .any(|witness| witness.key() == vkey.key())
        {
            return Err(PolicyFault::Twice);
        }
        self.define(name, Member::Witness(self.witnesses.len()))?;
        bounded(&mut self.witnesses, vkey)
    }

    fn group(&mut self, name: &str, needed: &str, names: &[&str]) -> Result<(), PolicyFault> {
        let mut members = Vec::new();
        for name in names {
            let (member, taken) = self.names.get_mut(*name).ok_or(PolicyFault::Unknown)?;
            if std::mem::replace(taken, true) {
                return Err(PolicyFault::MemberTwice);
            }
            members.push(*member);
        }
        let needed = match needed {
            "all" => members.len(),
            "any" => 1,
            number => super::names::decimal(number)
                .and_then(|number| usize::try_from(number).ok())
                .ok_or(PolicyFault::Line)?,
        };
        if needed == 0 || needed > members.len() {
            return Err(PolicyFault::Threshold);
        }
        self.define(name, Member::Group(self.groups.len()))?;
        bounded(&mut self.groups, Group { needed, members })
    }

    fn quorum(&mut self, name: &str) -> Result<(), PolicyFault> {
        if self.quorum.is_some() {
            return Err(PolicyFault::Quorum);
        }
        self.quorum = Some(match name {
            "none" => None,
            name => Some(self.names.get(name).ok_or(PolicyFault::Unknown)?.0),
        });
        Ok(())
    }

    fn define(&mut self, name: &str, member: Member) -> Result<(), PolicyFault> {
        if name == "none" {
            return Err(PolicyFault::Reserved);
        }
        match self.names.insert(name.to_owned(), (member, false)) {
            None => Ok(()),
            Some(_) => Err(PolicyFault::Twice),
        }
    }
}

fn bounded<T>(list: &mut Vec<T>, one: T) -> Result<(), PolicyFault> {
    if list.len() == MOST {
        return Err(PolicyFault::TooMany);
    }
    list.push(one);
    Ok(())
}
