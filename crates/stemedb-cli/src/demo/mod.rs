//! The demonstration: a server of its own, real claims that disagree, and what comes of them.
//! Every number on the screen is an answer of that server.

mod show;
mod story;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::commands::demo::Args;
use crate::config::Config;
use crate::context::Context;
use crate::database::{self, First};
use crate::failure::Failure;
use crate::import::send_signed;
use crate::record;
use crate::remote::Remote;
use crate::serve::{self, Running};

/// Starts, loads, shows; without `--once` serves on until Ctrl-C.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let scratch;
    let data_dir: PathBuf = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => {
            scratch = tempfile::tempdir()
                .map_err(|error| Failure::error("cannot make a folder").because(error))?;
            scratch.path().to_owned()
        }
    };
    let mut config = Config::default();
    config.server.data_dir = data_dir;
    config.server.listen = args.listen.unwrap_or_else(|| listen(args.once));
    // Nothing of size is stored, and whoever tries it out should not wait for zeros to be written.
    config.wal.segment_bytes = 4 << 20;
    config.log.filter = "error".into();
    // Whoever tries it out is alone with it on this machine.
    config.auth.enabled = false;
    serve::start_logging(&config.log, None)?;
    let running = serve::start(&config, &First::default(), &context.env)?;
    let shown = present(&running, context);
    if shown.is_ok() && !args.once {
        context.say(&format!(
            "\nThe server goes on at {url} until Ctrl-C. Try:\n  \
             STEMEDB_URL={url} stemedb query pluto is_planet\n  {url}/docs",
            url = running.url()
        ));
        // What broke, the stop tells as well.
        running.wait_for_end(false, None, || ())?;
    }
    running.stop()?;
    shown
}

/// The usual port if the server is to stay and nobody has it, else any.
fn listen(once: bool) -> SocketAddr {
    let usual = Config::default().server.listen;
    if !once && std::net::TcpListener::bind(usual).is_ok() {
        return usual;
    }
    SocketAddr::new(usual.ip(), 0)
}

fn present(running: &Running, context: &Context) -> Result<(), Failure> {
    database::wait_ready(&running.engine, context)?;
    let Some(root) = &running.root else {
        return Err(Failure::error("the demo needs the root key of its database"));
    };
    let remote = Remote::new(&running.url(), None)?;
    let story = story::build(root, record::log_id(&remote)?)?;
    send_signed(&remote, &story.claims)?;
    let before: stemedb_server::wire::Health = remote.get("/v1/health", &[])?.read()?;
    send_signed(&remote, &story.retractions)?;
    show::Show { remote, story, root, before: before.node.position, context }.all()
}
