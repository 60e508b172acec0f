//! Asking before something is done that cannot be undone.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use ticket_format::report::{Report, exit};

/// Goes on when `yes`, or when the person at the terminal types `name`.
///
/// # Errors
/// Something else was typed, or there is no terminal to ask.
pub fn confirm(yes: bool, name: &str) -> Result<(), Report> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(
            Report::new(exit::USAGE, "nothing was done: it was not confirmed")
                .why("there is no terminal to ask")
                .next("look at it with --dry-run, then give --yes"),
        );
    }
    let mut typed = String::new();
    let asked = write!(anstream::stderr().lock(), "Type {name} to go on: ")
        .and_then(|()| io::stdin().lock().take(1_024).read_line(&mut typed));
    asked.map_err(|error| Report::new(exit::LOCAL, "cannot ask").why(error))?;
    if typed.trim_end() == name {
        return Ok(());
    }
    Err(
        Report::new(exit::LOCAL, "nothing was done: it was not confirmed")
            .why(format!("{name} was not typed")),
    )
}

/// As [`confirm`], while a connection is kept alive.
///
/// # Errors
/// As [`confirm`].
pub async fn confirm_async(yes: bool, name: String) -> Result<(), Report> {
    let asked = tokio::task::spawn_blocking(move || confirm(yes, &name)).await;
    asked.map_err(|error| Report::new(exit::LOCAL, "cannot ask").why(error))?
}
