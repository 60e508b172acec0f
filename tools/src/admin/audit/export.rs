//! Entries as other systems read them: JSON lines with CloudTrail's field names, and CEF. Each line names
//! the log and the index, by which the entry can be proven (`audit prove`).

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::NodeId;
use ticket_format::tlog::Origin;

use super::cursor::Record;
use crate::admin::view::{self, object, text};

/// A form of export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// JSON lines with the field names of CloudTrail records
    Cloudtrail,
    /// Common Event Format, version 0
    Cef,
}

/// `broker` or `key-server`, as the log's origin says.
fn role(origin: &Origin) -> &str {
    origin.as_str().rsplit('/').nth(1).unwrap_or("log")
}

impl Form {
    /// One line, without its end.
    #[must_use]
    pub fn line(self, origin: &Origin, record: &Record) -> String {
        match (self, &record.entry) {
            (Self::Cloudtrail, Some(entry)) => cloudtrail(origin, record, entry).to_string(),
            (Self::Cloudtrail, None) => Value::Object(object! {
                "eventSource": format!("{}.postern", role(origin)),
                "eventName": "Unread",
                "additionalEventData": place(origin, record),
            })
            .to_string(),
            (Self::Cef, entry) => cef(origin, record, entry.as_ref()),
        }
    }
}

fn place(origin: &Origin, record: &Record) -> Map<String, Value> {
    object! {
        "logOrigin": text(origin),
        "logIndex": record.index,
        "logShard": record.shard,
        "logShardIndex": record.place,
    }
}

/// A name of the CLI's form in CloudTrail's: `shard-opened`, `ShardOpened`.
fn camel(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(word).collect()
}

/// Leaves out what is not there.
fn there(all: Map<String, Value>) -> Map<String, Value> {
    all.into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect()
}

fn identity(entry: &Entry) -> Map<String, Value> {
    let node: Option<NodeId> = entry
        .subject
        .as_ref()
        .and_then(|subject| subject.parse().ok());
    let signers = entry.signers.as_ref();
    let kind = match (&node, signers, &entry.subject) {
        (Some(_), ..) => "Node",
        (None, Some(_), _) => "Admin",
        (None, None, Some(_)) => "Other",
        (None, None, None) => "Unknown",
    };
    there(object! {
        "type": kind,
        "principalId": entry.subject,
        "accountId": node.as_ref().map(NodeId::account),
        "region": node.as_ref().map(NodeId::region),
        "signers": signers,
    })
}

fn cloudtrail(origin: &Origin, record: &Record, entry: &Entry) -> Value {
    let shown = view::entry(entry);
    let of = |names: &[&str]| -> Map<String, Value> {
        let pair = |name: &&str| Some(((*name).to_owned(), shown.get(*name)?.clone()));
        names.iter().filter_map(pair).collect()
    };
    let renamed = |all: Map<String, Value>| -> Map<String, Value> {
        all.into_iter()
            .map(|(name, value)| {
                let upper = camel(&name.replace('_', "-"));
                let mut letters = upper.chars();
                let first = letters.next().map(|first| first.to_ascii_lowercase());
                (first.into_iter().chain(letters).collect(), value)
            })
            .collect()
    };
    let parameters = renamed(of(&[
        "dataset", "ticket", "launch", "actions", "pairs", "request",
    ]));
    let refusal = entry.outcome.err();
    let mut more = place(origin, record);
    more.extend(renamed(of(&[
        "alarm",
        "ticket_hash",
        "expires",
        "evidence",
        "policy",
        "policies",
        "epoch",
        "count",
        "proof",
        "follows",
        "items",
        "log",
        "seen",
    ])));
    Value::Object(there(object! {
        "eventVersion": "1.0",
        "eventTime": text(entry.time),
        "eventSource": format!("{}.postern", role(origin)),
        "eventName": camel(entry.kind.name()),
        "eventID": text(entry.act),
        "userIdentity": identity(entry),
        "sourceIPAddress": entry.source,
        "errorCode": refusal.map(|refusal| camel(refusal.name())),
        "errorMessage": refusal.map(|refusal| format!("refusal {}: {}", refusal.number(), refusal.name())),
        "requestParameters": if parameters.is_empty() { Value::Null } else { json!(parameters) },
        "additionalEventData": more,
    }))
}

/// A field of CEF's header: `\` and `|` are escaped, and it is one line.
fn header(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    for c in field.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '|' => out.push_str("\\|"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A value of CEF's extension: `\` and `=` are escaped, line ends are written `\n` and `\r`.
fn value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '=' => out.push_str("\\="),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// 0 to 10: what an operator should look at first.
fn severity(entry: &Entry) -> u8 {
    match (entry.kind, entry.outcome) {
        (Kind::Alarm, _) => 9,
        (_, Err(_)) => 5,
        (Kind::Denial | Kind::Statement | Kind::Withheld, Ok(())) => 3,
        (_, Ok(())) => 1,
    }
}

fn cef(origin: &Origin, record: &Record, entry: Option<&Entry>) -> String {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    let mut put = |key: &'static str, text: Option<String>| {
        pairs.extend(text.map(|text| (key, text)));
    };
    let mut labelled = Vec::new();
    let mut label =
        |key: &'static str, label: &'static str, name: &'static str, text: Option<String>| {
            if let Some(text) = text {
                labelled.extend([(label, name.to_owned()), (key, text)]);
            }
        };
    let (id, name, level) = match entry {
        None => ("unread", "unread entry".to_owned(), 9),
        Some(entry) => {
            let ended = match (entry.alarm, entry.outcome) {
                (Some(alarm), _) => alarm.name(),
                (None, Ok(())) => "done",
                (None, Err(_)) => "refused",
            };
            let name = format!("{} {ended}", entry.kind.name());
            (entry.kind.name(), name, severity(entry))
        }
    };
    put("externalId", Some(record.index.to_string()));
    put("dvchost", Some(role(origin).to_owned()));
    if let Some(entry) = entry {
        let source = entry.source.as_ref();
        let address: Option<IpAddr> = source.and_then(|source| source.parse().ok());
        put(
            "rt",
            Some(entry.time.seconds().saturating_mul(1_000).to_string()),
        );
        put(
            "outcome",
            Some(
                if entry.outcome.is_ok() {
                    "success"
                } else {
                    "failure"
                }
                .to_owned(),
            ),
        );
        put(
            "reason",
            entry
                .outcome
                .err()
                .map(|refusal| format!("{} {}", refusal.number(), refusal.name())),
        );
        put("suser", entry.subject.clone());
        match address {
            Some(IpAddr::V4(address)) => put("src", Some(address.to_string())),
            Some(IpAddr::V6(address)) => {
                label("c6a2", "c6a2Label", "source", Some(address.to_string()));
            }
            None => put("shost", source.cloned()),
        }
        label(
            "cs1",
            "cs1Label",
            "dataset",
            entry.dataset.map(|id| id.to_string()),
        );
        label(
            "cs2",
            "cs2Label",
            "ticket",
            entry.ticket.map(|id| id.to_string()),
        );
        label(
            "cs3",
            "cs3Label",
            "launch",
            entry.launch.map(|id| id.to_string()),
        );
        label(
            "cs5",
            "cs5Label",
            "alarm",
            entry.alarm.map(|alarm| alarm.name().to_owned()),
        );
        label("cs6", "cs6Label", "act", Some(entry.act.to_string()));
        label(
            "cn2",
            "cn2Label",
            "denialEpoch",
            entry.epoch.map(|epoch| epoch.to_string()),
        );
        label(
            "cn3",
            "cn3Label",
            "count",
            entry.count.map(|count| count.to_string()),
        );
    }
    label("cs4", "cs4Label", "logOrigin", Some(origin.to_string()));
    label(
        "cn1",
        "cn1Label",
        "logIndex",
        Some(record.index.to_string()),
    );
    let extension: Vec<String> = pairs
        .iter()
        .chain(&labelled)
        .map(|(key, text)| format!("{key}={}", value(text)))
        .collect();
    format!(
        "CEF:0|Postern|{}|{}|{}|{}|{level}|{}",
        header(role(origin)),
        header(env!("CARGO_PKG_VERSION")),
        header(id),
        header(&name),
        extension.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use ticket_format::Refusal;
    use ticket_format::ids::{ActId, DatasetId, TicketId};
    use ticket_format::time::Timestamp;

    use super::*;

    fn record(entry: Entry) -> Record {
        Record {
            shard: 2,
            place: 3,
            index: 10,
            bytes: Vec::new(),
            entry: Some(entry),
        }
    }

    fn origin() -> Origin {
        "house/key-server/0123456789abcdef".parse().unwrap()
    }

    fn redeem() -> Entry {
        Entry::new(
            ActId([1; 16]),
            Kind::Redeem,
            Timestamp::from_seconds(1_795_372_800),
        )
        .subject("ec2/123456789012/eu-west-1/i-0123456789abcdef0")
        .source("192.0.2.7")
        .dataset(DatasetId([7; 16]))
        .ticket(TicketId([8; 16]))
        .epoch(4)
        .refused(Refusal::Denied)
    }

    #[test]
    fn a_line_has_the_names_that_readers_of_cloudtrail_expect() {
        let line = Form::Cloudtrail.line(&origin(), &record(redeem()));
        assert_eq!(
            line,
            r#"{"eventVersion":"1.0","eventTime":"2026-11-22T18:40:00Z","eventSource":"key-server.postern","eventName":"Redeem","eventID":"01010101010101010101010101010101","userIdentity":{"type":"Node","principalId":"ec2/123456789012/eu-west-1/i-0123456789abcdef0","accountId":"123456789012","region":"eu-west-1"},"sourceIPAddress":"192.0.2.7","errorCode":"Denied","errorMessage":"refusal 14: denied","requestParameters":{"dataset":"07070707070707070707070707070707","ticket":"08080808080808080808080808080808"},"additionalEventData":{"logOrigin":"house/key-server/0123456789abcdef","logIndex":10,"logShard":2,"logShardIndex":3,"epoch":4}}"#
        );
    }

    #[test]
    fn a_line_of_cef_escapes_its_header_and_its_extension_each_in_its_way() {
        let line = Form::Cef.line(&origin(), &record(redeem()));
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            line,
            format!(
                "CEF:0|Postern|key-server|{version}|redeem|redeem refused|5|externalId=10 dvchost=key-server rt=1795372800000 outcome=failure reason=14 denied suser=ec2/123456789012/eu-west-1/i-0123456789abcdef0 src=192.0.2.7 cs1Label=dataset cs1=07070707070707070707070707070707 cs2Label=ticket cs2=08080808080808080808080808080808 cs6Label=act cs6=01010101010101010101010101010101 cn2Label=denialEpoch cn2=4 cs4Label=logOrigin cs4=house/key-server/0123456789abcdef cn1Label=logIndex cn1=10"
            )
        );
        assert_eq!(header("a|b\\c\nd"), "a\\|b\\\\c d");
        assert_eq!(value("a=b|c\\d\ne\rf"), "a\\=b|c\\\\d\\ne\\rf");
        let odd = redeem().subject("x=1|\n2").source("2001:db8::1");
        let line = Form::Cef.line(&origin(), &record(odd));
        assert!(line.contains(" suser=x\\=1|\\n2 "), "{line}");
        assert!(
            line.contains(" c6a2Label=source c6a2=2001:db8::1 "),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
    }
}
