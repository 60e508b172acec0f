//! What of the machine a running key server can reach (MEM-2).

use std::path::Path;

use store::root::Means;
use store::sandbox::{Entered, Sandbox};

use crate::config::Setup;

/// Enters the sandbox that a configuration asks for, for ever: to be called by the program's only
/// thread, before it starts others. What the kernel does not have is in the log.
pub fn enter(setup: &Setup, ready_file: Option<&Path>) -> Entered {
    // rule: MEM-2
    sandbox(setup, ready_file).enter()
}

fn sandbox(setup: &Setup, ready_file: Option<&Path>) -> Sandbox {
    let config = &setup.config;
    let mut read = vec![setup.file().to_owned(), setup.resolve(&config.admin_set)];
    let named = [&config.region_keys_dir, &config.broker_keys];
    read.extend(named.into_iter().flatten().map(|path| setup.resolve(path)));
    let mut programs = !config.hooks.alarm.is_empty();
    match &setup.means {
        // One that is not there yet may be laid down for a drill.
        Means::Credential(file) | Means::Passphrase(file) => match file.parent() {
            Some(dir) if !file.exists() => read.push(dir.to_owned()),
            _ => read.push(file.clone()),
        },
        // What else the library reads (its configuration, its tokens) is the operator's to say.
        Means::Pkcs11(means) => read.extend([means.module.clone(), means.pin_file.clone()]),
        // By tpm2-tools.
        Means::Tpm2(_) => programs = true,
    }
    // The program of a hook stands anywhere.
    read.extend(config.hooks.alarm.first().map(Into::into));
    let witness = config.witness.as_ref();
    let ready = [
        &config.ready_file,
        &witness.and_then(|w| w.ready_file.clone()),
    ];
    let mut ready: Vec<_> = ready
        .into_iter()
        .flatten()
        .map(|f| setup.resolve(f))
        .collect();
    ready.extend(ready_file.map(Path::to_owned));
    let listen = config
        .metrics_listen
        .iter()
        .chain(witness.map(|w| &w.listen));
    Sandbox {
        read,
        write: vec![setup.data_dir()],
        listen: listen.map(std::net::SocketAddr::port).collect(),
        programs,
        ..Sandbox::default()
    }
    .replacing(ready.iter().map(std::path::PathBuf::as_path))
    .reaching(config.log.witness.iter().map(|witness| &*witness.url))
    .with(&config.sandbox)
}
