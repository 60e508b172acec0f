//! A key source for tests: wraps are random handles into a table that remembers data key and
//! context, and opens them for exactly that context, as a key server does.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use client::object::keys::{
    KeySource, NewItem, NewKey, NewWrap, OpenedKey, Verdicts, WrapItem, WrapSource,
};
use client::object::metadata::Context;
use client::object::{BodyHeader, ObjectContext};
use ticket_format::ids::ItemDigest;
use zeroize::Zeroizing;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    Wrap,
    Authentication,
    Unreachable,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Refused {}

#[derive(Clone)]
struct Entry {
    dek: [u8; 32],
    context: Context,
    commitment: [u8; 32],
}

#[derive(Default)]
pub struct TestKeys {
    table: Mutex<HashMap<Vec<u8>, Entry>>,
    /// Sizes of the exchanges so far.
    pub exchanges: Mutex<Vec<usize>>,
    /// The exchange with this number, from zero, fails as a whole.
    pub fail_at: Option<usize>,
    /// Give the commitment of the first body along, as a producer's signature does.
    pub signed: bool,
    /// Leave out the last answer.
    pub short: bool,
    /// Wraps that were said to stand in their places.
    pub placed: Mutex<Vec<ItemDigest>>,
    count: AtomicUsize,
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// A wrap as a key server makes it, to look at.
pub fn wrap() -> Vec<u8> {
    let mut writer = ticket_format::cbor::Writer::new();
    writer.array(9).uint(1).uint(1).bytes(&[7; 16]);
    writer.bytes(&random::<16>()).uint(1).bytes(&random::<16>());
    writer.uint(0).bytes(&random::<24>()).bytes(&random::<48>());
    writer.into_bytes()
}

fn body_context(context: &Context) -> ObjectContext {
    ObjectContext::new(format!("{context:?}").into_bytes())
}

impl TestKeys {
    fn exchange(&self, items: usize) -> Result<(), Refused> {
        self.exchanges.lock().unwrap().push(items);
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        if self.fail_at == Some(number) {
            Err(Refused::Unreachable)
        } else {
            Ok(())
        }
    }

    fn shorten<T>(&self, mut answers: Vec<T>) -> Vec<T> {
        if self.short {
            answers.pop();
        }
        answers
    }
}

impl KeySource for TestKeys {
    type Error = Refused;

    fn opens(&self, _dataset: ticket_format::ids::DatasetId) -> bool {
        true
    }

    async fn unwrap(&self, items: Vec<WrapItem>) -> Verdicts<OpenedKey, Refused> {
        self.exchange(items.len())?;
        let table = self.table.lock().unwrap();
        let open = |item: &WrapItem| {
            let entry = table.get(&item.wrapped).ok_or(Refused::Wrap)?;
            if entry.context != item.context {
                return Err(Refused::Authentication);
            }
            Ok(OpenedKey {
                dek: Zeroizing::new(entry.dek),
                context: body_context(&entry.context),
                signed_commitment: self.signed.then_some(entry.commitment),
            })
        };
        Ok(self.shorten(items.iter().map(open).collect()))
    }

    async fn generate(&self, items: Vec<NewItem>) -> Verdicts<NewKey, Refused> {
        self.exchange(items.len())?;
        let mut table = self.table.lock().unwrap();
        let mut make = |item: NewItem| {
            let (dek, wrapped) = (random::<32>(), wrap());
            let context = body_context(&item.context);
            let header = BodyHeader::derive(&dek, &context, item.salt).unwrap();
            let commitment = header.commitment;
            table.insert(
                wrapped.clone(),
                Entry {
                    dek,
                    context: item.context,
                    commitment,
                },
            );
            Ok(NewKey {
                dek: Zeroizing::new(dek),
                wrapped,
                kek_version: 1,
                context,
                recoveries: Vec::new(),
            })
        };
        Ok(self.shorten(items.into_iter().map(&mut make).collect()))
    }
}

impl WrapSource for TestKeys {
    async fn wrap_anew(&self, items: Vec<WrapItem>) -> Verdicts<NewWrap, Refused> {
        self.exchange(items.len())?;
        let mut table = self.table.lock().unwrap();
        let mut wrap = |item: WrapItem| {
            let entry = table.get(&item.wrapped).ok_or(Refused::Wrap)?.clone();
            if entry.context != item.context {
                return Err(Refused::Authentication);
            }
            let wrapped = wrap();
            table.insert(wrapped.clone(), entry);
            Ok(NewWrap {
                wrapped,
                kek_version: 2,
            })
        };
        Ok(self.shorten(items.into_iter().map(&mut wrap).collect()))
    }

    async fn confirm(&self, placed: Vec<ItemDigest>) -> Result<(), Refused> {
        self.placed.lock().unwrap().extend(placed);
        Ok(())
    }
}
