//! `dek`: single data keys.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use ticket_format::key_pair::{KeyPairKind, public_pem};
use ticket_format::report::{Report, exit};
use ticket_format::secret::Dek;
use ticket_format::ticket::Action;
use ticket_format::wrapped::{Origin, Wrapped};
use ticket_format::{Context, limits};
use zeroize::Zeroizing;

use super::app::{App, Ended, write_file};
use super::args::{self, ContextArgs};
use super::issue::{Need, by_agent, keys};
use super::output::{Printed, base64url};
use crate::keys::KeyError;
use crate::redeem::Generated;

/// A wrapped data key as text, with room for white space around it.
const WRAPPED_FILE: u64 = 2 * limits::WRAPPED as u64 + 16;

/// `postern dek …`.
pub async fn dek(app: &App, command: &args::Dek) -> Ended {
    match command {
        args::Dek::Redeem {
            dataset,
            context,
            accept_unsigned,
            reveal,
            out,
            files,
        } => {
            let need = need(dataset, Action::Decrypt, files.len(), *accept_unsigned);
            redeem(app, &need, context, *reveal, out.as_deref(), files).await
        }
        args::Dek::Generate {
            dataset,
            context,
            count,
            reveal,
            out,
            key_pair,
            public_out,
            dek_out,
        } => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            let need = need(dataset, Action::Encrypt, count, false);
            let outs = Outs {
                reveal: *reveal,
                wrapped: out.as_deref(),
                publics: public_out.as_deref(),
                deks: dek_out.as_deref(),
            };
            let context = with_kind(pairs(context)?, *key_pair)?;
            generate(app, &need, &context, *key_pair, count, &outs).await
        }
        args::Dek::Rewrap {
            dataset,
            context,
            new_context,
            out,
            file,
        } => {
            let need = need(dataset, Action::Rewrap, 1, false);
            rewrap(app, &need, context, new_context, out.as_deref(), file).await
        }
    }
}

fn need(dataset: &Option<String>, action: Action, count: usize, accept_unsigned: bool) -> Need<'_> {
    Need {
        dataset: dataset.as_deref(),
        action,
        budget: count as u64,
        accept_unsigned,
    }
}

const COLUMNS: [&str; 5] = ["file", "verdict", "origin", "dek_id", "kek_version"];

async fn redeem(
    app: &App,
    need: &Need<'_>,
    context: &ContextArgs,
    reveal: bool,
    out: Option<&Path>,
    files: &[PathBuf],
) -> Ended {
    if files.len() > limits::ITEMS {
        return Err(usage("at most 1,000 wrapped data keys fit one exchange"));
    }
    let context = pairs(context)?;
    let wraps = files
        .iter()
        .map(|file| read_wrapped(file))
        .collect::<Result<Vec<_>, _>>()?;
    let verdicts = redeemed(app, need, &wraps, &context).await?;

    let mut columns = COLUMNS.to_vec();
    if reveal {
        columns.push("dek");
    }
    let (mut rows, mut released, mut first) = (Vec::new(), Vec::new(), None);
    for ((file, wrapped), verdict) in files.iter().zip(&wraps).zip(verdicts) {
        let header = Wrapped::parse(wrapped).map(|wrapped| *wrapped.header());
        let (id, version) = match &header {
            Ok(header) => (json!(header.dek.to_string()), json!(header.kek_version)),
            Err(_) => (Value::Null, Value::Null),
        };
        let mut row = vec![json!(file.display().to_string())];
        match verdict {
            Ok((origin, dek)) => {
                let origin = origin.map(|origin| origin.to_string());
                row.extend([json!("released"), json!(origin), id, version]);
                if reveal {
                    row.push(json!(base64url(dek.expose())));
                }
                released.push(dek);
            }
            Err(error) => {
                row.extend([json!(verdict_word(&error)), Value::Null, id, version]);
                if reveal {
                    row.push(Value::Null);
                }
                first.get_or_insert(error);
            }
        }
        rows.push(row);
    }
    if let (Some(path), None) = (out, &first) {
        write_deks(path, &released, KeyPairKind::of(&context))?;
    }
    app.out.rows("deks", &columns, rows)?;
    first.map_or(Ok(exit::DONE), |error| Err(error.report()))
}

/// What came of each wrap: the DEK, and where it came from unless the agent gave it, which does not say.
type Redeemed = Vec<Result<(Option<Origin>, Dek), KeyError>>;

async fn redeemed(
    app: &App,
    need: &Need<'_>,
    wraps: &[Vec<u8>],
    context: &Context,
) -> Result<Redeemed, Report> {
    if let Some(agent) = by_agent(app, need).await? {
        let items = wraps
            .iter()
            .map(|wrapped| (context.clone(), wrapped.clone()));
        let opened = agent.redeem(&items.collect::<Vec<_>>()).await;
        let opened = opened.map_err(|error| error.report())?.into_iter();
        let dek = |dek: Zeroizing<[u8; 32]>| (None, Dek::from_bytes(*dek));
        return Ok(opened.map(|opened| opened.map(dek)).collect());
    }
    let items: Vec<(&[u8], &Context)> = wraps
        .iter()
        .map(|wrapped| (&wrapped[..], context))
        .collect();
    let source = keys(app, need).await?;
    let verdicts = source.redeem(&items).await;
    let closed = source.close().await;
    let verdicts = verdicts?.into_iter();
    closed?;
    Ok(verdicts
        .map(|verdict| verdict.map(|key| (Some(key.origin), key.dek)))
        .collect())
}

fn verdict_word(error: &KeyError) -> String {
    match error {
        KeyError::Refused(refusal) => refusal.name().to_owned(),
        other => other.to_string(),
    }
}

struct Outs<'a> {
    reveal: bool,
    wrapped: Option<&'a Path>,
    publics: Option<&'a Path>,
    deks: Option<&'a Path>,
}

async fn generate(
    app: &App,
    need: &Need<'_>,
    context: &Context,
    key_pair: Option<KeyPairKind>,
    count: usize,
    outs: &Outs<'_>,
) -> Ended {
    if outs.wrapped.is_some() && count != 1 {
        return Err(usage("--out takes one wrapped data key; leave out --count"));
    }
    let with_deks = outs.reveal || outs.deks.is_some();
    let answers = generated(app, need, (context, count), with_deks, key_pair).await?;
    let made = answers.into_iter().collect::<Result<Vec<_>, _>>();
    let made = made.map_err(|error| error.report())?;

    let mut columns = vec!["wrapped", "dek_id", "kek_version"];
    if outs.reveal {
        columns.push("dek");
    }
    if key_pair.is_some() {
        columns.push("public_key");
    }
    let (mut rows, mut deks, mut publics) = (Vec::new(), Vec::new(), String::new());
    for generated in made {
        let wrapped = Wrapped::parse(&generated.wrapped).map_err(KeyError::Wrap);
        let header = *wrapped.map_err(|error| error.report())?.header();
        if let Some(path) = outs.wrapped {
            write_file(path, &generated.wrapped)?;
        }
        let mut row = vec![
            json!(base64url(&generated.wrapped)),
            json!(header.dek.to_string()),
            json!(header.kek_version),
        ];
        if outs.reveal {
            row.push(json!(
                generated.dek.as_ref().map(|dek| base64url(dek.expose()))
            ));
        }
        if let Some(public) = &generated.public {
            row.push(json!(base64url(public)));
            publics.push_str(&public_pem(public));
        }
        rows.push(row);
        deks.extend(generated.dek);
    }
    if let Some(path) = outs.publics {
        write_file(path, publics.as_bytes())?;
    }
    if let Some(path) = outs.deks {
        write_deks(path, &deks, key_pair)?;
    }
    app.out.rows("deks", &columns, rows)?;
    Ok(exit::DONE)
}

async fn generated(
    app: &App,
    need: &Need<'_>,
    (context, count): (&Context, usize),
    with_deks: bool,
    key_pair: Option<KeyPairKind>,
) -> Result<Vec<Result<Generated, KeyError>>, Report> {
    if let Some(agent) = by_agent(app, need).await? {
        let mut answers = Vec::with_capacity(count);
        for _ in 0..count {
            let made = agent.make(context, with_deks, key_pair).await;
            answers.push(made.map(|made| Generated {
                wrapped: made.wrapped,
                dek: made.dek.map(|dek| Dek::from_bytes(*dek)),
                public: made.public,
            }));
        }
        return Ok(answers);
    }
    let contexts = vec![context; count];
    let source = keys(app, need).await?;
    let answers = source.make(&contexts, with_deks, key_pair).await;
    let closed = source.close().await;
    let answers = answers?;
    closed?;
    Ok(answers)
}

async fn rewrap(
    app: &App,
    need: &Need<'_>,
    context: &ContextArgs,
    new_context: &[(String, String)],
    out: Option<&Path>,
    file: &Path,
) -> Ended {
    let context = pairs(context)?;
    let new = match new_context {
        [] => None,
        pairs => Some(checked(pairs.iter().cloned().collect())?),
    };
    let wrapped = read_wrapped(file)?;
    let source = keys(app, need).await?;
    let answers = source.rewrap(&[(&wrapped, &context, new.as_ref())]).await;
    let closed = source.close().await;
    let answer = answers?.pop();
    closed?;
    let answer =
        answer.ok_or_else(|| Report::new(exit::INTEGRITY, "the key server sent no verdict"))?;
    let wrapped = answer.map_err(|error| error.report())?;
    if let Some(path) = out {
        write_file(path, &wrapped)?;
    }
    let parsed = Wrapped::parse(&wrapped).map_err(KeyError::Wrap);
    let header = *parsed.map_err(|error| error.report())?.header();
    let text = base64url(&wrapped);
    let object = json!({
        "wrapped": text,
        "dek_id": header.dek.to_string(),
        "kek_version": header.kek_version,
    });
    app.done(&text, object)?;
    Ok(exit::DONE)
}

fn usage(why: &str) -> Report {
    Report::new(exit::USAGE, "no data key was asked for").why(why)
}

fn pairs(args: &ContextArgs) -> Result<Context, Report> {
    let name = args
        .name
        .iter()
        .map(|name| (Context::NAME.to_owned(), name.clone()));
    checked(args.context.iter().cloned().chain(name).collect())
}

/// The context of a key pair's private part (GEN-2).
fn with_kind(context: Context, kind: Option<KeyPairKind>) -> Result<Context, Report> {
    let Some(kind) = kind else {
        return match context.get(Context::KEY_PAIR) {
            None => Ok(context),
            Some(_) => Err(usage(
                "the pair key-pair says what kind of key pair it is; say --key-pair KIND",
            )),
        };
    };
    let named = (Context::KEY_PAIR.to_owned(), kind.name().to_owned());
    match context.get(Context::KEY_PAIR) {
        Some(word) if word != kind.name() => {
            Err(usage("--key-pair and the pair key-pair name two kinds"))
        }
        _ => checked(context.pairs().clone().into_iter().chain([named]).collect()),
    }
}

fn checked(pairs: std::collections::BTreeMap<String, String>) -> Result<Context, Report> {
    Context::new(pairs).map_err(|error| usage(&error.to_string()))
}

/// Reads a wrapped data key: as it is, or as base64url.
fn read_wrapped(file: &Path) -> Result<Vec<u8>, Report> {
    let failed = |code, why: String| {
        Report::new(
            code,
            format!("{} holds no wrapped data key", file.display()),
        )
        .why(why)
    };
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let mut stdin = std::io::stdin().lock().take(WRAPPED_FILE + 1);
        stdin
            .read_to_end(&mut bytes)
            .map_err(|error| failed(exit::LOCAL, error.to_string()))?;
        bytes
    } else {
        store::files::read_bounded(file, WRAPPED_FILE).map_err(|error| match error {
            store::files::FileError::Missing(_) => failed(exit::NOT_FOUND, error.to_string()),
            other => failed(exit::LOCAL, other.to_string()),
        })?
    };
    let decoded = match bytes.first() {
        // An array of nine: what every wrap begins with, and no base64url text does.
        Some(0x89) => bytes,
        _ => URL_SAFE_NO_PAD
            .decode(bytes.trim_ascii())
            .map_err(|_| failed(exit::INTEGRITY, "neither CBOR nor base64url".to_owned()))?,
    };
    match Wrapped::parse(&decoded) {
        Ok(_) => Ok(decoded),
        Err(error) => Err(failed(exit::INTEGRITY, error.to_string())),
    }
}

/// Writes data keys to a new private file: as they are, or the private parts of key pairs as PEM.
fn write_deks(path: &Path, deks: &[Dek], key_pair: Option<KeyPairKind>) -> Printed {
    // Room enough that it never moves: 241 bytes for the longest private key.
    let each = if key_pair.is_some() { 256 } else { 32 };
    let mut bytes = Zeroizing::new(Vec::with_capacity(each * deks.len()));
    for dek in deks {
        match key_pair {
            None => bytes.extend_from_slice(dek.expose()),
            Some(kind) => {
                let text = kind.pem(dek).map_err(|error| {
                    Report::new(exit::INTEGRITY, "the private key was not written").why(error)
                })?;
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    store::files::create_private(path, &bytes).map_err(|error| {
        let code = match error {
            store::files::FileError::Exists(_) => exit::CONFLICT,
            _ => exit::LOCAL,
        };
        Report::new(code, "the data keys were not written").why(error)
    })
}
