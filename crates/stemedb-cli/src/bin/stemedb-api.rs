//! `stemedb serve` under the name that service files use.

fn main() -> std::process::ExitCode {
    stemedb_cli::main_as("serve", std::env::args_os())
}
