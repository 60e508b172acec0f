//! Root on a log's host: everything that can be done to a log's files, and who notices, how soon
//! (promise 7).

#![allow(
    clippy::print_stdout,
    reason = "who noticed, and how soon, is shown with the test"
)]

mod files;
mod forks;
mod stolen;
mod witnessed;

use std::path::Path;
use std::time::{Duration, Instant};

use tests::home::Home;
use tests::house::{DATASET, House, Said};
use tests::node::Iid;
use ticket_format::Context;

/// What is noticed by another process is noticed within this time.
const SOON: Duration = Duration::from_secs(60);

/// Prints who noticed what.
fn noticed(what: &str, who: &str, since: Instant) {
    println!("{what}: noticed by {who} after {:?}", since.elapsed());
}

fn named(name: &str) -> Context {
    Context::named(name).expect("a context")
}

/// `postern-admin audit verify` of a log directory, with the log's own keys.
fn verify(house: &House, log: &Path, server: &str) -> Said {
    let [ed25519, ml_dsa] = house.log_key(server).vkeys().map(|vkey| vkey.to_string());
    let log = log.to_str().expect("text");
    let arguments = [
        "audit",
        "verify",
        "--log",
        log,
        "--log-key",
        &ed25519,
        "--log-key",
        &ml_dsa,
    ];
    house.as_admin("operator", &arguments)
}

/// A node with the `postern` command that has logged in.
fn node(house: &House, name: &str, document: usize) -> Home {
    let iid = Iid::real(document);
    let user_data = house.user_data(&iid.account, &[]);
    let home = Home::new(house, name, &iid, &user_data);
    home.run(&["login"]).ok();
    home
}

/// Gets a ticket and makes a data key with it: both servers have been spoken to.
fn uses_a_key(home: &Home, name: &str) -> Said {
    let issued = home.run(&["issue", DATASET, "--action", "encrypt,decrypt"]);
    if issued.code != Some(0) {
        return issued;
    }
    home.run(&["dek", "generate", "--dataset", DATASET, "--name", name])
}

/// Waits until something is so.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        // Another process is looked at: there is nothing to wait on.
        std::thread::sleep(Duration::from_millis(20));
    }
}
