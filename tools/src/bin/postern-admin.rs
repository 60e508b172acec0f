//! The `postern-admin` command.

fn main() -> std::process::ExitCode {
    tools::admin::main()
}
