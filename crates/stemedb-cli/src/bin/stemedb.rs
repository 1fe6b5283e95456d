//! The StemeDB command line.

fn main() -> std::process::ExitCode {
    stemedb_cli::main(std::env::args_os())
}
