//! What of the machine a running broker can reach (MEM-2).

use std::path::Path;

use store::sandbox::{Entered, Sandbox};

use super::config::Config;

/// Enters the sandbox that a configuration asks for, for ever: to be called by the program's only
/// thread, before it starts others. The root key's file is not in it: it has been read by then.
pub(super) fn enter(config: &Config, ready_file: Option<&Path>) -> Entered {
    // rule: MEM-2
    let hooks = &config.hooks;
    let mut read = vec![config.admin_set.clone()];
    read.extend(config.region_keys_dir.clone());
    if let Some(token) = &config.ticket_key.pkcs11 {
        // What else the library reads (its configuration, its tokens) is the operator's to say.
        read.extend([token.module.clone(), token.pin_file.clone()]);
    }
    // The program of a hook stands anywhere.
    let programs = [hooks.alarm.first(), hooks.proposal.first()];
    read.extend(programs.into_iter().flatten().map(Into::into));
    let witness = config.witness.as_ref();
    let ready = [
        config.ready_file.as_deref(),
        witness.and_then(|witness| witness.ready_file.as_deref()),
        ready_file,
    ];
    let listen = config.metrics_listen.iter();
    let listen = listen.chain(witness.map(|witness| &witness.listen));
    Sandbox {
        read,
        write: vec![config.data_dir.clone()],
        listen: listen.map(std::net::SocketAddr::port).collect(),
        programs: !hooks.alarm.is_empty() || !hooks.proposal.is_empty(),
        ..Sandbox::default()
    }
    .replacing(ready.into_iter().flatten())
    .reaching(config.log.witness.iter().map(|witness| &*witness.url))
    .with(&config.sandbox)
    .enter()
}
