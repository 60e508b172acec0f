//! Datasets made, and producers added: at the key server and at the broker.

use std::collections::BTreeMap;

use client::cli::output::Printed;
use ticket_format::ids::ProducerId;
use ticket_format::keys::ProducerKey;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::seal::Kem;
use ticket_format::statement::{
    AdminSet, DatasetCreate, DatasetShow, DatasetView, ProducerAdd, Rotation, Witnessing,
};

use super::record::{make_known, other_key, print, record_file};
use super::{AddProducer, Create, name_fits, options};
use crate::admin::config::{BrokerKeys, ServerKeys};
use crate::admin::remote::Change;
use crate::admin::view::{object, text};
use crate::admin::{Context, block_on, policy};

pub(super) fn create(context: &Context, args: &Create) -> Printed {
    let mut body = wanted(args)?;
    let out = record_file(&args.name, args.out.as_deref())?;
    let (config, admin) = context.admin()?;
    let (broker, keys) = (
        config.broker()?,
        config.key_server(args.key_server.as_deref())?,
    );
    block_on(async {
        let set = admin.set().await?;
        body.owners = options::owners(set, &args.owners)?;
        one_role(&body.producers, set, &broker, &keys)?;
        let mut server = admin.at(keys.server());
        let there = server
            .find(&DatasetShow {
                name: body.name.clone(),
            })
            .await?;
        let view = if let Some(view) = there {
            same(&body, &view)?;
            context.talk(format_args!(
                "The key server has {} already, made so before: nothing was made again",
                body.name
            ));
            view
        } else {
            match server.change(&body).await? {
                Change::Done(created, _)
                    if created.server_key != keys.signing_key
                        || created.log_key != keys.log_key =>
                {
                    return Err(other_key(&keys));
                }
                Change::Done(..) => {}
                Change::Before(_) => {
                    context.talk("The first answer was lost; the dataset was made");
                }
                Change::Proposed(proposed) => {
                    context.talk("When it is approved, run the same command again: the dataset's record follows");
                    return proposed.print(context);
                }
            }
            server
                .ask(&DatasetShow {
                    name: body.name.clone(),
                })
                .await?
        };
        server.close().await;
        let mut broker = admin.at(broker.server());
        let known = make_known(context, &admin, &mut broker, &view, &keys, None, &out).await?;
        broker.close().await;
        print(context, &view, &known, &out)
    })
}

fn wanted(args: &Create) -> Result<DatasetCreate, Report> {
    name_fits(&args.name)?;
    let text = policy::read(&args.policy)?;
    policy::parse(&args.policy, &text)?;
    let mut tags = BTreeMap::new();
    for (key, value) in &args.tags {
        if key.len() > limits::PAIR_KEY || value.len() > 256 {
            return Err(Report::new(exit::USAGE, format!("tag {key:?} is too long"))
                .why("a key has at most 64 bytes, a value 256"));
        }
        if tags.insert(key.clone(), value.clone()).is_some() {
            return Err(Report::new(
                exit::USAGE,
                format!("tag {key:?} is given twice"),
            ));
        }
    }
    let mut producers: Vec<ProducerKey> = Vec::new();
    for producer in &args.producers {
        if !producers.contains(producer) {
            producers.push(*producer);
        }
    }
    if tags.len() > limits::PAIRS || producers.len() > 64 {
        return Err(Report::new(exit::USAGE, "too many tags or producers")
            .why("a dataset has at most 16 tags and 64 producers"));
    }
    if args.max_life.0 == 0 || args.max_life.0 > limits::LONGEST_TICKET_LIFE || args.max_budget == 0
    {
        return Err(Report::new(exit::USAGE, "no ticket could be issued so")
            .why("--max-life is 1s to 24h, --max-budget at least 1"));
    }
    let kems = if args.allow_x25519 {
        vec![Kem::X25519, Kem::XWing]
    } else {
        vec![Kem::XWing]
    };
    Ok(DatasetCreate {
        rotation: args.rotate.wanted(&Rotation::default())?,
        exportable: args.exportable,
        name: args.name.clone(),
        tags,
        policy: text,
        producers,
        kems,
        max_budget: args.max_budget,
        max_life: args.max_life.0,
        owners: Vec::new(),
        lease: options::lease_fits(args.lease)?,
        evidence: args.evidence,
        canary: args.canary.into(),
        class: args.class,
        witnessing: args.witness.wanted(&Witnessing::none())?,
    })
}

/// A dataset that is there already may be gone on with only when it is the one that is asked for.
fn same(wanted: &DatasetCreate, view: &DatasetView) -> Result<(), Report> {
    let differs = |member: &str| {
        Err(Report::new(exit::CONFLICT, format!("dataset {:?} exists, with another {member}", wanted.name))
            .next("choose another name, or look at it with `postern-admin dataset show --key-server FILE`"))
    };
    let producers = |list: &[ProducerKey]| {
        list.iter()
            .map(ProducerKey::to_string)
            .collect::<std::collections::BTreeSet<_>>()
    };
    if view.row.tags != wanted.tags {
        differs("set of tags")
    } else if view.policy.as_deref() != Some(wanted.policy.as_str()) {
        differs("policy")
    } else if producers(&view.producers) != producers(&wanted.producers) {
        differs("set of producers")
    } else if view.kems != wanted.kems {
        differs("set of KEMs")
    } else if (view.max_budget, view.max_life) != (wanted.max_budget, wanted.max_life) {
        differs("budget or ticket life")
    } else if view.owners != wanted.owners {
        differs("set of owners")
    } else if view.class != wanted.class {
        differs("class")
    } else if (view.lease, view.evidence, view.canary)
        != (wanted.lease, wanted.evidence, Some(wanted.canary))
    {
        differs("lease, evidence or canary")
    } else if view.witnessing != wanted.witnessing {
        differs("witness mode or policy")
    } else if view.rotation != Some(wanted.rotation) {
        differs("rotation")
    } else if view.exportable != Some(wanted.exportable) {
        differs("word on export")
    } else {
        Ok(())
    }
}

pub(super) fn add_producer(context: &Context, args: &AddProducer) -> Printed {
    name_fits(&args.name)?;
    let (config, admin) = context.admin()?;
    let (broker, keys) = (
        config.broker()?,
        config.key_server(args.key_server.as_deref())?,
    );
    let id: ProducerId = args.producer.id();
    block_on(async {
        one_role(&[args.producer], admin.set().await?, &broker, &keys)?;
        let mut server = admin.at(keys.server());
        let view = server
            .ask(&DatasetShow {
                name: args.name.clone(),
            })
            .await?;
        let next = format!(
            "When it is carried out, let the dataset's record say so: postern-admin dataset record {}",
            args.name
        );
        if view.producers.contains(&args.producer) {
            context.talk("The key server has this producer already");
        } else {
            let add = ProducerAdd {
                name: args.name.clone(),
                producer: args.producer,
            };
            match server.change(&add).await? {
                Change::Done(added, _) if added.producer != id => return Err(other_key(&keys)),
                Change::Done(..) => {}
                Change::Before(_) => {
                    context.talk("The first answer was lost; the producer is registered");
                }
                Change::Proposed(proposed) => {
                    proposed.print(context)?;
                    context.talk(next);
                    return Ok(());
                }
            }
        }
        server.close().await;
        context.talk(next);
        context
            .output
            .object(object! { "name": args.name, "producer": text(id) })
    })
}

/// One key, one purpose (SIG-5): a producer's key must not be one that is known here in another role.
/// The broker knows more of them and refuses those; then the dataset would stand at the key server
/// without a record.
fn one_role(
    producers: &[ProducerKey],
    set: &AdminSet,
    broker: &BrokerKeys,
    keys: &ServerKeys,
) -> Result<(), Report> {
    let mut others = vec![
        broker.tls_key.to_bytes(),
        broker.ticket_key.to_bytes(),
        broker.feed_key.to_bytes(),
        keys.tls_key.to_bytes(),
        keys.signing_key.to_bytes(),
        *broker.log_key.ed25519(),
        *keys.log_key.ed25519(),
    ];
    others.extend(set.admins().iter().map(|admin| admin.key.to_bytes()));
    match producers
        .iter()
        .find(|producer| others.contains(&producer.to_bytes()))
    {
        None => Ok(()),
        Some(key) => Err(
            Report::new(exit::USAGE, format!("{key} cannot be a producer's key"))
                .why("it is an admin's or a server's")
                .next("a producer has a key of its own: `postern producer init`"),
        ),
    }
}
