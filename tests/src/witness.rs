//! A `postern-witness` as a process.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::daemon::{Daemon, command, ended};
use crate::house::House;

/// A running witness.
#[derive(Debug)]
pub struct Witness {
    /// Its process.
    pub daemon: Daemon,
    /// Its name.
    pub name: String,
    /// Its verifier keys: Ed25519, ML-DSA-44.
    pub vkeys: [String; 2],
    /// Where it listens.
    pub address: SocketAddr,
}

impl Witness {
    /// A witness of both servers' logs.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(house: &House, name: &str) -> Self {
        let dir = house.path(name);
        fs::create_dir(&dir).expect("a directory");
        let full = format!("witness.example/{name}");
        let mut init = command("postern-witness");
        init.args(["init", "--name", &full, "--data-dir"])
            .arg(dir.join("data"));
        let said = ended(init).ok();
        let vkeys: Vec<String> = said
            .split_whitespace()
            .filter(|word| word.starts_with(&format!("{full}+")))
            .map(str::to_owned)
            .collect();
        let logs: Vec<String> = ["broker", "key-server"]
            .iter()
            .flat_map(|server| house.log_key(server).vkeys())
            .map(|vkey| format!("\"{vkey}\""))
            .collect();
        let config = format!(
            "listen = \"127.0.0.1:0\"\ndata-dir = \"data\"\nlogs = [{}]\n",
            logs.join(", ")
        );
        fs::write(dir.join("witness.toml"), config).expect("written");
        let mut daemon = Daemon::new("postern-witness", &dir, "witness.toml");
        let address = daemon.start();
        crate::house::set(
            &dir.join("witness.toml"),
            "listen",
            &format!("\"{address}\""),
        );
        Self {
            daemon,
            name: full,
            vkeys: vkeys.try_into().expect("two keys"),
            address,
        }
    }

    /// What a server's configuration says of it.
    #[must_use]
    pub fn section(&self) -> String {
        let [ed25519, ml_dsa] = &self.vkeys;
        format!(
            "\n[[log.witness]]\nname = \"{}\"\nurl = \"http://{}\"\nkeys = [\"{ed25519}\", \"{ml_dsa}\"]\n",
            self.name, self.address
        )
    }
}

/// Has a server's log witnessed, from its next start on.
///
/// # Panics
/// When its configuration cannot be changed.
pub fn witnessed_by(config: &Path, witnesses: &[Witness]) {
    let mut text = fs::read_to_string(config).expect("a configuration");
    for witness in witnesses {
        text.push_str(&witness.section());
    }
    fs::write(config, text).expect("written");
}

/// A policy: so many of these witnesses, each by its ML-DSA-44 key.
#[must_use]
pub fn policy(needed: usize, witnesses: &[Witness]) -> String {
    let (mut text, mut names) = (String::new(), String::new());
    for (number, witness) in witnesses.iter().enumerate() {
        text.push_str(&format!("witness w{number} {}\n", witness.vkeys[1]));
        names.push_str(&format!(" w{number}"));
    }
    format!("{text}group g {needed}{names}\nquorum g\n")
}
