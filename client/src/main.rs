//! The `postern` command.

fn main() -> std::process::ExitCode {
    client::cli::run()
}
