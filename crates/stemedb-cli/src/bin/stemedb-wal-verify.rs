//! `stemedb wal verify` under the name that runbooks use.

fn main() -> std::process::ExitCode {
    stemedb_cli::main_as("wal verify", std::env::args_os())
}
