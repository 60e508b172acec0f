//! The `postern-witness` command.

fn main() -> std::process::ExitCode {
    tools::witness::main()
}
