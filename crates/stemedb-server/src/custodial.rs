//! Keys that the server keeps for callers without keys.
//!
//! One key a principal, in `<data_dir>/node/custodial/<principal>.key`: the 32 secret bytes as
//! hex and a line feed, readable by the owner only. A key file appears whole or not at all.

use std::io;
use std::path::{Path, PathBuf};

use stemedb_io::{Env, Open, Vfs, replace};
use stemedb_model::{Principal, SigningKey};

/// A key file is 64 hex digits and a line feed; a little more room for editors.
const KEY_FILE_BYTES_MAX: u64 = 128;

/// The folder of the custodial keys.
pub fn custodial_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("node").join("custodial")
}

/// Reads the key of a principal, or makes it.
pub fn open_key(env: &Env, data_dir: &Path, principal: &Principal) -> io::Result<SigningKey> {
    let dir = custodial_dir(data_dir);
    let path = dir.join(format!("{principal}.key"));
    if env.vfs.exists(&path)? {
        return read_key(&*env.vfs, &path);
    }
    create_folder(&*env.vfs, data_dir, &dir)?;
    let mut seed = [0; 32];
    env.rng.fill(&mut seed);
    let key = SigningKey::from_seed(&seed);
    write_key(&*env.vfs, &path, &key)?;
    Ok(key)
}

/// Makes a folder below the data folder, and the names of it and of those above it durable: up to the
/// data folder in any case, since an earlier start may have been cut short, and on where all is new.
pub(crate) fn create_folder(vfs: &dyn Vfs, data_dir: &Path, dir: &Path) -> io::Result<()> {
    let mut new = Vec::new();
    for path in dir.ancestors() {
        let inside = path != data_dir && path.starts_with(data_dir);
        if path.as_os_str().is_empty() || !inside && vfs.exists(path)? {
            break;
        }
        new.push(path);
    }
    vfs.create_dir_all(dir)?;
    for path in new {
        if let Some(parent) = path.parent() {
            vfs.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
    }
    Ok(())
}

/// Reads a key file.
pub fn read_key(vfs: &dyn Vfs, path: &Path) -> io::Result<SigningKey> {
    let invalid = || {
        let problem = format!("{}: expected 64 hex digits", path.display());
        io::Error::new(io::ErrorKind::InvalidData, problem)
    };
    let file = vfs.open(path, Open::Read)?;
    let len = file.len()?;
    if len > KEY_FILE_BYTES_MAX {
        return Err(invalid());
    }
    let mut text = vec![0; usize::try_from(len).map_err(|_| invalid())?];
    file.read_exact_at(&mut text, 0)?;
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim_ascii(), &mut seed).map_err(|_| invalid())?;
    Ok(SigningKey::from_seed(&seed))
}

/// Writes a key file, readable by its owner only. After a crash it is there whole or not at all.
pub fn write_key(vfs: &dyn Vfs, path: &Path, key: &SigningKey) -> io::Result<()> {
    replace(vfs, path, format!("{}\n", hex::encode(key.seed())).as_bytes())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "somebody else tampers with the file")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        let local = Principal::parse("local").unwrap();
        let key = open_key(&env, dir.path(), &local).unwrap();
        assert_eq!(open_key(&env, dir.path(), &local).unwrap().agent_id(), key.agent_id());
        let other = open_key(&env, dir.path(), &Principal::parse("other").unwrap()).unwrap();
        assert_ne!(other.agent_id(), key.agent_id());
        let path = custodial_dir(dir.path()).join("local.key");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Wherever power is lost while a key is made: the next start has a key, and if the first one
    /// was told its key, it is that one.
    #[test]
    fn a_key_survives_loss_of_power_whole_or_not_at_all() {
        let local = Principal::parse("local").unwrap();
        let data_dir = Path::new("/data/stemedb");
        let mut told = 0;
        for seed in 0..10 {
            for changes in 0.. {
                let (vfs, _, env) = stemedb_io::sim::world(seed, 0);
                vfs.power_off_after(changes);
                let first = open_key(&env, data_dir, &local).ok();
                let done = vfs.changes() < changes;
                let after = Env { vfs: std::sync::Arc::new(vfs.crash()), ..env };
                let second = open_key(&after, data_dir, &local).unwrap();
                if let Some(first) = first {
                    assert_eq!(first.agent_id(), second.agent_id(), "seed {seed}, {changes}");
                    told += 1;
                }
                if done {
                    break;
                }
            }
        }
        assert!(told > 0);
    }

    #[test]
    fn a_damaged_key_is_an_error_not_a_new_key() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        let local = Principal::parse("local").unwrap();
        open_key(&env, dir.path(), &local).unwrap();
        let path = custodial_dir(dir.path()).join("local.key");
        for text in ["", "ab", &"zz".repeat(32), &"ab".repeat(400)] {
            std::fs::write(&path, text).unwrap();
            let error = open_key(&env, dir.path(), &local).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
    }
}
