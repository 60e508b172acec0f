//! Opening a share here, and sealing it to where it is collected (ROOT-3, ROOT-4).

use store::root::{Given, Place, Share, ShareError};
use ticket_format::report::{Report, exit};
use ticket_format::seal::SealingSecret;
use ticket_format::statement::{Attempt, ShareGive, ShareRow};

use crate::admin::rng;

/// One share, as only its holder opens it, sealed anew to the attempt that collects it. The root key's id
/// is the one of `to`; `place` is the key server that the share was made for.
///
/// # Errors
/// It does not open with this share key, or the attempt has a key that nothing can be sealed to.
pub(in crate::admin) fn sealed(
    row: &ShareRow,
    secret: &SealingSecret,
    place: &Place,
    attempt: &Attempt,
    to: &Given,
) -> Result<ShareGive, Report> {
    // rule: ROOT-3, ROOT-4
    let share = Share::open(row, secret, place, to.root).map_err(|error| unfit(&error))?;
    share.give(attempt, to, &mut rng()).map_err(|error| {
        Report::new(exit::INTEGRITY, "the key server's answer was not used")
            .why(error)
            .next("find out who answers at that address; nothing was given")
    })
}

fn unfit(error: &ShareError) -> Report {
    Report::new(exit::INTEGRITY, "your share does not open")
        .why(format!(
            "{error}: what the key server shows was changed, or made for another key server, root key or number"
        ))
        .next("give nothing; find out who changed the key server's files, and restore them from a copy")
}
