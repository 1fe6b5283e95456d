//! `stemedb wal repair` under the name that runbooks use.

fn main() -> std::process::ExitCode {
    stemedb_cli::main_as("wal repair", std::env::args_os())
}
